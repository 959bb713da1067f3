#!/bin/sh
# Runs the C tests of a build under memcheck: run-valgrind.sh FOLDER. Any error and any leak fails.
set -e
cd "$(dirname "$0")/.."
folder=$1
if ! command -v valgrind >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends valgrind libc6-dbg >/dev/null
    else
        echo "memcheck needs valgrind (Debian: valgrind libc6-dbg)" >&2
        exit 1
    fi
fi
export NPIPE_TEST_PATIENCE=10
for test in rings segments handles races async hostile cancels streams; do
    echo "== $test"
    valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
        --errors-for-leak-kinds=definite --fair-sched=yes "$folder/tests/c/test-$test" >/dev/null
done
