# cython: language_level=3, binding=True
"""What npipe.aio's pipes stand on: their methods."""

cimport cython
from npipe.binding.loop.calls cimport (
    Call, Discard, Flush, Pause, PipeState, ReadInto, ReadSome, Receive, ReceiveInto, ReceiveParts, Transact, Write,
    prepare,
)
from npipe.binding.loop.polled cimport PolledHandle
from npipe.binding.system cimport npipe_is_alone

from npipe._display import refuse_construction
from npipe._process import NO_FILE, refuse_copy
from npipe.binding.loop.blocks import LoopReservation, LoopView
from npipe.errors import PipeStateError
from npipe.options import check_timeout, flag, refuse_position


cdef class LoopPipe(PipeState):
    """What npipe.aio.Pipe stands on."""

    def __cinit__(self, handle=None, *args, **kwargs):
        if not isinstance(handle, PolledHandle):
            refuse_construction(
                "npipe.aio.MessagePipe" if isinstance(self, LoopMessagePipe) else "npipe.aio.StreamPipe")

    def __reduce__(self):
        refuse_copy(self, "pass the pipe's name, and open it there with npipe.aio.connect")

    def fileno(self):
        """See Pipe.fileno."""
        raise PipeStateError(50, self._handle.name, "asking for a descriptor",
                             "a pipe of npipe.aio has none, as its event loop waits for it; npipe.Pipe.fileno() is for "
                             "select, and " + NO_FILE)

    def _next_wake(self, deadline):
        """Wait for the next wake, until `deadline` (time.monotonic, or None): whether it came."""
        cdef Pause call = Pause.__new__(Pause)
        prepare(call, self, None, "Pipe._next_wake")
        if deadline is not None:
            call.deadline = deadline
        return call

    def flush(self, *, timeout=None):
        """See Pipe.flush."""
        cdef Flush call = Flush.__new__(Flush)
        prepare(call, self, timeout, "Pipe.flush")
        return call


cdef class LoopMessagePipe(LoopPipe):
    """What npipe.aio.MessagePipe stands on."""

    @property
    def _owed(self):
        """How many answers of transactions are still to be read that ended before they came."""
        return self._handle.owed

    def send(self, data, *more, timeout=None):
        """See MessagePipe.send."""
        cdef Call call
        with cython.critical_section(self):
            call, self.spare_write = self.spare_write, None
        if call is None or not npipe_is_alone(call, 1):  # somebody has kept it
            call = Write.__new__(Write)
        prepare(call, self, timeout, "MessagePipe.send")
        if more:
            call.several = True
            call.data = (data, *more)
        else:
            call.data = data
        return call

    def send_parts(self, *parts, timeout=None):
        """See MessagePipe.send_parts."""
        cdef Call call = Write.__new__(Write)
        prepare(call, self, timeout, "MessagePipe.send_parts")
        call.several = True
        call.data = parts
        return call

    def reserve(self, nbytes, *, timeout=None):
        """See MessagePipe.reserve."""
        return LoopReservation.__new__(LoopReservation, self._handle, nbytes, check_timeout(timeout), self)

    def recv_view(self, *, timeout=None, copy=False):
        """See MessagePipe.recv_view."""
        copied = copy is not False and flag(copy, "copy")
        return LoopView.__new__(LoopView, self._handle, check_timeout(timeout), copied, self)

    def recv(self, positional=..., /, *, timeout=None):
        """See MessagePipe.recv."""
        if positional is not ...:
            refuse_position((positional,))
        cdef Call call
        with cython.critical_section(self):
            call, self.spare_receive = self.spare_receive, None
        if call is None or not npipe_is_alone(call, 1):  # somebody has kept it
            call = Receive.__new__(Receive)
        prepare(call, self, timeout, "MessagePipe.recv")
        return call

    def recv_into(self, buffer, *more, exact=False, timeout=None):
        """See MessagePipe.recv_into."""
        cdef bint whole = exact is not False and flag(exact, "exact")
        cdef Call call
        if more:
            call = ReceiveParts.__new__(ReceiveParts)
            prepare(call, self, timeout, "MessagePipe.recv_into")
            call.data = (buffer, *more)
            call.counts = whole
            return call
        call = ReceiveInto.__new__(ReceiveInto) if whole else ReadInto.__new__(ReadInto)
        prepare(call, self, timeout, "MessagePipe.recv_into")
        call.data = buffer
        return call

    def transact(self, data, *, timeout=None):
        """See MessagePipe.transact."""
        cdef Transact call = Transact.__new__(Transact)
        prepare(call, self, timeout, "MessagePipe.transact")
        call.data = data
        return call

    def discard_reply(self, *, timeout=None):
        """Wait until the answer that a transact has left to come is there, and drop it.

        Cancelled, or out of time, the answer is still owed; what had come of it is dropped all the same, and the rest
        by the next read. Raises as npipe.MessagePipe.discard_reply, and PipeStateError (170: another task is reading).
        """
        cdef Discard call = Discard.__new__(Discard)
        prepare(call, self, timeout, "MessagePipe.discard_reply")
        return call


cdef class LoopStreamPipe(LoopPipe):
    """What npipe.aio.StreamPipe stands on."""

    def readinto(self, buffer, *, timeout=None):
        """See StreamPipe.readinto."""
        cdef ReadInto call = ReadInto.__new__(ReadInto)
        prepare(call, self, timeout, "StreamPipe.readinto")
        call.data = buffer
        call.counts = True
        return call

    def _read_some(self, Py_ssize_t size, timeout):
        """What is there, at least one byte and at most `size`."""
        cdef ReadSome call = ReadSome.__new__(ReadSome)
        prepare(call, self, timeout, "StreamPipe.read")
        call.size = size
        return call

    def _write_now(self, bytes data):
        """How many bytes of `data` were written at once: -1 when it has to wait, fewer than all with PIPE_NOWAIT."""
        return self._handle.write_now(data)

    def write(self, data, *, timeout=None):
        """See StreamPipe.write."""
        cdef Call call
        with cython.critical_section(self):
            call, self.spare_write = self.spare_write, None
        if call is None or not npipe_is_alone(call, 1):
            call = Write.__new__(Write)
        prepare(call, self, timeout, "StreamPipe.write")
        call.data = data
        call.counts = True
        return call
