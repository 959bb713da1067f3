"""What transports without the engine tell of their pipes, for who records this process (docs/tracing.md).

On Linux the engine tells of its own pipes (engine/ring/tap.c). Pipes of other machines, `npipe.connection`, and all
pipes on Windows have the functions here. Where nobody records, a pipe has None in the place of a `Tapped`, and its
calls pay for one look at that.
"""

from __future__ import annotations

import enum
import itertools
import os
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Bytes = bytes | bytearray | memoryview  # one byte each, in one piece

__all__ = ["Event", "Flags", "Kind", "Tap", "Tapped", "active", "tapped"]

_ABORTED: Final = 995
_MOST: Final = 1 << 24
_ABOUT: Final = 512  # bytes of memory that an event takes beside its data


class Kind(enum.IntEnum):
    """What has happened. The numbers are those of docs/protocol.md, section 9, and of files."""

    DATA = 1
    """A message, or a write to a byte pipe, or a part of it."""
    OPENED = 2
    """A connection begins."""
    PRESENT = 3
    """It was there when the trace began."""
    CLOSED = 4
    """The traced process has closed its end."""
    GONE = 5
    """The peer has closed its end, or has died."""
    LOST = 6
    """Records were lost: `size` is how many."""


class Flags(enum.IntFlag):
    """How a record is to be read. The numbers are those of docs/protocol.md, section 9, and of files."""

    OUT = 1
    """From the traced process to its peer."""
    FIRST = 2
    """It has the first bytes of its write."""
    LAST = 4
    """It has the last ones."""
    WITHDRAWN = 8
    """The rest of the write does not come."""
    SERVER = 16
    """The traced process is the server."""
    MESSAGE = 32
    """The pipe is a message pipe."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened on a connection."""

    time: int
    """Nanoseconds since 1970."""
    kind: Kind
    flags: Flags
    pipe: str
    r"""The full name, `\\.\pipe\NAME`."""
    owner: int
    """The traced process."""
    connection: int
    """That process's own number of the connection, from 1."""
    peer: int
    """The other process; 0: not known."""
    code: int = 0
    """Win32's code of it: 0; 995, a write was withdrawn; 109 or 233, the end."""
    size: int = 0
    """Bytes of the message, or of this part of it."""
    data: bytes = b""
    """What was recorded of them."""

    @property
    def direction(self) -> str:
        """Which way: "in" or "out", as the traced process sees it."""
        return "out" if self.flags & Flags.OUT else "in"

    @property
    def is_whole(self) -> bool:
        """Whether it is all of a message."""
        return self.flags & (Flags.FIRST | Flags.LAST | Flags.WITHDRAWN) == Flags.FIRST | Flags.LAST


_NO_FLAGS: Final = Flags(0)

_taps: tuple[Tap, ...] = ()  # replaced as a whole, so that nobody needs a lock to look
_beginning = threading.Lock()  # to replace it
_tap_numbers = itertools.count(1)  # with that: the last tap has the highest one
_numbers = itertools.count(1)


class Tap:
    """One who is told of what this process's pipes do: a queue of bounded memory. Nobody ever waits for its reader.

    Args:
        snaplen: bytes of each message that are kept.
        wake: called when something has come and the reader waits (see `wait`), by whoever has moved that: also a
            moment after `end`. It must not wait, or raise.
        most: bytes of memory for what was not taken yet; what finds no room is lost, and counted.
    """

    def __init__(self, snaplen: int, wake: Callable[[], object], *, most: int = _MOST) -> None:
        self.snaplen = snaplen
        self._wake = wake
        self._most = most
        # Reentrant: what is told may come from a signal's handler, or from __del__, in the midst of another one.
        self._lock = threading.RLock()
        self._events: deque[Event] = deque()
        self._size = 0
        self._lost = 0
        self._last = 0
        self._waits = False
        self._pid = os.getpid()
        self.number: int = 0
        """Of those that began, from 1. A connection tells those that were there when it began, and no later ones."""

    def begin(self) -> None:
        """Be told from now on, of connections that begin from now on."""
        global _taps
        with _beginning:
            self.number = next(_tap_numbers)
            _taps = (*_taps, self)

    def end(self) -> None:
        """Be told no more. Twice is nothing."""
        global _taps
        with _beginning:
            _taps = tuple(tap for tap in _taps if tap is not self)

    def put(
        self,
        kind: Kind,
        flags: Flags,
        pipe: str,
        connection: int,
        peer: int,
        code: int = 0,
        size: int = 0,
        data: bytes = b"",
    ) -> None:
        """Note an event; it is lost when there is no room."""
        needs = min(len(data), self.snaplen) + _ABOUT
        with self._lock:
            if self._size + needs > self._most:
                self._lost += 1
                return
            try:
                now = self._last = max(time.time_ns(), self._last)
                if self._lost:
                    lost = Event(now, Kind.LOST, _NO_FLAGS, pipe, self._pid, connection, peer, 0, self._lost)
                    self._events.append(lost)
                    self._lost = 0
                    self._size += _ABOUT
                held = data if len(data) <= self.snaplen else data[: self.snaplen]
                self._events.append(Event(now, kind, flags, pipe, self._pid, connection, peer, code, size, held))
            except MemoryError:
                self._lost += 1
                return
            self._size += needs
            waits, self._waits = self._waits, False
        if waits:
            self._wake()

    def lose(self) -> None:
        """Count an event that could not be noted."""
        with self._lock:
            self._lost += 1

    def take(self) -> list[Event]:
        """Return what has come, in its order."""
        taken: list[Event] = []
        size = 0
        while True:
            try:
                event = self._events.popleft()
            except IndexError:
                break
            size += len(event.data) + _ABOUT
            taken.append(event)
        with self._lock:
            self._size -= size
        return taken

    def wait(self) -> bool:
        """Say that the reader is about to wait; True: it need not, for there is something already."""
        with self._lock:
            self._waits = not self._events
            return not self._waits

    @property
    def lost(self) -> int:
        """How many events were lost since the last one that was noted."""
        return self._lost


def _after_fork() -> None:
    """Record nothing in a child that was forked: the taps, and who reads them, are its parent's."""
    global _taps, _beginning
    _taps = ()
    _beginning = threading.Lock()  # another thread's, which is not here, may have it


if sys.platform != "win32":
    from npipe.binding import new_connection_number as _new_number

    os.register_at_fork(after_in_child=_after_fork)
else:

    def _new_number() -> int:
        return next(_numbers)


class Tapped:
    """A connection of which something is told. Its reads come one after the other, as those of a pipe do."""

    def __init__(self, pipe: str, flags: Flags, peer: int) -> None:
        self._pipe = pipe
        self._flags = flags
        self._peer = peer
        self._number = _new_number()
        taps = _taps
        self._last_told = taps[-1].number if taps else 0
        self._pieces: list[bytes] = []  # of the message that is being read
        self._size = 0
        self._is_first = True  # what is read next begins a message
        self._is_over = False
        self._is_closed = False
        self._put(Kind.OPENED)

    def _put(self, kind: Kind, flags: Flags = _NO_FLAGS, *, code: int = 0, size: int = 0, data: bytes = b"") -> None:
        for tap in _taps:
            if tap.number <= self._last_told:
                tap.put(kind, self._flags | flags, self._pipe, self._number, self._peer, code, size, data)

    def most(self) -> int:
        """Return how many bytes of a message are kept at most."""
        return max((tap.snaplen for tap in _taps), default=0)

    def lose(self) -> None:
        """Tell that something could not be told."""
        for tap in _taps:
            tap.lose()

    def read(self, data: Bytes, *, more: bool = False, rest: int | None = None) -> None:
        """Tell of what a read has taken.

        Args:
            data: the bytes.
            more: of a message, that is not its end.
            rest: how many bytes of a message that has begun were still there before; if that is not what was read, its
                writer has given them up, and this is another message.
        """
        if not _taps:
            return
        try:
            view = memoryview(data)
            size = view.nbytes
            if rest is not None and (more or size != rest):
                self.broke_off()
            if not self._flags & Flags.MESSAGE:
                if size:
                    whole = Flags.FIRST | Flags.LAST
                    self._put(Kind.DATA, whole, size=size, data=bytes(view[: self.most()]))
                return
            if more and not size and self._is_first:
                return  # that there is one is all that was seen
            room = self.most() - sum(map(len, self._pieces))
            self._pieces.append(bytes(view[: max(0, room)]))
            self._size += size
            self._is_first = False
            if not more:
                self._end_message(Flags.LAST)
        except MemoryError:
            self.lose()
            self._forget()

    def took(self, *parts: Bytes, count: int | None = None) -> None:
        """Tell of a message that was read, all of it. See `wrote` for `count`."""
        self._tell_whole(parts, Flags.FIRST | Flags.LAST, 0, count)

    def _end_message(self, flags: Flags, code: int = 0) -> None:
        data, size = b"".join(self._pieces), self._size
        self._forget()
        self._put(Kind.DATA, Flags.FIRST | flags, code=code, size=size, data=data)

    def _forget(self) -> None:
        self._pieces, self._size, self._is_first = [], 0, True

    def broke_off(self) -> None:
        """Tell that the writer has given up the rest of the message that is being read."""
        if not self._is_first:
            self._end_message(Flags.WITHDRAWN, _ABORTED)

    def wrote(self, *parts: Bytes, count: int | None = None) -> None:
        """Tell of what was written, in one message.

        Args:
            parts: the bytes, one behind the other.
            count: how many bytes that were, of which `parts` has the first, `most` at least; None: it has all of them.
                What `parts` has behind them was not written.
        """
        self._tell_whole(parts, Flags.OUT | Flags.FIRST | Flags.LAST, 0, count)

    def withdrew(self, *parts: Bytes, code: int) -> None:
        """Tell of a write that was cancelled, was out of time or has failed: of what was to be written, and why."""
        self._tell_whole(parts, Flags.OUT | Flags.FIRST | Flags.WITHDRAWN, code or _ABORTED, None)

    def _tell_whole(self, parts: Iterable[Bytes], flags: Flags, code: int, count: int | None) -> None:
        if not _taps:
            return
        try:
            most, size, pieces = self.most(), 0, []
            for part in parts:
                view = memoryview(part)
                pieces.append(view.cast("B")[: max(0, most - size)] if view.nbytes else b"")
                size += view.nbytes
            data = b"".join(pieces)
        except MemoryError:
            self.lose()
            return
        if count is not None and count != size:
            size, data = count, data[:count]
        self._put(Kind.DATA, flags, code=code, size=size, data=data)

    def gone(self, code: int) -> None:
        """Tell that a call has found the peer gone; once."""
        if not self._is_over:
            self._is_over = True
            if not self._is_first:
                self._end_message(_NO_FLAGS)
            self._put(Kind.GONE, code=code)

    def closed(self) -> None:
        """Tell that this end was closed; once."""
        if not self._is_closed:
            self._is_closed = self._is_over = True
            if not self._is_first:
                self._end_message(_NO_FLAGS)
            self._put(Kind.CLOSED)


def active() -> bool:
    """Whether somebody records this process."""
    return bool(_taps)


def tapped(pipe: str, *, is_server: bool, is_message: bool, peer: Callable[[], int]) -> Tapped | None:
    """Return what a connection that begins tells of itself; None while nobody records.

    Args:
        pipe: its full name.
        is_server: whether this process is the server.
        is_message: whether it carries messages.
        peer: asked for the other process, 0 if it is not known.
    """
    if not _taps:
        return None
    flags = (Flags.SERVER if is_server else _NO_FLAGS) | (Flags.MESSAGE if is_message else _NO_FLAGS)
    return Tapped(pipe, flags, peer())
