"""Two machines with addresses of their own: smbd and the server on one, the client on the other, and a cable."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.transports.smb import connections
from npipe.win32 import pywintypes, win32con, win32event, win32file, win32pipe
from tests import helpers as h
from tests.samba import networks as net
from tests.samba.clients import PASSWORD
from tests.samba.test_client import EXACT, _no_connection_is_left, error_of, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.samba import PrivateSmbd
    from tests.conftest import Child

__all__ = ["_no_connection_is_left"]

NOTICED = 35.0  # seconds in which a machine that is gone without a word is found: half a minute, and a busy machine's

SERVER = """
import sys, npipe
with npipe.listen(sys.argv[1], remote="samba", allow="authenticated") as listener:
    print("listening", flush=True)
    for pipe in listener:
        with pipe:
            print(pipe.peer.address, pipe.peer.host, pipe.peer.user, pipe.peer.encrypted, flush=True)
            pipe.send(pipe.recv(timeout=20)[::-1])
"""


@pytest.fixture
def networks(own_smbd: Callable[..., PrivateSmbd]) -> Iterator[net.Networks]:
    """The two, with an smbd at the server's port 445."""
    net.needed()
    with net.Networks() as made:
        with made.server.entered():
            own_smbd(interfaces=tuple(f"{address}/24" for address in net.ADDRESSES.values()), port=445)
        yield made


def remote(**options: Any) -> npipe.Remote:
    return npipe.Remote("alice", PASSWORD, auth="ntlm", **options)


def there(name: str, address: str = "10.10.0.2") -> str:
    return rf"\\{address}\pipe\{name}"


# ---- Who


def test_addresses_of_every_alignment_are_told(
    networks: net.Networks, short: str, child: Callable[..., Child]
) -> None:
    assert [len(address) for address in net.ADDRESSES] == [9, 10, 15]
    with networks.server.entered():
        server = child(SERVER, short)
    assert server.line() == "listening"
    with networks.client.entered():
        for here, address in net.ADDRESSES.items():
            for encrypt in (False, True):
                answer = npipe.call(there(short, address), b"hello", remote=remote(encrypt=encrypt), timeout=20)
                assert answer == b"olleh"
                assert server.line() == f"{here} {here} games {encrypt}"


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_the_article_s_client_of_another_machine_prints_its_transcript(
    networks: net.Networks, short: str, model: str, child: Callable[..., Child]
) -> None:
    script = """
    import sys, threading, npipe
    answer = "Default answer from server\\0".encode("utf-16-le")
    with npipe.serve(sys.argv[1], lambda _: answer, model=sys.argv[2], remote="samba", allow="authenticated"):
        print("listening", flush=True)
        sys.stdin.read()
    """
    with networks.server.entered():
        server = child(script, short, model)
    assert server.line() == "listening"
    settings = {"USERNAME": "alice", "PASSWORD": PASSWORD, "AUTH": "ntlm"}
    with networks.client.entered():
        done = subprocess.run(
            [sys.executable, "-m", "npipe", "client", there(short, "192.168.100.2")],
            env={**os.environ, **{f"NPIPE_REMOTE_{name}": value for name, value in settings.items()}},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
        )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        'Sending 58 byte message: "Default message from client."',
        "",
        "Message sent to server, receiving reply as follows:",
        '"Default answer from server"',
        "",
        "<End of message, press ENTER to terminate connection and exit>",
    ]
    assert done.returncode == 0


# ---- A cut link


class Pipes:
    """Client's ends, each over a connection of its own, and the servers' ends of them."""

    def __init__(self, name: str) -> None:
        self.listener = listening(name)
        self._name = name
        self._made: list[Any] = []

    def connected(self) -> tuple[Any, Any]:
        client = npipe.connect(there(self._name), mode="message", remote=remote(), timeout=20)
        self._made.append(client)
        server = self.listener.accept(20)
        self._made.append(server)
        return client, server

    def __enter__(self) -> Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._made:
            end.abort()
        self.listener.close()


def own_threads() -> list[str]:
    return sorted(one.name for one in threading.enumerate() if one.name.startswith("npipe"))


def timed(call: Callable[[], object]) -> tuple[int, float]:
    """The code of a call that fails, and how long it took."""
    began = time.monotonic()
    code = h.code_of(call)
    return code, time.monotonic() - began


@pytest.mark.timeout(150)
@pytest.mark.parametrize("end", ["client", "server"])
def test_a_link_that_is_cut_is_noticed(networks: net.Networks, short: str, end: str) -> None:
    """By calls with a time-out when it is over; by all others, and by both machines, within half a minute."""
    before = h.descriptors()
    with networks.client.entered(), Pipes(short) as pipes:
        asking, asked = pipes.connected()
        reading, _ = pipes.connected()
        idle, idle_server = pipes.connected()
        sending, sent_to = pipes.connected()
        late, late_server = pipes.connected()
        asking_alone = h.started(lambda: asking.transact(b"question"))
        assert asked.recv(timeout=20) == b"question"
        reading_alone = h.started(reading.recv)
        h.until(lambda: bool(reading._file._waiting))
        waiting = {"asked": h.started(asked.recv), "idle": h.started(idle_server.recv)}
        networks.cut(getattr(networks, end))
        began = time.monotonic()
        # What has a time-out.
        for call, code in (
            (lambda: late.transact(b"late question", timeout=0.5), 121),
            (lambda: late.recv(timeout=0.3), 121),
            (lambda: sending.send(b"words", timeout=0.4), 121),
            (lambda: npipe.connect(there(short), remote=remote(), timeout=0.5), 121),
        ):
            limit = {0.5: 0.5}.get(0.5, 0.5)
            found, took = timed(call)
            assert (found, took < limit + EXACT) == (code, True), took
        # What has none: on this machine ...
        h.has_code(error_of(_within(asking_alone, began)), 64)
        h.has_code(error_of(_within(reading_alone, began)), 64)
        for call in (lambda: idle.send(b"x"), idle.recv, lambda: idle.transact(b"x"), lambda: late.recv(timeout=1)):
            assert h.code_of(call) == 64
        # ... and on the server's, which has lost its clients.
        for one in waiting.values():
            assert _within(one, began).code() == 109
        for one in (sent_to, late_server):
            assert h.code_of(lambda one=one: one.recv(timeout=max(0.0, began + NOTICED - time.monotonic()))) == 109
    connections.close_idle()
    h.until(lambda: not [name for name in own_threads() if "smb" in name], 10)
    h.until(lambda: h.descriptors() <= before, 10)


def _within(call: h.Background[Any], began: float) -> h.Background[Any]:
    call._thread.join(max(0.0, began + NOTICED - time.monotonic()))
    return call
