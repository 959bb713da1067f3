#!/bin/sh
# A CPython for aarch64 that runs here, by qemu's user mode: writes to standard output a program that is it. Or says in
# one sentence what is missing, and fails.
#
#   arm64-python.sh CACHE SUITE VERSION
#
# Its files are those of Debian's packages for arm64, unpacked once into CACHE/SUITE-arm64 (70 MB, a minute); nothing is
# installed. Modules are looked for in PYTHONPATH too.
set -e
cache=$1 suite=$2 version=$3
no() {
    echo "CPython $version for arm64, of Debian's $suite: $*" >&2
    exit 1
}
command -v qemu-aarch64 >/dev/null || no "there is no qemu-aarch64 (Debian's package qemu-user)"
command -v apt-get >/dev/null || no "there is no apt-get"
mkdir -p "$cache"
tree=$(cd "$cache" && pwd)/$suite-arm64
if [ ! -x "$tree/usr/bin/python$version" ]; then
    mirror=$(sed -n 's/^URIs: *\([^ ]*debian\)\/*$/\1/p; s/^deb  *\(\[.*\] \)*\([^ ]*debian\)\/* .*/\2/p' \
        /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -1)
    [ -n "$mirror" ] || no "this system's lists of packages name no mirror of Debian"
    work=$tree.work
    rm -rf "$work" "$tree"
    mkdir -p "$work/parts" "$work/lists/partial" "$work/cache/archives/partial" "$tree/usr/lib"
    ln -s usr/lib "$tree/lib"
    : >"$work/status"
    cat >"$work/parts/one.sources" <<END
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
    apt() {
        apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
            -o Acquire::Check-Valid-Until=false -o Acquire::Check-Date=false -o Dir::State::status="$work/status" \
            -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/parts" \
            -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" "$@" >>"$work/log" 2>&1
    }
    apt update || no "apt-get update failed; see $work/log"
    apt install --download-only --no-install-recommends "python$version-minimal" "libpython$version-stdlib" ||
        no "its packages are not to be had; see $work/log"
    for package in "$work"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$tree"
    done
    rm -rf "$work"
fi
# qemu passes the program's own name on, so sys.executable is this program, and a child that is started by it runs too.
cat >"$tree/python" <<END
#!/bin/sh
export PYTHONHOME="$tree/usr"
exec qemu-aarch64 -L "$tree" -0 "$tree/python" "$tree/usr/bin/python$version" "\$@"
END
chmod +x "$tree/python"
[ "$("$tree/python" -c 'import os, asyncio; print(os.uname().machine)')" = aarch64 ] || no "it does not run here"
echo "$tree/python"
