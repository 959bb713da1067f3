"""The engine's pipes on an event loop: its handles, which never wait, as the public classes."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import inspect
import warnings
from typing import TYPE_CHECKING, Any

from npipe import binding
from npipe._display import Traits
from npipe.async_pipe import READ_SIZE, MessagePipe, StreamPipe
from npipe.errors import PipeClosedError, PipeError, WinError
from npipe.observing import closing, tell_closed
from npipe.options import (
    PIPE_READMODE_MESSAGE,
    PIPE_TYPE_MESSAGE,
    PIPE_UNLIMITED_INSTANCES,
    Peek,
    Peer,
    PipeInfo,
    deadline_of,
    direction_name,
    message_size,
    mode_name,
    peek_size,
)
from npipe.peers import NOBODY_HERE
from npipe.pipe import CLOSE_TIMEOUT, peer_of
from npipe.reasons import NOT_ACROSS_FORK, closed_by_fork, closed_here
from npipe.transports.local.reports import pipe_stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._buffers import ReadableBuffer
    from npipe.figures import PipeStats
    from npipe.loops.base import Loop, Waker

__all__ = ["LocalAsyncMessagePipe", "LocalAsyncStreamPipe", "pipe_of"]


class _Ending(binding.LoopPipe):
    """What the two pipe classes share beside the engine's calls: everything that is not hot."""

    _has_transport = False

    def __init__(
        self, handle: binding.PolledHandle, loop: Loop, waker: Waker | binding.LoopWaker, *, instances: int = 0
    ) -> None:
        self._set_up(handle, loop, waker)
        self._writes: list[binding.PendingWrite] = []  # those that a task waits for, and those that go on by themselves
        self._instances = instances  # when a client opened it
        self._on_close: Callable[[binding.PolledHandle, bool], None] | None = None
        self._why: str | None = None  # why it was closed, when nobody has asked for that

    def _when_closed(self, on_close: Callable[[binding.PolledHandle, bool], None]) -> None:
        """Set what is called, once, before the handle is closed: with it, and whether to discard."""
        self._on_close = on_close

    @property
    def name(self) -> str:
        """See Pipe.name."""
        return self._handle.name

    @property
    def closed(self) -> bool:
        """See Pipe.closed."""
        return self._handle.closed

    def peek(self, size: int = 0) -> Peek:
        """See Pipe.peek."""
        size = peek_size(size)
        if self._handle.drops and not self._handle.drop_now():
            return Peek(b"", 0, 0)
        kept = self._kept or b""
        try:
            data, available, left = self._handle.peek_pipe(max(0, size - len(kept)))
        except PipeClosedError as error:
            if not kept or self.closed or error.winerror != WinError.BROKEN_PIPE:
                raise
            data, available, left = b"", 0, 0  # what is kept is all that is left
        left = left if self._handle.describe()[1] == PIPE_TYPE_MESSAGE else 0
        return Peek(bytes(kept[:size]) + data, len(kept) + available, left)

    def _look(self) -> None:
        """See Pipe._look."""
        self._handle.look()

    def _has_unread(self) -> bool:
        """See Pipe._has_unread."""
        return bool(self._kept) or self._handle.has_unread()

    def _traits(self) -> Traits | None:
        """See Pipe._traits."""
        try:
            server, kind, direction, *_ = self._handle.describe()
        except PipeError:
            return None
        try:
            pid: int | None = self._handle.peer_credentials()[0]
        except PipeError:
            pid = None
        return Traits(bool(server), direction_name(direction), kind == PIPE_TYPE_MESSAGE, pid)

    @property
    def peer(self) -> Peer:
        """See Pipe.peer."""
        pid, uid = self._handle.peer_credentials()
        return peer_of(pid, uid, self._handle.remote() if uid == NOBODY_HERE else None)

    @property
    def stats(self) -> PipeStats:
        """See Pipe.stats."""
        return pipe_stats(self._handle)

    @property
    def info(self) -> PipeInfo:
        """See Pipe.info."""
        if self._handle.closed:
            why = closed_by_fork if self._handle.forked else closed_here
            raise why(self.name, "asking for the pipe's attributes", code=WinError.INVALID_HANDLE)
        server, kind, direction, modes, in_size, out_size, maximum = self._handle.describe()
        return PipeInfo(
            name=self.name,
            type=mode_name(kind),
            read_mode=mode_name(modes & PIPE_READMODE_MESSAGE),
            direction=direction_name(direction),
            is_server=bool(server),
            in_buffer_size=in_size,
            out_buffer_size=out_size,
            max_instances=None if maximum == PIPE_UNLIMITED_INSTANCES else maximum,
            instances=self._handle.count_instances() if server else self._instances,
        )

    # ---- Writing

    def _explained(self, error: PipeClosedError) -> PipeClosedError:
        """Return the error, with what is known of why the pipe was closed."""
        if self._why is not None:
            return PipeClosedError(WinError.BROKEN_PIPE, self.name, error.doing, self._why)
        if error.winerror == WinError.BROKEN_PIPE and self._handle.closed and error.detail != NOT_ACROSS_FORK:
            return closed_here(self.name, error.doing)
        return error

    def _begin_write(self, data: ReadableBuffer) -> binding.PendingWrite | None:
        """Begin a write; one that is pending is remembered until it is over."""
        if self._writes:
            self._writes = [write for write in self._writes if not _is_over(write)]
        pending = self._handle.begin_write(data)
        if pending is not None:
            self._writes.append(pending)
        return pending

    def _forget(self, pending: binding.PendingWrite) -> None:
        if pending in self._writes:
            self._writes.remove(pending)

    def _withdraw(self, pending: binding.PendingWrite) -> str:
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
        """See Pipe.close."""
        deadline = deadline_of(timeout)
        try:
            while not self._handle.closed and not self._handle.all_written():
                if not await self._next_wake(deadline):
                    break
        finally:
            self._end(discard=False)

    def _end(self, *, discard: bool) -> None:
        handle = self._handle
        if handle.closed:
            return
        known = closing(self)
        for write in self._writes:
            write.leave(discard)
        self._writes = []
        self._waker.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(handle, discard)
        handle.close_handle(discard, 0.0)
        if known is not None:
            tell_closed(self, known)

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        if self._waker is not None and not self._handle.closed:
            if not self._has_transport:  # which warns itself
                _warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self._end(discard=False)


def _is_over(write: binding.PendingWrite) -> bool:
    try:
        return write.step()
    except PipeClosedError:
        return True


class LocalAsyncMessagePipe(binding.LoopMessagePipe, _Ending, MessagePipe):
    """A message pipe of this machine. The engine's class comes first: its calls cost no frame of Python's."""

    @property
    def max_message_size(self) -> int:
        """See MessagePipe.max_message_size."""
        return self._handle.max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        self._handle.max_message_size = message_size(size)

    @property
    def more_data(self) -> bool:
        """See MessagePipe.more_data."""
        return self._handle.rest_of_message() > 0 and not self._handle.drops


binding.LoopMessagePipe.recv.__signature__ = inspect.signature(MessagePipe.recv)  # type: ignore[attr-defined]


class LocalAsyncStreamPipe(binding.LoopStreamPipe, _Ending, StreamPipe):
    """A byte pipe of this machine, or a message pipe read as bytes."""

    async def _read_all(self, timeout: float | None) -> bytes:
        data, self._kept = self._kept or bytearray(), None
        piece = b""  # until it is in `data`
        try:
            try:
                while piece := await self._read_some(READ_SIZE, timeout):
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

    def _is_message_type(self) -> bool:
        """See StreamPipe._is_message_type."""
        return self._handle.describe()[1] == PIPE_TYPE_MESSAGE


def pipe_of(
    handle: binding.PolledHandle,
    loop: Loop,
    waker: Waker | binding.LoopWaker,
    *,
    message_mode: bool,
    instances: int = 0,
) -> LocalAsyncMessagePipe | LocalAsyncStreamPipe:
    """Return the public pipe of a connected handle."""
    kind = LocalAsyncMessagePipe if message_mode else LocalAsyncStreamPipe
    return kind(handle, loop, waker, instances=instances)
