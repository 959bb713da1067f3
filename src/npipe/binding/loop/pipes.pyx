# cython: language_level=3, binding=True
"""What npipe.aio's pipes stand on: their methods."""

from npipe.binding.loop.calls cimport (
    Call, Discard, Flush, Pause, PipeState, ReadInto, ReadSome, Receive, ReceiveInto, Transact, Write, prepare,
)
from npipe.binding.system cimport Py_REFCNT

from npipe._process import NO_FILE, refuse_copy
from npipe.errors import PipeStateError
from npipe.options import flag, refuse_position


cdef class LoopPipe(PipeState):
    """What npipe.aio.Pipe stands on."""

    def __reduce__(self):
        refuse_copy(self, "pass the pipe's name, and open it there with npipe.aio.connect")

    def fileno(self):
        """Raise PipeStateError (50): the event loop waits for this pipe, and nobody else may."""
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
        """Wait until the peer has read everything written before this call; see npipe.Pipe.flush.

        Cancelled, it has changed nothing.
        """
        cdef Flush call = Flush.__new__(Flush)
        prepare(call, self, timeout, "Pipe.flush")
        return call


cdef class LoopMessagePipe(LoopPipe):
    """What npipe.aio.MessagePipe stands on."""

    @property
    def _owed(self):
        """How many answers of transactions are still to be read that ended before they came."""
        return self._handle.owed

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
        prepare(call, self, timeout, "MessagePipe.send")
        call.data = data
        return call

    def recv(self, positional=..., /, *, timeout=None):
        """Return the next whole message, of any length up to `max_message_size`.

        Cancelled, or out of time, it has consumed nothing: the message is there for the next read. Raises as
        npipe.MessagePipe.recv, and PipeStateError (170: another task is reading).
        """
        if positional is not ...:
            refuse_position((positional,))
        cdef Call call = self.spare_receive
        self.spare_receive = None
        if call is None or Py_REFCNT(call) != 1:  # somebody has kept it
            call = Receive.__new__(Receive)
        prepare(call, self, timeout, "MessagePipe.recv")
        return call

    def recv_into(self, buffer, *, exact=False, timeout=None):
        """Read the next message, or as much of it as fits, into `buffer`; return the number of bytes.

        With `exact` a message that does not fit raises PipeMessageTooLargeError (234), and nothing is consumed.
        Cancelled, or out of time, it has consumed nothing, but may have written into the buffer. See
        npipe.MessagePipe.recv_into.
        """
        cdef bint whole = exact is not False and flag(exact, "exact")
        cdef Call call = ReceiveInto.__new__(ReceiveInto) if whole else ReadInto.__new__(ReadInto)
        prepare(call, self, timeout, "MessagePipe.recv_into")
        call.data = buffer
        return call

    def transact(self, data, *, timeout=None):
        """Send `data` as one message and return the next message that comes; see npipe.MessagePipe.transact.

        Cancelled, or out of time, the request stays sent, and the pipe is owed its answer: the next message, which has
        to be read, by recv or discard_reply, before the next transaction.
        """
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
        """Read what is there, at least one byte, into `buffer`; return the number of bytes.

        Cancelled, or out of time, it has consumed nothing. Raises as npipe.StreamPipe.readinto, and PipeStateError
        (170).
        """
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
        """Write all of `data`; return its length in bytes. Cancelled, or out of time, it is as MessagePipe.send is.

        With PIPE_NOWAIT it does not wait: the number of bytes is what was written, perhaps 0 (SEMANTICS §6.2).
        """
        cdef Call call = self.spare_write
        self.spare_write = None
        if call is None or Py_REFCNT(call) != 1:
            call = Write.__new__(Write)
        prepare(call, self, timeout, "StreamPipe.write")
        call.data = data
        call.counts = True
        return call
