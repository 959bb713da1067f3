"""Connected pipes of other machines, as the public classes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NoReturn

from npipe._buffers import content_of, contents_of, room_of, scattered
from npipe._display import Traits
from npipe._tapping import tapped
from npipe.errors import (
    PipeClosedError,
    PipeMessageTooLargeError,
    PipeStateError,
    PipeTimeoutError,
    WinError,
    does_not_fit,
    reply_owed,
    unanswered,
)
from npipe.options import (
    ACCESS_READ,
    ACCESS_WRITE,
    Peek,
    Peer,
    PipeInfo,
    check_timeout,
    flag,
    message_size,
    peek_size,
    refuse_position,
    time_left,
)
from npipe.pipe import CLOSE_TIMEOUT, MessagePipe, StreamPipe
from npipe.reasons import (
    being_read_elsewhere,
    closed_here,
    denied,
    still_reserved,
    still_viewed,
    too_large,
    unread,
)
from npipe.transports.smb.files import End, deadline_of, empty
from npipe.transports.smb.wire import SLICE
from npipe.views import CopiedReservation, CopiedView, has_reserved

if TYPE_CHECKING:
    from npipe._buffers import ReadableBuffer, WriteableBuffer
    from npipe.transports.smb.files import RemoteFile
    from npipe.views import MessageView, Reservation

__all__ = ["SmbMessagePipe", "SmbStreamPipe"]

_DUPLEX = 3


class _Smb:
    """What the two pipe classes share."""

    _doing = "reading"
    _of_messages = False
    _asks_host = True
    _reader = 0  # the thread that has a view out

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        file.tap = tapped(file.name, is_server=False, is_message=self._of_messages, peer=lambda: 0)
        self._reading = threading.Lock()  # one read at a time
        # What was fetched and not delivered: of a message, or of the stream.
        self._head: bytes | memoryview | None = None
        self._unfinished = False  # the rest of that message is still at the server

    @property
    def name(self) -> str:
        """See Pipe.name."""
        return self._file.name

    @property
    def closed(self) -> bool:
        """See Pipe.closed."""
        return self._file.closed

    def _check(self, needed: int, doing: str) -> None:
        """Raise PipeClosedError (6), and PipeAccessError (5) if it was not opened for that."""
        self._file.check_open(doing)
        access = self._file.access
        if needed & ~access:
            raise denied(self.name, doing, is_server=False, direction=_DUPLEX, access=access)

    def _begin_read(self, timeout: float | None, needed: int = ACCESS_READ) -> float | None:
        """Take the lock for reading; return the deadline."""
        deadline = deadline_of(timeout)
        self._check(needed, self._doing)
        if self._reading.acquire(blocking=False):
            return deadline
        if self._reader == threading.get_ident():
            raise still_viewed(self.name, self._doing)
        while True:
            left = time_left(deadline)
            if SLICE is not None:  # Ctrl-C does not end the wait for a lock there
                left = SLICE if left is None else min(SLICE, left)
            if self._reading.acquire(timeout=-1 if left is None else min(left, threading.TIMEOUT_MAX)):
                break
            if deadline is not None and time.monotonic() >= deadline:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, self._doing)
        if self._file.closed:
            self._reading.release()
            raise closed_here(self.name, self._doing)
        return deadline

    def peek(self, size: int = 0) -> Peek:
        """See Pipe.peek. By FSCTL_PIPE_PEEK, which Samba does not have: PipeStateError (50)."""
        size = peek_size(size)
        self._check(ACCESS_READ, "peeking")
        file = self._file
        if not self._take_answer():
            return Peek(b"", 0, 0)
        head, kept = self._head, b"" if self._head is None else bytes(self._head)
        data, available, length = file.peek(max(0, size - len(kept)))
        if not self._of_messages:
            return Peek((kept + data)[:size], len(kept) + available, 0)
        if head is not None and not self._unfinished:
            return Peek(kept[:size], len(kept) + available, len(kept[size:]))
        total = len(kept) + length
        data = (kept + data)[:size]
        return Peek(data, len(kept) + available, max(0, total - len(data)))

    def _take_answer(self) -> bool:
        """Put what a read that was given up has got since behind what is kept; False while one waits at the server.

        That one gets all that comes, so there is nothing behind it.
        """
        file = self._file
        if not file.has_pending:
            return True
        if not file.has_answer or not self._reading.acquire(blocking=False):
            return False
        try:
            if file.has_answer:
                self._fetch(End.of(0.0))
        finally:
            self._reading.release()
        return True

    def _peek_here(self, size: int) -> Peek:
        """See Pipe._peek_here."""
        self._check(ACCESS_READ, "peeking")
        if not self._take_answer():
            return Peek(b"", 0, 0)
        head = self._head
        if head is None or self._unfinished:
            raise _asks(self.name)
        data = bytes(head[:size])
        return Peek(data, len(head), len(head) - len(data) if self._of_messages else 0)

    def _look(self) -> None:
        """See Pipe._look: the connection's end is known; that of the pipe, when something is asked."""
        self._file.check_open(None)
        if self._file.link.lost or self._file.over:
            raise PipeClosedError(WinError.BROKEN_PIPE, self.name)

    def _has_unread(self) -> bool:
        """See Pipe._has_unread. Asks the server with a read, whose answer is kept."""
        if self._head is not None or self._file.has_answer or not self._reading.acquire(blocking=False):
            return True
        try:
            if self._file.has_pending:
                return False
            self._fetch(End.of(0.0))
        except PipeTimeoutError:
            return False
        finally:
            self._reading.release()
        return True

    def _fetch(self, end: End) -> bool:
        """Put the next piece behind what is kept. The caller has the lock."""
        piece = self._file.fetch(end, self._doing)
        if piece is None:
            return False
        data, more = piece
        head = data if self._head is None else bytes(self._head) + data
        self._head, self._unfinished, self._file.pending = head, more, None
        return True

    def flush(self, *, timeout: float | None = None) -> None:
        """See Pipe.flush. Samba does not have it: PipeStateError (50)."""
        deadline = deadline_of(check_timeout(timeout))
        self._check(ACCESS_WRITE, "flushing")
        self._file.flush(deadline)

    def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """See Pipe.close."""
        deadline = deadline_of(check_timeout(timeout))
        if not self._file.closed:
            try:
                self._file.writes_over(deadline)
            finally:
                self._file.close()

    def abort(self) -> None:
        """See Pipe.abort. What was written stays readable: nothing takes that back from a server."""
        self._file.close()

    @property
    def peer(self) -> Peer:
        """See Pipe.peer: the host, as no more is known of a process there."""
        self._file.check_open("asking for the peer")
        link = self._file.link
        return Peer(
            pid=0, uid=None, user=None, host=link.host, address=link.address, encrypted=link.encrypted, origin="smb"
        )

    @property
    def info(self) -> PipeInfo:
        """See Pipe.info: how it is read and written here; sizes and numbers are 0 where the host does not tell."""
        self._file.check_open("asking for the pipe's attributes")
        return PipeInfo(
            name=self.name,
            type="message" if self._of_messages else "byte",
            read_mode="message" if self._of_messages else "byte",
            direction="duplex",
            is_server=False,
            in_buffer_size=0,
            out_buffer_size=0,
            max_instances=None,
            instances=0,
        )

    def _traits(self) -> Traits | None:
        """See Pipe._traits."""
        return Traits(is_server=False, direction="duplex", message_type=self._of_messages, peer=None)

    def fileno(self) -> NoReturn:
        """See Pipe.fileno: all pipes of a host share a connection."""
        self._file.check_open("asking for a descriptor")
        detail = "pipes of another machine share a connection, and have no descriptor of their own"
        hint = "use npipe.aio, or a thread"
        raise PipeStateError(WinError.NOT_SUPPORTED, self.name, "asking for a descriptor", detail, hint=hint)

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None and not file.closed:
            file.close()


def _asks(name: str) -> PipeStateError:
    detail = "what is unread is at the pipe's host, and peek of an event loop's pipe does not wait for its answer"
    hint = "recv(timeout=0) or read(n, timeout=0) asks; what has come to a read that was given up, peek shows"
    return PipeStateError(WinError.NOT_SUPPORTED, name, "peeking", detail, hint=hint)


class SmbMessagePipe(_Smb, MessagePipe):
    """A message pipe of another machine."""

    _doing = "receiving a message"
    _of_messages = True
    _viewer: object = None  # the key of the view that is out (npipe.views), whose message _head is

    def __init__(self, file: RemoteFile) -> None:
        super().__init__(file)
        self._reservers: list[tuple[object, object]] = []  # see npipe.views
        self._most = 0xFFFFFFFF
        self._partial = False  # the caller has had a part of the message
        self._answers_owed = 0
        self._answer_too_long = False
        self._dropping = False  # the next message is the rest of an answer that is being dropped

    @property
    def max_message_size(self) -> int:
        """See MessagePipe.max_message_size."""
        return self._most

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        self._most = message_size(size)

    @property
    def _owed(self) -> int:
        return self._answers_owed

    @property
    def _too_long(self) -> bool:
        return self._answer_too_long

    def _forget_reply(self) -> None:
        """See MessagePipe._forget_reply."""
        self._has_delivered()

    def _has_delivered(self) -> None:
        """Note that a message has been delivered in full."""
        if self._answers_owed:
            self._answers_owed -= 1
            self._answer_too_long = False

    def _check_open_for(self, doing: str) -> None:
        self._check(ACCESS_WRITE, doing)
        if self._reservers and has_reserved(self._reservers, threading.get_ident()):
            raise still_reserved(self.name, doing)

    def send(self, data: ReadableBuffer, *more: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send. Through Samba a message has 1 to 65,535 bytes: PipeArgumentError (87)."""
        self.send_parts(data, *more, timeout=timeout)

    def send_parts(self, *parts: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send_parts. Through Samba a message has 1 to 65,535 bytes: PipeArgumentError (87)."""
        timeout = check_timeout(timeout)
        content = contents_of(parts)
        self._check_open_for("writing")
        self._file.write(content, deadline_of(timeout))

    def reserve(self, nbytes: int, *, timeout: float | None = None) -> Reservation:
        """See MessagePipe.reserve: a message is put together here, and sent at the end."""
        return CopiedReservation(self, nbytes, check_timeout(timeout))

    def recv_view(self, *, timeout: float | None = None, copy: bool = False) -> MessageView:
        """See MessagePipe.recv_view: of a copy."""
        flag(copy, "copy")
        return CopiedView(self, check_timeout(timeout))

    def _begin_view(self, key: object, timeout: float | None) -> bytes:
        """See npipe.views.TakesCopies. The turn to read is the view's until it ends."""
        deadline = self._begin_read(timeout)
        try:
            message = self._whole(deadline, self._most)
            self._viewer, self._reader = key, threading.get_ident()
        except BaseException:
            self._viewer, self._reader = None, 0
            self._reading.release()
            raise
        return message

    def _end_view(self, key: object, *, consumed: bool) -> None:
        if self._viewer is not key:
            return
        if consumed:
            self._deliver()
        self._viewer, self._reader = None, 0
        self._reading.release()

    def recv(self, *positional: object, timeout: float | None = None) -> bytes:
        """See MessagePipe.recv."""
        if positional:
            refuse_position(positional)
        deadline = self._begin_read(check_timeout(timeout))
        try:
            return self._message(deadline, self._most)
        finally:
            self._reading.release()

    def _message(self, deadline: float | None, most: int) -> bytes:
        """Return the next message; the caller has the lock."""
        message = self._whole(deadline, most)
        self._deliver()
        return message

    def _whole(self, deadline: float | None, most: int) -> bytes:
        """Return the next message, which stays what is next; the caller has the lock."""
        end = End.of(deadline)
        if self._dropping:
            self._drop(end)
        while self._head is None or (self._unfinished and len(self._head) <= most):
            self._fetch(end)
        if len(self._head) > most:
            raise too_large(self.name, most, None if self._unfinished else len(self._head))
        return bytes(self._head)

    def _deliver(self) -> None:
        self._has_delivered()
        self._head, self._partial = None, False

    def recv_into(
        self, buffer: WriteableBuffer, *more: WriteableBuffer, exact: bool = False, timeout: float | None = None
    ) -> int:
        """See MessagePipe.recv_into."""
        if more:
            rooms = [room_of(part) for part in (buffer, *more)]
            room = memoryview(bytearray(sum(map(len, rooms))))
            return scattered(room[: self.recv_into(room, exact=exact, timeout=timeout)], rooms)
        timeout = check_timeout(timeout)
        view = room_of(buffer)
        exact = flag(exact, "exact")
        deadline = self._begin_read(timeout)
        try:
            if exact:
                try:
                    message = self._message(deadline, len(view))
                except PipeMessageTooLargeError:
                    raise does_not_fit(self.name, len(view)) from None
                view[: len(message)] = message
                return len(message)
            end = End.of(deadline)
            if self._dropping:
                self._drop(end)
            return self._read_part(view, end)
        finally:
            self._reading.release()

    def _read_part(self, view: memoryview, end: End) -> int:
        """Read the next message, or a part of it; the caller has the lock."""
        while self._head is None or (self._unfinished and len(self._head) < len(view)):
            self._fetch(end)
        head = self._head
        count = min(len(view), len(head))
        view[:count] = head[:count]
        goes_on = count < len(head) or self._unfinished
        self._partial = goes_on and (self._partial or count > 0)
        self._head = head[count:] if goes_on else None
        if not goes_on:
            self._has_delivered()
        return count

    @property
    def more_data(self) -> bool:
        """See MessagePipe.more_data."""
        return self._partial and self._viewer is None

    def peek(self, size: int = 0) -> Peek:
        """See MessagePipe.peek. By FSCTL_PIPE_PEEK, which Samba does not have: PipeStateError (50)."""
        if self._viewer is None:
            return super().peek(size)
        peek_size(size)
        self._check(ACCESS_READ, "peeking")
        return Peek(b"", 0, 0)

    def _peek_here(self, size: int) -> Peek:
        """See Pipe._peek_here."""
        return super()._peek_here(size) if self._viewer is None else self.peek(size)

    def _has_unread(self) -> bool:
        """See Pipe._has_unread."""
        return self._viewer is None and super()._has_unread()

    def discard_reply(self, *, timeout: float | None = None) -> None:
        """See MessagePipe.discard_reply."""
        timeout = check_timeout(timeout)
        if not self._owed:
            return
        deadline = self._begin_read(timeout)
        try:
            end = End.of(deadline)
            while self._owed:
                self._drop(end)
        finally:
            self._reading.release()

    def _drop(self, end: End) -> None:
        """Drop the next message, or the rest of the one that is being dropped; the caller has the lock."""
        while True:
            if self._head is None:
                self._fetch(end)
            self._head, self._dropping, self._partial = None, self._unfinished, False
            if not self._dropping:
                self._has_delivered()
                return

    def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes:
        """See MessagePipe.transact. By FSCTL_PIPE_TRANSCEIVE; a message that is there already is taken for the answer.

        (Samba does not tell of one. Behind a read that was given up it is a write, and that read has the answer.)
        """
        timeout = check_timeout(timeout)
        content = content_of(data)
        self._check(ACCESS_READ | ACCESS_WRITE, "transacting")
        if not content:
            raise empty(self.name)
        self._file.check_length(len(content), "transacting")
        if self._reader == threading.get_ident():
            raise still_viewed(self.name, "transacting")
        if not self._reading.acquire(blocking=False):
            raise being_read_elsewhere(self.name)
        try:
            if self._owed:
                raise reply_owed(self.name, too_long=self._too_long)
            if self._head is not None or (self._file.has_answer and self._fetch(End.of(0.0))):
                raise unread(self.name)
            return self._transaction(content, deadline_of(timeout))
        finally:
            self._reading.release()

    def _transaction(self, content: bytes, deadline: float | None) -> bytes:
        file, sent = self._file, False

        def is_sent() -> None:
            nonlocal sent
            sent = True

        try:
            if file.has_pending:  # that read will get the answer
                request = file.begin_write(content, deadline, is_sent)
                if request is not None:
                    file.end_write(request, deadline)
            else:
                file.begin_transaction(content, deadline, is_sent)
            if not sent:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name)  # noqa: TRY301
            return self._message(deadline, self._most)
        except PipeClosedError:
            raise
        except BaseException as error:  # Ctrl-C too
            if sent and (file.has_pending or self._head is not None):
                self._answers_owed += 1
                self._answer_too_long = isinstance(error, PipeMessageTooLargeError)
            if isinstance(error, PipeTimeoutError):
                raise unanswered(self.name, sent=sent) from None
            raise


class SmbStreamPipe(_Smb, StreamPipe):
    """A pipe of another machine, read as bytes."""

    def __init__(self, file: RemoteFile) -> None:
        super().__init__(file)
        self._keeping = threading.Lock()  # for _head, into which other threads than the one that reads put something

    def write(self, data: ReadableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.write. An empty one does nothing: Samba loses it."""
        timeout = check_timeout(timeout)
        content = content_of(data)
        self._check(ACCESS_WRITE, "writing")
        if content:
            self._file.write(content, deadline_of(timeout), stream=True)
        return len(content)

    def readinto(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.readinto."""
        timeout = check_timeout(timeout)
        view = room_of(buffer)
        deadline = self._begin_read(timeout)
        try:
            data = self._bytes(len(view), deadline)
            view[: len(data)] = data
            return len(data)
        finally:
            self._reading.release()

    def _read_some(self, size: int, timeout: float | None) -> bytes:
        deadline = self._begin_read(check_timeout(timeout))
        try:
            return self._bytes(size, deadline)
        finally:
            self._reading.release()

    def _bytes(self, size: int, deadline: float | None) -> bytes:
        """Return what is there, waiting for a byte; the caller has the lock."""
        end = End.of(deadline)
        while True:
            with self._keeping:
                head = self._head
                if head is not None and (len(head) or not size):
                    data = bytes(head[:size])
                    self._head = head[size:] if len(head) > size else None
                    return data
                if not size:
                    return b""
                self._head = None
            piece = self._file.fetch(end, self._doing, until=lambda: self._head is not None)
            if piece is not None:
                self._keep(piece[0])

    def _fetch(self, end: End) -> bool:
        piece = self._file.fetch(end, self._doing)
        if piece is None:
            return False
        self._keep(piece[0])
        return True

    def _keep(self, data: memoryview) -> None:
        """Put what has come behind what is kept."""
        with self._keeping:  # what was put back meanwhile came before it
            head = data if self._head is None else bytes(self._head) + data
            self._head, self._file.pending = head, None

    def _put_back(self, data: bytes | bytearray) -> None:
        with self._keeping:
            self._head = bytes(data) + (b"" if self._head is None else bytes(self._head))
        self._file.wake()
