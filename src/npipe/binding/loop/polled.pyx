# cython: language_level=3, binding=True
"""Handles whose calls never wait, for event loops."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uintptr_t
from libc.string cimport memcpy

from npipe.binding.buffers cimport (
    LARGEST, TRUSTED_SIZE, Buffer, Parts, copy_of, count_or_put_back, shortened, size_of,
)
from npipe.binding.engine cimport *
from npipe.binding.failures cimport failure_to_accept
from npipe.binding.handle cimport NOTHING, THE_NEXT, THE_REST, Handle
from npipe.binding.waits cimport only_try

from npipe.errors import does_not_fit, reply_owed
from npipe.reasons import being_read, too_large

cdef enum:
    PIECE = 65536  # bytes of an answer that are dropped at a time
    STEP = 4194304  # and in one step, before the event loop has its turn


@cython.no_gc_clear
cdef class PolledHandle(Handle):
    """A pipe's handle for an event loop: nothing here waits, and one thread at a time uses it.

    A method that has nothing to return yet returns None, and the link's socket is readable when there is a reason to
    call `wake` and then the method again.
    """

    def __cinit__(self, *args, **kwargs):
        self.is_reading = False
        self.reading.link = NULL
        self.begin_turn(False)
        self.resting = []
        self.last_ticket = self.last_rest = 0
        self.yields = False

    cdef void begin_turn(self, bint crowded) noexcept:
        """The event loop has had its turn. In a crowd a pipe has few calls before the next one, and reads no further
        than what has come by now: another process that answers at once would have this one for itself.
        """
        self.turns = FEW if crowded else AT_ONCE
        self.reads = FEW // 2 if crowded else AT_ONCE
        self.crowded = crowded
        if crowded:
            self.announced = np_poll_announced(self.handle) if self.handle != NULL else 0

    cdef bint may_read(self) noexcept:
        """Whether a read may be answered before the event loop has a turn."""
        return self.turns > 0 and self.reads > 0

    cdef void has_read(self, uint32_t size, uint32_t ahead=0) noexcept:
        """A read has given so many bytes, of which `ahead` are consumed later."""
        cdef int weight = 1 + <int>(size >> WEIGHT_SHIFT)
        self.turns -= weight
        self.reads -= weight
        if self.crowded and self.reads > 0 and np_poll_is_read(self.handle, self.announced, ahead):
            self.reads = 0

    cdef uint64_t line_up(self) except 0:
        """A ticket for a write that rests; the next write does not overtake it."""
        self.last_ticket += 1
        self.resting.append(self.last_ticket)
        return self.last_ticket

    def __dealloc__(self):
        if self.handle != NULL and self.reading.link != NULL:
            self.reading.op.count = 0
            np_poll_read_leave(self.handle, &self.reading, NULL)

    cdef void *copied(self) noexcept:
        if self.target is not None:
            return self.target.view.buf
        return <void *>PyBytes_AS_STRING(self.message) if self.message is not None else NULL

    def connect_now(self):
        """ConnectNamedPipe without waiting: 0, 535, or None while no client has come."""
        cdef np_wait wait = only_try()
        cdef uint32_t code = np_connect(self.valid(), &wait)
        if code == NP_WOULD_WAIT:
            return None
        if code != NP_OK and code != NP_PIPE_CONNECTED:
            raise failure_to_accept(self.handle, code, self.name)
        return code

    def replace_polled(self, bint discard=False):
        """`replace`, for a handle of this kind."""
        cdef PolledHandle fresh = PolledHandle.__new__(PolledHandle)
        fresh.adopt(self.replace(discard))
        return fresh

    def another_polled(self, timeout=None):
        """`another`, for a handle of this kind."""
        cdef PolledHandle fresh = PolledHandle.__new__(PolledHandle)
        fresh.adopt(self.another(timeout))
        return fresh

    def wake(self):
        """What the socket's being readable asks for. Whether the connection has ended, so that nothing more will come.
        """
        self.begin_turn(False)
        return self.handle == NULL or np_poll_wake(self.handle)

    cdef bint has_come(self) noexcept:
        """Whether there is something to read, or the end."""
        return self.handle == NULL or np_poll_has_come(self.handle)

    cdef bint has_ended(self) noexcept:
        """Whether it is closed, or the connection has ended."""
        return self.handle == NULL or np_poll_has_ended(self.handle)

    @property
    def turns_left(self):
        """How many reads are answered at once before the event loop has a turn."""
        return min(self.turns, self.reads)

    cdef bint spin(self, double seconds) except -1:
        """Waits busily for something to read. Whether there is something."""
        cdef np_handle *handle = self.valid()
        cdef int64_t longest = <int64_t>(seconds * 1e9)
        cdef bint ready
        with nogil:
            ready = np_poll_spin(handle, longest)
        return ready

    # ---- Reading

    cdef int check_turn(self) except -1:
        if self.is_reading:
            raise being_read(self.name)
        return 0

    cdef bytes recv_now(self, uint32_t most):
        """The next message if it is there in full, and has at most `most` bytes."""
        cdef uint32_t size = 0, code
        cdef bytes data
        self.check_turn()
        if not self.may_read() or self.handle == NULL or self.dropping != NOTHING:
            return None
        code = np_recv_try(self.handle, most, &size)
        if code != NP_OK:
            return None  # the long way finds out why
        try:
            data = PyBytes_FromStringAndSize(NULL, size)
        except MemoryError:
            np_recv_leave(self.handle)
            raise
        self.owes = np_poll_recv_take(self.handle, PyBytes_AS_STRING(data), size)
        if self.owed:
            self.has_delivered()
        self.has_read(size)
        return data

    cdef int begin_reading(self) except -1:
        """Takes the turn to read, until `end_reading`."""
        self.check_turn()
        self.is_reading = True
        self.rests = not self.may_read()
        self.last_rest += self.rests

    cdef int end_reading(self) except -1:
        """Gives the turn back; what was copied and not delivered is as if it had not been read."""
        self.is_reading = self.rests = False
        if self.handle != NULL and self.reading.link != NULL:
            np_poll_read_leave(self.handle, &self.reading, self.copied())
        self.message = None
        self.target = None
        self.parts = None
        if self.dropping == THE_NEXT:  # nothing of it has come
            self.dropping = NOTHING

    cdef bint is_to_come(self, uint32_t code) noexcept:
        """Whether a step of a read has no result yet."""
        self.yields = code == NP_YIELD
        return code == NP_WOULD_WAIT or code == NP_YIELD

    cdef bytes recv_step(self, uint32_t most, str doing="receiving a message", np_view *view=NULL):
        """The next whole message, of at most `most` bytes, or None: see `yields` then.

        `view` gets to know whether it is the rest of one.
        """
        cdef np_handle *handle = self.valid()
        cdef uint32_t code, size = 0
        cdef bytes larger
        cdef bytes data
        if self.dropping != NOTHING and not self.drop_step():
            return None
        if self.reading.link == NULL:
            code = np_poll_read_begin(handle, &self.reading, NULL, 0)
            if code != NP_OK:
                raise self.explain(code, doing)
        while True:
            if self.message is None:
                code = np_poll_message(handle, &self.reading, &size)
                if self.is_to_come(code):
                    return None
                if code == NP_OK and size > most:
                    raise too_large(self.name, most, size)
                if code != NP_OK:
                    raise self.explain(code, doing)
                if view != NULL:
                    view.rest = np_is_at_rest_of_message(handle)
                self.total = size
                self.upto = size if size < TRUSTED_SIZE else TRUSTED_SIZE
                self.message = PyBytes_FromStringAndSize(NULL, self.upto)
            code = np_poll_message_more(handle, &self.reading, PyBytes_AS_STRING(self.message), self.upto)
            if self.is_to_come(code):
                return None
            if code == NP_OK and self.upto < self.total:
                size = self.total if self.total - self.upto <= self.upto else 2 * self.upto
                larger = PyBytes_FromStringAndSize(NULL, size)
                memcpy(PyBytes_AS_STRING(larger), PyBytes_AS_STRING(self.message), self.upto)
                self.message = larger
                self.upto = size
                continue
            if code == NP_OK:
                code = np_poll_message_take(handle, &self.reading)
            data, self.message = self.message, None
            if code == NP_OK:
                self.has_read(self.total)
                if self.owed:
                    self.has_delivered()
                return data
            if code != NP_RETRY:
                raise self.explain(code, doing)

    cdef bytes read_now(self, uint32_t size):
        """Bytes that are there, at most `size`, or the next message's as far as they go; None if there are none."""
        cdef np_wait wait = only_try()
        cdef uint32_t count = 0, code
        cdef bytes data
        self.check_turn()
        if not self.may_read() or self.handle == NULL:
            return None
        data = PyBytes_FromStringAndSize(NULL, size)
        code = np_read(self.handle, PyBytes_AS_STRING(data), size, &count, &wait)
        if code != NP_OK and code != NP_MORE_DATA:
            return None
        self.owes = np_poll_wake_deferred(self.handle)
        self.has_read(count)
        return shortened(data, count)

    cdef object read_into_now(self, buffer, bint stream):
        """The same into a buffer: the number of bytes."""
        cdef np_wait wait = only_try()
        cdef uint32_t count = 0, code
        self.check_turn()
        cdef Buffer target = Buffer(buffer, True)
        cdef uint32_t size = size_of(target.view.len, self.name)
        if not self.may_read() or self.handle == NULL or self.dropping != NOTHING:
            return None
        code = np_read(self.handle, target.view.buf, size, &count, &wait)
        if code != NP_OK and code != NP_MORE_DATA:
            return None
        if self.owed and code == NP_OK:  # that was all of it
            self.has_delivered()
        self.owes = np_poll_wake_deferred(self.handle)
        self.has_read(count)
        return count_or_put_back(self.handle, target.view.buf, count) if stream else count

    cdef object read_into_step(self, buffer, bint stream):
        """The number of bytes read into `buffer`, which is the same until `end_reading`; or None."""
        cdef int64_t count
        if self.dropping != NOTHING and not self.drop_step():
            return None
        if self.reading.link == NULL:
            self.target = Buffer(buffer, True)
        count = self.read_to_step(<char *>self.target.view.buf, size_of(self.target.view.len, self.name))
        if count < 0:
            return None
        return count_or_put_back(self.handle, self.target.view.buf, <uint32_t>count) if stream else count

    cdef bytes view_step(self, Received place):
        """Find the next message in place, which then is `place`'s, or return a copy of it, which is consumed. None, and
        nothing in place: see `yields`.
        """
        cdef np_handle *handle = self.valid()
        cdef uint32_t code, size = 0
        cdef unsigned char owed
        cdef bytes message
        if self.dropping != NOTHING and not self.drop_step():
            return None
        if self.message is None and not place.copied:
            if self.reading.link == NULL:
                code = np_poll_read_begin(handle, &self.reading, NULL, 0)
                if code != NP_OK:
                    raise self.explain(code, "receiving a message")
            code = np_poll_message(handle, &self.reading, &size)
            if self.is_to_come(code):
                return None
            if code == NP_OK and size <= self.max_message_size and \
                    np_poll_view(handle, &self.reading, &place.place, size):
                self.has_read(size, size)
                return None
        owed = self.owed
        message = self.recv_step(self.max_message_size, "receiving a message", &place.place)
        place.answers = owed != self.owed
        return message

    cdef object parts_now(self, Parts parts, bint exact):
        """Read the next message into several buffers if it is there in full, and with `exact` only if it fits: the
        number of bytes, or None.
        """
        cdef uint32_t count = 0
        self.check_turn()
        if not self.may_read() or self.handle == NULL or \
                not self.read_parts_now(parts, parts.size if exact else LARGEST, &count):
            return None
        self.owes = np_poll_wake_deferred(self.handle)
        self.has_read(count)
        return count

    cdef object parts_step(self, Parts parts, bint exact):
        """The number of bytes read into several buffers, which are the same until `end_reading`; or None."""
        cdef np_handle *handle = self.valid()
        cdef uint32_t code = NP_OK, size = 0, part, end
        cdef Py_ssize_t i
        if self.dropping != NOTHING and not self.drop_step():
            return None
        if self.reading.link == NULL:
            code = np_poll_read_begin(handle, &self.reading, NULL, 0)
            if code != NP_OK:
                raise self.explain(code, "reading")
            self.parts = parts
            self.found = False
        while True:
            if not self.found:
                code = np_poll_message(handle, &self.reading, &size)
                if self.is_to_come(code):
                    return None
                if code == NP_OK and exact and size > parts.size:
                    raise does_not_fit(self.name, parts.size)
                if code != NP_OK:
                    raise self.explain(code, "reading")
                np_poll_read_into_parts(&self.reading, parts.list)
                self.found = True
                self.total = size
                self.upto = size if size < parts.size else parts.size
                if size and not self.upto:
                    return 0  # consumes nothing (SEMANTICS §5.2)
            end = 0
            for i in range(parts.count):
                if end >= self.upto or code != NP_OK:
                    break
                part = self.upto - end if parts.list[i].iov_len > self.upto - end else <uint32_t>parts.list[i].iov_len
                if part and end + part > self.reading.op.count:  # it copies to where all of it would have its place
                    code = np_poll_message_more(handle, &self.reading,
                                                <void *>(<uintptr_t>parts.list[i].iov_base - end), end + part)
                end += part
            if self.is_to_come(code):
                return None
            if code == NP_OK:
                code = np_poll_message_take(handle, &self.reading)
            self.found = False
            if code == NP_OK:
                self.has_read(self.upto)
                if self.owed and self.upto == self.total:
                    self.has_delivered()
                return self.upto
            if code != NP_RETRY:
                raise self.explain(code, "reading")

    cdef int64_t read_some_step(self, bytes data) except -2:
        """The same into `data`, which nobody else has: the number, or -1."""
        self.message = data
        return self.read_to_step(PyBytes_AS_STRING(data), size_of(PyBytes_GET_SIZE(data), self.name))

    cdef int64_t read_to_step(self, char *buffer, uint32_t size) except -2:
        cdef np_handle *handle = self.valid()
        cdef uint32_t code = NP_OK
        if self.reading.link == NULL:
            code = np_poll_read_begin(handle, &self.reading, buffer, size)
        if code == NP_OK:
            code = np_poll_read_step(handle, &self.reading)
        if self.is_to_come(code):
            return -1
        if code != NP_OK and code != NP_MORE_DATA:
            raise self.explain(code, "reading")
        if self.owed and code == NP_OK:
            self.has_delivered()
        self.has_read(self.reading.op.count)
        return self.reading.op.count

    cdef bint drop_step(self) except -1:
        """Drop, by whoever has the turn to read, the message that is to be dropped. Whether nothing is, any more."""
        cdef np_handle *handle = self.valid()
        cdef uint32_t code = NP_OK, size = 0, upto, count, dropped = 0
        while self.dropping != NOTHING:
            if self.message is None:
                self.message = PyBytes_FromStringAndSize(NULL, PIECE)
            if self.reading.link == NULL:
                code = np_poll_read_begin(handle, &self.reading, NULL, 0)
            if code == NP_OK:
                code = np_poll_message(handle, &self.reading, &size)
            if self.is_to_come(code):
                return False
            if code == NP_OK and not self.drops_this():
                break
            upto = size if size < PIECE else PIECE
            if code == NP_OK:
                code = np_poll_message_more(handle, &self.reading, PyBytes_AS_STRING(self.message), upto)
            count = self.reading.op.count
            if code == NP_OK or count and (code == NP_WOULD_WAIT or code == NP_YIELD):
                upto = np_poll_message_take(handle, &self.reading)
                if upto != NP_OK:
                    code = upto
                elif code == NP_OK and count == size:
                    self.dropping = NOTHING
                    self.has_delivered()
                else:
                    self.dropping = THE_REST
                self.has_read(count)
                dropped += count
                if code == NP_OK and self.dropping != NOTHING and dropped >= STEP:
                    code = NP_YIELD
            if self.is_to_come(code):
                return False
            if code != NP_OK and code != NP_RETRY:
                raise self.explain(code, "discarding the answer")
            code = NP_OK
        if self.reading.link != NULL:
            np_poll_read_leave(handle, &self.reading, self.copied())
        self.message = None
        return True

    @cython.critical_section
    def drop_now(self):
        """The same by nobody who reads, as far as it is there."""
        cdef bint over
        if self.is_reading:
            return False
        over = self.drop_step()
        self.yields = False  # whoever looks again does it by itself
        self.end_reading()
        return over

    def put_back(self, bytes data not None):
        """What a read has returned and could not be delivered: the next reads return it again."""
        cdef uint32_t size = size_of(PyBytes_GET_SIZE(data), self.name)
        cdef uint32_t code = np_put_back(self.valid(), PyBytes_AS_STRING(data), size)
        if code != NP_OK:
            raise self.explain(code, "putting back what was read")

    # ---- Writing

    cdef bint does_not_wait(self) noexcept:
        """Whether PIPE_NOWAIT is set."""
        cdef np_description about
        np_describe(self.handle, &about)
        return (about.mode & 1) != 0

    cdef uint32_t write_without_wait(self, data) except? 0xFFFFFFFF:
        """WriteFile of a handle that does not wait: the number of bytes, perhaps fewer than there are (SEMANTICS §6.2).
        """
        cdef np_wait wait = only_try()
        cdef Buffer buffer = Buffer(data, False)
        cdef uint32_t size = size_of(buffer.view.len, self.name), count = 0
        cdef uint32_t code = np_write(self.valid(), buffer.view.buf, size, &count, &wait)
        if code != NP_OK:
            raise self.explain(code, "writing")
        self.turns -= 1 + <int>(size >> WEIGHT_SHIFT)
        return count

    cdef int64_t write_now(self, data) except -2:
        """How many bytes were written at once: -1 when it has to wait, as it has behind what is pending; fewer than
        there are when PIPE_NOWAIT is set (SEMANTICS §6.2).
        """
        cdef uint32_t count, code
        if self.turns <= 0 or self.resting or self.handle == NULL or not PyBytes_CheckExact(data):
            return -1
        if PyBytes_GET_SIZE(data) > <Py_ssize_t>LARGEST:
            return -1
        code = np_poll_write_now(self.handle, PyBytes_AS_STRING(data), <uint32_t>PyBytes_GET_SIZE(data), &count)
        if code != NP_OK:
            return -1
        self.turns -= 1 + <int>(PyBytes_GET_SIZE(data) >> WEIGHT_SHIFT)
        return count

    cdef int64_t write_parts_now(self, Parts parts) except -2:
        """The same of several buffers."""
        cdef uint32_t count
        if self.turns <= 0 or self.resting or self.handle == NULL or \
                np_poll_write_parts_now(self.handle, parts.list, parts.size, &count) != NP_OK:
            return -1
        self.turns -= 1 + <int>(parts.size >> WEIGHT_SHIFT)
        return count

    def begin_write(self, data):
        """A PendingWrite of a copy of `data` (of itself if it is bytes), or None if it is complete already."""
        cdef np_handle *handle = self.valid()
        cdef PendingWrite pending = PendingWrite.__new__(PendingWrite)
        cdef uint32_t size, code
        if PyBytes_CheckExact(data):
            pending.data = data
        else:
            pending.data = copy_of(Buffer(data, False))
        size = size_of(PyBytes_GET_SIZE(pending.data), self.name)
        code = np_poll_write_begin(handle, &pending.write, PyBytes_AS_STRING(pending.data), size)
        if code == NP_OK:
            self.turns -= 1 + <int>(size >> WEIGHT_SHIFT)
            return None
        if code != NP_WOULD_WAIT:
            raise self.explain(code, "writing")
        pending.owner = self
        return pending

    cdef PendingFlush begin_flush(self):
        """A PendingFlush, or None if nothing is unread."""
        cdef np_handle *handle = self.valid()
        cdef PendingFlush pending = PendingFlush.__new__(PendingFlush)
        cdef uint32_t code = np_poll_flush_begin(handle, &pending.flush)
        if code == NP_OK:
            return None
        if code != NP_WOULD_WAIT:
            raise self.explain(code, "flushing")
        pending.owner = self
        return pending

    def all_written(self):
        """Whether all writes stand in the ring, where a close leaves them."""
        return self.handle == NULL or np_poll_all_put(self.handle)

    cdef int check_transaction(self) except -1:
        """Raises why a transaction may not begin (SEMANTICS §8.1), or that the answer of an earlier one is owed."""
        cdef np_handle *handle = self.valid()
        cdef uint32_t code
        if self.owed and not np_is_closed(handle):
            raise reply_owed(self.name, too_long=self.answer_too_long != 0)
        code = np_poll_transact_check(handle)
        if code != NP_OK:
            raise self.explain(code, "transacting")


@cython.no_gc_clear  # the queue of the link refers to it
cdef class PendingWrite:
    """A write that waits for room."""

    def __cinit__(self):
        self.write.link = NULL

    def __dealloc__(self):
        if self.write.link != NULL and self.owner is not None and self.owner.handle != NULL:
            np_poll_write_leave(self.owner.handle, &self.write, False)

    cpdef bint step(self) except -1:
        """Whether it is complete. Raises PipeClosedError (109, 233)."""
        cdef uint32_t code = np_poll_write_step(self.owner.valid(), &self.write)
        if code == NP_WOULD_WAIT:
            return False
        if code != NP_OK:
            raise self.owner.explain(code, "writing")
        return True

    def withdraw(self):
        """Takes it back: "nothing" of it is sent, "all" is, it "goes on" because the peer has read a part, or is
        "torn".
        """
        cdef uint32_t code = np_poll_write_withdraw(self.owner.valid(), &self.write)
        if code == NP_WOULD_WAIT:
            return "goes on"
        if code == NP_MORE_DATA:
            return "torn"
        return "all" if code == NP_NO_DATA else "nothing"

    def leave(self, bint discard=False):
        """The pipe is about to be closed, with `discard` aborted. Whether all of it stays readable."""
        if self.owner.handle == NULL:
            return False
        return np_poll_write_leave(self.owner.handle, &self.write, discard) == NP_OK


@cython.no_gc_clear
cdef class PendingFlush:
    """A flush that waits for the reader."""

    def __cinit__(self):
        self.flush.link = NULL

    def __dealloc__(self):
        self.leave()

    cdef bint step(self) except -1:
        """Whether everything is read. Raises PipeClosedError (109, 233)."""
        cdef uint32_t code = np_poll_flush_step(self.owner.valid(), &self.flush)
        if code == NP_WOULD_WAIT:
            return False
        if code != NP_OK:
            raise self.owner.explain(code, "flushing")
        return True

    cdef void leave(self) noexcept:
        """Nobody waits any longer."""
        if self.flush.link != NULL and self.owner is not None and self.owner.handle != NULL:
            np_poll_flush_leave(self.owner.handle, &self.flush)
