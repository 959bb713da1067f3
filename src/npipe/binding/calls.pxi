# The calls of npipe.aio's pipes: awaitables that try first, and go through the event loop only if that is not enough.

# ---- What the calls have in common

cdef enum Stage:
    FRESH     # nobody has awaited it
    ENTERING
    BEGINNING
    LOOKING
    OVER

cdef double NO_DEADLINE = -1.0


@cython.freelist(64)
@cython.no_gc_clear  # __dealloc__ ends what is under way
cdef class Call:
    """An awaitable with a coroutine's methods, for everything that takes coroutines (tasks, gather, start_soon).

    Its first step tries to do without the event loop. On asyncio's loops it then waits in a future, on others in a coroutine
    of theirs.
    """

    cdef LoopPipe pipe
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
    # Of some kinds only, but here: most have one size and share the list of free ones, and a kind's own objects would be gone
    # when __dealloc__ ends what is under way.
    cdef object data      # to write, or the buffer to read into
    cdef PendingWrite pending
    cdef PendingFlush flush
    cdef Py_ssize_t size  # of a read
    cdef bint counts      # the result is the number of bytes

    cdef inline void prepare(self, LoopPipe pipe, object timeout, const char *label):
        self.pipe = pipe
        self.handle = pipe._handle
        self.timeout = timeout
        self.label = label
        self.deadline = NO_DEADLINE
        self.stage = FRESH
        self.resting = self.expired = False

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

    cdef inline bint take_late_byte(self) except -1:
        """Whether there was one: then look, and ask for another, before the next wait."""
        cdef LoopWaker waker = self.pipe.native
        cdef int turns = self.handle.turns
        if waker is None or not waker.late:
            return False
        waker.take_byte()
        waker.taken = True
        self.handle.turns = turns  # the loop has had none
        return True

    cdef inline int wake_writers(self, bint over) except -1:
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

    cdef int abandon(self) except -1:
        """Nobody waits any longer."""
        cdef Stage before = self.stage
        self.stage = OVER
        self.wait_no_longer()
        if before == BEGINNING or before == LOOKING:
            self.give_up()
        return 0

    cdef object step(self, object value):
        """Go on as far as possible: what to yield to the event loop; or the stage is OVER, with `result`."""
        if self.stage == FRESH:
            self.stage = OVER  # should it raise
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
                if self.handle.turns <= 0:
                    self.resting = True
                    if self.pipe.native is not None:
                        return None  # asyncio: others go first
                    self.inner = self.pipe._loop.pause(0)
                    continue
            if self.stage == BEGINNING:
                if self.resting:
                    self.handle.turns = AT_ONCE
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
            if self.expired:
                self.stage = OVER
                if self.give_up():
                    return None
                raise PipeTimeoutError(121, self.handle.name, self.doing())
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
                self.abandon()
                raise
        self.abandon()
        raise error

    def close(self):
        """See collections.abc.Coroutine.close."""
        inner, self.inner = self.inner, None
        try:
            if inner is not None:
                inner.close()
        finally:
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

    cdef bint looked

    cdef int enter(self) except -1:
        if self.handle.turns <= 0:
            self.handle.turns = 1  # it does not rest, for it would miss what happens meanwhile
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

    cdef inline bint has_read(self) except -1:
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
        self.result = self.handle.recv_now()
        return self.result is not None and self.has_read()

    cdef bint look(self) except -1:
        self.result = self.handle.recv_step()
        return self.result is not None

    cdef void spare(self) noexcept:
        cdef LoopPipe pipe = self.pipe
        self.pipe = self.handle = self.result = None  # a pipe that is dropped goes at once
        pipe.spare_receive = self

    cdef str doing(self):
        return "receiving a message"


@cython.final
@cython.no_gc_clear
cdef class Transact(Reading):
    cdef bint begin(self) except -1:
        self.handle.check_transaction()
        self.pipe._begin_write(self.data)  # the request never waits for the quota (SEMANTICS §8.2)
        self.wake_writers(True)
        return False

    cdef bint look(self) except -1:
        self.result = self.handle.recv_step()
        return self.result is not None

    cdef str doing(self):
        return "transacting"


cdef int drop_kept(LoopPipe pipe, Py_ssize_t size) except -1:
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

    cdef inline bint have_counted(self) except -1:
        """Whether there is a result; that of a stream may be its end."""
        if self.counts and self.result is not None and <uint32_t>self.result == 0 and memoryview(self.data).nbytes:
            self.pipe.ended = True
        return self.result is not None


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


# ---- Writing

@cython.final
@cython.no_gc_clear
cdef class Write(Call):
    cdef bint at_once(self) except -1:
        cdef int64_t count
        if self.counts and PyBytes_CheckExact(self.data):
            self.result = PyBytes_GET_SIZE(self.data)
        count = self.handle.write_now(self.data)
        return count >= 0 and (count == PyBytes_GET_SIZE(self.data) or self.is_short(count, PyBytes_GET_SIZE(self.data)))

    cdef bint is_short(self, int64_t count, Py_ssize_t size) except -1:
        """Less was written, as PIPE_NOWAIT is set. A stream's write says how much."""
        if not self.counts:
            raise short_write(self.handle.name, count, size)
        self.result = count
        return True

    cdef bint begin(self) except -1:
        cdef Py_ssize_t size
        cdef uint32_t count
        if self.handle.handle != NULL and self.handle.does_not_wait():
            count = self.handle.write_without_wait(self.data)
            size = memoryview(self.data).nbytes
            self.result = size if self.counts else None
            return count == size or self.is_short(count, size)
        if self.counts:
            self.result = memoryview(self.data).nbytes
        self.pending = self.pipe._begin_write(self.data)
        self.wake_writers(True)
        return self.pending is None

    cdef bint look(self) except -1:
        cdef bint over = self.pending.step()
        self.wake_writers(over)
        return over

    cdef bint may_go_on(self) noexcept:
        return self.pending is None or np_poll_write_ready(&self.pending.write)

    cdef inline bint is_pending(self) noexcept:
        # A pipe that the collector has cleared knows nothing any more, and PendingWrite ends by itself; one that was closed has
        # left its writes.
        return self.pending is not None and self.pipe._handle is not None and self.handle.handle != NULL and \
            not np_is_closed(self.handle.handle)

    cdef int leave(self) except -1:
        if self.is_pending():
            self.pipe._forget(self.pending)
        return 0

    cdef bint give_up(self) except -1:
        return self.is_pending() and self.pipe._withdraw(self.pending) == "all"

    cdef void spare(self) noexcept:
        cdef LoopPipe pipe = self.pipe
        self.pipe = self.handle = self.result = self.data = self.pending = None
        self.counts = False
        pipe.spare_write = self

    cdef str doing(self):
        return "writing"


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
        return self.flush is None or self.handle.handle == NULL or np_poll_flush_ready(self.handle.handle, &self.flush.flush)

    cdef int leave(self) except -1:
        if self.flush is not None:
            self.flush.leave()
        return 0

    cdef str doing(self):
        return "flushing"


# ---- To raise StopIteration from Cython takes as long as the rest of a call together, for its traceback. So the slots are
# filled with functions that do without one.

cdef extern from "Python.h":
    ctypedef struct PyAsyncMethods:
        void *am_send
    ctypedef struct PyTypeObject:
        void *tp_iternext
        PyAsyncMethods *tp_as_async


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


for _kind in (Call, Pause, Receive, Transact, ReadInto, ReadSome, Write, Flush):
    (<PyTypeObject *>_kind).tp_iternext = <void *>quick_next
    (<PyTypeObject *>_kind).tp_as_async.am_send = <void *>quick_send
