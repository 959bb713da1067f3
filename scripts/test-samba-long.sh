#!/usr/bin/env bash
# The tests of test-samba.sh with the Samba of another Debian, by default trixie's (4.22, the handshake's level 8), both
# versions before one server, 500 connections, Kerberos, and a domain (of this system's Samba).
# What cannot be had is said in one sentence, and is no failure.
#
#   NPIPE_DEBIAN=SUITE      another one, such as sid
#   NPIPE_DEBIANS=FOLDER    where the trees of them are, instead of build/debian: for several checkouts
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}

if ! programs=$(scripts/debian-samba.sh "${NPIPE_DEBIANS:-build/debian}" "${NPIPE_DEBIAN:-trixie}"); then
    echo "test-samba-long: nothing was tried."
    exit 0
fi
"$programs/smbd" --version
export KERBEROS=1 NPIPE_TEST_SAMBA=$programs PATH="$programs:$PATH"
exec scripts/test-samba.sh "$@"
