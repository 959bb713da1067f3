#!/usr/bin/env bash
# Pipes behind a real smbd: installs what that needs, where it may, and runs tests/samba. What cannot be had is said in
# one sentence, and is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}

have() {
    PATH=$PATH:/usr/sbin:/usr/local/sbin command -v "$1" >/dev/null
}

# KERBEROS=1: also with a realm of Kerberos, whose library for Python is built for it, and with a domain.
packages="samba smbclient samba-testsuite iproute2"
missing=
for program in smbd smbclient ndrdump ip; do
    have $program || missing=1
done
if [ -n "${KERBEROS:-}" ]; then
    packages="$packages krb5-kdc krb5-admin-server krb5-user libkrb5-dev gcc"
    packages="$packages samba-ad-dc samba-ad-provision samba-common-bin winbind"
    for program in krb5kdc kadmin.local kinit krb5-config samba samba-tool net winbindd; do
        have $program || missing=1
    done
    [ -d /usr/share/samba/setup ] || missing=1
fi
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && have apt-get; then
        # It is for the tests alone: nothing is to start by itself.
        policy=/usr/sbin/policy-rc.d
        made=
        if [ ! -e $policy ]; then
            printf '#!/bin/sh\nexit 101\n' >$policy
            chmod +x $policy
            made=$policy
        fi
        # shellcheck disable=SC2086 # packages are words
        (apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages) \
            >build/apt-samba.log 2>&1 || true
        [ -z "$made" ] || rm -f "$made"
    fi
fi
# Not installed: it would make this system ask winbindd for its users.
library=libnss-winbind
if [ -n "${KERBEROS:-}" ] && have apt-get && have dpkg-deb && [ ! -e build/$library ] &&
    [ -z "$(find /lib /usr/lib -name libnss_winbind.so.2 2>/dev/null)" ]; then
    mkdir -p build/$library.making
    (cd build/$library.making && apt-get download -qq $library && dpkg-deb -x $library*.deb .) \
        >>build/apt-samba.log 2>&1 && mv build/$library.making build/$library || rm -rf build/$library.making
fi
if ! have smbd; then
    echo "test-samba: there is no smbd, and it could not be installed (Debian: apt-get install samba smbclient" \
        "samba-testsuite), so nothing was tried."
    exit 0
fi
have smbclient || echo "test-samba: there is no smbclient, so its tests are left out."
have ndrdump || echo "test-samba: there is no ndrdump (samba-testsuite), so the parser is not compared with it."
if ! "$PYTHON" -c 'import smbprotocol, impacket' 2>/dev/null && ! "$PYTHON" scripts/install-groups.py samba; then
    echo "test-samba: nothing was tried."
    exit 0
fi
if [ -n "${KERBEROS:-}" ] && ! "$PYTHON" -c 'import gssapi, krb5' 2>/dev/null &&
    ! "$PYTHON" scripts/install-groups.py kerberos; then
    echo "test-samba: there is no library of Kerberos for Python, so its tests are left out."
fi
exec "$PYTHON" -m pytest tests/samba tests/export tests/cli/test_samba.py "$@"
