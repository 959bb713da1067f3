# cython: language_level=3, binding=True
"""The calls of event loops' pipes: awaitables that try first, and go through the loop only if that is not enough.

The kinds of calls stand beside what they have in common, and beside their waker: a call whose base is another part's
takes longer to make and to drop (docs/performance.md).
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport int64_t, uint32_t, uintptr_t
from libc.string cimport memcpy

from npipe.binding.buffers cimport Buffer, Parts, copy_of, shortened, size_of
from npipe.binding.engine cimport (
    NP_OK, NP_WOULD_WAIT, np_is_closed, np_poll_flush_ready, np_poll_pause, np_poll_promise_pauses,
    np_poll_wake_deferred, np_poll_write_ready, np_reserve_begin, np_reserve_end, np_reserve_ready, np_reserve_step,
    np_view_now,
)
from npipe.binding.handle cimport NOTHING, THE_NEXT
from npipe.binding.loop.polled cimport ALONE, WEIGHT_SHIFT, PendingWrite, PolledHandle
from npipe.binding.system cimport (
    PYGEN_ERROR, PYGEN_NEXT, PYGEN_RETURN, Py_DECREF, Py_INCREF, PyErr_SetObject, PyErr_WarnFormat, PyIter_Send,
    PySendResult, PyTypeObject, npipe_reraise,
)
from npipe.binding.views cimport CLAIMED
from npipe.binding.waits cimport check_time

from time import monotonic

from npipe.errors import (
    PipeClosedError, PipeMessageTooLargeError, PipeTimeoutError, does_not_fit, short_write, unanswered,
)
from npipe.options import check_timeout
from npipe.reasons import goes_on, other_loop, still_reserved
from npipe.views import this_task


# ---- Waking

cdef object _get_running_loop = None


cdef object running_loop():
    """The event loop that runs in this thread, or None. Who has no loop is not to import asyncio."""
    global _get_running_loop
    if _get_running_loop is None:
        from asyncio import _get_running_loop as found
        _get_running_loop = found
    return _get_running_loop()


@cython.final
cdef class LateTurn:
    """What the pipes of a loop share: whether one of them has left the byte that told of a message for later; and how
    many turns they have had.
    """

    def __cinit__(self):
        self.taken = False
        self.begun = 0


@cython.no_gc_clear  # __dealloc__ uses `turn`
cdef class LoopWaker:
    """Wakes a pipe's calls on asyncio's selector loop, uvloop, or any other with add_reader.

    The descriptor stays registered from the first wait to the end of the connection.
    """

    def __cinit__(self, loop, PolledHandle handle not None, LateTurn turn not None):
        self.loop = loop
        self.turn = turn
        self.create_future = loop.create_future
        self.tells_thread = hasattr(loop, "_thread_id")  # asyncio's own loops
        self.thread = PyThread_get_thread_ident()
        self.handle = handle
        self.fd = handle.poll_socket()
        self.watched = self.closed = self.pausing = self.late = self.taken = False
        self.rest = self.begun = 0
        self.turns_alone = ALONE
        self.futures = set()
        self.first = self.last = NULL
        np_poll_promise_pauses(handle.valid())

    def on_readable(self):
        """The link's socket has something to say."""
        if self.taken:
            # A call has taken the byte when the loop had seen it already, as asyncio's does. Should there be another
            # one, the loop says so again.
            self.taken = False
            if not self.handle.has_come():
                return
        # One that reads finds its message, and answers it, before the byte that told of it is taken: the peer can begin
        # with the answer meanwhile. If nobody takes it, the loop says so again, so this is for one pipe at a time:
        # where many are readable, the loop has enough to do.
        if not self.turn.taken and self.first != NULL and self.first == self.last and (<Call>self.first).reads() and \
                self.handle.has_come():
            self.late = self.turn.taken = True
            self.begin_turn()
            (<Call>self.first).wake()
        else:
            self.take_byte()
            self.begin_turn()

    cdef int take_byte(self) except -1:
        cdef bint gone = self.handle.wake()
        self.be_late_no_more()
        if gone:
            self.unwatch()
        self.wake(not gone)

    cdef void begin_turn(self) noexcept:
        """Begin a turn: one in a crowd, if other pipes of the loop have had turns between this one's last ones."""
        if self.begun != self.turn.begun:
            self.turns_alone = 0
        elif self.turns_alone < ALONE:
            self.turns_alone += 1
        self.turn.begun += 1
        self.begun = self.turn.begun
        self.handle.begin_turn(self.turns_alone != ALONE)

    cdef void be_late_no_more(self) noexcept:
        if self.late:
            self.late = self.turn.taken = False

    def __dealloc__(self):
        if self.turn is not None:
            self.be_late_no_more()

    cdef int wake(self, bint only_ready) except -1:
        """Let those look again for whom there may be something to see."""
        cdef PyObject *following = self.first
        cdef Call call
        while following != NULL:
            call = <Call>following
            following = call.next_waiting
            if not only_ready or (call.is_next() if call.ticket else call.may_go_on()):
                call.wake()  # which runs nothing but schedules it
        return 0

    cdef int plan_pause(self) except -1:
        """The reader may go on at once; when the loop has its turn, it has paused."""
        if not self.pausing and not self.loop.is_closed():
            self.pausing = True
            self.loop.call_soon(self.pause)
        return 0

    def pause(self):
        """A writer that waits for room is told what there is; but not yet if the reader goes on after this turn, as one
        does that rests, unless nobody goes on with it.
        """
        if self.handle.rests and self.rest != self.handle.last_rest:
            self.rest = self.handle.last_rest
            self.loop.call_soon(self.pause)
            return
        self.pausing = False
        if self.handle.handle != NULL:
            np_poll_pause(self.handle.handle)

    cdef int wake_others(self, bint only_ready) except -1:
        """A call has moved more on than what it is about itself, and no byte will come for that."""
        if self.first != NULL and not self.loop.is_closed():
            self.wake(only_ready)
        return 0

    def wake_all(self):
        """Let all waiting tasks look again."""
        self.wake_others(False)

    cdef int unwatch(self) except -1:
        if self.watched:
            self.watched = False
            if not self.loop.is_closed():
                self.loop.remove_reader(self.fd)
        return 0

    cdef object wait(self, Call call):
        """A future that is done when `call` shall look again."""
        future = self.create_future()
        if self.closed:
            future.set_result(None)
        elif not self.watched:
            if self.loop.is_closed():
                raise other_loop(self.handle.name, call.doing())
            self.loop.add_reader(self.fd, self.on_readable)
            self.watched = True
        self.futures.add(future)
        call.next_waiting = NULL
        call.previous_waiting = self.last
        if self.last != NULL:
            (<Call>self.last).next_waiting = <PyObject *>call
        else:
            self.first = <PyObject *>call
        self.last = <PyObject *>call
        return future

    cdef bint runs_here(self) except -1:
        """Whether the loop is the one that runs in this thread."""
        return running_loop() is self.loop

    cdef bint is_elsewhere(self) except -1:
        """Whether another loop of asyncio's runs in this thread."""
        # Every call asks, so what is quick is asked first: one loop at a time runs in a thread. Before Python 3.12 it
        # takes a system call to ask asyncio which one.
        if self.tells_thread:
            found = self.loop._thread_id
            if found is not None and <unsigned long>found == PyThread_get_thread_ident():
                return False
        elif self.loop.is_running() and PyThread_get_thread_ident() == self.thread:
            return False
        running = running_loop()
        return running is not self.loop and running is not None

    cdef int forget(self, Call call) except -1:
        self.futures.discard(call.future)
        if call.next_waiting != NULL:
            (<Call>call.next_waiting).previous_waiting = call.previous_waiting
        else:
            self.last = call.previous_waiting
        if call.previous_waiting != NULL:
            (<Call>call.previous_waiting).next_waiting = call.next_waiting
        else:
            self.first = call.next_waiting
        return 0

    def close(self):
        """Let the descriptor go, before it is closed, and wake all who wait."""
        self.closed = True
        self.be_late_no_more()
        self.unwatch()
        if not self.loop.is_closed():
            self.wake(False)


cdef class PipeState:
    """What a call knows of its pipe."""

    def __cinit__(self, *args, **kwargs):
        self.busy_wait = 0.0

    cdef int check_writer(self, str doing) except -1:
        if self.writers is not None and this_task() in self.writers:
            raise still_reserved(self._handle.name, doing)
        return 0

    cdef int begin_reserving(self, Reserved place) except -1:
        """The task that runs has it out. In place there is one at a time."""
        task = this_task()
        if self.writers is None:
            self.writers = [task]
        else:
            self.writers.append(task)
        place.task = task  # when it stands there
        return 0

    cdef int end_reserving(self, Reserved place) except -1:
        """That is over, if it had begun."""
        task, place.task = place.task, None
        if task is not None and self.writers is not None:
            self.writers.remove(task)
            if not self.writers:
                self.writers = None
        return 0

    def _set_up(self, PolledHandle handle not None, loop, waker):
        self._handle = handle
        self._loop = loop
        self._waker = waker
        self.native = waker if type(waker) is LoopWaker else None


# ---- What the calls have in common


@cython.freelist(64)
@cython.no_gc_clear  # __dealloc__ ends what is under way
cdef class Call:
    """An awaitable with a coroutine's methods, for everything that takes coroutines (tasks, gather, start_soon).

    Its first step tries to do without the event loop. On asyncio's loops it then waits in a future, on others in a
    coroutine of theirs.
    """

    # ---- In these the kinds of call differ

    cdef bint at_once(self) except -1:
        """Whether it could be done without any waiting, with `result`."""
        return False

    cdef int enter(self) except -1:
        """Take a turn that cannot be had twice."""
        return 0

    cdef bint begin(self) except -1:
        """Begin what may have to wait. Whether it is complete at once."""
        return False

    cdef bint look(self) except -1:
        """Whether it is complete now."""
        return True

    cdef bint may_go_on(self) noexcept:
        """Whether there may be something new to see."""
        return True

    cdef void heed(self) noexcept:
        """A wake came before it began to wait."""

    cdef bint reads(self) noexcept:
        """Whether it waits for something to read."""
        return False

    cdef bint writes(self) noexcept:
        """Whether it writes: then it keeps its place among those that do."""
        return False

    cdef bint spin(self) except -1:
        """Wait busily, if that was asked for. Whether there is something new to see."""
        return False

    cdef int leave(self) except -1:
        """The end of it: it is complete, or has failed."""
        return 0

    cdef bint give_up(self) except -1:
        """The end of it: nobody waits any longer. Whether it is complete all the same."""
        self.leave()
        return False

    cdef str doing(self):
        return "waiting"

    cdef object out_of_time(self):
        """The exception that says so."""
        return PipeTimeoutError(121, self.handle.name, self.doing())

    cdef void spare(self) noexcept:
        """It was a success: be used again, if that pays."""

    # ---- Waiting

    cdef int wake(self) except -1:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)
        return 0

    def time_is_up(self):
        """The timer's callback."""
        self.expired = True
        self.wake()

    cdef bint take_late_byte(self) except -1:
        """Whether there was one: then look, and ask for another, before the next wait."""
        cdef LoopWaker waker = self.pipe.native
        cdef int turns = self.handle.turns, reads = self.handle.reads
        cdef bint crowded = self.handle.crowded
        if waker is None or not waker.late:
            return False
        waker.take_byte()
        waker.taken = True
        self.handle.turns = turns  # the loop has had none
        self.handle.reads = reads
        self.handle.crowded = crowded
        return True

    cdef int wake_writers(self, bint over) except -1:
        """Writes and flushes go on in order, so one that goes on may have ended others."""
        if self.pipe.native is not None:
            self.pipe.native.wake_others(True)  # only those that are over
        elif over:
            self.pipe._waker.wake_all()
        return 0

    cdef int wait_no_longer(self) except -1:
        if self.future is not None:
            self.waker.forget(self)
            self.future = self.waker = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        return 0

    cdef object wait(self):
        """Begin to wait: what to yield to asyncio's loop, or on another one None and `inner`."""
        cdef LoopWaker waker = self.pipe.native
        cdef double left
        if waker is None:
            self.inner = self.pipe._waker.wait(None if self.deadline < 0 else self.deadline)
            return None
        self.future = waker.wait(self)
        self.waker = waker
        if self.deadline >= 0:
            left = self.deadline - <double>monotonic()
            self.timer = waker.loop.call_later(left if left > 0 else 0, self.time_is_up)
        self.future._asyncio_future_blocking = True
        return self.future

    # ---- Going on

    cdef bint is_next(self) noexcept:
        """Of a write that rests: whether none does that began before it."""
        return self.handle.resting[0] == self.ticket

    cdef int leave_the_line(self) except -1:
        """The one behind it is the next."""
        cdef PipeState pipe = self.pipe
        if self.ticket:
            self.handle.resting.remove(self.ticket)
            self.ticket = 0
            if self.handle.resting and pipe is not None:  # of a pipe that the collector has cleared nobody waits
                if pipe.native is not None:
                    pipe.native.wake_others(True)
                elif pipe._waker is not None:
                    pipe._waker.wake_all()
        return 0

    cdef bint has_its_turn(self) except -1:
        """Whether a write that rests may begin: it is the next, or nothing is written any more."""
        return not self.ticket or self.is_next() or self.handle.has_ended()

    cdef int abandon(self) except -1:
        """Nobody waits any longer. The caller has the critical section, or is the last who knows of it."""
        cdef Stage before = self.stage
        self.stage = OVER
        self.wait_no_longer()
        self.leave_the_line()
        if before == BEGINNING or before == LOOKING:
            self.give_up()
        return 0

    cdef object step(self, object value):
        """Go on as far as possible: what to yield to the event loop; or the stage is OVER, with `result`."""
        with cython.critical_section(self.handle):
            return self.advance(value)

    cdef object advance(self, object value):
        if self.stage == FRESH:
            self.stage = OVER  # should it raise
            check_time(self.timeout)
            if self.pipe.native is not None and self.pipe.native.is_elsewhere() and not self.handle.closed:
                raise other_loop(self.handle.name, self.doing())
            if self.at_once():
                return None
            if self.timeout is not None:
                timeout = check_timeout(self.timeout)
                if timeout is not None:
                    self.deadline = <double>monotonic() + <double>timeout
            self.stage = ENTERING
        elif self.stage == OVER:
            raise RuntimeError("cannot reuse already awaited coroutine")
        try:
            return self.go_on(value)
        except PipeClosedError as error:
            before = self.stage
            self.stage = OVER
            self.wait_no_longer()
            if before == BEGINNING or before == LOOKING:
                self.leave()
            raise self.pipe._explained(error) from None
        except BaseException:
            self.abandon()
            raise

    cdef object go_on(self, object value):
        cdef PyObject *found = NULL
        cdef PySendResult sent
        if self.future is not None:
            self.wait_no_longer()
        while True:
            if self.inner is not None:
                sent = PyIter_Send(self.inner, value, &found)
                if sent != PYGEN_NEXT:
                    self.inner = None
                if sent == PYGEN_ERROR:
                    npipe_reraise()
                value = <object>found
                Py_DECREF(value)
                if sent == PYGEN_NEXT:
                    return value
                self.expired = value is False
                value = None
            if self.stage == ENTERING:
                self.enter()
                self.stage = BEGINNING
                if (self.handle.turns <= 0 or self.handle.resting) if self.writes() else not self.handle.may_read():
                    self.resting = True
                    if self.writes():
                        self.ticket = self.handle.line_up()
                    if self.pipe.native is not None:
                        return None  # asyncio: others go first
                    self.inner = self.pipe._loop.pause(0)
                    continue
            if self.stage == BEGINNING:
                if self.resting:
                    if not self.has_its_turn():
                        if self.expired:
                            raise self.out_of_time()
                        value = self.wait()
                        if self.inner is None:
                            return value
                        continue
                    self.leave_the_line()
                    if self.pipe.native is None:
                        self.handle.begin_turn(False)
                    else:
                        self.pipe.native.begin_turn()
                    self.handle.rests = False
                self.stage = LOOKING
                if self.take_late_byte():
                    self.heed()
                if self.begin():
                    self.stage = OVER
                    self.leave()
                    return None
            if self.look():
                self.stage = OVER
                self.leave()
                return None
            if self.handle.yields:  # there is more, but others go first
                self.handle.yields = False
                if self.deadline < 0 or <double>monotonic() < self.deadline:
                    if self.pipe.native is not None:
                        return None
                    self.inner = self.pipe._loop.pause(0)
                    continue
                self.expired = True
            if self.expired:
                self.stage = OVER
                if self.give_up():
                    return None
                raise self.out_of_time()
            if self.take_late_byte() or self.spin():
                continue
            value = self.wait()
            if self.inner is None:
                return value

    # ---- A coroutine's methods

    def __await__(self):
        if self.stage != FRESH:
            raise RuntimeError("cannot reuse already awaited coroutine" if self.stage == OVER
                               else "coroutine is being awaited already")
        return self

    def __next__(self):
        yielded = self.step(None)
        if self.stage == OVER:
            raise StopIteration(self.result)
        return yielded  # see quick_next

    def send(self, value):
        """See collections.abc.Coroutine.send."""
        yielded = self.step(value)
        if self.stage == OVER:
            raise StopIteration(self.result)
        return yielded

    def throw(self, kind, value=None, trace=None):
        """See collections.abc.Coroutine.throw."""
        error = kind if isinstance(kind, BaseException) else value if isinstance(value, BaseException) else \
            kind() if value is None else kind(value)
        if trace is not None:
            error = error.with_traceback(trace)
        if self.stage == OVER:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if self.stage == FRESH:
            self.stage = OVER
        elif self.inner is not None:
            try:
                return self.inner.throw(error)
            except StopIteration as stop:
                self.inner = None
                self.expired = stop.value is False
                return self.send(None)
            except BaseException:
                self.inner = None
                with cython.critical_section(self.handle):
                    self.abandon()
                raise
        waker = self.waker
        with cython.critical_section(self.handle):
            self.abandon()
        if waker is not None and type(error) is RuntimeError and not waker.runs_here():  # of another loop's future
            raise other_loop(self.pipe._handle.name, self.doing()) from error
        raise error

    def close(self):
        """See collections.abc.Coroutine.close."""
        inner, self.inner = self.inner, None
        try:
            if inner is not None:
                inner.close()
        finally:
            with cython.critical_section(self.handle):
                self.abandon()

    @property
    def __name__(self):
        return self.label.decode().rpartition(".")[2]

    @property
    def __qualname__(self):
        return self.label.decode()

    def __repr__(self):
        where = "over" if self.handle is None else f"on {self.handle.name!r}"
        return f"<call of {self.label.decode()}, {where}, at {<uintptr_t><void *>self:#x}>"

    def __dealloc__(self):
        if self.label == NULL:
            return
        if self.stage == FRESH:
            PyErr_WarnFormat(RuntimeWarning, 1, "coroutine '%s' was never awaited", self.label)
        elif self.stage != OVER:
            self.abandon()


cdef class Pause(Call):
    """Until the next wake, whatever it is for: True; or until the deadline: False."""

    cdef int enter(self) except -1:
        if self.handle.turns <= 0:
            self.handle.turns = 1  # it does not rest, for it would miss what happens meanwhile
        if self.handle.reads <= 0:
            self.handle.reads = 1
        return 0

    cdef void heed(self) noexcept:
        self.looked = True

    cdef bint look(self) except -1:
        if not self.looked:
            self.looked = True
            return False
        self.result = not self.expired
        return True


# ---- Reading


cdef class Reading(Call):
    """A call that one task at a time may make."""

    cdef int enter(self) except -1:
        self.handle.begin_reading()
        return 0

    cdef bint has_read(self) except -1:
        if self.handle.owes:
            self.pipe.native.plan_pause()  # nobody else promises pauses
        return True

    cdef bint reads(self) noexcept:
        return True

    cdef bint may_go_on(self) noexcept:
        return self.handle.has_come()

    cdef bint spin(self) except -1:
        return self.pipe.busy_wait > 0 and self.handle.spin(self.pipe.busy_wait)

    cdef int leave(self) except -1:
        self.handle.end_reading()
        if self.handle.handle != NULL and np_poll_wake_deferred(self.handle.handle) and self.pipe.native is not None:
            self.pipe.native.plan_pause()
        return 0

    cdef str doing(self):
        return "reading"


@cython.final
@cython.no_gc_clear
cdef class Receive(Reading):
    cdef bint at_once(self) except -1:
        self.result = self.handle.recv_now(self.handle.max_message_size)
        return self.result is not None and self.has_read()

    cdef bint look(self) except -1:
        self.result = self.handle.recv_step(self.handle.max_message_size)
        return self.result is not None

    cdef void spare(self) noexcept:
        cdef PipeState pipe = self.pipe
        self.pipe = self.handle = self.result = None  # a pipe that is dropped goes at once
        with cython.critical_section(pipe):
            pipe.spare_receive = self

    cdef str doing(self):
        return "receiving a message"


@cython.final
@cython.no_gc_clear
cdef class Transact(Reading):
    cdef bint writes(self) noexcept:
        return True

    cdef bint begin(self) except -1:
        self.pipe.check_writer("transacting")
        if not PyBytes_CheckExact(self.data):  # what cannot be sent is told first
            self.data = copy_of(Buffer(self.data, False))
        self.handle.check_transaction()
        self.pipe._begin_write(self.data)  # the request never waits for the quota (SEMANTICS §8.2)
        self.asked = True
        self.wake_writers(True)
        return False

    cdef bint look(self) except -1:
        try:
            self.result = self.handle.recv_step(self.handle.max_message_size, "transacting")
        except PipeMessageTooLargeError:
            self.handle.answer_too_long = True  # give_up follows
            raise
        return self.result is not None

    cdef bint give_up(self) except -1:
        self.leave()
        if self.asked:  # and its answer is still to come
            self.handle.owed += 1
        return False

    cdef str doing(self):
        return "transacting"

    cdef object out_of_time(self):
        return unanswered(self.handle.name, sent=self.asked)


cdef int drop_kept(PipeState pipe, Py_ssize_t size) except -1:
    """The first `size` bytes of it are delivered."""
    if size == len(pipe._kept):
        pipe._kept = None
    else:
        del pipe._kept[:size]  # which moves nothing
    return 0


@cython.final
@cython.no_gc_clear
cdef class ReadInto(Reading):
    cdef bint at_once(self) except -1:
        cdef Buffer target
        cdef Py_ssize_t size
        if self.pipe._kept and not self.handle.closed:
            target = Buffer(self.data, True)
            size = min(target.view.len, PyByteArray_GET_SIZE(self.pipe._kept))
            self.result = size
            memcpy(target.view.buf, PyByteArray_AS_STRING(self.pipe._kept), size)
            drop_kept(self.pipe, size)
            return True
        if self.pipe.ended and not self.handle.closed:
            self.result = 0
            return True
        self.result = self.handle.read_into_now(self.data, self.counts)
        return self.have_counted() and self.has_read()

    cdef bint look(self) except -1:
        self.result = self.handle.read_into_step(self.data, self.counts)
        return self.have_counted()

    cdef bint have_counted(self) except -1:
        """Whether there is a result; that of a stream may be its end."""
        if self.counts and self.result is not None and <uint32_t>self.result == 0 and \
                Buffer(self.data, True).view.len:
            self.pipe.ended = True
        return self.result is not None


@cython.final
@cython.no_gc_clear
cdef class ReceiveInto(Reading):
    """A whole message into a buffer, which is taken only if it fits."""

    cdef bint at_once(self) except -1:
        cdef Buffer target = Buffer(self.data, True)
        return self.deliver(target, self.handle.recv_now(size_of(target.view.len, self.handle.name))) and \
            self.has_read()

    cdef bint look(self) except -1:
        cdef Buffer target = Buffer(self.data, True)
        cdef uint32_t most = size_of(target.view.len, self.handle.name)
        try:
            return self.deliver(target, self.handle.recv_step(most))
        except PipeMessageTooLargeError:
            raise does_not_fit(self.handle.name, most) from None

    cdef bint deliver(self, Buffer target, bytes message) except -1:
        if message is None:
            return False
        memcpy(target.view.buf, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
        self.result = PyBytes_GET_SIZE(message)
        return True

    cdef str doing(self):
        return "receiving a message"


@cython.final
@cython.no_gc_clear
cdef class ReceiveParts(Reading):
    """A message into several buffers; with `counts` it is taken only if it fits."""

    cdef bint at_once(self) except -1:
        self.data = Parts(self.data, True, self.handle.name)
        self.result = self.handle.parts_now(self.data, self.counts)
        return self.result is not None and self.has_read()

    cdef bint look(self) except -1:
        self.result = self.handle.parts_step(self.data, self.counts)
        return self.result is not None


@cython.final
@cython.no_gc_clear
cdef class ReceiveView(Reading):
    """The next message in place, or a copy of it. `data` is the Received that gets it, and keeps the turn to read."""

    cdef bint at_once(self) except -1:
        cdef Received place = self.data
        place.claim("a view")
        self.claims = True
        try:
            self.handle.check_turn()
            if not self.handle.may_read() or self.handle.handle == NULL or place.copied:
                return False
            if not self.found_in_place(place):
                return False
            self.handle.begin_reading()
        except BaseException:
            self.result = None
            self.unclaim()
            raise
        return True

    cdef int enter(self) except -1:
        try:
            return Reading.enter(self)
        except BaseException:
            self.unclaim()
            raise

    cdef void unclaim(self) noexcept:
        if self.claims:
            self.claims = False
            (<Received>self.data).unclaim()

    cdef bint look(self) except -1:
        cdef Received place = self.data
        cdef bytes message
        message = self.handle.view_step(place)
        if place.place.recv.link != NULL:
            self.result = place.begin()
        elif message is not None:
            self.result = place.begin_with(message)
        return self.result is not None

    cdef bint found_in_place(self, Received place) except -1:
        if self.handle.dropping != NOTHING or \
                np_view_now(self.handle.valid(), &place.place, self.handle.max_message_size) != NP_OK:
            return False
        self.handle.has_read(place.place.size, place.place.size)
        self.result = place.begin()
        return True

    cdef int leave(self) except -1:
        if self.result is None:
            self.unclaim()
            return Reading.leave(self)
        return 0

    cdef bint give_up(self) except -1:
        if self.result is not None:
            return True
        self.leave()
        return False

    cdef str doing(self):
        return "receiving a message"


@cython.final
@cython.no_gc_clear
cdef class ReadSome(Reading):
    cdef bint at_once(self) except -1:
        cdef Py_ssize_t size
        if self.pipe._kept and not self.handle.closed:
            size = min(self.size, PyByteArray_GET_SIZE(self.pipe._kept))
            self.result = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(self.pipe._kept), size)
            drop_kept(self.pipe, size)
            return True
        if self.pipe.ended and not self.handle.closed:
            self.result = b""
            return True
        self.result = self.handle.read_now(size_of(self.size, self.handle.name))
        if self.result is None:
            return False
        if self.size and not self.result:
            self.pipe.ended = True
        return self.has_read()

    cdef bint begin(self) except -1:
        self.data = PyBytes_FromStringAndSize(NULL, self.size)
        return False

    cdef bint look(self) except -1:
        cdef int64_t count = self.handle.read_some_step(<bytes>self.data)
        if count < 0:
            return False
        if self.size and count == 0:
            self.pipe.ended = True
        self.result = shortened(<bytes>self.data, count)
        return True


@cython.final
@cython.no_gc_clear
cdef class Discard(Reading):
    cdef bint at_once(self) except -1:
        return self.handle.owed == 0

    cdef bint look(self) except -1:
        while self.handle.owed:
            if self.handle.dropping == NOTHING:
                self.handle.dropping = THE_NEXT
            if not self.handle.drop_step():
                return False
        return True

    cdef str doing(self):
        return "discarding the answer"


# ---- Writing


@cython.final
@cython.no_gc_clear
cdef class Write(Call):
    cdef bint writes(self) noexcept:
        return True

    cdef bint at_once(self) except -1:
        cdef int64_t count
        cdef Py_ssize_t size
        if self.pipe.writers is not None:
            return False
        if self.several:
            return self.parts_at_once()
        if self.counts and PyBytes_CheckExact(self.data):
            self.result = PyBytes_GET_SIZE(self.data)
        count = self.handle.write_now(self.data)
        if count < 0:
            return False
        size = PyBytes_GET_SIZE(self.data)
        return count == size or self.is_short(count, size)

    cdef bint parts_at_once(self) except -1:
        cdef Parts parts = Parts(self.data, False, self.handle.name)
        cdef int64_t count = self.handle.write_parts_now(parts)
        self.several = False
        if count < 0:
            self.data = parts.joined()
            return False
        return count == parts.size or self.is_short(count, parts.size)

    cdef bint is_short(self, int64_t count, Py_ssize_t size) except -1:
        """Less was written, as PIPE_NOWAIT is set. A stream's write says how much."""
        if not self.counts:
            raise short_write(self.handle.name, count, size)
        self.result = count
        return True

    cdef bint begin(self) except -1:
        cdef Py_ssize_t size
        cdef uint32_t count
        self.pipe.check_writer("writing")
        if self.several:  # it has not been tried at once
            self.data = Parts(self.data, False, self.handle.name).joined()
            self.several = False
        if self.handle.handle != NULL and self.handle.does_not_wait():
            count = self.handle.write_without_wait(self.data)
            size = Buffer(self.data, False).view.len
            self.result = size if self.counts else None
            return count == size or self.is_short(count, size)
        if self.counts:
            self.result = Buffer(self.data, False).view.len
        self.pending = self.pipe._begin_write(self.data)
        self.wake_writers(True)
        return self.pending is None

    cdef bint look(self) except -1:
        cdef bint over = self.pending.step()
        self.wake_writers(over)
        return over

    cdef bint may_go_on(self) noexcept:
        return self.pending is None or np_poll_write_ready(&self.pending.write)

    cdef bint is_pending(self) noexcept:
        # A pipe that the collector has cleared knows nothing any more, and PendingWrite ends by itself; one that was
        # closed has left its writes.
        return self.pending is not None and self.pipe._handle is not None and self.handle.handle != NULL and \
            not np_is_closed(self.handle.handle)

    cdef int leave(self) except -1:
        if self.is_pending():
            self.pipe._forget(self.pending)
        return 0

    cdef bint give_up(self) except -1:
        if not self.is_pending():
            return False
        outcome = self.pipe._withdraw(self.pending)
        self.goes_on, self.torn = outcome == "goes on", outcome == "torn"
        return outcome == "all"

    cdef object out_of_time(self):
        if self.goes_on:
            return goes_on(self.handle.name)
        if self.torn:
            return PipeTimeoutError(121, self.handle.name, "writing", self.pipe._why)
        return PipeTimeoutError(121, self.handle.name, "writing")

    cdef void spare(self) noexcept:
        cdef PipeState pipe = self.pipe
        self.pipe = self.handle = self.result = self.data = self.pending = None
        self.counts = self.several = self.goes_on = self.torn = False
        with cython.critical_section(pipe):
            pipe.spare_write = self

    cdef str doing(self):
        return "writing"


@cython.final
@cython.no_gc_clear
cdef class Reserve(Call):
    """Room for a message. `data` is the Reserved that gets it."""

    cdef bint writes(self) noexcept:
        return True

    cdef bint at_once(self) except -1:
        cdef Reserved place = self.data
        place.claim("a reservation")
        self.claims = True
        if self.handle.turns <= 0 or self.handle.resting or self.pipe.writers is not None:
            return False
        try:
            return self.found(place, place.try_now())
        except BaseException:
            self.leave()
            raise

    cdef bint begin(self) except -1:
        cdef Reserved place = self.data
        self.pipe.check_writer("reserving")
        return self.found(place, np_reserve_begin(self.handle.valid(), &place.reserve, place.length))

    cdef bint look(self) except -1:
        cdef Reserved place = self.data
        return self.found(place, np_reserve_step(self.handle.valid(), &place.reserve))

    cdef bint found(self, Reserved place, uint32_t code) except -1:
        if code == NP_WOULD_WAIT:
            return False
        self.handle.turns -= 1 + <int>(place.length >> WEIGHT_SHIFT)
        view = place.begin(code)
        self.pipe.begin_reserving(place)
        self.result = view  # else `leave` takes it back
        return True

    cdef bint may_go_on(self) noexcept:
        cdef Reserved place = self.data
        return place is None or np_reserve_ready(&place.reserve)

    cdef int leave(self) except -1:
        cdef Reserved place = self.data
        if self.result is None and self.claims:
            self.claims = False
            self.pipe.end_reserving(place)
            if place.stage == CLAIMED:  # it stands in its turn, if anywhere
                np_reserve_end(self.handle.handle, &place.reserve, 0, False, False)
            place.unclaim()
        return 0

    cdef bint give_up(self) except -1:
        if self.result is not None:
            return True
        self.leave()
        if self.pipe._waker is not None:  # else the collector has cleared it, and nobody waits
            self.wake_writers(True)
        return False

    cdef str doing(self):
        return "reserving"


@cython.final
@cython.no_gc_clear
cdef class Flush(Call):
    cdef bint begin(self) except -1:
        self.flush = self.handle.begin_flush()
        self.wake_writers(True)
        return self.flush is None

    cdef bint look(self) except -1:
        cdef bint over = self.flush.step()
        self.wake_writers(over)
        return over

    cdef bint may_go_on(self) noexcept:
        return self.flush is None or self.handle.handle == NULL or \
            np_poll_flush_ready(self.handle.handle, &self.flush.flush)

    cdef int leave(self) except -1:
        if self.flush is not None:
            self.flush.leave()
        return 0

    cdef str doing(self):
        return "flushing"


# ---- To raise StopIteration from Cython takes as long as the rest of a call together, for its traceback. So the slots
# are filled with functions that do without one.


cdef PyObject *quick_next(PyObject *this) except? NULL:
    """Call.__next__."""
    cdef Call self = <Call>this
    yielded = self.step(None)
    if self.stage != OVER:
        Py_INCREF(yielded)
        return <PyObject *>yielded
    if self.result is not None:
        PyErr_SetObject(StopIteration, self.result)
    self.spare()
    return NULL  # with nothing set: the result is None


cdef PySendResult quick_send(PyObject *this, PyObject *value, PyObject **found) except PYGEN_ERROR:
    """Call.send, as PyIter_Send has it."""
    cdef Call self = <Call>this
    found[0] = NULL
    yielded = self.step(<object>value)
    if self.stage != OVER:
        Py_INCREF(yielded)
        found[0] = <PyObject *>yielded
        return PYGEN_NEXT
    Py_INCREF(self.result)
    found[0] = <PyObject *>self.result
    self.spare()
    return PYGEN_RETURN


for _kind in (Call, Pause, Receive, Transact, ReadInto, ReceiveInto, ReceiveParts, ReceiveView, ReadSome, Discard,
              Write, Reserve, Flush):
    (<PyTypeObject *>_kind).tp_iternext = <void *>quick_next
    (<PyTypeObject *>_kind).tp_as_async.am_send = <void *>quick_send
