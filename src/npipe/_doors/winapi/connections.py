"""multiprocessing's connections over pipes: `PipeConnection`, `PipeListener`, `PipeClient`, and waiting for them.

They are to the wire what Windows' are: a message of a message pipe for each of the connection's.
"""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import errno
import io
import itertools
import os
import select
import threading
import time
from collections import deque
from multiprocessing import connection as _connection
from multiprocessing import util as _util
from typing import TYPE_CHECKING, Any, Final, NoReturn, SupportsIndex, cast

from npipe._doors.winapi import _winapi
from npipe._process import refuse_copy
from npipe.binding.win32 import handles as _handles
from npipe.win32 import win32event
from npipe.win32_error import error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    class _Base:
        _handle: int

        def __init__(self, handle: SupportsIndex, readable: bool = True, writable: bool = True) -> None: ...
        @property
        def readable(self) -> bool: ...
        @property
        def writable(self) -> bool: ...
        def fileno(self) -> int: ...
        def _bad_message_length(self) -> NoReturn: ...
        def close(self) -> None: ...
else:
    _Base = _connection._ConnectionBase  # noqa: SLF001

__all__ = ["PipeClient", "PipeConnection", "PipeListener", "reduce_connection", "waiting"]

_INFINITE: Final = 0xFFFFFFFF
_IO_PENDING: Final = 997
_MORE_DATA: Final = 234
_ABORTED: Final = 995
_NO_DATA: Final = 232
_BROKEN_PIPE: Final = 109
_ENDED: Final = (109, 64)  # what makes a connection ready: its end is there to be read
_WAIT_AGAIN: Final = (121, 231)
_BUFFER: Final = 8192
_PATIENCE: Final = 20.0  # seconds for a server that is busy, as multiprocessing's own
_WAIT_STEP: Final = 1000  # milliseconds
_MOST: Final = 60  # handles in one wait

_PIPE_ACCESS_DUPLEX: Final = 3
_FILE_FLAG_FIRST_PIPE_INSTANCE: Final = 0x80000
_FILE_FLAG_OVERLAPPED: Final = 0x40000000
_MESSAGES: Final = 4 | 2  # PIPE_TYPE_MESSAGE, PIPE_READMODE_MESSAGE
_READ_WRITE: Final = 0x80000000 | 0x40000000
_OPEN_EXISTING: Final = 3
_UNLIMITED: Final = 255
_DUPLICATE_CLOSE_SOURCE: Final = 1
_DUPLICATE_SAME_ACCESS: Final = 2
_PROCESS_DUP_HANDLE: Final = 0x40


def _code_of(failure: OSError) -> int | None:
    return getattr(failure, "winerror", None)


def _finished(operation: _winapi.Overlapped, code: int) -> tuple[int, int]:
    """Wait for an operation; what interrupts the wait ends it too."""
    try:
        if code == _IO_PENDING:
            _winapi.WaitForMultipleObjects([operation.event], False, _INFINITE)
    except BaseException:
        operation.cancel()
        operation.GetOverlappedResult(True)
        raise
    return operation.GetOverlappedResult(True)


class _Running:
    """The operations of a connection that threads wait for: its end is theirs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operations: set[_winapi.Overlapped] = set()
        self._ended = False

    def finish(self, started: tuple[_winapi.Overlapped, int]) -> tuple[int, int]:
        """Wait for an operation; raises OSError (EPIPE) if `end` was first."""
        operation, code = started
        with self._lock:
            self._operations.add(operation)
            if self._ended:
                operation.cancel()
        try:
            count, code = _finished(operation, code)
        finally:
            with self._lock:
                self._operations.discard(operation)
        if code == _ABORTED and self._ended:
            raise OSError(errno.EPIPE, "handle is closed")
        return count, code

    def end(self) -> None:
        """End them all."""
        with self._lock:
            self._ended = True
            operations = list(self._operations)
        for operation in operations:
            operation.cancel()


class PipeConnection(_Base):
    """A connection over an end of a pipe: a handle that was made with FILE_FLAG_OVERLAPPED."""

    _got_empty_message = False  # a wait has taken one

    def __init__(self, handle: SupportsIndex, readable: bool = True, writable: bool = True) -> None:
        super().__init__(handle, readable, writable)
        self._running = _Running()

    def _close(self) -> None:
        self._running.end()
        _winapi.CloseHandle(self._handle)

    def _send_bytes(self, buf: memoryview) -> None:
        count, _ = self._running.finish(_winapi.WriteFile(self._handle, buf, True))
        if count != len(buf):
            raise OSError(f"{count} of {len(buf)} bytes were sent")

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO:
        if self._got_empty_message:
            self._got_empty_message = False
            return io.BytesIO()
        size = _BUFFER if maxsize is None else min(maxsize, _BUFFER)
        data = io.BytesIO()
        try:
            operation, code = _winapi.ReadFile(self._handle, size, True)
            _, code = self._running.finish((operation, code))
            data.write(operation.getbuffer() or b"")
            if code == _MORE_DATA:
                left = _winapi.PeekNamedPipe(self._handle)[1]
                if maxsize is not None and data.tell() + left > maxsize:
                    self._bad_message_length()
                operation, code = _winapi.ReadFile(self._handle, left, True)
                self._running.finish((operation, code))
                data.write(operation.getbuffer() or b"")
        except OSError as failure:
            if _code_of(failure) != _BROKEN_PIPE:
                raise
            raise EOFError from failure
        return data

    def _poll(self, timeout: float | None) -> bool:
        if self._got_empty_message or _winapi.PeekNamedPipe(self._handle)[0]:
            return True
        return bool(wait_for_pipes([self], timeout))

    def __reduce__(self) -> NoReturn:
        """Refuse: a handle belongs to its process. multiprocessing's own pickler asks `reduce_connection`."""
        refuse_copy(self, "pass the pipe's name, and make a Client there")
        raise AssertionError


PipeConnection.__module__ = "multiprocessing.connection"


def reduce_connection(connection: PipeConnection) -> tuple[Callable[..., PipeConnection], tuple[Any, ...]]:
    """Return what makes the connection where it is unpickled: it goes to the process that does so.

    A second handle stays here for that process, which closes it.
    """
    here = _winapi.GetCurrentProcess()
    number = _winapi.DuplicateHandle(here, connection.fileno(), here, 0, False, _DUPLICATE_SAME_ACCESS)
    return _rebuilt, (os.getpid(), number, connection.readable, connection.writable)


def _rebuilt(pid: int, number: int, readable: bool, writable: bool) -> PipeConnection:
    if pid == os.getpid():
        return PipeConnection(number, readable, writable)
    process = _winapi.OpenProcess(_PROCESS_DUP_HANDLE, False, pid)
    try:
        options = _DUPLICATE_SAME_ACCESS | _DUPLICATE_CLOSE_SOURCE
        handle = _winapi.DuplicateHandle(process, number, _winapi.GetCurrentProcess(), 0, False, options)
    finally:
        _winapi.CloseHandle(process)
    return PipeConnection(handle, readable, writable)


class PipeListener:
    """A pipe whose clients become connections."""

    def __init__(self, address: str, backlog: int | None = None) -> None:
        del backlog  # one instance listens always, and clients wait for it
        self._address = address
        self._last_accepted = None
        self._handles = deque([self._instance(_FILE_FLAG_FIRST_PIPE_INSTANCE)])
        self.close = _util.Finalize(self, _close_all, args=(self._handles,), exitpriority=0)

    def _instance(self, first: int = 0) -> int:
        flags = _PIPE_ACCESS_DUPLEX | _FILE_FLAG_OVERLAPPED | first
        sizes = (_UNLIMITED, _BUFFER, _BUFFER, _INFINITE, 0)
        return _winapi.CreateNamedPipe(self._address, flags, _MESSAGES, *sizes)

    def accept(self) -> PipeConnection:
        """Wait for a client."""
        self._handles.append(self._instance())
        handle = self._handles.popleft()
        try:
            operation = _winapi.ConnectNamedPipe(handle, True)
            _finished(operation, _IO_PENDING)
        except OSError as failure:
            if _code_of(failure) != _NO_DATA:  # a client that has left again may have left something to read
                _winapi.CloseHandle(handle)
                raise
        except BaseException:
            _winapi.CloseHandle(handle)
            raise
        return PipeConnection(handle)


PipeListener.__module__ = "multiprocessing.connection"


def _close_all(handles: deque[int]) -> None:
    while handles:
        _winapi.CloseHandle(handles.popleft())


def PipeClient(address: str) -> PipeConnection:  # noqa: N802 - multiprocessing's name
    """Return a connection to a pipe: one that is busy is waited for, one that is not there is FileNotFoundError."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            _winapi.WaitNamedPipe(address, _WAIT_STEP)
            handle = _winapi.CreateFile(address, _READ_WRITE, 0, 0, _OPEN_EXISTING, _FILE_FLAG_OVERLAPPED, 0)
        except OSError as failure:
            if _code_of(failure) not in _WAIT_AGAIN or time.monotonic() > deadline:
                raise
        else:
            break
    try:
        _winapi.SetNamedPipeHandleState(handle, _MESSAGES & 2, None, None)
    except BaseException:
        _winapi.CloseHandle(handle)
        raise
    return PipeConnection(handle)


# ---- Waiting


def waiting(original: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Return multiprocessing's `wait`, which knows pipes, events and other handles besides descriptors."""

    def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
        """Wait until an object is ready; return a list of those that are."""
        objects = list(object_list)
        if not any(_handle_of(one) is not None for one in objects):
            return original(objects, timeout)
        return wait_for_pipes(objects, timeout)

    return wait


def _handle_of(thing: Any) -> int | None:
    """Return the handle that an object has, or is; None for one that the system's `poll` waits for."""
    number: Any = thing if isinstance(thing, int) else None
    if number is None and hasattr(thing, "fileno"):
        number = thing.fileno()
    if not isinstance(number, int):
        number = thing.__index__() if hasattr(thing, "__index__") else None
    if number is None:
        return None
    try:
        _handles.handle_kind(number, "WaitForMultipleObjects")
    except error:
        return None
    return None if not isinstance(thing, PipeConnection) and _is_descriptor(number) else number


def _is_descriptor(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class _Reads:
    """Reads of nothing, which end when there is something to read, or nobody who will write."""

    def __init__(self) -> None:
        self.ready: list[Any] = []
        self._pending: dict[int, tuple[Any, _winapi.Overlapped]] = {}

    def start(self, thing: Any, handle: int) -> int | None:
        """Begin; return the event that ends it, or None if it is ready."""
        if getattr(thing, "_got_empty_message", False):
            self.ready.append(thing)
            return None
        try:
            operation, code = _winapi.ReadFile(handle, 0, True)
            if code == _IO_PENDING:
                self._pending[operation.event] = (thing, operation)
                return operation.event
            self._end(thing, operation)
        except OSError as failure:
            self._failed(thing, failure)
        return None

    def end(self) -> None:
        """End all that are pending; those that were over are ready."""
        for _, operation in self._pending.values():
            operation.cancel()
        for thing, operation in self._pending.values():
            try:
                self._end(thing, operation)
            except OSError as failure:
                self._failed(thing, failure)
        self._pending.clear()

    def _end(self, thing: Any, operation: _winapi.Overlapped) -> None:
        _, code = operation.GetOverlappedResult(True)
        if code == _ABORTED:
            return
        self.ready.append(thing)
        if code == 0 and hasattr(thing, "_got_empty_message"):
            thing._got_empty_message = True  # noqa: SLF001 - as multiprocessing has it

    def _failed(self, thing: Any, failure: OSError) -> None:
        if _code_of(failure) not in _ENDED:
            raise failure
        self.ready.append(thing)


class _Descriptors:
    """A thread that waits for descriptors and sets an event."""

    def __init__(self, things: list[Any]) -> None:
        self._event = win32event.CreateEvent(None, True, False, None)
        self._wake, self._waker = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._numbers = [thing if isinstance(thing, int) else thing.fileno() for thing in things]
        for number in self._numbers:
            self._poll.register(number, select.POLLIN | select.POLLPRI)
        self._things = things
        self._found: set[int] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def event(self) -> int:
        """The event, set when one of them is ready."""
        return int(self._event)

    def _run(self) -> None:
        self._found = {number for number, _ in self._poll.poll()}
        win32event.SetEvent(self._event)

    def end(self) -> list[Any]:
        """Wait no more; return what is ready."""
        os.write(self._waker, b"\0")
        self._thread.join()
        os.close(self._waker)
        os.close(self._wake)
        return [thing for thing, number in zip(self._things, self._numbers, strict=True) if number in self._found]


def wait_for_pipes(objects: list[Any], timeout: float | None) -> list[Any]:
    """Wait for connections over pipes, handles and descriptors, at most `timeout` seconds."""
    reads, waited_for = _Reads(), dict[int, Any]()
    descriptors: _Descriptors | None = None
    ready: list[Any] = []
    milliseconds = _INFINITE if timeout is None else max(0, min(int(timeout * 1000 + 0.5), _INFINITE - 1))
    try:
        handles: list[int] = []
        for thing in objects:
            handle = _handle_of(thing)
            if handle is None:
                continue
            event = handle if not hasattr(thing, "fileno") else reads.start(thing, handle)
            if event is not None:
                handles.append(event)
                if event == handle:
                    waited_for[event] = thing
        others = [thing for thing in objects if _handle_of(thing) is None]
        if others:
            descriptors = _Descriptors(others)
            handles.append(descriptors.event)
        ready += [
            waited_for[handle]
            for handle in _signalled(handles, 0 if reads.ready else milliseconds)
            if handle in waited_for
        ]
    finally:
        if descriptors is not None:
            ready += descriptors.end()
        reads.end()
    ready += reads.ready
    found = {id(thing) for thing in ready}
    return [thing for thing in objects if id(thing) in found]


def _signalled(handles: list[int], milliseconds: int) -> list[int]:
    """Return all handles that are signalled, once one is."""
    found: list[int] = []
    left = handles
    while left:
        if len(left) > _MOST:
            return _signalled_of_many(left, milliseconds)
        index = _winapi.WaitForMultipleObjects(left, False, milliseconds)
        if index >= _NO_DATA:  # 258: the time is over
            break
        index &= 0x7F  # an abandoned mutex is signalled too
        found.append(left[index])
        left = left[index + 1 :]
        milliseconds = 0
    return found


def _signalled_of_many(handles: list[int], milliseconds: int) -> list[int]:
    try:
        indices = cast("list[int]", _winapi.BatchedWaitForMultipleObjects(handles, False, milliseconds))
    except TimeoutError:
        return []
    first = [handles[index] for index in indices]
    rest = [handle for handle in handles if handle not in first]
    batches = (rest[start : start + _MOST] for start in range(0, len(rest), _MOST))
    return first + list(itertools.chain.from_iterable(_signalled(batch, 0) for batch in batches))
