"""What two processes do to a pipe: a plan is drawn from a seed, and says everything that is not left to chance."""

from __future__ import annotations

import itertools
import random
import sys
from dataclasses import asdict, dataclass
from typing import Any

WINDOWS = sys.platform == "win32"

# "nowait" is npipe.win32 with PIPE_NOWAIT, "file" is makefile, "stream" asyncio's reader and writer, "selectors" a
# read without a wait when a selector says that there is something.
WRITERS = ["sync", "file", "win32", "nowait", "overlapped", "aio", "stream"]
READERS = ["sync", "selectors", "file", "win32", "nowait", "overlapped", "aio", "stream"]
BOTH = ["sync", "selectors", "overlapped", "aio"]
CLIENTS = ["sync", "win32", "overlapped", "aio"]
CALLERS = ["sync", "win32", "aio"]
SERVERS = ["sync", "selectors", "win32", "overlapped", "aio"]
if WINDOWS:  # there is no descriptor for a selector, and NOWAIT is pywin32's own
    WRITERS, READERS, BOTH, SERVERS = (
        [face for face in faces if face not in ("selectors", "nowait")] for faces in (WRITERS, READERS, BOTH, SERVERS)
    )

KINDS = [
    *(("stream", *pair) for pair in itertools.product(WRITERS, READERS)),
    *(("both", *pair) for pair in itertools.product(BOTH, BOTH)),
    *(("transact", *pair) for pair in itertools.product(CLIENTS, SERVERS)),
    *(("call", *pair) for pair in itertools.product(CALLERS, SERVERS)),
]
"""Seed number n is of the kind n modulo the number of kinds: (what, first face, second face). Of a stream these are the
writer and the reader, of a transaction or a call the client and the server."""

_BYTES_ONLY = ("file", "stream")
_WIN32 = ("win32", "nowait", "overlapped")
MIB = 1 << 20


@dataclass
class Plan:
    """See draw() for what may be combined."""

    seed: int
    kind: str  # stream (from the first face to the second), both (ways at once), transact, call, copy
    first: str
    second: str
    first_serves: bool = True
    message_type: bool = False
    message_mode: bool = False
    duplex: bool = True
    quota: int = 65536
    connections: int = 1
    count: int = 100  # writes of each writer on each connection
    sizes: tuple[int, ...] = (4096,)  # of writes: one of these, or between the first and the last
    spread: bool = False
    reads: tuple[int, ...] = (65536,)  # of reads; 0: whole messages, of whatever size
    writer_hurry: float = 0.0  # how many writes, and reads, have a time-out or are cancelled
    reader_hurry: float = 0.0
    writer_pauses: float = 0.0
    reader_pauses: float = 0.0
    writers: int = 1
    readers: int = 1
    write_depth: int = 1  # how many overlapped operations are pended at a time
    read_depth: int = 1
    way: str = "event"  # how overlapped operations are awaited: event, port, routine
    peeks: float = 0.0
    flushes: float = 0.0
    cores: int = 2
    neighbours: int = 0  # processes that want a processor
    loop: str = "asyncio"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def framed(self) -> bool:
        """Whether the writes say whose they are."""
        return self.writers > 1 or self.readers > 1

    def sizes_of(self, what: str, connection: int, writer: int = 0) -> list[int]:
        """Return the sizes of a writer's writes, the same in both processes.

        The first one of a stream is not empty: a client that leaves nothing to read may be passed over by a listener.
        """
        chance = random.Random(f"{self.seed} {what} {connection} {writer}")
        if self.spread:
            sizes = [chance.randint(self.sizes[0], self.sizes[-1]) for _ in range(self.count)]
        else:
            sizes = [chance.choice(self.sizes) for _ in range(self.count)]
        if self.kind == "both" and not self.message_mode:
            sizes = [size or 1 for size in sizes]  # whoever has all bytes leaves
        if self.kind == "stream":
            sizes[0] = sizes[0] or 1
        return sizes


def ring_of(quota: int) -> int:
    """The size of a direction's ring (docs/protocol.md): the smallest power of two of at least 64 KiB and 4 quotas."""
    return max(65536, 1 << (4 * quota - 1).bit_length())


def draw(seed: int, *, long: bool = False) -> Plan:
    """Return the plan of a seed."""
    chance = random.Random(seed)
    kind, first, second = KINDS[seed % len(KINDS)]
    plan = Plan(
        seed,
        kind,
        first,
        second,
        first_serves=chance.random() < 0.5,
        quota=chance.choice([0, 1, 10, 512, 4096, 4096, 16384, 65536, 65536, 65536, 262_144]),
        way=chance.choice(["event", "event", "port", "routine"]),
        cores=1 if chance.random() < 0.35 else 2,
        neighbours=chance.choice([0, 0, 0, 0, 0, 1, 2]),
        loop=chance.choice(["asyncio", "asyncio", "uvloop"]) if not WINDOWS else "asyncio",
        writer_pauses=chance.choice([0, 0, 0, 0.02, 0.3]),
        reader_pauses=chance.choice([0, 0, 0, 0.02, 0.3]),
        write_depth=chance.choice([1, 1, 2, 5, 16]) if first == "overlapped" else 1,
        read_depth=chance.choice([1, 1, 2, 4]) if second == "overlapped" else 1,
        reader_hurry=chance.choice([0, 0, 0.1, 0.5]),
        writer_hurry=chance.choice([0, 0, 0.1, 0.4]),
        flushes=chance.choice([0, 0, 0, 0.05]),
    )
    if kind == "stream":
        _draw_stream(plan, chance, long=long)
    elif kind == "both":
        _draw_both(plan, chance, long=long)
    else:
        _draw_requests(plan, chance, long=long)
    return plan


def _draw_stream(plan: Plan, chance: random.Random, *, long: bool) -> None:
    writer, reader = plan.first, plan.second
    plan.duplex = chance.random() < 0.6
    plan.message_type = writer not in _BYTES_ONLY and chance.random() < 0.45
    if (writer if plan.first_serves else reader) == "stream":
        plan.message_type, plan.duplex, plan.quota = True, True, 65536  # what start_serving_pipe makes
    plan.message_mode = (
        plan.message_type and reader not in _BYTES_ONLY and writer not in _BYTES_ONLY and chance.random() < 0.7
    )
    if (
        plan.message_type
        and not plan.message_mode
        and not plan.first_serves
        and reader in ("sync", "selectors", "file", "aio")
    ):
        plan.first_serves = True  # a listener of npipe's reads as its type is
    if reader == "nowait" and not plan.first_serves:
        plan.duplex = True  # a server that may only read may not set its mode (SEMANTICS 9.1)
    if writer == "stream":
        plan.duplex = True  # a transport reads whatever happens
    if writer == "nowait":
        plan.quota = max(plan.quota, 512)  # over the quota nothing is written, however long one tries
        plan.writer_hurry = 0.0
    if writer in _BYTES_ONLY:
        plan.writer_hurry = 0.0
    if plan.first_serves and writer == "stream":
        plan.first_serves = reader != "stream" or chance.random() < 0.5
        if not plan.first_serves:
            plan.message_type, plan.duplex, plan.quota = True, True, 65536
    if writer in ("sync", "win32", "aio") and chance.random() < 0.2:
        plan.writers = chance.randint(2, 4)
    if reader in ("sync", "win32") and plan.message_mode and chance.random() < 0.25:
        plan.readers = chance.randint(2, 3)
    if plan.framed and not plan.message_mode:
        plan.writer_hurry = 0.0  # where the next frame begins would not be known
    if plan.readers > 1:
        plan.reader_hurry = 0.0
    _draw_sizes(plan, chance, long=long)
    if plan.writer_hurry == 0 and not plan.framed and plan.read_depth == 1 and reader not in _BYTES_ONLY:
        plan.peeks = chance.choice([0, 0, 0.2])
    if plan.message_mode and (plan.framed or chance.random() < 0.4):
        plan.reads = (0,)


def _draw_sizes(plan: Plan, chance: random.Random, *, long: bool) -> None:
    quota, ring = plan.quota, ring_of(plan.quota)
    edges = [0, 1, 2, quota - 1, quota, quota + 1, ring - 1, ring, ring + 1, 3 * ring + 7, 1000, 4096, 5000, 65536]
    how = chance.random()
    if how < 0.35:
        sizes = [chance.choice([1000, 4096, 5000, quota, quota + 1, 65536, ring + 1])]
    elif how < 0.8:
        sizes = chance.sample(edges, 3)
    else:
        plan.spread = True
        sizes = [1, chance.choice([64, 5000, 70_000, 300_000])]
    least = 20 if plan.framed else 0
    if plan.message_type and not plan.message_mode:
        least = max(least, 1)  # an empty message may be an end to who reads bytes
    most = plan.quota if plan.first == "nowait" else 4 * MIB
    sizes = sorted(min(max(size, least), most) for size in sizes)
    plan.sizes = tuple(sizes)
    mean = max(1.0, sum(sizes) / len(sizes))
    total = chance.choice([60_000, 600_000, 3_000_000]) * (4 if long else 1)
    if chance.random() < 0.4:
        plan.connections = chance.randint(4, 25) * (4 if long else 1)
        plan.count = chance.choice([1, 3, 10, 60])
        if mean * plan.count * plan.connections > 2 * total:
            plan.connections = max(3, int(2 * total / mean / plan.count))
    else:
        plan.count = int(min(max(total / mean, 3), 1500 * (4 if long else 1)))
    plan.count = -(-plan.count // plan.writers)
    how = chance.random()
    reads = (
        [65536, MIB]
        if how < 0.4
        else [chance.choice([1, 7, 100])]
        if how < 0.55
        else chance.sample(
            [1000, 4096, 5000, quota + 1, 65536, ring - 1, ring + 1, MIB, max(1, int(mean) - 1), int(mean) + 1], 3
        )
    )
    if chance.random() < 0.3:
        reads = [chance.choice(reads)]
    # Not more than some thousand reads.
    least_read = mean * plan.count * plan.connections * plan.writers / (2500 * (4 if long else 1))
    plan.reads = tuple(sorted({max(size, int(least_read), 1) for size in reads}))


def _draw_both(plan: Plan, chance: random.Random, *, long: bool) -> None:
    plan.message_type = plan.message_mode = chance.random() < 0.5
    plan.writer_hurry = 0.0
    plan.read_depth = 1  # a read that is left over would outlive its connection's last byte
    plan.flushes = 0.0
    _draw_sizes(plan, chance, long=long)
    plan.connections = min(plan.connections, 10)
    if plan.message_mode and chance.random() < 0.4:
        plan.reads = (0,)


def _draw_requests(plan: Plan, chance: random.Random, *, long: bool) -> None:
    plan.message_type = plan.message_mode = True
    plan.first_serves = False
    plan.write_depth = plan.read_depth = 1
    plan.flushes = 0.0
    plan.sizes = tuple(sorted(chance.sample([0, 1, 100, 4096, 5000, 65536, 65537, 200_000, plan.quota + 1], 3)))
    plan.reads = (0,) if chance.random() < 0.5 else tuple(chance.sample([10, 4096, 65536, 250_000], 2))
    if plan.kind == "call":
        plan.connections, plan.count, plan.reads = chance.randint(5, 40) * (4 if long else 1), 1, (0,)
        plan.writer_hurry = 0.0
    else:
        plan.count = chance.randint(5, 200) * (4 if long else 1)
        plan.peeks = chance.choice([0, 0.2])


def _fixed(number: int, face: str, *, long: int = 1, **options: Any) -> Plan:
    plan = Plan(-number, "stream", face, face, **options)
    if plan.connections > 1:
        plan.connections *= long
    else:
        plan.count *= long
    return plan


def reported(times: int) -> dict[str, Plan]:
    """Return the cases in which bytes were lost, each `times` as long as in the short form."""
    small = (1000, 5000)
    return {
        "64 KiB written, 1 MiB read": _fixed(1, "sync", long=times, count=400, sizes=(65536,), reads=(MIB,)),
        "4 KiB written, 64 KiB read": _fixed(2, "sync", long=times, quota=4096, count=10_000),
        "short connections, 1,000 bytes": _fixed(3, "sync", long=times, connections=300, count=60, sizes=(1000,)),
        "short connections, 5,000 bytes": _fixed(4, "sync", long=times, connections=300, count=60, sizes=(5000,)),
        "ReadFile of 65,536 bytes": _fixed(5, "win32", long=times, quota=4096, count=10_000),
        "short connections of win32file": _fixed(6, "win32", long=times, connections=300, count=60, sizes=small),
        "overlapped reads": _fixed(
            7, "overlapped", long=times, count=10_000, sizes=small, write_depth=16, read_depth=4
        ),
        "aio, 64 KiB written, 1 MiB read": _fixed(8, "aio", long=times, count=400, sizes=(65536,), reads=(MIB,)),
        "aio, 4 KiB written, 64 KiB read": _fixed(9, "aio", long=times, quota=4096, count=10_000),
        "short connections of aio": _fixed(10, "aio", long=times, connections=300, count=60, sizes=small),
    }


def copied(size: int, length: int, *, server_writes: bool) -> Plan:
    """Return a plan of a file of `size` bytes that is copied through makefile.

    `length` is that of the reader's shutil.copyfileobj; 0 for the default.
    """
    return Plan(-100, "copy", "file", "file", first_serves=server_writes, count=1, sizes=(size,), reads=(length,))
