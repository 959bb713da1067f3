"""What the two ends of a connection say to each other while they are measured: the same for every peer."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

ECHO = 0  # the server sends back each message
SINK = 1  # the server receives each message, and acknowledges the last one
SINK_INTO = 2  # as SINK, receiving into one buffer that is used again and again

_ORDER = struct.Struct("<BQQ")  # kind, size of a message in bytes, number of messages
_DONE = b"done"


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
    for _ in times:
        take()
    control.send(_DONE)
    return True


def run_order(channel: Channel, kind: int, size: int, count: int) -> float:
    """Move ``count`` messages of ``size`` bytes through ``channel``; return the seconds until the last has arrived."""
    control = channel.ways(_ORDER.size)
    ways = channel.ways(size)
    payload = bytes(size)
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
        if len(reply) != size:
            raise RuntimeError(f"sent {size} bytes, got {len(reply)} back")
        return seconds
    start = time.perf_counter()
    for _ in times:
        send(payload)
    done = control.recv()
    seconds = time.perf_counter() - start
    if done != _DONE:
        raise RuntimeError("the server answered something else than it was asked for")
    return seconds
