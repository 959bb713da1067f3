# How long a call waits, and what ends the wait: a deadline, a signal's handler.

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongAndOverflow, PyLong_CheckExact

from npipe.binding.engine cimport NP_TRY, np_run, np_wait

cdef int check_signals(void *context) noexcept nogil
cdef np_wait wait_until(timeout) except *
cdef int look_closer(timeout) except -1
cdef void let_others_go_first(np_run *run) noexcept


cdef inline int check_time(timeout) except -1:
    """Raises for what is no time-out, before anything is done: a call that need not wait does not look at it again."""
    cdef int overflow = 0
    cdef long whole
    if timeout is None or PyFloat_CheckExact(timeout) and PyFloat_AS_DOUBLE(timeout) >= 0:
        return 0
    if PyLong_CheckExact(timeout):
        whole = PyLong_AsLongAndOverflow(timeout, &overflow)
        if overflow > 0 or overflow == 0 and whole >= 0:
            return 0
    return look_closer(timeout)


cdef inline np_wait only_try() noexcept:
    """No wait at all."""
    cdef np_wait wait
    wait.deadline = NP_TRY
    wait.interrupted = NULL
    wait.context = NULL
    wait.cancel = NULL
    wait.crowd = False
    return wait
