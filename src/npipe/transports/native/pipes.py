"""Connected pipes of this machine on Windows, as the public classes."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import win32event
import win32file
import win32pipe

from npipe._buffers import room_of, scattered
from npipe._display import Traits
from npipe._tapping import tapped
from npipe.errors import (
    PipeAccessError,
    PipeClosedError,
    PipeError,
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
from npipe.options import (
    ACCESS_WRITE,
    PIPE_READMODE_MESSAGE,
    PIPE_TYPE_MESSAGE,
    PIPE_UNLIMITED_INSTANCES,
    Peek,
    Peer,
    PipeInfo,
    check_timeout,
    deadline_of,
    direction_name,
    flag,
    message_size,
    mode_name,
    peek_size,
    refuse_position,
    time_left,
)
from npipe.pipe import CLOSE_TIMEOUT, MessagePipe, StreamPipe
from npipe.reasons import (
    End,
    being_read_elsewhere,
    closed_here,
    explain,
    still_reserved,
    still_viewed,
    too_large,
    unread,
)
from npipe.transports.native.access import peer_of
from npipe.transports.native.handles import SLICE, File, bytes_of, close_file, joined, own_instances
from npipe.views import CopiedReservation, CopiedView, has_reserved

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._buffers import ReadableBuffer, WriteableBuffer
    from npipe._tapping import Tapped
    from npipe.options import CreateOptions
    from npipe.views import MessageView, Reservation

__all__ = ["READ_SIZE", "Described", "LongestMessage", "NativeMessagePipe", "NativeStreamPipe"]

READ_SIZE: Final = 65536
_MOST_KEPT: Final = 1 << 24  # the largest buffer that a pipe keeps
_NOTHING: Final = memoryview(bytearray())
_ABORTED: Final = 995
_GONE: Final = (WinError.BROKEN_PIPE, WinError.NO_DATA, WinError.PIPE_NOT_CONNECTED)


class Asks(Protocol):
    """A handle that can be asked what does not wait."""

    name: str
    closed: bool

    def ask(self, question: Callable[[Any], Any], doing: str | None = None) -> Any:
        """Make a call that does not wait, and return its result."""


class Described:
    """What a pipe tells of itself, for every face; and what of its data is taken from Windows and not delivered."""

    _file: Asks
    _is_server: bool
    _direction: int
    _doing = "reading"  # for errors
    _of_messages = False  # it is read as messages
    _options: CreateOptions | None = None  # a server's
    _head: bytes | memoryview | None = None  # of a message, or of the stream
    _unfinished = False  # the rest of that message is still in the pipe
    _partial = False  # the caller has had a part of the message
    _owed = 0  # answers of transactions that ended before them, and that no read has taken since
    _too_long = False  # that answer is longer than max_message_size
    _dropping = False  # the next message is the rest of an answer that is being dropped
    _viewer: object = None  # the key of the view that is out (npipe.views), whose message _head is
    _viewing = False  # the read that goes on is a view's: what it finds is not delivered
    _buffer: bytearray | None = None  # for reads; None: to be made
    _longest = READ_SIZE  # of the messages seen
    _gives_up = False  # the writer has given up a message that was seen
    _tap: Tapped | None = None  # who records this process (npipe._tapping)

    @property
    def name(self) -> str:
        """See Pipe.name."""
        return self._file.name

    @property
    def closed(self) -> bool:
        """See Pipe.closed."""
        return self._file.closed

    def _keep(self, data: memoryview | bytes, *, unfinished: bool) -> None:
        """Keep what an interrupted read has taken, behind what is kept already."""
        self._head = bytes(self._head or b"") + bytes(data)
        self._unfinished = unfinished

    def _keep_rest(self, data: memoryview, left: int, code: int) -> None:
        """Keep what a read of the last `left` bytes of the kept message has taken; of another message, that alone."""
        if code == WinError.MORE_DATA or len(data) != left:
            self._head = None
        self._keep(data, unfinished=code == WinError.MORE_DATA)

    def _room(self, size: int) -> memoryview:
        """Return a buffer for a read."""
        kept = min(self._longest, _MOST_KEPT) if self._gives_up else READ_SIZE
        if size > kept:
            return memoryview(bytearray(size))
        if self._buffer is None or len(self._buffer) < kept:
            self._buffer = bytearray(kept)
        return memoryview(self._buffer)[:size]

    def _room_for(self, size: int) -> memoryview:
        """Return a buffer for the message of `size` bytes that is there, or for the one that is there by now.

        A writer that gives a message up puts another one in its place, which may be longer. What is read of that is a
        part then, and if it is given up in the next moment, its rest cannot be told from the message behind it. So once
        a writer has given up what was seen, there is room for the longest message so far.
        """
        self._longest = max(self._longest, size)
        return self._room(max(size, min(self._longest, _MOST_KEPT) if self._gives_up else READ_SIZE))

    def _copied(self, data: memoryview) -> bytes:
        """Return what a read has put into a buffer of _room's; without memory for that the next one does."""
        try:
            return bytes(data)
        except MemoryError:
            self._head, self._unfinished = data, False
            self._buffer = None  # perhaps it is that one
            raise

    def _take_head(self, view: memoryview) -> tuple[int, bool]:
        """Copy what is kept of a message; return the number of bytes, and whether that ends the read.

        If it does not, the rest has to be read behind it, and _head is cleared when that has succeeded.
        """
        if self._head is None:
            return 0, False
        left = self._peek(0)[3] if self._unfinished else 0
        taken = min(len(view), len(self._head))
        view[:taken] = self._head[:taken]
        rest = self._head[taken:]
        if not rest and left > 0 and taken < len(view):
            return taken, False
        self._partial = (len(rest) > 0 or left > 0) and (taken > 0 or self._partial)
        if rest:
            self._head = rest
        else:
            self._head, self._unfinished = None, False  # Windows knows how much of the message is left
            if not left:
                self._has_delivered()
        return taken, True

    def _drop_now(self) -> bool:
        """Drop what is there of the answer that is being dropped. Whether nothing of it is left."""
        raise NotImplementedError

    def _has_delivered(self) -> None:
        """Note that a message has been delivered in full."""
        if self._owed:
            self._owed -= 1
            self._too_long = False

    def _has_read(self, code: int, count: int) -> None:
        """Note the success of a read of a message or its part; `count` is what the caller gets, with what was kept."""
        self._head, self._unfinished = None, False
        # A read of nothing (234 too, when there is a message) has begun with none.
        self._partial = code == WinError.MORE_DATA and (self._partial or count > 0)
        if code == WinError.SUCCESS:
            self._has_delivered()

    def peek(self, size: int = 0) -> Peek:
        """See Pipe.peek."""
        size = peek_size(size)
        if self._dropping and not self.closed and not self._drop_now():
            return Peek(b"", 0, 0)
        head, unfinished, viewed = self._head, self._unfinished, self._viewer is not None
        kept = b"" if head is None or viewed else bytes(head)
        try:
            message, data, available, left = self._peek(max(0, size - len(kept)))
        except PipeClosedError as error:
            if not (kept or viewed) or unfinished or self.closed or error.winerror != WinError.BROKEN_PIPE:
                raise
            message = bool(self._info()[0] & PIPE_TYPE_MESSAGE)
            data, available, left = b"", 0, 0  # that is all that is left
        if viewed:  # as while a read waits
            return Peek(b"", 0, 0)
        if not self._of_messages:
            return Peek((kept + data)[:size], len(kept) + available, left)
        if head is not None and message and not unfinished:
            data = kept[:size]
            return Peek(data, len(kept) + available, len(kept) - len(data))
        total = len(kept) + len(data) + left
        data = (kept + data)[:size]
        return Peek(data, len(kept) + available, total - len(data) if message else 0)

    def _peek(self, size: int) -> tuple[bool, bytes, int, int]:
        data, available, left = self._file.ask(lambda handle: win32pipe.PeekNamedPipe(handle, size), "peeking")
        message = bool(self._info()[0] & PIPE_TYPE_MESSAGE)
        return message, data, available, left if message else 0

    def _info(self) -> tuple[int, int, int, int]:
        information: tuple[int, int, int, int] = self._file.ask(win32pipe.GetNamedPipeInfo)
        return information

    def _traits(self) -> Traits | None:
        """See Pipe._traits."""
        try:
            message_type = bool(self._info()[0] & PIPE_TYPE_MESSAGE)
        except PipeError:  # an outbound server may not ask
            message_type = self._options is not None and self._options.pipe_type == PIPE_TYPE_MESSAGE
        try:
            pid: int | None = self._peer_pid()
        except PipeError:
            pid = None
        return Traits(self._is_server, direction_name(self._direction), message_type, pid)

    def _peer_or_none(self) -> int:
        try:
            return self._peer_pid()
        except PipeError:  # it has gone already
            return 0

    def _begin_trace(self) -> None:
        """Let who records this process know of this connection."""
        self._tap = tapped(self.name, is_server=self._is_server, is_message=self._of_messages, peer=self._peer_or_none)

    def _tell_failed(self, error: BaseException, *written: bytes | memoryview) -> None:
        """Tell who records of a call that has failed: of the write that does not come, and that the peer has gone."""
        if self._tap is None or isinstance(error, MemoryError):
            return
        code = error.winerror if isinstance(error, PipeError) else 0
        if written and code != WinError.INVALID_HANDLE:  # it was not begun
            self._tap.withdrew(*written, code=_ABORTED if code in (0, WinError.SEM_TIMEOUT) else code)
        if code in _GONE and not self.closed:
            self._tap.gone(code)

    def _peer_pid(self) -> int:
        function = win32pipe.GetNamedPipeClientProcessId if self._is_server else win32pipe.GetNamedPipeServerProcessId
        pid: int = self._file.ask(function, "asking for the peer")
        return pid

    @property
    def peer(self) -> Peer:
        """See Pipe.peer."""
        return peer_of(self._peer_pid())

    @property
    def info(self) -> PipeInfo:
        """See Pipe.info."""
        try:
            flags, out_size, in_size, maximum = self._info()
            mode, instances = self._file.ask(win32pipe.GetNamedPipeHandleState)[:2]
        except PipeAccessError:  # an outbound server may not ask (SEMANTICS §9.2), but has created it
            options = self._options
            if options is None:
                raise
            flags, mode = options.pipe_type, options.read_mode
            out_size, in_size, maximum = options.out_buffer_size, options.in_buffer_size, options.max_instances
            instances = sum(file.name == self.name for file in list(own_instances))
        return PipeInfo(
            name=self.name,
            type=mode_name(flags & PIPE_TYPE_MESSAGE),
            read_mode=mode_name(mode & PIPE_READMODE_MESSAGE),
            direction=direction_name(self._direction),
            is_server=self._is_server,
            in_buffer_size=in_size,
            out_buffer_size=out_size,
            max_instances=maximum if 0 < maximum < PIPE_UNLIMITED_INSTANCES else None,
            instances=instances,
        )


class LongestMessage:
    """The limit of what `recv` accepts."""

    _doing = "receiving a message"
    _of_messages = True
    _most = 0xFFFFFFFF

    @property
    def max_message_size(self) -> int:
        """See MessagePipe.max_message_size."""
        return self._most

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        self._most = message_size(size)


class _Native(Described):
    """What the two pipe classes share."""

    _reader = 0  # the thread that has a view out

    _file: File

    def __init__(self, file: File, *, access: int, is_server: bool, direction: int) -> None:
        self._file = file
        self._access = access
        self._is_server = is_server
        self._direction = direction
        file.end_is = End(is_server, direction, access)
        self._on_close: Callable[[bool], None] | None = None
        self._reading = threading.Lock()  # for the fields of Described and the buffer: one read at a time
        self._begin_trace()

    def _adopt(self, options: CreateOptions, on_close: Callable[[bool], None]) -> None:
        """Be a server's: made with `options`; `on_close` is called, once, at the end, with whether to discard."""
        self._options = options
        self._on_close = on_close

    def _read(
        self,
        buffer: memoryview,
        timeout: float | None,
        *,
        keep: Callable[[int, int], None] | None = None,
        until: Any = None,
        left: int | None = None,
    ) -> tuple[int, int]:
        """ReadFile; the caller has the lock. What an interrupted one has read all the same, `keep` gets, or _keep.

        `left`: so many bytes of a message that has begun were there.
        """
        handle = self._file.handle

        def keep_it(code: int, count: int) -> None:
            self._keep(buffer[:count], unfinished=code == WinError.MORE_DATA)

        keeps = keep or keep_it
        if self._tap is not None:
            return self._traced_read(buffer, timeout, keeps, until, left)
        return self._file.run(
            lambda ov: win32file.ReadFile(handle, buffer, ov)[0], timeout, self._doing, keep=keeps, until=until
        )

    def _traced_read(
        self,
        buffer: memoryview,
        timeout: float | None,
        keep: Callable[[int, int], None],
        until: Any,
        left: int | None,
    ) -> tuple[int, int]:
        handle, tap = self._file.handle, self._tap
        assert tap is not None  # noqa: S101 - the caller has looked

        def keep_it(code: int, count: int) -> None:
            keep(code, count)
            tap.read(buffer[:count], more=code == WinError.MORE_DATA, rest=left)

        try:
            code, count = self._file.run(
                lambda ov: win32file.ReadFile(handle, buffer, ov)[0], timeout, self._doing, keep=keep_it, until=until
            )
        except BaseException as error:
            self._tell_failed(error)
            raise
        if code != WinError.OPERATION_ABORTED:
            try:
                tap.read(buffer[:count], more=code == WinError.MORE_DATA, rest=left)
            except BaseException:  # Ctrl-C
                keep(code, count)
                raise
        return code, count

    def _take_turn(self, turn: list[bool], timeout: float = 0.0) -> bool:
        """Take the lock for reading, which the caller gives back `if True in turn`, whatever interrupts this.

        No Ctrl-C comes between the lock and the note of it: both are one step of C. It does behind `acquire` alone.
        """
        turn.clear()
        turn += map(self._reading.acquire, (True,), (timeout,))
        return turn[0]

    def _begin_read(self, turn: list[bool], timeout: float | None) -> float | None:
        """Take the lock for reading (see _take_turn); return the deadline."""
        if self._take_turn(turn):
            if self._file.closed:
                raise closed_here(self.name, self._doing, code=WinError.INVALID_HANDLE)
            return deadline_of(timeout)
        deadline = deadline_of(timeout)
        if self._file.closed:
            raise closed_here(self.name, self._doing, code=WinError.INVALID_HANDLE)
        if self._reader == threading.get_ident():
            raise still_viewed(self.name, self._doing)
        # In slices, for Ctrl-C does not end the wait for a lock.
        while not self._take_turn(turn, SLICE if deadline is None else min(SLICE, time_left(deadline) or 0.0)):
            if deadline is not None and time.monotonic() >= deadline:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, self._doing)
        if self._file.closed:
            raise closed_here(self.name, self._doing)
        return deadline

    def _write(self, data: bytes | memoryview, timeout: float | None) -> int:
        """WriteFile; the number of bytes, which with PIPE_NOWAIT may be fewer than there are (SEMANTICS §6.2)."""
        handle, tap = self._file.handle, self._tap
        try:
            count = self._file.run(
                lambda ov: win32file.WriteFile(handle, data, ov)[0], timeout, "writing", writing=True
            )[1]
        except BaseException as error:
            if tap is not None:
                self._tell_failed(error, data)
            raise
        if tap is not None:
            tap.wrote(data, count=count)
        return count

    def flush(self, *, timeout: float | None = None) -> None:
        """See Pipe.flush."""
        timeout = check_timeout(timeout)
        if not self._access & ACCESS_WRITE and not self.closed:
            raise explain(WinError.ACCESS_DENIED, self.name, "flushing", self._file.end_is)
        self._file.flush(timeout)

    def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """See Pipe.close."""
        self._end(check_timeout(timeout), discard=False)

    def abort(self) -> None:
        """See Pipe.abort. What a client has written stays readable: on Windows nothing takes that back."""
        self._end(0.0, discard=True)

    def _end(self, drain: float | None, *, discard: bool) -> None:
        if not self._file.end(drain):
            return
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(discard)
        close_file(self._file, discard=discard and self._is_server)
        if self._tap is not None:
            self._tap.closed()
        if active():
            tell(Event("closed", self.name, is_server=self._is_server))

    def fileno(self) -> NoReturn:
        """See Pipe.fileno: Windows' select is for sockets only, and asyncio has npipe.aio."""
        self._file.ask(lambda _: None, "asking for a descriptor")
        detail = "a pipe is no socket, and select takes nothing else on Windows"
        raise PipeStateError(WinError.NOT_SUPPORTED, self.name, "asking for a descriptor", detail)


class NativeMessagePipe(LongestMessage, _Native, MessagePipe):
    """A message pipe of this machine."""

    def __init__(self, file: File, *, access: int, is_server: bool, direction: int) -> None:
        super().__init__(file, access=access, is_server=is_server, direction=direction)
        self._reservers: list[tuple[object, object]] = []  # see npipe.views

    def _check_open_for(self, doing: str) -> None:
        self._file.ask(lambda _: None, doing)
        if not self._access & ACCESS_WRITE:
            raise explain(WinError.ACCESS_DENIED, self.name, doing, self._file.end_is)
        self._check_writer(doing)

    def _check_writer(self, doing: str) -> None:
        if self._reservers and has_reserved(self._reservers, threading.get_ident()):
            raise still_reserved(self.name, doing)

    def send(self, data: ReadableBuffer, *more: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send."""
        self.send_parts(data, *more, timeout=timeout)

    def send_parts(self, *parts: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send_parts."""
        timeout = check_timeout(timeout)
        self._check_writer("writing")
        content = joined(parts)
        count = self._write(content, timeout)
        if count != len(content):
            raise short_write(self.name, count, len(content))

    def reserve(self, nbytes: int, *, timeout: float | None = None) -> Reservation:
        """See MessagePipe.reserve: a message is put together elsewhere, as kernel32 has nothing of the kind."""
        return CopiedReservation(self, nbytes, check_timeout(timeout))

    def recv_view(self, *, timeout: float | None = None, copy: bool = False) -> MessageView:
        """See MessagePipe.recv_view: of a copy."""
        flag(copy, "copy")
        return CopiedView(self, check_timeout(timeout))

    def _begin_view(self, key: object, timeout: float | None) -> bytes:
        """See npipe.views.TakesCopies. The turn to read is the view's until it ends."""
        turn: list[bool] = []
        try:
            deadline = self._begin_read(turn, timeout)
            self._viewer, self._viewing = key, True
            message = self._message(deadline)
            self._reader = threading.get_ident()
            self._viewing = False
        except BaseException:
            if True in turn:  # whatever was interrupted: it is this one's
                self._viewer = key
                self._end_view(key, consumed=False)
            raise
        return message

    def _end_view(self, key: object, *, consumed: bool) -> None:
        if self._viewer is not key:
            return
        self._viewing = False
        if consumed:
            self._delivered(b"")
        self._viewer, self._reader = None, 0
        self._reading.release()

    def recv(self, *positional: object, timeout: float | None = None) -> bytes:
        """See MessagePipe.recv."""
        if positional:
            refuse_position(positional)
        timeout = check_timeout(timeout)
        turn: list[bool] = []
        try:
            return self._message(self._begin_read(turn, timeout))
        finally:
            if True in turn:
                self._reading.release()

    def _message(self, deadline: float | None, most: int | None = None) -> bytes:
        """Return the next message, or the rest of one that was read in part.

        A read of nothing waits for it, and takes an empty one (SEMANTICS §5.2). Then it is read whole, for what a
        writer gives up in the midst of that vanishes, and the rest of the next message cannot be told from its rest.
        """
        if self._dropping:
            self._drop(deadline)
        while self._head is None:
            code, _ = self._read(_NOTHING, time_left(deadline))
            if code == WinError.SUCCESS:
                return self._delivered(b"")
            message = self._whole(most)
            if message is not None:
                return message
            if deadline is not None and time.monotonic() >= deadline:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, self._doing)
        message = self._rest(most)
        return self._message(deadline, most) if message is None else message

    def _delivered(self, message: bytes) -> bytes:
        if self._viewing:
            self._head, self._unfinished = message, False  # it stays until the view ends
            return message
        self._head, self._unfinished, self._partial = None, False, False
        self._has_delivered()
        return message

    def _whole(self, most: int | None) -> bytes | None:
        """Read the message that is there; None when its writer has given it up meanwhile: it was not sent."""
        size = self._peek(0)[3]
        limit = self._most if most is None else most
        if size > limit:
            raise too_large(self.name, limit, size)
        if not size:
            return None
        view = self._room_for(size)
        try:
            code, count = self._read(view, 0.0)
        except PipeTimeoutError:
            self._gives_up = True
            return None
        self._gives_up |= count != size
        if code == WinError.SUCCESS:
            return self._delivered(self._copied(view[:count]))
        self._keep(view[:count], unfinished=True)  # another one by now, which is longer
        return self._rest(most)

    def _rest(self, most: int | None) -> bytes | None:
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
        try:
            code, count = self._read(
                rest, 0.0, keep=lambda code, count: self._keep_rest(rest[:count], left, code), left=left
            )
        except PipeTimeoutError:
            self._head, self._unfinished, self._gives_up = None, False, True
            if self._tap is not None:
                self._tap.broke_off()
            return None
        self._gives_up |= count != left
        if code == WinError.SUCCESS:
            # A shorter one is another message.
            return self._delivered(self._copied(message if count == left else rest[:count]))
        self._keep_rest(rest[:count], left, code)
        return None

    def recv_into(
        self, buffer: WriteableBuffer, *more: WriteableBuffer, exact: bool = False, timeout: float | None = None
    ) -> int:
        """See MessagePipe.recv_into."""
        if more:  # Windows has no call that scatters what it reads of a pipe
            rooms = [room_of(part) for part in (buffer, *more)]
            room = memoryview(bytearray(sum(map(len, rooms))))
            return scattered(room[: self.recv_into(room, exact=exact, timeout=timeout)], rooms)
        timeout = check_timeout(timeout)
        view = room_of(buffer)
        exact = flag(exact, "exact")
        turn: list[bool] = []
        try:
            deadline = self._begin_read(turn, timeout)
            if exact:
                try:
                    message = self._message(deadline, len(view))
                except PipeMessageTooLargeError:
                    raise does_not_fit(self.name, len(view)) from None
                view[: len(message)] = message
                return len(message)
            if self._dropping:
                self._drop(deadline)
            return self._read_part(view, deadline)
        finally:
            if True in turn:
                self._reading.release()

    def _read_part(self, view: memoryview, deadline: float | None) -> int:
        """Read the next message, or a part of it; the caller has the lock."""
        taken, over = self._take_head(view)
        if over:
            return taken
        code, count = self._read(view[taken:], time_left(deadline))
        self._has_read(code, taken + count)
        return taken + count

    def discard_reply(self, *, timeout: float | None = None) -> None:
        """See MessagePipe.discard_reply. Other reads wait until it has ended, and it for those before it."""
        timeout = check_timeout(timeout)
        if not self._owed:
            return
        turn: list[bool] = []
        try:
            deadline = self._begin_read(turn, timeout)
            while self._owed:
                self._drop(deadline)
        finally:
            if True in turn:
                self._reading.release()

    def _drop_now(self) -> bool:
        turn: list[bool] = []
        try:
            if not self._take_turn(turn):
                return False  # that read drops it
            self._drop(time.monotonic())
        except PipeTimeoutError:
            return False
        finally:
            if True in turn:
                self._reading.release()
        return True

    def _drop(self, deadline: float | None) -> None:
        """Drop the next message, or the rest of the one that is being dropped; the caller has the lock."""
        scrap = memoryview(bytearray(READ_SIZE))
        while True:
            self._read_part(scrap, deadline)
            self._dropping, self._partial = self._partial, False
            if not self._dropping:
                return

    def _has_unread(self) -> bool:
        """See Pipe._has_unread. A read of nothing takes an empty message, which is kept (SEMANTICS §5.2)."""
        if self._viewer is not None:
            return False
        if self._head is not None or self.peek().available:
            return True
        turn: list[bool] = []
        try:
            if not self._take_turn(turn):
                return True
            if self._read(_NOTHING, 0.0)[0] == WinError.SUCCESS:
                self._keep(b"", unfinished=False)
        except PipeTimeoutError:
            return False
        finally:
            if True in turn:
                self._reading.release()
        return True

    def _forget_reply(self) -> None:
        """See MessagePipe._forget_reply."""
        self._has_delivered()

    @property
    def more_data(self) -> bool:
        """See MessagePipe.more_data."""
        return self._partial and self._viewer is None

    def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes:
        """See MessagePipe.transact."""
        timeout = check_timeout(timeout)
        content = bytes_of(data)
        self._file.ask(lambda _: None, "transacting")
        self._check_writer("transacting")
        # Another thread's read is one that is pending (SEMANTICS §8.1).
        turn: list[bool] = []
        try:
            if not self._take_turn(turn):
                if self._reader == threading.get_ident():
                    raise still_viewed(self.name, "transacting")
                raise being_read_elsewhere(self.name)
            if self._owed:
                raise reply_owed(self.name, too_long=self._too_long)
            if self._head is not None:
                raise unread(self.name)
            return self._transaction(content, timeout)
        finally:
            if True in turn:
                self._reading.release()

    def _transaction(self, content: bytes | memoryview, timeout: float | None) -> bytes:
        """TransactNamedPipe; the caller has the lock."""
        handle = self._file.handle
        transact_named_pipe: Any = win32pipe.TransactNamedPipe  # the stubs say that it takes and returns text
        deadline = deadline_of(timeout)
        sent = False

        def start(overlapped: Any) -> int:
            nonlocal sent
            code: int = transact_named_pipe(handle, content, _NOTHING, overlapped)[0]
            sent = True
            return code

        def keep(code: int, _count: int) -> None:
            if code == WinError.SUCCESS:
                self._keep(b"", unfinished=False)

        try:
            # With room for nothing: the answer stays there, to be read whole.
            try:
                code, _ = self._file.run(start, timeout, "transacting", writing=False, keep=keep)
            except BaseException as error:
                if sent and self._tap is not None:
                    self._tap.wrote(content)  # a request stays sent (SEMANTICS §8.2)
                self._tell_failed(error, *(() if sent else (content,)))
                raise
            if self._tap is not None:
                self._tap.wrote(content)
                if code == WinError.SUCCESS:
                    self._tap.read(b"")
            return self._delivered(b"") if code == WinError.SUCCESS else self._message(deadline)
        except PipeClosedError:
            raise
        except BaseException as error:  # Ctrl-C too
            if sent:
                self._owed += 1
                self._too_long = isinstance(error, PipeMessageTooLargeError)
            if isinstance(error, PipeTimeoutError):
                raise unanswered(self.name, sent=sent) from None
            raise


class NativeStreamPipe(_Native, StreamPipe):
    """A byte pipe of this machine, or a message pipe read as bytes."""

    _ended = False  # an empty message has been read: the peer has closed for writing alone

    def __init__(self, file: File, *, access: int, is_server: bool, direction: int) -> None:
        super().__init__(file, access=access, is_server=is_server, direction=direction)
        self._keeping = threading.Lock()  # for _head, into which other threads than the one that reads put something
        self._returned = win32event.CreateEvent(None, True, False, None)  # they have: who waits to read looks again

    def write(self, data: ReadableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.write."""
        timeout = check_timeout(timeout)
        return self._write(bytes_of(data), timeout)

    def readinto(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.readinto."""
        timeout = check_timeout(timeout)
        view = room_of(buffer)
        turn: list[bool] = []
        try:
            return self._read_bytes(view, self._begin_read(turn, timeout))
        finally:
            if True in turn:
                self._reading.release()

    def _read_bytes(self, view: memoryview, deadline: float | None) -> int:
        while True:
            with self._keeping:
                if self._head is not None:  # of a read that was interrupted
                    count = min(len(view), len(self._head))
                    view[:count] = self._head[:count]
                    self._head = self._head[count:] or None
                    return count
                if self._ended:
                    return 0
                win32event.ResetEvent(self._returned)
            code, count = self._read(view, time_left(deadline), until=self._returned)
            if code == WinError.OPERATION_ABORTED:
                continue  # something was put back
            with self._keeping:
                self._ended = len(view) > 0 and not count
                if self._head is None:
                    return count
                self._head = bytes(self._head) + bytes(view[:count])  # what was put back meanwhile came before it

    def _keep(self, data: memoryview | bytes, *, unfinished: bool) -> None:
        with self._keeping:
            super()._keep(data, unfinished=unfinished)

    def _copied(self, data: memoryview) -> bytes:
        try:
            return bytes(data)
        except MemoryError:
            self._buffer = None  # perhaps it is that one
            with self._keeping:
                self._head = data if self._head is None else bytes(data) + bytes(self._head)
            raise

    def _put_back(self, data: bytes | bytearray) -> None:
        with self._keeping:
            self._head = memoryview(data) if self._head is None else bytes(data) + bytes(self._head)
            win32event.SetEvent(self._returned)

    def _read_some(self, size: int, timeout: float | None) -> bytes:
        timeout = check_timeout(timeout)
        turn: list[bool] = []
        try:
            deadline = self._begin_read(turn, timeout)
            view = self._room(size)
            count = self._read_bytes(view, deadline)
            return self._copied(view[:count])
        finally:
            if True in turn:
                self._reading.release()
