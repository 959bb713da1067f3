#!/bin/sh
# A CPython of another Debian, with its headers: writes to standard output a program that runs commands in a tree of
# that Debian, in which FOLDER... are where they are here. Or says in one sentence what is missing, and fails.
#
#   debian-python.sh CACHE SUITE VERSION PROGRAM FOLDER...
#
# The tree is made once, in CACHE/SUITE (250 MB, some minutes), from the mirror that this system's own lists name.
# PROGRAM is where the program is to be.
set -e
export PATH="$PATH:/usr/sbin:/sbin"
cache=$1 suite=$2 version=$3 enter=$4
shift 4
no() {
    echo "CPython $version of Debian's $suite: $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || no "only root makes and enters a tree of it"
command -v unshare >/dev/null || no "there is no unshare (util-linux)"
mkdir -p "$cache"
tree=$(cd "$cache" && pwd)/$suite
log=$tree.log
if [ ! -x "$tree/usr/bin/apt-get" ]; then
    command -v debootstrap >/dev/null || no "there is no debootstrap (Debian's package of that name)"
    mirror=$(sed -n 's/^URIs: *\([^ ]*debian\)\/*$/\1/p; s/^deb  *\(\[.*\] \)*\([^ ]*debian\)\/* .*/\2/p' \
        /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -1)
    [ -n "$mirror" ] || no "this system's lists of packages name no mirror of Debian"
    debootstrap --variant=minbase "$suite" "$tree.making" "$mirror" >"$log" 2>&1 || {
        rm -rf --one-file-system "$tree.making"
        no "debootstrap failed; see $log"
    }
    mv "$tree.making" "$tree"
    apt-config dump | grep -E '^Acquire::(http|https|Check)' >"$tree/etc/apt/apt.conf.d/of-this-system" || true
fi

{
    cat <<END
#!/bin/sh
export PATH="\$PATH:/usr/sbin:/usr/bin:/sbin:/bin"
exec unshare --mount --propagation private sh -c '
    tree=\$1
    here=\$2
    shift 2
END
    for place in /proc /dev /tmp "$@"; do
        printf '    mkdir -p "$tree%s" && mount --rbind "%s" "$tree%s"\n' "$place" "$place" "$place"
    done
    cat <<END
    for file in /etc/hosts /etc/resolv.conf; do
        touch "\$tree\$file" && mount --bind "\$file" "\$tree\$file"
    done
    exec chroot "\$tree" sh -c "cd \"\\\$0\" 2>/dev/null; exec \"\\\$@\"" "\$here" "\$@"' sh "$tree" "\$PWD" "\$@"
END
} >"$enter"
chmod +x "$enter"
if [ ! -x "$tree/usr/bin/python$version" ] || [ ! -e "$tree/usr/include/python$version/Python.h" ] ||
    [ ! -d "$tree/usr/lib/python$version/ensurepip" ]; then
    for step in 'update -qq' "install -y -qq --no-install-recommends python$version-dev python$version-venv"; do
        # shellcheck disable=SC2086 # a step is words
        DEBIAN_FRONTEND=noninteractive "$enter" apt-get $step >>"$log" 2>&1 || no "apt-get failed in it; see $log"
    done
fi
"$enter" "python$version" -c '' >/dev/null 2>&1 || no "it does not run here: no mount namespaces, or no rights to them"
echo "$enter"
