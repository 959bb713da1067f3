"""kernel32's functions for threads, and for what a console's user presses."""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.kernel32.functions import exported
from npipe.win32 import completion, win32api, win32process
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from npipe._doors.kernel32.call import Call

__all__: list[str] = []

_FAILED: Final = 0xFFFFFFFF

_Start: Final = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_size_t)
_Handler: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint32)


@exported("CreateThread", "pqpqdp")
def _create_thread(
    call: Call, _attributes: int, stack: int, start: int, parameter: int, flags: int, number: int
) -> int:
    if not start:
        raise make_error(87, "CreateThread")
    routine: Any = _Start(start)
    kept = list(call.arguments)  # the routine itself, and what the parameter points to

    def run() -> int:
        result: int = routine(parameter)
        kept.clear()
        return result

    handle, ident = win32process.beginthreadex(None, stack, run, (), flags)
    call.put(5, number, ident)
    return handle.Detach()


@exported("ResumeThread", "h", failure=_FAILED)
def _resume_thread(_call: Call, thread: int) -> int:
    return win32process.ResumeThread(thread)


@exported("SuspendThread", "h", failure=_FAILED)
def _suspend_thread(_call: Call, thread: int) -> int:
    return win32process.SuspendThread(thread)


@exported("GetExitCodeThread", "hp")
def _get_exit_code_thread(call: Call, thread: int, code: int) -> None:
    call.put(1, code, win32process.GetExitCodeThread(thread) & 0xFFFFFFFF)


@exported("GetCurrentThread", "")
def _get_current_thread(_call: Call) -> int:
    return win32api.GetCurrentThread()


@exported("GetCurrentThreadId", "")
def _get_current_thread_id(_call: Call) -> int:
    return win32api.GetCurrentThreadId()


@exported("GetThreadId", "h")
def _get_thread_id(_call: Call, thread: int) -> int:
    if thread != win32api.GetCurrentThread():
        raise make_error(6, "GetThreadId")
    return threading.get_native_id()


@exported("OpenThread", "dld")
def _open_thread(_call: Call, _access: int, _inherit: int, ident: int) -> int:
    return completion.OpenThread(ident).Detach()


# ---- The console's events

_handlers: Final[dict[int, Any]] = {}  # by address


@exported("SetConsoleCtrlHandler", "pl")
def _set_console_handler(_call: Call, routine: int, add: int) -> None:
    handler = _handlers.setdefault(routine, _Handler(routine)) if routine else None
    win32api.SetConsoleCtrlHandler(handler, add)
