#!/bin/sh
# A CPython without the lock: writes its path to standard output, or says in one sentence what is missing, and fails.
#
#   nogil-python.sh FOLDER [--build]
#
# NOGIL_PYTHON=PATH, or one that is in PATH or among pyenv's, or FOLDER/python of an earlier build. With --build, where
# there is none, CPython is built into FOLDER/python from Debian's source package (a network, 100 MB, some minutes).
set -e
folder=$1
is_free() {
    "$1" -c 'import sys, sysconfig
sys.exit(not sysconfig.get_config_var("Py_GIL_DISABLED") or sys.version_info < (3, 13))' 2>/dev/null
}

if [ -n "$NOGIL_PYTHON" ]; then
    if ! is_free "$NOGIL_PYTHON"; then
        echo "NOGIL_PYTHON is '$NOGIL_PYTHON', which is no CPython 3.13 or later without the lock." >&2
        exit 1
    fi
    echo "$NOGIL_PYTHON"
    exit 0
fi
for python in "$(command -v python3.14t || true)" "$(command -v python3.13t || true)" \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*t/bin/python3 "$folder"/python/bin/python3; do
    if [ -x "$python" ] && is_free "$python"; then
        echo "$python"
        exit 0
    fi
done
if [ "$2" != --build ]; then
    echo "No CPython without the lock is here: set NOGIL_PYTHON=PATH, or build one (scripts/nogil-python.sh" \
        "$folder --build, some minutes)." >&2
    exit 1
fi
if ! command -v apt-get >/dev/null || [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
    echo "CPython's source comes from Debian's archive, for which this machine has no apt-get or no keys." >&2
    exit 1
fi

mkdir -p "$folder/apt/parts" "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/source"
folder=$(cd "$folder" && pwd)
# The mirror that the system's own lists name.
mirror=$(sed -n 's/^URIs: *\([^ ]*debian\)\/*$/\1/p; s/^deb  *\(\[.*\] \)*\([^ ]*debian\)\/* .*/\2/p' \
    /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -1)
cat >"$folder/apt/parts/source.sources" <<END
Types: deb-src
URIs: ${mirror:-http://deb.debian.org/debian}
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
apt() {
    apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$folder/apt/parts" \
        -o Dir::State::lists="$folder/apt/lists" -o Dir::Cache="$folder/apt/cache" "$@" >&2
}
apt update
(cd "$folder/source" && apt source --tar-only --download-only python3.13)
tar -xf "$folder"/source/python3.13_*.tar.xz -C "$folder/source"
mkdir -p "$folder/build"
# shellcheck disable=SC2086 # options are words
(
    cd "$folder/build"
    "$(ls -d "$folder"/source/Python-3.13*)"/configure --prefix="$folder/python" --disable-gil -q $NOGIL_CONFIGURE
    make -j2 -s
    make -s install
) >"$folder/build.log" 2>&1 || {
    tail -20 "$folder/build.log" >&2
    echo "CPython could not be built; see $folder/build.log." >&2
    exit 1
}
rm -rf "$folder/build" "$folder/source" "$folder/apt"
echo "$folder/python/bin/python3"
