#!/bin/sh
# Says in one sentence what this machine lacks to build npipe, if anything.
python=$1
if ! command -v "$python" >/dev/null 2>&1; then
    echo "npipe needs Python 3.11 or later: no '$python' was found (set PYTHON=...)." >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "npipe needs Python 3.11 or later: '$python' is $("$python" --version 2>&1) (set PYTHON=...)." >&2
    exit 1
fi
if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    echo "npipe needs Python's venv module with pip to set itself up (on Debian: apt-get install python3-venv)." >&2
    exit 1
fi
if ! command -v "${CC:-cc}" >/dev/null 2>&1; then
    echo "npipe needs a C compiler: no '${CC:-cc}' was found (on Debian: apt-get install gcc libc6-dev)." >&2
    exit 1
fi
header=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"] + "/Python.h")')
if [ ! -f "$header" ]; then
    echo "npipe needs Python's C headers: $header is missing (on Debian: apt-get install python3-dev)." >&2
    exit 1
fi
if [ "$(uname -s)" != Linux ]; then
    echo "npipe's local engine runs on Linux only so far, and this is $(uname -s)." >&2
    exit 1
fi
