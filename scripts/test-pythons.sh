#!/bin/sh
# The package and its tests on CPythons of other versions than .venv's: test-pythons.sh FOLDER [PYTEST-ARGUMENT...].
# Without arguments, the tests that a version has a bearing on. 3.11 to 3.14 are looked for, in PATH and among pyenv's;
# with PYTHONS="PATH..." it is those and no others.
set -e
cd "$(dirname "$0")/.."
folder=$1
shift

# is VERSION PYTHON: whether it is that CPython, with the lock, and not pyenv's stand-in for one that is not chosen.
is() {
    "$2" -c '
import sys, sysconfig
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1] or bool(sysconfig.get_config_var("Py_GIL_DISABLED")))
' "$1" 2>/dev/null
}

missing=
if [ -z "$PYTHONS" ]; then
    for version in 3.11 3.12 3.13 3.14; do
        if is $version .venv/bin/python; then
            continue
        fi
        found=
        for python in "$(command -v python$version || true)" \
            "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python$version; do
            if [ -x "$python" ] && is $version "$python" && scripts/check-machine.sh "$python"; then
                found=$python
                break
            fi
        done
        if [ -n "$found" ]; then
            PYTHONS="$PYTHONS $found"
        else
            missing="$missing, $version"
        fi
    done
fi

if [ $# = 0 ]; then
    set -- -k "not thousand and not gibibyte" tests/aio tests/processes/test_fork.py \
        tests/sync/test_interrupts.py tests/sync/test_pipe.py tests/sync/test_selectors.py \
        tests/repository/test_package.py tests/faces/test_process.py tests/servers/test_models.py \
        tests/win32/test_bad_input.py tests/win32/test_install.py
fi
status=0
path=$PATH
for python in $PYTHONS; do
    scripts/check-machine.sh "$python"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    home=$folder/$version
    if [ ! -e "$home/stamp-tools" ] || [ pyproject.toml -nt "$home/stamp-tools" ]; then
        rm -rf "$home"
        "$python" -m venv "$home/venv"
        "$home/venv/bin/python" scripts/install-groups.py build test
        "$home/venv/bin/python" scripts/install-groups.py --extra cli
        touch "$home/stamp-tools"
    fi
    echo "CPython $version ($python)"
    export PATH="$PWD/$home/venv/bin:$path"
    python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall \
        -Cbuild-dir="$home/package" -Csetup-args=-Dwerror=true .
    python -m pytest -q -p no:cacheprovider "$@" || status=1
done
if [ -n "$missing" ]; then
    echo "Not tried, for this machine has none that npipe can be built for: CPython ${missing#, }."
fi
exit $status
