#!/bin/sh
# Cross-builds the engine for aarch64 and runs its C tests under qemu: test-aarch64.sh FOLDER.
set -e
cd "$(dirname "$0")/.."
folder=$1
if ! command -v aarch64-linux-gnu-gcc >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user >/dev/null
    else
        echo "aarch64 needs a cross compiler and qemu" \
            "(Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user)" >&2
        exit 1
    fi
fi
mkdir -p "$folder"
cat >"$folder/cross.ini" <<END
[binaries]
c = 'aarch64-linux-gnu-gcc'
ar = 'aarch64-linux-gnu-ar'
strip = 'aarch64-linux-gnu-strip'
exe_wrapper = ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu']
[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
END
scripts/build-c.sh "$folder/build" -Dtests=true -Dwerror=true --cross-file "$folder/cross.ini"
export NPIPE_TEST_PATIENCE=10 NPIPE_TEST_EMULATED=1
meson test -C "$folder/build" --print-errorlogs --num-processes 1 --timeout-multiplier 10 --no-suite native
