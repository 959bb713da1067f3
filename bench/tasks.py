"""What the two ends of a connection say to each other while they are measured: the same for every peer."""

from __future__ import annotations

import functools
import random
import struct
import time
import zlib
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

ECHO = 0  # the server sends back each message
SINK = 1  # the server receives each message, and acknowledges the last one, saying what it was
SINK_INTO = 2  # as SINK, receiving into one buffer that is used again and again

_ORDER = struct.Struct("<BQQ")  # kind, size of a message in bytes, number of messages
_DONE = b"done"
_LAST = struct.Struct("<QI")  # behind "done": length of the last message, and checksum of its end
_END = 4096  # bytes; more of a long message would be measured


@functools.cache
def _messages(size: int) -> tuple[bytes, bytes]:
    """Return the message that is sent again and again, and the last one of an order, which is another."""
    chance = random.Random(size)
    return chance.randbytes(size), chance.randbytes(size)


def _says(last: bytes) -> bytes:
    return _DONE + _LAST.pack(len(last), zlib.crc32(last[-_END:]))


@dataclass(frozen=True, slots=True)
class Ways:
    """The calls of one connection, as direct as the peer allows, so that the loops measure the peer and little else."""

    send: Callable[[bytes], object]
    recv: Callable[[], bytes]
    recv_into: Callable[[], object] | None = None


class Channel(Protocol):
    """One end of a connection of any peer."""

    def ways(self, size: int) -> Ways:
        """Return the calls that move messages of up to ``size`` bytes."""

    def close(self) -> None:
        """Close this end."""


def answer_order(channel: Channel) -> bool:
    """Serve one order of :func:`run_order`; false when the client has left."""
    control = channel.ways(_ORDER.size)
    try:
        order = control.recv()
    except (EOFError, OSError):
        return False
    if not order:  # how a socket says that the other end is closed
        return False
    kind, size, count = _ORDER.unpack(order)
    ways = channel.ways(size)
    control.send(_DONE)
    times = repeat(None, count)
    if kind == ECHO:
        send, recv = ways.send, ways.recv
        for _ in times:
            send(recv())
        return True
    take = ways.recv if kind == SINK else ways.recv_into
    if take is None:
        raise ValueError("this peer cannot receive into a buffer")
    for _ in repeat(None, count - 1):
        take()
    control.send(_says(ways.recv()))
    return True


def run_order(channel: Channel, kind: int, size: int, count: int) -> float:
    """Move ``count`` messages of ``size`` bytes through ``channel``; return the seconds until the last has arrived.

    What arrives last is compared, outside of that time: a message that was lost or came twice leaves another one there.
    """
    control = channel.ways(_ORDER.size)
    ways = channel.ways(size)
    payload, last = _messages(size)
    control.send(_ORDER.pack(kind, size, count))
    if control.recv() != _DONE:
        raise RuntimeError("the server answered something else than it was asked for")
    send, recv = ways.send, ways.recv
    times = repeat(None, count)
    if kind == ECHO:
        start = time.perf_counter()
        for _ in times:
            send(payload)
            reply = recv()
        seconds = time.perf_counter() - start
        if reply != payload:
            raise RuntimeError(f"{len(reply)} bytes came back that are not the {size} that were sent")
        return seconds
    times = repeat(None, count - 1)
    start = time.perf_counter()
    for _ in times:
        send(payload)
    send(last)
    done = control.recv()
    seconds = time.perf_counter() - start
    if done != _says(last):
        raise RuntimeError(f"the last message that the server got is not the one that was sent: {done!r}")
    return seconds
