#!/usr/bin/env bash
# Builds the C client and server of tests/windows for Windows, into build/windows/c.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/windows/c
for program in client server; do
    x86_64-w64-mingw32-gcc -std=c11 -O2 -Wall -Wextra -Werror -static \
        -o "build/windows/c/$program.exe" "tests/windows/$program.c"
done
