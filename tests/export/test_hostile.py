"""One who may be smbd, for it is root or this user, and is not: what it can make of a request and of what follows."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.transports.export import gateway, handshake
from tests import helpers as h
from tests.export.helpers import ALICE, BOB, KEY, Request, Smbd, framed
from tests.export.test_gateway import _in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Child

    Start = Callable[..., Child]


def short(name: str) -> str:
    return name.removeprefix("\\\\.\\pipe\\")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread and no descriptor stays behind."""
    with npipe.listen("warm-up") as listener, npipe.connect("warm-up"), listener.accept(10):
        pass
    before = h.descriptors()
    yield
    h.until(lambda: not any(thread.name == "npipe-export" for thread in threading.enumerate()))
    h.until(lambda: h.descriptors() <= before)


class Served:
    """A pipe with a client that is in, and goes on being served whatever others do."""

    def __init__(self, name: str, samba_dir: Path) -> None:
        self.name, self.samba_dir = name, samba_dir
        self.listener = npipe.listen(name, remote="samba", allow="authenticated")
        self.client = Smbd(samba_dir, short(name), BOB)
        self.pipe: Any = self.listener.accept(10)

    def goes_on(self) -> None:
        for word in (b"one", bytes(40_000), b"three"):
            self.client.send(word)
            assert self.pipe.recv(timeout=10) == word
            self.pipe.send(word[::-1])
            assert self.client.message() == word[::-1]

    def hostile(self, request: bytes | None = None) -> Smbd:
        return Smbd(self.samba_dir, short(self.name), request)

    def nobody_came(self) -> None:
        with pytest.raises(npipe.PipeTimeoutError):
            self.listener.accept(0)

    def close(self) -> None:
        self.client.close()
        self.pipe.close()
        self.listener.close()


@pytest.fixture
def served(name: str, samba_dir: Path) -> Iterator[Served]:
    made = Served(name, samba_dir)
    yield made
    made.goes_on()
    made.close()


def _is_over(connection: socket.socket, timeout: float) -> bool:
    """Whether it is hung up on within that time."""
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLRDHUP)
    return bool(poll.poll(timeout * 1000))


def test_a_request_that_comes_by_single_bytes_is_one(served: Served) -> None:
    with served.hostile() as slow:
        for byte in Request().packed():
            slow.socket.sendall(bytes([byte]))
        assert len(slow.receive(36)) == 36
        with served.listener.accept(10) as pipe:
            assert pipe.peer.user == "alice"


def test_bytes_that_keep_coming_do_not_renew_the_time_that_a_request_has(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_REQUEST_PATIENCE", 0.5)
    with served.hostile() as slow:
        began = time.monotonic()
        for byte in ALICE:
            if _is_over(slow.socket, 0.05):
                break
            slow.socket.sendall(bytes([byte]))
        assert slow.receive(1) == b""
        assert 0.4 < time.monotonic() - began < 5
    served.nobody_came()


@pytest.mark.parametrize("length", [0, 1, 59, handshake.MOST_REQUEST - 3, 1 << 24, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_beyond_reason_is_hung_up_on_at_once(served: Served, length: int) -> None:
    with served.hostile() as liar:
        liar.socket.sendall(length.to_bytes(4, "big"))
        assert liar.receive(1) == b""
    served.nobody_came()


def test_the_longest_length_is_waited_for_and_no_longer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_REQUEST_PATIENCE", 0.3)
    with served.hostile() as liar:
        liar.socket.sendall((handshake.MOST_REQUEST - 4).to_bytes(4, "big"))
        liar.socket.sendall(bytes(100_000))
        assert liar.receive(1) == b""
    served.nobody_came()


def test_a_request_within_a_connection_is_data(served: Served) -> None:
    """What has been let in is that client to the end: a second request is no other one, and nothing but bytes."""
    with served.hostile(Request(account="carol", unix_user="carol").packed()) as replayed:
        with served.listener.accept(10) as pipe:
            replayed.send(ALICE, b"after it")
            assert pipe.recv(timeout=10) == ALICE
            assert pipe.recv(timeout=10) == b"after it"
            assert pipe.peer.user == "carol"
            replayed.socket.sendall(ALICE)  # raw: a message of 0 bytes, and the beginning of another
            replayed.socket.shutdown(socket.SHUT_WR)
            assert pipe.recv(timeout=10) == b""
            with h.fails(109):
                while pipe.recv(timeout=10) is not None:
                    pass
            assert pipe.peer.user == "carol"


def test_a_request_that_is_sent_again_is_another_client_with_an_instance_of_its_own(served: Served) -> None:
    with served.hostile(ALICE) as first, served.listener.accept(10) as one:
        with served.hostile(ALICE) as second, served.listener.accept(10) as two:
            second.send(b"second")
            first.send(b"first")
            assert (one.recv(timeout=10), two.recv(timeout=10)) == (b"first", b"second")


def test_what_comes_with_the_request_in_one_write_is_not_lost(served: Served) -> None:
    with served.hostile() as eager:
        eager.socket.sendall(ALICE + framed(b"early", b"bird")[:-1])
        assert len(eager.receive(36)) == 36
        eager.socket.sendall(framed(b"bird")[-1:])
        with served.listener.accept(10) as pipe:
            assert (pipe.recv(timeout=10), pipe.recv(timeout=10)) == (b"early", b"bird")


@pytest.mark.parametrize("said", [None, ALICE[:2], ALICE[:100], b"\xff" * 64], ids=["nothing", "2", "100", "ones"])
def test_many_connections_at_once_disturb_nobody(served: Served, said: bytes | None) -> None:
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(served.hostile()) for _ in range(200)]
        for connection in crowd:
            if said is not None:
                connection.socket.sendall(said)
        served.goes_on()
        for connection in crowd[::2]:
            connection.close()
        served.goes_on()
    served.nobody_came()


def test_who_is_let_in_and_neither_reads_nor_ends_is_let_go_by_the_server(served: Served) -> None:
    """It writes as much as it is let, half a message last; the server's close is not held up by it."""
    with served.hostile(ALICE) as stuck, served.listener.accept(10) as pipe:
        stuck.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                stuck.socket.send(framed(bytes(60_000))[:50_001])
        served.goes_on()
        began = time.monotonic()
        pipe.close()
        assert time.monotonic() - began < 2
        stuck.socket.settimeout(20)
        assert stuck.receive(1) == b""


KEEPER = """
import sys, npipe
listener = npipe.listen(sys.argv[1], remote="samba", allow="alice")
print("listening", flush=True)
input()
"""


@pytest.mark.parametrize("what", ["cut off", "refused", "not understood", "silent"])
def test_the_key_of_a_request_that_gets_nowhere_is_overwritten_too(
    name: str, samba_dir: Path, child: Start, what: str
) -> None:
    server = child(KEEPER, name)
    assert server.line() == "listening"
    key = os.urandom(16)
    packet = Request(key=key, account="mallory", unix_user="mallory").packed()
    behind_key = packet.index(key) + 16
    said = {
        "cut off": packet[:behind_key],
        "refused": packet,
        "not understood": packet[:-20] + b"\xff" * 20,
        "silent": packet[:behind_key],
    }[what]
    with Smbd(samba_dir, short(name), None) as client:
        client.socket.sendall(said)
        if what == "silent":  # while it waits for the rest the key is there: this is what a look finds
            h.until(lambda: _in_memory(server.pid, key))
        else:
            if what == "cut off":
                client.socket.shutdown(socket.SHUT_WR)
            assert client.receive(1) == b""
            assert not _in_memory(server.pid, key)
    h.until(lambda: not _in_memory(server.pid, key))
    assert key != KEY
    server.say("")
    assert server.wait() == 0


def test_a_client_whose_pipe_ends_before_it_is_carried_leaves_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop has no part in its connection any more: the next one may have the same descriptor."""
    served.goes_on()  # its own client is being carried by now
    relay = gateway.Export._relay
    broken = threading.Event()
    broken.set()

    def fails(self: gateway.Export, *arguments: Any, **options: Any) -> Any:
        if broken.is_set():
            raise npipe.PipeClosedError(109, served.name, "opening the pipe", "the server has gone")
        return relay(self, *arguments, **options)

    monkeypatch.setattr(gateway.Export, "_relay", fails)
    with served.hostile(ALICE) as unlucky:
        assert unlucky.receive(1) == b""
    broken.clear()
    for _ in range(3):
        with served.hostile(ALICE) as lucky, served.listener.accept(10) as pipe:
            lucky.send(b"in")
            assert pipe.recv(timeout=10) == b"in"


def test_a_name_makes_no_line_of_its_own_in_the_log(
    name: str, samba_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = Request(account="mallory\nnpipe: client 1 came: root", domain="A\x1b[2J", unix_user="mallory")
    with npipe.listen(name, remote="samba", allow="alice"), Smbd(samba_dir, short(name), request.packed()) as client:
        assert not client.let_in
    (told,) = [record.getMessage() for record in caplog.records]
    assert r"A\x1b[2J\mallory\nnpipe: client 1 came: root" in told
    assert told.isprintable()
