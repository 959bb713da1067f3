"""pywin32's `win32event`: events, semaphores, mutexes, waitable timers, and waiting for them.

Objects belong to this process; a name makes one known within it. Waits let other threads run and answer Ctrl-C.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import datetime as dt
import operator
from typing import TYPE_CHECKING, Final

from npipe import win32_error as _error
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import objects as _objects
from npipe.binding.win32 import waiting as _waiting
from npipe.win32 import _security
from npipe.win32._offered import _no_such, _offered_by
from npipe.win32_error import make_error, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npipe.binding.win32.handles import PyHANDLE

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
QS_ALLEVENTS = 0x4BF
QS_ALLINPUT = 0x4FF
QS_HOTKEY = 0x80
QS_INPUT = 0x407
QS_KEY = 1
QS_MOUSE = 6
QS_MOUSEBUTTON = 4
QS_MOUSEMOVE = 2
QS_PAINT = 0x20
QS_POSTMESSAGE = 8
QS_SENDMESSAGE = 0x40
QS_TIMER = 0x10
UNICODE = 1
MWMO_ALERTABLE = 2
MWMO_INPUTAVAILABLE = 4
MWMO_WAITALL = 1

SetEvent: Final = _objects.SetEvent
ResetEvent: Final = _objects.ResetEvent
PulseEvent: Final = _objects.PulseEvent
ReleaseSemaphore: Final = _objects.ReleaseSemaphore
ReleaseMutex: Final = _objects.ReleaseMutex
CancelWaitableTimer: Final = _objects.CancelWaitableTimer
WaitForSingleObject: Final = _waiting.WaitForSingleObject
WaitForSingleObjectEx: Final = _waiting.WaitForSingleObjectEx
WaitForMultipleObjects: Final = _waiting.WaitForMultipleObjects
WaitForMultipleObjectsEx: Final = _waiting.WaitForMultipleObjectsEx


def _check(attributes: object) -> None:
    if attributes is not None and not isinstance(attributes, _security.SECURITY_ATTRIBUTES):
        raise TypeError("The object is not a PySECURITY_ATTRIBUTES object")


def CreateEvent(EventAttributes: object, bManualReset: int, bInitialState: int, Name: str | None, /) -> PyHANDLE:
    """CreateEvent: a manual-reset event stays set until ResetEvent, another one lets one waiter through.

    With this function and the next ones a name is known in this process only; one that exists already gives a further
    handle, and GetLastError tells 183. Raises 6 when the name is another kind of object's.
    """
    _check(EventAttributes)
    return _objects.create_event(EventAttributes, bManualReset, bInitialState, Name)


def CreateMutex(MutexAttributes: object, InitialOwner: int, Name: str | None, /) -> PyHANDLE:
    """CreateMutex; with `InitialOwner` the calling thread has it. Raises as CreateEvent does."""
    _check(MutexAttributes)
    return _objects.create_mutex(MutexAttributes, InitialOwner, Name)


def CreateSemaphore(
    SemaphoreAttributes: object, InitialCount: int, MaximumCount: int, SemaphoreName: str | None, /
) -> PyHANDLE:
    """CreateSemaphore: each wait that it ends takes 1 of its count. Raises 87 (the counts), and as CreateEvent does."""
    _check(SemaphoreAttributes)
    initial, maximum = operator.index(InitialCount), operator.index(MaximumCount)
    return _objects.create_semaphore(SemaphoreAttributes, initial, maximum, SemaphoreName)


def CreateWaitableTimer(TimerAttributes: object, ManualReset: int, TimerName: str | None, /) -> PyHANDLE:
    """CreateWaitableTimer: not set at first; see SetWaitableTimer. Raises as CreateEvent does."""
    _check(TimerAttributes)
    return _objects.create_timer(TimerAttributes, ManualReset, TimerName)


def CreateWaitableTimerEx(
    TimerAttributes: object, TimerName: str | None, Flags: int, DesiredAccess: int, /
) -> PyHANDLE:
    """CreateWaitableTimerEx; the access is all there is within a process."""
    del DesiredAccess
    _check(TimerAttributes)
    return _objects.create_timer(TimerAttributes, Flags & CREATE_WAITABLE_TIMER_MANUAL_RESET, TimerName)


def SetWaitableTimer(
    handle: PyHANDLE | int,
    dueTime: int | dt.datetime,
    period: int,
    func: object,
    param: object,
    resume_state: int,
    /,
) -> None:
    """SetWaitableTimer: `dueTime` in 100 ns, negative from now, else since 1601, or a datetime.

    `period` is in milliseconds; 0: it rings once. What lies further away than
    126 years never rings. `func` and `param` have to be None (TypeError): there is no routine.
    Raises 6; OverflowError for what is no LARGE_INTEGER, or no LONG.
    """
    operator.index(resume_state)
    if not -(2**31) <= operator.index(period) < 2**31:
        raise OverflowError("Python int too large to convert to C long")
    if func is not None or param is not None:
        raise TypeError("This param must be None")
    if isinstance(dueTime, dt.datetime):
        seconds = dueTime.timestamp() - dt.datetime.now(tz=dt.UTC).timestamp()
    elif not isinstance(dueTime, int):
        raise TypeError("LARGE_INTEGER must be 'int', or '(int, int)'")
    elif not -(2**63) <= dueTime < 2**63:
        raise OverflowError("int too big to convert")
    elif dueTime <= 0:
        seconds = -dueTime / 1e7
    else:  # 100 ns since 1601
        seconds = dueTime / 1e7 - 11644473600 - dt.datetime.now(tz=dt.UTC).timestamp()
    _objects.set_timer(handle, max(0.0, seconds), period / 1000)


def OpenEvent(desiredAccess: int, bInheritHandle: object, name: str, /) -> PyHANDLE:
    """OpenEvent: one that this process has named; raises 2."""
    del desiredAccess, bInheritHandle
    return _objects.open_object("event", text_of(name), "OpenEvent")


def OpenMutex(desiredAccess: int, bInheritHandle: object, name: str, /) -> PyHANDLE:
    """OpenMutex: one that this process has named; raises 2."""
    del desiredAccess, bInheritHandle
    return _objects.open_object("mutex", text_of(name), "OpenMutex")


def OpenSemaphore(desiredAccess: int, bInheritHandle: object, name: str, /) -> PyHANDLE:
    """OpenSemaphore: one that this process has named; raises 2."""
    del desiredAccess, bInheritHandle
    return _objects.open_object("semaphore", text_of(name), "OpenSemaphore")


def OpenWaitableTimer(desiredAccess: int, bInheritHandle: object, timerName: str, /) -> PyHANDLE:
    """OpenWaitableTimer: one that this process has named; raises 2."""
    del desiredAccess, bInheritHandle
    return _objects.open_object("timer", text_of(timerName), "OpenWaitableTimer")


def MsgWaitForMultipleObjects(
    handlelist: Iterable[PyHANDLE | int], bWaitAll: int, milliseconds: int, wakeMask: int, /
) -> int:
    """MsgWaitForMultipleObjects in a process that gets no messages: the handles alone."""
    del wakeMask
    return _wait_without_messages("MsgWaitForMultipleObjects", list(handlelist), bWaitAll, milliseconds, 0)


def MsgWaitForMultipleObjectsEx(
    handlelist: Iterable[PyHANDLE | int], milliseconds: int, wakeMask: int, waitFlags: int, /
) -> int:
    """MsgWaitForMultipleObjectsEx in a process that gets no messages."""
    del wakeMask
    return _wait_without_messages(
        "MsgWaitForMultipleObjectsEx",
        list(handlelist),
        waitFlags & MWMO_WAITALL,
        milliseconds,
        waitFlags & MWMO_ALERTABLE,
    )


def _wait_without_messages(
    function: str, handles: list[PyHANDLE | int], wait_all: int, milliseconds: int, alertable: int
) -> int:
    if not handles:
        return _waiting.sleep_ex(milliseconds, alertable) or WAIT_TIMEOUT
    if len(handles) >= MAXIMUM_WAIT_OBJECTS:  # the messages take one's place
        raise make_error(87, function)
    return _waiting.WaitForMultipleObjectsEx(handles, wait_all, milliseconds, alertable)


def SignalObjectAndWait(
    objectToSignal: PyHANDLE | int, objectToWaitOn: PyHANDLE | int, milliseconds: int, alertable: object, /
) -> int:
    """SignalObjectAndWait, in two steps; raises what SetEvent or its like and WaitForSingleObject raise."""
    {"event": SetEvent, "mutex": ReleaseMutex}.get(
        _handles.handle_kind(objectToSignal, "SignalObjectAndWait"), lambda handle: ReleaseSemaphore(handle, 1)
    )(objectToSignal)
    return _waiting.WaitForSingleObjectEx(objectToWaitOn, milliseconds, alertable)


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("win32event", name)


del annotations, TYPE_CHECKING
