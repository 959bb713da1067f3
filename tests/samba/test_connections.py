"""Connections to hosts that are hostile, full, or end what is open, and to those that are used by many."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.samba import program
from npipe.transports.smb import connections, files, transport, wire
from npipe.transports.smb.status import BUFFER_OVERFLOW, SUCCESS, not_opened
from tests import helpers as h
from tests.samba.proxy import Proxy
from tests.samba.test_client import EXACT, Both, blocked, error_of, has_wait, listening, remote, there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.samba import PrivateSmbd

from tests.samba.test_client import _no_connection_is_left

__all__ = ["_no_connection_is_left"]

READ, IOCTL = 8, 11
WRITE = 9
NETWORK_BUSY = 0xC00000BF


def command_of(request: Any) -> int:
    command: int = request.message["command"].get_value()
    return command


# ---- Ends of what is shared


def test_a_connection_that_is_closed_for_it_is_idle_is_given_to_nobody(smbd: PrivateSmbd, short: str) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        assert npipe.call(there(short), b"one", remote=remote(smbd.port), timeout=20) == b"ONE"
        with connections._pool.lock:  # the thread that closes it does not get its turn
            (first,) = connections._pool._links.values()
            connections.close_idle()
            assert connections._pool._links == {}
        assert npipe.call(there(short), b"two", remote=remote(smbd.port), timeout=20) == b"TWO"
        assert list(connections._pool._links.values()) != [first]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_connection_at_which_a_close_cannot_be_told_ends(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Both(smbd.port, short) as (client, server):
        with npipe.connect(there(short), mode="message", remote=remote(smbd.port)) as another:
            waiting = blocked(client, client.recv)
            real = wire.Wire.send

            def full(self: wire.Wire, message: Any, *arguments: Any, **options: Any) -> Any:
                if type(message).__name__ == "SMB2CloseRequest":
                    raise MemoryError
                return real(self, message, *arguments, **options)

            monkeypatch.setattr(wire.Wire, "send", full)
            another.close()
            assert waiting.code() == 64
            assert h.code_of(lambda: server.recv(timeout=20)) == 109


@pytest.mark.parametrize("first", ["open", "wait", "list"])
def test_a_connection_whose_pipes_the_host_has_closed_is_not_used_again(
    own_smbd: Callable[..., PrivateSmbd], short: str, first: str
) -> None:
    smbd = own_smbd()
    with Proxy(smbd.port) as proxy, Both(proxy.port, short) as (client, server):
        command = [program("smbcontrol"), "-s", str(smbd.configuration), "smbd", "close-share", "IPC$"]
        subprocess.run(command, check=True, timeout=20)
        assert h.code_of(lambda: server.recv(timeout=20)) == 109  # it is done
        if first == "wait":
            assert h.code_of(lambda: npipe.wait(there(short), timeout=5, remote=remote(proxy.port))) == (
                0 if has_wait() else 50
            )
        elif first == "list":
            assert h.code_of(lambda: npipe.list_pipes("127.0.0.1", remote=remote(proxy.port))) == 50
        with npipe.serve(short + "b", bytes.upper, remote="samba", allow="authenticated"):
            assert npipe.call(there(short + "b"), b"again", remote=remote(proxy.port), timeout=20) == b"AGAIN"
        assert proxy.connections == 2
        assert h.code_of(lambda: client.recv(timeout=20)) == 64


# ---- Closing while others wait


@pytest.mark.parametrize("way", ["up", "down"], ids=["room", "credits"])
def test_a_close_ends_a_send_that_waits_for_the_connection(smbd: PrivateSmbd, short: str, way: str) -> None:
    filler = bytes(65535 if way == "up" else 1)
    with Proxy(smbd.port) as proxy, Both(proxy.port, short) as (client, server):
        proxy.hold(way)
        sent, patience = 0, 0.002
        while True:
            with pytest.raises(npipe.PipeTimeoutError) as raised:
                client.send(filler, timeout=patience)
            if "nothing was sent" not in str(raised.value):
                sent, patience = sent + 1, 0.002
            elif patience < 0.1:
                patience = 0.5  # its time may have been over before it had tried
            else:
                break
        senders = [h.started(client.send, b"after the close") for _ in range(3)]  # one has its turn, two wait for it
        h.until(lambda: client._file._submitting == 3)
        begun = time.monotonic()
        client.abort()
        for sender in senders:
            h.has_code(error_of(sender), 109)
        assert time.monotonic() - begun < 1 + EXACT
        proxy.let_go(way)
        # Of what was sent Samba loses what it has not passed on yet. Nothing else comes, and the close does.
        got = []
        with pytest.raises(npipe.PipeClosedError) as ended:
            while True:
                got.append(server.recv(timeout=20))
        h.has_code(ended.value, 109)
        assert got == [filler] * len(got)
        assert len(got) <= sent


def test_a_close_wakes_each_of_those_who_wait_for_one_write(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, _):
        with pytest.raises(npipe.PipeTimeoutError, match="cannot be withdrawn"):
            while True:
                client.send(bytes(65535), timeout=0.3)
        closers = [h.started(lambda: client.close(timeout=60))]
        h.until(lambda: len(client._file._waiting) == 1)
        short_one = h.started(lambda: client._file.writes_over(time.monotonic() + 1))
        h.until(lambda: len(client._file._waiting) == 2)
        assert short_one.result(20) is False
        begun = time.monotonic()
        client.abort()
        closers[0].result(20)
        assert time.monotonic() - begun < 1 + EXACT


def test_a_pipe_may_be_collected_in_the_thread_that_receives(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And while that has smbprotocol's lock, which sending takes."""
    collects: list[int] = []
    plain = wire._Window.__setitem__

    def collecting(self: Any, key: str, value: int) -> None:
        plain(self, key, value)
        if key == "high" and collects:
            collects.clear()
            gc.collect()

    monkeypatch.setattr(wire._Window, "__setitem__", collecting)
    with (
        listening(short) as listener,
        npipe.connect(there(short), remote=remote(smbd.port)) as client,
        listener.accept(20) as server,
    ):
        box: list[Any] = [npipe.connect(there(short), remote=remote(smbd.port))]
        box.append(box)
        with listener.accept(20) as other:
            gc.disable()
            try:
                del box
                collects.append(1)
                server.send(b"hello")
                assert client.recv(timeout=20) == b"hello"
                assert not collects
                assert h.code_of(lambda: other.recv(timeout=20)) == 109
            finally:
                gc.enable()
            server.send(b"goes on")
            assert client.recv(timeout=20) == b"goes on"


# ---- Hosts that do not end, or have limits of their own


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host says of each piece that more of its message comes."""
    plain = connections.Link.answered

    def answered(self: Any, request: Any) -> Any:
        answer = plain(self, request)
        if answer is not None and command_of(request) in (READ, IOCTL) and answer[0] == SUCCESS:
            return BUFFER_OVERFLOW, answer[1]
        return answer

    monkeypatch.setattr(connections.Link, "answered", answered)


@contextlib.contextmanager
def flooded(server: Any) -> Iterator[None]:
    stops = threading.Event()

    def flood() -> None:
        while not stops.is_set():
            with contextlib.suppress(npipe.PipeTimeoutError):
                server.send(b"a", timeout=0.1)

    flooding = h.started(flood)
    try:
        yield
    finally:
        stops.set()
        flooding.result(20)


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("timeout", [0, 0.3])
@pytest.mark.parametrize("way", ["recv", "recv_into", "exact"])
def test_a_message_without_an_end_ends_with_the_time_out(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch, timeout: float, way: str
) -> None:
    monkeypatch.setattr(files, "GOODWILL", 0.5)
    room = bytearray(1_000_000)
    with Both(smbd.port, short) as (client, server), flooded(server):
        begun = time.monotonic()
        if way == "recv":
            code = h.code_of(lambda: client.recv(timeout=timeout))
        else:
            code = h.code_of(lambda: client.recv_into(room, exact=way == "exact", timeout=timeout))
        assert code == 121
        assert time.monotonic() - begun < (timeout or 0.5) + EXACT
        assert set(client._head or b"a") == {ord("a")}  # what came is kept


@pytest.mark.usefixtures("endless")
def test_the_rest_of_an_answer_without_an_end_is_dropped_for_as_long_as_was_said(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, server):
        with pytest.raises(npipe.PipeTimeoutError):
            client.transact(b"question", timeout=0.1)
        with flooded(server):
            begun = time.monotonic()
            assert h.code_of(lambda: client.discard_reply(timeout=0.3)) == 121
            assert time.monotonic() - begun < 0.3 + EXACT


@pytest.mark.usefixtures("endless")
def test_an_empty_piece_of_a_longer_message_makes_no_sense(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_read_data", lambda _: memoryview(b""))
    with Both(smbd.port, short) as (client, server):
        server.send(b"a")
        assert h.code_of(lambda: client.recv(timeout=20)) == 13
        assert h.code_of(lambda: client.recv(timeout=20)) == 64


def test_the_limits_of_the_host_are_kept(own_smbd: Callable[..., PrivateSmbd], short: str) -> None:
    limits = "".join(f"smb2 max {what} = 65536\n" for what in ("write", "read", "trans"))
    smbd = own_smbd(extra=limits)
    data = random.Random(7).randbytes(300_001)
    with Both(smbd.port, short, mode="byte") as (client, server):
        assert client._file.link.wire.max_write_size == 65536
        writer = h.started(lambda: client.write(data, timeout=20))
        got = bytearray()
        while len(got) < len(data):
            got += server.read(65536, timeout=20)
        assert got == data
        assert writer.result(20) == len(data)
    with npipe.serve(short + "b", lambda request: request[::-1], remote="samba", allow="authenticated"):
        answer = npipe.call(there(short + "b"), data[:65535], remote=remote(smbd.port), timeout=20)
        assert answer == data[:65535][::-1]


def test_messages_of_windows_are_as_long_as_the_host_takes(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Both(smbd.port, short) as (client, server):
        link = client._file.link
        monkeypatch.setattr(link, "has_modes", True)
        monkeypatch.setattr(link.wire, "max_write_size", 65534)
        for call in (client.send, client.transact):
            with pytest.raises(npipe.PipeArgumentError, match="1 to 65,534 bytes"):
                call(bytes(65535))
        client.send(bytes(65534), timeout=20)
        assert server.recv(timeout=20) == bytes(65534)


@pytest.mark.parametrize("what", ["read", "write", "transact"])
def test_a_host_that_may_cut_messages_is_refused(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    plain = wire.Wire.connect

    def connect(self: Any, *arguments: Any, **options: Any) -> None:
        plain(self, *arguments, **options)
        setattr(self, f"max_{what}_size", 65535)

    monkeypatch.setattr(wire.Wire, "connect", connect)
    assert h.code_of(lambda: npipe.connect(there(short), remote=remote(smbd.port), timeout=20)) == 50


def test_requests_are_looked_through_while_others_end() -> None:
    outstanding = wire._Outstanding({number: object() for number in range(3)})
    for _ in outstanding.values():
        outstanding.popitem()
    assert not outstanding


# ---- Busy


@pytest.mark.parametrize("probe", ["busy", "free"])
def test_a_busy_pipe_is_waited_for_though_the_wait_says_at_once_what_it_sees(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch, probe: str
) -> None:
    plain = files.open_file
    tries: list[float] = []
    busy = [True]

    def open_file(link: Any, path: str, name: str, **options: Any) -> Any:
        tries.append(time.monotonic())
        if busy[0]:
            link.release()
            raise not_opened(NETWORK_BUSY, name, link.host)
        return plain(link, path, name, **options)

    def wait_named_pipe(link: Any, _: str, name: str, *__: Any, **___: Any) -> None:
        if probe == "busy":
            raise not_opened(NETWORK_BUSY, name, link.host)

    monkeypatch.setattr(transport, "open_file", open_file)
    monkeypatch.setattr(transport, "wait_named_pipe", wait_named_pipe)
    begun = time.monotonic()
    assert h.code_of(lambda: npipe.connect(there(short), remote=remote(smbd.port), timeout=0.5)) == 121
    assert 0.5 <= time.monotonic() - begun < 0.5 + EXACT
    assert 2 <= len(tries) <= 2 * (0.5 / transport.PAUSE) + 3
    with listening(short) as listener:
        coming = h.started(lambda: npipe.connect(there(short), remote=remote(smbd.port), timeout=20))
        seen = len(tries)
        h.until(lambda: len(tries) > seen)
        busy[0] = False
        with coming.result(20) as client, listener.accept(20) as server:
            client.send(b"at last")
            assert server.recv(timeout=20) == b"at last"


# ---- Pools


def test_a_pool_uses_its_connection_again(smbd: PrivateSmbd, short: str) -> None:
    with npipe.Pool(there(short), size=1, remote=remote(smbd.port)) as pool:
        with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
            for number in range(10):
                assert pool.call(b"call %d" % number, timeout=20) == b"CALL %d" % number
            with pool.connection() as pipe:
                assert pipe.transact(b"lent", timeout=20) == b"LENT"
            assert pool.call(b"after", timeout=20) == b"AFTER"
            assert pool.stats.connected == 1
        with npipe.serve(short, bytes.lower, remote="samba", allow="authenticated"):
            assert pool.call(b"ANOTHER SERVER", timeout=20) == b"another server"
            assert pool.stats.connected == 2
        with listening(short) as listener:
            answering = h.started(lambda: _answer_and_say_more(listener))
            assert pool.call(b"one", timeout=20) == b"one"
            server = answering.result(20)
            # What came unasked is nobody's answer.
            later = h.started(lambda: _answer(listener))
            assert pool.call(b"two", timeout=20) == b"two"
            later.result(20).close()
            server.close()


def _answer(listener: Any) -> Any:
    server = listener.accept(20)
    server.send(server.recv(timeout=20))
    return server


def _answer_and_say_more(listener: Any) -> Any:
    server = _answer(listener)
    server.send(b"and more")
    server.flush(timeout=20)
    return server


def test_a_pool_of_tasks_uses_its_connection_again(smbd: PrivateSmbd, short: str) -> None:
    async def calls() -> None:
        async with npipe.aio.Pool(there(short), size=1, remote=remote(smbd.port)) as pool:
            for number in range(10):
                assert await pool.call(b"call %d" % number, timeout=20) == b"CALL %d" % number
            assert pool.stats.connected == 1

    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        asyncio.run(calls())


# ---- Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")
def test_a_child_that_is_forked_meanwhile_has_no_part_of_a_connection(short: str) -> None:
    with Proxy(None) as proxy:
        connecting = h.started(lambda: npipe.connect(there(short), remote=remote(proxy.port), timeout=1))
        assert proxy.accepted.acquire(timeout=20)
        child = os.fork()
        if not child:
            code = 1
            try:
                code = 3 if _has_connection_to(proxy.port) else 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert _has_connection_to(proxy.port)
        h.has_code(error_of(connecting), 121)


def _has_connection_to(port: int) -> bool:
    for number in range(1024):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as sock:
            if sock.getpeername()[1:2] == (port,):
                return True
    return False
