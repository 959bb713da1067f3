#!/bin/sh
# Builds the engine without Python: build-c.sh FOLDER MESON-OPTION...
set -e
folder=$1
shift
if [ ! -f "$folder/build.ninja" ]; then
    meson setup "$folder" -Dextension=false "$@" >/dev/null
fi
ninja -C "$folder" --quiet
