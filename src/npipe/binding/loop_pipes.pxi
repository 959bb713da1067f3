# What npipe.aio's pipes stand on: their methods, and how an event loop wakes them. The calls are in calls.pxi.

from time import monotonic

from npipe.errors import PipeClosedError, PipeTimeoutError

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(object, object, PyObject **)
    Py_ssize_t Py_REFCNT(object)
    void Py_INCREF(object)
    void Py_DECREF(object)
    void PyErr_SetObject(object, object)
    int PyErr_WarnFormat(object, Py_ssize_t, const char *, const char *) except -1


@cython.final
cdef class LateTurn:
    """What the pipes of a loop share: whether one of them has left the byte that told of a message for later."""

    cdef bint taken

    def __cinit__(self):
        self.taken = False


@cython.no_gc_clear  # __dealloc__ uses `turn`
cdef class LoopWaker:
    """Wakes a pipe's calls on asyncio's selector loop, uvloop, or any other with add_reader.

    The descriptor stays registered from the first wait to the end of the connection.
    """

    cdef object loop, create_future
    cdef LateTurn turn
    cdef PolledHandle handle
    cdef int fd
    cdef bint watched, closed, pausing
    cdef bint late   # the byte that made the socket readable has not been taken yet
    cdef bint taken  # it has been, by a call, and not since the loop called
    cdef set futures  # of the calls that wait: through them the loop keeps their tasks alive
    # These calls, in a list that does not keep them alive: one that is dropped leaves it.
    cdef PyObject *first
    cdef PyObject *last

    def __cinit__(self, loop, PolledHandle handle not None, LateTurn turn not None):
        self.loop = loop
        self.turn = turn
        self.create_future = loop.create_future
        self.handle = handle
        self.fd = handle.poll_socket()
        self.watched = self.closed = self.pausing = self.late = self.taken = False
        self.futures = set()
        self.first = self.last = NULL
        np_poll_promise_pauses(handle.valid())

    def on_readable(self):
        """The link's socket has something to say."""
        if self.taken:
            # A call has taken the byte when the loop had seen it already, as asyncio's does. Should there be another one, the
            # loop says so again.
            self.taken = False
            if not self.handle.has_come():
                return
        # One that reads finds its message, and answers it, before the byte that told of it is taken: the peer can begin with
        # the answer meanwhile. If nobody takes it, the loop says so again, so this is for one pipe at a time: where many are
        # readable, the loop has enough to do.
        if not self.turn.taken and self.first != NULL and self.first == self.last and (<Call>self.first).reads() and \
                self.handle.has_come():
            self.late = self.turn.taken = True
            self.handle.turns = AT_ONCE
            (<Call>self.first).wake()
        else:
            self.take_byte()

    cdef int take_byte(self) except -1:
        cdef bint gone = self.handle.wake()
        self.be_late_no_more()
        if gone:
            self.unwatch()
        self.wake(not gone)

    cdef inline void be_late_no_more(self) noexcept:
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
            if not only_ready or call.may_go_on():
                call.wake()  # which runs nothing but schedules it
        return 0

    cdef int plan_pause(self) except -1:
        """The reader may go on at once; when the loop has its turn, it has paused."""
        if not self.pausing and not self.loop.is_closed():
            self.pausing = True
            self.loop.call_soon(self.pause)
        return 0

    def pause(self):
        """A writer that waits for room is told what there is; but not yet if the reader goes on after this turn."""
        if self.handle.rests:
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


cdef class LoopPipe:
    """What npipe.aio.Pipe stands on."""

    cdef readonly PolledHandle _handle
    cdef readonly object _loop, _waker
    cdef LoopWaker native  # the same waker, or None: another kind of loop, whose calls are coroutines
    cdef Call spare_receive, spare_write  # calls that are over, to be used again
    cdef public double busy_wait
    cdef bint ended  # a stream: an empty message has been read, so the peer has closed for writing alone
    cdef public bytearray _kept  # what a read of all had read when it failed, to be read again; None: nothing

    def __cinit__(self, *args, **kwargs):
        self.busy_wait = 0.0

    def _set_up(self, PolledHandle handle not None, loop, waker):
        self._handle = handle
        self._loop = loop
        self._waker = waker
        self.native = waker if type(waker) is LoopWaker else None

    def __reduce__(self):
        refuse_copy(self, "pass the pipe's name, and open it there with npipe.aio.connect")

    def fileno(self):
        """Raise PipeStateError (50): the event loop waits for this pipe, and nobody else may."""
        raise PipeStateError(50, self._handle.name, "asking for a descriptor",
                             "a pipe of npipe.aio has none, as its event loop waits for it; npipe.Pipe.fileno() is for select, and " + NO_FILE)

    def _next_wake(self, deadline):
        """Wait for the next wake, until `deadline` (time.monotonic, or None): whether it came."""
        cdef Pause call = Pause.__new__(Pause)
        call.prepare(self, None, "Pipe._next_wake")
        if deadline is not None:
            call.deadline = deadline
        return call

    def flush(self, *, timeout=None):
        """Wait until the peer has read everything written before this call; see npipe.Pipe.flush.

        Cancelled, it has changed nothing.
        """
        cdef Flush call = Flush.__new__(Flush)
        call.prepare(self, timeout, "Pipe.flush")
        return call


cdef class LoopMessagePipe(LoopPipe):
    """What npipe.aio.MessagePipe stands on."""

    def send(self, data, *, timeout=None):
        """Write `data` as one message; an empty one is a message too. Waits while the pipe's quota is exhausted.

        Cancelled, or out of time, nothing of it is sent, as a rule. If all of it was sent in just that moment, or the
        peer (one that reads bytes, or parts with recv_into) has read a part of it already, all of it is: the rest goes
        on in the background, and `close` waits for it. In the rare case that the peer begins to read a part while the
        message is being taken back, the pipe is closed, and the next call says so (109). Raises as
        npipe.MessagePipe.send.
        """
        cdef Call call = self.spare_write
        self.spare_write = None
        if call is None or Py_REFCNT(call) != 1:  # somebody has kept it
            call = Write.__new__(Write)
        call.prepare(self, timeout, "MessagePipe.send")
        call.data = data
        return call

    def recv(self, *, timeout=None):
        """Return the next whole message, of any length up to `max_message_size`.

        Cancelled, or out of time, it has consumed nothing: the message is there for the next read. Raises as
        npipe.MessagePipe.recv, and PipeStateError (170: another task is reading).
        """
        cdef Call call = self.spare_receive
        self.spare_receive = None
        if call is None or Py_REFCNT(call) != 1:  # somebody has kept it
            call = Receive.__new__(Receive)
        call.prepare(self, timeout, "MessagePipe.recv")
        return call

    def recv_into(self, buffer, *, timeout=None):
        """Read the next message, or as much of it as fits, into `buffer`; return the number of bytes.

        Cancelled, or out of time, it has consumed nothing, but may have written into the buffer. See
        npipe.MessagePipe.recv_into.
        """
        cdef ReadInto call = ReadInto.__new__(ReadInto)
        call.prepare(self, timeout, "MessagePipe.recv_into")
        call.data = buffer
        return call

    def transact(self, data, *, timeout=None):
        """Send `data` as one message and return the next message that comes; see npipe.MessagePipe.transact.

        Cancelled, or out of time, the request stays sent, and its answer is the next message.
        """
        cdef Transact call = Transact.__new__(Transact)
        call.prepare(self, timeout, "MessagePipe.transact")
        call.data = data
        return call


cdef class LoopStreamPipe(LoopPipe):
    """What npipe.aio.StreamPipe stands on."""

    def readinto(self, buffer, *, timeout=None):
        """Read what is there, at least one byte, into `buffer`; return the number of bytes.

        Cancelled, or out of time, it has consumed nothing. Raises as npipe.StreamPipe.readinto, and PipeStateError
        (170).
        """
        cdef ReadInto call = ReadInto.__new__(ReadInto)
        call.prepare(self, timeout, "StreamPipe.readinto")
        call.data = buffer
        call.counts = True
        return call

    def _read_some(self, Py_ssize_t size, timeout):
        """What is there, at least one byte and at most `size`."""
        cdef ReadSome call = ReadSome.__new__(ReadSome)
        call.prepare(self, timeout, "StreamPipe.read")
        call.size = size
        return call

    def _write_now(self, bytes data):
        """How many bytes of `data` were written at once: -1 when it has to wait, fewer than all with PIPE_NOWAIT."""
        return self._handle.write_now(data)

    def write(self, data, *, timeout=None):
        """Write all of `data`; return its length in bytes. Cancelled, or out of time, it is as MessagePipe.send is.

        With PIPE_NOWAIT it does not wait: the number of bytes is what was written, perhaps 0 (SEMANTICS §6.2).
        """
        cdef Call call = self.spare_write
        self.spare_write = None
        if call is None or Py_REFCNT(call) != 1:
            call = Write.__new__(Write)
        call.prepare(self, timeout, "StreamPipe.write")
        call.data = data
        call.counts = True
        return call
