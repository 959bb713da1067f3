"""What the two ends of a connection say to each other while they are measured: the same for every peer."""

from __future__ import annotations

import functools
import random
import struct
import time
import zlib
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import array
    from collections.abc import Callable

ECHO = 0  # the server sends back each message
SINK = 1  # the server receives each message, and acknowledges the last one, saying what it was
SINK_INTO = 2  # as SINK, receiving into one buffer that is used again and again
READ = 3  # the server reads every message whole, and answers with a checksum of all: never timed
READ_INTO = 4
STAMPS = 5  # messages in place: a number at both ends of each, read and compared by the server; nothing is copied
FRAMES = 6  # messages in place: a picture is copied in, and stamps of it are read and compared

_ORDER = struct.Struct("<BQQ")  # kind, size of a message in bytes, number of messages
_DONE = b"done"
_LAST = struct.Struct("<QI")  # behind "done": length of the last message, and checksum of its end
_END = 4096  # bytes; more of a long message would be measured
_NUMBER = struct.Struct("<Q")
_put_number, _get_number = _NUMBER.pack_into, _NUMBER.unpack_from
_READ_BYTES = 1 << 21  # about so much is read whole before each timed order


@functools.cache
def messages(size: int) -> tuple[bytes, bytes]:
    """Return the message that is sent again and again, and the last one of an order, which is another."""
    chance = random.Random(size)
    return chance.randbytes(size), chance.randbytes(size)


def _says(last: bytes) -> bytes:
    return _DONE + _LAST.pack(len(last), zlib.crc32(last[-_END:]))


class InPlace(Protocol):
    """The calls that write and read messages where they lie, without a copy of theirs."""

    def put(self, number: int) -> None:
        """Send a message with ``number`` at both ends, and between them what happens to be there."""

    def take(self) -> tuple[int, int, int]:
        """Receive a message; return its size and the numbers at its ends."""

    def put_filled(self, fill: Callable[[memoryview], None]) -> None:
        """Send a message that ``fill`` writes where it lies."""

    def take_looked_at(self, look: Callable[[Any], int]) -> int:
        """Receive a message; return what ``look`` makes of it where it lies."""


@dataclass(frozen=True, slots=True)
class Ways:
    """The calls of one connection, as direct as the peer allows, so that the loops measure the peer and little else."""

    send: Callable[[bytes], object]
    recv: Callable[[], bytes]
    recv_into: Callable[[], object] | None = None
    buffer: bytearray | None = None  # where recv_into puts what it receives


class Channel(Protocol):
    """One end of a connection of any peer."""

    def ways(self, size: int) -> Ways:
        """Return the calls that move messages of up to ``size`` bytes."""

    def close(self) -> None:
        """Close this end."""


def in_place(channel: Channel, size: int) -> InPlace:
    """Return the calls of a ``channel`` that has messages in place."""
    calls: InPlace = channel.in_place(size)  # type: ignore[attr-defined]  # by no means all have them
    return calls


def answer_order(channel: Channel) -> bool:
    """Serve one order of :func:`run_order`; false when the client has left."""
    own = getattr(channel, "answer_order", None)
    if own is not None:  # a loop of its own, for peers of event loops
        return bool(own())
    control = channel.ways(_ORDER.size)
    sleep = getattr(channel, "sleep", None)
    try:
        if sleep is not None:  # between orders, where receiving would be asking again and again
            sleep()
        order = control.recv()
    except (EOFError, OSError):
        return False
    if not order:  # how a socket says that the other end is closed
        return False
    kind, size, count = _ORDER.unpack(order)
    ways = channel.ways(size)
    control.send(_DONE)
    if kind == ECHO:
        send, recv = ways.send, ways.recv
        for _ in repeat(None, count):
            send(recv())
    elif kind in (SINK, SINK_INTO):
        take = ways.recv if kind == SINK else _into(ways)
        for _ in repeat(None, count - 1):
            take()
        control.send(_says(ways.recv()))
    elif kind in (READ, READ_INTO):
        control.send(_DONE + _NUMBER.pack(_read_all(ways, count, into=kind == READ_INTO)))
    elif kind == STAMPS:
        control.send(_DONE + _NUMBER.pack(_take_stamped(in_place(channel, size), size, count)))
    elif kind == FRAMES:
        _take_frames(channel, control, size, count)
    else:
        raise ValueError(f"an order of the kind {kind}")
    return True


def _into(ways: Ways) -> Callable[[], object]:
    if ways.recv_into is None:
        raise ValueError("this peer cannot receive into a buffer")
    return ways.recv_into


def _read_all(ways: Ways, count: int, *, into: bool) -> int:
    checksum = 0
    for _ in range(count):
        if into:
            _into(ways)()
            checksum = zlib.crc32(ways.buffer or b"", checksum)
        else:
            checksum = zlib.crc32(ways.recv(), checksum)
    return checksum


def _take_stamped(place: InPlace, size: int, count: int) -> int:
    take = place.take
    for number in range(count):
        if take() != (size, number, number):
            raise RuntimeError(f"message {number} is another one than was sent")
    return count


def _take_frames(channel: Channel, control: Ways, size: int, count: int) -> None:
    place = in_place(channel, size)
    middle, end = size // 2 & ~7, size - 8
    buffer_of = struct.Struct(f"<{size}s").unpack_from

    def stamps(frame: Any) -> int:
        number = int(_get_number(frame)[0])
        if _get_number(frame, middle)[0] != number or _get_number(frame, end)[0] != number:
            raise RuntimeError("a frame of pieces of others")
        return number

    for number in range(count - 1):
        if place.take_looked_at(stamps) != number:
            raise RuntimeError(f"frame {number} is another one than was sent")

    def whole(frame: Any) -> int:  # the last one: once it is there, the client's clock stands still, and all is read
        stamps(frame)
        control.send(_DONE)
        return zlib.crc32(buffer_of(frame)[0])

    control.send(_NUMBER.pack(place.take_looked_at(whole)))


def run_order(channel: Channel, kind: int, size: int, count: int) -> float:
    """Move ``count`` messages of ``size`` bytes through ``channel``; return the seconds until the last has arrived.

    What arrives last is compared, outside of that time: a message that was lost or came twice leaves another one there.
    """
    own = getattr(channel, "run_order", None)
    if own is not None:
        return float(own(kind, size, count))
    control, ways = _order(channel, kind, size, count)
    if kind == ECHO:
        return _echo(ways, size, count)
    if kind == STAMPS:
        return _put_stamped(control, in_place(channel, size), count)
    if kind == FRAMES:
        return _put_frames(control, in_place(channel, size), size, count)
    payload, last = messages(size)
    send, recv = ways.send, control.recv
    times = repeat(None, count - 1)
    start = time.perf_counter()
    for _ in times:
        send(payload)
    send(last)
    done = recv()
    seconds = time.perf_counter() - start
    if done != _says(last):
        raise RuntimeError(f"the last message that the server got is not the one that was sent: {done!r}")
    return seconds


def _order(channel: Channel, kind: int, size: int, count: int) -> tuple[Ways, Ways]:
    wake = getattr(channel, "wake", None)
    if wake is not None:
        wake()
    control = channel.ways(_ORDER.size)
    ways = channel.ways(size)
    control.send(_ORDER.pack(kind, size, count))
    if control.recv() != _DONE:
        raise RuntimeError("the server answered something else than it was asked for")
    return control, ways


def _echo(ways: Ways, size: int, count: int) -> float:
    payload, _ = messages(size)
    send, recv = ways.send, ways.recv
    times = repeat(None, count)
    start = time.perf_counter()
    for _ in times:
        send(payload)
        reply = recv()
    seconds = time.perf_counter() - start
    if reply != payload:
        raise RuntimeError(f"{len(reply)} bytes came back that are not the {size} that were sent")
    return seconds


def _put_stamped(control: Ways, place: InPlace, count: int) -> float:
    put = place.put
    start = time.perf_counter()
    for number in range(count):
        put(number)
    done = control.recv()
    seconds = time.perf_counter() - start
    if done != _DONE + _NUMBER.pack(count):
        raise RuntimeError(f"the server did not find what was sent: {done!r}")
    return seconds


def _put_frames(control: Ways, place: InPlace, size: int, count: int) -> float:
    sources = messages(size)
    middle, end = size // 2 & ~7, size - 8
    number = 0

    def fill(view: memoryview) -> None:
        view[:] = sources[number & 1]
        for offset in (0, middle, end):
            _put_number(view, offset, number)

    start = time.perf_counter()
    for number in range(count):  # noqa: B007 - fill reads it
        place.put_filled(fill)
    done = control.recv()
    seconds = time.perf_counter() - start
    expected = bytearray(size)
    fill(memoryview(expected))
    if done != _DONE or control.recv() != _NUMBER.pack(zlib.crc32(expected)):
        raise RuntimeError("the last frame that the server got is not the one that was sent")
    return seconds


def compare_all(channel: Channel, kind: int, size: int) -> None:
    """Send messages that all differ through the calls of ``kind``, and have the other side read all of them whole."""
    if kind not in (ECHO, SINK, SINK_INTO) or hasattr(channel, "run_order"):
        return
    count = min(50, max(2, _READ_BYTES // size))
    base = messages(size)[0]
    sent = [(_NUMBER.pack(number) + base)[:size] for number in range(count)]
    if kind == ECHO:
        _, ways = _order(channel, ECHO, size, count)
        for data in sent:
            ways.send(data)
            if ways.recv() != data:
                raise RuntimeError(f"what came back is not what was sent ({size} bytes)")
        return
    control, ways = _order(channel, READ if kind == SINK else READ_INTO, size, count)
    checksum = 0
    for data in sent:
        ways.send(data)
        checksum = zlib.crc32(data, checksum)
    if control.recv() != _DONE + _NUMBER.pack(checksum):
        raise RuntimeError(f"what the server read is not what was sent ({size} bytes)")


def sample(channel: Channel, size: int, seconds: float, into: array.array[int]) -> None:
    """Do round trips for some ``seconds`` and note the nanoseconds of each; every reply is compared, between two."""
    clock, note = time.perf_counter_ns, into.append
    payload, _ = messages(size)
    until = clock() + int(seconds * 1e9)
    own = getattr(channel, "sample", None)
    if own is not None:
        own(size, until, into)
        return
    while clock() < until:
        count = 200
        _, ways = _order(channel, ECHO, size, count)
        send, recv = ways.send, ways.recv
        for _ in repeat(None, count):
            start = clock()
            send(payload)
            reply = recv()
            note(clock() - start)
            if reply != payload:
                raise RuntimeError(f"{len(reply)} bytes came back that are not the {size} that were sent")
