"""NPIPE_TRACE: recording what this process does with pipes, from its start (docs/tracing.md)."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

from npipe.tracing.files import TraceWriter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npipe.tracing.events import Event

__all__ = ["VARIABLE", "start"]

VARIABLE: Final = "NPIPE_TRACE"
_SNAPLEN: Final = "NPIPE_TRACE_SNAPLEN"
_RING: Final = 1 << 24
_MOST_CLOSED: Final = 1024  # connections of which something may still be told behind their end


def _target(given: str) -> str:
    """Return the file of this process: %p is its number, and who finds the file taken adds that."""
    if "%p" in given:
        return given.replace("%p", str(os.getpid()))
    return given


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no standard error, or a closed one
        sys.stderr.write(f"npipe: {VARIABLE}: {text}\n")


class _File:
    """The file, until it cannot be written any more."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writer: TraceWriter | None = TraceWriter(path, fresh="%p" not in os.environ[VARIABLE])

    def write(self, events: Iterable[Event]) -> None:
        for event in events:
            if self._writer is None:
                return
            try:
                self._writer.write(event)
            except OSError as error:
                _complain(
                    f"{self._path}: {error.strerror}: recording has stopped; the {self._writer.count} records in it"
                    " are whole"
                )
                self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _open(given: str) -> _File | None:
    path = _target(given)
    try:
        try:
            return _File(path)
        except FileExistsError:  # another process's, which has the same environment: or an older one
            root, extension = os.path.splitext(path)  # noqa: PTH122
            return _File(f"{root}-{os.getpid()}{extension}")
    except OSError as error:
        _complain(f"{path} cannot be written: {error.strerror}")
        return None


def _snaplen() -> int:
    given = os.environ.get(_SNAPLEN, "65536")
    if given.isdecimal() and int(given) < 1 << 32:
        return int(given)
    _complain(f"{_SNAPLEN} is no number of bytes: {given!r}")
    return 65536


if sys.platform == "win32":

    def start() -> None:
        """Say that it is not done here, if the environment asks for it."""
        if os.environ.get(VARIABLE):
            _complain("on Windows nothing is recorded yet")

else:
    import fcntl
    import mmap
    import select
    import socket

    from npipe import binding
    from npipe.tracing.events import Kind
    from npipe.tracing.records import HEADER_SIZE, Assembler, Ring, new_header

    def _name_of(said: bytes) -> str:
        """Return the full name of a pipe, of which the engine has what follows the prefix."""
        return "\\\\.\\pipe\\" + said.decode("utf-8", "replace")

    class _Recorder:
        """Takes what the engine records, in a thread of its own."""

        def __init__(self, file: _File, snaplen: int) -> None:
            self._file = file
            self._pid = os.getpid()
            memory = os.memfd_create("npipe-trace", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                os.truncate(memory, HEADER_SIZE + _RING)
                fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
                self._map = mmap.mmap(memory, HEADER_SIZE + _RING)
                header = new_header(_RING)
                self._map[: len(header)] = header
                self._ring = Ring(memoryview(self._map))
                self._waker, self._woken = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                code = binding.trace_process(memory, self._waker.fileno(), snaplen)
            finally:
                os.close(memory)
            if code:
                _complain(f"recording cannot begin: WinError {code}")
                return
            self._woken.setblocking(False)
            self._pipes: dict[int, Assembler] = {}
            self._closed: dict[int, Assembler] = {}  # of whose messages views are still out, say; the oldest first
            self._ends = False
            self._thread = threading.Thread(target=self._run, name="npipe trace", daemon=True)
            self._thread.start()
            atexit.register(self.finish)

        def _take(self) -> None:
            for record in self._ring.read():
                if record.kind is Kind.OPENED:
                    self._pipes[record.connection] = Assembler(_name_of(record.data), self._pid)
                assembler = self._pipes.get(record.connection) or self._closed.get(record.connection)
                if assembler is None:  # its beginning was lost
                    assembler = self._pipes[record.connection] = Assembler("?", self._pid)
                self._file.write(assembler.take(record))
                if record.kind is Kind.CLOSED and record.connection in self._pipes:
                    self._closed[record.connection] = self._pipes.pop(record.connection)
                    self._file.write(assembler.finish())
                    if len(self._closed) > _MOST_CLOSED:
                        self._file.write(self._closed.pop(next(iter(self._closed))).finish())

        def _run(self) -> None:
            while not self._ends:
                self._take()
                self._ring.await_more(waits=True)
                binding.full_fence()
                if self._ring.has_more:
                    continue
                select.select([self._woken], [], [])
                with contextlib.suppress(BlockingIOError):
                    while self._woken.recv(16):
                        pass

        def finish(self) -> None:
            """Write what is left; of the process that began it alone."""
            if os.getpid() != self._pid:
                return
            self._ends = True
            with contextlib.suppress(OSError):
                self._waker.send(b"x")
            self._thread.join(5)
            if not self._thread.is_alive():
                self._take()
                for assembler in (*self._pipes.values(), *self._closed.values()):
                    self._file.write(assembler.finish())
            self._file.close()

    def start() -> None:
        """Begin to record, if the environment says so."""
        given = os.environ.get(VARIABLE)
        file = _open(given) if given else None
        if file is not None:
            _Recorder(file, _snaplen())
