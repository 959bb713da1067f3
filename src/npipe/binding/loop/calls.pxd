# The calls of event loops' pipes, and what wakes them.

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from npipe.binding.buffers cimport Buffer
from npipe.binding.loop.polled cimport PendingFlush, PendingWrite, PolledHandle
from npipe.binding.views cimport Received, Reserved

cdef enum Stage:
    FRESH     # nobody has awaited it
    ENTERING
    BEGINNING
    LOOKING
    OVER

cdef enum:
    NO_DEADLINE = -1


cdef class LateTurn:
    cdef bint taken
    cdef uint64_t begun  # turns, of all pipes


cdef class LoopWaker:
    cdef object loop, create_future
    cdef bint tells_thread
    cdef unsigned long thread  # in which it was made
    cdef LateTurn turn
    cdef PolledHandle handle
    cdef int fd
    cdef bint watched, closed, pausing
    cdef uint64_t begun  # the turns of all pipes when this one's last began
    cdef int turns_alone  # in a row, as far as that matters
    cdef uint64_t rest  # the last one that a pause has waited for
    cdef bint late   # the byte that made the socket readable has not been taken yet
    cdef bint taken  # it has been, by a call, and not since the loop called
    cdef set futures  # of the calls that wait: through them the loop keeps their tasks alive
    # These calls, in a list that does not keep them alive: one that is dropped leaves it.
    cdef PyObject *first
    cdef PyObject *last

    cdef int take_byte(self) except -1
    cdef void begin_turn(self) noexcept
    cdef void be_late_no_more(self) noexcept
    cdef int wake(self, bint only_ready) except -1
    cdef int plan_pause(self) except -1
    cdef int wake_others(self, bint only_ready) except -1
    cdef int unwatch(self) except -1
    cdef object wait(self, Call call)
    cdef bint runs_here(self) except -1
    cdef bint is_elsewhere(self) except -1
    cdef int forget(self, Call call) except -1


cdef class PipeState:
    cdef readonly PolledHandle _handle
    cdef readonly object _loop, _waker
    cdef LoopWaker native  # the same waker, or None: another kind of loop, whose calls are coroutines
    cdef list writers  # the tasks that have a reservation out, or None
    cdef Call spare_receive, spare_write  # calls that are over, to be used again
    cdef public double busy_wait
    cdef bint ended  # a stream: an empty message has been read, so the peer has closed for writing alone
    cdef public bytearray _kept  # what a read of all had read when it failed, to be read again; None: nothing

    cdef int check_writer(self, str doing) except -1
    cdef int begin_reserving(self, Reserved place) except -1
    cdef int end_reserving(self, Reserved place) except -1


cdef class Call:
    cdef PipeState pipe
    cdef PolledHandle handle
    cdef LoopWaker waker  # in whose list it is while it waits; not through `pipe`, which the collector may have cleared
    cdef object timeout, result
    cdef object future  # one of the two while it waits
    cdef object inner
    cdef object timer
    cdef PyObject *next_waiting   # of the waker's list
    cdef PyObject *previous_waiting
    cdef const char *label
    cdef double deadline  # of time.monotonic
    cdef Stage stage
    cdef bint resting, expired
    cdef uint64_t ticket  # of a write that rests: its place in the handle's line, or 0
    # Of some kinds only, but here: most have one size and share the list of free ones, and a kind's own objects would
    # be gone when __dealloc__ ends what is under way.
    cdef object data      # to write, or the buffer to read into
    cdef PendingWrite pending
    cdef PendingFlush flush
    cdef Py_ssize_t size  # of a read
    cdef bint counts      # the result is the number of bytes
    cdef bint asked       # the request of a transaction is sent
    cdef bint several     # `data` is a tuple of buffers

    cdef bint at_once(self) except -1
    cdef int enter(self) except -1
    cdef bint begin(self) except -1
    cdef bint look(self) except -1
    cdef bint may_go_on(self) noexcept
    cdef void heed(self) noexcept
    cdef bint reads(self) noexcept
    cdef bint writes(self) noexcept
    cdef bint spin(self) except -1
    cdef int leave(self) except -1
    cdef bint give_up(self) except -1
    cdef str doing(self)
    cdef object out_of_time(self)
    cdef void spare(self) noexcept
    cdef int wake(self) except -1
    cdef bint take_late_byte(self) except -1
    cdef int wake_writers(self, bint over) except -1
    cdef int wait_no_longer(self) except -1
    cdef object wait(self)
    cdef bint is_next(self) noexcept
    cdef int leave_the_line(self) except -1
    cdef bint has_its_turn(self) except -1
    cdef int abandon(self) except -1
    cdef object step(self, object value)
    cdef object advance(self, object value)
    cdef object go_on(self, object value)


cdef class Pause(Call):
    cdef bint looked


cdef class Reading(Call):
    cdef bint has_read(self) except -1


cdef class Receive(Reading):
    pass


cdef class Transact(Reading):
    pass


cdef class ReadInto(Reading):
    cdef bint have_counted(self) except -1


cdef class ReceiveInto(Reading):
    cdef bint deliver(self, Buffer target, bytes message) except -1


cdef class ReceiveParts(Reading):
    pass


cdef class ReceiveView(Reading):
    cdef bint claims  # the place is its own

    cdef void unclaim(self) noexcept
    cdef bint found_in_place(self, Received place) except -1


cdef class Reserve(Call):
    cdef bint claims  # the place is its own

    cdef bint found(self, Reserved place, uint32_t code) except -1


cdef class ReadSome(Reading):
    pass


cdef class Discard(Reading):
    pass


cdef class Write(Call):
    # Of a write that was withdrawn. No objects: the base's __dealloc__ sets them when this class's are cleared already.
    cdef bint goes_on, torn

    cdef bint parts_at_once(self) except -1
    cdef bint is_short(self, int64_t count, Py_ssize_t size) except -1
    cdef bint is_pending(self) noexcept


cdef class Flush(Call):
    pass


cdef inline void prepare(Call call, PipeState pipe, object timeout, const char *label):
    """A call that nobody has awaited yet."""
    call.pipe = pipe
    call.handle = pipe._handle
    call.timeout = timeout
    call.label = label
    call.deadline = NO_DEADLINE
    call.stage = FRESH
    call.resting = call.expired = False
    call.ticket = 0
