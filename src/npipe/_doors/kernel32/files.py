"""kernel32's functions for files: opening, reading, writing, overlapped results, cancelling."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.kernel32 import memory, security
from npipe._doors.kernel32 import overlapped as _overlapped
from npipe._doors.kernel32.functions import exported, exported_text
from npipe.binding.win32 import operations as _operations
from npipe.binding.win32 import waiting as _waiting
from npipe.win32 import completion, win32api, win32file
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._doors.kernel32.call import Call
    from npipe.binding.win32.overlapped import OVERLAPPED

__all__: list[str] = []

_INVALID_HANDLE_VALUE: Final = -1
_PSEUDO_HANDLES: Final = (-1, -2)
_INFINITE: Final = 0xFFFFFFFF
_IO_PENDING: Final = 997
_IO_INCOMPLETE: Final = 996

_Routine: Final = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)


@exported_text("CreateFile", "tddpddh", failure=_INVALID_HANDLE_VALUE)
def _create_file(
    _call: Call,
    name: str | None,
    access: int,
    share: int,
    attributes: int,
    disposition: int,
    flags: int,
    _template: int,
) -> int:
    rule = security.attributes_at(attributes)
    handle = win32file.CreateFile(name or "", access, share, rule, disposition, flags, None)
    return handle.Detach()


@exported("CloseHandle", "h")
def _close_handle(_call: Call, handle: int) -> None:
    if not handle:
        raise make_error(6, "CloseHandle")
    if handle not in _PSEUDO_HANDLES:
        win32file.CloseHandle(handle)


@exported("ReadFile", "hpdpp")
def _read_file(call: Call, handle: int, buffer: int, size: int, count: int, overlapped: int) -> int:
    call.put(3, count, 0)
    place = memory.view(buffer, size, writable=True)
    over = _overlapped.started_at(call, 4, overlapped)
    if over is None:
        code, data = win32file.ReadFile(handle, place)
        call.put(3, count, len(data))
        return call.status(code)
    code, _ = _operations.ReadFile(handle, place, over)
    return _started(call, 3, count, over, code)


@exported("WriteFile", "hpdpp")
def _write_file(call: Call, handle: int, buffer: int, size: int, count: int, overlapped: int) -> int:
    call.put(3, count, 0)
    data = memory.view(buffer, size)
    over = _overlapped.started_at(call, 4, overlapped)
    code, written = win32file.WriteFile(handle, data, over)
    if over is None:
        call.put(3, count, written)
        return call.status(code)
    return _started(call, 3, count, over, code)


def _started(call: Call, index: int, count: int, over: OVERLAPPED, code: int) -> int:
    """Return a BOOL for the start of an operation: its end, or error 997."""
    if code != _IO_PENDING:
        call.put(index, count, over.InternalHigh)
    return call.status(code)


@exported("ReadFileEx", "hpdpp")
def _read_file_ex(call: Call, handle: int, buffer: int, size: int, overlapped: int, routine: int) -> int:
    over = _for_routine(call, overlapped)
    place = memory.view(buffer, size, writable=True)
    return _started_ex(call, _operations.read_file_ex(handle, place, over, _routine_at(routine)))


@exported("WriteFileEx", "hpdpp")
def _write_file_ex(call: Call, handle: int, buffer: int, size: int, overlapped: int, routine: int) -> int:
    over = _for_routine(call, overlapped)
    _operations.write_file_ex(handle, memory.view(buffer, size), over, _routine_at(routine))
    return _started_ex(call, 0)


def _started_ex(call: Call, code: int) -> int:
    """Return TRUE, with 234 as the last error where a part of a message was there."""
    call.status(code)
    if not code:
        win32api.SetLastError(0)
    return 1


def _for_routine(call: Call, overlapped: int) -> OVERLAPPED:
    over = _overlapped.started_at(call, 3, overlapped, with_event=False)
    if over is None:
        raise make_error(87, "ReadFileEx")
    return over


def _routine_at(address: int) -> Callable[[int, int, OVERLAPPED], object]:
    if not address:
        raise make_error(87, "ReadFileEx")
    routine: Any = _Routine(address)

    def run(code: int, count: int, over: OVERLAPPED) -> None:
        routine(code, count, _overlapped.address_of(over))

    return run


@exported("FlushFileBuffers", "h")
def _flush_file_buffers(_call: Call, handle: int) -> None:
    win32file.FlushFileBuffers(handle)


@exported("GetFileType", "h")
def _get_file_type(_call: Call, handle: int) -> int:
    kind = win32file.GetFileType(handle)
    if kind:
        win32api.SetLastError(0)
    return kind


# ---- Results and cancelling


@exported("GetOverlappedResult", "hppl")
def _get_overlapped_result(call: Call, handle: int, overlapped: int, count: int, wait: int) -> None:
    _result(call, handle, overlapped, count, _INFINITE if wait else 0)


@exported("GetOverlappedResultEx", "hppdl")
def _get_overlapped_result_ex(
    call: Call, handle: int, overlapped: int, count: int, milliseconds: int, alertable: int
) -> None:
    _result(call, handle, overlapped, count, milliseconds, alertable=bool(alertable))


def _result(
    call: Call, handle: int, overlapped: int, count: int, milliseconds: int, *, alertable: bool = False
) -> None:
    over = _overlapped.result_at(call, 1, overlapped)
    try:
        moved = _waiting.overlapped_result(handle, over, milliseconds, alertable, "GetOverlappedResult", _IO_INCOMPLETE)
    except win32file.error as failure:
        if failure.winerror == 234:
            call.put(2, count, over.InternalHigh)
        raise
    call.put(2, count, moved)


@exported("CancelIo", "h")
def _cancel_io(_call: Call, handle: int) -> None:
    win32file.CancelIo(handle)


@exported("CancelIoEx", "hp")
def _cancel_io_ex(_call: Call, handle: int, overlapped: int) -> None:
    over = _overlapped.known_at(overlapped)
    if overlapped and over is None:
        win32file.GetFileType(handle)
        raise make_error(1168, "CancelIoEx")
    completion.CancelIoEx(handle, over)


@exported("CancelSynchronousIo", "h")
def _cancel_synchronous_io(_call: Call, thread: int) -> None:
    completion.CancelSynchronousIo(thread)


# ---- A serial line, which a pipe is none: error 1, as Windows has it. Programs for both declare these.


def _no_line(_call: Call, handle: int, *_arguments: int) -> int:
    raise make_error(1 if win32file.GetFileType(handle) else 6, "")


for _name, _kinds in {
    "ClearCommBreak": "h",
    "ClearCommError": "hpp",
    "EscapeCommFunction": "hd",
    "GetCommMask": "hp",
    "GetCommModemStatus": "hp",
    "GetCommState": "hp",
    "GetCommTimeouts": "hp",
    "PurgeComm": "hd",
    "SetCommBreak": "h",
    "SetCommMask": "hd",
    "SetCommState": "hp",
    "SetCommTimeouts": "hp",
    "SetupComm": "hdd",
    "WaitCommEvent": "hpp",
}.items():
    exported(_name, _kinds)(_no_line)
