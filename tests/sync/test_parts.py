"""One message out of several buffers, and into several: send, send_parts and recv_into of message pipes."""

from __future__ import annotations

import array
import random
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.helpers import DEADLINE, blocked, fails

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Ends

MIB = 1 << 20


def test_several_buffers_are_one_message(ends: Callable[..., Ends]) -> None:
    pair = ends()
    numbers = array.array("I", [1, 2, 3])
    pair.client.send(b"ab", bytearray(b"cd"), memoryview(b"xefx")[1:3], numbers)
    assert pair.server.recv() == b"abcdef" + numbers.tobytes()
    pair.client.send_parts(b"", b"one", b"")
    pair.client.send_parts()
    pair.client.send(b"", b"")
    pair.client.send_parts(b"last")
    assert [pair.server.recv() for _ in range(4)] == [b"one", b"", b"", b"last"]


def test_send_takes_its_data_by_name_as_ever(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.send(data=b"x")
    assert pair.server.recv() == b"x"
    with pytest.raises(TypeError):
        pair.client.send()


@pytest.mark.parametrize("parts", [(b"x", "text"), ("text", b"x"), (b"x", 5), (b"x", memoryview(b"abcd")[::2])])
def test_what_is_no_buffer_is_refused_and_nothing_is_sent(ends: Callable[..., Ends], parts: tuple[object, ...]) -> None:
    pair = ends()
    with pytest.raises((TypeError, BufferError)):
        pair.client.send(*parts)
    pair.client.send(b"next")
    assert pair.server.recv() == b"next"


@pytest.mark.parametrize("quota", [0, 1, 4096, 65536])
def test_parts_longer_than_the_buffer_come_whole(ends: Callable[..., Ends], quota: int) -> None:
    pair = ends(in_buffer_size=quota, out_buffer_size=quota)
    rng = random.Random(quota)
    parts = [rng.randbytes(rng.choice((0, 1, 7, 4096, 40000, 300000))) for _ in range(40)]
    whole = b"".join(parts)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.extend(pair.server.recv() for _ in range(2)))
    reader.start()
    pair.client.send_parts(*parts)
    pair.client.send(b"after", b"wards")
    reader.join(DEADLINE)
    assert got == [whole, b"afterwards"]


def test_a_send_of_parts_that_times_out_leaves_nothing_to_read(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=100)
    pair.client.send(bytes(100))
    for timeout in (0, 0.01):
        with fails(121):
            pair.client.send(b"a" * 50, b"b" * 70000, timeout=timeout)
    assert pair.server.recv() == bytes(100)
    pair.client.send(b"x", b"y")
    assert pair.server.recv(timeout=DEADLINE) == b"xy"


def test_parts_come_into_several_buffers(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.send(b"headbodybody")
    head, body, rest = bytearray(4), bytearray(8), bytearray(b"----")
    assert pair.server.recv_into(head, body, rest) == 12
    assert (bytes(head), bytes(body), bytes(rest)) == (b"head", b"bodybody", b"----")
    numbers = array.array("H", [0] * 4)
    pair.client.send(array.array("H", [1, 2, 3]))
    assert pair.server.recv_into(bytearray(), numbers) == 6
    assert numbers.tolist() == [1, 2, 3, 0]
    pair.client.send(b"")
    assert pair.server.recv_into(head, body) == 0
    assert not pair.server.more_data


def test_a_message_longer_than_all_buffers_leaves_its_rest(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.send(b"0123456789")
    first, second = bytearray(3), bytearray(2)
    assert pair.server.recv_into(first, second) == 5
    assert (bytes(first), bytes(second)) == (b"012", b"34")
    assert pair.server.more_data
    assert pair.server.recv_into(first, second) == 5
    assert (bytes(first), bytes(second)) == (b"567", b"89")
    assert not pair.server.more_data


def test_with_exact_a_message_longer_than_all_buffers_stays(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for message in (b"0123456789", bytes(range(256)) * 1000):
        sender = threading.Thread(target=pair.client.send, args=(message,))
        sender.start()
        with fails(234):
            pair.server.recv_into(bytearray(3), bytearray(2), exact=True)
        halves = bytearray(len(message) - 5), bytearray(5)
        assert pair.server.recv_into(*halves, exact=True) == len(message)
        assert b"".join(halves) == message
        sender.join(DEADLINE)


@pytest.mark.parametrize("quota", [0, 4096, 65536])
def test_a_long_message_is_scattered_whole(ends: Callable[..., Ends], quota: int) -> None:
    pair = ends(in_buffer_size=quota)
    rng = random.Random(quota)
    message = rng.randbytes(9 * MIB + 5)
    sizes = [0, 1, 4096, 5 * MIB, 0, 3 * MIB, 2 * MIB, 10]
    buffers = [bytearray(size) for size in sizes]
    sender = threading.Thread(target=pair.client.send, args=(message,))
    sender.start()
    assert pair.server.recv_into(*buffers) == len(message)
    assert b"".join(buffers)[: len(message)] == message
    sender.join(DEADLINE)
    assert not pair.server.more_data


def test_a_read_into_several_that_times_out_consumes_nothing(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for exact in (False, True):
        for timeout in (0, 0.01):
            with fails(121):
                pair.server.recv_into(bytearray(3), bytearray(3), exact=exact, timeout=timeout)
    pair.client.send(b"abcdef")
    assert pair.server.recv(timeout=0) == b"abcdef"


def test_a_read_into_several_waits_and_hears_a_close(ends: Callable[..., Ends]) -> None:
    pair = ends()
    first, second = bytearray(2), bytearray(3)
    waiting = blocked(lambda: pair.server.recv_into(first, second))
    pair.client.send(b"ab", b"cde")
    assert waiting.result() == 5
    assert (bytes(first), bytes(second)) == (b"ab", b"cde")
    waiting = blocked(lambda: pair.server.recv_into(first, second))
    pair.client.close()
    with fails(109):
        waiting.result()


def test_only_what_can_be_written_to_takes_a_part(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.send(b"abcd")
    with pytest.raises(BufferError):
        pair.server.recv_into(bytearray(2), b"cd")
    assert pair.server.recv() == b"abcd"


def test_an_answer_is_read_in_parts(ends: Callable[..., Ends]) -> None:
    pair = ends()
    with fails(121):
        pair.client.transact(b"ask", timeout=0.01)
    assert pair.server.recv() == b"ask"
    pair.server.send(b"rep", b"ly!")
    with pytest.raises(npipe.PipeStateError):
        pair.client.transact(b"again")
    first, second = bytearray(3), bytearray(3)
    assert pair.client.recv_into(first, second) == 6
    assert (bytes(first), bytes(second)) == (b"rep", b"ly!")
    waiting = blocked(lambda: pair.client.transact(b"again"))
    assert pair.server.recv() == b"again"
    pair.server.send(b"done")
    assert waiting.result() == b"done"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows copies them together")
def test_a_message_of_many_parts(ends: Callable[..., Ends]) -> None:
    pair = ends()
    parts = [bytes([i % 256]) * (i % 3) for i in range(10000)]
    sender = threading.Thread(target=pair.client.send_parts, args=parts)
    sender.start()
    rooms = [bytearray(1) for _ in range(20000)]
    count = pair.server.recv_into(*rooms)
    assert b"".join(rooms)[:count] == b"".join(parts)
    sender.join(DEADLINE)
