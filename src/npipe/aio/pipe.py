"""One end of a connected pipe, for an event loop: the sync face's methods, awaitable.

Cancelling a method that waits, by whatever means (`Task.cancel`, `asyncio.timeout`, a trio scope), is safe at every
moment: a read has then consumed nothing, and a write has written all of its data or nothing; each method says more.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any, Self, TypeVar

from npipe.errors import PipeClosedError, PipeTimeoutError, WinError
from npipe.options import Mode, Peek, Peer, PipeInfo, check_timeout, direction_name
from npipe.pipe import CLOSE_TIMEOUT, peer_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from _typeshed import ReadableBuffer, WriteableBuffer

    from npipe import _engine
    from npipe.aio._loops import Loop

__all__ = ["MessagePipe", "Pipe", "StreamPipe"]

_MESSAGE = 4
_READ_MESSAGE = 2
_UNLIMITED = 255
_READ_SIZE = 65536

T = TypeVar("T")


def deadline_of(timeout: float | None) -> float | None:
    """Return the time.monotonic at which `timeout` seconds are over."""
    timeout = check_timeout(timeout)
    return None if timeout is None else time.monotonic() + timeout


def _mode_word(message: int) -> Mode:
    return "message" if message else "byte"


class Pipe:
    """One end of a connected named pipe, on the event loop on which it was made.

    An async context manager that closes it. Several tasks may write: each write goes in whole, in the order in which
    they began. One task at a time may read; a second one gets PipeStateError (170). All time-outs are in seconds, None
    means for ever, and when the time is over PipeTimeoutError (121) is raised, which is otherwise like a cancellation.
    A call that can be answered at once is, without a turn of the event loop; after many of them in a row one is taken
    before the next, so that other tasks get theirs.
    """

    busy_wait: float = 0.0
    """Seconds that a read spins before it goes through the selector, which blocks the whole loop: see docs/aio.md."""

    def __init__(self, handle: _engine.PolledHandle, loop: Loop, *, instances: int = 0) -> None:
        self._handle = handle
        self._loop = loop
        self._waker = loop.waker(handle.poll_socket(), handle.wake)
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
        data, available, left = self._handle.peek_pipe(size)
        return Peek(data, available, left if self._handle.describe()[1] == _MESSAGE else 0)

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

    # ---- Waiting

    async def _rest(self) -> None:
        """Give the event loop a turn: it has had none for many calls."""
        await self._loop.pause(0)
        self._handle.rest()

    async def _wait(self, deadline: float | None, doing: str) -> None:
        """Wait for something to change."""
        if not await self._waker.wait(deadline):
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, doing)

    def _explained(self, error: PipeClosedError) -> PipeClosedError:
        """Return the error, with what is known of why the pipe was closed."""
        if self._why is None:
            return error
        return PipeClosedError(WinError.BROKEN_PIPE, self.name, None, self._why)

    async def _read(self, step: Callable[[], T | None], timeout: float | None, doing: str) -> T:
        """Call `step` until it has something, as the one task that reads."""
        deadline = deadline_of(timeout)
        handle = self._handle
        handle.begin_reading()
        try:
            if handle.tired:
                await self._rest()
            while True:
                found = step()
                if found is not None:
                    return found
                if not (self.busy_wait and handle.spin(self.busy_wait)):
                    await self._wait(deadline, doing)
        except PipeClosedError as error:
            raise self._explained(error) from None
        finally:
            handle.end_reading()

    async def _write(self, data: ReadableBuffer, timeout: float | None) -> None:
        deadline = deadline_of(timeout)
        if self._handle.tired:
            await self._rest()
        try:
            pending = self._begin_write(data)
            if pending is None:
                return
            try:
                while not pending.step():
                    await self._wait(deadline, "writing")
            except PipeClosedError:
                self._forget(pending)
                raise
            except PipeTimeoutError:
                if self._withdraw(pending) != "all":
                    raise
            except BaseException:
                self._withdraw(pending)
                raise
            else:
                self._forget(pending)
        except PipeClosedError as error:
            raise self._explained(error) from None

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
        if outcome != "goes on":
            self._forget(pending)
        if outcome == "torn":
            self._why = (
                "a write was cancelled in the moment in which the peer had begun to read it, so the pipe was closed"
            )
            self._end(discard=True)
        return outcome

    # ---- Ending

    async def flush(self, *, timeout: float | None = None) -> None:
        """Wait until the peer has read everything written before this call; see npipe.Pipe.flush.

        Cancelled, it has changed nothing.
        """
        deadline = deadline_of(timeout)
        if self._handle.tired:
            await self._rest()
        pending = self._handle.begin_flush()
        if pending is None:
            return
        try:
            while not pending.step():
                await self._wait(deadline, "flushing")
        finally:
            pending.leave()

    async def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """Close this end. What was written stays readable for the peer; closing twice is no error.

        Writes that are under way, of other tasks or cancelled ones that go on, get `timeout` seconds until they stand
        in the pipe. Cancelled, it closes at once without that. Tasks that wait get PipeClosedError (109).
        """
        deadline = deadline_of(timeout)
        try:
            while not self._handle.closed and not self._handle.all_written():
                if not await self._waker.wait(deadline):
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
        if hasattr(self, "_waker") and not self._handle.closed:
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


class MessagePipe(Pipe):
    """A pipe that keeps message boundaries: what one `send` wrote is what one `recv` returns."""

    @property
    def max_message_size(self) -> int:
        """The longest message that `recv` accepts, in bytes; may be set at any time. At first 2**32 - 1."""
        return self._handle.max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        self._handle.max_message_size = size

    async def send(self, data: ReadableBuffer, *, timeout: float | None = None) -> None:
        """Write `data` as one message; an empty one is a message too. Waits while the pipe's quota is exhausted.

        Cancelled, or out of time, nothing of it is sent, as a rule. If all of it was sent in just that moment, or the
        peer (one that reads bytes, or parts with recv_into) has read a part of it already, all of it is: the rest goes
        on in the background, and `close` waits for it. In the rare case that the peer begins to read a part while the
        message is being taken back, the pipe is closed, and the next call says so (109). Raises as
        npipe.MessagePipe.send.
        """
        if not self._handle.write_now(data):
            await self._write(data, timeout)

    async def recv(self, *, timeout: float | None = None) -> bytes:
        """Return the next whole message, of any length up to `max_message_size`.

        Cancelled, or out of time, it has consumed nothing: the message is there for the next read. Raises as
        npipe.MessagePipe.recv, and PipeStateError (170: another task is reading).
        """
        data = self._handle.recv_now()
        if data is None:
            data = await self._read(self._handle.recv_step, timeout, "receiving a message")
        return data

    async def recv_into(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        """Read the next message, or as much of it as fits, into `buffer`; return the number of bytes.

        Cancelled, or out of time, it has consumed nothing, but may have written into the buffer. See
        npipe.MessagePipe.recv_into.
        """
        count = self._handle.read_into_now(buffer)
        if count is None:
            count = await self._read(lambda: self._handle.read_into_step(buffer), timeout, "receiving a message")
        return count

    @property
    def more_data(self) -> bool:
        """Whether a message has been read in part, so that the next read returns more of it."""
        return self._handle.rest_of_message() > 0

    async def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes:
        """Send `data` as one message and return the next message that comes; see npipe.MessagePipe.transact.

        Cancelled, or out of time, the request stays sent, and its answer is the next message.
        """
        handle = self._handle
        if handle.tired:
            await self._rest()
        handle.begin_reading()
        handle.end_reading()  # nobody else is reading, or this has raised
        handle.check_transaction()
        self._begin_write(data)  # the request never waits for the quota (SEMANTICS 8.2)
        return await self._read(handle.recv_step, timeout, "transacting")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Messages until the peer closes."""
        while True:
            try:
                message = await self.recv()
            except PipeClosedError as error:
                if error.winerror != WinError.BROKEN_PIPE:
                    raise
                return
            yield message


class StreamPipe(Pipe):
    """A pipe read as a stream of bytes, whatever the writes were."""

    _kept: bytes = b""  # what a read of all had read when it was cancelled

    async def readinto(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        """Read what is there, at least one byte, into `buffer`; return the number of bytes.

        Cancelled, or out of time, it has consumed nothing. Raises as npipe.StreamPipe.readinto, and PipeStateError
        (170).
        """
        if self._kept:
            target = memoryview(buffer).cast("B")
            data = self._take_kept(len(target))
            target[: len(data)] = data
            return len(data)
        count = self._handle.read_into_now(buffer)
        if count is None:
            count = await self._read(lambda: self._handle.read_into_step(buffer), timeout, "reading")
        return count

    def _take_kept(self, size: int) -> bytes:
        data, self._kept = self._kept[:size], self._kept[size:]
        return data

    async def write(self, data: ReadableBuffer, *, timeout: float | None = None) -> int:
        """Write all of `data`; return its length in bytes. Cancelled, or out of time, it is as MessagePipe.send is."""
        if not self._handle.write_now(data):
            await self._write(data, timeout)
        return memoryview(data).nbytes

    async def _read_some(self, size: int, timeout: float | None) -> bytes:
        if self._kept:
            return self._take_kept(size)
        data = self._handle.read_now(size)
        if data is None:
            buffer = bytearray(size)
            count = await self._read(lambda: self._handle.read_into_step(buffer), timeout, "reading")
            data = bytes(memoryview(buffer)[:count])
        return data

    async def read(self, size: int = -1, *, timeout: float | None = None) -> bytes:
        """Read what is there, at least one byte and at most `size`; with a negative `size` all up to the end.

        The end of the stream raises PipeClosedError (109), but a read of all returns what there was. `timeout` is for
        each wait. Cancelled, or out of time, what it has read so far is there for the next read. Raises as readinto
        does.
        """
        check_timeout(timeout)
        if size >= 0:
            return await self._read_some(size, timeout)
        parts = []
        try:
            while True:
                parts.append(await self._read_some(_READ_SIZE, timeout))
        except BaseException as error:
            if not isinstance(error, PipeClosedError) or error.winerror != WinError.BROKEN_PIPE:
                self._kept = b"".join(parts) + self._kept
                raise
        return b"".join(parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces of the stream, as they come, until its end."""
        while True:
            try:
                piece = await self._read_some(_READ_SIZE, None)
            except PipeClosedError as error:
                if error.winerror != WinError.BROKEN_PIPE:
                    raise
                return
            yield piece


def pipe_of(
    handle: _engine.PolledHandle, loop: Loop, *, message_mode: bool, instances: int = 0
) -> MessagePipe | StreamPipe:
    """Return the public pipe of a connected handle."""
    kind = MessagePipe if message_mode else StreamPipe
    return kind(handle, loop, instances=instances)
