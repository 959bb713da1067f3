"""The ring of records that an owner writes, and the events that they make. What stands there is the owner's word."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from npipe.binding import full_fence
from npipe.tracing.events import Event, Flags, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HEADER_SIZE", "Assembler", "Record", "RecordError", "Ring", "new_header"]

HEADER_SIZE: Final = 4096
_MAGIC: Final = 0x5254504E
_VERSION: Final = 1
_RECORD: Final = struct.Struct("<IHHqQIIIIIIII")
_TAIL, _LOST, _HEAD = 8, 9, 16  # as u64
_WAITS = 34  # as u32
_MOST_OPEN = 4096
_OWNERS_KINDS: Final = frozenset({Kind.DATA, Kind.OPENED, Kind.PRESENT, Kind.CLOSED, Kind.GONE})
_ALL_FLAGS: Final = 63


class RecordError(ValueError):
    """What the owner says makes no sense: nothing more of it is believed."""


class Record(NamedTuple):
    """One of the owner's records; the fields are those of docs/protocol.md, section 9."""

    kind: Kind
    flags: Flags
    time: int
    connection: int
    pid: int
    code: int
    sequence: int
    total: int
    offset: int
    length: int
    lost: int
    data: bytes


def new_header(capacity: int) -> bytes:
    """Return the first bytes of a ring of `capacity` bytes, a power of two."""
    return struct.pack("<IIQ", _MAGIC, _VERSION, capacity)


class Ring:
    """The reading side of a ring of records in `memory`, which somebody else writes: `snaplen` bytes of each write."""

    def __init__(self, memory: memoryview, snaplen: int = 0xFFFFFFFF) -> None:
        self._snaplen = snaplen
        self._bytes = memory.cast("B")
        self._words = self._bytes.cast("Q")
        self._halves = self._bytes.cast("I")
        self._capacity = len(self._bytes) - HEADER_SIZE
        self._head = 0

    def release(self) -> None:
        """Let the memory go."""
        for view in (self._halves, self._words, self._bytes):
            view.release()

    @property
    def lost(self) -> int:
        """How many records the owner says were lost."""
        return self._words[_LOST]

    @property
    def has_more(self) -> bool:
        """Whether there is something to read."""
        return self._words[_TAIL] != self._head

    def await_more(self, *, waits: bool) -> None:
        """Say that a byte through the socket is wanted when there is more, or is not. A fence is to follow."""
        self._halves[_WAITS] = waits

    def _copy(self, position: int, size: int) -> bytes:
        begin = position % self._capacity
        first = min(size, self._capacity - begin)
        piece = bytes(self._bytes[HEADER_SIZE + begin : HEADER_SIZE + begin + first])
        return piece if first == size else piece + bytes(self._bytes[HEADER_SIZE : HEADER_SIZE + size - first])

    def read(self) -> Iterator[Record]:
        """Take the records that are there; RecordError: they make no sense."""
        tail = self._words[_TAIL]
        full_fence()  # the records come after what says that they are there
        while self._head != tail:
            there = tail - self._head
            if not _RECORD.size <= there <= self._capacity:
                raise RecordError(f"{there} bytes of records, in a ring of {self._capacity}")
            header = self._copy(self._head, _RECORD.size)
            size, kind, flags, time, connection, pid, code, sequence, total, offset, length, captured, lost = (
                _RECORD.unpack(header)
            )
            if size % 8 or not _RECORD.size + captured <= size <= there or captured > length:
                raise RecordError(f"a record of {size} bytes with {captured} of {length}, where {there} are")
            if kind not in _OWNERS_KINDS or flags & ~_ALL_FLAGS or offset + length > total:
                raise RecordError(f"kind {kind}, flags {flags}, bytes {offset} to {offset + length} of {total}")
            if kind == Kind.DATA and captured and offset + captured > self._snaplen:
                raise RecordError(f"{offset + captured} bytes of a write, where {self._snaplen} were asked for")
            data = self._copy(self._head + _RECORD.size, captured)
            self._head += size
            full_fence()  # they are read before the room is given back
            self._words[_HEAD] = self._head
            flagged = Flags(flags)
            yield Record(Kind(kind), flagged, time, connection, pid, code, sequence, total, offset, length, lost, data)


class _Open:
    """A message of which not all has come."""

    def __init__(self, first: Record) -> None:
        self.first = first
        self.length = 0
        self.pieces: list[bytes] = []

    def add(self, record: Record) -> None:
        self.length += record.length
        if record.data:
            self.pieces.append(record.data)


class Assembler:
    """Makes messages of one owner's records."""

    def __init__(self, pipe: str, owner: int) -> None:
        self._pipe = pipe
        self._owner = owner
        self._open: dict[tuple[int, Flags], _Open] = {}

    def _event(self, record: Record, flags: Flags, size: int, data: bytes = b"") -> Event:
        return Event(
            record.time,
            record.kind,
            flags,
            self._pipe,
            self._owner,
            record.connection,
            record.pid,
            record.code,
            size,
            data,
        )

    def _end(self, key: tuple[int, Flags], last: Record | None) -> Event | None:
        """Return what has come of a message that ends with `last`, or of which the rest is missing."""
        opened = self._open.pop(key, None)
        if opened is None:
            return None
        record = opened.first if last is None else last
        flags = opened.first.flags & ~Flags.LAST
        if last is not None:
            flags |= last.flags & (Flags.LAST | Flags.WITHDRAWN)
        return self._event(record, flags, opened.length, b"".join(opened.pieces))

    def _end_all(self, connection: int | None = None) -> Iterator[Event]:
        for key in [key for key in self._open if connection is None or key[0] == connection]:
            ended = self._end(key, None)
            if ended is not None:
                yield ended

    def take(self, record: Record) -> Iterator[Event]:
        """Return the events that are known now."""
        if record.lost:
            yield from self._end_all()
            lost = record._replace(kind=Kind.LOST, code=0)
            yield self._event(lost, Flags(0), record.lost)
        if record.kind is not Kind.DATA:
            if record.kind is Kind.CLOSED:
                yield from self._end_all(record.connection)
            elif record.kind is Kind.GONE:  # nothing is written to it any more; what it has written can still be read
                ended = self._end((record.connection, Flags.OUT), None)
                if ended is not None:
                    yield ended
            yield self._event(record, record.flags, 0)
            return
        key = record.connection, record.flags & Flags.OUT
        if record.flags & Flags.WITHDRAWN:
            opened = self._open.get(key)
            ended = self._end(key, record) if opened and opened.first.sequence == record.sequence else None
            # Else of a write that was put as a whole, and told of before it was withdrawn.
            yield self._event(record, record.flags, 0) if ended is None else ended
            return
        if not record.flags & Flags.MESSAGE:
            yield self._event(record, record.flags, record.length, record.data)
            return
        opened = self._open.get(key)
        if opened is not None and (
            record.offset != opened.first.offset + opened.length or record.total != opened.first.total
        ):
            ended = self._end(key, None)
            if ended is not None:
                yield ended
            opened = None
        if opened is None:
            opened = self._open[key] = _Open(record)
        opened.add(record)
        if record.flags & Flags.LAST:
            ended = self._end(key, record)
            if ended is not None:
                yield ended
        elif len(self._open) > _MOST_OPEN:
            ended = self._end(next(iter(self._open)), None)
            if ended is not None:
                yield ended

    def finish(self) -> Iterator[Event]:
        """Return what is left: messages of which the rest has not come."""
        yield from self._end_all()
