"""kernel32's functions for events, mutexes, semaphores, timers and threads, and for waiting."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.kernel32 import memory, security
from npipe._doors.kernel32.functions import exported, exported_text
from npipe.win32 import completion, win32api, win32event
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from npipe._doors.kernel32.call import Call

__all__: list[str] = []

_WAIT_FAILED: Final = 0xFFFFFFFF
_MANUAL_RESET: Final = 1
_INITIAL_SET: Final = 2
_INITIAL_OWNER: Final = 1
_NOT_SUPPORTED: Final = 50
_MOST_HANDLES: Final = 64

_Apc: Final = ctypes.CFUNCTYPE(None, ctypes.c_size_t)


@exported_text("CreateEvent", "pllt")
def _create_event(_call: Call, attributes: int, manual: int, initial: int, name: str | None) -> int:
    return win32event.CreateEvent(security.attributes_at(attributes), manual, initial, name).Detach()


@exported_text("CreateEventEx", "ptdd")
def _create_event_ex(_call: Call, attributes: int, name: str | None, flags: int, _access: int) -> int:
    rule = security.attributes_at(attributes)
    return win32event.CreateEvent(rule, flags & _MANUAL_RESET, flags & _INITIAL_SET, name).Detach()


@exported_text("OpenEvent", "dlt")
def _open_event(_call: Call, access: int, inherit: int, name: str | None) -> int:
    return win32event.OpenEvent(access, inherit, name or "").Detach()


@exported("SetEvent", "h")
def _set_event(_call: Call, handle: int) -> None:
    win32event.SetEvent(handle)


@exported("ResetEvent", "h")
def _reset_event(_call: Call, handle: int) -> None:
    win32event.ResetEvent(handle)


@exported("PulseEvent", "h")
def _pulse_event(_call: Call, handle: int) -> None:
    win32event.PulseEvent(handle)


@exported_text("CreateMutex", "plt")
def _create_mutex(_call: Call, attributes: int, owned: int, name: str | None) -> int:
    return win32event.CreateMutex(security.attributes_at(attributes), owned, name).Detach()


@exported_text("CreateMutexEx", "ptdd")
def _create_mutex_ex(_call: Call, attributes: int, name: str | None, flags: int, _access: int) -> int:
    return win32event.CreateMutex(security.attributes_at(attributes), flags & _INITIAL_OWNER, name).Detach()


@exported_text("OpenMutex", "dlt")
def _open_mutex(_call: Call, access: int, inherit: int, name: str | None) -> int:
    return win32event.OpenMutex(access, inherit, name or "").Detach()


@exported("ReleaseMutex", "h")
def _release_mutex(_call: Call, handle: int) -> None:
    win32event.ReleaseMutex(handle)


@exported_text("CreateSemaphore", "pllt")
def _create_semaphore(_call: Call, attributes: int, initial: int, maximum: int, name: str | None) -> int:
    return win32event.CreateSemaphore(security.attributes_at(attributes), initial, maximum, name).Detach()


@exported_text("CreateSemaphoreEx", "plltdd")
def _create_semaphore_ex(
    _call: Call, attributes: int, initial: int, maximum: int, name: str | None, _flags: int, _access: int
) -> int:
    return win32event.CreateSemaphore(security.attributes_at(attributes), initial, maximum, name).Detach()


@exported_text("OpenSemaphore", "dlt")
def _open_semaphore(_call: Call, access: int, inherit: int, name: str | None) -> int:
    return win32event.OpenSemaphore(access, inherit, name or "").Detach()


@exported("ReleaseSemaphore", "hlp")
def _release_semaphore(call: Call, handle: int, count: int, previous: int) -> None:
    before = win32event.ReleaseSemaphore(handle, count)
    call.put(2, previous, before)


@exported_text("CreateWaitableTimer", "plt")
def _create_timer(_call: Call, attributes: int, manual: int, name: str | None) -> int:
    return win32event.CreateWaitableTimer(security.attributes_at(attributes), manual, name).Detach()


@exported_text("CreateWaitableTimerEx", "ptdd")
def _create_timer_ex(_call: Call, attributes: int, name: str | None, flags: int, access: int) -> int:
    return win32event.CreateWaitableTimerEx(security.attributes_at(attributes), name or "", flags, access).Detach()


@exported_text("OpenWaitableTimer", "dlt")
def _open_timer(_call: Call, access: int, inherit: int, name: str | None) -> int:
    return win32event.OpenWaitableTimer(access, inherit, name or "").Detach()


@exported("SetWaitableTimer", "hplppl")
def _set_timer(_call: Call, handle: int, due: int, period: int, routine: int, _argument: int, resume: int) -> None:
    if routine:
        raise make_error(_NOT_SUPPORTED, "SetWaitableTimer")
    moment = memory.get(due, 8)
    win32event.SetWaitableTimer(handle, moment - (1 << 64) if moment >> 63 else moment, period, None, None, resume)


@exported("CancelWaitableTimer", "h")
def _cancel_timer(_call: Call, handle: int) -> None:
    win32event.CancelWaitableTimer(handle)


# ---- Waiting


@exported("WaitForSingleObject", "hd", failure=_WAIT_FAILED)
def _wait_for_one(_call: Call, handle: int, milliseconds: int) -> int:
    return win32event.WaitForSingleObject(handle, milliseconds)


@exported("WaitForSingleObjectEx", "hdl", failure=_WAIT_FAILED)
def _wait_for_one_ex(_call: Call, handle: int, milliseconds: int, alertable: int) -> int:
    return win32event.WaitForSingleObjectEx(handle, milliseconds, alertable)


@exported("WaitForMultipleObjects", "dpld", failure=_WAIT_FAILED)
def _wait_for_several(call: Call, count: int, handles: int, wait_all: int, milliseconds: int) -> int:
    return win32event.WaitForMultipleObjects(_handles_at(call, count, handles), wait_all, milliseconds)


@exported("WaitForMultipleObjectsEx", "dpldl", failure=_WAIT_FAILED)
def _wait_for_several_ex(call: Call, count: int, handles: int, wait_all: int, milliseconds: int, alertable: int) -> int:
    several = _handles_at(call, count, handles)
    return win32event.WaitForMultipleObjectsEx(several, wait_all, milliseconds, alertable)


def _handles_at(call: Call, count: int, address: int) -> list[int]:
    if not 0 < count <= _MOST_HANDLES:
        raise make_error(87, "WaitForMultipleObjects")
    kind = call.type_at(1, address)
    if isinstance(kind, type) and issubclass(kind, ctypes.Array):
        kind = kind._type_
    size = memory.size_of(kind, 8)
    return [memory.get(address + index * size, size) if address else 0 for index in range(count)]


@exported("SignalObjectAndWait", "hhdl", failure=_WAIT_FAILED)
def _signal_and_wait(_call: Call, to_signal: int, to_wait_on: int, milliseconds: int, alertable: int) -> int:
    return win32event.SignalObjectAndWait(to_signal, to_wait_on, milliseconds, alertable)


@exported("Sleep", "d")
def _sleep(_call: Call, milliseconds: int) -> int:
    win32api.Sleep(milliseconds)
    return 0


@exported("SleepEx", "dl")
def _sleep_ex(_call: Call, milliseconds: int, alertable: int) -> int:
    return win32api.SleepEx(milliseconds, alertable)


@exported("QueueUserAPC", "phq")
def _queue_apc(_call: Call, routine: int, thread: int, data: int) -> None:
    if not routine:
        raise make_error(87, "QueueUserAPC")
    apc: Any = _Apc(routine)
    completion.QueueUserAPC(apc, thread, data)
