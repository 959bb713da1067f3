# Handles whose calls never wait, for event loops.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from npipe.binding.buffers cimport Buffer, Parts
from npipe.binding.engine cimport np_poll_read, np_poll_write, np_view
from npipe.binding.handle cimport Handle
from npipe.binding.views cimport Received

cdef enum:
    # Calls in a row that are answered without the event loop, before it gets a turn; a long message counts for several.
    AT_ONCE = 128
    # Where others are at work; no more than half of them are reads, and no more is read than had come before the turn,
    # but one message at least.
    FEW = 32
    ALONE = 4  # turns in a row without others' between them: nobody else is at work
    WEIGHT_SHIFT = 13  # a message counts for one turn, and for another one for each 8 KiB


cdef class PolledHandle(Handle):
    cdef np_poll_read reading
    cdef bint is_reading
    cdef int turns, reads  # left of all calls, and of those that read
    cdef bint crowded  # this turn is one of FEW, and reads up to this:
    cdef uint64_t announced
    cdef bint owes   # the last read: see np_poll_promise_pauses
    cdef list resting  # tickets of the writes that let the event loop have a turn, in the order in which they began
    cdef uint64_t last_ticket
    cdef bint rests  # a read that lets the event loop have a turn, and then goes on at once
    cdef uint64_t last_rest  # its number
    cdef bint yields  # the last step: the event loop has its turn before the next one
    cdef bytes message   # of a read under way: what has been copied so far
    cdef uint32_t upto, total
    cdef Buffer target
    cdef Parts parts  # the same, several
    cdef bint found   # for these: a message

    cdef void begin_turn(self, bint crowded) noexcept
    cdef bint may_read(self) noexcept
    cdef void has_read(self, uint32_t size, uint32_t ahead=*) noexcept
    cdef void *copied(self) noexcept
    cdef bint has_come(self) noexcept
    cdef bint has_ended(self) noexcept
    cdef bint spin(self, double seconds) except -1
    cdef uint64_t line_up(self) except 0
    cdef int check_turn(self) except -1
    cdef bytes recv_now(self, uint32_t most)
    cdef int begin_reading(self) except -1
    cdef int end_reading(self) except -1
    cdef bint is_to_come(self, uint32_t code) noexcept
    cdef bytes recv_step(self, uint32_t most, str doing=*, np_view *view=*)
    cdef bytes read_now(self, uint32_t size)
    cdef object read_into_now(self, buffer, bint stream)
    cdef object read_into_step(self, buffer, bint stream)
    cdef object parts_now(self, Parts parts, bint exact)
    cdef object parts_step(self, Parts parts, bint exact)
    cdef int64_t read_some_step(self, bytes data) except -2
    cdef bint drop_step(self) except -1
    cdef int64_t read_to_step(self, char *buffer, uint32_t size) except -2
    cdef bint does_not_wait(self) noexcept
    cdef uint32_t write_without_wait(self, data) except? 0xFFFFFFFF
    cdef int64_t write_now(self, data) except -2
    cdef bytes view_step(self, Received place)
    cdef int64_t write_parts_now(self, Parts parts) except -2
    cdef PendingFlush begin_flush(self)
    cdef int check_transaction(self) except -1


cdef class PendingWrite:
    cdef np_poll_write write
    cdef PolledHandle owner
    cdef bytes data

    cpdef bint step(self) except -1


cdef class PendingFlush:
    cdef np_poll_write flush
    cdef PolledHandle owner

    cdef bint step(self) except -1
    cdef void leave(self) noexcept
