"""One end of a connection: the segment, its two rings, sleeping and waking (docs/protocol.md, sections 4 to 6).

Nothing here is npipe's: it is written from the page, and each part says which words of it it is. An end is one
thread's. Errors have Win32's codes (`PipeError.code`).
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import atomics
from atomics import Words

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BYTE", "CLIENT", "DUPLEX", "INBOUND", "MESSAGE", "OUTBOUND", "READ", "SERVER", "WRITE", "Link", "Part",
    "PipeError", "Write", "create_segment",
]  # fmt: skip

# ---- The segment (section 4)

MAGIC: Final = 0x4B4C504E  # "NPLK"
VERSION: Final = 2
PAGE: Final = 4096
_HEADER: Final = struct.Struct("<II Q QQ QQ II II II Q")
END_STATES: Final = (128, 256)  # of the server's and the client's end
SLEEPS: Final = (384, 512)  # likewise
DIRECTIONS: Final = (640, 1408)  # inbound, outbound

SERVER, CLIENT = 0, 1
INBOUND, OUTBOUND, DUPLEX = 1, 2, 3
READ, WRITE = 1, 2
BYTE, MESSAGE = 0, 4

OPEN, CLOSED, DISCONNECTED, ABORTED = 1, 2, 3, 4  # states of an end

# A direction:
TAIL, ANNOUNCED = 0, 8
HEAD, CONSUMED, TAKEN = 128, 136, 144
STATES, PUT = 384, 512
REWINDS, BEGIN = 640, 648
SLOTS: Final = 32
NUMBERS: Final = 1 << 29  # of deferred entries

# A state's low three bits:
MOVING, LIVE, BUSY, PARTIAL, WITHDRAWN, DONE, REWOUND, CUT = range(8)

# How a side sleeps:
FLAGS, SEQ, WAKE_HEAD, WAKE_CONSUMED, WAKE_TAKEN = 0, 4, 8, 16, 24
FOR_DATA, FOR_ROOM, BYTE_FOR_DATA, BYTE_FOR_ROOM, CONTENDED = 1, 2, 4, 8, 32
NEVER: Final = (1 << 64) - 1
ALL_BITS: Final = 0xFFFFFFFF

LONGEST_HEADER: Final = 6
PIECE: Final = 32768  # of a long entry: both sides copy at once
FUTILE: Final = 65536  # entries in a row that lead to nothing

# Win32's codes:
INVALID_DATA, BROKEN_PIPE, TIMED_OUT, NO_DATA, NOT_CONNECTED, MORE_DATA = 13, 109, 121, 232, 233, 234
ACCESS_DENIED, INVALID_HANDLE = 5, 6


class PipeError(Exception):
    """A call of a pipe has failed."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} (Win32 code {code})")
        self.code = code


def capacity_of(quota: int) -> int:
    """The bytes of a ring for this quota."""
    capacity = 65536
    while capacity < 4 * quota and capacity < 1 << 31:
        capacity *= 2
    return capacity


def create_segment(kind: int, direction: int, quotas: tuple[int, int], client_pid: int) -> int:
    """Make the segment of a new connection; its descriptor."""
    inbound, outbound = map(capacity_of, quotas)
    size = PAGE + inbound + outbound
    segment = os.memfd_create("example-link", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(segment, size)
    fcntl.fcntl(segment, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    header = _HEADER.pack(
        MAGIC, VERSION, size, PAGE, PAGE + inbound, inbound, outbound, *quotas, kind, direction, os.getpid(),
        client_pid, 0,
    )  # fmt: skip
    os.pwrite(segment, header, 0)
    for place in END_STATES:
        os.pwrite(segment, OPEN.to_bytes(4, "little"), place)
    return segment


class Shape(NamedTuple):
    """What the segment's header says, checked."""

    size: int
    rings: tuple[int, int]
    capacities: tuple[int, int]
    quotas: tuple[int, int]
    kind: int
    direction: int
    server_pid: int
    client_pid: int


def check_segment(segment: int) -> Shape:
    """Check a segment that another process has made: it could be cut short, or say anything."""
    seals = fcntl.fcntl(segment, fcntl.F_GET_SEALS)
    size = os.fstat(segment).st_size
    needed = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    if seals & needed != needed or seals & fcntl.F_SEAL_WRITE or size < PAGE:
        raise PipeError(INVALID_DATA, "the segment is not sealed as it should be")
    fields = _HEADER.unpack(os.pread(segment, _HEADER.size, 0))
    magic, version, said = fields[:3]
    rings, capacities, quotas = fields[3:5], fields[5:7], fields[7:9]
    kind, direction, server_pid, client_pid, _token = fields[9:]
    inbound, outbound = map(capacity_of, quotas)
    if (
        (magic, version, said) != (MAGIC, VERSION, size)
        or (kind not in (BYTE, MESSAGE) or not INBOUND <= direction <= DUPLEX)
        or capacities != (inbound, outbound)
        or rings != (PAGE, PAGE + inbound)
        or size != PAGE + inbound + outbound
    ):
        raise PipeError(INVALID_DATA, "the segment is not as it should be")
    return Shape(size, rings, capacities, quotas, kind, direction, server_pid, client_pid)


# ---- Entries (section 5)


def plain_header(length: int) -> bytes:
    """The header of a plain entry: the shortest that there is for its length."""
    if length < 128:
        return bytes((length,))
    if length < 16384:
        return bytes((0x80 | length >> 8, length & 0xFF))  # big-endian, unlike all else
    return b"\xc0" + length.to_bytes(4, "little")


def deferred_header(slot: int, length: int) -> bytes:
    """The header of a deferred entry."""
    return bytes((0xC1, slot)) + length.to_bytes(4, "little")


@dataclass
class Entry:
    """The entry at the head of a ring that is read."""

    header: int  # bytes
    length: int
    number: int | None = None  # of a deferred one
    begun: bool = False
    pulled: int = 0  # payload bytes that left the ring
    delivered: int = 0  # of these, which reads have got
    stash: bytearray = field(default_factory=bytearray)  # the others


@dataclass
class Write:
    """A write: complete, or pending."""

    data: bytes
    end: int  # its place among all payload
    entry: int  # its number among all entries, from 1
    number: int | None = None  # of a deferred entry
    begun: bool = False  # its header is in the ring
    put: int = 0  # payload bytes in the ring
    done: bool = False
    withdrawn: bool = False
    delivered: int = 0  # of a withdrawn one: what the reader has


@dataclass
class Outstanding:
    """A deferred entry that is not taken yet."""

    entry: int
    place: int  # of its header
    number: int
    put: bool = False  # all of it, or as much as there will be
    withdrawn: bool = False


class Part(NamedTuple):
    """What a read has got."""

    data: bytes
    more: bool  # the message goes on: MORE_DATA


class Ring:
    """What producer and consumer have in common."""

    def __init__(self, link: Link, which: int) -> None:
        self.link = link
        self.words = link.words
        self.memory = link.memory
        self.at = DIRECTIONS[which]
        self.start = link.shape.rings[which]
        self.capacity = link.shape.capacities[which]
        self.quota = link.shape.quotas[which]
        self.head = self.tail = self.begin = 0
        self.consumed = self.taken = self.rewinds = 0

    def _state_at(self, number: int) -> int:
        return self.at + STATES + 4 * (number % SLOTS)

    def _offset(self, position: int) -> int:
        return (position - self.begin) % self.capacity

    def _swap_state(self, number: int, old: int, new: int) -> bool:
        return self.words.swap32(self._state_at(number), number << 3 | old, number << 3 | new)

    def _set_state(self, number: int, state: int) -> None:
        self.words.store32(self._state_at(number), number << 3 | state)


class Producer(Ring):
    """The side of a ring that writes. The private truth is here; what is in the segment tells the consumer of it."""

    def __init__(self, link: Link, which: int) -> None:
        super().__init__(link, which)
        self.announced = 0
        self.placed = 0  # payload that was put into the ring, less what was withdrawn
        self.entries = self.last_put = 0
        self.next_number = 0
        self.pending: list[Write] = []
        self.outstanding: deque[Outstanding] = deque()

    def _free(self) -> int:
        return self.capacity - (self.tail - self.head)

    def _refresh(self) -> None:
        """Load what the consumer says, each word once, and check it."""
        head = self.words.load64(self.at + HEAD)
        taken = self.words.load64(self.at + TAKEN)
        consumed = self.words.load64(self.at + CONSUMED)
        if (
            not self.head <= head <= self.tail
            or not self.consumed <= consumed <= self.placed
            or not self.taken <= taken <= self.last_put
        ):
            raise self.link.violated("the reader says what cannot be")
        self.head, self.taken, self.consumed = head, taken, consumed
        while self.outstanding and self.outstanding[0].put and self.outstanding[0].entry <= taken:
            self.outstanding.popleft()

    def moved(self) -> bool:
        """Whether the consumer has moved since."""
        return (
            self.words.load64(self.at + HEAD) != self.head
            or self.words.load64(self.at + TAKEN) != self.taken
            or self.words.load64(self.at + CONSUMED) != self.consumed
        )

    def _copy_in(self, data: bytes | memoryview) -> None:
        offset = self._offset(self.tail)
        first = min(len(data), self.capacity - offset)
        self.memory[self.start + offset : self.start + offset + first] = bytes(data[:first])
        self.memory[self.start : self.start + len(data) - first] = bytes(data[first:])
        self.tail += len(data)

    def _publish(self) -> None:
        self.words.store64(self.at + ANNOUNCED, self.announced)
        self.words.store64(self.at + TAIL, self.tail)
        self.link.wake(FOR_DATA | BYTE_FOR_DATA)

    def start_write(self, data: bytes) -> Write:
        """Queue a write, and put as much of it into the ring as there is room for."""
        self._refresh()
        self.announced += len(data)
        self.entries += 1
        write = Write(data, self.announced, self.entries)
        self.pending.append(write)
        self.step()
        self.words.store64(self.at + ANNOUNCED, self.announced)
        return write

    def step(self) -> None:
        """Move pending writes on with the room that the consumer has made."""
        self._refresh()
        for write in self.pending:
            if not self._put(write):
                break
        for write in [write for write in self.pending if self._complete(write)]:  # an empty one may be before its turn
            write.done = True
            self.pending.remove(write)

    def _within(self, write: Write) -> bool:
        return not write.data or write.end - self.consumed <= self.quota

    def _complete(self, write: Write) -> bool:
        return write.begun and write.put == len(write.data) and self._within(write)

    def _put(self, write: Write) -> bool:
        """Put more of it into the ring; whether all of it is there."""
        length = len(write.data)
        if not write.begun:
            header = plain_header(length)
            if self._within(write) and len(header) + length <= self._free():
                write.begun, write.put = True, length
                self.placed += length
                self.last_put = write.entry
                self._copy_in(header + write.data)
                self._publish()
                return True
            if not write.data or not self._has_slot() or self._free() <= LONGEST_HEADER:
                return False
            self._put_deferred_header(write)
        while write.put < length:
            piece = min(length - write.put, PIECE, self._free())
            if piece == 0:
                return False
            self._copy_in(memoryview(write.data)[write.put : write.put + piece])
            write.put += piece
            self.placed += piece
            if write.put == length:
                self.outstanding[-1].put = True
            self._publish()
        return True

    def _has_slot(self) -> bool:
        """Whether the next number's slot is free: its last user is taken. (Withdrawn ones have used up numbers.)"""
        return not self.outstanding or (self.next_number - self.outstanding[0].number) % NUMBERS < SLOTS

    def _put_deferred_header(self, write: Write) -> None:
        number = write.number = self.next_number
        self.next_number = (number + 1) % NUMBERS
        write.begun = True
        self.last_put = write.entry
        self.outstanding.append(Outstanding(write.entry, self.tail, number))
        self._set_state(number, LIVE)  # before the tail that shows the header
        self._copy_in(deferred_header(number % SLOTS, len(write.data)))

    def withdraw(self, write: Write) -> bool | None:
        """Withdraw a pending write. True: nothing more of it will be read. False: it is complete. None: try again."""
        self.step()
        if write.done:
            return False
        if not write.begun:
            self._take_back(write, len(write.data))
            self._unnumber(write.entry)
            self._count_rewind()
            self._over(write)
            return True
        if write.number is None:
            return False  # plain: it is complete
        state = self.words.load32(self._state_at(write.number)) & 7
        if state not in (LIVE, PARTIAL):
            return None  # the consumer copies just now, or is about to say that it is done
        last = write.entry == self.last_put
        self.words.store32(self.at + PUT + 4 * (write.number % SLOTS), write.put)
        if not self._swap_state(write.number, state, MOVING):
            return None
        self._refresh()  # what was consumed of it: from here on that stands still
        write.delivered = max(0, self.consumed - (write.end - len(write.data)))
        if write.delivered > len(write.data):
            raise self.link.violated("more was consumed than was written")
        self.placed -= write.put - write.delivered
        self._take_back(write, len(write.data) - write.delivered)
        own = next(item for item in self.outstanding if item.number == write.number)
        own.put = own.withdrawn = True
        if last and state == LIVE:
            if self.head > own.place:
                raise self.link.violated("what no read has begun was taken")
            self._rewind(own.place)
            self.outstanding.pop()
            self.last_put -= 1
            self._unnumber(write.entry)
            self._end_moving(write.number, REWOUND)
        elif last:
            self._rewind(self.head)
            self._end_moving(write.number, CUT)
        else:
            self._end_moving(write.number, WITHDRAWN)
        self._over(write)
        return True

    def _take_back(self, write: Write, rest: int) -> None:
        self.announced -= rest
        for later in self.pending:
            if later.entry > write.entry:
                later.end -= rest
        self.words.store64(self.at + ANNOUNCED, self.announced)

    def _unnumber(self, entry: int) -> None:
        """It is as if it had never been: those behind it move up. (None of them is in the ring.)"""
        self.entries -= 1
        for later in self.pending:
            if later.entry > entry:
                later.entry -= 1

    def _count_rewind(self) -> None:
        self.rewinds = (self.rewinds + 1) & ALL_BITS
        self.words.store32(self.at + REWINDS, self.rewinds)

    def _rewind(self, position: int) -> None:
        self.tail = position
        self.words.store64(self.at + TAIL, position)
        self._count_rewind()
        atomics.fence()  # other bytes come behind the count

    def _end_moving(self, number: int, state: int) -> None:
        self._set_state(number, state)
        self._count_rewind()

    def _over(self, write: Write) -> None:
        write.withdrawn = True
        self.pending.remove(write)
        self.link.wake(FOR_DATA | FOR_ROOM | BYTE_FOR_DATA | BYTE_FOR_ROOM)
        self.step()  # what was behind it has room now

    def is_read(self, entry: int) -> bool:
        """Whether entries up to this one were read, or withdrawn."""
        gone = sum(self.taken < item.entry <= entry for item in self.outstanding if item.withdrawn)
        return self.taken + gone >= entry

    def set_thresholds(self, *, flush: bool) -> None:
        """Say what the consumer has to reach before it wakes this side."""
        head = consumed = taken = NEVER
        if self.pending:
            consumed = max(0, self.pending[0].end - self.quota)
        for write in self.pending:
            if write.begun and write.put == len(write.data):
                continue
            if not write.begun and not self._has_slot():
                taken = self.outstanding[0].entry
            else:
                wanted = min(len(write.data) - write.put + LONGEST_HEADER, self.capacity // 2)
                head = max(0, self.tail + wanted - self.capacity)
            break
        if flush:
            taken = min(taken, self.taken + 1)
        own = self.link.own_sleep
        self.words.store64(own + WAKE_HEAD, head)
        self.words.store64(own + WAKE_CONSUMED, consumed)
        self.words.store64(own + WAKE_TAKEN, taken)


class Consumer(Ring):
    """The side of a ring that reads."""

    def __init__(self, link: Link, which: int) -> None:
        super().__init__(link, which)
        self.is_message = link.shape.kind == MESSAGE
        self.entry: Entry | None = None
        self.trim: int | None = None  # the writer has died: deferred entries that end beyond this were not written

    def refresh(self) -> None:
        """Load what the producer says, each word once, and check it."""
        rewinds = self.words.load32(self.at + REWINDS)  # before the tail
        tail = self.words.load64(self.at + TAIL)
        entry = self.entry
        if entry and entry.number is not None and not entry.begun and (rewinds != self.rewinds or tail < self.head):
            self._forget_header()  # the tail goes back before the count moves
            entry = None
        if rewinds != self.rewinds:
            self.begin = self.words.load64(self.at + BEGIN)
        if not 0 <= tail - self.head <= self.capacity:
            raise self.link.violated("the writer's tail cannot be there")
        if entry and entry.number is None and tail - self.head < entry.length - entry.pulled:
            raise self.link.violated("the writer has taken a plain entry back")
        self.rewinds, self.tail = rewinds, tail

    def moved(self) -> bool:
        """Whether the producer has moved since."""
        return self.words.load64(self.at + TAIL) != self.tail or self.words.load32(self.at + REWINDS) != self.rewinds

    def _copy_out(self, size: int) -> bytes:
        offset = self._offset(self.head)
        first = min(size, self.capacity - offset)
        copy = self.memory[self.start + offset : self.start + offset + first]
        return copy + self.memory[self.start : self.start + size - first]

    def _forget_header(self) -> None:
        if self.entry:
            self.head -= self.entry.header
        self.entry = None

    def _rewound(self) -> bool:
        atomics.fence()  # what was read in the ring was read before the count
        return self.words.load32(self.at + REWINDS) != self.rewinds

    def _parse(self) -> bool:
        """Read the header at the head. False: it was taken back meanwhile."""
        there = self.tail - self.head
        header = self._copy_out(min(LONGEST_HEADER, there)).ljust(LONGEST_HEADER, b"\0")
        first = header[0]
        number = None
        if first < 0x80:
            size, length = 1, first
        elif first < 0xC0:
            size, length = 2, (first & 0x3F) << 8 | header[1]
        elif first == 0xC0:
            size, length = 5, int.from_bytes(header[1:5], "little")
        elif first == 0xC1:
            size, length = 6, int.from_bytes(header[2:6], "little")
            number = self.words.load32(self._state_at(header[1])) >> 3
        else:
            size, length = LONGEST_HEADER + 1, 0  # there is none
        if self._rewound():
            return False
        if (
            there < size
            or (number is None and there - size < length)
            or (number is not None and (header[1] >= SLOTS or number % SLOTS != header[1]))
        ):
            raise self.link.violated("this is no entry")
        self.entry = Entry(size, length, number)
        self.head += size
        return True

    def settle(self) -> Entry | None:
        """The entry that comes next; None: none is there."""
        for _ in range(FUTILE):
            if self.entry is None:
                if self.head == self.tail:
                    self.refresh()
                if self.head == self.tail:
                    return None
                if not self._parse():
                    self.refresh()
                    continue
            entry = self.entry
            assert entry is not None
            if entry.number is None:
                if entry.length or self.is_message:
                    return entry
                self._leave()  # of a byte pipe: it was to end a read of no bytes
                self._commit()
                continue
            if not entry.begun and self._rewound():
                self._forget_header()
                self.refresh()
                continue
            word = self.words.load32(self._state_at(entry.number))
            state = word & 7
            if word >> 3 != entry.number:
                if entry.begun:
                    raise self.link.violated("an entry's slot was used again before it was taken")
                self._forget_header()
                self.refresh()
                continue
            if state == MOVING:  # the producer is just withdrawing it, and moves `rewinds` when that is over:
                self.refresh()  # who goes to sleep over it has loaded the count before the state
                if self.entry is entry and self.words.load32(self._state_at(entry.number)) == word:
                    return None
                continue
            if self._is_alive(entry, entry.number, state):
                return entry
        raise self.link.violated("the writer takes back all that it writes")

    def _is_alive(self, entry: Entry, number: int, state: int) -> bool:
        """Whether the deferred entry at the head may be read. Else it has gone, and another one comes next."""
        if state == REWOUND and not entry.begun:
            self._forget_header()
            self.refresh()
        elif state == CUT:
            self._leave()
            self.refresh()
            self._commit()
        elif state == WITHDRAWN:
            if self._swap_state(number, WITHDRAWN, DONE):  # else the producer takes back more
                self._skip(entry, number)
        elif self.trim is not None and self.consumed - entry.delivered + entry.length > self.trim:
            self.refresh()
            if self.entry is entry:
                self._drop()
        else:
            return True
        return False

    def _skip(self, entry: Entry, number: int) -> None:
        entry.begun = True
        put = self.words.load32(self.at + PUT + 4 * (number % SLOTS))
        self.refresh()
        if not entry.pulled <= put <= entry.length or put - entry.pulled > self.tail - self.head:
            raise self.link.violated("so much of a withdrawn entry cannot be there")
        self.head += put - entry.pulled
        self._leave()
        self._commit()

    def _leave(self) -> None:
        self.entry = None
        self.taken += 1

    def _drop(self) -> None:
        """The rest of the entry does not come, nor what is behind it. After a refresh: all that ever came goes."""
        self.head = self.tail
        self._leave()
        self._commit()

    def drop_incomplete(self) -> None:
        """The peer has gone: forget an entry of which not all is in the ring."""
        self.refresh()
        if self.entry and self.entry.length - self.entry.pulled > self.tail - self.head:
            self._drop()

    def _commit(self) -> None:
        self.words.store64(self.at + CONSUMED, self.consumed)
        self.words.store64(self.at + TAKEN, self.taken)
        self.words.store64(self.at + HEAD, self.head)
        self._wake_writer()

    def _wake_writer(self) -> None:
        atomics.fence()
        peer = self.link.peer_sleep
        if self.words.load32(peer + FLAGS) & (FOR_ROOM | BYTE_FOR_ROOM) and (
            self.head >= self.words.load64(peer + WAKE_HEAD)
            or self.consumed >= self.words.load64(peer + WAKE_CONSUMED)
            or self.taken >= self.words.load64(peer + WAKE_TAKEN)
        ):
            self.link.wake(FOR_ROOM | BYTE_FOR_ROOM)

    def _claim(self, entry: Entry) -> bool:
        """Begin to copy. False: it is being withdrawn."""
        if entry.number is None:
            return True
        if not self._swap_state(entry.number, PARTIAL if entry.begun else LIVE, BUSY):
            word = self.words.load32(self._state_at(entry.number))
            mine = word >> 3 == entry.number and word & 7 in (MOVING, WITHDRAWN, REWOUND, CUT)
            if not mine and (entry.begun or not self._rewound()):
                raise self.link.violated("an entry's state cannot be that")
            return False
        entry.begun = True
        return True

    def pull(self, wanted: int) -> bool:
        """Take the head entry out of the ring until `wanted` bytes are in the stash. False: not so many come now."""
        while (entry := self.settle()) and len(entry.stash) < min(wanted, entry.length - entry.delivered):
            if self.head == self.tail:
                self.refresh()
                if self.entry is not entry:
                    continue
            size = min(wanted - len(entry.stash), entry.length - entry.pulled, self.tail - self.head, PIECE)
            if size == 0:
                return False
            if not self._claim(entry):
                continue
            entry.stash += self._copy_out(size)
            entry.pulled += size
            self.head += size
            if entry.number is not None:
                self.words.store64(self.at + HEAD, self.head)  # before the state: the producer may cut here
                self._set_state(entry.number, PARTIAL)
                self._wake_writer()
        return entry is not None

    def deliver(self, size: int) -> Part | None:
        """Give the first bytes of the stash to a read. None: the entry has just been withdrawn."""
        entry = self.entry
        assert entry is not None
        if not self._claim(entry):
            return None
        data = bytes(entry.stash[:size])
        del entry.stash[:size]
        entry.delivered += size
        self.consumed += size
        over = entry.delivered == entry.length
        # The counts before the state: a producer that sees it let go sees what was read of it.
        self.words.store64(self.at + CONSUMED, self.consumed)
        self.words.store64(self.at + HEAD, self.head)
        if over:
            self._leave()
        if entry.number is not None:
            self._set_state(entry.number, DONE if over else PARTIAL)
        self._commit()
        return Part(data, not over)


# ---- A link: both rings, and the socket


class Link:
    """One end of a connection, for one thread. It takes the segment's descriptor and the socket."""

    def __init__(self, segment: int, peer: socket.socket, side: int, access: int, *, by_socket: bool = False) -> None:
        """Begin with a segment that the other side has sent, or is to get.

        Args:
            segment: its descriptor; closed here.
            peer: the rendezvous' socket, which is the link's from here on.
            side: SERVER or CLIENT.
            access: what the client has opened the pipe for: READ, WRITE, or both.
            by_socket: sleep on the socket, for a byte, and not on the futex.
        """
        self.socket = peer
        try:
            self.shape = check_segment(segment)
            self.memory = mmap.mmap(segment, self.shape.size)
        finally:
            os.close(segment)
        self.memory.madvise(mmap.MADV_DONTFORK)  # two processes must not act as one side
        self.words = Words(self.memory)
        self.side = side
        self.access = access if side == CLIENT else (access >> 1 & 1) | (access & 1) << 1
        self.own_state, self.peer_state = END_STATES[side], END_STATES[1 - side]
        self.own_sleep, self.peer_sleep = SLEEPS[side], SLEEPS[1 - side]
        self.consumer = Consumer(self, 0 if side == SERVER else 1)
        self.producer = Producer(self, 1 if side == SERVER else 0)
        self.by_socket = by_socket
        self.socket.setblocking(False)
        self.gone = False  # the socket has hung up
        self.known = (False, OPEN)  # that, and the peer's state, when they were looked at last
        self.broken: str | None = None
        self.closed = False
        self.on_end: Callable[[], None] | None = None  # called once it is closed
        self._watcher: threading.Thread | None = None
        if not by_socket:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()

    # -- Sleeping and waking (section 6)

    def wake(self, kinds: int) -> None:
        """Wake the other side if it sleeps in one of these ways."""
        atomics.fence()
        if not self.words.load32(self.peer_sleep + FLAGS) & kinds:
            return
        flags = self.words.change32(self.peer_sleep + FLAGS, ALL_BITS & ~(kinds | CONTENDED), 0) & kinds
        if flags & (FOR_DATA | FOR_ROOM):
            self.words.change32(self.peer_sleep + SEQ, ALL_BITS, 0, 1)
            self.words.wake(self.peer_sleep + SEQ, flags & (FOR_DATA | FOR_ROOM))
        if flags & (BYTE_FOR_DATA | BYTE_FOR_ROOM):
            with contextlib.suppress(OSError):  # a full one is readable already, and who has gone needs no waking
                self.socket.send(b"\1", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _watch(self) -> None:
        """Wait for the hang-up, which wakes no sleeper of the futex: that is done here."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        poll.poll()
        self.gone = True
        self.words.change32(self.own_sleep + SEQ, ALL_BITS, 0, 1)
        self.words.wake(self.own_sleep + SEQ, FOR_DATA | FOR_ROOM)

    def _has_hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        self.gone = self.gone or bool(poll.poll(0))
        return self.gone

    def _sleep(self, flag: int, moved: Callable[[], bool], deadline: float | None) -> None:
        """Sleep until the other side has moved, unless it has by now. PipeError 121: it has not in time."""

        def ready() -> bool:
            return moved() or (self.gone, self.words.load32(self.peer_state)) != self.known

        if deadline is not None and time.monotonic() >= deadline:
            raise PipeError(TIMED_OUT, "the time is up")
        if not self.by_socket:
            seq = self.words.load32(self.own_sleep + SEQ)
            self.words.change32(self.own_sleep + FLAGS, ALL_BITS, flag)
            atomics.fence()
            if not ready():
                self.words.wait(self.own_sleep + SEQ, seq, flag, deadline)
            return
        self.words.change32(self.own_sleep + FLAGS, ALL_BITS, flag << 2)
        atomics.fence()
        if ready():
            return
        poll = select.poll()
        poll.register(self.socket, select.POLLIN | select.POLLRDHUP)
        poll.poll(None if deadline is None else max(0, deadline - time.monotonic()) * 1000)
        with contextlib.suppress(OSError):  # there is no more, or the peer has gone
            for _ in range(16):  # who keeps to the rules leaves no more there
                if not self.socket.recv(1):
                    break

    # -- How it ends

    def violated(self, text: str) -> PipeError:
        """End the link, for the peer breaks the rules; the error for it."""
        self.broken = text
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        return PipeError(INVALID_DATA, text)

    def _check(self, access: int) -> bool:
        """Whether the peer is there still, by now; PipeError if this end cannot be used."""
        if self.closed:
            raise PipeError(INVALID_HANDLE, "this end is closed")
        if not self.access & access:
            raise PipeError(ACCESS_DENIED, "it was not opened for that")
        if self.broken:
            raise PipeError(INVALID_DATA, self.broken)
        gone = self._has_hung_up()
        state = self.words.load32(self.peer_state)  # behind the look at the socket
        self.known = (gone, state)
        if state == DISCONNECTED and self.side == CLIENT:
            raise PipeError(NOT_CONNECTED, "the server has disconnected")
        if state == OPEN and gone and self.consumer.trim is None:
            self.consumer.trim = self.consumer.consumed + self.consumer.quota  # it died
        return state == OPEN and not gone

    def end(self, state: int) -> None:
        """End this end, in this state."""
        if self.closed:
            return
        self.closed = True
        self.words.store32(self.own_state, state)
        self.wake(FOR_DATA | FOR_ROOM)  # the fence is in it; the hang-up tells those who wait for the socket
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        if self._watcher:
            self._watcher.join()
        self.socket.close()
        self.words.close()
        self.memory.close()
        if self.on_end:
            self.on_end()

    def close(self) -> None:
        """Close: what stands in the ring in full stays readable."""
        self.end(CLOSED)

    def abort(self) -> None:
        """Close, and discard what was not read: DisconnectNamedPipe at the server's end."""
        self.end(DISCONNECTED if self.side == SERVER else ABORTED)

    # -- Reading

    def _read(self, size: int, deadline: float | None, *, whole: bool) -> Part:
        while True:
            is_there = self._check(READ)  # before the look at the ring: then an empty one stays empty
            if not is_there and self.words.load32(self.peer_state) == ABORTED:
                raise PipeError(BROKEN_PIPE, "the other end is closed")
            consumer = self.consumer
            entry = consumer.settle()
            if entry and entry.length - entry.delivered > size and (whole or size == 0):
                if whole:
                    raise PipeError(MORE_DATA, "the message is longer than it may be")
                return Part(b"", more=True)
            if consumer.pull(size):
                entry = consumer.entry
                assert entry is not None
                part = consumer.deliver(min(size, len(entry.stash)))
                if part:
                    return part
                continue
            entry = consumer.entry
            if entry and entry.stash and not consumer.is_message:
                part = consumer.deliver(len(entry.stash))  # of a byte pipe: what there is
                if part:
                    return part
                continue
            if not is_there:
                consumer.drop_incomplete()
                raise PipeError(BROKEN_PIPE, "the other end is closed")
            self._sleep(FOR_DATA, consumer.moved, deadline)

    def read(self, size: int, deadline: float | None = None) -> Part:
        """Read a message, or its next `size` bytes at most; of a byte pipe, bytes of one entry.

        Args:
            size: bytes; 0 looks whether the next message is an empty one, which it takes.
            deadline: on time.monotonic()'s clock.

        Raises:
            PipeError: 121 the time is up; 109 the other end is closed; 233 disconnected; 13 it broke the rules.
        """
        return self._read(size, deadline, whole=False)

    def receive(self, deadline: float | None = None, most: int = 1 << 30) -> bytes:
        """Read a whole message, or what is left of one. One that is withdrawn meanwhile has never been there."""
        return self._read(most, deadline, whole=True).data

    # -- Writing

    def _may_write(self, *, pending: bool) -> None:
        if not self._check(WRITE):
            raise PipeError(BROKEN_PIPE if pending else NO_DATA, "the other end is closed")

    def start_write(self, data: bytes) -> Write:
        """Begin a write, and do not wait for its end."""
        self._may_write(pending=False)
        if not data and self.shape.kind == BYTE:
            return Write(data, 0, 0, done=True)  # no effect at all
        return self.producer.start_write(data)

    def finish_write(self, write: Write, deadline: float | None = None) -> None:
        """Wait until a write is complete. PipeError 121: it is not in time, and goes on."""
        while not write.done:
            is_there = self._check(WRITE)  # before the counts: what was read before the peer went is written
            self.producer.step()
            if write.done:
                return
            if not is_there:
                raise PipeError(BROKEN_PIPE, "the other end is closed")
            self.producer.set_thresholds(flush=False)
            self._sleep(FOR_ROOM, self.producer.moved, deadline)

    def withdraw(self, write: Write) -> bool:
        """Withdraw a write. Whether nothing more of it will be read; `write.delivered` bytes have been."""
        until = time.monotonic() + 1  # a reader copies for microseconds; one that was stopped is given up
        while not write.withdrawn and not write.done:
            self._may_write(pending=True)
            if self.producer.withdraw(write) is None and time.monotonic() > until:
                raise self.violated("the reader copies for ever")
        return write.withdrawn

    def write(self, data: bytes, deadline: float | None = None) -> None:
        """Write one message, or bytes.

        Args:
            data: the message.
            deadline: on time.monotonic()'s clock. A write that is not complete then is withdrawn.

        Raises:
            PipeError: 121 the time is up, and nothing is left of the write; 232 the other end is closed; 109 it was
                closed meanwhile; 233 disconnected; 13 it broke the rules.
        """
        write = self.start_write(data)
        try:
            self.finish_write(write, deadline)
        except PipeError as error:
            if error.code != TIMED_OUT or self.withdraw(write):
                raise

    def flush(self, deadline: float | None = None) -> None:
        """Wait until all that was written is read. PipeError 109: the other end was closed meanwhile."""
        if not self._check(WRITE):
            return  # nobody is there to read
        entry = self.producer.entries
        while True:
            is_there = self._check(WRITE)  # before the counts, as for a write
            self.producer.step()
            if self.producer.is_read(entry):
                return
            if not is_there:
                raise PipeError(BROKEN_PIPE, "the other end is closed")
            self.producer.set_thresholds(flush=True)
            self._sleep(FOR_ROOM, self.producer.moved, deadline)
