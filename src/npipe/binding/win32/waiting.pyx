# cython: language_level=3, binding=True
"""Waiting for objects and for operations, and the routines that run in an alertable wait."""

cimport cython
from libc.stdint cimport uint32_t
from libc.stdlib cimport free

from npipe.binding.engine cimport *
from npipe.binding.system cimport Py_DECREF, Py_INCREF, c_bool, npipe_reraise
from npipe.binding.win32.handles cimport (
    INFINITE, INVALID_HANDLE, INVALID_PARAMETER, PyHANDLE, Target, ThreadTarget, as_bool, number_of, target_of, wait_ms,
    waitable,
)
from npipe.binding.win32.overlapped cimport (
    OVERLAPPED, Operation, as_overlapped, event_of, let_go_of, reap,
)

from npipe.win32_error import make_error

cdef enum:
    WAIT_ABANDONED = 128
    WAIT_IO_COMPLETION = 192
    WAIT_TIMEOUT = 258


cdef uint32_t run_wait(np_object **objects, uint32_t count, bint all_of_them, bint alertable, timeout,
                       str function) except? 0xFFFFFFFE:
    cdef np_wait wait = wait_ms(timeout), at_once = wait
    cdef uint32_t index = 0, code = NP_SEM_TIMEOUT
    cdef c_bool abandoned = False
    reap()
    if wait.deadline == NP_TRY or (count == 1 and np_object_looks_signalled(objects[0])):
        at_once.deadline = NP_TRY
        code = np_wait_objects(objects, count, all_of_them, alertable, &at_once, &index, &abandoned)
    if code == NP_SEM_TIMEOUT and wait.deadline != NP_TRY:
        with nogil:
            code = np_wait_objects(objects, count, all_of_them, alertable, &wait, &index, &abandoned)
    reap()
    if code == NP_OK:
        return index + (WAIT_ABANDONED if abandoned else 0)
    if code == NP_SEM_TIMEOUT:
        return WAIT_TIMEOUT
    if code == NP_IO_COMPLETION:
        run_routines()
        return WAIT_IO_COMPLETION
    if code == NP_INTERRUPTED:
        npipe_reraise()
    raise make_error(code, function)


cdef uint32_t wait_single(handle, timeout, bint alertable, str function) except? 0xFFFFFFFE:
    cdef Target target = waitable(handle, function)
    return run_wait(&target.object, 1, False, alertable, timeout, function)


def WaitForSingleObject(hHandle, milliseconds):
    """WaitForSingleObject: 0, 128 (WAIT_ABANDONED) or 258 (WAIT_TIMEOUT). `milliseconds` -1 (INFINITE) is for ever.
    Raises 6.
    """
    return wait_single(hHandle, milliseconds, False, "WaitForSingleObject")


def WaitForSingleObjectEx(hHandle, milliseconds, bAlertable):
    """WaitForSingleObjectEx: as WaitForSingleObject, or 192 after completion routines have run (SEMANTICS §10.5)."""
    return wait_single(hHandle, milliseconds, as_bool(bAlertable), "WaitForSingleObjectEx")


cdef str _NO_HANDLES = "Handles must be a list of integers"


cdef list list_of(sequence):
    """The handles of another sequence than a list."""
    if isinstance(sequence, (dict, PyHANDLE)) or not hasattr(type(sequence), "__getitem__"):
        raise TypeError(_NO_HANDLES)
    return [sequence[index] for index in range(len(sequence))]


cdef uint32_t wait_several(handles, bint all_of_them, timeout, bint alertable, str function) except? 0xFFFFFFFE:
    cdef np_object *objects[NP_MOST_OBJECTS]
    cdef list targets = []
    cdef uint32_t count = 0
    if not isinstance(handles, (list, tuple)):
        handles = list_of(handles)
    for handle in handles:
        try:
            target = waitable(handle, function)
        except TypeError:
            raise TypeError(_NO_HANDLES) from None
        if count == NP_MOST_OBJECTS:
            raise make_error(INVALID_PARAMETER, function)
        if all_of_them and target in targets:
            raise make_error(INVALID_PARAMETER, function)
        targets.append(target)
        objects[count] = (<Target>target).object
        count += 1
    if count == 0 or (all_of_them and len(set(targets)) < <Py_ssize_t>count):
        raise make_error(INVALID_PARAMETER, function)
    return run_wait(objects, count, all_of_them, alertable, timeout, function)


def WaitForMultipleObjects(handles, bWaitAll, milliseconds):
    """WaitForMultipleObjects over at most 64 handles: the first's index that is signalled, 128 and more for abandoned
    mutexes, or 258.

    Raises 87 (no handle, more than 64, or with `bWaitAll` one twice), 6.
    """
    return wait_several(handles, as_bool(bWaitAll), milliseconds, False, "WaitForMultipleObjects")


def WaitForMultipleObjectsEx(handles, bWaitAll, milliseconds, bAlertable):
    """WaitForMultipleObjectsEx: as WaitForMultipleObjects, or 192 after completion routines have run."""
    return wait_several(handles, as_bool(bWaitAll), milliseconds, as_bool(bAlertable), "WaitForMultipleObjectsEx")


def sleep_ex(milliseconds, alertable):
    """SleepEx: 0 when the time is over, 192 after completion routines have run."""
    cdef uint32_t result = run_wait(NULL, 0, False, bool(alertable), milliseconds, "SleepEx")
    return 0 if result == WAIT_TIMEOUT else result


# ---- The result of an operation


def GetOverlappedResult(hFile, overlapped, bWait):
    """GetOverlappedResult: the bytes moved; raises 996 while it is pending, and the operation's own error, 234 included
    (SEMANTICS §10.3).
    """
    if overlapped is None:
        raise TypeError("The object is not a PyOVERLAPPED object")
    if type(hFile) is not PyHANDLE:
        number_of(hFile)
    return result_of(hFile, as_overlapped(overlapped), INFINITE if as_bool(bWait) else 0, False, "GetOverlappedResult",
                     996)


def overlapped_result(file, OVERLAPPED overlapped not None, timeout, bint alertable, str function, uint32_t in_vain):
    """GetOverlappedResultEx: as GetOverlappedResult, waiting so many milliseconds; raises 258 and 192 too."""
    return result_of(file, overlapped, timeout, alertable, function, in_vain)


cdef object result_of(file, OVERLAPPED overlapped, timeout, bint alertable, str function, uint32_t in_vain):
    cdef Operation operation
    cdef Target target
    cdef bint no_packet
    cdef uint32_t code, waited
    cdef bint pending
    reap()
    with cython.critical_section(overlapped):
        operation = overlapped.operation
        if operation is not None:
            pending = np_async_code(operation.async) == NP_IO_PENDING
            if pending or overlapped.older is not None:
                operation = overlapped.shown()
                pending = np_async_code(operation.async) == NP_IO_PENDING
        else:
            pending = overlapped.internal == NP_STATUS_PENDING
    if pending:
        if <uint32_t>(int(timeout) & 0xFFFFFFFF) == 0:
            raise make_error(in_vain, function)
        target = event_of(overlapped, function, &no_packet)
        if target is None:
            target = waitable(file, function)
        waited = run_wait(&target.object, 1, False, alertable, timeout, function)
        if waited != 0:
            raise make_error(waited, function)
    if operation is None or np_async_code(operation.async) == NP_IO_PENDING:
        # Whoever has set the event counts as the completion, as on Windows.
        code = 0 if pending else np_code_of_status(overlapped.Internal)
        if code:
            raise make_error(code, function)
        return overlapped.InternalHigh
    reap()
    code = np_async_code(operation.async)
    if code:
        raise make_error(code, function)
    return operation.async.count


# ---- Completion routines


def queue_user_apc(routine, thread, value):
    """QueueUserAPC: `routine(value)` runs in `thread`'s next alertable wait."""
    cdef Target target = target_of(thread, "QueueUserAPC")
    if not isinstance(target, ThreadTarget):
        raise make_error(INVALID_HANDLE, "QueueUserAPC")
    if not callable(routine):
        raise TypeError("a routine is a callable")
    context = (routine, value)
    Py_INCREF(context)
    if not np_apc_queue((<ThreadTarget>target).thread, <void *>context, 0):
        Py_DECREF(context)
        raise make_error(31, "QueueUserAPC")


cdef int run_routines() except -1:
    """Run what is queued to this thread now, in order (SEMANTICS §10.5). An exception of a routine's comes out of the
    wait, and the routines behind it stay for the next one.
    """
    cdef np_apc *apc = np_apc_take()
    cdef Operation operation
    cdef uint32_t code, count
    while apc != NULL:
        if apc.async == NULL:
            context = <object>apc.context
            Py_DECREF(context)
            free(apc)
            context[0](context[1])
        else:
            operation = <Operation>apc.async.owner
            overlapped, routine = operation.overlapped, operation.routine
            operation.overlapped = operation.routine = None
            code = np_async_code(operation.async)
            count = operation.async.count
            let_go_of(apc.async)
            operation = None  # that the routine may use it again
            routine(code, count, overlapped)
        apc = np_apc_take()
    return 0
