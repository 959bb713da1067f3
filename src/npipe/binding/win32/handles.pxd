# Handles of npipe.win32: numbers, PyHANDLE, and what they stand for.

cimport cython
from libc.stdint cimport uint32_t

from npipe.binding.engine cimport np_object, np_thread, np_wait
from npipe.binding.system cimport PyNumber_Index, look_at_size, look_at_word

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
    cdef void number_closed(self, Py_ssize_t number) noexcept


cdef class ThreadTarget(Target):
    cdef np_thread *thread


cdef class PyHANDLE:
    cdef Py_ssize_t number
    cdef Target target

    cdef Py_ssize_t taken(self) noexcept


cdef void note(uint32_t code) noexcept
cdef unsigned int as_dword(value) except? 0xFFFFFFFF
cdef ThreadTarget thread_target(np_thread *thread)
cdef PyHANDLE handle_of(Target target)
cdef void keep_free(Py_ssize_t number) noexcept
cdef Target known(Py_ssize_t number)
cdef bint put_at(Py_ssize_t number, Target target) except -1
cdef int replace(Target old, Target new) except -1
cdef list inheritable_numbers()
cdef int on_arrival(arrive, leave) except -1
cdef Py_ssize_t as_number(handle) except? -7
cdef Target look_up(handle, str function)
cdef Target of_kind(handle, str kind, str function)
cdef Target waitable(handle, str function)
cdef np_thread *own_thread() except NULL
cdef np_wait wait_ms(timeout) except *
cdef np_wait blocking_wait() except *
cdef int raise_interrupted(str function) except -1


# What every call of a program passes is inline: from part to part a call takes longer than within one.

cdef inline Py_ssize_t number_of(handle) except? -7:
    """The number of a handle; raises TypeError for what is none."""
    if type(handle) is PyHANDLE:
        return look_at_size(&(<PyHANDLE>handle).number)
    return as_number(handle)


cdef inline Target open_target(handle):
    """What an open PyHANDLE stands for; None for anything else, which may be a handle all the same."""
    cdef Target target
    if type(handle) is PyHANDLE:
        with cython.critical_section(handle):
            target = (<PyHANDLE>handle).target if (<PyHANDLE>handle).number != 0 else None
        if target is not None and look_at_word(&target.handles) > 0:
            return target
    return None


cdef inline Target target_of(handle, str function):
    """What `handle`, a PyHANDLE or a number, stands for; raises error 6."""
    cdef Target target = open_target(handle)
    return target if target is not None else look_up(handle, function)


cdef inline bint as_bool(value) except? -1:
    """A BOOL argument: an integer."""
    return PyNumber_Index(value) != 0


cdef inline uint32_t noted(uint32_t code) noexcept:
    """A code that a call returns, which GetLastError tells too."""
    if code:
        note(code)
    return code
