"""The native transport: what reads that fail have taken, and what another thread puts back."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
import win32event

import npipe
import npipe.aio
from tests.aio.helpers import pair, run
from tests.helpers import Background, fails

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from tests.conftest import Ends


class FailureError(Exception):
    """What the read of a test raises."""


def fail(*_: Any, **__: Any) -> Any:
    """Be a read that fails before it has taken anything."""
    raise FailureError


def keep_a_part(pipe: Any, message: bytes) -> None:
    """Be as if a read had been interrupted that has taken three bytes of a longer message."""
    buffer = bytearray(3)
    assert pipe._file.run is not None
    code, count = pipe._read(memoryview(buffer), 5)
    assert (code, count, bytes(buffer)) == (234, 3, message[:3])
    pipe._keep(bytes(buffer), unfinished=True)


RECEIVES: dict[str, Callable[[Any], bytes]] = {
    "recv": lambda pipe: bytes(pipe.recv(timeout=5)),
    "recv_into": lambda pipe: into(pipe),
}


def into(pipe: Any) -> bytes:
    """Return what recv_into reads."""
    buffer = bytearray(100)
    return bytes(buffer[: pipe.recv_into(buffer, timeout=5)])


@pytest.mark.parametrize("first", RECEIVES)
@pytest.mark.parametrize("second", RECEIVES)
def test_what_is_kept_of_a_message_survives_a_read_that_fails(
    ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    pair = ends()
    pair.server.send(b"abcdefgh")
    pair.server.send(b"another")
    keep_a_part(pair.client, b"abcdefgh")
    with monkeypatch.context() as patched:
        patched.setattr(pair.client, "_read", fail)
        with pytest.raises(FailureError):
            RECEIVES[first](pair.client)
    assert RECEIVES[second](pair.client) == b"abcdefgh"
    assert pair.client.recv(timeout=5) == b"another"


@pytest.mark.parametrize("way", RECEIVES)
def test_what_an_interrupted_read_of_the_rest_has_taken_is_kept_behind_it(
    ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    pair = ends()
    pair.server.send(b"abcdefgh")
    pair.server.send(b"another")
    keep_a_part(pair.client, b"abcdefgh")
    read = pair.client._read

    def interrupted(buffer: memoryview, timeout: float | None, *, keep: Any = None, **_: Any) -> Any:
        code, count = read(buffer, timeout)
        if keep is not None:
            keep(code, count)
        else:
            pair.client._keep(buffer[:count], unfinished=code == 234)
        raise FailureError

    with monkeypatch.context() as patched:
        patched.setattr(pair.client, "_read", interrupted)
        with pytest.raises(FailureError):
            RECEIVES[way](pair.client)
    assert pair.client.recv(timeout=5) == b"abcdefgh"
    assert pair.client.recv(timeout=5) == b"another"


@pytest.mark.parametrize("length", [2, 5, 9])
def test_a_part_whose_writer_gave_up_is_not_joined_with_another_message(
    ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Another one has come between the look at what is left and the read: shorter, or longer."""
    pair = ends()
    pair.server.send(b"x" * length)
    pair.client._keep(b"abc", unfinished=True)
    peek = pair.client._peek
    looks: list[int] = []

    def peeked(size: int) -> Any:
        message, data, available, left = peek(size)
        looks.append(left)
        return message, data, available, 6 if len(looks) == 1 else left

    monkeypatch.setattr(pair.client, "_peek", peeked)
    assert pair.client.recv(timeout=5) == b"x" * length


def looks_first(monkeypatch: pytest.MonkeyPatch, pipe: Any, size: int) -> None:
    """Let the next look at a message find one of `size` bytes, as if that one were given up right behind the look."""
    peek = pipe._peek

    def peeked(most: int) -> Any:
        monkeypatch.setattr(pipe, "_peek", peek)
        message, data, available, left = peek(most)
        return message, data, available, size if left else left

    monkeypatch.setattr(pipe, "_peek", peeked)


def test_behind_a_writer_that_gives_up_a_longer_message_is_read_at_once(
    ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of it could not be told from the beginning of the next one, were it given up too."""
    pair = ends(in_buffer_size=1 << 20, out_buffer_size=1 << 20)
    looks_first(monkeypatch, pair.client, 300_000)
    pair.server.send(b"one that is there by now")
    assert pair.client.recv(timeout=5) == b"one that is there by now"
    looks_first(monkeypatch, pair.client, 5)
    pair.server.send(b"long" * 75_000)
    monkeypatch.setattr(pair.client, "_rest", fail)
    assert pair.client.recv(timeout=5) == b"long" * 75_000


def test_behind_a_writer_that_gives_up_an_async_read_takes_a_longer_message_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=1 << 20, out_buffer_size=1 << 20) as (server, client):
            looks_first(monkeypatch, client, 300_000)
            await server.send(b"one that is there by now")
            assert await client.recv(timeout=5) == b"one that is there by now"
            looks_first(monkeypatch, client, 5)
            await server.send(b"long" * 75_000)
            monkeypatch.setattr(client, "_rest", fail)
            assert await client.recv(timeout=5) == b"long" * 75_000

    run(main())


@pytest.mark.parametrize("way", ["recv", "recv_into"])
def test_an_async_read_that_fails_keeps_what_is_kept_of_a_message(
    name: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            await server.send(b"abcdefgh")
            await server.send(b"another")
            buffer = bytearray(3)
            assert await client._read(memoryview(buffer), None) == (234, 3)
            client._keep(bytes(buffer), unfinished=True)
            with monkeypatch.context() as patched:
                patched.setattr(client, "_read_now", fail)
                patched.setattr(client, "_read", fail)
                with pytest.raises(FailureError):
                    await (client.recv() if way == "recv" else client.recv_into(bytearray(100)))
            assert await client.recv() == b"abcdefgh"
            assert await client.recv() == b"another"

    run(main())


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("size", [0, 7, 100_000])
def test_an_async_read_of_all_under_which_the_pipe_is_closed_has_no_ordinary_end(
    name: str, end: str, size: int
) -> None:
    async def main() -> None:
        async with pair(name, mode="byte") as (server, client):
            reading = asyncio.create_task(server.read())
            await client.write(b"x" * size)
            while server.peek().available:
                await asyncio.sleep(0)
            for _ in range(5):
                await asyncio.sleep(0.01)
            if end == "close":
                await server.close()
            else:
                server.abort()
            with fails(109):
                await reading
            with fails(6):
                await server.read(1)

    run(main())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Is set when a thread waits for an operation."""
    from npipe.transports.native import handles

    waiting = threading.Event()
    wait_for_any = handles.wait_for_any

    def noted(handles: Any, timeout: float | None) -> Any:
        waiting.set()
        return wait_for_any(handles, timeout)

    monkeypatch.setattr(handles, "wait_for_any", noted)
    return waiting


@pytest.mark.parametrize("size", [4, 100])
def test_what_is_put_back_wakes_who_waits_to_read(ends: Callable[..., Ends], waits: threading.Event, size: int) -> None:
    pair = ends("byte")
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(pair.client.read(size, timeout=20)))
    waits.clear()
    thread.start()
    assert waits.wait(10)
    pair.client._put_back(b"put back")
    thread.join(10)
    assert found == [b"put back"[:size]]
    pair.server.write(b", and new")
    left = b"put back"[size:]
    data = b""
    while len(data) < len(left) + 9:
        data += pair.client.read(100, timeout=5)
    assert data == left + b", and new"


def test_what_is_put_back_comes_before_what_a_waiting_read_gets(ends: Callable[..., Ends]) -> None:
    pair = ends("byte")
    read = pair.client._read

    def late(buffer: memoryview, timeout: float | None, **more: Any) -> Any:
        result = read(buffer, timeout, **more)
        pair.client._put_back(b"put back, ")  # in just that moment
        pair.client._read = read
        return result

    pair.client._read = late
    pair.server.write(b"then read")
    assert pair.client.read(100, timeout=5) == b"put back, then read"


def test_a_read_of_all_that_fails_leaves_what_it_had_to_another_thread(
    ends: Callable[..., Ends], waits: threading.Event
) -> None:
    pair = ends("byte")
    pair.server.write(b"read before the time was over")
    errors: list[int | None] = []

    def read_all() -> None:
        try:
            pair.client.read(timeout=0.5)
        except npipe.PipeError as error:
            errors.append(error.winerror)

    first = threading.Thread(target=read_all)
    first.start()
    while pair.client.peek().available:
        assert first.is_alive()
    assert pair.client.read(100, timeout=20) == b"read before the time was over"
    first.join(10)
    assert errors == [121]


def test_a_peek_shows_what_is_kept_when_nothing_else_is_left(ends: Callable[..., Ends]) -> None:
    pair = ends("byte")
    pair.client._put_back(b"kept")
    pair.server.close()
    assert pair.client.peek(3) == npipe.Peek(b"kep", 4, 0)
    assert pair.client.read(10) == b"kept"
    with fails(109):
        pair.client.peek()


class NoMemory(bytes):
    """Stands for the type `bytes`, of which the first object cannot be made."""

    failed = 0

    def __new__(cls, data: Any = b"") -> Any:
        NoMemory.failed += 1
        if NoMemory.failed == 1:
            raise MemoryError
        return bytes(data)


@pytest.mark.parametrize("size", [100, 200_000])
@pytest.mark.parametrize("mode", ["byte", "message"])
def test_a_read_without_memory_for_its_result_has_lost_nothing(
    ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch, mode: str, size: int
) -> None:
    from npipe.transports.native import pipes

    pair = ends(mode, in_buffer_size=300_000, out_buffer_size=300_000)
    data = bytes(i % 251 for i in range(size))
    (pair.server.write if mode == "byte" else pair.server.send)(data)

    def read() -> Any:
        return pair.client.read(size, timeout=5) if mode == "byte" else pair.client.recv(timeout=5)

    NoMemory.failed = 0
    with monkeypatch.context() as patched:
        patched.setattr(pipes, "bytes", NoMemory, raising=False)
        with pytest.raises(MemoryError):
            read()
    assert read() == data
    (pair.server.write if mode == "byte" else pair.server.send)(b"next")
    assert read() == b"next"
    assert win32event.WaitForSingleObject(pair.client._file._closing, 0) == win32event.WAIT_TIMEOUT


def test_there_is_no_root_folder() -> None:
    assert npipe.root() is None


def test_a_client_waits_for_a_server_that_is_not_there_yet(name: str) -> None:
    with fails(121):
        npipe.connect(name, timeout=0.1, wait_for_server=True)
    with fails(2):
        npipe.wait(name, timeout=0, create=True)
    client = Background(lambda: npipe.connect(name, timeout=20, wait_for_server=True))
    with npipe.listen(name) as listener, client.result(20), listener.accept(20):
        npipe.wait(name, timeout=20, create=True)


def test_on_a_loop_a_client_waits_for_a_server_that_is_not_there_yet(name: str) -> None:
    async def main() -> None:
        with fails(121):
            await npipe.aio.connect(name, timeout=0.1, wait_for_server=True)
        client = asyncio.create_task(npipe.aio.connect(name, timeout=20, wait_for_server=True))
        waiter = asyncio.create_task(npipe.aio.wait(name, timeout=20, create=True))
        async with npipe.aio.listen(name) as listener:
            async with await client, await listener.accept(20):  # the one instance was perhaps taken before the wait
                await waiter

    run(main())


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_view_that_is_interrupted_as_it_begins_leaves_the_message_and_the_turn(
    ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise error

    pair = ends()
    pair.client.send(b"the message")
    assert pair.server.recv_into(bytearray(4)) == 4
    viewed, reservation = pair.server.recv_view(), pair.client.reserve(5)
    with monkeypatch.context() as patch:
        for block in (viewed, reservation):
            patch.setattr(type(block), "_lend", interrupted)
            with pytest.raises(error):
                block.__enter__()
    with monkeypatch.context() as patch:
        patch.setattr(pair.server, "_message", interrupted)
        with pytest.raises(error):
            viewed.__enter__()
    assert pair.server.more_data
    pair.client.send(b"second")
    with viewed as view, reservation as room:
        assert bytes(view) == b"message"
        room[:] = b"third"
    assert not pair.server.more_data
    assert [pair.server.recv(timeout=5), pair.server.recv(timeout=5)] == [b"second", b"third"]


def interrupted(call: Callable[[], object], number: int) -> bool:
    """Whether a KeyboardInterrupt came in step `number` of how a call takes its turn to read."""
    left = number

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_name not in ("_begin_read", "_take_turn"):
            return None
        frame.f_trace_opcodes = True
        if event in ("opcode", "return"):
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def entered(block: Any) -> None:
    with block:
        raise LookupError


@pytest.mark.parametrize("way", ["recv", "recv_into", "exact", "view", "transact", "read", "readinto"])
def test_ctrl_c_wherever_a_read_takes_its_turn_leaves_it_to_others(ends: Callable[..., Ends], way: str) -> None:
    pair = ends(mode="byte" if way.startswith("read") else "message")
    server: Any = pair.server
    send = getattr(pair.client, "send", None) or pair.client.write
    calls: dict[str, Callable[[], object]] = {
        "recv": lambda: server.recv(timeout=0),
        "recv_into": lambda: server.recv_into(bytearray(20), timeout=0),
        "exact": lambda: server.recv_into(bytearray(20), exact=True, timeout=0),
        "view": lambda: entered(server.recv_view(timeout=0)),
        "transact": lambda: server.transact(b"question", timeout=0),
        "read": lambda: server.read(20, timeout=0),
        "readinto": lambda: server.readinto(bytearray(20), timeout=0),
    }
    read = server.read if way.startswith("read") else server.recv
    arguments = (20,) if way.startswith("read") else ()
    number = 0
    while interrupted(lambda: suppress(calls[way]), number):
        data = b"message %d" % number
        send(data)
        assert read(*arguments, timeout=5) == data
        number += 1
    assert number > 10


def suppress(call: Callable[[], object]) -> None:
    with contextlib.suppress(npipe.PipeError, LookupError):
        call()


def test_a_block_is_the_owner_of_what_it_gives(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for size in (0, 5, 60_000):
        reservation, viewed = pair.client.reserve(size), pair.server.recv_view()
        with reservation as room:
            assert room.obj is reservation
            room[:] = b"r" * size
        with viewed as view:
            assert view.obj is viewed
            assert bytes(view) == b"r" * size
        assert reservation
        assert len({reservation, viewed}) == 2
