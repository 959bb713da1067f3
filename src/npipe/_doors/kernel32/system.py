"""kernel32's functions for errors, processes and handles, and what stands for a console that there is not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from npipe._doors.kernel32 import heap, memory
from npipe._doors.kernel32.functions import exported, exported_text
from npipe.win32 import win32api, win32process
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from npipe._doors.kernel32.call import Call

__all__: list[str] = []

_ALLOCATE_BUFFER: Final = 0x100
_FROM_SYSTEM: Final = 0x1000
_MESSAGE_NOT_FOUND: Final = 317
_INVALID_HANDLE_VALUE: Final = -1


@exported("GetLastError", "")
def _get_last_error(_call: Call) -> int:
    return win32api.GetLastError() & 0xFFFFFFFF


@exported("SetLastError", "d")
def _set_last_error(_call: Call, code: int) -> int:
    win32api.SetLastError(code)
    return 0


@exported_text("FormatMessage", "dpddpdp")
def _format_message(
    call: Call, flags: int, _source: int, code: int, _language: int, buffer: int, room: int, _arguments: int
) -> int:
    if not flags & _FROM_SYSTEM:
        raise make_error(_MESSAGE_NOT_FOUND, "FormatMessage")
    text = win32api.FormatMessage(code) if code else "The operation completed successfully.\r\n"
    if not flags & _ALLOCATE_BUFFER:
        return call.put_text(4, buffer, room, text)
    data = (text + "\0").encode("utf-32-le") if call.wide else text.encode() + b"\0"
    memory.store(buffer, heap.allocate(data), 8)
    return len(text)


# ---- Processes, handles


@exported("GetCurrentProcess", "")
def _get_current_process(_call: Call) -> int:
    return win32api.GetCurrentProcess()


@exported("GetCurrentProcessId", "")
def _get_current_process_id(_call: Call) -> int:
    return win32api.GetCurrentProcessId()


@exported("GetProcessId", "h")
def _get_process_id(_call: Call, process: int) -> int:
    return win32process.GetProcessId(process)


@exported("OpenProcess", "dld")
def _open_process(_call: Call, access: int, inherit: int, pid: int) -> int:
    return win32api.OpenProcess(access, inherit, pid).Detach()


@exported("GetExitCodeProcess", "hp")
def _get_exit_code_process(call: Call, process: int, code: int) -> None:
    call.put(1, code, win32process.GetExitCodeProcess(process) & 0xFFFFFFFF)


@exported("TerminateProcess", "hd")
def _terminate_process(_call: Call, process: int, code: int) -> None:
    win32process.TerminateProcess(process, code)


@exported("DuplicateHandle", "hhhpdld")
def _duplicate_handle(
    call: Call, source: int, handle: int, target: int, copy: int, access: int, inherit: int, options: int
) -> None:
    made = win32api.DuplicateHandle(source, handle, target, access, inherit, options)
    number = made.Detach()
    if copy:
        call.put(3, copy, number, 8)
    else:
        win32api.CloseHandle(number)


@exported("GetHandleInformation", "hp")
def _get_handle_information(call: Call, handle: int, flags: int) -> None:
    call.put(1, flags, win32api.GetHandleInformation(handle))


@exported("SetHandleInformation", "hdd")
def _set_handle_information(_call: Call, handle: int, mask: int, flags: int) -> None:
    win32api.GetHandleInformation(handle)
    change = getattr(win32api, "SetHandleInformation", None)
    if change is not None:
        change(handle, mask, flags)


@exported("GetStdHandle", "d", failure=_INVALID_HANDLE_VALUE)
def _get_std_handle(_call: Call, which: int) -> int:
    return int(win32api.GetStdHandle(which - (1 << 32)))


@exported("GetTickCount", "")
def _get_tick_count(_call: Call) -> int:
    return win32api.GetTickCount()


@exported("QueryPerformanceCounter", "p")
def _query_counter(_call: Call, count: int) -> None:
    memory.view(count, 8, writable=True)[:] = time.perf_counter_ns().to_bytes(8, "little")


@exported("QueryPerformanceFrequency", "p")
def _query_frequency(_call: Call, frequency: int) -> None:
    memory.view(frequency, 8, writable=True)[:] = (1_000_000_000).to_bytes(8, "little")


@exported("GetTickCount64", "")
def _get_tick_count_64(_call: Call) -> int:
    return time.monotonic_ns() // 1_000_000


@exported_text("GetComputerName", "pp")
def _get_computer_name(call: Call, buffer: int, size: int) -> None:
    length = call.put_text(0, buffer, memory.get(size), win32api.GetComputerName())
    call.put(1, size, length)


# ---- A console, which there is not: error 6. Programs declare these as soon as they find kernel32.


def _no_console(_call: Call, *_arguments: int) -> int:
    raise make_error(6, "")


for _name, _kinds in {
    "GetConsoleMode": "hp",
    "SetConsoleMode": "hd",
    "GetConsoleScreenBufferInfo": "hp",
    "SetConsoleTextAttribute": "hd",
    "SetConsoleCursorPosition": "hd",
    "FillConsoleOutputAttribute": "hdddp",
    "FillConsoleOutputCharacterA": "hdddp",
    "FillConsoleOutputCharacterW": "hdddp",
    "SetConsoleTitleA": "p",
    "SetConsoleTitleW": "p",
}.items():
    exported(_name, _kinds)(_no_console)
