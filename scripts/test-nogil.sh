#!/bin/sh
# npipe on a CPython without the lock, and its threads under ThreadSanitizer: test-nogil.sh FOLDER [PYTEST-ARGUMENT...].
# Which interpreter: scripts/nogil-python.sh. Where there is none, this says so in one sentence, and that is no failure.
#
# The sanitizer's part wants one that was built with it, NOGIL_TSAN_PYTHON=PATH or FOLDER-tsan/python:
#   NOGIL_CONFIGURE=--with-thread-sanitizer scripts/nogil-python.sh FOLDER-tsan --build
set -e
cd "$(dirname "$0")/.."
folder=$1
shift
if ! python=$(scripts/nogil-python.sh "$folder" 2>&1); then
    echo "Not tried without the lock: $python"
    exit 0
fi
scripts/check-machine.sh "$python"
venv=$folder/venv/bin/python
if [ ! -e "$folder/stamp-tools" ] || [ pyproject.toml -nt "$folder/stamp-tools" ]; then
    rm -rf "$folder/venv"
    "$python" -m venv "$folder/venv"
    PIP_ONLY_BINARY=hypothesis "$venv" scripts/install-groups.py build test-nogil # its source wants Rust
    "$venv" scripts/install-groups.py --extra cli
    touch "$folder/stamp-tools"
fi
export PATH="$PWD/$folder/venv/bin:$PATH"
# A module that needs the lock would turn it on again, and with it all that is tried here off.
export PYTHON_GIL=0
pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall \
    -Cbuild-dir="$folder/package" -Csetup-args=-Dwerror=true .
if [ $# = 0 ]; then
    set -- tests/nogil tests/sync/test_pipe.py tests/sync/test_listener.py tests/sync/test_pool.py \
        tests/sync/test_selectors.py tests/win32/test_overlapped.py tests/win32/test_ports.py \
        tests/win32/test_routines.py tests/win32/test_events.py tests/aio/test_calls.py
fi
echo "$("$venv" -VV) ($python)"
status=0
"$venv" -m pytest -q -p no:cacheprovider "$@" || status=1

tsan=${NOGIL_TSAN_PYTHON:-$folder-tsan/python/bin/python3}
if [ ! -x "$tsan" ]; then
    echo "Not tried under ThreadSanitizer, for there is no CPython that was built with it (see scripts/test-nogil.sh)."
    exit $status
fi
version='import sys; print(sys.version_info[:2])'
if [ "$("$tsan" -c "$version")" != "$("$venv" -c "$version")" ]; then
    echo "Not tried under ThreadSanitizer: $tsan is of another version than $python."
    exit $status
fi
pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --upgrade --target "$folder-tsan/site" \
    -Cbuild-dir="$folder-tsan/package" -Csetup-args=-Db_sanitize=thread -Csetup-args=-Db_lundef=false \
    -Csetup-args=-Dbuildtype=debugoptimized .
rm -f "$folder-tsan"/report.*
tools=$("$venv" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
NPIPE_NOGIL_ROUNDS=${NPIPE_NOGIL_ROUNDS:-4} PYTHONPATH="$PWD/$folder-tsan/site:$tools" \
    TSAN_OPTIONS="suppressions=$PWD/tests/nogil/tsan.supp log_path=$PWD/$folder-tsan/report history_size=5" \
    "$tsan" -m pytest -q -p no:cacheprovider -p no:faulthandler --timeout 300 tests/nogil || status=1
for report in "$folder-tsan"/report.*; do
    [ -e "$report" ] || continue
    cat "$report"
    status=1
done
exit $status
