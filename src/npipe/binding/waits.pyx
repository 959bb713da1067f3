# cython: language_level=3, binding=True
"""How long a call waits, and what ends the wait."""

from libc.stdint cimport int64_t, uint32_t

from npipe.binding.engine cimport (
    NP_FOREVER, np_now, np_on_first_thread, np_run, np_turn_given, np_turn_got, np_turn_pass, np_turn_wait,
    np_turn_want, np_wait,
)
from npipe.binding.system cimport PyErr_CheckSignals

import os
import threading

from npipe.options import check_timeout

# Python runs signal handlers in its main thread alone, which is the process's first one unless Python is embedded in
# another.
cdef bint _EMBEDDED = threading.main_thread().native_id != os.getpid()


cdef int run_handlers() noexcept with gil:
    return PyErr_CheckSignals()


cdef int check_signals(void *context) noexcept nogil:
    # Not for its own sake: a thread that asks for the interpreter while that is being finalized never comes back, and
    # would leave what it has on its stack (its place in a queue) behind in the engine.
    if not _EMBEDDED and not np_on_first_thread():
        return 0
    return run_handlers()


cdef int look_closer(timeout) except -1:
    check_timeout(timeout)
    return 0


cdef np_wait wait_until(timeout) except *:
    """The deadline of a call that may take `timeout` seconds (None: for ever)."""
    cdef np_wait wait
    cdef double seconds
    wait.interrupted = check_signals
    wait.context = NULL
    wait.cancel = NULL
    wait.crowd = False
    wait.deadline = NP_FOREVER
    if timeout is not None:
        timeout = check_timeout(timeout)
    if timeout is not None:
        seconds = timeout
        if seconds < 9e9:
            wait.deadline = np_now() + <int64_t>(seconds * 1e9)  # within 292 years of the machine's start: it fits
    return wait


cdef void let_others_go_first(np_run *run) noexcept:
    """A thread has read many messages without a wait, and others have work (np_turn_is_over)."""
    cdef uint32_t given = np_turn_given()
    np_turn_wait()
    with nogil:
        np_turn_pass(given)
        np_turn_want()
    np_turn_got(run)
