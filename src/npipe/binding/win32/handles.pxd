# Handles of npipe.win32: numbers, PyHANDLE, and what they stand for.

from libc.stdint cimport uint32_t

from npipe.binding.engine cimport np_object, np_thread, np_wait
from npipe.binding.system cimport PyNumber_Index

cdef enum:
    INVALID_HANDLE = 6
    INVALID_PARAMETER = 87
    INFINITE = 0xFFFFFFFF


cdef class Target:
    cdef np_object *object
    cdef uint32_t handles  # open ones
    cdef readonly str kind
    cdef readonly str object_name
    cdef object __weakref__

    cdef int shut(self, bint wait) except -1
    cdef void before_wait(self) noexcept


cdef class ThreadTarget(Target):
    cdef np_thread *thread


cdef class PyHANDLE:
    cdef Py_ssize_t number
    cdef Target target


cdef void note(uint32_t code) noexcept
cdef unsigned int as_dword(value) except? 0xFFFFFFFF
cdef ThreadTarget thread_target(np_thread *thread)
cdef PyHANDLE handle_of(Target target)
cdef Py_ssize_t number_of(handle) except? -7
cdef Target target_of(handle, str function)
cdef Target of_kind(handle, str kind, str function)
cdef Target waitable(handle, str function)
cdef np_thread *own_thread() except NULL
cdef np_wait wait_ms(timeout) except *
cdef np_wait blocking_wait() except *
cdef int raise_interrupted(str function) except -1


cdef inline bint as_bool(value) except? -1:
    """A BOOL argument: an integer."""
    return PyNumber_Index(value) != 0


cdef inline uint32_t noted(uint32_t code) noexcept:
    """A code that a call returns, which GetLastError tells too."""
    if code:
        note(code)
    return code
