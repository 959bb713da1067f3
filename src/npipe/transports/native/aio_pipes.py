"""Connected pipes of this machine on Windows, on the Proactor loop, as the public classes."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import asyncio
import time
import warnings
from typing import TYPE_CHECKING, Any, Final, NoReturn

import win32file

from npipe._buffers import room_of, scattered
from npipe.async_pipe import READ_SIZE, MessagePipe, StreamPipe
from npipe.errors import (
    PipeClosedError,
    PipeMessageTooLargeError,
    PipeStateError,
    PipeTimeoutError,
    WinError,
    does_not_fit,
    reply_owed,
    short_write,
    unanswered,
)
from npipe.observing import Event, active, tell
from npipe.options import ACCESS_WRITE, check_timeout, deadline_of, flag, refuse_position, time_left
from npipe.pipe import CLOSE_TIMEOUT
from npipe.reasons import End, being_read, closed_here, explain, still_reserved, too_large, unread
from npipe.transports.native.handles import bytes_of, close_file, joined
from npipe.transports.native.pipes import Described, LongestMessage
from npipe.views import AsyncCopiedReservation, AsyncCopiedView, has_reserved, this_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._buffers import ReadableBuffer, WriteableBuffer
    from npipe.options import CreateOptions
    from npipe.transports.native.proactor import Operation, ProactorFile
    from npipe.views import AsyncMessageView, AsyncReservation

__all__ = ["NativeAsyncMessagePipe", "NativeAsyncStreamPipe", "flushed", "pipe_of"]

_NOTHING: Final = memoryview(bytearray())


class _Native(Described):
    """What the two pipe classes share.

    What a peer had read of a cancelled write by then, Windows does not tell.
    """

    _file: ProactorFile

    _has_transport = False
    busy_wait: float = 0.0
    """Without effect on Windows, where a read has no ring to look at."""

    def __init__(
        self, file: ProactorFile, *, access: int, direction: int, is_server: bool, options: CreateOptions | None = None
    ) -> None:
        self._file = file
        self._access = access
        self._direction = direction
        self._is_server = is_server
        self._options = options
        file.end_is = End(is_server, direction, access)
        self._reading = False
        self._on_close: Callable[[ProactorFile, bool], None] | None = None
        self._begin_trace()

    def _when_closed(self, on_close: Callable[[ProactorFile, bool], None]) -> None:
        """Set what is called, once, before the handle is closed: with it, and whether to discard."""
        self._on_close = on_close

    # ---- Reading and writing

    def _begin_reading(self) -> None:
        """Be the one task that reads; raises PipeClosedError (6) and PipeStateError (170)."""
        self._file.check_open(self._doing)
        if self._reading:
            raise being_read(self.name)
        self._reading = True

    async def _read(self, view: memoryview, deadline: float | None, doing: str | None = None) -> tuple[int, int]:
        """ReadFile, by the one task that reads."""
        doing, tap = doing or self._doing, self._tap

        def keep(code: int, count: int) -> None:
            self._keep(view[:count], unfinished=code == WinError.MORE_DATA)
            if tap is not None:
                tap.read(view[:count], more=code == WinError.MORE_DATA)

        try:
            operation = self._file.start(lambda overlapped, handle: overlapped.ReadFileInto(handle, view), doing)
            code, count = await self._file.finish(operation, deadline, doing, keep)
        except BaseException as error:
            self._tell_failed(error)
            raise
        if tap is not None:
            tap.read(view[:count], more=code == WinError.MORE_DATA)
        return code, count

    def _start_write(self, data: ReadableBuffer) -> Operation:
        content = bytes_of(data)
        try:
            operation = self._file.start(lambda overlapped, handle: overlapped.WriteFile(handle, content), "writing")
        except BaseException as error:
            self._tell_failed(error, content)
            raise
        if not operation.over:
            self._file.writes.add(operation)
            operation.future.add_done_callback(lambda _: self._file.writes.discard(operation))
        return operation

    async def _write(self, data: ReadableBuffer, timeout: float | None) -> int:
        """WriteFile; the number of bytes, which with PIPE_NOWAIT may be fewer than there are (SEMANTICS §6.2)."""
        deadline, tap = deadline_of(timeout), self._tap
        await self._file.turn()
        operation = self._start_write(data)
        if tap is None:
            return (await self._file.finish(operation, deadline, "writing"))[1]
        content = bytes_of(data)
        done = False

        def has_succeeded(_code: int, count: int) -> None:  # cancelled, and yet
            nonlocal done
            done = True
            tap.wrote(content, count=count)

        try:
            count = (await self._file.finish(operation, deadline, "writing", has_succeeded))[1]
        except BaseException as error:
            self._tell_failed(error, *(() if done else (content,)))
            raise
        tap.wrote(content, count=count)
        return count

    async def flush(self, *, timeout: float | None = None) -> None:
        """See Pipe.flush. Windows has no overlapped form of it, so a thread waits."""
        deadline = deadline_of(timeout)
        self._file.check_open("flushing")
        if not self._access & ACCESS_WRITE:
            raise explain(WinError.ACCESS_DENIED, self.name, "flushing", self._file.end_is)
        code = await flushed(self._file, deadline)
        if code is None:
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "flushing")
        if code and self.closed:
            raise closed_here(self.name, "flushing")
        if code:
            raise explain(code, self.name, "flushing", self._file.end_is)

    # ---- Ending

    async def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """See Pipe.close."""
        deadline = deadline_of(timeout)
        try:
            while not self.closed and self._file.writes:
                writes = [write.future for write in self._file.writes]
                done, _ = await asyncio.wait(writes, timeout=time_left(deadline))
                if not done:
                    break
        finally:
            self._end(discard=False)

    def fileno(self) -> NoReturn:
        """See Pipe.fileno."""
        detail = "a pipe of npipe.aio has none, as its event loop waits for it"
        raise PipeStateError(WinError.NOT_SUPPORTED, self.name, "asking for a descriptor", detail)

    def _end(self, *, discard: bool) -> None:
        if not self._file.end():
            return
        for thread in list(self._file.threads):
            thread.end()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self._file, discard)
        close_file(self._file, discard=discard and self._is_server)
        if self._tap is not None:
            self._tap.closed()
        if active():
            tell(Event("closed", self.name, is_server=self._is_server))

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        if hasattr(self, "_on_close") and not self.closed:
            if not self._has_transport:  # which warns itself
                _warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self._end(discard=False)


async def flushed(file: ProactorFile, deadline: float | None) -> int | None:
    """FlushFileBuffers: its code, or None when the deadline came first."""
    handle = file.handle
    return await file.loop.in_thread(lambda: win32file.FlushFileBuffers(handle), deadline, threads=file.threads)


class NativeAsyncMessagePipe(LongestMessage, _Native, MessagePipe):
    """A message pipe of this machine."""

    def __init__(
        self, file: ProactorFile, *, access: int, direction: int, is_server: bool, options: CreateOptions | None = None
    ) -> None:
        super().__init__(file, access=access, direction=direction, is_server=is_server, options=options)
        self._reservers: list[tuple[object, object]] = []  # see npipe.views

    def _check_open_for(self, doing: str) -> None:
        self._file.check_open(doing)
        if not self._access & ACCESS_WRITE:
            raise explain(WinError.ACCESS_DENIED, self.name, doing, self._file.end_is)
        self._check_writer(doing)

    def _check_writer(self, doing: str) -> None:
        if self._reservers and has_reserved(self._reservers, this_task()):
            raise still_reserved(self.name, doing)

    async def send(self, data: ReadableBuffer, *more: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send.

        Cancelled, or out of time, nothing of it is sent, or all if that was so in just that moment. A peer that had
        read a part of it by then does not get the rest; `recv` drops such a part.
        """
        await self.send_parts(data, *more, timeout=timeout)

    async def send_parts(self, *parts: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send_parts."""
        self._check_writer("writing")
        content = joined(parts)
        count = await self._write(content, timeout)
        if count != len(content):
            raise short_write(self.name, count, len(content))

    def reserve(self, nbytes: int, *, timeout: float | None = None) -> AsyncReservation:
        """See MessagePipe.reserve: a message is put together elsewhere, as kernel32 has nothing of the kind."""
        return AsyncCopiedReservation(self, nbytes, check_timeout(timeout))

    def recv_view(self, *, timeout: float | None = None, copy: bool = False) -> AsyncMessageView:
        """See MessagePipe.recv_view: of a copy."""
        flag(copy, "copy")
        return AsyncCopiedView(self, check_timeout(timeout))

    async def _begin_view(self, key: object, timeout: float | None) -> bytes:
        """See npipe.views.TakesCopies. The turn to read is the view's until it ends."""
        deadline = deadline_of(timeout)
        self._begin_reading()
        try:
            self._viewer, self._viewing = key, True
            await self._file.turn()
            return await self._message(deadline, self._doing)
        except BaseException:
            self._end_view(key, consumed=False)
            raise
        finally:
            self._viewing = False

    def _end_view(self, key: object, *, consumed: bool) -> None:
        if self._viewer is not key:
            return
        self._viewing = False
        if consumed:
            self._delivered(b"")
        self._viewer = None
        self._reading = False

    async def recv(self, *positional: object, timeout: float | None = None) -> bytes:
        """See MessagePipe.recv."""
        if positional:
            refuse_position(positional)
        deadline = deadline_of(timeout)
        self._begin_reading()
        try:
            await self._file.turn()
            return await self._message(deadline, self._doing)
        finally:
            self._reading = False

    async def _message(self, deadline: float | None, doing: str, most: int | None = None) -> bytes:
        """See NativeMessagePipe._message."""
        if self._dropping:
            await self._drop(deadline)
        while self._head is None:
            code, _ = await self._read(_NOTHING, deadline, doing)
            if code == WinError.SUCCESS:
                return self._delivered(b"")
            message = self._whole(doing, most)
            if message is not None:
                return message
            if deadline is not None and time.monotonic() >= deadline:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, doing)
        message = self._rest(doing, most)
        return await self._message(deadline, doing, most) if message is None else message

    def _delivered(self, message: bytes) -> bytes:
        if self._viewing:
            self._head, self._unfinished = message, False  # it stays until the view ends
            return message
        self._head, self._unfinished, self._partial = None, False, False
        self._has_delivered()
        return message

    def _read_now(self, view: memoryview, doing: str, left: int | None = None) -> tuple[int, int]:
        """Read what is there, without a wait; 995 when it is not there any more.

        `left`: so many bytes of a message that has begun were there.
        """
        try:
            operation = self._file.start(lambda overlapped, handle: overlapped.ReadFileInto(handle, view), doing)
            code, count = operation.result() if operation.over else operation.settle()
            if code not in (WinError.SUCCESS, WinError.MORE_DATA, WinError.OPERATION_ABORTED):
                raise explain(code, self.name, doing, self._file.end_is)  # noqa: TRY301
        except BaseException as error:
            self._tell_failed(error)
            raise
        if self._tap is not None:
            if code == WinError.OPERATION_ABORTED and left is not None:
                self._tap.broke_off()
            elif code != WinError.OPERATION_ABORTED:
                self._tap.read(view[:count], more=code == WinError.MORE_DATA, rest=left)
        return code, count

    def _whole(self, doing: str, most: int | None) -> bytes | None:
        """Read the message that is there; None when its writer has given it up meanwhile: it was not sent."""
        size = self._peek(0)[3]
        limit = self._most if most is None else most
        if size > limit:
            raise too_large(self.name, limit, size)
        if not size:
            return None
        view = self._room_for(size)
        code, count = self._read_now(view, doing)
        self._gives_up |= count != size
        if code == WinError.SUCCESS:
            return self._delivered(self._copied(view[:count]))
        if code == WinError.OPERATION_ABORTED:
            return None
        self._keep(view[:count], unfinished=True)  # another one by now, which is longer
        return self._rest(doing, most)

    def _rest(self, doing: str, most: int | None) -> bytes | None:
        """Return the message that _head is the beginning of; None when its writer has given up the rest."""
        left = self._peek(0)[3] if self._unfinished else 0
        head = self._head or b""
        limit = self._most if most is None else most
        if len(head) + left > limit:
            raise too_large(self.name, limit, len(head) + left)
        if not self._unfinished:
            return self._delivered(bytes(head))
        if not left:
            self._head, self._unfinished, self._gives_up = None, False, True
            if self._tap is not None:
                self._tap.broke_off()
            return None
        message = memoryview(bytearray(len(head) + left))
        message[: len(head)] = head
        rest = message[len(head) :]
        code, count = self._read_now(rest, doing, left)
        self._gives_up |= count != left
        if code == WinError.SUCCESS:
            # A shorter one is another message.
            return self._delivered(self._copied(message if count == left else rest[:count]))
        if code == WinError.MORE_DATA:
            self._keep_rest(rest[:count], left, code)
        else:
            self._head, self._unfinished = None, False
        return None

    async def recv_into(
        self, buffer: WriteableBuffer, *more: WriteableBuffer, exact: bool = False, timeout: float | None = None
    ) -> int:
        """See MessagePipe.recv_into."""
        if more:
            rooms = [room_of(part) for part in (buffer, *more)]
            room = memoryview(bytearray(sum(map(len, rooms))))
            return scattered(room[: await self.recv_into(room, exact=exact, timeout=timeout)], rooms)
        deadline = deadline_of(timeout)
        view = room_of(buffer)
        exact = flag(exact, "exact")
        self._begin_reading()
        try:
            await self._file.turn()
            if exact:
                try:
                    message = await self._message(deadline, self._doing, len(view))
                except PipeMessageTooLargeError:
                    raise does_not_fit(self.name, len(view)) from None
                view[: len(message)] = message
                return len(message)
            if self._dropping:
                await self._drop(deadline)
            return await self._read_part(view, deadline)
        finally:
            self._reading = False

    async def _read_part(self, view: memoryview, deadline: float | None) -> int:
        """Read the next message, or a part of it."""
        taken, over = self._take_head(view)
        if over:
            return taken
        code, count = await self._read(view[taken:], deadline)
        self._has_read(code, taken + count)
        return taken + count

    async def discard_reply(self, *, timeout: float | None = None) -> None:
        """See MessagePipe.discard_reply."""
        deadline = deadline_of(timeout)
        if not self._owed:
            return
        self._begin_reading()
        try:
            await self._file.turn()
            while self._owed:
                await self._drop(deadline)
        finally:
            self._reading = False

    def _has_unread(self) -> bool:
        """See Pipe._has_unread. A read of nothing takes an empty message, which is kept (SEMANTICS §5.2)."""
        if self._viewer is not None:
            return False
        if self._head is not None or self._reading or self.peek().available:
            return True
        code, _ = self._read_now(_NOTHING, "peeking")
        if code == WinError.SUCCESS:
            self._keep(b"", unfinished=False)
        return code != WinError.OPERATION_ABORTED

    def _drop_now(self) -> bool:
        scrap = memoryview(bytearray(READ_SIZE))
        while self._dropping and not self._reading:
            taken, over = self._take_head(scrap)
            if not over:
                code, count = self._read_now(scrap[taken:], "peeking")
                if code == WinError.OPERATION_ABORTED:
                    return False
                self._has_read(code, taken + count)
            self._dropping, self._partial = self._partial, False
        return not self._dropping

    async def _drop(self, deadline: float | None) -> None:
        """Drop the next message, or the rest of the one that is being dropped. The caller reads."""
        scrap = memoryview(bytearray(READ_SIZE))
        while True:
            await self._read_part(scrap, deadline)
            self._dropping, self._partial = self._partial, False
            if not self._dropping:
                return

    @property
    def more_data(self) -> bool:
        """See MessagePipe.more_data."""
        return self._partial and self._viewer is None

    async def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes:
        """See MessagePipe.transact."""
        deadline = deadline_of(timeout)
        content = bytes_of(data)
        self._check_writer("transacting")
        self._begin_reading()
        try:
            await self._file.turn()
            if self._owed:
                raise reply_owed(self.name, too_long=self._too_long)
            if self._head is not None or self._peek(0)[2]:
                raise unread(self.name)
            request = self._start_write(content)
            size = len(content)
            if request.over and request.result() != (WinError.SUCCESS, size):  # its peer would not answer it
                raise short_write(self.name, request.result()[1], size)
            if self._tap is not None:
                self._tap.wrote(content)
            try:
                return await self._message(deadline, "transacting")
            except PipeClosedError:
                raise
            except BaseException as error:
                self._owed += 1
                self._too_long = isinstance(error, PipeMessageTooLargeError)
                if isinstance(error, PipeTimeoutError):
                    raise unanswered(self.name, sent=True) from None
                raise
        finally:
            self._reading = False


class NativeAsyncStreamPipe(_Native, StreamPipe):
    """A byte pipe of this machine, or a message pipe read as bytes."""

    _ended = False  # an empty message has been read: the peer has closed for writing alone

    async def write(self, data: ReadableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.write."""
        return await self._write(data, timeout)

    async def readinto(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.readinto."""
        deadline = deadline_of(timeout)
        view = room_of(buffer)
        self._begin_reading()
        try:
            await self._file.turn()
            return await self._read_bytes(view, deadline)
        finally:
            self._reading = False

    async def _read_bytes(self, view: memoryview, deadline: float | None) -> int:
        if self._head is not None:  # of a read that was cancelled
            count = min(len(view), len(self._head))
            view[:count] = self._head[:count]
            self._head = self._head[count:] or None
            return count
        if self._ended:
            return 0
        count = (await self._read(view, deadline))[1]
        self._ended = len(view) > 0 and not count
        return count

    def _write_now(self, data: bytes) -> int:
        """See StreamPipe._write_now: here it is told later."""
        del data
        return -1

    def _is_message_type(self) -> bool:
        """See StreamPipe._is_message_type."""
        return self.info.type == "message"

    async def _read_some(self, size: int, timeout: float | None) -> bytes:
        deadline = deadline_of(timeout)
        self._begin_reading()
        try:
            await self._file.turn()
            view = self._room(size)
            count = await self._read_bytes(view, deadline)
            return self._copied(view[:count])
        finally:
            self._reading = False

    async def _read_all(self, timeout: float | None) -> bytes:
        check_timeout(timeout)
        data, piece = bytearray(), b""  # what was read, and the last of it, until it is in there
        try:
            try:
                while piece := await self._read_some(READ_SIZE, timeout):
                    data += piece
                    piece = b""
            except PipeClosedError as error:
                if error.winerror != WinError.BROKEN_PIPE or self.closed:
                    raise
            return bytes(data)
        except BaseException:
            for part in (piece, data):
                if part:
                    self._head = memoryview(part) if self._head is None else bytes(part) + bytes(self._head)
            raise


def pipe_of(
    file: ProactorFile,
    *,
    message_mode: bool,
    access: int,
    direction: int,
    is_server: bool,
    options: CreateOptions | None = None,
) -> NativeAsyncMessagePipe | NativeAsyncStreamPipe:
    """Return the public pipe of a connected handle."""
    kind = NativeAsyncMessagePipe if message_mode else NativeAsyncStreamPipe
    return kind(file, access=access, direction=direction, is_server=is_server, options=options)
