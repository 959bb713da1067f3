"""CPython's `_overlapped`, as far as pipes go: what asyncio's own proactor is built of. Handles are numbers."""
# ruff: noqa: N802 - the names of _overlapped

from __future__ import annotations

import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from npipe import win32_error as _win32_error
from npipe._doors.os_errors import os_error, raises_os_errors
from npipe._doors.winapi import constants as _constants
from npipe._doors.winapi import elsewhere as _elsewhere
from npipe.win32 import completion, pywintypes, win32event, win32file, win32pipe
from npipe.win32_error import message_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

globals().update(_constants.OVERLAPPED)

_INVALID: Final = (1 << 64) - 1
_PIPE_CONNECTED: Final = 535
_BROKEN_PIPE: Final = 109
_MORE_DATA: Final = 234
_NOT_FOUND: Final = 1168
_TIMEOUT: Final = 258
_STATUS_PENDING: Final = 0x103

_addresses: Final = itertools.count(0x10000, 0x20)
_by_address: Final[weakref.WeakValueDictionary[int, Overlapped]] = weakref.WeakValueDictionary()


class Overlapped:
    """An OVERLAPPED and the one operation that it is for."""

    def __init__(self, event: int = _INVALID) -> None:
        """`event` is a handle that this closes, 0 for none; without it an event is made."""
        if event == _INVALID:
            event = win32event.CreateEvent(None, True, False, None).Detach()
        self._event: Any = pywintypes.HANDLE(event) if event else None
        self._overlapped = pywintypes.OVERLAPPED()
        self._overlapped.hEvent = event
        self._handle = 0
        self._kind = ""
        self._failed = False  # at its start
        self._marked = False  # as over, at its start
        self._buffer: Any = None
        self._error = 0
        self._address = next(_addresses)
        self._overlapped.object = self._address
        _by_address[self._address] = self

    def __del__(self) -> None:
        if getattr(self, "_kind", "") and self.pending:
            self.cancel()

    @property
    def event(self) -> int:
        """The handle of its event, or 0."""
        return int(self._event) if self._event is not None else 0

    @property
    def error(self) -> int:
        """The code of the last call."""
        return self._error

    @property
    def address(self) -> int:
        """A number that stands for it in packets of a completion port."""
        return self._address

    @property
    def pending(self) -> bool:
        """Whether the operation is not over."""
        return bool(self._kind) and not self._failed and self._overlapped.Internal == _STATUS_PENDING

    def _begin(self, kind: str, handle: int) -> None:
        if self._kind:
            raise ValueError("operation already attempted")
        self._kind, self._handle = kind, handle

    def _fail(self, failure: _win32_error.error) -> OSError:
        self._error = failure.winerror
        if failure.winerror == _BROKEN_PIPE and self._kind in ("read", "readinto"):
            self._complete()
        else:
            self._failed = True
        return os_error(failure.winerror)

    def _complete(self) -> None:
        self._marked = True
        self._overlapped.Internal = 0
        if self._event is not None:
            win32event.SetEvent(self._event)

    def _read(self, handle: int, buffer: Any) -> None:
        self._buffer = buffer
        try:
            self._error, _ = win32file.ReadFile(handle, buffer, self._overlapped)
        except _win32_error.error as failure:
            raise self._fail(failure) from None

    def ReadFile(self, handle: int, size: int, /) -> None:
        """Start to read at most `size` bytes, which `getresult` returns."""
        self._begin("read", handle)
        self._read(handle, bytearray(size))

    def ReadFileInto(self, handle: int, buf: WriteableBuffer, /) -> None:
        """Start to read into a buffer; `getresult` returns the number of bytes."""
        self._begin("readinto", handle)
        self._read(handle, memoryview(buf))

    def WriteFile(self, handle: int, buf: ReadableBuffer, /) -> None:
        """Start to write a buffer; `getresult` returns the number of bytes."""
        self._begin("write", handle)
        self._buffer = memoryview(buf)
        try:
            self._error, _ = win32file.WriteFile(handle, self._buffer, self._overlapped)
        except _win32_error.error as failure:
            raise self._fail(failure) from None

    def ConnectNamedPipe(self, handle: int, /) -> bool:
        """Start to wait for a client; True if there is one already, and then there is no packet."""
        self._begin("connect", handle)
        try:
            self._error = win32pipe.ConnectNamedPipe(handle, self._overlapped)
        except _win32_error.error as failure:
            raise self._fail(failure) from None
        if self._error != _PIPE_CONNECTED:
            return False
        self._complete()
        return True

    def cancel(self) -> None:
        """Ask for the end of the operation; nothing happens if it is over."""
        if self.pending:
            try:
                completion.CancelIoEx(self._handle, self._overlapped)
            except _win32_error.error as failure:
                if failure.winerror != _NOT_FOUND:
                    raise os_error(failure.winerror) from None

    def getresult(self, wait: bool = False, /) -> Any:
        """Return what it has read, or the number of bytes; OSError of its code, 996 while it is pending."""
        if not self._kind:
            raise ValueError("operation not yet attempted")
        if self._failed:
            raise ValueError("operation failed to start")
        count = 0
        try:
            if not self._marked:
                count = win32file.GetOverlappedResult(self._handle, self._overlapped, bool(wait))
            self._error = 0
        except _win32_error.error as failure:
            self._error = failure.winerror
            if self._error == _MORE_DATA:
                count = self._overlapped.InternalHigh
            elif self._error != _BROKEN_PIPE or self._kind not in ("read", "readinto"):
                raise os_error(self._error) from None
        if self._kind == "read":
            return bytes(memoryview(self._buffer)[:count])
        return count


Overlapped.__module__ = "_overlapped"


# ---- Completion ports


@raises_os_errors
def CreateIoCompletionPort(handle: int, port: int, key: int, concurrency: int, /) -> int:
    """CreateIoCompletionPort: a new port, or `port`, which `handle` is bound to. Raises 6, 87."""
    if not port:
        made: Any = win32file.CreateIoCompletionPort(handle, None, key, concurrency)
        return int(made.Detach())
    win32file.CreateIoCompletionPort(handle, port, key, concurrency)
    return port


@raises_os_errors
def GetQueuedCompletionStatus(port: int, msecs: int, /) -> tuple[int, int, int, int] | None:
    """GetQueuedCompletionStatus: (code, bytes, key, address), or None when the time is over. Raises 6, 735."""
    code, count, key, overlapped = win32file.GetQueuedCompletionStatus(port, msecs & 0xFFFFFFFF)
    if overlapped is None and code == _TIMEOUT:
        return None
    if overlapped is None and code:
        raise os_error(code)
    address = 0 if overlapped is None else overlapped.object
    return code, count & 0xFFFFFFFF, key & _INVALID, address if isinstance(address, int) else 0


@raises_os_errors
def PostQueuedCompletionStatus(port: int, bytes: int, key: int, address: int, /) -> None:  # noqa: A002
    """PostQueuedCompletionStatus: a packet of the program's own. Raises 6."""
    posted = None
    if address:
        posted = pywintypes.OVERLAPPED()
        posted.object = address
    win32file.PostQueuedCompletionStatus(port, bytes, key, posted)


# ---- Waiting for an object by a port


class _Wait:
    """A thread that waits for an object and posts a packet."""

    def __init__(self, target: int, port: int, address: int, timeout: int) -> None:
        self._cancelled = win32event.CreateEvent(None, True, False, None)
        self._target, self._port, self._address, self._timeout = target, port, address, timeout
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        waited = win32event.WaitForMultipleObjects([self._target, self._cancelled], False, self._timeout)
        if waited != 1:
            PostQueuedCompletionStatus(self._port, int(waited == _TIMEOUT), 0, self._address)

    def end(self) -> None:
        """Wait no more."""
        win32event.SetEvent(self._cancelled)
        self.thread.join()


_waits: Final[dict[int, _Wait]] = {}
_wait_numbers: Final = itertools.count(1)


@raises_os_errors
def RegisterWaitWithQueue(Object: int, CompletionPort: int, Overlapped: int, Timeout: int, /) -> int:  # noqa: N803
    """RegisterWaitWithQueue: when the object is signalled, or the time is over, a packet is posted to the port."""
    number = next(_wait_numbers)
    _waits[number] = _Wait(Object, CompletionPort, Overlapped, Timeout & 0xFFFFFFFF)
    return number


def UnregisterWait(WaitHandle: int, /) -> None:  # noqa: N803
    """UnregisterWait. Raises 6."""
    wait = _waits.pop(WaitHandle, None)
    if wait is None:
        raise os_error(6)
    wait.end()


def UnregisterWaitEx(WaitHandle: int, Event: int, /) -> None:  # noqa: N803
    """UnregisterWaitEx: as UnregisterWait; `Event` is set when it is done. Raises 6."""
    UnregisterWait(WaitHandle)
    if Event and Event != _INVALID:
        SetEvent(Event)


# ---- Events, texts, connecting


@raises_os_errors
def CreateEvent(EventAttributes: None, ManualReset: bool, InitialState: bool, Name: str | None, /) -> int:  # noqa: N803
    """CreateEvent: its handle."""
    if EventAttributes is not None:
        raise ValueError("EventAttributes must be None")
    return win32event.CreateEvent(None, bool(ManualReset), bool(InitialState), Name).Detach()


@raises_os_errors
def SetEvent(Handle: int, /) -> None:  # noqa: N803
    """SetEvent. Raises 6."""
    win32event.SetEvent(Handle)


@raises_os_errors
def ResetEvent(Handle: int, /) -> None:  # noqa: N803
    """ResetEvent. Raises 6."""
    win32event.ResetEvent(Handle)


def FormatMessage(error_code: int, /) -> str:
    """Return Windows' text for a code."""
    text = message_of(error_code)
    return f"unknown error code {error_code}" if text is None else text


@raises_os_errors
def ConnectPipe(addr: str, /) -> int:
    """Open a pipe for overlapped reading and writing. Raises as `win32file.CreateFile` (2, 231)."""
    access = win32file.GENERIC_READ | win32file.GENERIC_WRITE
    how = (win32file.OPEN_EXISTING, win32file.FILE_FLAG_OVERLAPPED)
    return win32file.CreateFile(addr, access, 0, None, *how, None).Detach()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return _elsewhere.find("_overlapped", name)
