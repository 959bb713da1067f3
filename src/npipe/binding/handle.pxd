# A handle of a local pipe, in Win32's own verbs.

from libc.stdint cimport uint32_t

from npipe.binding.buffers cimport Parts
from npipe.binding.engine cimport np_counts, np_handle, np_recv, np_run, np_wait


cdef enum:
    NOTHING
    THE_NEXT  # of an event loop's pipe: the next message, of which nothing has been dropped yet
    THE_REST  # what is left of the message that is read next


cdef class Handle:
    cdef np_handle *handle
    cdef readonly str name
    cdef uint32_t forks  # np_forks when it was made: in a child of this process it is good for nothing
    cdef public uint32_t max_message_size
    # In one word with the one before: what a receive looks at.
    cdef readonly unsigned char owed  # answers of transactions that ended before them, and that no read has taken since
    cdef unsigned char answer_too_long  # that answer is longer than max_message_size
    cdef unsigned char transacting  # a transaction is in progress, whose answer is counted in `owed`
    cdef unsigned char dropping     # one of the above
    # The threads that have a reservation and a view out, or 0; OF_COPIES: only `copying` knows.
    cdef unsigned long writer, reader
    cdef list copying  # threads that have a reservation out which does not stand in the ring, or None
    cdef object rearm  # after fileno(): called when a read has changed what there is to read
    cdef np_run run  # reads since the last one that has waited, or let others go first
    cdef object __weakref__

    cdef np_handle *valid(self) except NULL
    cdef int tell_poller(self) except -1
    cdef object explain(self, uint32_t code, str doing)
    cdef object too_long(self, uint32_t size, uint32_t most)
    cdef object read_ended_by(self, uint32_t code, str doing)
    cdef uint32_t write_from(self, data, timeout, bint may_be_left, uint32_t *length_of_it) except? 0xFFFFFFFF
    cdef int check_writer(self, str doing) except -1
    cdef int begin_reserving(self, unsigned long thread, object copier) except -1
    cdef void end_reserving(self, object copier) noexcept
    cdef int check_reader(self, str doing) except -1
    cdef uint32_t write_bytes(self, const char *bytes, uint32_t size, timeout,
                              bint may_be_left) except? 0xFFFFFFFF
    cdef int write_all(self, const char *bytes, uint32_t size, timeout) except -1
    cdef uint32_t write_parts(self, Parts parts, timeout) except? 0xFFFFFFFF
    cdef uint32_t after_write(self, uint32_t code, uint32_t count, uint32_t size, bint may_be_left) except? 0xFFFFFFFF
    cdef uint32_t read_parts(self, Parts parts, timeout) except? 0xFFFFFFFF
    cdef bint read_parts_now(self, Parts parts, uint32_t most, uint32_t *count) except -1
    cdef uint32_t read_to(self, char *buffer, uint32_t size, uint32_t *count, timeout) except? 0xFFFFFFFF
    cdef bytes receive(self, timeout, uint32_t most)
    cdef int has_delivered(self) except -1
    cdef bint is_owed(self) noexcept
    cdef bint drops_this(self) except -1
    cdef int drop(self, np_recv *recv, uint32_t size, const np_wait *wait) except -1
    cdef uint32_t read_in_turn(self, np_recv *recv, char *buffer, uint32_t size, uint32_t *count,
                               const np_wait *wait) except 0xFFFFFFFF
    cdef bytes collect(self, np_recv *recv, uint32_t size, uint32_t most, const np_wait *wait)


cdef inline tuple counted(const np_counts *about):
    """What a connection has moved, in the order of Handle.counts."""
    return (about.since, about.in_bytes, about.in_messages, about.in_unread, about.out_bytes, about.out_messages,
            about.out_unread, about.out_unread_messages, about.pending_reads, about.pending_writes,
            about.read_slept, about.write_slept, about.sleeping, about.sleeps)
