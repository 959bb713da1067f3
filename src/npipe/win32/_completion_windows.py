"""`npipe.win32.completion` on Windows: kernel32's own functions, for pywin32's handles and OVERLAPPEDs.

Buffers are pinned, and buffers, OVERLAPPEDs and routines kept alive, until the routine has been called; one callback
for all of them finds what belongs to it by the OVERLAPPED's address.
"""
# ruff: noqa: N802, N803 - Windows' names
# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import ctypes
import itertools
import threading
from ctypes import wintypes
from typing import TYPE_CHECKING, Any, Final

import pywintypes
import win32api

from npipe._buffers import view_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._buffers import ReadableBuffer, WriteableBuffer

    Routine = Callable[[int, int, Any], object]

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

THREAD_TERMINATE: Final = 1
THREAD_SET_CONTEXT: Final = 0x10
_SYNCHRONIZE: Final = 0x100000

_MORE_DATA: Final = 234
_STATUS_PENDING: Final = 0x103

# ---- Functions

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)

_CompletionRoutine = ctypes.WINFUNCTYPE(None, wintypes.DWORD, wintypes.DWORD, ctypes.c_void_p)
_Apc = ctypes.WINFUNCTYPE(None, ctypes.c_size_t)


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_kernel32, name)
    function.restype, function.argtypes = result, arguments
    return function


_buffer_io = (wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD, ctypes.c_void_p, _CompletionRoutine)
_ReadFileEx = _function("ReadFileEx", wintypes.BOOL, *_buffer_io)
_WriteFileEx = _function("WriteFileEx", wintypes.BOOL, *_buffer_io)
_CancelIoEx = _function("CancelIoEx", wintypes.BOOL, wintypes.HANDLE, ctypes.c_void_p)
_CancelSynchronousIo = _function("CancelSynchronousIo", wintypes.BOOL, wintypes.HANDLE)
_GetOverlappedResultEx = _function(
    "GetOverlappedResultEx",
    wintypes.BOOL,
    wintypes.HANDLE,
    ctypes.c_void_p,
    ctypes.POINTER(wintypes.DWORD),
    wintypes.DWORD,
    wintypes.BOOL,
)
_QueueUserAPC = _function("QueueUserAPC", wintypes.DWORD, _Apc, wintypes.HANDLE, ctypes.c_size_t)
_SleepEx = _function("SleepEx", wintypes.DWORD, wintypes.DWORD, wintypes.BOOL)
_OpenThread = _function("OpenThread", wintypes.HANDLE, wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)

# pywintypes exports this to other extensions in C++: BOOL PyWinObject_AsOVERLAPPED(PyObject *, OVERLAPPED **, BOOL).
_as_overlapped = getattr(
    ctypes.PyDLL(pywintypes.__file__), "?PyWinObject_AsOVERLAPPED@@YAHPEAU_object@@PEAPEAU_OVERLAPPED@@H@Z"
)
_as_overlapped.restype = ctypes.c_int
_as_overlapped.argtypes = [ctypes.py_object, ctypes.POINTER(ctypes.c_void_p), ctypes.c_int]


def _address_of(overlapped: Any) -> int:
    """Return where the OVERLAPPED inside of pywin32's object is; raises TypeError for what is none."""
    address = ctypes.c_void_p()
    _as_overlapped(overlapped, ctypes.byref(address), 0)
    return address.value or 0


def _error(code: int, function: str) -> pywintypes.error:
    try:
        text = win32api.FormatMessage(code).strip()
    except pywintypes.error:
        text = "No error message is available"  # pywin32's words
    return pywintypes.error(code, function, text)


def _last_error(function: str) -> pywintypes.error:
    return _error(ctypes.get_last_error(), function)


# ---- Completion routines

_lock = threading.Lock()  # for the two below
_started: dict[int, tuple[Any, Any, Any]] = {}  # by the OVERLAPPED's address: it, what is pinned, the routine
_queued: dict[int, tuple[Any, int]] = {}  # by a number of our own: the routine of QueueUserAPC, and its argument
_numbers = itertools.count(1)


class _Waits(threading.local):
    """The waits of this module that a thread is in, and what the routines in them have raised."""

    def __init__(self) -> None:
        self.depth = 0
        self.errors: list[BaseException] = []


_waits = _Waits()


def _run(routine: Callable[..., object], *arguments: Any) -> None:
    """Call a routine. What it raises comes out of the wait, if that is one of this module's, else it is unraisable."""
    try:
        routine(*arguments)
    except BaseException as error:
        if not _waits.depth:
            raise
        _waits.errors.append(error)


def _waited(wait: Any, *arguments: Any) -> int:
    """Make an alertable call; raise what routines have raised in it, one for each call."""
    _waits.depth += 1
    try:
        result = int(wait(*arguments))
    finally:
        _waits.depth -= 1
    if _waits.errors:
        raise _waits.errors.pop(0)
    return result


def _completed(code: int, count: int, address: int) -> None:
    with _lock:
        overlapped, pinned, routine = _started.pop(address)
    del pinned  # the routine may resize the buffer
    _run(routine, code, count, overlapped)


def _called(number: int) -> None:
    with _lock:
        routine, data = _queued.pop(number)
    _run(routine, data)


_on_completion = _CompletionRoutine(_completed)  # kept here for as long as Windows may call them
_on_apc = _Apc(_called)


def _start(function: Any, name: str, handle: Any, content: Any, size: int, overlapped: Any, routine: Routine) -> int:
    if not callable(routine):
        raise TypeError(f"a completion routine is a callable, not {type(routine).__name__}")
    address = _address_of(overlapped)
    with _lock:
        if address and address in _started:
            raise _error(87, name)  # it is in use, and its routine would be lost
        _started[address] = (overlapped, content, routine)
    ctypes.set_last_error(0)
    succeeded = function(int(handle), content, size, address, _on_completion)
    code = ctypes.get_last_error()
    # A part of a message is success with 234; Wine says failure, and calls the routine all the same (SEMANTICS §12).
    if not succeeded and code != _MORE_DATA:
        with _lock:
            _started.pop(address, None)
        raise _error(code, name)
    code = _MORE_DATA if code == _MORE_DATA else 0
    win32api.SetLastError(code)
    return code


def ReadFileEx(hFile: Any, buffer: WriteableBuffer, overlapped: Any, routine: Routine) -> int:
    """ReadFileEx: start to read into `buffer`, which stays pinned; `routine` is called when it is over (§10.5).

    Returns 0, or 234 when a part of a message was there (which GetLastError tells on Windows). Raises the error of a
    read that fails at once (109, 232, 233, 536 …): then the routine is not called. The OVERLAPPED's event is not used.
    """
    view = view_of(buffer).cast("B")
    content = (ctypes.c_char * view.nbytes).from_buffer(view)
    return _start(_ReadFileEx, "ReadFileEx", hFile, content, view.nbytes, overlapped, routine)


def WriteFileEx(hFile: Any, data: ReadableBuffer, overlapped: Any, routine: Routine) -> None:
    """WriteFileEx: start to write `data`, which stays pinned; `routine` is called when it is over (SEMANTICS §10.5)."""
    content = data if type(data) is bytes else view_of(data).tobytes()
    _start(_WriteFileEx, "WriteFileEx", hFile, content, len(content), overlapped, routine)


# ---- The others


def CancelIoEx(hFile: Any, overlapped: Any | None = None) -> None:
    """CancelIoEx: end the operation with 995; None: all of this process on the file. Raises 1168 when there is none."""
    if not _CancelIoEx(int(hFile), None if overlapped is None else _address_of(overlapped)):
        raise _last_error("CancelIoEx")


def CancelSynchronousIo(hThread: Any) -> None:
    """CancelSynchronousIo: end the call that a thread is blocked in with 995. Raises 1168 when there is none.

    A blocked ReadFile, WriteFile, ConnectNamedPipe or FlushFileBuffers is meant, and never an overlapped operation.
    """
    if not _CancelSynchronousIo(int(hThread)):
        raise _last_error("CancelSynchronousIo")


def GetOverlappedResultEx(hFile: Any, overlapped: Any, milliseconds: int, alertable: object) -> int:
    """GetOverlappedResultEx: the bytes moved; raises 996 (a time-out of 0), 258, 192, or the operation's error."""
    count = wintypes.DWORD()
    address = _address_of(overlapped)
    milliseconds &= 0xFFFFFFFF
    if not _waited(_GetOverlappedResultEx, int(hFile), address, ctypes.byref(count), milliseconds, bool(alertable)):
        raise _last_error("GetOverlappedResultEx")
    return count.value


def HasOverlappedIoCompleted(overlapped: Any) -> bool:
    """HasOverlappedIoCompleted."""
    return bool(overlapped.Internal != _STATUS_PENDING)


def QueueUserAPC(routine: Callable[[int], object], hThread: Any, data: int = 0) -> None:
    """QueueUserAPC: `routine(data)` is called in the thread's next alertable wait. Raises 31 when it has ended."""
    if not callable(routine):
        raise TypeError(f"a routine is a callable, not {type(routine).__name__}")
    with _lock:
        number = next(_numbers)
        _queued[number] = (routine, data)
    if not _QueueUserAPC(_on_apc, int(hThread), number):
        error = _last_error("QueueUserAPC")
        with _lock:
            del _queued[number]
        raise error


def SleepEx(milliseconds: int, bAlertable: object = False) -> int:
    """SleepEx: 0 when the time is over, 192 when routines have run. What a routine raises comes out of it."""
    return _waited(_SleepEx, milliseconds & 0xFFFFFFFF, bool(bAlertable))


def OpenThread(thread: int | threading.Thread) -> Any:
    """Return a handle of a thread, by its native id. Raises 87 when there is none."""
    ident = thread.native_id if isinstance(thread, threading.Thread) else thread
    handle = _OpenThread(THREAD_TERMINATE | THREAD_SET_CONTEXT | _SYNCHRONIZE, False, ident or 0)
    if not handle:
        raise _last_error("OpenThread")
    return pywintypes.HANDLE(handle)  # type: ignore[call-arg]  # the stubs lack the argument
