# Messages in place: what a reservation gives to write, and a view to read.

from libc.stdint cimport uint32_t

from npipe.binding.engine cimport np_reserve, np_view, np_wait
from npipe.binding.handle cimport Handle


cdef enum Stage:
    FRESH
    CLAIMED  # somebody enters it
    OUT
    LEAVING  # somebody ends it
    OVER


cdef class Place:
    cdef Handle handle
    cdef object timeout
    cdef Stage stage
    cdef Py_ssize_t exports
    cdef char *data
    cdef uint32_t length  # bytes at `data`
    cdef object private   # whose memory that is, if it is not in the ring
    cdef object view      # what the block has got: a weak reference, for that keeps this alive

    cdef int claim(self, str what) except -1
    cdef void unclaim(self) noexcept
    cdef void begin_anew(self) noexcept
    cdef bint leave(self) noexcept
    cdef uint32_t withdraw(self, bint exported) noexcept
    cdef bint is_read_only(self) noexcept
    cdef void let_go(self) noexcept
    cdef object lend(self)
    cdef bint take_view(self) noexcept


cdef class Reserved(Place):
    cdef np_reserve reserve
    cdef uint32_t size  # that will be sent
    cdef object copier  # whose block it is, of a copy: a thread
    cdef object task    # the same on an event loop

    cdef uint32_t try_now(self) except? 0xFFFFFFFF
    cdef object begin(self, uint32_t code)
    cdef uint32_t end(self, bint commit, bint exported) noexcept


cdef class Received(Place):
    cdef np_view place
    cdef bint copied
    cdef bint answers  # what was taken is the answer that was owed

    cdef object begin(self)
    cdef object begin_with(self, bytes message)
    cdef uint32_t end(self, bint consume, bint exported) noexcept


cdef class Reservation(Reserved):
    cdef object find(self)


cdef class ReceivedView(Received):
    cdef object find(self)
    cdef bytes collect(self, uint32_t size, const np_wait *wait)
