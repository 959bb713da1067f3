#!/bin/sh
# Builds the fuzzers with clang: build-fuzz.sh FOLDER. Their patience with a peer is none, so that an input alone says
# what happens.
set -e
cd "$(dirname "$0")/.."
folder=$1
if ! command -v clang >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends clang libclang-rt-dev >/dev/null
    else
        echo "the fuzzers need clang with its run-time library (Debian: clang libclang-rt-dev)" >&2
        exit 1
    fi
fi
mkdir -p "$folder"
for name in ring rendezvous; do
    clang -std=gnu11 -D_GNU_SOURCE -DPEEK_PATIENCE_NS=0 -DSTREAM_PATIENCE_NS=0 -DWITHDRAW_PATIENCE_NS=0 -g -O1 \
        -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer \
        -Isrc/npipe/engine -Isrc/npipe -Itests/c src/npipe/engine/*/*.c "tests/fuzz/fuzz_$name.c" \
        -lpthread -o "$folder/fuzz_$name"
done
