"""Kerberos: a realm of its own, smbd with a key of it, and clients with tickets."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import npipe
from tests import helpers as h
from tests.samba.clients import PASSWORD
from tests.samba.kerberos import REALM, Realm
from tests.samba.test_client import _no_connection_is_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.samba import PrivateSmbd

__all__ = ["_no_connection_is_left"]

HOST = "localhost"


@pytest.fixture
def realm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Realm]:
    for library in ("gssapi", "krb5"):
        pytest.importorskip(library, reason="pip install 'pyspnego[kerberos]' (which takes libkrb5-dev)")
    with tempfile.TemporaryDirectory(prefix="npipe-krb-") as folder, Realm(
        Path(folder), f"cifs/{HOST}", PASSWORD
    ) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def kerberized(realm: Realm, own_smbd: Callable[..., PrivateSmbd]) -> PrivateSmbd:
    """An smbd that takes tickets of the realm."""
    return own_smbd(
        extra=f"""
        realm = {REALM}
        kerberos method = dedicated keytab
        dedicated keytab file = FILE:{realm.keytab}
        """
    )


def there(name: str) -> str:
    return rf"\\{HOST}\pipe\{name}"


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
def test_a_ticket_tells_who_one_is(realm: Realm, kerberized: PrivateSmbd, short: str, encrypt: bool) -> None:
    realm.get_ticket("alice", PASSWORD)
    remote = npipe.Remote(port=kerberized.port, auth="kerberos", encrypt=encrypt)
    with npipe.listen(short, remote="samba", allow="games") as listener:
        with npipe.connect(there(short), mode="message", remote=remote, timeout=20) as client:
            with listener.accept(20) as server:
                assert (server.peer.kind, server.peer.local_user) == ("user", "games")
                assert server.peer.encrypted == encrypt
                echo = h.started(lambda: server.send(server.recv(timeout=20).upper()))
                assert client.transact(b"hello", timeout=20) == b"HELLO"
                echo.result()
