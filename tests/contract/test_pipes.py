"""What every transport keeps to, through its own interface: the same tests for the engine and for Windows' pipes."""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.names import parse_name
from npipe.options import ACCESS_READ, ACCESS_WRITE
from npipe.transports import CreateOptions, default
from tests.helpers import Background, blocked, fails

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.transports import ServerEnd, Transport

DEADLINE = 5.0
BOTH = ACCESS_READ | ACCESS_WRITE


@pytest.fixture(params=["native" if sys.platform == "win32" else "local"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """The transports that this machine has; the name says which."""
    found = default()
    assert type(found).__module__ == f"npipe.transports.{request.param}"
    return found


class Pipes:
    """Instances and connections of one name, all closed in the end."""

    def __init__(self, transport: Transport, name: str) -> None:
        self.transport = transport
        self.name = parse_name(name)
        self._opened: list[Any] = []

    def create(self, *, first: bool = False, **changes: Any) -> ServerEnd:
        values: dict[str, Any] = {
            "message_mode": True,
            "direction": 3,
            "max_instances": 255,
            "in_buffer_size": 65536,
            "out_buffer_size": 65536,
            "default_timeout_ms": 50,
            "security": npipe.Security(),
            "rule": None,
        }
        return self.transport.create(self.name, CreateOptions(**{**values, **changes}), first_instance=first)

    def connect(self, *, message_mode: bool = True, access: int = BOTH, timeout: float | None = DEADLINE) -> Any:
        pipe = self.transport.connect(
            self.name, message_mode=message_mode, access=access, timeout=timeout, verify_owner=True
        )
        self._opened.append(pipe)
        return pipe

    def serve(self, end: ServerEnd) -> Any:
        pipe = end.pipe(lambda _end, _discard: None)
        self._opened.append(pipe)
        return pipe

    def pair(self, *, message_mode: bool = True, **changes: Any) -> tuple[Any, Any]:
        end = self.create(message_mode=message_mode, **changes)
        client = self.connect(message_mode=message_mode)
        assert end.connect(DEADLINE) in (0, 535)
        return self.serve(end), client

    def close(self) -> None:
        for pipe in self._opened:
            pipe.abort()


@pytest.fixture
def pipes(transport: Transport, name: str) -> Iterator[Pipes]:
    made = Pipes(transport, name)
    yield made
    made.close()


# ---- Instances


def test_an_instance_listens_from_its_creation_on(pipes: Pipes) -> None:
    end = pipes.create()
    pipes.transport.wait(pipes.name, 0, use_default=False)
    client = pipes.connect(timeout=0)
    assert end.connect(0) == 535
    server = pipes.serve(end)
    client.send(b"x")
    assert server.recv(timeout=DEADLINE) == b"x"


def test_a_client_ends_a_wait_for_it(pipes: Pipes) -> None:
    end = pipes.create()
    waiting = blocked(lambda: end.connect(20))
    pipes.connect()
    assert waiting.result() in (0, 535)
    pipes.serve(end)


def test_a_wait_for_a_client_times_out_and_the_instance_goes_on_listening(pipes: Pipes) -> None:
    end = pipes.create()
    for timeout in (0, 0.02):
        with fails(121):
            end.connect(timeout)
    pipes.connect(timeout=0)
    assert end.connect(DEADLINE) in (0, 535)
    pipes.serve(end)


def test_a_client_that_has_left_is_232_and_what_it_wrote_is_there(pipes: Pipes) -> None:
    end = pipes.create()
    client = pipes.connect()
    client.send(b"bye")
    client.close()
    with fails(232):
        end.connect(DEADLINE)
    assert end.has_data()
    server = pipes.serve(end)
    assert server.recv(timeout=DEADLINE) == b"bye"
    with fails(109):
        server.recv(timeout=DEADLINE)


def test_a_client_that_has_left_nothing(pipes: Pipes) -> None:
    end = pipes.create()
    pipes.connect().close()
    with fails(232):
        end.connect(DEADLINE)
    assert not end.has_data()
    end.close_handle()


def test_the_limit_of_instances(pipes: Pipes) -> None:
    end = pipes.create(max_instances=1)
    with fails(231):
        end.another()
    with fails(231):
        pipes.create(max_instances=1)
    end.close_handle()
    with fails(2):
        pipes.connect()


def test_a_replaced_instance_listens_at_once(pipes: Pipes) -> None:
    end = pipes.create(max_instances=1)
    client = pipes.connect()
    end.connect(DEADLINE)
    client.close()
    fresh = end.replace()
    pipes.transport.wait(pipes.name, 0, use_default=False)
    second = pipes.connect(timeout=0)
    assert fresh.connect(DEADLINE) == 535
    second.send(b"second")
    assert pipes.serve(fresh).recv(timeout=DEADLINE) == b"second"


def test_closing_an_instance_ends_its_wait(pipes: Pipes) -> None:
    end = pipes.create()
    waiting = blocked(lambda: end.connect(20))
    end.close_handle()
    assert waiting.code() == 109


def test_closed_instances_are_counted(pipes: Pipes) -> None:
    before = pipes.transport.instances_closed()
    end = pipes.create()
    waiting = blocked(lambda: pipes.transport.wait_instance_closed(pipes.name, before, 20))
    end.close_handle()
    waiting.result()
    assert pipes.transport.instances_closed() != before


# ---- Clients


def test_no_pipe_is_2_at_once(pipes: Pipes) -> None:
    for call in (pipes.connect, lambda: pipes.transport.wait(pipes.name, None, use_default=False)):
        with fails(2):
            call()


def test_a_busy_pipe(pipes: Pipes) -> None:
    pipes.pair(max_instances=1, default_timeout_ms=30)
    with fails(231):
        pipes.connect(timeout=0)
    for call in (
        lambda: pipes.connect(timeout=0.05),
        lambda: pipes.transport.wait(pipes.name, 0.05, use_default=False),
        lambda: pipes.transport.wait(pipes.name, None, use_default=True),
    ):
        with fails(121):
            call()


def test_a_client_that_waits_gets_the_next_instance(pipes: Pipes) -> None:
    pipes.pair()
    waiting = blocked(lambda: pipes.connect(timeout=20))
    end = pipes.create()
    assert not waiting.result().closed
    assert end.connect(DEADLINE) in (0, 535)
    pipes.serve(end)


def test_the_last_instance_goes_while_a_client_waits(pipes: Pipes) -> None:
    server, client = pipes.pair()
    waiting = blocked(lambda: pipes.connect(timeout=20))
    server.close()
    client.close()
    assert waiting.code() == 2


def test_message_mode_is_refused_on_a_byte_pipe(pipes: Pipes) -> None:
    end = pipes.create(message_mode=False)
    with fails(87):
        pipes.connect()
    end.close_handle()


# ---- Reading and writing


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1 << 20])
def test_messages_of_all_sizes_keep_their_bounds(pipes: Pipes, size: int) -> None:
    server, client = pipes.pair()
    data = bytes(index * 7 & 0xFF for index in range(size))
    sending = Background(lambda: [server.send(data, timeout=20) for _ in range(3)])
    assert [client.recv(timeout=20) for _ in range(3)] == [data] * 3
    sending.result()


def test_a_write_over_the_quota_waits_for_its_reader(pipes: Pipes) -> None:
    server, client = pipes.pair(out_buffer_size=10)
    server.send(b"12345678", timeout=0)
    sending = blocked(lambda: server.send(b"abcde", timeout=20))
    assert client.peek(20).available == 13
    assert client.recv(timeout=0) == b"12345678"
    sending.result()
    assert client.recv(timeout=0) == b"abcde"


def test_a_write_that_times_out_was_never_sent(pipes: Pipes) -> None:
    server, client = pipes.pair(out_buffer_size=10)
    for timeout in (0, 0.02):
        with fails(121):
            server.send(bytes(11), timeout=timeout)
    assert client.peek().available == 0
    server.send(bytes(10), timeout=0)


def test_reading_and_writing_at_once_on_one_end(pipes: Pipes) -> None:
    server, client = pipes.pair()
    reading = blocked(lambda: client.recv(timeout=20))
    client.send(b"while it reads", timeout=DEADLINE)
    assert server.recv(timeout=DEADLINE) == b"while it reads"
    server.send(b"answer")
    assert reading.result() == b"answer"


def test_parts_of_a_message(pipes: Pipes) -> None:
    server, client = pipes.pair()
    server.send(b"0123456789")
    server.send(b"next")
    buffer = bytearray(4)
    assert client.recv_into(buffer, timeout=0) == 4
    assert (bytes(buffer), client.more_data) == (b"0123", True)
    peek = client.peek(2)
    assert (peek.data, peek.available, peek.left) == (b"45", 10, 4)
    assert client.recv(timeout=0) == b"456789"
    assert not client.more_data
    assert client.recv(timeout=0) == b"next"


@pytest.mark.parametrize("limit", [0, 3, 70_000])
def test_a_message_that_is_too_long_stays(pipes: Pipes, limit: int) -> None:
    server, client = pipes.pair()
    data = bytes(80_000)
    sending = Background(lambda: server.send(data, timeout=20))
    client.max_message_size = limit
    with fails(234):
        client.recv(timeout=DEADLINE)
    peek = client.peek(10)
    assert (peek.data, peek.available, peek.left) == (bytes(10), 80_000, 79_990)
    client.max_message_size = 80_000
    assert client.recv(timeout=DEADLINE) == data
    sending.result()


def test_bytes_come_as_they_are_there(pipes: Pipes) -> None:
    server, client = pipes.pair(message_mode=False)
    server.write(b"abc")
    server.write(b"def")
    assert client.read(4, timeout=0) == b"abcd"
    assert client.read(100, timeout=0) == b"ef"
    with fails(121):
        client.read(1, timeout=0.02)


def test_transact_sends_and_returns_the_next_message(pipes: Pipes) -> None:
    server, client = pipes.pair()
    asking = blocked(lambda: client.transact(b"question", timeout=20))
    server.send(server.recv(timeout=DEADLINE).upper() * 10_000)
    assert asking.result(20) == b"QUESTION" * 10_000
    server.send(b"unread")
    with fails(231):
        client.transact(b"x", timeout=0)
    assert client.recv(timeout=0) == b"unread"
    with fails(121):
        client.transact(b"stays sent", timeout=0.02)
    assert server.recv(timeout=0) == b"stays sent"


# ---- Flush, the end


def test_flush_waits_until_it_is_read(pipes: Pipes) -> None:
    server, client = pipes.pair()
    server.flush(timeout=DEADLINE)
    server.send(b"x")
    with fails(121):
        server.flush(timeout=0.05)
    flushing = blocked(lambda: server.flush(timeout=20))
    assert client.recv(timeout=0) == b"x"
    flushing.result()


def test_close_leaves_what_was_written(pipes: Pipes) -> None:
    server, client = pipes.pair()
    server.send(b"last words")
    server.close()
    assert client.recv(timeout=DEADLINE) == b"last words"
    with fails(109):
        client.recv(timeout=DEADLINE)
    with fails(232):
        client.send(b"x")


def test_abort_of_the_server_discards(pipes: Pipes) -> None:
    server, client = pipes.pair()
    server.send(b"never read")
    server.abort()
    with fails(233):
        client.recv(timeout=DEADLINE)
    with fails(233):
        client.send(b"x")


def test_close_ends_the_calls_of_other_threads(pipes: Pipes) -> None:
    server, client = pipes.pair(in_buffer_size=0)
    calls = [blocked(lambda: client.recv(timeout=20)), blocked(lambda: client.send(b"x", timeout=20))]
    client.close(timeout=0)
    assert calls[0].code() == 109
    # What the write says is so: where a close leaves it to the peer, it has succeeded.
    if calls[1].code() == 0:
        assert server.recv(timeout=DEADLINE) == b"x"
    else:
        assert calls[1].code() == 109
    with fails(109):
        server.recv(timeout=DEADLINE)
    with fails(6):
        client.recv()


def test_close_gives_a_write_its_time(pipes: Pipes) -> None:
    server, client = pipes.pair(out_buffer_size=4)
    sending = blocked(lambda: server.send(b"12345678", timeout=20))
    closing = Background(lambda: server.close(timeout=20))
    assert client.recv(timeout=DEADLINE) == b"12345678"
    sending.result()
    closing.result()
    with fails(109):
        client.recv(timeout=DEADLINE)


def test_the_peers_close_ends_calls(pipes: Pipes) -> None:
    server, client = pipes.pair(out_buffer_size=0)
    calls = [blocked(lambda: server.recv(timeout=20)), blocked(lambda: server.send(b"x", timeout=20))]
    client.close()
    assert [call.code() for call in calls] == [109, 109]


# ---- What is told


def test_info_and_peer(pipes: Pipes) -> None:
    server, client = pipes.pair(in_buffer_size=111, out_buffer_size=222, max_instances=7)
    for pipe in (server, client):
        info = pipe.info
        assert (info.type, info.read_mode, info.direction) == ("message", "message", "duplex")
        assert (info.in_buffer_size, info.out_buffer_size, info.max_instances, info.instances) == (111, 222, 7, 1)
        assert info.is_server == (pipe is server)
        assert pipe.peer.pid == os.getpid()


def test_many_messages_both_ways_in_threads(pipes: Pipes) -> None:
    server, client = pipes.pair()
    stop = time.monotonic() + 20

    def echo() -> None:
        for _ in range(500):
            server.send(server.recv(timeout=20))

    echoing = Background(echo)
    answers: list[bytes] = []
    lock = threading.Lock()

    def ask(number: int) -> None:
        for count in range(250):
            with lock:
                client.send(b"%d-%d" % (number, count))
                answers.append(client.recv(timeout=20))

    askers = [Background(functools.partial(ask, number)) for number in range(2)]
    for asker in askers:
        asker.result(max(1.0, stop - time.monotonic()))
    echoing.result()
    assert len(set(answers)) == 500
