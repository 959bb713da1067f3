"""`npipe relay` on Windows: pipes of kernel32 at one end, and what Windows has at the other. Content is compared."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import pytest

import npipe
from npipe.relay import Relay, RelayOptions
from tests.relay.content import Stream, digest, echo, read_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.relay import Report

DEADLINE = 60.0


class Carrying:
    """A relay in a thread of its own. After the block, `reports` says what came of each connection."""

    def __init__(self, first: str, second: str, **options: Any) -> None:
        self.reports: list[Report] = []
        self.places: tuple[str, ...] = ()
        self._ends = first, second
        self._options = RelayOptions(**options)
        self._begun: Future[None] = Future()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            asyncio.run(asyncio.wait_for(self._carry(), 2 * DEADLINE))
        except BaseException as error:
            if self._begun.done():
                raise
            self._begun.set_exception(error)

    async def _carry(self) -> None:
        async with Relay(*self._ends, self._options, on_report=self.reports.append) as relay:
            self._loop, self._relay, self.places = asyncio.get_running_loop(), relay, relay.places
            self._begun.set_result(None)
            await relay.run(grace=DEADLINE)

    @property
    def port(self) -> int:
        """The one that it listens at, of 127.0.0.1."""
        return int(self.places[0].rpartition(":")[2])

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.result(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._relay.stop)
        self._thread.join(2 * DEADLINE)
        assert not self._thread.is_alive()


class TcpServer:
    """A server of threads on 127.0.0.1; what a handler raises is raised at its end."""

    def __init__(self, handle: Callable[[socket.socket], object]) -> None:
        self._handle = handle
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.place = f"tcp:127.0.0.1:{self._listening.getsockname()[1]}"
        self._pool = ThreadPoolExecutor()
        self._handled: list[Future[None]] = []
        self._ending = False
        self._accepting = threading.Thread(target=self._accept)

    def _accept(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            if self._ending:
                connection.close()
                return
            connection.settimeout(DEADLINE)
            self._handled.append(self._pool.submit(self._run, connection))

    def _run(self, connection: socket.socket) -> None:
        with connection:
            self._handle(connection)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        with connected(int(self.place.rpartition(":")[2])):
            self._accepting.join(DEADLINE)
        self._listening.close()
        for handled in self._handled:
            handled.result(DEADLINE)
        self._pool.shutdown()


def connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), DEADLINE)
    connection.settimeout(DEADLINE)
    return connection


def read_exactly(pipe: npipe.StreamPipe, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        got += pipe.read(size - len(got), timeout=DEADLINE)
    return bytes(got)


def test_a_stream_of_a_pipe_comes_back_from_a_tcp_server(name: str) -> None:
    stream = Stream("windows", 600_000)
    with TcpServer(echo) as server, Carrying(name, server.place) as relay:
        with npipe.connect(name, mode="byte", timeout=DEADLINE) as pipe:
            sender = threading.Thread(target=stream.send, args=(pipe.write,))
            sender.start()
            got = read_exactly(pipe, len(stream.data))
            sender.join(DEADLINE)
    assert digest(got) == stream.digest
    (report,) = relay.reports
    assert (report.forth.bytes, report.back.bytes) == (len(stream.data), len(stream.data))
    assert report.lost == ""


def test_streams_go_both_ways_through_two_relays_with_a_half_close(name: str) -> None:
    out, back = Stream("out", 300_000), Stream("back", 500_000)

    def answer(connection: socket.socket) -> None:
        assert digest(read_all(connection)) == out.digest  # whose end comes through
        back.send(connection.sendall)

    with TcpServer(answer) as server, Carrying(name, server.place) as inner, Carrying("tcp:0", name) as outer:
        with connected(outer.port) as client:
            out.send(client.sendall)
            client.shutdown(socket.SHUT_WR)
            assert digest(read_all(client)) == back.digest
    for report in (*inner.reports, *outer.reports):
        assert (report.forth.bytes, report.back.bytes, report.clean) == (len(out.data), len(back.data), True)


def test_messages_of_a_pipe_are_frames_of_a_tcp_stream_empty_ones_too(name: str) -> None:
    messages = [b"", b"one", b"\n\0", b"x" * 100_000, b""]

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while head := stream.read(4):
                connection.sendall(head + stream.read(int.from_bytes(head, "little"))[::-1])

    with TcpServer(serve) as server, Carrying(name, server.place, framing="length") as relay:
        with npipe.connect(name, timeout=DEADLINE) as pipe:
            for message in messages:
                pipe.send(message, timeout=DEADLINE)
                assert pipe.recv(timeout=DEADLINE) == message[::-1]
    assert [report.forth.pieces for report in relay.reports] == [len(messages)]


def test_messages_go_from_pipe_to_pipe_as_they_are(name: str) -> None:
    messages = [b"a", b"b" * 70_000, b"\0", b"the last one"]

    def answer() -> None:
        with npipe.listen(name) as listener, listener.accept(DEADLINE) as pipe:
            for message in pipe:
                pipe.send(message + b"!", timeout=DEADLINE)

    with ThreadPoolExecutor() as pool:
        serving = pool.submit(answer)
        with Carrying(name + "-front", name, wait_for_server=True):
            with npipe.connect(name + "-front", timeout=DEADLINE) as pipe:
                for message in messages:
                    pipe.send(message, timeout=DEADLINE)
                assert [pipe.recv(timeout=DEADLINE) for _ in messages] == [message + b"!" for message in messages]
        serving.result(DEADLINE)


def test_many_clients_at_once_get_their_own_answers(name: str) -> None:
    def talk(number: int) -> bool:
        stream = Stream(number, 20_000)
        with connected(outer.port) as client:
            stream.send(client.sendall)
            client.shutdown(socket.SHUT_WR)
            return digest(read_all(client)) == stream.digest

    with TcpServer(echo) as server, Carrying(name, server.place), Carrying("tcp:0", name) as outer:
        with ThreadPoolExecutor(12) as pool:
            assert all(pool.map(talk, range(24)))


def test_a_client_that_closes_in_the_middle_ends_the_other_side_after_all_that_it_sent(name: str) -> None:
    stream = Stream("left", 50_000)
    got: Future[bytes] = Future()
    with TcpServer(lambda connection: got.set_result(read_all(connection))) as server:
        with Carrying(name, server.place):
            with npipe.connect(name, mode="byte", timeout=DEADLINE) as pipe:
                stream.send(pipe.write)
            assert digest(got.result(DEADLINE)) == stream.digest


def test_a_server_that_closes_ends_the_pipe_after_its_answer(name: str) -> None:
    def answer(connection: socket.socket) -> None:
        assert connection.recv(100) == b"hello"
        connection.sendall(b"and goodbye")

    with TcpServer(answer) as server, Carrying(name, server.place):
        with npipe.connect(name, mode="byte", timeout=DEADLINE) as pipe:
            pipe.write(b"hello", timeout=DEADLINE)
            assert read_exactly(pipe, 11) == b"and goodbye"
            assert pipe.read(10, timeout=DEADLINE) == b""  # what says that this was all


def test_nobody_listens_behind_it(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Carrying(name, f"tcp:127.0.0.1:{port}") as relay:
        with npipe.connect(name, timeout=DEADLINE) as pipe, pytest.raises(npipe.PipeClosedError):
            pipe.recv(timeout=DEADLINE)
    assert [report.how for report in relay.reports] == ["refused"]


def test_a_command_is_the_other_side(name: str) -> None:
    upper = f'exec:"{sys.executable}" -c "import sys; sys.stdout.write(sys.stdin.read().upper())"'
    with Carrying(name, upper):
        with npipe.connect(name, timeout=DEADLINE) as pipe:
            pipe.send(b"hello", timeout=DEADLINE)
            pipe.send(b"", timeout=DEADLINE)  # the end of what this side says
            assert pipe.recv(timeout=DEADLINE) == b"HELLO"


def test_the_command_carries_standard_input_and_output(name: str) -> None:
    with npipe.listen(name) as listener, ThreadPoolExecutor() as pool:
        command = [sys.executable, "-m", "npipe", "relay", "stdio", name, "--json"]
        running = pool.submit(
            subprocess.run, command, input=b"from outside", capture_output=True, timeout=2 * DEADLINE, check=False
        )
        with listener.accept(2 * DEADLINE) as pipe:
            assert pipe.recv(timeout=DEADLINE) == b"from outside"
            assert pipe.recv(timeout=DEADLINE) == b""
            pipe.send(b"from \x00 inside", timeout=DEADLINE)
            pipe.send(b"", timeout=DEADLINE)
        done = running.result(2 * DEADLINE)
    assert (done.returncode, done.stdout) == (0, b"from \x00 inside"), done.stderr
    reports = [json.loads(line)["connection"] for line in done.stderr.splitlines() if b'"connection"' in line]
    assert [(report["forth"]["bytes"], report["back"]["bytes"]) for report in reports] == [(12, 13)]


def test_a_unix_socket_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(npipe.PipeArgumentError, match="Windows"):
        Relay(name, "unix:C:\\somewhere")
