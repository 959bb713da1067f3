#!/bin/sh
# The Samba of another Debian: writes to standard output the folder of its programs, which run in a tree of that Debian
# and are called as those of this system. Or says in one sentence what is missing, and fails.
#
#   debian-samba.sh FOLDER SUITE
#
# The tree is made once, in FOLDER/SUITE (600 MB, some minutes), from the mirror that this system's own lists name.
set -e
export PATH="$PATH:/usr/sbin:/sbin"
suite=$2
no() {
    echo "the Samba of Debian's $suite: $*" >&2
    exit 1
}
case "$1:$suite" in
:* | *: | *:*[!a-z]*) no "it is called with a folder and the name of a Debian." ;;
esac
[ "$(id -u)" = 0 ] || no "only root makes and enters a tree of it."
command -v unshare >/dev/null || no "there is no unshare (util-linux)."
command -v chroot >/dev/null || no "there is no chroot (coreutils)."
mkdir -p "$1"
tree=$(cd "$1" && pwd)/$suite
log=$tree.log

# What runs in the tree has this system's processes, devices and temporary files, and leaves no mount behind.
inside() {
    cat <<END
exec unshare --mount --propagation private sh -c '
    tree=\$1
    shift
    for place in /proc /dev /tmp "\${TMPDIR:-/tmp}"; do
        mkdir -p "\$tree\$place"
        mount --rbind "\$place" "\$tree\$place"
    done
    # smbd looks up the name of its own machine at each logon, which takes seconds where nobody knows it.
    for file in /etc/hosts /etc/resolv.conf; do
        touch "\$tree\$file"
        mount --bind "\$file" "\$tree\$file"
    done
    exec chroot "\$tree" "\$@"' sh "$tree" $1 "\$@"
END
}

if [ ! -x "$tree/usr/bin/ndrdump" ]; then
    command -v debootstrap >/dev/null || no "there is no debootstrap (Debian's package of that name)."
    rm -rf --one-file-system "$tree"
    mirror=$(sed -n 's/^URIs: *\([^ ]*debian\)\/*$/\1/p; s/^deb  *\(\[.*\] \)*\([^ ]*debian\)\/* .*/\2/p' \
        /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null | head -1)
    [ -n "$mirror" ] || no "this system's lists of packages name no mirror of Debian."
    debootstrap --variant=minbase "$suite" "$tree.making" "$mirror" >"$log" 2>&1 || {
        rm -rf --one-file-system "$tree.making"
        no "debootstrap failed; see $log."
    }
    mv "$tree.making" "$tree"
    printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d" # nothing is to start by itself
    chmod +x "$tree/usr/sbin/policy-rc.d"
    apt-config dump | grep -E '^Acquire::(http|https|Check)' >"$tree/etc/apt/apt.conf.d/of-this-system" || true
    for step in 'update -qq' 'install -y -qq --no-install-recommends samba smbclient samba-testsuite'; do
        # shellcheck disable=SC2086 # a step is words
        DEBIAN_FRONTEND=noninteractive sh -c "$(inside apt-get)" sh $step >>"$log" 2>&1 ||
            no "apt-get failed in it; see $log."
    done
fi

rm -rf "$tree.bin"
mkdir "$tree.bin"
for program in /usr/sbin/smbd /usr/bin/pdbedit /usr/bin/testparm /usr/bin/smbcontrol /usr/bin/smbclient \
    /usr/bin/ndrdump; do
    {
        echo '#!/bin/sh'
        inside "$program"
    } >"$tree.bin/$(basename "$program")"
    chmod +x "$tree.bin/$(basename "$program")"
done
"$tree.bin/smbd" --version >/dev/null 2>&1 || no "it does not run here: no mount namespaces, or no rights to them."
echo "$tree.bin"
