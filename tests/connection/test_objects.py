"""Objects and bytes through both ends of a Pipe."""

from __future__ import annotations

import array
import math
import pickle
import socket
import threading
from decimal import Decimal
from fractions import Fraction
from multiprocessing import BufferTooShort
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npipe.connection import Connection, Pipe, wait
from tests.connection.helpers import pattern
from tests.helpers import blocked_in

if TYPE_CHECKING:
    from collections.abc import Iterator

Ends = tuple[Connection[Any, Any], Connection[Any, Any]]


@pytest.fixture
def ends() -> Iterator[Ends]:
    first, second = Pipe()
    with first, second:
        yield first, second


class Frame:
    """An object with a buffer that pickle's protocol 5 takes apart, as NumPy's arrays are."""

    def __init__(self, content: bytearray | bytes) -> None:
        self.content = content

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Frame, (pickle.PickleBuffer(self.content),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and bytes(self.content) == bytes(other.content)

    __hash__ = None  # type: ignore[assignment]


def send_all(end: Connection[Any, Any], objects: list[Any]) -> None:
    for obj in objects:
        end.send(obj)


def through(ends: Ends, obj: Any) -> Any:
    """What arrives of an object, which may be longer than what fits into the channel."""
    sender = threading.Thread(target=ends[0].send, args=(obj,))
    sender.start()
    try:
        return ends[1].recv()
    finally:
        sender.join()


@pytest.mark.parametrize("size", [0, 1, 127, 4095, 4096, 16_375, 16_376, 16_377, 65_535, 65_536, 262_144, 5_000_001])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_what_is_sent_arrives_as_it_was(ends: Ends, size: int, kind: type[bytes | bytearray]) -> None:
    content = pattern(size)
    got = through(ends, {"it": kind(content), "text": "ä" * size})
    assert type(got["it"]) is kind
    assert got == {"it": content, "text": "ä" * size}


@pytest.mark.parametrize("size", [10, 4096, 300_000])
def test_a_buffer_that_may_be_written_to_can_be_afterwards(ends: Ends, size: int) -> None:
    got = through(ends, [Frame(bytearray(pattern(size))), Frame(pattern(size))])
    assert [bytes(one.content) for one in got] == [pattern(size)] * 2
    assert not memoryview(got[0].content).readonly
    assert memoryview(got[1].content).readonly


def test_numpy_arrays_arrive_with_content_and_layout(ends: Ends) -> None:
    numpy = pytest.importorskip("numpy")
    arrays = [
        numpy.arange(1_000_000, dtype="f8").reshape(1000, 1000),
        numpy.asfortranarray(numpy.arange(60_000).reshape(200, 300)),
        numpy.arange(100_000)[::3],
        numpy.arange(5),
        numpy.array([{"an": "object"}, None]),
    ]
    got = through(ends, arrays)
    for before, after in zip(arrays, got, strict=True):
        assert (before == after).all()
        assert before.dtype == after.dtype
        assert after.flags.writeable


_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.floats(allow_nan=False)
    | st.integers(0, 200_000).map(pattern)
    | st.integers(0, 200_000).map(lambda size: bytearray(pattern(size, 3)))
    | st.integers(0, 200_000).map(lambda size: Frame(bytearray(pattern(size, 5))))
)
_objects = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(_objects, min_size=1, max_size=4))
def test_any_objects_arrive_in_their_order(objects: list[Any]) -> None:
    first, second = Pipe()
    with first, second:
        sender = threading.Thread(target=send_all, args=(first, objects))
        sender.start()
        assert [second.recv() for _ in objects] == objects
        sender.join()
        assert not second.poll()


def test_an_object_is_unpickled_from_the_bytes_of_its_message_too(ends: Ends) -> None:
    for obj in ([1, "two"], {"it": pattern(70_000)}, [Frame(bytearray(pattern(50_000))), bytearray(pattern(70_000))]):
        sender = threading.Thread(target=ends[0].send, args=(obj,))
        sender.start()
        assert pickle.loads(ends[1].recv_bytes()) == obj
        sender.join()
    ends[0].send_bytes(pickle.dumps({"by": "hand"}))
    assert ends[1].recv() == {"by": "hand"}


def test_send_bytes_takes_a_part_of_any_buffer(ends: Ends) -> None:
    first, second = ends
    first.send_bytes(b"abcdef", 2)
    first.send_bytes(bytearray(b"abcdef"), 1, 3)
    first.send_bytes(memoryview(array.array("i", [1, 2])), 4)
    first.send_bytes(b"", 0)
    assert [second.recv_bytes() for _ in range(4)] == [b"cdef", b"bcd", array.array("i", [2]).tobytes(), b""]
    wrong: list[tuple[Any, str]] = [
        ((b"abc", -1), "offset is negative"),
        ((b"abc", 4), "buffer length < offset"),
        ((b"abc", 0, -1), "size is negative"),
        ((b"abc", 1, 3), "buffer length < offset \\+ size"),
    ]
    for arguments, text in wrong:
        with pytest.raises(ValueError, match=text):
            first.send_bytes(*arguments)
    with pytest.raises(TypeError):
        first.send_bytes("text")
    assert not second.poll()


def test_recv_bytes_into_says_what_does_not_fit_and_goes_on(ends: Ends) -> None:
    first, second = ends
    first.send_bytes(b"12345")
    first.send_bytes(b"678")
    first.send_bytes(b"next")
    room = bytearray(4)
    with pytest.raises(BufferTooShort) as caught:
        second.recv_bytes_into(room)
    assert caught.value.args == (b"12345",)
    assert second.recv_bytes_into(room, 1) == 3
    assert room == b"\0" + b"678"
    numbers = array.array("H", [0, 0, 0])
    assert second.recv_bytes_into(numbers, 2) == 4
    assert numbers.tobytes() == b"\0\0next"
    with pytest.raises(ValueError, match="negative offset"):
        second.recv_bytes_into(room, -1)
    with pytest.raises(ValueError, match="offset too large"):
        second.recv_bytes_into(room, 5)
    with pytest.raises(TypeError):
        second.recv_bytes_into(b"read-only")


def test_recv_bytes_into_takes_a_message_longer_than_the_channel(ends: Ends) -> None:
    content, room = pattern(3_000_000), bytearray(3_000_010)
    sender = threading.Thread(target=ends[0].send_bytes, args=(content,))
    sender.start()
    assert ends[1].recv_bytes_into(room, 7) == len(content)
    sender.join()
    assert room[7 : 7 + len(content)] == content


def test_a_message_over_maxlength_ends_reading_alone(ends: Ends) -> None:
    first, second = ends
    first.send_bytes(b"x" * 10)
    assert second.recv_bytes(10) == b"x" * 10
    first.send_bytes(b"y" * 11)
    first.send_bytes(b"z")
    with pytest.raises(ValueError, match="negative maxlength"):
        second.recv_bytes(-1)
    with pytest.raises(OSError, match="bad message length"):
        second.recv_bytes(10)
    assert not second.readable
    with pytest.raises(OSError, match="connection is write-only"):
        second.recv_bytes()
    second.send("still")
    assert first.recv() == "still"


def test_a_message_over_maxlength_closes_an_end_that_only_reads() -> None:
    reads, writes = Pipe(duplex=False)
    with reads, writes:
        writes.send_bytes(b"x" * 5000)
        with pytest.raises(OSError, match="bad message length"):
            reads.recv_bytes(4999)
        assert reads.closed


def test_each_end_of_a_simplex_pipe_has_its_own_way() -> None:
    reads, writes = Pipe(duplex=False)
    with reads, writes:
        assert (reads.readable, reads.writable, writes.readable, writes.writable) == (True, False, False, True)
        with pytest.raises(OSError, match="connection is read-only"):
            reads.send(1)
        with pytest.raises(OSError, match="connection is write-only"):
            writes.recv()
        with pytest.raises(OSError, match="connection is write-only"):
            writes.poll()
        writes.send("one way")
        assert reads.recv() == "one way"


def test_the_end_is_told_after_what_was_sent(ends: Ends) -> None:
    first, second = ends
    first.send("last")
    first.close()
    assert second.poll()
    assert second.recv() == "last"
    assert second.poll()
    for _ in range(2):
        with pytest.raises(EOFError):
            second.recv()
        with pytest.raises(BrokenPipeError):
            second.send("nobody")
    assert first.closed
    for call in (first.recv, first.poll, first.fileno, lambda: first.send(1), lambda: first.send_bytes(b"")):
        with pytest.raises(OSError, match="handle is closed"):
            call()
    first.close()


@pytest.mark.parametrize("call", ["poll", "wait"])
def test_time_outs_are_numbers_of_any_type_but_nan(ends: Ends, call: str) -> None:
    first, second = ends

    def looks(timeout: Any) -> bool:
        return bool(second.poll(timeout) if call == "poll" else wait([second], timeout))

    def ready(timeout: Any) -> bool:
        return bool(second.poll(timeout) if call == "poll" else wait([second, reads], timeout))

    timeout: Any
    for timeout in (math.nan, Decimal("nan"), Decimal("sNaN")):
        with pytest.raises(ValueError, match="timeout"):
            looks(timeout)
    with pytest.raises(TypeError, match="timeout"):
        looks("1")
    for timeout in (-1, -math.inf, -(10**400), Decimal("-0.5"), False):
        assert not looks(timeout)
    reads, writes = socket.socketpair()
    with reads, writes:
        for timeout in (math.inf, 10**400, 1e300, Decimal(5), True, Fraction(9, 2)):
            waiting = blocked_in(ready, timeout)
            first.send("message")
            assert waiting.result()
            assert second.recv() == "message"
        assert not ready(Decimal("0.001"))
        writes.send(b"x")
        assert wait([reads], math.inf) == [reads]


def test_poll_waits_for_a_message(ends: Ends) -> None:
    first, second = ends
    assert second.poll() is False
    assert second.poll(-1) is False
    assert second.poll(0.01) is False
    sender = threading.Timer(0.05, first.send, ["late"])
    sender.start()
    assert second.poll(20) is True
    assert second.poll(None) is True
    assert second.recv() == "late"
    with pytest.raises(TypeError):
        second.poll("soon")  # type: ignore[arg-type]


def test_an_object_that_cannot_be_pickled_sends_nothing(ends: Ends) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        ends[0].send([pattern(100_000), lambda: None])
    ends[0].send("after")
    assert ends[1].recv() == "after"


def test_a_message_that_cannot_be_unpickled_is_gone(ends: Ends) -> None:
    ends[0].send_bytes(b"no pickle")
    ends[0].send("after")
    with pytest.raises(pickle.UnpicklingError):
        ends[1].recv()
    assert ends[1].recv() == "after"


def test_threads_may_send_and_receive_at_once(ends: Ends) -> None:
    each = 200
    senders = [
        threading.Thread(target=send_all, args=(ends[0], [(n, at, pattern(at * 100, n)) for at in range(each)]))
        for n in range(4)
    ]
    got: list[Any] = []
    readers = [threading.Thread(target=lambda: got.extend(ends[1].recv() for _ in range(2 * each))) for _ in range(2)]
    for thread in senders + readers:
        thread.start()
    for thread in senders + readers:
        thread.join()
    assert sorted(one[:2] for one in got) == [(number, at) for number in range(4) for at in range(each)]
    assert all(content == pattern(at * 100, number) for number, at, content in got)
