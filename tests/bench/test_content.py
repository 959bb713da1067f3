"""A benchmark that only counts messages would not find these."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING

import pytest

from bench import tasks

if TYPE_CHECKING:
    from collections.abc import Callable


class Wire:
    """One way of a connection in this process; `bend` may change or drop what is sent."""

    def __init__(self, bend: Callable[[int, bytes], bytes | None]) -> None:
        self._queue: queue.Queue[bytes | None] = queue.Queue()
        self._bend = bend
        self._count = 0

    def send(self, data: bytes) -> None:
        bent = self._bend(self._count, bytes(data))
        self._count += 1
        if bent is not None:
            self._queue.put(bent)

    def recv(self) -> bytes:
        data = self._queue.get(timeout=20)
        if data is None:
            raise EOFError
        return data

    def close(self) -> None:
        self._queue.put(None)


class End:
    def __init__(self, out: Wire, into: Wire) -> None:
        self._out, self._into = out, into

    def ways(self, size: int) -> tasks.Ways:
        buffer = bytearray(size)

        def recv_into() -> None:
            buffer[:] = self._into.recv()

        return tasks.Ways(self._out.send, self._into.recv, recv_into, buffer)

    def close(self) -> None:
        pass


def conversation(bend: Callable[[int, bytes], bytes | None], ask: Callable[[End], object]) -> None:
    """Let a server answer one order of a client whose messages `bend` may change."""
    there, back = Wire(bend), Wire(lambda _, data: data)

    def serve() -> None:
        with contextlib.suppress(EOFError):
            tasks.answer_order(End(back, there))

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        ask(End(there, back))
    finally:
        there.close()
        server.join(20)
    assert not server.is_alive()


def as_sent(_number: int, data: bytes) -> bytes:
    return data


@pytest.mark.parametrize("kind", [tasks.ECHO, tasks.SINK, tasks.SINK_INTO])
@pytest.mark.parametrize("size", [64, 65536])
def test_what_comes_as_it_was_sent_is_accepted(kind: int, size: int) -> None:
    conversation(as_sent, lambda end: tasks.compare_all(end, kind, size))
    conversation(as_sent, lambda end: tasks.run_order(end, kind, size, 5))


@pytest.mark.parametrize("kind", [tasks.ECHO, tasks.SINK, tasks.SINK_INTO])
def test_one_other_byte_in_one_message_is_found(kind: int) -> None:
    def bend(number: int, data: bytes) -> bytes:  # number 0 is the order
        return data[:40] + b"?" + data[41:] if number == 3 else data

    with pytest.raises(RuntimeError, match="not what was sent"):
        conversation(bend, lambda end: tasks.compare_all(end, kind, 64))


def test_a_message_in_the_place_of_another_is_found() -> None:
    kept: list[bytes] = []

    def bend(number: int, data: bytes) -> bytes | None:
        if number == 2:
            kept.append(data)
        return kept[0] if number == 3 else data

    with pytest.raises(RuntimeError, match="not what was sent"):
        conversation(bend, lambda end: tasks.compare_all(end, tasks.SINK, 64))


def test_a_last_message_that_is_another_is_found_one_way() -> None:
    def bend(number: int, data: bytes) -> bytes:
        return data[:-1] + bytes((data[-1] ^ 1,)) if number == 5 else data

    with pytest.raises(RuntimeError, match="the last message that the server got"):
        conversation(bend, lambda end: tasks.run_order(end, tasks.SINK, 64, 5))
