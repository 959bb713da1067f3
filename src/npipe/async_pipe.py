"""What every pipe offers on an event loop, whatever carries it: the abstract classes of the async face.

Cancelling a method that waits, by whatever means (`Task.cancel`, `asyncio.timeout`, a trio scope), is safe at every
moment: a read has then consumed nothing, and a write has written all of its data or nothing; each method says more.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from npipe._display import PipeType, listed, of_messages, of_streams, refuse_construction, show_pipe, take_after
from npipe._process import refuse_copy
from npipe.async_iteration import UntilClosed, end_of_iteration, peer_closed
from npipe.options import read_size
from npipe.pipe import CLOSE_TIMEOUT
from npipe.reasons import not_counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import TracebackType

    from npipe._buffers import ReadableBuffer, WriteableBuffer
    from npipe._display import Traits
    from npipe.figures import PipeStats
    from npipe.options import Peek, Peer, PipeInfo
    from npipe.views import AsyncMessageView, AsyncReservation

__all__ = ["READ_SIZE", "MessagePipe", "Pipe", "StreamPipe"]

READ_SIZE = 65536


class Pipe(metaclass=PipeType):
    """One end of a connected named pipe, on the event loop on which it was made; `async with` closes it.

    - **Tasks**: several may write; each write goes in whole, in the order in which they began. One at a time may read;
      a second one gets PipeStateError (170). Other threads have no business with it.
    - **Time-outs** are seconds, None is for ever. When one is over PipeTimeoutError (121) is raised, which is otherwise
      like a cancellation: each method says what that has done.
    - **Who waits for what** is as in npipe.Pipe. A call that can be answered at once is, without a turn of the event
      loop; after many of them in a row one is taken before the next, so that other tasks get theirs.
    - **After a fork** it is closed in the child, as npipe.Pipe is.

    More: docs/aio.md.
    """

    _kind: ClassVar[str] = "npipe.aio.Pipe"
    """The public name of the class."""

    busy_wait: float
    """Seconds that a read spins before it waits; 0 at first. Of effect on the engine's pipes only."""
    _has_transport: bool
    """Whether a transport of asyncio's has it, which warns itself when it is forgotten."""

    @property
    @abstractmethod
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether this end is closed."""

    @abstractmethod
    def peek(self, size: int = 0) -> Peek:
        """Look at up to `size` bytes without consuming them, and at how much there is; see npipe.Pipe.peek.

        Never waits. Returns a Peek, and raises as npipe.Pipe.peek does.
        """

    def _look(self) -> None:
        """Find out now whether the peer has gone, where that is otherwise known a moment after it. Raises as peek."""

    def _has_unread(self) -> bool:
        """Whether there is something to read, be it an empty message, of which peek does not tell. Raises as peek."""
        return self.peek().available > 0

    async def _checked(self, check: Callable[[], bool]) -> bool:
        """Return what a check of this pipe says: one by the methods above, which may have to ask another machine.

        Nobody else uses the pipe meanwhile. Cancelled, the check may go on: then the pipe is to be closed.
        """
        return check()

    @property
    @abstractmethod
    def peer(self) -> Peer:
        """The process at the other end; see npipe.Pipe.peer.

        Raises:
            PipeClosedError: the server has disconnected (233), or this end is closed (6).
        """

    @property
    @abstractmethod
    def info(self) -> PipeInfo:
        """The pipe's attributes; a client's `instances` are those of the time when it connected.

        Raises:
            PipeClosedError: this end is closed (6).
        """

    @property
    def stats(self) -> PipeStats:
        """What this connection has moved, and who waits; see npipe.Pipe.stats.

        Raises:
            PipeStateError: on Windows, and of a pipe of another machine: nobody counts there (50).
            PipeClosedError: this is a forked child, and the connection the parent's (6).
        """
        raise not_counted(self.name, "asking for the pipe's counts")

    @abstractmethod
    def flush(self, *, timeout: float | None = None) -> Coroutine[Any, Any, None]:
        """Wait until the peer has read everything written before this call, at most `timeout` seconds.

        See npipe.Pipe.flush, which raises the same. Cancelled, it has changed nothing.
        """

    @abstractmethod
    async def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """Close this end. What was written stays readable for the peer; closing twice is no error.

        Writes that are under way, of other tasks or cancelled ones that go on, get `timeout` seconds until they stand
        in the pipe, and succeed then. Cancelled, it closes at once without that. Tasks that wait get PipeClosedError
        (109); but a read that was waiting when something came has that.
        """

    def abort(self) -> None:
        """Close this end at once and discard what the peer has not read yet; see npipe.Pipe.abort."""
        self._end(discard=True)

    @abstractmethod
    def fileno(self) -> NoReturn:
        """Raise PipeStateError (50): the event loop waits for this pipe, and nothing else may."""

    @abstractmethod
    def _end(self, *, discard: bool) -> None:
        """Close this end now, without any waiting."""

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a pipe can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and open it there with npipe.aio.connect")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        take_after(cls, next(public for public in cls.__mro__ if "_kind" in vars(public)))

    def _traits(self) -> Traits | None:
        """Return what the repr tells of an open pipe, without any wait; None when that cannot be told."""
        return None

    def __repr__(self) -> str:
        return show_pipe(self._kind, self)

    if not TYPE_CHECKING:

        def __new__(cls, *args: object, **_: object) -> Self:  # noqa: D102 - nobody is to call it
            if cls.__abstractmethods__ or not args:
                refuse_construction(cls._kind)
            return super().__new__(cls)

        def __dir__(self) -> list[str]:
            return listed(type(self), super().__dir__())


class MessagePipe(Pipe):
    """A pipe that keeps message boundaries: what one `send` wrote is what one `recv` returns. See npipe.MessagePipe.

    `async for message in pipe` gives messages until the peer closes.
    """

    _kind = "npipe.aio.MessagePipe"

    if not TYPE_CHECKING:
        read = of_streams("recv()")
        readinto = of_streams("recv_into()")
        readline = of_streams("recv()")
        write = of_streams("send()")

    @property
    @abstractmethod
    def max_message_size(self) -> int:
        """The longest message that `recv` accepts, in bytes; may be set at any time. See npipe.MessagePipe."""

    @max_message_size.setter
    @abstractmethod
    def max_message_size(self, size: int) -> None: ...

    @abstractmethod
    def send(
        self, data: ReadableBuffer, *more: ReadableBuffer, timeout: float | None = None
    ) -> Coroutine[Any, Any, None]:
        """Write `data`, a buffer of bytes or numbers, as one message; an empty one is a message too.

        With `more` buffers, `send(a, b, c)`, all of them together are one message, as for send_parts.

        Waits, at most `timeout` seconds (None: for ever), while the pipe's buffer is full.

        Cancelled, or out of time, nothing of it is sent, as a rule. If all of it was sent in just that moment, or the
        peer (one that reads bytes, or parts with recv_into) has read a part of it already, all of it is: the rest goes
        on in the background, and `close` waits for it. In the rare case that the peer begins to read a part while the
        message is being taken back, the pipe is closed, and the next call says so (109).

        Raises:
            PipeError: all that npipe.MessagePipe.send raises.
        """

    @abstractmethod
    def send_parts(self, *parts: ReadableBuffer, timeout: float | None = None) -> Coroutine[Any, Any, None]:
        """Write `parts`, buffers of bytes or numbers, as one message: one behind the other. See npipe.MessagePipe.

        Without any it is an empty message. `timeout` as for `send`, which is the same for one buffer or more.

        Raises:
            PipeError: all that `send` raises.
        """

    @abstractmethod
    def reserve(self, nbytes: int, *, timeout: float | None = None) -> AsyncReservation:
        """Return room for a message of `nbytes`, for an `async with` block, which sends it at its end.

        `timeout` in seconds is for each wait. See npipe.MessagePipe.reserve; here other tasks' writes wait for the
        end, and one of the same task raises PipeStateError (170). Cancelled before the block begins, nothing is
        reserved; in the block, nothing is sent.

        Raises:
            PipeError: all that npipe.MessagePipe.reserve raises.
        """

    @abstractmethod
    def recv_view(self, *, timeout: float | None = None, copy: bool = False) -> AsyncMessageView:
        """Return a view of the next message, for an `async with` block, which consumes it at its end.

        `timeout` in seconds. With `copy` it is never looked at in place. See npipe.MessagePipe.recv_view; here every
        other read raises PipeStateError (170) until the end. Cancelled, in the block too, nothing is consumed.

        Raises:
            PipeStateError: another task is reading (170).
            PipeError: all that npipe.MessagePipe.recv_view raises.
        """

    @abstractmethod
    def recv(self, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        """Return the next whole message, of any length up to `max_message_size`, within `timeout` seconds.

        Cancelled, or out of time, it has consumed nothing: the message is there for the next read.

        Raises:
            PipeStateError: another task is reading (170).
            PipeError: all that npipe.MessagePipe.recv raises.
        """

    @abstractmethod
    def recv_into(
        self, buffer: WriteableBuffer, *more: WriteableBuffer, exact: bool = False, timeout: float | None = None
    ) -> Coroutine[Any, Any, int]:
        """Read the next message, or as much of it as fits, into `buffer`; return the number of bytes.

        With `more`, `recv_into(a, b, c)`, it is scattered into several buffers, each filled before the next. With
        `exact` a message that does not fit raises PipeMessageTooLargeError (234), and nothing is consumed. Cancelled,
        or out of time (`timeout` seconds), it has consumed nothing, but may have written into the buffer.

        Raises:
            PipeStateError: another task is reading (170).
            PipeError: all that npipe.MessagePipe.recv_into raises.
        """

    @property
    @abstractmethod
    def more_data(self) -> bool:
        """Whether a message has been read in part, so that the next read returns more of it."""

    @abstractmethod
    def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        """Send `data` as one message and return the next message that comes; see npipe.MessagePipe.transact.

        Cancelled, or out of time (`timeout` seconds), the request stays sent, and the pipe is owed its answer: the next
        message, which has to be read, by recv or discard_reply, before the next transaction.

        Raises:
            PipeStateError: another task is reading (170), or the answer of an earlier request is owed (996).
            PipeError: all that npipe.MessagePipe.transact raises.
        """

    @property
    @abstractmethod
    def _owed(self) -> int:
        """How many answers of transactions are still to be read that ended before they came."""

    @abstractmethod
    def discard_reply(self, *, timeout: float | None = None) -> Coroutine[Any, Any, None]:
        """Wait until the answer that a transact has left to come is there, at most `timeout` seconds, and drop it.

        Cancelled, or out of time, the answer is still owed; what had come of it is dropped all the same, and the next
        read drops the rest before it looks for a message.

        Raises:
            PipeStateError: another task is reading (170).
            PipeError: all that npipe.MessagePipe.discard_reply raises.
        """

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Messages until the peer closes. A step that is cancelled has consumed nothing, and the next one goes on."""
        return UntilClosed(self.recv, peer_closed)


class StreamPipe(Pipe):
    """A pipe read as a stream of bytes, whatever the writes were. See npipe.StreamPipe.

    `async for piece in pipe` gives pieces, as they come, until the peer closes.
    """

    _kind = "npipe.aio.StreamPipe"

    if not TYPE_CHECKING:
        recv = of_messages("read()")
        recv_into = of_messages("readinto()")
        send = of_messages("write()")
        transact = of_messages("write() and read()")

    @abstractmethod
    def readinto(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> Coroutine[Any, Any, int]:
        """Read what is there, at least one byte, into `buffer`; return the number of bytes.

        Cancelled, or out of time (`timeout` seconds), it has consumed nothing.

        Raises:
            PipeStateError: another task is reading (170).
            PipeError: all that npipe.StreamPipe.readinto raises.
        """

    @abstractmethod
    def write(self, data: ReadableBuffer, *, timeout: float | None = None) -> Coroutine[Any, Any, int]:
        """Write all of `data`, a buffer of bytes or numbers; return its length in bytes.

        Cancelled, or out of time (`timeout` seconds), it is as MessagePipe.send is. With PIPE_NOWAIT it does not wait:
        the number of bytes is what was written, perhaps 0 (SEMANTICS §6.2).

        Raises:
            PipeError: all that npipe.StreamPipe.write raises.
        """

    def read(self, size: int = -1, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        """Read what is there, at least one byte and at most `size`; with a negative `size` all up to the end.

        The end of the stream raises PipeClosedError (109), but a read of all returns what there was. An empty message
        on a message pipe, by which the peer closes for writing alone, is an end too: b"" from then on, readinto 0.
        `timeout` in seconds (None: for ever) is for each wait. Cancelled, or out of time, what it has read so far is
        there for the next read. If this end is closed meanwhile it raises PipeClosedError (109), and what it has read
        goes with all that is unread.

        Raises:
            PipeStateError: another task is reading (170).
            PipeError: all that npipe.StreamPipe.read raises.
        """
        size = read_size(size)
        return self._read_some(size, timeout) if size >= 0 else self._read_all(timeout)

    @abstractmethod
    def _read_some(self, size: int, timeout: float | None) -> Coroutine[Any, Any, bytes]:
        """Read what is there, at least one byte and at most `size`."""

    @abstractmethod
    def _read_all(self, timeout: float | None) -> Coroutine[Any, Any, bytes]:
        """Read up to the end; what was read until that failed is there for the next read."""

    @abstractmethod
    def _write_now(self, data: bytes) -> int:
        """Return how many bytes were written at once: -1 when it has to wait, fewer than all with PIPE_NOWAIT."""

    @abstractmethod
    def _is_message_type(self) -> bool:
        """Whether it has messages, whatever it is read as."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces of the stream, as they come, until its end. A step that is cancelled has consumed nothing."""
        return UntilClosed(self._next_piece, peer_closed)

    async def _next_piece(self) -> bytes:
        return await self._read_some(READ_SIZE, None) or end_of_iteration()
