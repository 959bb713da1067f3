"""Kerberos: a realm of its own, smbd with a key of it, and clients with tickets."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.transports.smb import connections
from tests import helpers as h
from tests.samba.clients import PASSWORD
from tests.samba.conftest import samba_version
from tests.samba.kerberos import REALM, Realm
from tests.samba.test_client import EXACT, _no_connection_is_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.samba import PrivateSmbd

__all__ = ["_no_connection_is_left"]

HOST = "localhost"


@pytest.fixture
def realm(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Realm]:
    """One whose tickets have no PAC, unless the test is marked `parametrize("realm", [True], indirect=True)`."""
    for library in ("gssapi", "krb5"):
        pytest.importorskip(library, reason="pip install 'pyspnego[kerberos]' (which takes libkrb5-dev)")
    with (
        tempfile.TemporaryDirectory(prefix="npipe-krb-") as folder,
        Realm(Path(folder), f"cifs/{HOST}", PASSWORD, pac=getattr(request, "param", False)) as made,
    ):
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


def settings(realm: Realm) -> str:
    return f"""
    realm = {REALM}
    kerberos method = dedicated keytab
    dedicated keytab file = FILE:{realm.keytab}
    """


@pytest.fixture
def kerberized(realm: Realm, own_smbd: Callable[..., PrivateSmbd]) -> PrivateSmbd:
    """An smbd that takes tickets of the realm, and no passwords."""
    return own_smbd(extra=f"{settings(realm)}ntlm auth = disabled\n")


def there(name: str) -> str:
    return rf"\\{HOST}\pipe\{name}"


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
@pytest.mark.parametrize("auth", ["kerberos", "negotiate"])
@pytest.mark.parametrize(("user", "local"), [("alice", "games"), ("bob", "news")])
def test_a_ticket_tells_who_one_is(
    realm: Realm, kerberized: PrivateSmbd, short: str, user: str, local: str, auth: Any, encrypt: bool
) -> None:
    realm.get_ticket(user, PASSWORD)
    remote = npipe.Remote(port=kerberized.port, auth=auth, encrypt=encrypt)
    with npipe.listen(short, remote="samba", allow=local) as listener:
        with npipe.connect(there(short), mode="message", remote=remote, timeout=20) as client:
            with listener.accept(20) as server:
                peer = server.peer
                assert (peer.kind, peer.user, peer.local_user, peer.encrypted) == ("user", local, local, encrypt)
                assert "S-1-5-11" in peer.sids
                echo = h.started(lambda: server.send(server.recv(timeout=20).upper()))
                assert client.transact(b"hello", timeout=20) == b"HELLO"
                echo.result()
    assert f"cifs/{HOST}@{REALM}" in realm.tickets()


def test_who_has_a_ticket_needs_to_say_nothing(
    realm: Realm, kerberized: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPIPE_REMOTE_PORT", str(kerberized.port))
    with npipe.serve(short, bytes.upper, remote="samba", allow="games"):
        assert h.code_of(lambda: npipe.call(there(short), b"hello", timeout=20)) == 50
        realm.get_ticket("alice", PASSWORD)
        assert npipe.call(there(short), b"hello", timeout=20) == b"HELLO"


def test_a_password_gets_a_ticket(realm: Realm, kerberized: PrivateSmbd, short: str) -> None:
    remote = npipe.Remote(f"alice@{REALM}", PASSWORD, port=kerberized.port, auth="kerberos")
    wrong = npipe.Remote(f"alice@{REALM}", "wrong", port=kerberized.port, auth="kerberos")
    with npipe.serve(short, bytes.upper, remote="samba", allow="games"):
        assert npipe.call(there(short), b"hello", remote=remote, timeout=20) == b"HELLO"
        for refused in (wrong, npipe.Remote("carol@" + REALM, PASSWORD, port=kerberized.port, auth="kerberos")):
            with pytest.raises(npipe.PipeAccessError) as raised:
                npipe.call(there(short), b"hello", remote=refused, timeout=20)
            assert raised.value.winerror == 1326


def test_a_realm_that_is_not_there_or_does_not_answer(realm: Realm, kerberized: PrivateSmbd, short: str) -> None:
    remote = npipe.Remote(f"alice@{REALM}", PASSWORD, port=kerberized.port, auth="kerberos")
    with npipe.serve(short, bytes.upper, remote="samba", allow="games"):
        os.kill(realm.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert h.code_of(lambda: npipe.connect(there(short), remote=remote, timeout=0.5)) == 121
            assert 0.5 <= time.monotonic() - began < 0.5 + EXACT
        finally:
            os.kill(realm.pid, signal.SIGCONT)
        assert npipe.call(there(short), b"hello", remote=remote, timeout=20) == b"HELLO"
        connections.close_idle()
        realm.close()
        with pytest.raises(npipe.PipeStateError) as raised:
            npipe.call(there(short), b"hello", remote=remote, timeout=20)
        assert raised.value.winerror == 50


def test_only_who_is_named_comes_in(realm: Realm, kerberized: PrivateSmbd, short: str) -> None:
    realm.get_ticket("bob", PASSWORD)
    remote = npipe.Remote(port=kerberized.port, auth="kerberos")
    with npipe.serve(short, bytes.upper, remote="samba", allow="games"):
        assert h.code_of(lambda: npipe.call(there(short), b"hello", remote=remote, timeout=20)) == 5


def test_a_ticket_for_another_host_is_not_taken(realm: Realm, own_smbd: Callable[..., PrivateSmbd], short: str) -> None:
    realm.change_key(f"cifs/{HOST}")
    smbd = own_smbd(extra=settings(realm))
    realm.get_ticket("alice", PASSWORD)
    remote = npipe.Remote(port=smbd.port, auth="kerberos")
    with npipe.serve(short, bytes.upper, remote="samba", allow="games"):
        assert h.code_of(lambda: npipe.call(there(short), b"hello", remote=remote, timeout=20)) in (5, 1326)


@pytest.mark.parametrize("realm", [True], indirect=True, ids=["pac"])
def test_a_ticket_with_a_pac_is_taken_by_newer_sambas(realm: Realm, kerberized: PrivateSmbd, short: str) -> None:
    """An smbd that is no member of a domain: 4.17 does not take it, 4.22 does."""
    realm.get_ticket("alice", PASSWORD)
    remote = npipe.Remote(port=kerberized.port, auth="kerberos")
    with npipe.serve(short, bytes.upper, remote="samba", allow="games"):
        if samba_version() >= (4, 22):
            assert npipe.call(there(short), b"hello", remote=remote, timeout=20) == b"HELLO"
        else:
            with pytest.raises(npipe.PipeAccessError, match="no tickets of that kind") as raised:
                npipe.call(there(short), b"hello", remote=remote, timeout=20)
            assert raised.value.winerror == 1326


def test_a_user_that_the_host_does_not_know(realm: Realm, kerberized: PrivateSmbd, short: str) -> None:
    realm.add_user("carol", PASSWORD)
    realm.get_ticket("carol", PASSWORD)
    remote = npipe.Remote(port=kerberized.port, auth="kerberos")
    with npipe.listen(short, remote="samba", allow="authenticated"):
        with pytest.raises(npipe.PipeAccessError, match="does not know the user") as raised:
            npipe.connect(there(short), remote=remote, timeout=20)
        assert raised.value.winerror == 5
