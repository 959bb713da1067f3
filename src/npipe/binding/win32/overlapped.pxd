# OVERLAPPED, and the operation that it stands for.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from npipe.binding.engine cimport np_async, np_async_any_finished, np_status_block
from npipe.binding.win32.handles cimport Target

cdef class Operation:
    cdef np_async *async
    cdef OVERLAPPED overlapped  # for a routine, or in the program's memory; else it lives as long as the caller wants
    cdef object known_by  # a weak reference to the OVERLAPPED
    cdef Target file, event
    cdef object routine
    cdef uint64_t began  # by np_async_clock, when its OVERLAPPED had another one pending
    cdef Py_buffer first, second
    cdef uint8_t pinned

    cdef void unpin(self) noexcept
    cdef int pin(self, source, bint writable, bint as_second) except -1


cdef class OVERLAPPED:
    cdef uint32_t offset, offset_high, number
    cdef object state
    cdef object event
    cdef Operation operation  # the last one that was started
    cdef list older  # others that are still pending
    cdef uint64_t internal, internal_high  # while there is no operation
    cdef np_status_block *block  # in the program's memory, which shows the state too; or NULL
    cdef object __weakref__

    cdef Operation shown(self)
    cdef void failed_at_once(self)
    cdef void show(self, uint64_t status, uint64_t count) noexcept
    cdef void done_at_once(self, uint32_t code, uint64_t count)


cdef void let_go_of(np_async *async) noexcept
cdef void reap_all() noexcept
cdef Target event_of(OVERLAPPED overlapped, str function, bint *no_packet)


cdef inline OVERLAPPED as_overlapped(value):
    """An argument that is an OVERLAPPED or None."""
    if value is not None and type(value) is not OVERLAPPED:
        raise TypeError("The object is not a PyOVERLAPPED object")
    return <OVERLAPPED>value


cdef inline void reap() noexcept:
    """Let go of the operations that are over."""
    if np_async_any_finished():
        reap_all()
