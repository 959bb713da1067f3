#!/bin/sh
# Checks the models of how one sleeps and is woken, with spin: check.sh FOLDER. Each has to hold, and to fail
# without any of its fences.
set -e
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
if ! command -v spin >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends spin >/dev/null
    else
        echo "the models need spin (Debian: spin)" >&2
        exit 1
    fi
fi
mkdir -p "$folder"
cd "$folder"

# check MODEL EXPECTED-ERRORS DEFINITION...
check() {
    model=$1 expected=$2
    shift 2
    spin -a "$@" "$here/$model.pml" >/dev/null
    cc -O2 -w -DSAFETY -DVECTORSZ=4096 -o pan pan.c
    ./pan -m1000000 >"$model.out" 2>&1 || true
    errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' "$model.out")
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$model.out")
    if grep -q 'max search depth too small' "$model.out"; then
        echo "$model $*: not searched to the end" >&2
        exit 1
    fi
    if [ "$errors" != "$expected" ]; then
        echo "$model $*: $errors errors, $expected were expected" >&2
        cat "$model.out" >&2
        exit 1
    fi
    if [ "$expected" = 0 ]; then
        echo "$model $*: holds in all $states states"
    else
        echo "$model $*: $(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' "$model.out"), as expected"
    fi
}

check link 0
check link 0 -DROOM=1
for fence in PUBLISH READER COMMIT WRITER; do check link 1 -DNO_FENCE_$fence; done
check thread 0
for fence in WAKER SLEEPER; do check thread 1 -DNO_FENCE_$fence; done
check waiters 0
for fence in HOLDER CREATOR; do check waiters 1 -DNO_FENCE_$fence; done
