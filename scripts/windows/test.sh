#!/usr/bin/env bash
# Sets up Windows' Python and the C programs, installs the wheel there with pip, and runs the tests:
# test.sh [PYTEST ARGS]
#
# Without arguments, in NPIPE_WINDOWS_JOBS shares (2) at the same time, each in a prefix, so a Windows, of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
python="${PYTHON:-python3}"
"$python" scripts/windows/setup.py
scripts/windows/build-c.sh
"$python" scripts/release/windows_wheel.py --no-bill build/windows/dist
home="$PWD/build/windows"
windows=scripts/windows/python
jobs=1
[ $# != 0 ] || jobs=${NPIPE_WINDOWS_JOBS:-2}
case " $* " in
    *" tests/"*) ;;
    # What is not for Windows is left out by tests/conftest.py, which says why.
    *) set -- tests "$@" ;;
esac

prefix() {
    if [ "$1" = 1 ]; then echo "$home/prefix"; else echo "$home/prefix-$1"; fi
}

# Wine's processes stay for a while after the last program has ended; these are of our own prefixes.
end_wine() {
    for share in $(seq "$jobs"); do
        WINEPREFIX=$(prefix "$share") wineserver -k 2>/dev/null || true
    done
}
trap end_wine EXIT

WINEPREFIX=$(prefix 1)
export WINEPREFIX
$windows -m pip install --quiet --no-index --find-links build/windows/dist --find-links build/windows/download/wheels \
    --force-reinstall --no-deps --no-compile --no-warn-script-location --disable-pip-version-check npipe

# A program that hangs under Wine must not hang whoever runs this.
run() {
    timeout "${NPIPE_WINDOWS_TIMEOUT:-3000}" $windows -m pytest -p no:cacheprovider -o timeout=180 "$@"
}
if [ "$jobs" = 1 ]; then
    run "$@"
    exit
fi
# The first prefix is whole, and nobody writes to it, when its server has ended.
wineserver -k || true
wineserver -w
for share in $(seq 2 "$jobs"); do
    [ -e "$(prefix "$share")/system.reg" ] || cp -a "$(prefix 1)" "$(prefix "$share")"
done
shares=()
for share in $(seq "$jobs"); do
    (
        WINEPREFIX=$(prefix "$share") NPIPE_SHARE="$share/$jobs" run "$@" | sed -u "s|^|[$share/$jobs] |"
    ) &
    shares+=($!)
done
status=0
for share in "${shares[@]}"; do
    wait "$share" || status=1
done
exit $status
