"""A member of a domain: users of an Active Directory, with tickets and passwords, at an exported pipe."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import npipe
from tests import helpers as h
from tests.samba.domain import DOMAIN, MEMBER, PASSWORD, Domain

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(
        not (os.environ.get("NPIPE_TEST_SAMBA") or os.environ.get("NPIPE_LONG")),
        reason="the long form alone: a domain takes half a minute (NPIPE_LONG=1, or `make test-samba-long`)",
    ),
    pytest.mark.timeout(400),
]

CLIENT = """
import os, subprocess, sys
import npipe
user, auth, encrypt, name = sys.argv[1:]
password = sys.stdin.readline().strip()
if auth == "ntlm":
    remote = npipe.Remote(user, password, domain="NPIPEAD", auth="ntlm", encrypt=encrypt == "encrypted")
else:
    subprocess.run(["kinit", user], input=password + chr(10), text=True, check=True, stdout=subprocess.DEVNULL)
    remote = npipe.Remote(auth=auth, encrypt=encrypt == "encrypted")
try:
    with npipe.connect(name, mode="message", remote=remote, timeout=60) as pipe:
        print(pipe.transact(user.encode(), timeout=60).decode())
except npipe.PipeError as error:
    print("refused", error.winerror)
"""


@pytest.fixture(scope="module")
def domain() -> Iterator[Domain]:
    for library in ("gssapi", "krb5"):
        pytest.importorskip(library, reason="pip install 'pyspnego[kerberos]' (which takes libkrb5-dev)")
    with tempfile.TemporaryDirectory(prefix="npipe-ad-") as folder, Domain(Path(folder)) as made:
        yield made


def says(domain: Domain, user: str, name: str, auth: str = "kerberos", encrypt: str = "signed") -> str:
    (line,) = domain.run(CLIENT, user, auth, encrypt, rf"\\{MEMBER}\pipe\{name}", text=PASSWORD)
    return line


@pytest.mark.parametrize("encrypt", ["signed", "encrypted"])
@pytest.mark.parametrize("auth", ["kerberos", "negotiate", "ntlm"])
def test_a_domain_s_user_is_told_with_its_groups(domain: Domain, short: str, auth: str, encrypt: str) -> None:
    with npipe.listen(short, remote="samba", allow=rf"{DOMAIN}\alice", samba_dir=domain.samba_dir) as listener:
        client = h.started(says, domain, "alice", short, auth, encrypt)
        with listener.accept(90) as pipe:
            peer = pipe.peer
            pipe.send(pipe.recv(timeout=60).upper())
            assert client.result() == "ALICE"
        assert (peer.kind, peer.domain, peer.user) == ("user", DOMAIN, "alice")
        assert peer.local_user == rf"{DOMAIN}\alice"
        assert (peer.address, peer.encrypted) == ("10.99.0.2", encrypt == "encrypted")
        assert {domain.sid("alice"), domain.sid("clerks"), "S-1-5-11"} <= set(peer.sids)


def test_a_group_of_the_domain_lets_its_members_in_and_nobody_else(domain: Domain, short: str) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow=domain.sid("clerks"), samba_dir=domain.samba_dir):
        assert says(domain, "alice", short) == "ALICE"
        assert says(domain, "bob", short).startswith("refused")
        assert says(domain, "alice", short, "ntlm") == "ALICE"


def test_an_account_of_another_domain_of_that_name_is_not_this_one(domain: Domain, short: str) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow=r"MEMBER\alice", samba_dir=domain.samba_dir):
        assert says(domain, "alice", short).startswith("refused")
