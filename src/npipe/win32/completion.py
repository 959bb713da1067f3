"""What kernel32 has for completion routines and cancelling, and pywin32 lacks.

The same functions on Linux and on Windows. A routine is called as `routine(code, bytes, overlapped)` in the thread that
started the operation, in an alertable wait: `SleepEx`, `WaitForSingleObjectEx`, `WaitForMultipleObjectsEx`,
`GetOverlappedResultEx`. It finds what it belongs to by `overlapped.object`, or by closing over it.
"""
# ruff: noqa: N802, N803 - Windows' names

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from npipe.binding.win32 import objects as _objects
from npipe.binding.win32 import operations as _operations
from npipe.binding.win32 import overlapped as _overlapped
from npipe.binding.win32 import waiting as _waiting
from npipe.win32 import win32api
from npipe.win32._offered import _no_such
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._buffers import ReadableBuffer, WriteableBuffer
    from npipe.binding.win32.handles import PyHANDLE
    from npipe.binding.win32.overlapped import OVERLAPPED

    Routine = Callable[[int, int, OVERLAPPED], object]

__all__ = [
    "CancelIoEx",
    "CancelSynchronousIo",
    "GetOverlappedResultEx",
    "HasOverlappedIoCompleted",
    "OpenThread",
    "QueueUserAPC",
    "ReadFileEx",
    "SleepEx",
    "WriteFileEx",
]

THREAD_TERMINATE = 1
THREAD_SET_CONTEXT = 0x10

SleepEx: Final = win32api.SleepEx


def ReadFileEx(hFile: PyHANDLE | int, buffer: WriteableBuffer, overlapped: OVERLAPPED, routine: Routine) -> int:
    """ReadFileEx: start to read into `buffer`, which stays pinned; `routine` is called when it is over.

    Returns 0, or 234 when a part of a message was there (which GetLastError tells on Windows). Raises the error of a
    read that fails at once (109, 232, 233, 536 …), then the routine is not called; and 87 for a handle that is bound
    to a completion port. The routine is called with (code, bytes, OVERLAPPED) in an alertable wait of this thread. The
    OVERLAPPED's event is not used. Follows SEMANTICS §10.5.
    """
    _callable(routine)
    code = _operations.read_file_ex(hFile, buffer, overlapped, routine)
    win32api.SetLastError(code)
    return code


def WriteFileEx(hFile: PyHANDLE | int, data: ReadableBuffer, overlapped: OVERLAPPED, routine: Routine) -> None:
    """WriteFileEx: start to write `data`, which stays pinned; `routine` is called when it is over (SEMANTICS §10.5).

    Raises the error of a write that fails at once (232, 233, 536, 5), and then the routine is not called; and 87 for a
    handle that is bound to a completion port.
    """
    _callable(routine)
    _operations.write_file_ex(hFile, data, overlapped, routine)
    win32api.SetLastError(0)


def _callable(routine: object) -> None:
    if not callable(routine):
        raise TypeError(f"a completion routine is a callable, not {type(routine).__name__}")


def CancelIoEx(hFile: PyHANDLE | int, overlapped: OVERLAPPED | None = None) -> None:
    """CancelIoEx: end the operation with 995; None: all of this process on the file. Raises 1168 when there is none."""
    _operations.cancel_io_ex(hFile, overlapped)


def CancelSynchronousIo(hThread: PyHANDLE | int) -> None:
    """CancelSynchronousIo: end the call that a thread is blocked in with 995. Raises 1168 when there is none.

    A blocked ReadFile, WriteFile, ConnectNamedPipe, FlushFileBuffers, TransactNamedPipe or WaitNamedPipe is meant, and
    never an overlapped operation.
    """
    _operations.cancel_synchronous_io(hThread)


def GetOverlappedResultEx(hFile: PyHANDLE | int, overlapped: OVERLAPPED, milliseconds: int, alertable: object) -> int:
    """GetOverlappedResultEx: the bytes moved; raises 996 (time-out 0), 258, 192, or its error (SEMANTICS §10.3)."""
    return _waiting.overlapped_result(hFile, overlapped, milliseconds, bool(alertable), "GetOverlappedResultEx", 996)


def HasOverlappedIoCompleted(overlapped: OVERLAPPED) -> bool:
    """HasOverlappedIoCompleted: whether the operation is over."""
    return _overlapped.has_completed(overlapped)


def QueueUserAPC(routine: Callable[[int], object], hThread: PyHANDLE | int, data: int = 0) -> None:
    """QueueUserAPC: `routine(data)` is called in the thread's next alertable wait. Raises 31 when it has ended."""
    _waiting.queue_user_apc(routine, hThread, data)


def OpenThread(thread: int | threading.Thread) -> PyHANDLE:
    """Return a handle of a thread of this process, by its native id.

    The thread has to be known: it has called `win32api.GetCurrentThreadId` or `GetCurrentThread`. Raises 87 otherwise.
    """
    ident = thread.native_id if isinstance(thread, threading.Thread) else thread
    handle = _objects.open_thread(ident)
    if handle is None:
        raise make_error(87, "OpenThread")
    return handle


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        raise _no_such("npipe.win32.completion", name)
