# How long a call waits, and what ends the wait: a deadline, a signal's handler.

from npipe.binding.engine cimport NP_TRY, np_wait

cdef int check_signals(void *context) noexcept nogil
cdef np_wait wait_until(timeout) except *


cdef inline np_wait only_try() noexcept:
    """No wait at all."""
    cdef np_wait wait
    wait.deadline = NP_TRY
    wait.interrupted = NULL
    wait.context = NULL
    wait.cancel = NULL
    return wait
