#!/usr/bin/env bash
# Sets up Windows' Python and the C programs, installs the wheel there with pip, and runs the tests:
# test.sh [PYTEST ARGS]
set -euo pipefail
cd "$(dirname "$0")/../.."
python="${PYTHON:-python3}"
"$python" scripts/windows/setup.py
scripts/windows/build-c.sh
"$python" scripts/make-windows-wheel.py build/windows/dist
# Wine's processes stay for a while after the last program has ended; these are of our own prefix.
export WINEPREFIX="$PWD/build/windows/prefix"
trap 'wineserver -k || true' EXIT
windows=scripts/windows/python
$windows -m pip install --quiet --no-index --find-links build/windows/dist --find-links build/windows/download/wheels \
    --force-reinstall --no-deps --no-compile --no-warn-script-location --disable-pip-version-check npipe
case " $* " in
    *" tests/"*) ;;
    # What is not for Windows is left out by tests/conftest.py, which says why.
    *) set -- tests "$@" ;;
esac
# A program that hangs under Wine must not hang whoever runs this.
timeout "${NPIPE_WINDOWS_TIMEOUT:-3000}" $windows -m pytest -p no:cacheprovider -o timeout=180 "$@"
