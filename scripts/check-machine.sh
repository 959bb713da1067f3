#!/bin/sh
# Says in one sentence what this machine or checkout lacks to build npipe, if anything, and what to do.
python=$1

# Which Python would do, for who has one that does not.
another() {
    for version in 3.14 3.13 3.12 3.11; do
        if command -v "python$version" >/dev/null 2>&1; then
            echo "python$version is here: make PYTHON=python$version"
            return
        fi
    done
    echo "install one, and name it: make PYTHON=..."
}

fail() {
    echo "npipe $1" >&2
    exit 1
}

# Not [ -w ]: what counts is whether it works.
if ! mkdir -p build 2>/dev/null || ! (: >build/lock) 2>/dev/null || ! mkdir -p .venv 2>/dev/null; then
    fail "sets itself up in build/ and .venv/ of its checkout, and $(pwd) cannot be written to: copy it to a folder \
of your own (cp -r), and run make there."
fi
if ! command -v "$python" >/dev/null 2>&1; then
    fail "needs Python 3.11 or later, and there is no '$python': $(another)"
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    fail "needs Python 3.11 or later, and '$python' is $("$python" --version 2>&1): $(another)"
fi
if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    fail "needs Python's venv module with pip to set itself up (on Debian: apt-get install python3-venv)."
fi
if [ "$(uname -s)" != Linux ]; then
    fail "is built on Linux, and this is $(uname -s): on Windows install its wheel (make wheels, on Linux)."
fi
# CC may have arguments.
# shellcheck disable=SC2086
set -- ${CC:-cc}
if ! command -v "$1" >/dev/null 2>&1; then
    fail "needs a C compiler, and there is no '$1' (on Debian: apt-get install gcc libc6-dev)."
fi
folder=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
if [ ! -f "$folder/Python.h" ]; then
    fail "needs Python's C headers, and $folder/Python.h is missing (on Debian: apt-get install python3-dev)."
fi
if ! echo '#include <stdlib.h>' | "$@" -x c -fsyntax-only - >/dev/null 2>&1; then
    fail "needs a C compiler that works, and '$*' cannot use the C library (on Debian: apt-get install libc6-dev)."
fi
