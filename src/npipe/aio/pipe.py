"""One end of a connected pipe, for an event loop: the sync face's methods, awaitable.

Cancelling a method that waits, by whatever means (`Task.cancel`, `asyncio.timeout`, a trio scope), is safe at every
moment: a read has then consumed nothing, and a write has written all of its data or nothing; each method says more.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any, Self

from npipe import binding as _engine
from npipe.aio._iterating import UntilClosed, end_of_iteration, peer_closed
from npipe.errors import PipeClosedError, WinError
from npipe.options import Mode, Peek, Peer, PipeInfo, check_timeout, direction_name
from npipe.pipe import CLOSE_TIMEOUT, peer_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import TracebackType

    from _typeshed import ReadableBuffer

    from npipe.aio._loops import Loop

__all__ = ["MessagePipe", "Pipe", "StreamPipe"]

_MESSAGE = 4
_READ_MESSAGE = 2
_UNLIMITED = 255
_READ_SIZE = 65536


def deadline_of(timeout: float | None) -> float | None:
    """Return the time.monotonic at which `timeout` seconds are over."""
    timeout = check_timeout(timeout)
    return None if timeout is None else time.monotonic() + timeout


def _mode_word(message: int) -> Mode:
    return "message" if message else "byte"


class Pipe(_engine.LoopPipe):
    """One end of a connected named pipe, on the event loop on which it was made.

    An async context manager that closes it. Several tasks may write: each write goes in whole, in the order in which
    they began. One task at a time may read; a second one gets PipeStateError (170). All time-outs are in seconds, None
    means for ever, and when the time is over PipeTimeoutError (121) is raised, which is otherwise like a cancellation.
    A call that can be answered at once is, without a turn of the event loop; after many of them in a row one is taken
    before the next, so that other tasks get theirs.
    """

    _has_transport = False

    def __init__(self, handle: _engine.PolledHandle, loop: Loop, *, instances: int = 0) -> None:
        self._set_up(handle, loop, loop.pipe_waker(handle))
        self._writes: list[_engine.PendingWrite] = []  # those that a task waits for, and those that go on by themselves
        self._instances = instances  # when a client opened it
        self._on_close: Callable[[_engine.PolledHandle, bool], None] | None = None
        self._why: str | None = None  # why it was closed, when nobody has asked for that

    def when_closed(self, on_close: Callable[[_engine.PolledHandle, bool], None]) -> None:
        """Set what is called, once, before the handle is closed: with it, and whether to discard."""
        self._on_close = on_close

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""
        return self._handle.name

    @property
    def closed(self) -> bool:
        """Whether this end is closed."""
        return self._handle.closed

    def peek(self, size: int = 0) -> Peek:
        """Look at up to `size` bytes without consuming them, and at how much there is; see npipe.Pipe.peek."""
        kept = self._kept or b""
        try:
            data, available, left = self._handle.peek_pipe(max(0, size - len(kept)))
        except PipeClosedError as error:
            if not kept or self.closed or error.winerror != WinError.BROKEN_PIPE:
                raise
            data, available, left = b"", 0, 0  # what is kept is all that is left
        left = left if self._handle.describe()[1] == _MESSAGE else 0
        return Peek(bytes(kept[:size]) + data, len(kept) + available, left)

    @property
    def peer(self) -> Peer:
        """The process at the other end; see npipe.Pipe.peer."""
        pid, uid = self._handle.peer_credentials()
        return peer_of(pid, uid)

    @property
    def info(self) -> PipeInfo:
        """The pipe's attributes; a client's `instances` are those of the time when it connected.

        Raises PipeClosedError (6).
        """
        if self._handle.closed:
            raise PipeClosedError(WinError.INVALID_HANDLE, self.name)
        server, kind, direction, modes, in_size, out_size, maximum = self._handle.describe()
        return PipeInfo(
            name=self.name,
            type=_mode_word(kind == _MESSAGE),
            read_mode=_mode_word(modes & _READ_MESSAGE),
            direction=direction_name(direction),
            is_server=bool(server),
            in_buffer_size=in_size,
            out_buffer_size=out_size,
            max_instances=None if maximum == _UNLIMITED else maximum,
            instances=self._handle.count_instances() if server else self._instances,
        )

    # ---- Writing

    def _explained(self, error: PipeClosedError) -> PipeClosedError:
        """Return the error, with what is known of why the pipe was closed."""
        why = self._why
        if why is None and error.winerror == WinError.BROKEN_PIPE and self._handle.closed:
            why = "it was closed in this process"
        return error if why is None else PipeClosedError(WinError.BROKEN_PIPE, self.name, None, why)

    def _begin_write(self, data: ReadableBuffer) -> _engine.PendingWrite | None:
        """Begin a write; one that is pending is remembered until it is over."""
        if self._writes:
            self._writes = [write for write in self._writes if not _is_over(write)]
        pending = self._handle.begin_write(data)
        if pending is not None:
            self._writes.append(pending)
        return pending

    def _forget(self, pending: _engine.PendingWrite) -> None:
        if pending in self._writes:
            self._writes.remove(pending)

    def _withdraw(self, pending: _engine.PendingWrite) -> str:
        """End a write whose task does not wait any longer. What became of it."""
        outcome = pending.withdraw()
        self._waker.wake_all()  # what stood behind it may have gone into the pipe, or be over
        if outcome != "goes on":
            self._forget(pending)
        if outcome == "torn":
            self._why = (
                "a write was cancelled in the moment in which the peer had begun to read it, so the pipe was closed"
            )
            self._end(discard=True)
        return outcome

    # ---- Ending

    async def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """Close this end. What was written stays readable for the peer; closing twice is no error.

        Writes that are under way, of other tasks or cancelled ones that go on, get `timeout` seconds until they stand
        in the pipe, and succeed then. Cancelled, it closes at once without that. Tasks that wait get PipeClosedError
        (109).
        """
        deadline = deadline_of(timeout)
        try:
            while not self._handle.closed and not self._handle.all_written():
                if not await self._next_wake(deadline):
                    break
        finally:
            self._end(discard=False)

    def abort(self) -> None:
        """Close this end at once and discard what the peer has not read yet; see npipe.Pipe.abort."""
        self._end(discard=True)

    def _end(self, *, discard: bool) -> None:
        handle = self._handle
        if handle.closed:
            return
        for write in self._writes:
            write.leave()
        self._writes = []
        self._waker.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(handle, discard)
        handle.close_handle(discard, 0.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        if self._waker is not None and not self._handle.closed:
            if not self._has_transport:  # which warns itself
                _warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self._end(discard=False)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<npipe.aio.{type(self).__name__} {self.name!r}, {state}>"


def _is_over(write: _engine.PendingWrite) -> bool:
    try:
        return write.step()
    except PipeClosedError:
        return True


class MessagePipe(_engine.LoopMessagePipe, Pipe):
    """A pipe that keeps message boundaries: what one `send` wrote is what one `recv` returns."""

    @property
    def max_message_size(self) -> int:
        """The longest message that `recv` accepts, in bytes; may be set at any time. At first 2**32 - 1."""
        return self._handle.max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        self._handle.max_message_size = size

    @property
    def more_data(self) -> bool:
        """Whether a message has been read in part, so that the next read returns more of it."""
        return self._handle.rest_of_message() > 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Messages until the peer closes. A step that is cancelled has consumed nothing, and the next one goes on."""
        return UntilClosed(self.recv, peer_closed)


class StreamPipe(_engine.LoopStreamPipe, Pipe):
    """A pipe read as a stream of bytes, whatever the writes were."""

    def read(self, size: int = -1, *, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        """Read what is there, at least one byte and at most `size`; with a negative `size` all up to the end.

        The end of the stream raises PipeClosedError (109), but a read of all returns what there was. An empty message
        on a message pipe, by which the peer closes for writing alone, is an end too: b"" from then on, readinto 0.
        `timeout` is for each wait. Cancelled, or out of time, what it has read so far is there for the next read. If
        this end is closed meanwhile it raises PipeClosedError (109), and what it has read goes with all that is unread.
        Raises as readinto does.
        """
        return self._read_some(size, timeout) if size >= 0 else self._read_all(timeout)

    async def _read_all(self, timeout: float | None) -> bytes:
        data, self._kept = self._kept or bytearray(), None
        piece = b""  # until it is in `data`
        try:
            try:
                while piece := await self._read_some(_READ_SIZE, timeout):
                    data += piece
                    piece = b""  # nothing that raises comes in between
            except PipeClosedError as error:
                if error.winerror != WinError.BROKEN_PIPE or self.closed:
                    raise
            return bytes(data)
        except BaseException:
            self._kept = data or None
            if piece and not self.closed:
                self._handle.put_back(piece)
            raise

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces of the stream, as they come, until its end. A step that is cancelled has consumed nothing."""
        return UntilClosed(self._next_piece, peer_closed)

    async def _next_piece(self) -> bytes:
        return await self._read_some(_READ_SIZE, None) or end_of_iteration()

    def _is_message_type(self) -> bool:
        """Whether it has messages, whatever it is read as."""
        return bool(self._handle.describe()[1] == _MESSAGE)


def pipe_of(
    handle: _engine.PolledHandle, loop: Loop, *, message_mode: bool, instances: int = 0
) -> MessagePipe | StreamPipe:
    """Return the public pipe of a connected handle."""
    kind = MessagePipe if message_mode else StreamPipe
    return kind(handle, loop, instances=instances)
