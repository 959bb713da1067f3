"""pywin32's `win32event`: events, semaphores, mutexes, waitable timers, and waiting for them.

Objects belong to this process; a name makes one known within it. Waits let other threads run and answer Ctrl-C.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from npipe import _engine
from npipe.win32 import _error
from npipe.win32._error import _no_such, _offered_by, make_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npipe._engine import PyHANDLE

error = _error.error

WAIT_OBJECT_0 = 0
WAIT_ABANDONED = 128
WAIT_ABANDONED_0 = 128
WAIT_IO_COMPLETION = 192
WAIT_TIMEOUT = 258
WAIT_FAILED = -1
INFINITE = -1
MAXIMUM_WAIT_OBJECTS = 64
EVENT_ALL_ACCESS = 0x1F0003
EVENT_MODIFY_STATE = 2
SYNCHRONIZE = 0x100000
MUTEX_ALL_ACCESS = 0x1F0001
MUTEX_MODIFY_STATE = 1
SEMAPHORE_ALL_ACCESS = 0x1F0003
SEMAPHORE_MODIFY_STATE = 2
TIMER_ALL_ACCESS = 0x1F0003
TIMER_MODIFY_STATE = 2
TIMER_QUERY_STATE = 1
CREATE_WAITABLE_TIMER_MANUAL_RESET = 1
CREATE_WAITABLE_TIMER_HIGH_RESOLUTION = 2
QS_ALLEVENTS = 0xBF
QS_ALLINPUT = 0xFF
MWMO_ALERTABLE = 2
MWMO_INPUTAVAILABLE = 4
MWMO_WAITALL = 1

SetEvent = _engine.SetEvent
ResetEvent = _engine.ResetEvent
PulseEvent = _engine.PulseEvent
ReleaseSemaphore = _engine.ReleaseSemaphore
ReleaseMutex = _engine.ReleaseMutex
CancelWaitableTimer = _engine.CancelWaitableTimer
WaitForSingleObject = _engine.WaitForSingleObject
WaitForSingleObjectEx = _engine.WaitForSingleObjectEx
WaitForMultipleObjects = _engine.WaitForMultipleObjects
WaitForMultipleObjectsEx = _engine.WaitForMultipleObjectsEx


def CreateEvent(
    EventAttributes: object, bManualReset: object, bInitialState: object, Name: str | None = None, /
) -> PyHANDLE:
    """CreateEvent: a manual-reset event stays set until ResetEvent, another one lets one waiter through."""
    return _engine.create_event(EventAttributes, bManualReset, bInitialState, Name)


def CreateMutex(MutexAttributes: object, InitialOwner: object, Name: str | None = None, /) -> PyHANDLE:
    """CreateMutex; with `InitialOwner` the calling thread has it."""
    return _engine.create_mutex(MutexAttributes, InitialOwner, Name)


def CreateSemaphore(
    SemaphoreAttributes: object, InitialCount: int, MaximumCount: int, SemaphoreName: str | None = None, /
) -> PyHANDLE:
    """CreateSemaphore."""
    return _engine.create_semaphore(SemaphoreAttributes, InitialCount, MaximumCount, SemaphoreName)


def CreateWaitableTimer(TimerAttributes: object, ManualReset: object, TimerName: str | None = None, /) -> PyHANDLE:
    """CreateWaitableTimer."""
    return _engine.create_timer(TimerAttributes, ManualReset, TimerName)


def CreateWaitableTimerEx(
    TimerAttributes: object, TimerName: str | None, Flags: int, DesiredAccess: int, /
) -> PyHANDLE:
    """CreateWaitableTimerEx; the access is all there is within a process."""
    del DesiredAccess
    return _engine.create_timer(TimerAttributes, Flags & CREATE_WAITABLE_TIMER_MANUAL_RESET, TimerName)


def SetWaitableTimer(
    handle: PyHANDLE | int,
    dueTime: int | dt.datetime,
    period: int,
    func: object,
    param: object,
    resume_state: object,
    /,
) -> None:
    """SetWaitableTimer: `dueTime` in 100 ns, negative from now; `period` in milliseconds."""
    del param, resume_state
    if func is not None:
        raise make_error(50, "SetWaitableTimer")
    if isinstance(dueTime, dt.datetime):
        seconds = dueTime.timestamp() - dt.datetime.now(tz=dt.UTC).timestamp()
    elif dueTime <= 0:
        seconds = -dueTime / 1e7
    else:  # 100 ns since 1601
        seconds = dueTime / 1e7 - 11644473600 - dt.datetime.now(tz=dt.UTC).timestamp()
    _engine.set_timer(handle, max(0.0, seconds), period / 1000)


def OpenEvent(desiredAccess: int, bInheritHandle: object, name: str, /) -> PyHANDLE:
    """OpenEvent: one that this process has named; raises 2."""
    del desiredAccess, bInheritHandle
    return _engine.open_object("event", name, "OpenEvent")


def OpenMutex(desiredAccess: int, bInheritHandle: object, name: str, /) -> PyHANDLE:
    """OpenMutex: one that this process has named; raises 2."""
    del desiredAccess, bInheritHandle
    return _engine.open_object("mutex", name, "OpenMutex")


def OpenSemaphore(desiredAccess: int, bInheritHandle: object, name: str, /) -> PyHANDLE:
    """OpenSemaphore: one that this process has named; raises 2."""
    del desiredAccess, bInheritHandle
    return _engine.open_object("semaphore", name, "OpenSemaphore")


def OpenWaitableTimer(desiredAccess: int, bInheritHandle: object, timerName: str, /) -> PyHANDLE:
    """OpenWaitableTimer: one that this process has named; raises 2."""
    del desiredAccess, bInheritHandle
    return _engine.open_object("timer", timerName, "OpenWaitableTimer")


def MsgWaitForMultipleObjects(
    handlelist: Iterable[PyHANDLE | int], bWaitAll: object, milliseconds: int, wakeMask: int, /
) -> int:
    """MsgWaitForMultipleObjects in a process that gets no messages: the handles alone."""
    del wakeMask
    return _wait_without_messages(list(handlelist), bWaitAll, milliseconds, 0)


def MsgWaitForMultipleObjectsEx(
    handlelist: Iterable[PyHANDLE | int], milliseconds: int, wakeMask: int, waitFlags: int, /
) -> int:
    """MsgWaitForMultipleObjectsEx in a process that gets no messages."""
    del wakeMask
    return _wait_without_messages(list(handlelist), waitFlags & MWMO_WAITALL, milliseconds, waitFlags & MWMO_ALERTABLE)


def _wait_without_messages(handles: list[PyHANDLE | int], wait_all: object, milliseconds: int, alertable: int) -> int:
    if not handles:
        return _engine.sleep_ex(milliseconds, alertable) or WAIT_TIMEOUT
    return _engine.WaitForMultipleObjectsEx(handles, wait_all, milliseconds, alertable)


def SignalObjectAndWait(
    objectToSignal: PyHANDLE | int, objectToWaitOn: PyHANDLE | int, milliseconds: int, alertable: object, /
) -> int:
    """SignalObjectAndWait, in two steps."""
    {"event": SetEvent, "mutex": ReleaseMutex}.get(
        _engine.handle_kind(objectToSignal, "SignalObjectAndWait"), lambda handle: ReleaseSemaphore(handle, 1)
    )(objectToSignal)
    return _engine.WaitForSingleObjectEx(objectToWaitOn, milliseconds, alertable)


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("win32event", name)


del annotations, TYPE_CHECKING
