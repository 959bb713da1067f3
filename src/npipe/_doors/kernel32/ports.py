"""kernel32's functions for completion ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from npipe._doors.kernel32 import memory
from npipe._doors.kernel32 import overlapped as _overlapped
from npipe._doors.kernel32.functions import exported
from npipe.win32 import win32api, win32file
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from npipe._doors.kernel32.call import Call

__all__: list[str] = []

_NOTHING_TAKEN: Final = (6, 258, 735)
_WAIT_IO_COMPLETION: Final = 192
_ENTRY_SIZE: Final = 32  # OVERLAPPED_ENTRY


@exported("CreateIoCompletionPort", "hhqd")
def _create_port(_call: Call, file: int, existing: int, key: int, threads: int) -> int:
    port = win32file.CreateIoCompletionPort(file, existing or None, key, threads)
    return existing or port.Detach()


@exported("GetQueuedCompletionStatus", "hpppd")
def _get_status(call: Call, port: int, count: int, key: int, overlapped: int, milliseconds: int) -> int:
    code, moved, number, over = win32file.GetQueuedCompletionStatus(port, milliseconds)
    if over is None and code in _NOTHING_TAKEN:
        call.put(3, overlapped, 0, 8)
        return call.status(code)
    call.put(1, count, moved & 0xFFFFFFFF)
    call.put(2, key, number & 0xFFFFFFFFFFFFFFFF, 8)
    call.put(3, overlapped, _overlapped.address_of(over), 8)
    return call.status(code)


@exported("GetQueuedCompletionStatusEx", "hpdpdl")
def _get_several(call: Call, port: int, entries: int, room: int, taken: int, milliseconds: int, alertable: int) -> int:
    call.put(3, taken, 0)
    if not room or not entries:
        raise make_error(87, "GetQueuedCompletionStatusEx")
    if alertable and win32api.SleepEx(0, 1) == _WAIT_IO_COMPLETION:
        return call.status(_WAIT_IO_COMPLETION)
    found = 0
    while found < room:
        code, moved, number, over = win32file.GetQueuedCompletionStatus(port, 0 if found else milliseconds)
        if over is None and code in _NOTHING_TAKEN:
            if found:
                break
            return call.status(code)
        entry = entries + found * _ENTRY_SIZE
        memory.store(entry, number & 0xFFFFFFFFFFFFFFFF, 8)
        memory.store(entry + 8, _overlapped.address_of(over), 8)
        memory.store(entry + 16, over.Internal if over is not None else 0, 8)
        memory.store(entry + 24, moved & 0xFFFFFFFF, 4)
        found += 1
    call.put(3, taken, found)
    return 1


@exported("PostQueuedCompletionStatus", "hdqp")
def _post_status(_call: Call, port: int, count: int, key: int, overlapped: int) -> None:
    win32file.PostQueuedCompletionStatus(port, count, key, _overlapped.posted_at(overlapped))
