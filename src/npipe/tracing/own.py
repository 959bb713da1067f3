"""Recording what this process does with pipes: what NPIPE_TRACE and pytest's `pipe_trace` stand on."""

from __future__ import annotations

import os
import sys
import threading
import time
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from npipe._tapping import Event, Flags, Kind, Tap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Recorder"]

_PATIENCE: Final = 5.0  # seconds for the thread to end

if sys.platform == "win32":
    from queue import SimpleQueue

    class _Engine:
        """Where there is no engine: what wakes the reader."""

        code = 0

        def __init__(self, snaplen: int) -> None:
            del snaplen
            self._wakes: SimpleQueue[None] = SimpleQueue()

        def wake(self) -> None:
            """Wake the reader."""
            self._wakes.put(None)

        def take(self) -> list[Event]:
            """Return what the engine has recorded."""
            return []

        def wait(self, tap: Tap) -> None:
            """Wait until there is something to take, or for a wake."""
            if not tap.wait():
                self._wakes.get()

        def end(self) -> None:
            """Record nothing any more."""

        def finish(self) -> list[Event]:
            """Return what is left."""
            return []

        def close(self) -> None:
            """Let go of what it has."""

else:
    import contextlib
    import fcntl
    import mmap
    import socket

    from npipe import binding
    from npipe.tracing.records import HEADER_SIZE, Assembler, Record, Ring, new_header

    _RING: Final = 1 << 24
    _MOST_CLOSED: Final = 1024  # connections of which something may still be told behind their end

    def _name_of(said: bytes) -> str:
        """Return the full name of a pipe, of which the engine has what follows the prefix."""
        return "\\\\.\\pipe\\" + said.decode("utf-8", "replace")

    class _Engine:
        """What the engine records of its own pipes."""

        def __init__(self, snaplen: int) -> None:
            self._pid = os.getpid()
            self._pipes: dict[int, Assembler] = {}
            self._closed: dict[int, Assembler] = {}  # of whose messages views are still out, say; the oldest first
            memory = os.memfd_create("npipe-trace", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                os.truncate(memory, HEADER_SIZE + _RING)
                fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
                self._map = mmap.mmap(memory, HEADER_SIZE + _RING)
                header = new_header(_RING)
                self._map[: len(header)] = header
                self._ring = Ring(memoryview(self._map))
                self._waker, self._woken = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._waker.setblocking(False)
                self._woken.setblocking(True)  # whatever socket.setdefaulttimeout says
                self._trace = binding.OwnTrace(memory, self._waker.fileno(), snaplen)
                # Behind it. What is below and does not say that it begins began before: others record it.
                self._first = binding.new_connection_number()
            finally:
                os.close(memory)
            self.code = self._trace.code
            """Win32's code: 0, or why nothing is recorded."""

        def wake(self) -> None:
            """Wake the reader."""
            # There are wakes enough; or the reader has ended while its last event was on its way, which is no matter of
            # the call that has moved it.
            with contextlib.suppress(OSError):
                self._waker.send(b"x")

        def take(self) -> list[Event]:
            """Return what the engine has recorded."""
            events: list[Event] = []
            for record in self._ring.read():
                if record.lost:  # of whichever connection: the end of a message, and the next one's beginning, perhaps
                    for each in (*self._pipes.values(), *self._closed.values()):
                        events += each.finish()
                if record.kind is Kind.OPENED:
                    self._pipes[record.connection] = Assembler(_name_of(record.data), self._pid)
                assembler = self._pipes.get(record.connection) or self._closed.get(record.connection)
                if assembler is None and record.connection < self._first:
                    if record.lost:
                        events.append(self._lost(record))
                    continue
                if assembler is None:  # its beginning was lost
                    assembler = self._pipes[record.connection] = Assembler("?", self._pid)
                events += assembler.take(record)
                if record.kind is Kind.CLOSED and record.connection in self._pipes:
                    self._closed[record.connection] = self._pipes.pop(record.connection)
                    events += assembler.finish()
                    if len(self._closed) > _MOST_CLOSED:
                        events += self._closed.pop(next(iter(self._closed))).finish()
            return events

        def _lost(self, record: Record) -> Event:
            flags = Flags(0)
            return Event(record.time, Kind.LOST, flags, "?", self._pid, record.connection, record.pid, 0, record.lost)

        def wait(self, tap: Tap) -> None:
            """Wait until there is something to take, or for a wake."""
            self._ring.await_more(waits=True)
            binding.full_fence()
            if not self._ring.has_more and not tap.wait():
                self._woken.recv(16)  # not select, which takes no descriptor beyond 1023; a wake too many is harmless

        def end(self) -> None:
            """Record nothing any more."""
            self._trace.end()

        def finish(self) -> list[Event]:
            """Return what is left, behind `end`: messages of which the rest has not come."""
            events = self.take()
            for assembler in (*self._pipes.values(), *self._closed.values()):
                events += assembler.finish()
            return events

        def close(self) -> None:
            """Let go of what it has; behind `end`."""
            self._ring.release()
            self._map.close()
            self._waker.close()
            self._woken.close()


def _in_order(events: list[Event]) -> Iterator[tuple[int, Event]]:
    latest = 0
    for event in events:
        latest = max(latest, event.time)
        yield latest, event


class Recorder:
    """Hands to `sink` what connections that this process makes from now on do, until it is closed.

    Args:
        sink: called with each event, by a thread of the recorder's or by who calls `sync` or `close`: one at a time,
            and in the order of time. It must not use pipes.
        snaplen: bytes of each message that are recorded.
    """

    def __init__(self, sink: Callable[[Event], object], *, snaplen: int) -> None:
        self._sink = sink
        self._pid = os.getpid()
        self._taking = threading.Lock()
        self._ends = False
        self._is_closed = False  # with _taking
        self._engine = _Engine(snaplen)
        self.code: int = self._engine.code
        """Win32's code: 0, or why nothing is recorded."""
        if self.code:
            self._engine.close()
            self._ends = self._is_closed = True
            return
        self._tap = Tap(snaplen, self._engine.wake)
        self._thread = threading.Thread(target=self._run, name="npipe trace", daemon=True)
        self._tap.begin()
        try:
            self._thread.start()
        except (RuntimeError, MemoryError):  # there is none: nobody would take what is told, nor end it
            self._ends = self._is_closed = True
            self._tap.end()
            self._engine.end()
            self._engine.close()
            raise

    def _run(self) -> None:
        while not self._ends:
            self.sync()
            self._engine.wait(self._tap)

    def _hand_over(self, engines: list[Event], taps: list[Event]) -> None:
        # Each in its order, in which a message of which the rest has not come has the time of its beginning.
        for _, event in merge(_in_order(engines), _in_order(taps), key=itemgetter(0)):
            self._sink(event)

    def sync(self) -> None:
        """Hand over what has happened so far. What calls have done that have returned is with the sink then.

        In a forked child it is nothing: what was recorded is its parent's, and a thread that is not there may take it.
        """
        if os.getpid() != self._pid:
            return
        with self._taking:
            if not self._is_closed:
                self._hand_over(self._engine.take(), self._tap.take())

    def close(self) -> None:
        """Record nothing any more, and hand over what is left. Twice is nothing; in a forked child too."""
        if self._ends or os.getpid() != self._pid:
            return
        self._ends = True
        self._tap.end()
        self._engine.end()
        self._engine.wake()
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():  # its sink hangs
            return
        with self._taking:
            self._is_closed = True
            engines, taps = self._engine.finish(), self._tap.take()
            if self._tap.lost:
                taps.append(Event(time.time_ns(), Kind.LOST, Flags(0), "?", self._pid, 0, 0, 0, self._tap.lost))
            self._hand_over(engines, taps)
        self._engine.close()
