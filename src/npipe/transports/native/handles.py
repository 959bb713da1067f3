"""Windows' handles for the native transport: overlapped operations that a time-out, a close or Ctrl-C ends."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import _winapi
import contextlib
import ctypes
import math
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

import pywintypes
import win32api
import win32event
import win32file
import win32pipe

from npipe._buffers import plain_view
from npipe.errors import (
    PipeTimeoutError,
    WinError,
    error_from_code,
)
from npipe.options import deadline_of, time_left
from npipe.reasons import End, closed_here, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from npipe._buffers import ReadableBuffer


__all__ = [
    "SLICE",
    "File",
    "Instance",
    "ThreadCall",
    "bytes_of",
    "close_file",
    "closed_count",
    "closed_event",
    "direction_of",
    "joined",
    "own_instances",
    "tell_closed",
    "wait_for_any",
]

_LONGEST_MS: Final = 0x7FFFFFFF
SLICE: Final = 0.25  # seconds that WaitNamedPipe waits at a time: nothing can interrupt it, Ctrl-C neither
_RETRY_MS: Final = 2  # until a call that was perhaps not begun yet is cancelled again


def wait_for_any(handles: Sequence[int], timeout: float | None) -> int | None:
    """Wait for the first of some handles; return its index, or None when the time is over. Ctrl-C ends it."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        milliseconds = _LONGEST_MS if left is None else min(math.ceil(left * 1000), _LONGEST_MS)
        try:
            # In the main thread it waits for Ctrl-C too, which pywin32's does not.
            index = _winapi.WaitForMultipleObjects(handles, False, milliseconds)
        except InterruptedError:  # a signal whose handler has raised nothing
            continue
        if index != win32event.WAIT_TIMEOUT:
            return index
        if left is not None and milliseconds < _LONGEST_MS:
            return None


def bytes_of(data: ReadableBuffer) -> bytes | memoryview:
    """Return what WriteFile takes; a view keeps what it is a view of from being resized or freed."""
    if type(data) is bytes:
        return data
    return plain_view(data) or b""


def joined(parts: tuple[ReadableBuffer, ...]) -> bytes | memoryview:
    """Return what WriteFile takes, of several buffers: Windows has no call that gathers them for a pipe."""
    return bytes_of(parts[0]) if len(parts) == 1 else b"".join([bytes_of(part) for part in parts])


# ---- Handles


class File:
    """An overlapped handle, and the calls that are in progress on it: it is closed when they have ended."""

    def __init__(self, handle: Any, name: str) -> None:
        self.handle = handle
        self.name = name
        self.end_is: End | None = None  # once it is connected
        self.closed: bool = False  # no new calls; under _lock
        self._lock = threading.Lock()  # for closed and the two counts
        self._calls = 0
        self._writes = 0
        self._closing = win32event.CreateEvent(None, True, False, None)  # ends the calls in progress
        self._changed = win32event.CreateEvent(None, False, False, None)  # a call has ended, for whoever closes
        self._events: list[Any] = []  # free ones, not signalled

    def run(
        self,
        start: Callable[[Any], int],
        timeout: float | None,
        doing: str,
        *,
        writing: bool = False,
        keep: Callable[[int, int], None] | None = None,
        until: Any = None,
    ) -> tuple[int, int]:
        """Start an overlapped operation and wait for its end: its code (0, 234, 535) and how many bytes it moved.

        `start` gets the OVERLAPPED, and holds the buffer. When the wait is interrupted the operation is cancelled; if
        it has succeeded all the same, `keep` gets the code and the count. `until` is an event that ends it too: then
        995, if it has not succeeded all the same.
        """
        self.enter(doing, writing=writing)
        try:
            overlapped = pywintypes.OVERLAPPED()
            try:
                event = self._events.pop()
            except IndexError:
                event = win32event.CreateEvent(None, True, False, None)
            overlapped.hEvent = event
            try:
                code = start(overlapped)
                if code == WinError.IO_PENDING:
                    code, count = self._complete(overlapped, event, timeout, doing, keep, until)
                else:
                    count = overlapped.InternalHigh
            except pywintypes.error as error:
                raise explain(error.winerror, self.name, doing, self.end_is) from None
            win32event.ResetEvent(event)
            self._events.append(event)
            return code, count
        finally:
            self.leave(writing=writing)

    def _complete(
        self,
        overlapped: Any,
        event: Any,
        timeout: float | None,
        doing: str,
        keep: Callable[[int, int], None] | None,
        until: Any,
    ) -> tuple[int, int]:
        events = (event, self._closing) if until is None else (event, self._closing, until)
        try:
            which = wait_for_any([int(one) for one in events], timeout)
        except BaseException:
            code, count = self._cancel(overlapped, event)
            if keep is not None and code in (WinError.SUCCESS, WinError.MORE_DATA):
                keep(code, count)
            raise
        code, count = self._result(overlapped) if which == 0 else self._cancel(overlapped, event)
        if code == WinError.OPERATION_ABORTED:
            if which == 1 or self.closed:
                raise closed_here(self.name, doing)
            if which is None:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, doing)
            if which == 2:  # `until`
                return code, 0
        if code not in (WinError.SUCCESS, WinError.MORE_DATA):
            raise explain(code, self.name, doing, self.end_is)
        return code, count

    def _cancel(self, overlapped: Any, event: Any) -> tuple[int, int]:
        """End this thread's operation, which may be over by now, and return its result."""
        with contextlib.suppress(pywintypes.error):
            win32file.CancelIo(self.handle)
        win32event.WaitForSingleObject(event, win32event.INFINITE)
        return self._result(overlapped)

    def _result(self, overlapped: Any) -> tuple[int, int]:
        try:
            return 0, win32file.GetOverlappedResult(self.handle, overlapped, False)
        except pywintypes.error as error:
            # A part of a message is an error for pywin32, and the count is only here.
            return error.winerror, overlapped.InternalHigh if error.winerror == WinError.MORE_DATA else 0

    def enter(self, doing: str | None, *, writing: bool = False) -> None:
        """Begin a call; raises PipeClosedError (6)."""
        with self._lock:
            if self.closed:
                raise closed_here(self.name, doing, code=WinError.INVALID_HANDLE)
            self._calls += 1
            self._writes += writing

    def leave(self, *, writing: bool = False) -> None:
        """End a call."""
        with self._lock:
            self._calls -= 1
            self._writes -= writing
            wake = self.closed
        if wake:
            win32event.SetEvent(self._changed)

    def ask(self, question: Callable[[Any], Any], doing: str | None = None) -> Any:
        """Make a call that does not wait, and return its result."""
        self.enter(doing)
        try:
            return question(self.handle)
        except pywintypes.error as error:
            raise explain(error.winerror, self.name, doing, self.end_is) from None
        finally:
            self.leave()

    def flush(self, timeout: float | None) -> None:
        """FlushFileBuffers, which has neither an OVERLAPPED nor a time-out: a thread makes the call."""
        self.enter("flushing")
        handle = self.handle
        try:
            call = ThreadCall(lambda: win32file.FlushFileBuffers(handle), self.leave)
        except BaseException:
            self.leave()
            raise
        which: int | None = None
        try:
            which = wait_for_any((int(call.over), int(self._closing)), timeout)
        finally:
            if which != 0:
                call.end()
        code = call.code
        if code == WinError.OPERATION_ABORTED:
            if which == 1:
                raise closed_here(self.name, "flushing")
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "flushing")
        if code:
            raise explain(code, self.name, "flushing", self.end_is)

    def end(self, drain: float | None) -> bool:
        """Let writes in progress finish for `drain` seconds, then end all calls. False when it was closed before."""
        deadline = deadline_of(drain)
        try:
            with self._lock:
                if self.closed:
                    return False
                self.closed = True
            while self._writes:
                if wait_for_any((int(self._changed),), time_left(deadline)) is None:
                    break
            self._end_calls()
        except BaseException:  # Ctrl-C: nobody ends them later
            if self.closed:
                self._end_calls()
            raise
        return True

    def _end_calls(self) -> None:
        win32event.SetEvent(self._closing)
        while self._calls:  # they are cancelled, which does not take long
            win32event.WaitForSingleObject(self._changed, 100)


_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_kernel32.OpenThread.restype = ctypes.c_void_p
_kernel32.CancelSynchronousIo.argtypes = [ctypes.c_void_p]
_kernel32.CloseHandle.argtypes = [ctypes.c_void_p]
_ntdll = ctypes.WinDLL("ntdll")


class ThreadCall:
    """A call that has no OVERLAPPED, in a thread of its own, where CancelSynchronousIo can end it."""

    def __init__(self, call: Callable[[], object], on_over: Callable[[], object]) -> None:
        self.code: int = 0  # Windows' code, once it is over
        self.over: Any = win32event.CreateEvent(None, True, False, None)
        self._call = call
        self._on_over = on_over
        self._thread = 0
        threading.Thread(target=self._run, name="npipe-call", daemon=True).start()

    def _run(self) -> None:
        self._thread = win32api.GetCurrentThreadId()
        try:
            self._call()
        except pywintypes.error as error:
            self.code = error.winerror
        finally:
            win32event.SetEvent(self.over)
            self._on_over()

    def cancel(self) -> None:
        """Let the call end with 995, if it is in it now."""
        thread = _kernel32.OpenThread(1, False, self._thread) if self._thread else None
        if thread:
            _kernel32.CancelSynchronousIo(thread)
            _kernel32.CloseHandle(thread)

    def end(self) -> None:
        """Cancel it until it is over: it may be on its way into the call."""
        self.cancel()
        while win32event.WaitForSingleObject(self.over, _RETRY_MS) == win32event.WAIT_TIMEOUT:
            self.cancel()


class _LocalInformation(ctypes.Structure):
    """FILE_PIPE_LOCAL_INFORMATION: what of a pipe's attributes kernel32 does not tell."""

    _fields_ = tuple(
        (field, ctypes.c_uint32)
        for field in ("type", "direction", "max", "instances", "in_size", "unread", "out_size", "room", "state", "end")
    )


def direction_of(handle: Any) -> int:
    """Return PIPE_ACCESS_* of a pipe."""
    information = _LocalInformation()
    status = (ctypes.c_void_p * 2)()
    code = _ntdll.NtQueryInformationFile(
        ctypes.c_void_p(int(handle)), status, ctypes.byref(information), ctypes.sizeof(information), 24
    )
    if code:
        raise error_from_code(_ntdll.RtlNtStatusToDosError(code))
    direction: int = information.direction + 1  # FILE_PIPE_INBOUND 0, OUTBOUND 1, FULL_DUPLEX 2
    return direction


# ---- This process's instances


class Instance(Protocol):
    """A handle of one face or the other."""

    handle: Any
    name: str

    def ask(self, question: Callable[[Any], Any], doing: str | None = None) -> Any:
        """Make a call that does not wait, and return its result."""


own_instances: weakref.WeakSet[Instance] = weakref.WeakSet()
_closed_lock = threading.Lock()  # for the two below
_closed_count = 0
_closed_event = win32event.CreateEvent(None, True, False, None)


def tell_closed() -> None:
    """Wake listeners: an instance of this process has been closed, or they are to look again."""
    global _closed_count, _closed_event
    with _closed_lock:
        _closed_count += 1
        win32event.SetEvent(_closed_event)
        _closed_event = win32event.CreateEvent(None, True, False, None)  # who waits has the old one


def close_file(file: Instance, *, discard: bool = False) -> None:
    """Close what has ended, unless somebody has taken its handle over."""
    handle, file.handle = file.handle, None
    if handle is None:
        return
    try:
        if discard:
            with contextlib.suppress(pywintypes.error):
                win32pipe.DisconnectNamedPipe(handle)
        _close(file, handle)
    except BaseException:  # Ctrl-C: nobody else has the handle
        _close(file, handle)
        raise


def _close(file: Instance, handle: Any) -> None:
    with contextlib.suppress(pywintypes.error):
        handle.Close()
    if file in own_instances:
        own_instances.discard(file)
        tell_closed()


def closed_count() -> int:
    """Return a number that changes whenever an instance of this process is closed."""
    return _closed_count


def closed_event(seen: int) -> Any | None:
    """Return the event that the next change of closed_count sets; None when that is not `seen` any more."""
    with _closed_lock:
        return _closed_event if _closed_count == seen else None
