"""Objects: npipe.connection beside multiprocessing.connection. `python -m bench.objects` measures this alone."""

from __future__ import annotations

import contextlib
import random
import struct
import sys
import time
import zlib
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

from .fleet import Fleet, Settings
from .measure import Case, Quantity, timed
from .names import FRAME, OBJECT_KINDS, WAYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from .processes import Ends, Session
    from .tasks import Channel

_ORDER = struct.Struct("<BBQ")  # which objects, whether there and back, how many
_DONE = b"done"


@cache
def _objects(kind: int) -> list[Any]:
    """Return some objects of a kind, all different."""
    chance = random.Random(kind)
    if kind == 0:
        # A reading of a sensor: a tuple whose pickle has 64 bytes.
        made: list[Any] = [("sensor", number, chance.random(), chance.randbytes(26)) for number in range(4)]
    elif kind == 1:
        made = [
            {
                "id": chance.getrandbits(60),
                "name": f"job {number}",
                "arguments": [chance.random() for _ in range(10)],
                "options": {"retry": True, "timeout": 2.5, "labels": ["a", "b", "c"]},
                "state": None,
            }
            for number in range(4)
        ]
    else:
        import numpy as np

        made = [
            np.frombuffer(chance.randbytes(FRAME[0] * FRAME[1] * FRAME[2]), np.uint8).reshape(FRAME) for _ in range(2)
        ]
    return made


def _checksum(found: Any) -> int:
    """Return a number that tells two objects from each other by all that is in them."""
    if hasattr(found, "__array_interface__"):
        return zlib.crc32(memoryview(found).cast("B"), zlib.crc32(str(found.shape).encode()))
    return zlib.crc32(repr(found).encode(), zlib.crc32(type(found).__name__.encode()))


def answer_objects(channel: Channel) -> bool:
    """Serve one order of :func:`run_objects`; false when the client has left."""
    conn = channel.conn  # type: ignore[attr-defined]  # only connections take part
    try:
        _, back, count = _ORDER.unpack(conn.recv_bytes())
    except (EOFError, OSError):
        return False
    conn.send_bytes(_DONE)
    send, recv = conn.send, conn.recv
    if back:
        for _ in repeat(None, count):
            send(recv())
        return True
    for _ in repeat(None, count - 1):
        recv()
    last = recv()
    conn.send_bytes(_DONE)
    conn.send(_checksum(last))
    return True


def _order(conn: Any, kind: int, count: int, *, back: bool) -> None:
    conn.send_bytes(_ORDER.pack(kind, back, count))
    if conn.recv_bytes() != _DONE:
        raise RuntimeError("the server answered something else than it was asked for")


def compare_objects(channel: Channel, kind: int) -> None:
    """Send objects that all differ there and back, and compare what comes."""
    conn = channel.conn  # type: ignore[attr-defined]
    made = _objects(kind)
    _order(conn, kind, len(made), back=True)
    for sent in made:
        conn.send(sent)
        if _checksum(conn.recv()) != _checksum(sent):
            raise RuntimeError("an object came back as another one")


def run_objects(channel: Channel, kind: int, count: int, *, back: bool) -> float:
    """Move ``count`` objects; return the seconds until the last has arrived, which is compared after that."""
    conn = channel.conn  # type: ignore[attr-defined]
    sent, last = _objects(kind)[:2]
    compare_objects(channel, kind)
    _order(conn, kind, count, back=back)
    send, recv = conn.send, conn.recv
    start = time.perf_counter()
    if back:
        for _ in repeat(None, count):
            send(sent)
            reply = recv()
        seconds = time.perf_counter() - start
        if _checksum(reply) != _checksum(sent):
            raise RuntimeError("an object came back as another one")
        return seconds
    for _ in repeat(None, count - 1):
        send(sent)
    send(last)
    conn.recv_bytes()
    seconds = time.perf_counter() - start
    if conn.recv() != _checksum(last):
        raise RuntimeError("the last object that the server got is not the one that was sent")
    return seconds


def objects(session: Session, settings: Settings) -> list[Case]:
    """Send objects there and back, and one way, a core each."""
    cases = []

    def start(peer: str) -> Ends:
        return session.start(peer, "objects", connections=(1,), apart=True)

    with Fleet("objects", settings.peers, start) as fleet:
        for kind, name in enumerate(OBJECT_KINDS):
            for way, back in WAYS.items():

                def task(_peer: str, ends: Ends, kind: int = kind, back: bool = back) -> Callable[[], float]:
                    def run(count: int) -> float:
                        return float(ends.client.ask("objects", kind=kind, count=count, back=back))

                    return timed(run, settings.round_seconds)

                cases.append(fleet.measure(f"{name}, {way}", Quantity.LATENCY, settings.rounds, task))
    return cases


def main() -> int:
    from .__main__ import main as all_of_it

    return all_of_it(["--only", "objects", *sys.argv[1:]])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
