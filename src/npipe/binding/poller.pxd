# Pipe.fileno: a descriptor that selectors can wait for.

from npipe.binding.engine cimport np_handle


cdef class Poller:
    cdef int epoll, event
    cdef bint signalled
    cdef np_handle *handle  # held, as long as there is a descriptor
    cdef object __weakref__

    cdef int begin(self, np_handle *handle) except -1
    cdef int watch(self, int socket) except -1
    cdef void let_go(self, bint whole) noexcept
    cpdef close(self)
    cpdef rearm(self)
    cdef void find_out(self) noexcept
