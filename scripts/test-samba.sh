#!/usr/bin/env bash
# Pipes behind a real smbd: installs what that needs, where it may, and runs tests/samba. What cannot be had is said in
# one sentence, and is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}

have() {
    PATH=$PATH:/usr/sbin:/usr/local/sbin command -v "$1" >/dev/null
}

if ! have smbd || ! have smbclient || ! have ndrdump; then
    if [ "$(id -u)" = 0 ] && have apt-get; then
        # It is for the tests alone: nothing is to start by itself.
        policy=/usr/sbin/policy-rc.d
        made=
        if [ ! -e $policy ]; then
            printf '#!/bin/sh\nexit 101\n' >$policy
            chmod +x $policy
            made=$policy
        fi
        (apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends samba smbclient \
                samba-testsuite) >build/apt-samba.log 2>&1 || true
        [ -z "$made" ] || rm -f "$made"
    fi
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
exec "$PYTHON" -m pytest tests/samba tests/export tests/cli/test_samba.py "$@"
