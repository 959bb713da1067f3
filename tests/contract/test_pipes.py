"""What every transport keeps to, through its own interface: the same tests for the engine and for Windows' pipes."""

from __future__ import annotations

import array
import asyncio
import ctypes
import functools
import inspect
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

import npipe
from npipe.names import parse_name
from npipe.options import ACCESS_READ, ACCESS_WRITE, CreateOptions, deadline_of
from npipe.transports import default, default_async
from npipe.transports.threads import ThreadsTransport
from tests.aio.helpers import LOOPS
from tests.helpers import Background, blocked, code_of, fails, sleeps, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from npipe.transports import AsyncInstances, AsyncTransport, Transport

DEADLINE = 5.0
BOTH = ACCESS_READ | ACCESS_WRITE
T = TypeVar("T")


KINDS = ("blocking", "loop", "threads")
"""The machine's transport as it is, its counterpart for event loops, and itself made awaitable by threads."""


def options_of(**changes: Any) -> CreateOptions:
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
    return CreateOptions(**{**values, **changes})


class Pipes:
    """Instances and connections of one name, all closed in the end."""

    def __init__(self, name: str) -> None:
        self.transport: Transport = default()
        self.name = parse_name(name)
        self._opened: list[Any] = []

    def create(self, **changes: Any) -> Any:
        return self.transport.create(self.name, options_of(**changes), first_instance=False)

    def connect(self, *, message_mode: bool = True, access: int = BOTH, timeout: float | None = DEADLINE) -> Any:
        return self._kept(
            self.transport.connect(
                self.name, message_mode=message_mode, access=access, timeout=timeout, verify_owner=True
            )
        )

    def wait(self, timeout: float | None, *, use_default: bool = False) -> None:
        self.transport.wait(self.name, timeout, use_default=use_default)

    def serve(self, end: Any) -> Any:
        """The connected instance's pipe, without another instance."""
        return self._kept(end.pipe(lambda _end, _discard: None))

    def pair(self, *, message_mode: bool = True, **changes: Any) -> tuple[Any, Any]:
        end = self.create(message_mode=message_mode, **changes)
        client = self.connect(message_mode=message_mode)
        assert end.connect(DEADLINE) in (0, 535)
        return self.serve(end), client

    def blocked(self, call: Callable[[], T]) -> Background[T]:
        """Starts a call that must wait, and returns when it does."""
        return blocked(call)

    def _kept(self, pipe: Any) -> Any:
        self._opened.append(pipe)
        return pipe

    def close(self) -> None:
        for pipe in self._opened:
            pipe.abort()


class LoopPipes(Pipes):
    """The same through a transport for event loops, whose loop is a thread's."""

    def __init__(self, name: str, transport: AsyncTransport, *, threads: bool) -> None:
        super().__init__(name)
        self.over_loop = transport
        self._threads = threads
        self._under_way = 0  # calls in the loop
        self._ends: list[LoopEnd] = []
        self.loop = LOOPS["asyncio"]()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What a function returns that is called in the loop, or what its result gives if that is awaitable."""

        async def main() -> Any:
            self._under_way += 1
            try:
                result = function(*arguments, **options)
                return await result if inspect.isawaitable(result) else result
            finally:
                self._under_way -= 1

        return asyncio.run_coroutine_threadsafe(main(), self.loop).result()

    def create(self, **changes: Any) -> LoopEnd:
        self._ends.append(LoopEnd(self, options_of(**changes)))
        return self._ends[-1]

    def connect(self, *, message_mode: bool = True, access: int = BOTH, timeout: float | None = DEADLINE) -> Any:
        options = {"message_mode": message_mode, "access": access, "timeout": timeout, "verify_owner": True}
        return self._kept(LoopPipe(self, self.run(self.over_loop.connect, self.name, **options)))

    def wait(self, timeout: float | None, *, use_default: bool = False) -> None:
        self.run(self.over_loop.wait, self.name, timeout, use_default=use_default)

    def serve(self, end: LoopEnd) -> Any:
        end.close_handle()
        return self._kept(LoopPipe(self, end.taken))

    def blocked(self, call: Callable[[], T]) -> Background[T]:
        before = self._under_way
        waiting = Background(call)
        until(lambda: self._under_way > before or not waiting.running)
        for _ in range(3):
            self.run(asyncio.sleep, 0)  # it came to the loop before this
        if self._threads:
            until(lambda: all(sleeps(one) for one in threading.enumerate() if one.name == "npipe-worker"))
        assert waiting.running, f"it did not wait: {waiting.code()}"
        return waiting

    def close(self) -> None:
        for end in self._ends:
            end.close_handle()
        for pipe in self._opened:
            self.run(pipe.pipe.abort)
            self.run(pipe.pipe.close)
        until(lambda: not any(one.name == "npipe-worker" for one in threading.enumerate()))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class LoopEnd:
    """What an AsyncTransport gives a listener, as one instance."""

    def __init__(self, pipes: LoopPipes, options: CreateOptions) -> None:
        self._pipes = pipes
        self.taken: Any = None
        self.instances: AsyncInstances = pipes.run(
            pipes.over_loop.listen, pipes.name, options, first_instance=False, on_client=lambda: None
        )

    def connect(self, timeout: float | None = None) -> int:
        """Take a client, whose pipe is `taken` then."""
        self._pipes.run(self._take, deadline_of(timeout))
        return 0

    async def _take(self, deadline: float | None) -> None:
        while True:
            if self.instances.closed:
                raise npipe.PipeClosedError(109)
            self.taken = self.instances.take()
            if self.taken is not None:
                return
            if not await self.instances.wait(deadline):
                raise npipe.PipeTimeoutError(121)

    def close_handle(self) -> None:
        self._pipes.run(self.instances.close)


class LoopPipe:
    """A pipe of an event loop, whose methods wait in the thread that calls."""

    def __init__(self, pipes: LoopPipes, pipe: Any) -> None:
        vars(self).update(pipes=pipes, pipe=pipe)

    def __getattr__(self, name: str) -> Any:
        value = self.pipes.run(getattr, self.pipe, name)
        return functools.partial(self.pipes.run, value) if callable(value) else value

    def __setattr__(self, name: str, value: Any) -> None:
        self.pipes.run(setattr, self.pipe, name, value)


@pytest.fixture(params=KINDS)
def pipes(request: pytest.FixtureRequest, name: str) -> Iterator[Pipes]:
    made: Pipes
    if request.param == "blocking":
        made = Pipes(name)
    elif request.param == "loop":
        made = LoopPipes(name, default_async(), threads=False)
    else:
        made = LoopPipes(name, ThreadsTransport(default()), threads=True)
    yield made
    made.close()


@pytest.fixture
def blocking(name: str) -> Iterator[Pipes]:
    """For what only a blocking transport's instances have: an AsyncTransport has a listener's rules in it."""
    made = Pipes(name)
    yield made
    made.close()


@pytest.fixture(params=KINDS[1:])
def looped(request: pytest.FixtureRequest, name: str) -> Iterator[LoopPipes]:
    threads = request.param == "threads"
    made = LoopPipes(name, ThreadsTransport(default()) if threads else default_async(), threads=threads)
    yield made
    made.close()


def test_the_transport_is_the_machines_own() -> None:
    wing = "native" if sys.platform == "win32" else "local"
    for found in (default(), default_async()):
        assert type(found).__module__.startswith(f"npipe.transports.{wing}.")


# ---- Instances


def test_an_instance_listens_from_its_creation_on(blocking: Pipes) -> None:
    end = blocking.create()
    blocking.wait(0)
    client = blocking.connect(timeout=0)
    assert end.connect(0) == 535
    server = blocking.serve(end)
    client.send(b"x")
    assert server.recv(timeout=DEADLINE) == b"x"


def test_a_client_ends_a_wait_for_it(pipes: Pipes) -> None:
    end = pipes.create()
    waiting = pipes.blocked(lambda: end.connect(20))
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


def test_a_client_that_has_left_is_232_and_what_it_wrote_is_there(blocking: Pipes) -> None:
    end = blocking.create()
    client = blocking.connect()
    client.send(b"bye")
    client.close()
    with fails(232):
        end.connect(DEADLINE)
    assert end.has_data()
    server = blocking.serve(end)
    assert server.recv(timeout=DEADLINE) == b"bye"
    with fails(109):
        server.recv(timeout=DEADLINE)


def test_a_client_that_has_left_nothing(blocking: Pipes) -> None:
    end = blocking.create()
    blocking.connect().close()
    with fails(232):
        end.connect(DEADLINE)
    assert not end.has_data()
    end.close_handle()


def test_the_limit_of_instances(blocking: Pipes) -> None:
    end = blocking.create(max_instances=1)
    with fails(231):
        end.another()
    with fails(231):
        blocking.create(max_instances=1)
    end.close_handle()
    with fails(2):
        blocking.connect()


def test_a_replaced_instance_listens_at_once(blocking: Pipes) -> None:
    end = blocking.create(max_instances=1)
    client = blocking.connect()
    end.connect(DEADLINE)
    client.close()
    fresh = end.replace()
    blocking.wait(0)
    second = blocking.connect(timeout=0)
    assert fresh.connect(DEADLINE) == 535
    second.send(b"second")
    assert blocking.serve(fresh).recv(timeout=DEADLINE) == b"second"


def test_closing_an_instance_ends_its_wait(pipes: Pipes) -> None:
    end = pipes.create()
    waiting = pipes.blocked(lambda: end.connect(20))
    end.close_handle()
    assert waiting.code() == 109


def test_closed_instances_are_counted(blocking: Pipes) -> None:
    before = blocking.transport.instances_closed()
    end = blocking.create()
    waiting = blocking.blocked(lambda: blocking.transport.wait_instance_closed(blocking.name, before, 20))
    end.close_handle()
    waiting.result()
    assert blocking.transport.instances_closed() != before


# ---- Clients


def test_no_pipe_is_2_at_once(pipes: Pipes) -> None:
    for call in (pipes.connect, lambda: pipes.wait(None)):
        with fails(2):
            call()


def test_a_busy_pipe(pipes: Pipes) -> None:
    pipes.pair(max_instances=1, default_timeout_ms=30)
    with fails(231):
        pipes.connect(timeout=0)
    for call in (
        lambda: pipes.connect(timeout=0.05),
        lambda: pipes.wait(0.05),
        lambda: pipes.wait(None, use_default=True),
    ):
        with fails(121):
            call()


def test_a_client_that_waits_gets_the_next_instance(pipes: Pipes) -> None:
    pipes.pair()
    waiting = pipes.blocked(lambda: pipes.connect(timeout=20))
    end = pipes.create()
    assert not waiting.result().closed
    assert end.connect(DEADLINE) in (0, 535)
    pipes.serve(end)


def test_the_last_instance_goes_while_a_client_waits(pipes: Pipes) -> None:
    server, client = pipes.pair()
    waiting = pipes.blocked(lambda: pipes.connect(timeout=20))
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
    sending = pipes.blocked(lambda: server.send(b"abcde", timeout=20))
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
    reading = pipes.blocked(lambda: client.recv(timeout=20))
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
    asking = pipes.blocked(lambda: client.transact(b"question", timeout=20))
    server.send(server.recv(timeout=DEADLINE).upper() * 10_000)
    assert asking.result(20) == b"QUESTION" * 10_000
    server.send(b"unread")
    with fails(231):
        client.transact(b"x", timeout=0)
    assert client.recv(timeout=0) == b"unread"
    with fails(121):
        client.transact(b"stays sent", timeout=0.02)
    assert server.recv(timeout=0) == b"stays sent"


def timed_out(client: Any, request: bytes) -> None:
    """A transaction whose request is sent, and whose answer does not come in time."""
    with pytest.raises(npipe.PipeTimeoutError) as raised:
        client.transact(request, timeout=0.02)
    assert raised.value.sent is True
    assert "the request was sent" in str(raised.value)
    assert "nothing was consumed" not in str(raised.value)


def refused(client: Any, why: str = r"recv\(\) the answer, or discard_reply\(\) it") -> None:
    with pytest.raises(npipe.PipeStateError, match=why) as raised:
        client.transact(b"next", timeout=DEADLINE)
    assert raised.value.winerror == 996


@pytest.mark.parametrize("there", [False, True], ids=["before it has come", "when it is there"])
def test_an_answer_that_is_owed_is_not_taken_for_the_next_ones(pipes: Pipes, there: bool) -> None:
    server, client = pipes.pair()
    timed_out(client, b"first")
    assert server.recv(timeout=DEADLINE) == b"first"
    if there:
        server.send(b"FIRST")
    refused(client)
    refused(client)
    with fails(121):
        server.recv(timeout=0)  # nothing of them was sent
    if not there:
        server.send(b"FIRST")
    assert client.recv(timeout=DEADLINE) == b"FIRST"
    asking = pipes.blocked(lambda: client.transact(b"second", timeout=20))
    server.send(server.recv(timeout=DEADLINE).upper())
    assert asking.result() == b"SECOND"


def test_a_reply_is_discarded_whatever_its_length(pipes: Pipes) -> None:
    server, client = pipes.pair(in_buffer_size=400_000, out_buffer_size=400_000)
    client.discard_reply(timeout=0)  # none is owed
    for size in (0, 5, 200_000):
        timed_out(client, b"question")
        assert server.recv(timeout=DEADLINE) == b"question"
        with fails(121):
            client.discard_reply(timeout=0.02)
        refused(client)
        server.send(b"x" * size)
        client.discard_reply(timeout=DEADLINE)
        server.send(b"another")
        client.discard_reply(timeout=0)
        assert client.recv(timeout=DEADLINE) == b"another"
    asking = pipes.blocked(lambda: client.transact(b"last", timeout=20))
    server.send(server.recv(timeout=DEADLINE).upper())
    assert asking.result() == b"LAST"


def test_an_answer_read_in_parts_is_owed_until_its_last_part(pipes: Pipes) -> None:
    server, client = pipes.pair()
    timed_out(client, b"question")
    server.recv(timeout=DEADLINE)
    server.send(b"answer")
    buffer = bytearray(4)
    assert client.recv_into(buffer, timeout=DEADLINE) == 4
    refused(client)
    assert client.recv_into(buffer, timeout=DEADLINE) == 2
    asking = pipes.blocked(lambda: client.transact(b"next", timeout=20))
    server.recv(timeout=DEADLINE)
    server.send(b"its own")
    assert asking.result() == b"its own"


def test_an_answer_that_is_too_long_is_owed(pipes: Pipes) -> None:
    server, client = pipes.pair()
    client.max_message_size = 5
    asking = pipes.blocked(lambda: client.transact(b"question", timeout=20))
    server.recv(timeout=DEADLINE)
    server.send(b"answer")
    assert asking.code() == 234
    refused(client, r"longer than max_message_size, and still unread; discard_reply\(\) it, or set a larger")
    client.max_message_size = 6
    assert client.recv(timeout=DEADLINE) == b"answer"
    with fails(121):
        client.transact(b"next", timeout=0)
    assert server.recv(timeout=DEADLINE) == b"next"


def test_sends_and_a_refused_transaction_leave_nothing_owed(pipes: Pipes) -> None:
    server, client = pipes.pair()
    server.send(b"unread")
    with fails(231):
        client.transact(b"x", timeout=0)
    with fails(231):
        client.transact(b"x", timeout=0)
    assert client.recv(timeout=DEADLINE) == b"unread"
    with fails(121):
        client.recv(timeout=0.02)
    asking = pipes.blocked(lambda: client.transact(b"question", timeout=20))
    server.recv(timeout=DEADLINE)
    server.send(b"answer")
    assert asking.result() == b"answer"


def test_an_answer_that_is_too_long_is_discarded_in_spite_of_that(pipes: Pipes) -> None:
    server, client = pipes.pair()
    client.max_message_size = 5
    asking = pipes.blocked(lambda: client.transact(b"question", timeout=20))
    server.recv(timeout=DEADLINE)
    server.send(b"answer")
    assert asking.code() == 234
    client.discard_reply(timeout=DEADLINE)
    timed_out(client, b"next")  # nothing is known of the next one's length
    refused(client)


def test_what_cannot_be_sent_is_told_before_an_answer_that_is_owed(pipes: Pipes) -> None:
    server, client = pipes.pair()
    timed_out(client, b"question")
    wrong: Any = "text"
    with pytest.raises(TypeError):
        client.transact(wrong, timeout=DEADLINE)
    assert server.recv(timeout=DEADLINE) == b"question"


def test_a_transaction_in_progress_refuses_another_one_and_is_owed_its_answer_afterwards(blocking: Pipes) -> None:
    server, client = blocking.pair()
    asking = blocking.blocked(lambda: client.transact(b"first", timeout=0.5))
    with fails(231):
        client.transact(b"second", timeout=DEADLINE)
    client.discard_reply(timeout=0)  # nothing is owed as long as somebody waits for it
    assert asking.code() == 121
    refused(client)
    assert server.recv(timeout=DEADLINE) == b"first"
    server.send(b"FIRST")
    assert client.recv(timeout=DEADLINE) == b"FIRST"
    with fails(121):
        server.recv(timeout=0)


def test_no_transaction_gets_the_answer_of_one_that_ends_beside_it(blocking: Pipes) -> None:
    server, client = blocking.pair()
    for number in range(30):
        first = Background(lambda: client.transact(b"first", timeout=0.01))
        request = server.recv(timeout=DEADLINE)

        def second() -> bytes:
            while True:  # until the first one has ended, and no longer
                try:
                    answer: bytes = client.transact(b"second", timeout=DEADLINE)
                except npipe.PipeBusyError:
                    continue
                return answer

        asking = Background(second)
        assert first.code() == 121
        assert asking.code() == 996, number
        server.send(request.upper())
        assert client.recv(timeout=DEADLINE) == b"FIRST"


def test_an_answer_that_another_thread_has_received_is_not_owed(blocking: Pipes) -> None:
    """Whichever of the two gets it, also in the moment in which the transaction's time is over."""
    server, client = blocking.pair()
    for number in range(40):
        asking = Background(functools.partial(client.transact, b"question", timeout=0.0002 * number))
        assert server.recv(timeout=DEADLINE) == b"question"
        receiving = Background(lambda: client.recv(timeout=0.3))
        server.send(b"answer")
        if asking.code() == 0:
            assert receiving.code() == 121
        else:
            assert receiving.result() == b"answer"
        client.discard_reply(timeout=0)
        answered = blocking.blocked(lambda: client.transact(b"next", timeout=20))
        assert server.recv(timeout=DEADLINE) == b"next"
        server.send(b"NEXT")
        assert answered.result() == b"NEXT"


def test_two_discards_at_once_drop_one_answer(blocking: Pipes) -> None:
    server, client = blocking.pair()
    timed_out(client, b"question")
    discards = [blocking.blocked(lambda: client.discard_reply(timeout=20))]
    discards.append(Background(lambda: client.discard_reply(timeout=20)))
    server.send(b"answer")
    for discard in discards:
        discard.result()
    server.send(b"an event")
    assert client.recv(timeout=DEADLINE) == b"an event"


def test_a_discard_behind_a_receive_that_gets_the_answer_drops_nothing(blocking: Pipes) -> None:
    server, client = blocking.pair()
    timed_out(client, b"question")
    receiving = blocking.blocked(lambda: client.recv(timeout=20))
    discard = blocking.blocked(lambda: client.discard_reply(timeout=20))
    server.send(b"answer")
    assert receiving.result() == b"answer"
    server.send(b"an event")
    discard.result()
    assert client.recv(timeout=DEADLINE) == b"an event"


def test_a_pipe_that_is_owed_an_answer_says_that_it_is_closed(pipes: Pipes) -> None:
    server, client = pipes.pair()
    timed_out(client, b"question")
    server.close()
    with fails(109):
        client.discard_reply(timeout=DEADLINE)
    client.close()
    with fails(6):
        client.transact(b"x", timeout=DEADLINE)


def test_an_empty_message_is_one_that_is_unread_and_stays_so_until_it_is_read(pipes: Pipes) -> None:
    server, client = pipes.pair()
    assert not client._has_unread()
    server.send(b"")
    assert client.peek() == (b"", 0, 0)
    for _ in range(2):
        assert client._has_unread()
    assert client.recv(timeout=DEADLINE) == b""
    assert not client._has_unread()
    server.send(b"more")
    assert client._has_unread()
    assert client.recv(timeout=DEADLINE) == b"more"
    assert not client._has_unread()


# ---- Arguments


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (-1, ValueError),
        (-0.5, ValueError),
        (float("nan"), ValueError),
        (True, ValueError),
        ("soon", TypeError),
        (b"1", TypeError),
    ],
)
def test_a_time_out_is_checked_before_anything_else(pipes: Pipes, timeout: Any, error: type[Exception]) -> None:
    """Also where there is nothing to wait for, and on a pipe that is closed."""
    server, client = pipes.pair()
    server.send(b"message")
    calls: list[Callable[[], object]] = [
        lambda: client.send(b"x", timeout=timeout),
        lambda: client.recv(timeout=timeout),
        lambda: client.recv_into(bytearray(9), timeout=timeout),
        lambda: client.recv_into(bytearray(9), exact=True, timeout=timeout),
        lambda: client.transact(b"x", timeout=timeout),
        lambda: client.discard_reply(timeout=timeout),
        lambda: client.flush(timeout=timeout),
        lambda: client.close(timeout=timeout),
    ]
    for _ in range(2):
        for call in calls:
            with pytest.raises(error, match="a timeout is"):
                call()
        assert client.closed or client.recv(timeout=DEADLINE) == b"message"
        client.close()
    with fails(109):
        server.recv(timeout=DEADLINE)  # nothing was sent


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("soon", TypeError)])
def test_so_is_that_of_a_stream(pipes: Pipes, timeout: Any, error: type[Exception]) -> None:
    server, client = pipes.pair(message_mode=False)
    server.write(b"bytes")
    calls: list[Callable[[], object]] = [
        lambda: client.write(b"x", timeout=timeout),
        lambda: client.read(2, timeout=timeout),
        lambda: client.read(timeout=timeout),
        lambda: client.readinto(bytearray(9), timeout=timeout),
    ]
    for _ in range(2):
        for call in calls:
            with pytest.raises(error, match="a timeout is"):
                call()
        assert client.closed or client.read(9, timeout=DEADLINE) == b"bytes"
        client.close()
    with fails(109):
        server.read(1, timeout=DEADLINE)


OBJECTS: Any = ctypes.py_object * 2
NO_CONTENT: dict[str, Any] = {
    "objects": OBJECTS(b"a", b"b"),
    "C strings": (ctypes.c_char_p * 2)(b"a", b"b"),
    "addresses": (ctypes.c_void_p * 2)(1, 2),
    "pointers": (ctypes.POINTER(ctypes.c_int) * 2)(),
    "wide text": (ctypes.c_wchar * 2)("a", "b"),
}
CONTENT: dict[str, Any] = {
    "bytearray": bytearray(b"ab"),
    "a view": memoryview(b"xaby")[1:3],
    "whole numbers": array.array("i", [1, 2]),
    "fractions": array.array("d", [0.5, -1]),
    "C's numbers": (ctypes.c_int16 * 2)(1, 2),
    "chars": ctypes.create_string_buffer(b"ab"),
    "a record": type("Record", (ctypes.Structure,), {"_fields_": [("P", ctypes.c_int), ("O", ctypes.c_double)]})(1, 2),
    "two dimensions": memoryview(b"abcdef").cast("B", (2, 3)),
}


@pytest.mark.parametrize("kind", NO_CONTENT)
def test_what_is_neither_bytes_nor_numbers_is_not_sent_nor_read_into(pipes: Pipes, kind: str) -> None:
    server, client = pipes.pair()
    server.send(b"message")
    before = memoryview(NO_CONTENT[kind]).tobytes()
    for call in (client.send, client.transact, client.recv_into, functools.partial(client.recv_into, exact=True)):
        with pytest.raises(TypeError, match="a pipe carries bytes and numbers"):
            call(NO_CONTENT[kind], timeout=DEADLINE)
    assert memoryview(NO_CONTENT[kind]).tobytes() == before
    assert client.recv(timeout=DEADLINE) == b"message"
    with fails(121):
        server.recv(timeout=0)


@pytest.mark.parametrize("kind", NO_CONTENT)
def test_nor_is_it_by_a_stream(pipes: Pipes, kind: str) -> None:
    server, client = pipes.pair(message_mode=False)
    server.write(b"bytes")
    for call in (client.write, client.readinto):
        with pytest.raises(TypeError, match="a pipe carries bytes and numbers"):
            call(NO_CONTENT[kind], timeout=DEADLINE)
    assert client.read(9, timeout=DEADLINE) == b"bytes"
    with fails(121):
        server.read(1, timeout=0)


@pytest.mark.parametrize("kind", CONTENT)
def test_bytes_and_numbers_of_any_form_are_sent(pipes: Pipes, kind: str) -> None:
    server, client = pipes.pair()
    client.send(CONTENT[kind], timeout=DEADLINE)
    assert server.recv(timeout=DEADLINE) == memoryview(CONTENT[kind]).tobytes()


@pytest.mark.parametrize("given", [0.1, 4096])
def test_what_recv_is_given_by_position_is_refused_with_the_names(pipes: Pipes, given: Any) -> None:
    server, client = pipes.pair()
    server.send(b"message")
    with pytest.raises(TypeError, match=rf"recv\(timeout={given}\), and there is no size"):
        client.recv(given)
    assert client.recv(timeout=DEADLINE) == b"message"


@pytest.mark.parametrize("timeout", [0, 5, 10**30, 2.5, float("inf"), None])
def test_whole_numbers_and_infinity_are_time_outs(pipes: Pipes, timeout: Any) -> None:
    server, client = pipes.pair()
    server.send(b"message", timeout=timeout)
    assert client.recv(timeout=timeout) == b"message"


# ---- A whole message into a buffer


@pytest.mark.parametrize("size", [5, 300_000])
@pytest.mark.parametrize("waits", [False, True], ids=["it is there", "it is waited for"])
def test_a_message_that_does_not_fit_an_exact_read_stays_whole(pipes: Pipes, size: int, waits: bool) -> None:
    server, client = pipes.pair(in_buffer_size=400_000, out_buffer_size=400_000)
    message = bytes(range(1, 6)) * (size // 5)
    small, fitting = bytearray(size - 1), bytearray(size)
    if waits:
        reading = pipes.blocked(lambda: client.recv_into(small, exact=True, timeout=20))
        server.send(message)
        assert reading.code() == 234
    else:
        server.send(message)
    with pytest.raises(npipe.PipeMessageTooLargeError, match=f"{size - 1} bytes; nothing was consumed") as raised:
        client.recv_into(small, exact=True, timeout=DEADLINE)
    assert raised.value.winerror == 234
    assert not client.more_data
    assert client.peek() == (b"", size, size)
    assert client.recv_into(fitting, exact=True, timeout=DEADLINE) == size
    assert fitting == message
    server.send(b"")
    assert client.recv_into(fitting, exact=True, timeout=DEADLINE) == 0
    assert fitting == message
    with fails(121):
        client.recv_into(fitting, exact=True, timeout=0.02)


def test_an_exact_read_behind_a_part_is_of_the_rest(pipes: Pipes) -> None:
    server, client = pipes.pair()
    server.send(b"abcdefgh")
    assert client.recv_into(bytearray(3), timeout=DEADLINE) == 3
    with fails(234):
        client.recv_into(bytearray(4), exact=True, timeout=DEADLINE)
    assert client.more_data
    rest = bytearray(9)
    assert client.recv_into(rest, exact=True, timeout=DEADLINE) == 5
    assert rest[:5] == b"defgh"
    assert not client.more_data


def test_an_exact_read_takes_an_answer_that_is_owed(pipes: Pipes) -> None:
    server, client = pipes.pair()
    timed_out(client, b"question")
    server.recv(timeout=DEADLINE)
    server.send(b"answer")
    with fails(234):
        client.recv_into(bytearray(5), exact=True, timeout=DEADLINE)
    refused(client)
    assert client.recv_into(bytearray(6), exact=True, timeout=DEADLINE) == 6
    asking = pipes.blocked(lambda: client.transact(b"next", timeout=20))
    server.send(server.recv(timeout=DEADLINE))
    assert asking.result() == b"next"


# ---- Flush, the end


def test_flush_waits_until_it_is_read(pipes: Pipes) -> None:
    server, client = pipes.pair()
    server.flush(timeout=DEADLINE)
    server.send(b"x")
    with fails(121):
        server.flush(timeout=0.05)
    flushing = pipes.blocked(lambda: server.flush(timeout=20))
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
    calls = [pipes.blocked(lambda: client.recv(timeout=20)), pipes.blocked(lambda: client.send(b"x", timeout=20))]
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
    sending = pipes.blocked(lambda: server.send(b"12345678", timeout=20))
    closing = Background(lambda: server.close(timeout=20))
    assert client.recv(timeout=DEADLINE) == b"12345678"
    sending.result()
    closing.result()
    with fails(109):
        client.recv(timeout=DEADLINE)


def test_the_peers_close_ends_calls(pipes: Pipes) -> None:
    server, client = pipes.pair(out_buffer_size=0)
    calls = [pipes.blocked(lambda: server.recv(timeout=20)), pipes.blocked(lambda: server.send(b"x", timeout=20))]
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
    stop = time.monotonic() + 100  # some thousand switches of threads, which Wine makes slowly beside other work

    def echo() -> None:
        for _ in range(500):
            server.send(server.recv(timeout=100))

    echoing = Background(echo)
    answers: list[bytes] = []
    lock = threading.Lock()

    def ask(number: int) -> None:
        for count in range(250):
            with lock:
                client.send(b"%d-%d" % (number, count))
                answers.append(client.recv(timeout=100))

    askers = [Background(functools.partial(ask, number)) for number in range(2)]
    for asker in askers:
        asker.result(max(1.0, stop - time.monotonic()))
    echoing.result()
    assert len(set(answers)) == 500


# ---- On an event loop


def test_a_listeners_next_instance_and_its_place_at_the_limit(looped: LoopPipes) -> None:
    end = looped.create(max_instances=2)
    for _ in range(3):
        connected = []
        for _ in range(2):
            connected.append(looped.connect())
            end.connect(DEADLINE)
            connected.append(LoopPipe(looped, end.taken))
        with fails(231):
            looped.connect(timeout=0)
        with fails(121):
            end.connect(0.02)
        for pipe in connected:
            pipe.close()
    assert not looped.connect().closed


def test_a_closed_pipe_leaves_its_place_to_a_new_instance_though_nobody_accepts(looped: LoopPipes) -> None:
    end = looped.create(max_instances=1)
    client = looped.connect()
    end.connect(DEADLINE)
    server = LoopPipe(looped, end.taken)
    client.close()
    server.close()
    if sys.platform == "win32":  # the only instance is disconnected first, after a moment for its client
        until(lambda: code_of(lambda: looped.wait(0)) == 0)
    assert not looped.connect(timeout=0).closed


def test_a_listener_passes_over_who_left_nothing_and_gives_what_others_left(looped: LoopPipes) -> None:
    end = looped.create()
    looped.connect().close()
    leaving = looped.blocked(lambda: end.connect(20))
    client = looped.connect()
    client.send(b"bye")
    client.close()
    leaving.result()
    server = looped.serve(end)
    assert server.recv(timeout=DEADLINE) == b"bye"
    with fails(109):
        server.recv(timeout=DEADLINE)


def cancelled(pipes: LoopPipes, call: Callable[[], Awaitable[Any]]) -> None:
    """Fails unless a call waits; it is cancelled then."""

    async def main() -> None:
        task = asyncio.ensure_future(call())
        await asyncio.sleep(0.02)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    pipes.run(main)


def test_a_cancelled_read_of_a_message_has_consumed_nothing(looped: LoopPipes) -> None:
    server, client = looped.pair()
    buffer = bytearray(2)
    for read in (lambda: client.pipe.recv(), lambda: client.pipe.recv_into(bytearray(2)), lambda: client.pipe.recv()):
        cancelled(looped, read)
        server.send(b"first")
        server.send(b"second")
        until(lambda: client.peek(100)[1] == 11)
        assert client.peek(3)[0] in (b"fir", b"fi")  # a part may be on its way, behind a read of that size
        assert (client.recv_into(buffer, timeout=DEADLINE), bytes(buffer), client.more_data) == (2, b"fi", True)
        assert client.recv(timeout=DEADLINE) == b"rst"
        assert client.recv(timeout=DEADLINE) == b"second"
        assert not client.more_data
    cancelled(looped, lambda: client.pipe.recv())
    with fails(121):
        client.recv(timeout=0.02)
    server.send(b"")
    assert client.recv(timeout=DEADLINE) == b""
    cancelled(looped, lambda: client.pipe.recv())
    asking = looped.blocked(lambda: client.transact(b"question", timeout=20))
    assert server.recv(timeout=DEADLINE) == b"question"
    server.send(b"answer")
    assert asking.result() == b"answer"


def test_an_exact_read_that_is_cancelled_has_consumed_nothing(looped: LoopPipes) -> None:
    server, client = looped.pair()
    buffer = bytearray(5)
    for size in (5, 3):
        cancelled(looped, lambda: client.pipe.recv_into(buffer, exact=True))
        server.send(b"first")
        until(lambda: client.peek(100)[1] == 5)
        if size < 5:
            with fails(234):
                client.recv_into(bytearray(size), exact=True, timeout=DEADLINE)
        assert client.recv_into(buffer, exact=True, timeout=DEADLINE) == 5
        assert buffer == b"first"


def test_a_cancelled_transaction_leaves_the_pipe_owed_its_answer(looped: LoopPipes) -> None:
    server, client = looped.pair()
    for discard in (False, True):
        cancelled(looped, lambda: client.pipe.transact(b"first"))
        assert server.recv(timeout=DEADLINE) == b"first"
        refused(client)
        server.send(b"FIRST")
        if discard:
            client.discard_reply(timeout=DEADLINE)
        else:
            assert client.recv(timeout=DEADLINE) == b"FIRST"
        asking = looped.blocked(lambda: client.transact(b"second", timeout=20))
        server.send(server.recv(timeout=DEADLINE).upper())
        assert asking.result() == b"SECOND"
    # Behind a read that was cancelled, whose thread may still be there.
    cancelled(looped, lambda: client.pipe.recv())
    timed_out(client, b"third")
    refused(client)
    server.send(server.recv(timeout=DEADLINE).upper())
    assert client.recv(timeout=DEADLINE) == b"THIRD"


def test_a_cancelled_read_of_a_stream_has_consumed_nothing(looped: LoopPipes) -> None:
    server, client = looped.pair(message_mode=False)
    for read in (lambda: client.pipe.read(3), lambda: client.pipe.readinto(bytearray(3)), lambda: client.pipe.read()):
        cancelled(looped, read)
        server.write(b"abcdef")
        until(lambda: client.peek(100)[1] == 6)
        assert client.peek(100)[0] == b"abcdef"
        assert client.read(2, timeout=DEADLINE) == b"ab"
        buffer, data = bytearray(2), b""
        while len(data) < 4:  # what a cancelled read keeps comes by itself
            data += buffer[: looped.run(client.pipe.readinto, buffer, timeout=DEADLINE)]
        assert data == b"cdef"
    cancelled(looped, lambda: client.pipe.read())
    server.write(b"the end")
    server.close()
    assert client.read() == b"the end"


def test_a_cancelled_write_is_sent_as_a_whole_or_not_at_all(looped: LoopPipes) -> None:
    server, client = looped.pair(out_buffer_size=4)
    cancelled(looped, lambda: server.pipe.send(b"12345678"))
    sending = looped.blocked(lambda: server.send(b"abcdefgh", timeout=20))
    messages = [client.recv(timeout=DEADLINE)]
    while messages[-1] != b"abcdefgh":
        messages.append(client.recv(timeout=DEADLINE))
    assert messages in ([b"abcdefgh"], [b"12345678", b"abcdefgh"])
    sending.result()


def test_one_task_at_a_time_reads(looped: LoopPipes) -> None:
    server, client = looped.pair()
    reading = looped.blocked(lambda: client.recv(timeout=20))
    with fails(170):
        client.recv(timeout=0)
    server.send(b"x")
    assert reading.result() == b"x"


def test_a_cancelled_connect_leaves_the_place_to_others(looped: LoopPipes) -> None:
    server, client = looped.pair(max_instances=1)
    access: dict[str, Any] = {"message_mode": True, "access": BOTH, "timeout": 0.5, "verify_owner": True}
    cancelled(looped, lambda: looped.over_loop.connect(looped.name, **access))
    for pipe in (server, client):
        pipe.close()
    with fails(2):
        looped.connect(timeout=DEADLINE)


def test_a_close_ends_writes_that_stand_behind_others(looped: LoopPipes) -> None:
    server, client = looped.pair(out_buffer_size=4)
    writes = [looped.blocked(lambda: server.send(b"12345678", timeout=None)) for _ in range(3)]
    server.close(timeout=0)
    codes = [write.code() for write in writes]
    assert set(codes) <= {0, 109}
    for _ in range(codes.count(0)):
        assert client.recv(timeout=DEADLINE) == b"12345678"
    with fails(109):
        client.recv(timeout=DEADLINE)
