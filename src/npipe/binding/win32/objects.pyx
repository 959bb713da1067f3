# cython: language_level=3, binding=True
"""Win32's objects of a process: events, semaphores, mutexes, timers, threads."""

cimport cython
from libc.stdint cimport int64_t, uint32_t

from npipe.binding.engine cimport *
from npipe.binding.system cimport PyNumber_Index, c_bool
from npipe.binding.win32.handles cimport (
    INVALID_HANDLE, INVALID_PARAMETER, Target, ThreadTarget, as_bool, handle_of, note, of_kind, own_thread, target_of,
    thread_target, wait_ms,
)

import functools
import weakref

from npipe.win32_error import make_error

cdef enum:
    PATH_NOT_FOUND = 3
    ALREADY_EXISTS = 183

# name: a weak reference to its Target, for events and the like of this process. Looked at and changed in the critical
# section of the next, within which no Python is run, so a name is one object's: a WeakValueDictionary is Python itself.
cdef dict _named = {}
cdef object _naming = object()


def _forget(str name, reference):
    """An object that had a name is no more."""
    with cython.critical_section(_naming):
        if _named.get(name) is reference:
            del _named[name]


cdef Target new_object(int kind, str word, bint manual, bint signalled):
    cdef Target target = Target()
    target.object = np_object_new(kind, manual, signalled)
    if target.object == NULL:
        raise MemoryError
    target.kind = word
    return target


cdef str own_name(str name):
    """An object's name without `Local\\`, in which all are by themselves. Upper and lower case are not the same."""
    return name.removeprefix("Local\\")


cdef Target known_by(str name):
    cdef Target target = None
    reference = _named.get(name)
    return reference() if reference is not None else None


cdef Target named(name, str kind, str function, Target made, bint *fresh):
    """The object of that name, which may exist in this process already; else `made` has it from now on, if any."""
    cdef Target target
    fresh[0] = True
    note(0)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"Objects of type '{type(name).__name__}' can not be converted to Unicode.")
    if not name:
        return made
    name = own_name(name)
    if "\\" in name.removeprefix("Global\\"):
        raise make_error(PATH_NOT_FOUND, function)
    if made is not None:
        made.object_name = name
        reference = weakref.ref(made, functools.partial(_forget, name))
    with cython.critical_section(_naming):
        target = known_by(name)
        if target is None and made is not None:
            _named[name] = reference
    if target is None:
        return made
    if target.kind != kind:
        raise make_error(INVALID_HANDLE, function)
    fresh[0] = False
    note(ALREADY_EXISTS)
    return target


def create_event(attributes, manual, initial, name):
    """CreateEvent; a name is known in this process only. Raises 6 when the name is another kind of object's."""
    cdef bint fresh, stays = as_bool(manual), signalled = as_bool(initial)
    cdef Target target = named(name, "event", "CreateEvent", None, &fresh)
    if target is None:
        target = named(name, "event", "CreateEvent", new_object(NP_OBJECT_EVENT, "event", stays, signalled), &fresh)
    return handle_of(target)


def create_semaphore(attributes, initial, maximum, name):
    """CreateSemaphore; a name is known in this process only. Raises 87 (the counts), and 6 as create_event does."""
    cdef bint fresh
    cdef Target target = named(name, "semaphore", "CreateSemaphore", None, &fresh)
    if target is None:
        if maximum <= 0 or initial < 0 or initial > maximum:
            raise make_error(INVALID_PARAMETER, "CreateSemaphore")
        target = new_object(NP_OBJECT_SEMAPHORE, "semaphore", False, False)
        target.object.count = initial
        target.object.maximum = maximum
        target = named(name, "semaphore", "CreateSemaphore", target, &fresh)
    return handle_of(target)


def create_mutex(attributes, owned, name):
    """CreateMutex; a name is known in this process only. Raises 6 as create_event does."""
    cdef bint fresh, mine = as_bool(owned)
    cdef Target target = named(name, "mutex", "CreateMutex", None, &fresh)
    cdef Target made
    cdef np_wait wait
    cdef uint32_t index
    cdef c_bool abandoned
    if target is None:
        made = new_object(NP_OBJECT_MUTEX, "mutex", False, False)
        if mine:  # before others can find it
            wait = wait_ms(0)
            np_wait_objects(&made.object, 1, False, False, &wait, &index, &abandoned)
        target = named(name, "mutex", "CreateMutex", made, &fresh)
        if mine and target is not made:
            np_mutex_release(made.object)
    return handle_of(target)


def create_timer(attributes, manual, name):
    """CreateWaitableTimer; a name is known in this process only. Raises 6 as create_event does."""
    cdef bint fresh, stays = as_bool(manual)
    cdef Target target = named(name, "timer", "CreateWaitableTimer", None, &fresh)
    if target is None:
        target = named(name, "timer", "CreateWaitableTimer", new_object(NP_OBJECT_TIMER, "timer", stays, False), &fresh)
    return handle_of(target)


def open_object(str kind, name, str function):
    """OpenEvent and the like: of an object that this process has named. Raises 2."""
    cdef bint fresh
    cdef Target target = named(name, kind, function, None, &fresh)
    if target is None:
        raise make_error(2, function)
    return handle_of(target)


def SetEvent(hEvent):
    """SetEvent: whoever waits for the event goes on. Raises 6."""
    cdef Target target = of_kind(hEvent, "event", "SetEvent")
    np_event_set(target.object)


def ResetEvent(hEvent):
    """ResetEvent: who waits for the event from now on waits. Raises 6."""
    cdef Target target = of_kind(hEvent, "event", "ResetEvent")
    np_event_reset(target.object)


def PulseEvent(hEvent):
    """PulseEvent: releases those who wait just now. As unreliable as Windows' own. Raises 6."""
    cdef Target target = of_kind(hEvent, "event", "PulseEvent")
    np_event_pulse(target.object)


def ReleaseSemaphore(hSemaphore, lReleaseCount):
    """ReleaseSemaphore: return the count before. Raises 298 (more than its maximum), 87 (not a positive number), 6."""
    cdef Target target = of_kind(hSemaphore, "semaphore", "ReleaseSemaphore")
    cdef uint32_t previous
    if PyNumber_Index(lReleaseCount) <= 0:
        raise make_error(INVALID_PARAMETER, "ReleaseSemaphore")
    if not 0 < lReleaseCount <= 0x7FFFFFFF or not np_semaphore_release(target.object, lReleaseCount, &previous):
        raise make_error(298, "ReleaseSemaphore")
    return previous


def ReleaseMutex(hMutex):
    """ReleaseMutex. Raises 288 (another thread has it, or none), 6."""
    cdef Target target = of_kind(hMutex, "mutex", "ReleaseMutex")
    own_thread()
    if not np_mutex_release(target.object):
        raise make_error(288, "ReleaseMutex")


cdef double MOST_SECONDS = 4e9  # of which two and np_now are less than 2**63 ns


def set_timer(handle, double due, double period):
    """Let a waitable timer ring in `due` seconds, and again each `period` seconds (0: once)."""
    cdef Target target = of_kind(handle, "timer", "SetWaitableTimer")
    cdef int64_t now = np_now()
    # As far away as can be counted is never, and a period that long is none.
    np_timer_set(target.object, NP_FOREVER if due >= MOST_SECONDS else now + <int64_t>(due * 1e9),
                 0 if period >= MOST_SECONDS else <int64_t>(period * 1e9))


def CancelWaitableTimer(hTimer):
    """CancelWaitableTimer: it does not ring any more. Raises 6."""
    cdef Target target = of_kind(hTimer, "timer", "CancelWaitableTimer")
    np_timer_cancel(target.object)


# ---- Threads


def note_thread():
    """Make the calling thread known, for OpenThread."""
    own_thread()


def open_thread(ident):
    """A handle of a thread by its native id, or None if it is not known."""
    cdef np_thread *thread = np_thread_find(ident)
    if thread == NULL:
        return None
    target = thread_target(thread)
    np_thread_unref(thread)
    return handle_of(target)


def is_own_thread(handle, str function):
    """Whether a handle is of the thread that asks. Raises 6, also for what is no thread."""
    cdef Target target = target_of(handle, function)
    if target.kind != "thread":
        raise make_error(INVALID_HANDLE, function)
    return target.object == thread_target(own_thread()).object


def thread_number(handle, str function):
    """The native id of one of this process's threads by its handle; None for a process's thread elsewhere. Raises 6."""
    cdef Target target = target_of(handle, function)
    if target.kind != "thread":
        raise make_error(INVALID_HANDLE, function)
    return (<ThreadTarget>target).thread.tid if isinstance(target, ThreadTarget) else None


def thread_has_ended(handle):
    """Whether a thread has."""
    return bool(np_object_looks_signalled(target_of(handle, "GetExitCodeThread").object))
