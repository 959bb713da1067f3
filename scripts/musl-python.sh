#!/bin/sh
# A CPython with musl: writes its path to standard output, or says in one sentence what is missing, and fails.
#
#   musl-python.sh FOLDER VERSION [--build]
#
# No registry has one. With --build it is built into FOLDER/python by zig, of the source package of this Debian's own
# Python (30 MB, some minutes), for that version alone; Debian's package musl runs it. It has no zlib and no TLS.
set -e
folder=$1 version=$2
python=$folder/python/bin/python$version
no() {
    echo "CPython $version with musl: $*" >&2
    exit 1
}
if [ -x "$python" ]; then
    "$python" -c '' 2>/dev/null || no "$python does not run here (Debian's package musl has the loader)"
    echo "$python"
    exit 0
fi
[ "$3" = --build ] ||
    no "none is here (scripts/musl-python.sh $folder $version --build makes one, of this Debian's own version)"
[ -e /lib/ld-musl-x86_64.so.1 ] || no "there is no loader of musl's (Debian's package musl)"
command -v apt-get >/dev/null || no "there is no apt-get"
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || no "there are no keys of Debian's archive"
zig=$(.venv/bin/python -c 'import ziglang, pathlib; print(pathlib.Path(ziglang.__file__).parent / "zig")') ||
    no "there is no zig (make build/stamp-release)"

mkdir -p "$folder/apt/parts" "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/source" \
    "$folder/build"
folder=$(cd "$folder" && pwd)
# shellcheck disable=SC1091
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(sed -n 's/^URIs: *\([^ ]*debian\)\/*$/\1/p; s/^deb  *\(\[.*\] \)*\([^ ]*debian\)\/* .*/\2/p' \
    /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -1)
cat >"$folder/apt/parts/source.sources" <<END
Types: deb-src
URIs: ${mirror:-http://deb.debian.org/debian}
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
apt() {
    apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null \
        -o Dir::Etc::sourceparts="$folder/apt/parts" -o Dir::State::lists="$folder/apt/lists" \
        -o Dir::Cache="$folder/apt/cache" "$@" >&2
}
apt update && (cd "$folder/source" && apt source --tar-only --download-only "python$version") ||
    no "its source package is not to be had from Debian's $suite"
tar -xf "$folder"/source/python"$version"_*.tar.* -C "$folder/source"
for tool in cc ar; do
    words=$tool
    [ $tool = ar ] || words='cc -target x86_64-linux-musl -dynamic -Wno-date-time'
    printf '#!/bin/sh\nexec "%s" %s "$@"\n' "$zig" "$words" >"$folder/$tool"
    chmod +x "$folder/$tool"
done
(
    cd "$folder/build"
    "$(ls -d "$folder"/source/Python-"$version"*)"/configure --prefix="$folder/python" --without-ensurepip \
        --disable-test-modules --without-static-libpython -q --build=x86_64-pc-linux-musl \
        CC="$folder/cc" AR="$folder/ar" RANLIB="$folder/ar s" CFLAGS='-O1 -g0'
    # Zig's musl may be newer than the one that runs it.
    sed -i 's/^#define HAVE_P\(READ\|WRITE\)V2 1//' pyconfig.h
    make -j2 -s
    make -s install
) >"$folder/build.log" 2>&1 || {
    tail -20 "$folder/build.log" >&2
    no "it could not be built; see $folder/build.log"
}
rm -rf "$folder/build" "$folder/source" "$folder/apt"
echo "$folder/python/bin/python$version"
