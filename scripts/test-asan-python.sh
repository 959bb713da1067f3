#!/bin/sh
# Builds the extension with the address sanitizer and runs Python suites with it:
#
#   test-asan-python.sh FOLDER [PYTEST-ARGUMENT...]
#
# Leaks are not looked for: the interpreter itself ends with memory that it has not freed.
set -e
cd "$(dirname "$0")/.."
folder=$1
shift
python=.venv/bin/python
$python -m pip install --quiet --no-build-isolation --no-deps --upgrade --target "$folder/site" \
    -Cbuild-dir="$folder/package" -Csetup-args=-Db_sanitize=address \
    -Csetup-args=-Db_lundef=false -Csetup-args=-Dbuildtype=debugoptimized .
if [ $# = 0 ] && [ -z "$NPIPE_LONG" ]; then
    set -- tests/servers/test_models.py tests/win32/test_bad_input.py tests/win32/test_overlapped.py \
        tests/win32/test_routines.py tests/win32/test_ports.py \
        tests/faults/test_hostile_rendezvous.py tests/faults/test_hostile_segment.py
elif [ $# = 0 ]; then
    set -- tests
fi
rm -f "$folder"/report.*
status=0
LD_PRELOAD=$(cc -print-file-name=libasan.so) PYTHONMALLOC=malloc PYTHONPATH="$PWD/$folder/site" \
    ASAN_OPTIONS="detect_leaks=0:allow_user_segv_handler=0:log_path=$PWD/$folder/report" \
    $python -m pytest -q -p no:faulthandler --timeout 300 "$@" || status=$?
# Also of processes that the tests started and whose ends they did not look at.
for report in "$folder"/report.*; do
    [ -e "$report" ] || continue
    cat "$report"
    status=1
done
exit $status
