"""Ends of relays by themselves, in this process: what they have read and not handed out, and what they hold."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import select
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import npipe
import npipe.aio
from npipe.relay import sockets
from npipe.relay.addresses import parse_address
from npipe.relay.base import RelayOptions
from npipe.relay.conversation import Conversation
from npipe.relay.pipes import PipeChannel
from npipe.relay.programs import start_command
from npipe.relay.secured import TLSChannel, tls_contexts
from npipe.relay.sockets import SocketChannel
from tests.relay.content import Stream, digest, read_all
from tests.relay.helpers import DEADLINE, free_path

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from npipe.options import Peek
    from npipe.relay.base import Channel
    from npipe.relay.conversation import Report
    from npipe.relay.web import WebAcceptor, WebChannel


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, DEADLINE))


async def rest(channel: Channel) -> bytes:
    got = b""
    while (piece := await channel.read()) is not None:
        got += piece
    return got


# ---- Sockets


@pytest.mark.parametrize("turns", range(6))
def test_a_read_of_a_socket_that_is_cancelled_has_consumed_nothing(turns: int) -> None:
    """At each turn of the loop between the data's coming and the read's end."""

    async def talk() -> bytes:
        mine, other = socket.socketpair()
        channel = SocketChannel(mine, "x")
        reading = asyncio.create_task(channel.read())
        await asyncio.sleep(0)
        other.sendall(b"x" * 1000)
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        (first,) = await asyncio.gather(reading, return_exceptions=True)
        other.close()
        got = (first if isinstance(first, bytes) else b"") + await rest(channel)
        assert await channel.shut() == 0
        return got

    assert run(talk()) == b"x" * 1000


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("stop", [True, False])
def test_what_comes_while_a_connection_is_ended_is_delivered_or_counted(turns: int, stop: bool) -> None:
    async def talk() -> None:
        pairs = [socket.socketpair() for _ in range(2)]
        options = RelayOptions(end_with_first=True, linger=0.05)
        (mine, first), (ours, second) = pairs
        conversation = Conversation(1, SocketChannel(mine, "x"), SocketChannel(ours, "y"), options)
        carrying = asyncio.create_task(conversation.run())
        for _ in range(10):
            await asyncio.sleep(0)
        if stop:
            conversation.stop("x")
        else:
            first.shutdown(socket.SHUT_WR)
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not carrying.done()
        second.sendall(b"D" * 1000)
        report = await carrying
        first.settimeout(DEADLINE)
        got = read_all(first)
        assert got in (b"", b"D" * 1000)
        assert report.back.dropped == 1000 - len(got)
        assert report.clean is bool(got)
        first.close()
        second.close()

    run(talk())


def left_over(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path)


@pytest.mark.parametrize("stale", [True, False])
def test_of_two_that_come_for_a_unix_socket_at_once_one_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: bool
) -> None:
    """The second one comes at the first one's look at what is there, and between its bind and its listen."""
    path = free_path(tmp_path)
    if stale:
        left_over(path)
    address, failures = parse_address(f"unix:{path}"), []

    async def talk() -> None:
        def second() -> None:
            with pytest.raises(OSError, match="in use") as caught:
                sockets._listen_unix(address, RelayOptions())
            failures.append(caught.value.errno)

        look, chmod = sockets._is_left_over, Path.chmod

        def slow_look(path: Path) -> bool:
            found = look(path)
            if not failures:
                second()
            return found

        def slow_chmod(path: Path, mode: int) -> None:
            chmod(path, mode)
            second()

        monkeypatch.setattr(sockets, "_is_left_over", slow_look)
        monkeypatch.setattr(Path, "chmod", slow_chmod)
        first = await sockets.listen_at(address, RelayOptions())
        assert failures == [errno.EADDRINUSE] * (2 if stale else 1)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            (await first.accept()).refuse()
            client.settimeout(DEADLINE)
            assert client.recv(1) == b""
        assert [path.name for path in tmp_path.iterdir()] == ["s.sock"]
        await first.close()

    run(talk())
    assert not list(tmp_path.iterdir())


def test_a_unix_socket_that_its_owner_removes_at_that_moment_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = free_path(tmp_path)
    left_over(path)
    look = sockets._is_left_over

    def slow_look(path: Path) -> bool:
        path.unlink()
        return look(path)

    monkeypatch.setattr(sockets, "_is_left_over", slow_look)

    async def talk() -> None:
        acceptor = await sockets.listen_at(parse_address(f"unix:{path}"), RelayOptions())
        assert Path(path).is_socket()
        await acceptor.close()

    run(talk())


def test_a_unix_socket_that_cannot_be_made_to_the_end_leaves_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chmod(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(Path, "chmod", chmod)
    with pytest.raises(PermissionError):
        run(sockets.listen_at(parse_address(f"unix:{free_path(tmp_path)}"), RelayOptions()))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket's peer that has gone is not seen")
def test_without_a_descriptor_to_see_a_peer_go_what_there_is_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> select.epoll:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def talk() -> Report:
        mine, client = socket.socketpair()
        theirs, server = socket.socketpair()
        with client, server:
            ends = SocketChannel(mine, "a"), SocketChannel(theirs, "b")
            talking = asyncio.create_task(Conversation(1, *ends, RelayOptions()).run())
            monkeypatch.setattr(select, "epoll", fail)
            loop = asyncio.get_running_loop()
            client.setblocking(False)
            server.setblocking(False)
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(server, 100) == b"question"
            assert await loop.sock_recv(server, 100) == b""
            await loop.sock_sendall(server, b"answer")
            server.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(client, 100) == b"answer"
            assert await loop.sock_recv(client, 100) == b""
            return await talking

    report = run(talk())
    assert (report.forth.bytes, report.back.bytes, report.clean) == (8, 6, True)


# ---- TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_waits_to_be_decrypted_comes_after_the_end_of_the_other_way(
    certificates: Path, version: ssl.TLSVersion
) -> None:
    stream = Stream(version, 150_000)
    files = [f"{certificates}/{name}" for name in ("server.pem", "server.key", "ca.pem")]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    context.load_cert_chain(f"{certificates}/client.pem", f"{certificates}/client.key")
    context.load_verify_locations(f"{certificates}/ca.pem")
    heard: list[bytes] = []

    def peer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_hostname="localhost") as secured:
            secured.settimeout(DEADLINE)
            secured.sendall(stream.data)
            heard.append(read_all(secured))
            secured.unwrap().close()

    async def talk(mine: socket.socket) -> bytes:
        channel = TLSChannel(SocketChannel(mine, "x"), tls_contexts(*files)[0], server_name=None)
        await channel.handshake()
        got = await channel.read() or b""
        while not channel._incoming.pending:  # a slow other side: more has come in than was handed on
            got += await channel.read() or b""
        await channel.write(b"last")
        assert await channel.finish()
        got += await rest(channel)
        assert await channel.close(DEADLINE) == 0
        return got

    mine, other = socket.socketpair()
    thread = threading.Thread(target=peer, args=(other,))
    thread.start()
    got = run(talk(mine))
    thread.join(DEADLINE)
    assert digest(got) == stream.digest
    assert heard == [b"last"]


# ---- Pipes


class Remote:
    """A pipe of another machine, whose connection is lost behind its first piece."""

    info = type("Info", (), {"type": "byte"})

    def __init__(self) -> None:
        self.closed = False
        self.left = [b"part"]

    async def read(self, size: int) -> bytes:
        del size
        if self.left:
            return self.left.pop()
        raise npipe.PipeClosedError(npipe.WinError.NETNAME_DELETED, detail="the network has ended")

    def peek(self) -> Peek:
        raise npipe.PipeClosedError(npipe.WinError.NETNAME_DELETED)

    @property
    def stats(self) -> npipe.PipeStats:
        raise npipe.PipeStateError(npipe.WinError.NOT_SUPPORTED)

    async def close(self, *, timeout: float | None = None) -> None:
        del timeout
        self.closed = True


def test_a_connection_to_another_machine_that_is_lost_is_no_clean_end() -> None:
    async def talk() -> Report:
        mine, other = socket.socketpair()
        remote: Any = Remote()
        pipe = PipeChannel(remote, "x", flat=True, close_message=True)
        with other:
            report = await Conversation(1, SocketChannel(mine, "s"), pipe, RelayOptions(linger=0.05)).run()
            assert remote.closed
            assert other.recv(10) == b"part"
        return report

    report = run(talk())
    assert (report.back.bytes, report.back.dropped) == (4, 0)
    assert report.lost == "the second side: the network has ended"
    assert not report.clean


# ---- Websockets


async def web_pair(**options: Any) -> tuple[WebAcceptor, WebChannel, WebChannel]:
    """An acceptor, the end that came to it, and the one that dialled."""
    from npipe.relay.web import dial_websocket, listen_web

    acceptor = await listen_web(parse_address("ws:0"), RelayOptions(**options), flat=False)
    port = acceptor.label.partition("/")[0].rpartition(":")[2]
    near = await dial_websocket(parse_address(f"ws:{port}"), RelayOptions(**options), flat=False)
    arrival = await acceptor.accept()
    far: Any = await arrival.open()
    return acceptor, far, near


@pytest.mark.parametrize("sender", [0, 1])
def test_a_websocket_is_not_read_ahead_of_a_slow_other_side(sender: int) -> None:
    pytest.importorskip("websockets", reason="websockets is not installed")
    count, chance = 16, random.Random(sender)
    messages = [chance.randbytes(1 << 20) for _ in range(count)]

    async def talk() -> None:
        acceptor, *ends = await web_pair()
        source, target = ends[sender], ends[1 - sender]
        underneath: Any = target._connection
        for end in (source, target):  # what the kernel keeps of each
            end_socket = end._connection.transport.get_extra_info("socket")
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end_socket.setsockopt(socket.SOL_SOCKET, option, 65536)
        paused = asyncio.Event()
        pause = underneath.recv_messages.pause

        def tell() -> None:
            pause()
            paused.set()

        underneath.recv_messages.pause = tell

        async def send() -> None:
            for message in messages:
                await source.write(message)

        sending = asyncio.create_task(send())
        await paused.wait()
        assert len(underneath.recv_messages.frames) == 2
        assert not sending.done()
        assert [await target.read() for _ in messages] == messages
        await sending
        await asyncio.gather(source.close(DEADLINE), target.close(DEADLINE))
        await acceptor.close()

    run(talk())


def test_a_websocket_whose_reading_is_paused_need_not_answer_a_ping() -> None:
    pytest.importorskip("websockets", reason="websockets is not installed")

    async def talk() -> None:
        acceptor, *ends = await web_pair()
        for end in ends:
            underneath: Any = end._connection
            assert underneath.ping_interval == 20  # which finds a peer that is gone for good
            assert underneath.ping_timeout is None
        await asyncio.gather(*(end.close(DEADLINE) for end in ends))
        await acceptor.close()

    run(talk())


# ---- What comes after all that is wanted


def test_of_a_command_that_does_not_end_in_time_the_output_is_counted() -> None:
    async def talk() -> None:
        channel = await start_command("echo hello; exec sleep 100")
        got = await channel.read()
        assert got == b"hello\n"
        channel._out.feed_data(got)  # as if it came now
        assert await channel.close(0.05) == len(got)
        assert channel.parting == "it was ended"

    run(talk())


def test_of_a_websocket_that_does_not_answer_the_closing_in_time_what_it_sent_is_counted() -> None:
    pytest.importorskip("websockets", reason="websockets is not installed")
    from npipe.relay.web import listen_web

    async def talk() -> None:
        acceptor = await listen_web(parse_address("ws:0"), RelayOptions(), flat=False)
        port = int(acceptor.label.partition("/")[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x82\x83\0\0\0\0one" + b"\x82\x85\0\0\0\0hello")
        channel = await (await acceptor.accept()).open()
        assert await channel.read() == b"one"
        assert await channel.close(0.2) == len(b"hello")
        writer.close()
        await acceptor.close()

    run(talk())


@pytest.mark.parametrize("linger", [0, 1])
def test_what_a_pipe_s_peer_has_sent_and_nobody_read_is_counted(name: str, linger: float) -> None:
    async def talk() -> None:
        listener = npipe.aio.listen(name)
        client = await npipe.aio.connect(name)
        pipe = await listener.accept()
        channel = PipeChannel(pipe, "x", flat=False, close_message=False)
        for message in (b"one", b"hello", b"you"):
            await client.send(message)
        assert await channel.read() == b"one"
        assert await channel.close(linger) == len(b"helloyou")
        assert await channel.close(linger) == 0
        await client.close()
        await listener.close()

    run(talk())
