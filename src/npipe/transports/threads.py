"""Any blocking transport, awaitable: its calls are made in threads.

What a thread has begun cannot be taken back. So a call that is cancelled goes on in its thread, and

- what a read gets is kept for the next read: the cancelled one has consumed nothing;
- a write that has begun is written as a whole, and `close` waits for it; one that has not begun is not written;
- a connect and a wait end at once where the transport can be stopped (StoppableTransport), else with their time-outs,
  as a flush does; a pipe that is opened then is closed at once.

Time-outs are those of the blocking calls, and as exact.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from npipe import async_pipe
from npipe._buffers import content_of, contents_of, room_of, scattered
from npipe.errors import (
    PipeClosedError,
    PipeError,
    PipeMessageTooLargeError,
    PipeStateError,
    PipeTimeoutError,
    WinError,
    does_not_fit,
    reply_owed,
    unanswered,
)
from npipe.loops.current import current
from npipe.loops.worker import Call, Worker
from npipe.observing import carried
from npipe.options import Peek, check_timeout, deadline_of, flag, peek_size, refuse_position, time_left
from npipe.pipe import CLOSE_TIMEOUT, MessagePipe, StreamPipe
from npipe.reasons import being_read, closed_here, other_loop, still_reserved, too_large, unread
from npipe.transports.listening import Listening
from npipe.transports.stopping import Stop, StoppableTransport
from npipe.views import AsyncCopiedReservation, AsyncCopiedView, has_reserved, this_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._buffers import ReadableBuffer, WriteableBuffer
    from npipe._display import Traits
    from npipe.figures import PipeStats
    from npipe.loops.base import Loop
    from npipe.names import PipeName
    from npipe.options import CreateOptions, Peer, PipeInfo
    from npipe.transports.base import ServerEnd, Transport
    from npipe.views import AsyncMessageView, AsyncReservation

__all__ = ["ThreadsInstances", "ThreadsMessagePipe", "ThreadsStreamPipe", "ThreadsTransport"]

T = TypeVar("T")

# ---- Pipes


class _Threaded:
    """What the two pipe classes share."""

    _has_transport = False
    busy_wait: float = 0.0
    """Without effect here."""

    def __init__(self, loop: Loop, pipe: MessagePipe | StreamPipe) -> None:
        self._loop = loop
        self._any = pipe
        self._read_worker, self._write_worker = Worker(loop), Worker(loop)
        self._reading = False  # a task reads
        self._left_over: Call[tuple[bytes, bool]] | None = None  # the read of a task that was cancelled
        self._writes: set[Call[int]] = set()
        self._ended: Call[None] | None = None
        # What a read has got that was cancelled: of a message, or of the stream.
        self._head: bytes | None = None
        self._unfinished = False  # the rest of that message is still in the pipe

    @property
    def name(self) -> str:
        """See Pipe.name."""
        return self._any.name

    @property
    def closed(self) -> bool:
        """See Pipe.closed."""
        return self._ended is not None or self._any.closed

    @property
    def peer(self) -> Peer:
        """See Pipe.peer."""
        self._check_open("asking for the peer")
        return self._any.peer

    @property
    def stats(self) -> PipeStats:
        """See Pipe.stats."""
        return self._any.stats

    @property
    def info(self) -> PipeInfo:
        """See Pipe.info."""
        self._check_open(None)
        return self._any.info

    def _traits(self) -> Traits | None:
        """See Pipe._traits."""
        return self._any._traits()  # noqa: SLF001 - its own

    def _check_open(self, doing: str | None) -> None:
        if self.closed:
            raise closed_here(self.name, doing, code=WinError.INVALID_HANDLE)

    def _look(self) -> None:
        """See Pipe._look."""
        self._any._look()  # noqa: SLF001 - its own

    def _has_unread(self) -> bool:
        """See Pipe._has_unread."""
        return self._head is not None or self._any._has_unread()  # noqa: SLF001 - its own

    def peek(self, size: int = 0) -> Peek:
        """See Pipe.peek."""
        size = peek_size(size)
        self._check_open("peeking")
        head = self._head
        if head is None:
            try:
                return self._any._peek_here(size)  # noqa: SLF001 - its own
            except PipeStateError as error:
                if error.winerror != WinError.NOT_SUPPORTED or not (self._reading or self._left_over is not None):
                    raise
                return Peek(b"", 0, 0)  # a read waits there, or its thread has what there was and is about to tell
        if isinstance(self._any, MessagePipe) and not self._unfinished:
            data = head[:size]
            return Peek(data, len(head) + self._rest(0).available, len(head) - len(data))
        rest = self._rest(max(0, size - len(head)))
        data = (head + rest.data)[:size]
        left = rest.left + len(head) + len(rest.data) - len(data) if isinstance(self._any, MessagePipe) else rest.left
        return Peek(data, len(head) + rest.available, left)

    def _rest(self, size: int, *, asks: bool = False) -> Peek:
        """Look at what is behind that which is kept; `asks`: also if a host has to be asked, for this is a thread.

        Else that is nothing, but behind a part of a message it raises PipeStateError (50).
        """
        try:
            return self._any.peek(size) if asks else self._any._peek_here(size)  # noqa: SLF001 - its own
        except PipeStateError as error:
            if self._unfinished or error.winerror != WinError.NOT_SUPPORTED:
                raise
            return Peek(b"", 0, 0)
        except PipeClosedError as error:
            if error.winerror != WinError.BROKEN_PIPE:
                raise
            return Peek(b"", 0, 0)

    async def _checked(self, check: Callable[[], bool]) -> bool:
        """See Pipe._checked: where a host is asked, a thread waits for its answer."""
        if not self._any._asks_host:  # noqa: SLF001 - its own
            return check()
        call = self._read_worker.start(check)
        try:
            await call.wait()
        except BaseException:
            call.give_up()
            raise
        return call.result()

    # ---- Reading

    def _check_usable(self, doing: str) -> None:
        """Raise PipeClosedError (6), and PipeStateError (50) on another loop than the pipe's."""
        self._check_open(doing)
        if current().identity is not self._loop.identity:
            raise other_loop(self.name, doing)

    def _begin_reading(self, doing: str) -> None:
        """Be the one task that reads; raises as _check_usable, and PipeStateError (170)."""
        self._check_usable(doing)
        if self._reading:
            raise being_read(self.name)
        self._reading = True

    async def _settle(self, deadline: float | None, doing: str) -> None:
        """Wait for the read of a task that was cancelled; what it gets is kept."""
        if self._left_over is not None and not await self._left_over.wait(deadline):
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, doing)

    async def _get(self, function: Callable[[], tuple[bytes, bool]]) -> tuple[bytes, bool]:
        """Read in the thread: the data, and whether there is more of that message. Cancelled, the data is kept."""
        call = self._read_worker.start(function)
        try:
            await call.wait()
        except BaseException:
            if not call.give_up():
                self._left_over = call
                call.when_over(self._keep)
            raise
        return self._outcome(call, "reading")

    def _keep(self, call: Call[tuple[bytes, bool]]) -> None:
        self._left_over = None
        if not call.failed:  # else the next read finds out itself
            data, self._unfinished = call.result()
            self._head = (self._head or b"") + data

    # ---- Writing

    async def _write(self, function: Callable[[float | None], int], timeout: float | None) -> int:
        deadline = deadline_of(timeout)
        self._check_usable("writing")
        stands_behind_others = bool(self._writes)
        call = self._write_worker.start(lambda: function(time_left(deadline)))
        self._writes.add(call)
        call.when_over(self._writes.discard)
        try:
            # Until it has begun: then the time-out is the blocking call's, which tries once also when that is 0.
            in_time = await call.wait(deadline if stands_behind_others else None)
            if not in_time and not call.give_up():
                in_time = await call.wait()
        except BaseException:
            if call.give_up():
                self._writes.discard(call)
            raise
        if not in_time:
            self._writes.discard(call)
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "writing")
        return self._outcome(call, "writing")

    async def _all_written(self, deadline: float | None) -> bool:
        for call in list(self._writes):
            if not await call.wait(deadline):
                return False
        return True

    async def flush(self, *, timeout: float | None = None) -> None:
        """See Pipe.flush."""
        deadline = deadline_of(timeout)
        self._check_usable("flushing")
        if not await self._all_written(deadline):
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "flushing")
        pipe = self._any
        call = Worker(self._loop).start(lambda: pipe.flush(timeout=time_left(deadline)))
        await call.wait()
        self._outcome(call, "flushing")

    def _outcome(self, call: Call[T], doing: str) -> T:
        """Return what a call has ended with. One that had not begun when the pipe was closed ends as those that had."""
        try:
            return call.result()
        except PipeClosedError as error:
            if self._ended is None or error.winerror != WinError.INVALID_HANDLE:
                raise
            raise closed_here(self.name, doing) from None

    # ---- Ending

    async def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """See Pipe.close."""
        deadline = deadline_of(timeout)
        try:
            if not self.closed:
                await self._all_written(deadline)
        finally:
            self._end(discard=False)
        if self._ended is not None:
            await self._ended.wait()

    def _end(self, *, discard: bool) -> None:
        if self._ended is not None:
            return
        pipe = self._any
        # Calls that wait in other threads end with 109. The peer is to know of an abort when this returns.
        if discard:
            self._ended = Call(self._loop, pipe.abort)
            self._ended.run()
        else:
            self._ended = Worker(self._loop).start(lambda: pipe.close(timeout=0))

    def fileno(self) -> NoReturn:
        """See Pipe.fileno."""
        detail = "a pipe of npipe.aio has none, as its event loop waits for it"
        raise PipeStateError(WinError.NOT_SUPPORTED, self.name, "asking for a descriptor", detail)

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        if hasattr(self, "_ended") and not self.closed:
            if not self._has_transport:  # which warns itself
                _warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self._end(discard=False)


class ThreadsMessagePipe(_Threaded, async_pipe.MessagePipe):
    """A message pipe whose calls are made in threads."""

    _doing = "receiving a message"

    def __init__(self, loop: Loop, pipe: MessagePipe) -> None:
        super().__init__(loop, pipe)
        self._pipe = pipe
        self._partial = False  # the caller has had a part of the message
        self._reservers: list[tuple[object, object]] = []  # see npipe.views
        self._viewer: object = None  # the key of the view that is out (npipe.views), whose message _head is
        self._viewing = False  # the read that goes on is a view's: what it finds is not delivered
        self._asked = False  # a transaction was cancelled whose answer has not been delivered since
        self._asker: object = None  # what may still tell that its request was not sent after all
        self._dropping = False  # the next message is the rest of an answer that is being dropped
        self._left = 0  # bytes of that rest
        self._transaction: Call[tuple[bytes, bool]] | None = None  # that one, if its thread goes on

    @property
    def _owed(self) -> int:
        return int(self._asked or self._pipe._owed > 0)  # noqa: SLF001

    def peek(self, size: int = 0) -> Peek:
        """See Pipe.peek."""
        size = peek_size(size)
        if self._dropping and not self.closed and not self._drop_now():
            return Peek(b"", 0, 0)
        if self._viewer is None:
            return super().peek(size)
        self._check_open("peeking")
        self._rest(0)
        return Peek(b"", 0, 0)  # as while a read waits

    def _has_unread(self) -> bool:
        """See Pipe._has_unread."""
        return self._viewer is None and super()._has_unread()

    def _keep(self, call: Call[tuple[bytes, bool]]) -> None:
        super()._keep(call)
        if call is self._transaction:
            self._transaction = None
            if call.failed:
                self._asked = False  # the blocking pipe knows whether it is owed something

    @property
    def max_message_size(self) -> int:
        """See MessagePipe.max_message_size."""
        return self._pipe.max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        self._pipe.max_message_size = size

    async def send(self, data: ReadableBuffer, *more: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send. Cancelled, all of it is sent if its thread had begun with it, and else nothing."""
        await self.send_parts(data, *more, timeout=timeout)

    async def send_parts(self, *parts: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send_parts. Cancelled, it is as `send` is."""
        self._check_writer("writing")
        check_timeout(timeout)
        pipe, content = self._pipe, contents_of(parts)

        def send(left: float | None) -> int:
            pipe.send(content, timeout=left)
            return len(content)

        await self._write(send, timeout)

    def reserve(self, nbytes: int, *, timeout: float | None = None) -> AsyncReservation:
        """See MessagePipe.reserve: a message is put together elsewhere."""
        return AsyncCopiedReservation(self, nbytes, check_timeout(timeout))

    def recv_view(self, *, timeout: float | None = None, copy: bool = False) -> AsyncMessageView:
        """See MessagePipe.recv_view: of a copy."""
        flag(copy, "copy")
        return AsyncCopiedView(self, check_timeout(timeout))

    def _check_open_for(self, doing: str) -> None:
        if self.closed:
            raise closed_here(self.name, doing, code=WinError.INVALID_HANDLE)
        self._check_writer(doing)

    def _check_writer(self, doing: str) -> None:
        if self._reservers and has_reserved(self._reservers, this_task()):
            raise still_reserved(self.name, doing)

    async def _begin_view(self, key: object, timeout: float | None) -> bytes:
        """See npipe.views.TakesCopies. The turn to read is the view's until it ends."""
        deadline = deadline_of(timeout)
        self._begin_reading(self._doing)
        try:
            self._viewer, self._viewing = key, True
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
        self._begin_reading(self._doing)
        try:
            return await self._message(deadline, self._doing)
        finally:
            self._reading = False

    async def _message(self, deadline: float | None, doing: str) -> bytes:
        pipe = self._pipe
        await self._settle(deadline, doing)
        if self._dropping:
            await self._drop(deadline)
        self._forget_given_up()
        owed = self._owed
        if self._head is None or self._unfinished:
            message, _ = await self._get(lambda: (pipe.recv(timeout=time_left(deadline)), False))
            message = (self._head or b"") + message
        else:
            message = self._head
        if len(message) > pipe.max_message_size:
            self._head, self._unfinished = message, False
            raise too_large(self.name, pipe.max_message_size, len(message))
        if self._viewing:
            self._asked = owed > 0  # the blocking pipe has delivered it
        return self._delivered(message)

    def _delivered(self, message: bytes) -> bytes:
        if self._viewing:
            self._head, self._unfinished = message, False  # it stays until the view ends
            return message
        self._head, self._unfinished, self._partial, self._asked = None, False, False, False
        return message

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
        self._begin_reading(self._doing)
        try:
            if exact:
                message = await self._fitting(len(view), deadline)
                view[: len(message)] = message
                return len(message)
            await self._settle(deadline, self._doing)
            if self._dropping:
                await self._drop(deadline)
            self._forget_given_up()
            size = len(view) - len(self._head or b"")
            if self._head is None or (self._unfinished and size > 0):
                part, unread = await self._get(lambda: self._part(size, deadline))
                self._head = (self._head or b"") + part
            else:
                unread = self._unfinished
            head, self._head, self._unfinished = self._head[: len(view)], self._head[len(view) :] or None, unread
            if self._head is None:
                self._unfinished = False  # the blocking pipe knows how much of the message is left
            self._partial = unread or self._head is not None
            if not self._partial:
                self._asked = False
            view[: len(head)] = head
            return len(head)
        finally:
            self._reading = False

    async def _fitting(self, size: int, deadline: float | None) -> bytes:
        """Return the next message if it has at most `size` bytes."""
        pipe = self._pipe

        def whole(size: int) -> bytes:
            buffer = bytearray(size)
            return bytes(buffer[: pipe.recv_into(buffer, exact=True, timeout=time_left(deadline))])

        await self._settle(deadline, self._doing)
        if self._dropping:
            await self._drop(deadline)
        self._forget_given_up()
        message = self._head or b""
        if self._head is None or (self._unfinished and len(message) <= size):
            room = size - len(message)
            try:
                message += (await self._get(lambda: (whole(room), False)))[0]
            except PipeMessageTooLargeError:
                raise does_not_fit(self.name, size) from None
        if len(message) > size:
            raise does_not_fit(self.name, size)
        return self._delivered(message)

    async def discard_reply(self, *, timeout: float | None = None) -> None:
        """See MessagePipe.discard_reply."""
        deadline = deadline_of(timeout)
        if not self._owed:
            return
        self._begin_reading(self._doing)
        try:
            await self._settle(deadline, self._doing)  # a transaction that was cancelled may get its answer
            if self.closed:
                detail = "it was closed in this process"
                raise PipeClosedError(WinError.BROKEN_PIPE, self.name, self._doing, detail)
            while self._owed:
                await self._drop(deadline)
        finally:
            self._reading = False

    async def _drop(self, deadline: float | None) -> None:
        """Drop the next message, or the rest of the one that is being dropped. The caller reads."""
        more = True
        while more:
            await self._settle(deadline, self._doing)
            if self._head is None and not (self._dropping and self._is_given_up()):
                await self._get_part(deadline)
            left = await self._look_behind() if self._unfinished else 0
            if self._dropping and self._is_another(left):
                self._dropping, self._asked = False, False
                self._pipe._forget_reply()  # noqa: SLF001 - its own
                return
            more = self._unfinished and not self._is_given_up()
            self._head, self._unfinished = None, False
            self._dropping, self._partial = more, False
            self._left = left if more else 0
        self._asked = False

    async def _look_behind(self) -> int:
        """Return what is left of the message of which a part is kept: a look that may have to ask a host.

        Cancelled, the part is kept as it was.
        """
        call = self._read_worker.start(lambda: self._rest(0, asks=True).left)
        try:
            await call.wait()
        except BaseException:
            call.give_up()
            raise
        return self._outcome(call, "reading")

    def _drop_now(self) -> bool:
        """Drop what is there of the message that is being dropped. Whether nothing of it is left."""
        if self._any._asks_host:  # noqa: SLF001 - its own
            return False  # the next read does
        if self._reading or self._left_over is not None:
            return False  # that read drops it
        try:
            while self._dropping:
                if self._is_another(self._rest(0).left if self._unfinished else 0):
                    self._dropping = False
                    self._pipe._forget_reply()  # noqa: SLF001 - its own
                    break
                more = self._unfinished and not self._is_given_up()
                if self._head is None and not self._is_given_up():
                    _, more = self._part_of_answer(time.monotonic())
                self._dropping, self._head, self._unfinished = more, None, False
                self._left = self._rest(0).left if more else 0
        except PipeTimeoutError:
            return False
        self._asked = False
        return True

    def _is_given_up(self) -> bool:
        """Whether the writer of the message that is being dropped has taken its rest back: the next is another one.

        Then nothing is owed any more.
        """
        if self._pipe.more_data:
            return False
        self._pipe._forget_reply()  # noqa: SLF001 - its own
        return True

    def _is_another(self, left: int) -> bool:
        """Whether what is kept is of another message than the one that is being dropped, which was given up meanwhile.

        That one's rest would have had so many bytes as were left of it. `left`: what is left behind what is kept.
        """
        if self._head is None:
            return False
        # Behind the look that found `left`: if it was given up in between, that is of the next one, and this is its
        # part.
        if self._unfinished and not self._pipe.more_data:
            return False
        return len(self._head) + left != self._left

    async def _get_part(self, deadline: float | None) -> None:
        """Read a part of a message into what is kept of it."""
        part, self._unfinished = await self._get(lambda: self._part_of_answer(deadline))
        self._head = part

    def _part(self, size: int, deadline: float | None) -> tuple[bytes, bool]:
        part = bytearray(size)
        count = self._pipe.recv_into(part, timeout=time_left(deadline))
        return bytes(part[:count]), self._pipe.more_data

    def _part_of_answer(self, deadline: float | None) -> tuple[bytes, bool]:
        """Read an answer that is owed or a part of it, and whether it was a part.

        Its writer may give the rest up right behind the read, and then nothing is left of it; but only all of it is not
        owed any more.
        """
        owed = self._pipe._owed  # noqa: SLF001 - its own
        part, more = self._part(async_pipe.READ_SIZE, deadline)
        return part, more or 0 < owed == self._pipe._owed  # noqa: SLF001

    def _forget_given_up(self) -> None:
        """Forget the part that is kept of a message whose writer has taken the rest back since."""
        if self._head is not None and self._unfinished and not self._pipe.more_data:
            self._head, self._unfinished, self._partial = None, False, False

    @property
    def more_data(self) -> bool:
        """See MessagePipe.more_data."""
        return self._partial and self._viewer is None

    async def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes:
        """See MessagePipe.transact."""
        deadline = deadline_of(timeout)
        pipe, content = self._pipe, content_of(data)
        self._check_writer("transacting")
        self._begin_reading("transacting")
        try:
            if self._owed:
                raise reply_owed(self.name, too_long=self._is_too_long())
            if self._head is not None:
                raise unread(self.name)
            if self._left_over is not None:  # which will get the answer
                await self._ask(content, deadline)
                return await self._answer(deadline)
            try:
                return (await self._get(lambda: (pipe.transact(content, timeout=time_left(deadline)), False)))[0]
            except BaseException:
                if self._left_over is not None:
                    self._asked, self._transaction = True, self._left_over
                elif self._head is not None:  # it had its answer in just that moment, which is kept
                    self._asked = True
                raise
        finally:
            self._reading = False

    async def _ask(self, content: bytes, deadline: float | None) -> None:
        """Send a request. One that its thread has begun to send when this is cancelled is sent: an answer is owed."""
        pipe, begun, failed = self._pipe, False, False

        def withdraw() -> None:
            if self._asker is send:  # it was cancelled before this was known, and nothing was asked meanwhile
                self._asked, self._asker = False, None

        def send(left: float | None) -> int:
            nonlocal begun, failed
            begun = True
            try:
                pipe.send(content, timeout=left)
            except PipeError as error:
                if not (isinstance(error, PipeTimeoutError) and error.sent is True):
                    failed = True
                    self._loop.call_from_thread(withdraw)
                raise
            return len(content)

        try:
            await self._write(send, time_left(deadline))
        except PipeTimeoutError as error:
            sent = error.sent is True  # a host has it, whose pipe's server has not taken it yet
            self._asked = self._asked or sent
            raise unanswered(self.name, sent=sent) from None
        except PipeError:
            raise
        except BaseException:
            if begun and not failed:
                self._asked, self._asker = True, send
            raise

    def _is_too_long(self) -> bool:
        """Whether the answer that is owed is known to be longer than max_message_size."""
        if self._asked:
            return self._head is not None and len(self._head) > self._pipe.max_message_size
        return self._pipe._too_long  # noqa: SLF001

    async def _answer(self, deadline: float | None) -> bytes:
        """Return the next message, for a request that has been sent."""
        try:
            return await self._message(deadline, "transacting")
        except PipeClosedError:
            raise
        except BaseException as error:
            self._asked = True
            if isinstance(error, PipeTimeoutError):
                raise unanswered(self.name, sent=True) from None
            raise


class ThreadsStreamPipe(_Threaded, async_pipe.StreamPipe):
    """A pipe that is read as a stream, whose calls are made in threads."""

    _doing = "reading"

    def __init__(self, loop: Loop, pipe: StreamPipe) -> None:
        super().__init__(loop, pipe)
        self._pipe = pipe

    async def write(self, data: ReadableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.write. Cancelled, all of it is written if its thread had begun with it, and else nothing."""
        check_timeout(timeout)
        pipe, content = self._pipe, content_of(data)
        return await self._write(lambda left: pipe.write(content, timeout=left), timeout)

    async def readinto(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.readinto."""
        check_timeout(timeout)
        view = room_of(buffer)
        data = await self._read_some(len(view), timeout)
        view[: len(data)] = data
        return len(data)

    async def _read_some(self, size: int, timeout: float | None) -> bytes:
        deadline = deadline_of(timeout)
        pipe = self._pipe
        self._begin_reading(self._doing)
        try:
            await self._settle(deadline, self._doing)
            if not self._head:
                self._head = None
                return (await self._get(lambda: (pipe.read(size, timeout=time_left(deadline)), False)))[0]
            data, self._head = self._head[:size], self._head[size:] or None
            return data
        finally:
            self._reading = False

    async def _read_all(self, timeout: float | None) -> bytes:
        data = bytearray()
        try:
            try:
                while piece := await self._read_some(async_pipe.READ_SIZE, timeout):
                    data += piece
            except PipeClosedError as error:
                if error.winerror != WinError.BROKEN_PIPE or self.closed:
                    raise
            return bytes(data)
        except BaseException:
            self._head = bytes(data) + (self._head or b"") or None
            raise

    def _write_now(self, data: bytes) -> int:
        """See StreamPipe._write_now: here it is told later."""
        del data
        return -1

    def _is_message_type(self) -> bool:
        """See StreamPipe._is_message_type."""
        return self.info.type == "message"


def _pipe_of(loop: Loop, pipe: MessagePipe | StreamPipe) -> ThreadsMessagePipe | ThreadsStreamPipe:
    return ThreadsMessagePipe(loop, pipe) if isinstance(pipe, MessagePipe) else ThreadsStreamPipe(loop, pipe)


# ---- Instances


class ThreadsInstances:
    """See AsyncInstances. A thread waits for the next client, and another one makes the instance after it."""

    def __init__(
        self,
        transport: Transport,
        name: PipeName,
        options: CreateOptions,
        *,
        first_instance: bool,
        on_client: Callable[[], object],
    ) -> None:
        self._loop = current()
        self._transport = transport
        self._name = name
        self._options = options
        self._on_client = on_client
        self._waiters = self._loop.waiters()
        self._worker = Worker(self._loop)
        self._coming: Call[ServerEnd] | None = None  # waits for a client
        self._opening: Call[MessagePipe | StreamPipe] | None = None  # makes the next instance, and the client's pipe
        self._listening = Listening(transport, name, options, first_instance=first_instance)
        _all.add(self)

    @property
    def closed(self) -> bool:
        """See AsyncInstances.closed."""
        return self._listening.closed

    def take(self) -> ThreadsMessagePipe | ThreadsStreamPipe | None:
        """See AsyncInstances.take."""
        opening = self._opening
        if opening is not None and opening.over:
            self._opening = None
            return _pipe_of(self._loop, opening.result())
        coming = self._coming
        if opening is None and coming is not None and coming.over:
            self._coming = None
            end = coming.result()
            self._opening = self._worker.start(lambda: self._opened(end))
            self._opening.when_over(self._tell)
        elif opening is None and coming is None:
            self._coming = self._worker.start(self._awaited)
            self._coming.when_over(self._tell)
        return None

    def _tell(self, _: object) -> None:
        if not self.closed:
            self._on_client()
        self._waiters.wake_all()

    async def wait(self, deadline: float | None) -> bool:
        """See AsyncInstances.wait."""
        return await self._waiters.wait(deadline)

    # ---- The threads' part

    def _awaited(self) -> ServerEnd:
        """Wait for a client; return the instance to which it has come."""
        while True:
            seen = self._transport.instances_closed()
            end = self._listening.get(lambda: None)
            if end is None:
                self._transport.wait_instance_closed(self._name, seen, None)
                continue
            try:
                if not self._listening.connect(end, None):
                    continue
            except PipeClosedError as error:
                if error.winerror != WinError.NO_DATA:
                    if self._listening.is_listening(end):
                        raise
                    continue
                if not end.has_data():
                    self._listening.pass_over(end)
                    continue
            return end

    def _opened(self, end: ServerEnd) -> MessagePipe | StreamPipe:
        """Make the next instance, if that can be done now, and the pipe of a client that has come."""
        return self._listening.take(  # type: ignore[return-value]  # there is nobody else who would
            end, lambda one: one.pipe(self._listening.release)
        )

    # ---- Ending

    def close(self) -> None:
        """See AsyncInstances.close."""
        if not self._listening.close():
            return
        if self._opening is not None:
            self._opening.abandon(lambda pipe: pipe.close(timeout=0))
        self._waiters.wake_all()

    def forget(self) -> None:
        """Be closed, without a word to the transport: this is a forked child, and the instances are the parent's."""
        self._listening.forget()


_all: weakref.WeakSet[ThreadsInstances] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for instances in _all:
        instances.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


_SLICE: Final = 1.0
"""Seconds."""


class ThreadsArrival:
    """See AsyncArrival: a thread waits, a second at a time, so that one that is given up ends soon."""

    def __init__(self, transport: Transport, name: PipeName) -> None:
        self._loop = current()
        self._arrival = transport.arrival(name)

    def arm(self) -> None:
        """See AsyncArrival.arm."""
        self._arrival.arm()

    async def wait(self, deadline: float | None) -> bool:
        """See AsyncArrival.wait."""
        while True:
            left = time_left(deadline)
            a_while = functools.partial(self._arrival.wait, _SLICE if left is None else min(_SLICE, left))
            call = Worker(self._loop).start(a_while)
            try:
                await call.wait()
            except BaseException:
                call.give_up()
                raise
            if call.result():
                return True
            if left is not None and left <= _SLICE:
                return False

    def close(self) -> None:
        """See AsyncArrival.close."""
        self._arrival.close()


async def _ended(call: Call[Any], let_go: Callable[[], None]) -> None:
    """Wait for the end of a call, or let it go."""
    try:
        await call.wait()
    except GeneratorExit:  # its loop has ended without it: this may be the collector, in any thread, with its locks
        threading.Thread(target=let_go, name="npipe-worker", daemon=True).start()
        raise
    except BaseException:
        let_go()
        raise


class ThreadsTransport:
    """See AsyncTransport: one over a blocking transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def connect(
        self, name: PipeName, *, message_mode: bool, access: int, timeout: float | None, verify_owner: bool
    ) -> ThreadsMessagePipe | ThreadsStreamPipe:
        """See AsyncTransport.connect."""
        loop = current()
        stop, transport = self._stoppable()
        call = Worker(loop).start(
            carried(
                lambda: transport.connect(
                    name, message_mode=message_mode, access=access, timeout=timeout, verify_owner=verify_owner
                )
            )
        )

        def let_go() -> None:
            call.abandon(lambda pipe: pipe.abort())
            stop.set()

        await _ended(call, let_go)
        return _pipe_of(loop, call.result())

    def _stoppable(self) -> tuple[Stop, Transport]:
        """Return the transport, and what ends a call of it (at its time-out, where the transport has no other end)."""
        stop, transport = Stop(), self._transport
        return stop, transport.until(stop) if isinstance(transport, StoppableTransport) else transport

    def listen(
        self, name: PipeName, options: CreateOptions, *, first_instance: bool, on_client: Callable[[], object]
    ) -> ThreadsInstances:
        """See AsyncTransport.listen."""
        return ThreadsInstances(self._transport, name, options, first_instance=first_instance, on_client=on_client)

    async def wait(self, name: PipeName, timeout: float | None, *, use_default: bool) -> None:
        """See AsyncTransport.wait."""
        stop, transport = self._stoppable()
        call = Worker(current()).start(carried(lambda: transport.wait(name, timeout, use_default=use_default)))

        def let_go() -> None:
            call.give_up()
            stop.set()

        await _ended(call, let_go)
        call.result()

    def arrival(self, name: PipeName) -> ThreadsArrival:
        """See AsyncTransport.arrival."""
        return ThreadsArrival(self._transport, name)
