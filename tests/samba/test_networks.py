"""Two machines with addresses of their own: smbd and the server on one, the client on the other, and a cable."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

import npipe
import npipe.aio
from npipe.transports.smb import connections, wire
from npipe.win32 import pywintypes, win32con, win32event, win32file, win32pipe
from tests import helpers as h
from tests.samba import networks as net
from tests.samba.clients import PASSWORD
from tests.samba.test_client import EXACT, _no_connection_is_left, listening

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
            interfaces = [f"{address}/24" for address in net.ADDRESSES.values()]
            own_smbd(interfaces=(*interfaces, f"{net.SIX[1]}/64"), port=445)
        _use_once(made)
        yield made


def _use_once(networks: net.Networks) -> None:
    """What a process makes once and keeps is made, so that tests can tell what is left."""
    with networks.client.entered(), npipe.serve("once", bytes.upper, remote="samba", allow="authenticated"):
        assert npipe.call(there("once"), b"hello", remote=remote(), timeout=20) == b"HELLO"
    no_thread_is_left()


def remote(user: str = "alice", **options: Any) -> npipe.Remote:
    return npipe.Remote(user, PASSWORD, auth="ntlm", **options)


def there(name: str, address: str = "10.10.0.2") -> str:
    return rf"\\{address}\pipe\{name}"


# ---- Who


def test_addresses_of_every_alignment_are_told(networks: net.Networks, short: str, child: Callable[..., Child]) -> None:
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


def test_an_address_of_ipv6_is_written_as_windows_does(networks: net.Networks, short: str) -> None:
    host = f"{net.SIX[1].replace(':', '-')}.IPv6-literal.net"
    with networks.client.entered(), listening(short) as listener:
        with npipe.connect(there(short, host), mode="message", remote=remote(), timeout=20) as client:
            with listener.accept(20) as server:
                assert (server.peer.address, client.peer.address) == net.SIX
                client.send(b"hello")
                assert server.recv(timeout=20) == b"hello"


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
    """Pipes between the two machines, and the servers' ends of them."""

    def __init__(self, name: str, mode: Any = "message") -> None:
        self.listener = listening(name, mode=mode)
        self._name = name
        self._mode = mode
        self._made: list[Any] = []

    def connected(self, **options: Any) -> tuple[Any, Any]:
        """Both ends of one. Each user, encrypted or not, has a connection of its own."""
        client: Any = npipe.connect(there(self._name), mode=self._mode, remote=remote(**options), timeout=20)
        self._made.append(client)
        return client, self.accepted()

    def accepted(self) -> Any:
        server = self.listener.accept(20)
        self._made.append(server)
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._made:
            end.abort()
        self.listener.close()


def timed(call: Callable[[], object]) -> tuple[int, float]:
    """The code of a call that fails, and how long it took."""
    began = time.monotonic()
    code = h.code_of(call)
    return code, time.monotonic() - began


def over_in_time(limit: float, call: Callable[[], object]) -> None:
    """Fails unless the call ends with a time-out of so many seconds."""
    code, took = timed(call)
    assert code == 121
    assert limit <= took < limit + EXACT


class Noticed:
    """How long after a link was cut calls end that have no time-out."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def left(self) -> float:
        return max(0.0, self._began + NOTICED - time.monotonic())

    def code(self, call: h.Background[Any]) -> int:
        return call.code(self.left)


def no_thread_is_left() -> None:
    connections.close_idle()
    h.until(lambda: not any(one.name.startswith(("npipe-smb", "npipe-export")) for one in threading.enumerate()), 10)


def nothing_is_left(descriptors: int) -> None:
    no_thread_is_left()
    h.until(lambda: h.descriptors() <= descriptors, 10)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("end", ["client", "server"])
def test_a_link_that_is_cut_is_noticed(networks: net.Networks, short: str, end: str) -> None:
    """By calls with a time-out when that is over; by all others, and at both machines, within half a minute."""
    before = h.descriptors()
    with networks.client.entered(), Pipes(short) as pipes:
        asking, asked = pipes.connected()
        reading, read_from = pipes.connected(user="bob")
        idle, idle_server = pipes.connected(encrypt=True)
        busy, busy_server = pipes.connected(user="bob", encrypt=True)
        asks = h.started(lambda: asking.transact(b"question"))
        assert asked.recv(timeout=20) == b"question"
        reads = h.started(reading.recv)
        h.until(lambda: bool(reading._file._waiting))
        servers = [h.started(server.recv) for server in (read_from, idle_server)]
        networks.cut(getattr(networks, end))
        noticed = Noticed()
        over_in_time(0.5, lambda: busy.transact(b"late question", timeout=0.5))
        over_in_time(0.3, lambda: busy.recv(timeout=0.3))
        over_in_time(0.4, lambda: busy.send(b"words", timeout=0.4))
        over_in_time(0.6, lambda: npipe.connect(there(short), remote=remote("bob", encrypt=True), timeout=0.6))
        began = time.monotonic()
        busy.close(timeout=0.2)
        assert time.monotonic() - began < 0.2 + EXACT
        assert noticed.code(asks) == 64
        assert noticed.code(reads) == 64
        h.until(lambda: idle._file.link.lost, noticed.left)
        for call in (lambda: idle.send(b"x"), idle.recv, lambda: idle.transact(b"x")):
            assert h.code_of(call) == 64
        for server in servers:  # they have lost their clients
            assert noticed.code(server) == 109
        for server in (asked, busy_server):
            with contextlib.suppress(npipe.PipeClosedError):
                server.send(b"an answer")  # Samba from 4.20 on tells of those who have asked only when there is one
            with h.fails(109):
                while True:
                    server.recv(timeout=noticed.left)
    nothing_is_left(before)


@pytest.mark.timeout(150)
def test_a_host_that_cannot_be_reached(networks: net.Networks, short: str) -> None:
    before = h.descriptors()
    with networks.client.entered(), listening(short):
        networks.cut(networks.server)
        over_in_time(0.5, lambda: npipe.connect(there(short), remote=remote(), timeout=0.5))
        networks.cut(networks.client)
        assert h.code_of(lambda: npipe.connect(there(short), remote=remote(), timeout=20)) == 53
        assert h.code_of(lambda: npipe.connect(there(short), remote=remote())) == 53
    nothing_is_left(before)


@pytest.mark.timeout(100)
@pytest.mark.parametrize("end", ["client", "server"])
def test_a_link_that_is_cut_for_a_moment_loses_nothing(networks: net.Networks, short: str, end: str) -> None:
    before = h.descriptors()
    with networks.client.entered(), Pipes(short) as pipes:
        asking, asked = pipes.connected()
        reading, read_from = pipes.connected(user="bob")
        asks = h.started(lambda: asking.transact(b"question"))
        assert asked.recv(timeout=20) == b"question"
        over_in_time(0.2, lambda: reading.recv(timeout=0.2))
        networks.cut(getattr(networks, end))
        asked.send(b"answer")
        for number in range(20):
            read_from.send(b"%d" % number)
        with pytest.raises(npipe.PipeTimeoutError) as raised:
            reading.send(b"words", timeout=0.2)
        assert raised.value.sent is True
        networks.mend(getattr(networks, end))
        assert asks.result(30) == b"answer"
        assert [reading.recv(timeout=30) for _ in range(20)] == [b"%d" % number for number in range(20)]
        assert read_from.recv(timeout=30) == b"words"
        over_in_time(0.1, lambda: read_from.recv(timeout=0.1))
        over_in_time(0.1, lambda: reading.recv(timeout=0.1))
    nothing_is_left(before)


@pytest.mark.timeout(100)
@pytest.mark.parametrize("end", ["client", "server"])
def test_streams_go_on_when_a_cut_link_is_mended(networks: net.Networks, short: str, end: str) -> None:
    data = random.Random(11).randbytes(3_000_000)

    def read_all(pipe: Any, got: bytearray, until: int) -> None:
        while len(got) < until:
            got += pipe.read(min(65536, until - len(got)), timeout=30)

    with networks.client.entered(), Pipes(short, "byte") as pipes:
        client, server = pipes.connected(encrypt=True)
        for writer, reader in ((client, server), (server, client)):
            got = bytearray()
            writes = h.started(lambda writer=writer: writer.write(data, timeout=60))
            read_all(reader, got, 1_000_000)
            networks.cut(getattr(networks, end))
            with pytest.raises(npipe.PipeTimeoutError):  # what was under way comes, and then nothing
                while len(got) < len(data):
                    got += reader.read(65536, timeout=0.3)
            assert len(got) < len(data)
            networks.mend(getattr(networks, end))
            read_all(reader, got, len(data))
            assert got == data
            assert writes.result(30) == len(data)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that notices in seconds what takes it half a minute otherwise."""
    patience = (("TCP_KEEPIDLE", 2), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 5000))
    assert [option for option, _ in wire._KEEP_ALIVE] == [option for option, _ in patience]
    monkeypatch.setattr(wire, "_KEEP_ALIVE", patience)


@pytest.mark.timeout(150)
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("end", ["client", "server"])
def test_a_cut_link_and_tasks(networks: net.Networks, short: str, end: str) -> None:
    before = h.descriptors()

    async def client(pipes: Pipes) -> None:
        ends = []
        for options in ({}, {"user": "bob"}, {"encrypt": True}):
            pipe = await npipe.aio.connect(there(short), remote=remote(**options), timeout=20)
            ends.append((pipe, await asyncio.to_thread(pipes.accepted)))
        (asking, asked), (reading, _), (late, _) = ends
        asks = asyncio.ensure_future(asking.transact(b"question"))
        assert await asyncio.to_thread(asked.recv, timeout=20) == b"question"
        reads = asyncio.ensure_future(reading.recv())
        networks.cut(getattr(networks, end))
        noticed = Noticed()
        for limit, call in ((0.3, late.recv), (0.4, lambda **how: late.transact(b"late question", **how))):
            began = time.monotonic()
            with pytest.raises(npipe.PipeTimeoutError):
                await call(timeout=limit)
            assert limit <= time.monotonic() - began < limit + EXACT
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(late.recv(), 0.2)
        assert time.monotonic() - began < 0.2 + EXACT
        for task in (asks, reads):
            with pytest.raises(npipe.PipeClosedError) as raised:
                await asyncio.wait_for(task, noticed.left)
            h.has_code(raised.value, 64)
        for pipe, _ in ends:
            await pipe.close()

    with networks.client.entered(), Pipes(short) as pipes:
        asyncio.run(client(pipes))
    nothing_is_left(before)


@pytest.mark.timeout(150)
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("end", ["client", "server"])
def test_a_cut_link_and_handles(networks: net.Networks, short: str, end: str) -> None:
    before = h.descriptors()
    access = win32con.GENERIC_READ | win32con.GENERIC_WRITE

    def opened(pipes: Pipes, flags: int = 0) -> tuple[Any, Any]:
        handle = win32file.CreateFile(there(short), access, 0, None, win32con.OPEN_EXISTING, flags, None)
        win32pipe.SetNamedPipeHandleState(handle, win32pipe.PIPE_READMODE_MESSAGE, None, None)
        return handle, pipes.accepted()

    def winerror(call: Callable[[], object]) -> int:
        with pytest.raises(pywintypes.error) as raised:
            call()
        return int(raised.value.winerror)

    npipe.remote.configure("10.10.0.2", remote())
    try:
        with networks.client.entered(), Pipes(short) as pipes:
            asking, asked = opened(pipes)
            reading, _ = opened(pipes)
            waiting, _ = opened(pipes, win32con.FILE_FLAG_OVERLAPPED)
            with asking, reading, waiting:
                asks = h.started(lambda: winerror(lambda: win32pipe.TransactNamedPipe(asking, b"question", 100, None)))
                assert asked.recv(timeout=20) == b"question"
                reads = h.started(lambda: winerror(lambda: win32file.ReadFile(reading, 100)))
                pending = pywintypes.OVERLAPPED()
                pending.hEvent = win32event.CreateEvent(None, True, False, None)
                buffer = win32file.AllocateReadBuffer(100)
                assert win32file.ReadFile(waiting, buffer, pending)[0] == 997
                networks.cut(getattr(networks, end))
                noticed = Noticed()
                began = time.monotonic()
                assert win32event.WaitForSingleObject(pending.hEvent, 300) == win32event.WAIT_TIMEOUT
                assert time.monotonic() - began < 0.3 + EXACT
                assert asks.result(noticed.left) == 109
                assert reads.result(noticed.left) == 109
                assert win32event.WaitForSingleObject(pending.hEvent, int(noticed.left * 1000)) == 0
                assert winerror(lambda: win32file.GetOverlappedResult(waiting, pending, True)) == 109
                assert winerror(lambda: win32file.WriteFile(waiting, b"x")) in (109, 232)
    finally:
        npipe.remote.forget("10.10.0.2")
    nothing_is_left(before)
