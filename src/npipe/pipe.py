"""What every pipe offers, whatever carries it: the abstract classes of the sync face."""

from __future__ import annotations

import io
import os
import socket
import sys
from abc import ABC, abstractmethod
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self, cast

from npipe._process import refuse_copy
from npipe.errors import PipeClosedError, WinError
from npipe.options import Peek, Peer, PipeInfo, check_timeout, deadline_of, time_left

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["MessagePipe", "Pipe", "StreamPipe"]

CLOSE_TIMEOUT = 5.0
"""Seconds that close() gives writes which other threads have under way."""

_READ_SIZE = 65536


class Pipe(ABC):
    """One end of a connected named pipe.

    A pipe is a context manager that closes it. It may be used by several threads: reads are served in the order in
    which they began, and a write goes in whole. All time-outs are in seconds, None means for ever, and when the time
    is over PipeTimeoutError (121) is raised with nothing consumed and nothing sent; but the request of a transaction
    stays sent (`transact`), and of a write that a reader of bytes, or of a message's parts, had begun with, what it had
    taken stays read (SEMANTICS §10.2).
    """

    __slots__ = ()

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
        """Look at up to `size` bytes without consuming them, and at how much there is. Never waits.

        On a message pipe `data` and `left` are of the first message only; `available` counts all of them. Raises
        PipeClosedError (109 when the peer has closed and nothing is left; 233), PipeAccessError (5: this end may only
        write). Follows PeekNamedPipe, SEMANTICS §7; but on a byte pipe `left` is 0.
        """

    @abstractmethod
    def flush(self, *, timeout: float | None = None) -> None:
        """Wait until the peer has read everything written before this call, at most `timeout` seconds.

        Raises PipeTimeoutError (121), PipeClosedError (109 when the peer goes meanwhile, 233), PipeAccessError (5: this
        end may only read). Follows FlushFileBuffers, SEMANTICS §10.1.
        """

    @abstractmethod
    def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """Close this end. What was written stays readable for the peer; closing twice is no error.

        Writes that other threads have under way get `timeout` seconds until they stand in the pipe, and succeed then.
        Other calls that wait in other threads raise PipeClosedError (109), which says that it was closed here; but a
        read that was waiting when something came has that.
        """

    @abstractmethod
    def abort(self) -> None:
        """Close this end at once and discard what the peer has not read yet.

        The peer of a server's end gets 233 (DisconnectNamedPipe), the peer of a client's end 109.
        """

    @property
    @abstractmethod
    def peer(self) -> Peer:
        """The process at the other end, by the kernel's word at the time when it connected.

        Raises PipeClosedError (233 when the server has disconnected, 6 when this end is closed).
        """

    @property
    @abstractmethod
    def info(self) -> PipeInfo:
        """The pipe's attributes and its instances now. Raises PipeClosedError (6 when this end is closed)."""

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor for select, poll and epoll: it is readable when a read would not wait.

        It is good for waiting only, and for as long as the pipe is open; no program that is started inherits it. Raises
        PipeClosedError, and PipeStateError (50) when subprocess asks for it: a child cannot have a pipe as its standard
        input or output. Give it subprocess.PIPE and copy, or let it open the pipe by its name.
        """

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a pipe can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and open it there with npipe.connect")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<{type(self).__name__} {self.name!r}, {state}>"


class MessagePipe(Pipe):
    """A pipe that keeps message boundaries: what one `send` wrote is what one `recv` returns.

    A message that may be longer than a buffer is read in its parts:

        size = pipe.recv_into(buffer)
        use(buffer[:size])
        while pipe.more_data:  # that was not all of it
            size = pipe.recv_into(buffer)
            use(buffer[:size])

    `pipe.recv_into(buffer, exact=True)` raises 234 instead, and the message stays.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def max_message_size(self) -> int:
        """The longest message that `recv` accepts, in bytes; may be set at any time.

        At first what `connect` or `listen` was told; else 2**32 - 1, Win32's limit, and 64 MiB where the peer may be
        another user's: without `verify_owner`, or with a `security` that lets others in.
        """

    @max_message_size.setter
    @abstractmethod
    def max_message_size(self, size: int) -> None: ...

    @abstractmethod
    def send(self, data: ReadableBuffer, *, timeout: float | None = None) -> None:
        """Write `data`, a buffer of bytes or numbers, as one message; an empty one is a message too.

        Waits while the pipe's quota is exhausted. Raises PipeClosedError (232: the peer has gone; 109: it went while
        this waited; 233: the server disconnected), PipeTimeoutError (121: the message is withdrawn; on a handle with
        PIPE_NOWAIT at once, when there is no room for it), PipeAccessError (5: this end may only read). Follows
        WriteFile, SEMANTICS §6.
        """

    @abstractmethod
    def recv(self, *, timeout: float | None = None) -> bytes:
        """Return the next whole message, of any length up to `max_message_size`.

        Raises PipeClosedError (109: the peer has closed and nothing is left; 233: the server disconnected),
        PipeTimeoutError (121), PipeMessageTooLargeError (234: the message stays), PipeAccessError (5: this end may only
        write). After a part was read with recv_into, returns the rest of that message. Follows ReadFile in
        message-read mode, SEMANTICS §5.
        """

    @abstractmethod
    def recv_into(self, buffer: WriteableBuffer, *, exact: bool = False, timeout: float | None = None) -> int:
        """Read the next message, or as much of it as fits, into `buffer`; return the number of bytes.

        A message that does not fit leaves its rest for the next read, and `more_data` is true until that is read
        (ERROR_MORE_DATA, 234): the number alone does not tell a part from a message. With `exact` such a message raises
        PipeMessageTooLargeError (234) instead, nothing is consumed, and `peek().left` is its length; it reads through a
        copy of the message. Raises as recv does.
        """

    @property
    @abstractmethod
    def more_data(self) -> bool:
        """Whether a message has been read in part, so that the next read returns more of it."""

    @abstractmethod
    def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes:
        """Send `data` as one message and return the next message that comes.

        Raises PipeBusyError (231: unread messages are there, nothing is sent), PipeModeError (230: not a duplex pipe,
        or the peer has gone), PipeClosedError (109, 233 while waiting), PipeTimeoutError (121), PipeAccessError (5),
        PipeStateError (996, below). Follows TransactNamedPipe, SEMANTICS §8.

        A time-out's `sent` is True when the request was sent, as a rule; one larger than the pipe's buffer, of which a
        part still waited for room, is withdrawn. After a request that was sent the pipe is *owed* its answer, also when
        an exception of a signal's handler ended the call. The next transact would get that answer, so it raises
        PipeStateError (996) and sends nothing, until the answer has been read (`recv`) or dropped (`discard_reply`).
        """

    @property
    @abstractmethod
    def _owed(self) -> int:
        """How many answers of transactions are still to be read that ended before they came."""

    def discard_reply(self, *, timeout: float | None = None) -> None:
        """Wait until the answer that a transact has left to come is there, at most `timeout` seconds, and drop it.

        Does nothing when none is owed. The answer may be of any length. Raises PipeTimeoutError (121: it is not there
        in full, and still owed) and PipeClosedError (109, 233: it will not come).
        """
        deadline = deadline_of(timeout)
        scrap = bytearray(_READ_SIZE)
        while self._owed:
            self.recv_into(scrap, timeout=time_left(deadline))

    def __iter__(self) -> Iterator[bytes]:
        """Messages until the peer closes."""
        while True:
            try:
                message = self.recv()
            except PipeClosedError as error:
                if error.winerror != WinError.BROKEN_PIPE:
                    raise
                return
            yield message


class StreamPipe(Pipe):
    """A pipe read as a stream of bytes, whatever the writes were."""

    __slots__ = ()

    @abstractmethod
    def readinto(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        """Read what is there, at least one byte, into `buffer`; return the number of bytes.

        Raises PipeClosedError (109 at the end of the stream, 233), PipeTimeoutError (121), PipeAccessError (5). Follows
        ReadFile in byte-read mode, SEMANTICS §5. On a message pipe an empty message is the end of the stream, by which
        the peer has closed for writing alone: 0, from then on.
        """

    @abstractmethod
    def write(self, data: ReadableBuffer, *, timeout: float | None = None) -> int:
        """Write all of `data`; return its length in bytes. Raises as MessagePipe.send does.

        On a handle with PIPE_NOWAIT it does not wait, and the number returned is that of the bytes that were written:
        all, or those that reads were waiting for, or 0 (SEMANTICS §6.2). A file of `makefile` does then what files do
        that would block: a raw one returns None, a buffered one raises BlockingIOError.

        On a pipe of message type an empty write, after a flush, is the end for a peer that reads a stream; a read of
        bytes takes an empty message together with what is before it. This end can go on reading.
        """

    @abstractmethod
    def _read_some(self, size: int, timeout: float | None) -> bytes:
        """Read what is there, at least one byte and at most `size`."""

    @abstractmethod
    def _put_back(self, data: bytes | bytearray) -> None:
        """Make `data`, which reads have returned, what the next reads return, also those that wait already."""

    def read(self, size: int = -1, *, timeout: float | None = None) -> bytes:
        """Read what is there, at least one byte and at most `size`; with a negative `size` all up to the end.

        The end of the stream, when the peer has closed and everything is read, raises PipeClosedError (109), which is
        also an EOFError; but a read of all returns what there was, perhaps nothing, unless this end was closed
        meanwhile. `makefile` gives an object that returns b"" at the end as files do. The other end that a stream may
        have, an empty message on a message pipe, by which the peer has closed for writing alone, gives b"", from then
        on. `timeout` is for each wait. Raises as readinto does; what a read of all had read by then is there for the
        next read.
        """
        check_timeout(timeout)
        if size >= 0:
            return self._read_some(size, timeout)
        return self._read_all(timeout)

    def _read_all(self, timeout: float | None) -> bytes:
        """Read up to the end; what was read until that failed is put back."""
        data, piece = bytearray(), b""  # what was read, and the last of it, until it is in there
        try:
            try:
                while piece := self._read_some(_READ_SIZE, timeout):
                    data += piece
                    piece = b""
            except PipeClosedError as error:
                if error.winerror != WinError.BROKEN_PIPE or self.closed:
                    raise
            return bytes(data)
        except BaseException:
            for part in (piece, data):
                if part and not self.closed:
                    self._put_back(part)
            raise

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Return a file object over this pipe, as socket.makefile does; closing it leaves the pipe open.

        `mode` is made of "r", "w" and "b"; `buffering` 0 (binary only) for none, else the buffer's size in bytes.
        A signal's handler that raises in the middle of a read with a buffer takes what that has read by then with it,
        as with all of io's files.
        """
        if not mode or set(mode) - set("rwb"):
            raise ValueError(f'a mode is made of "r", "w" and "b", not {mode!r}')
        reading, writing, binary = "r" in mode or "w" not in mode, "w" in mode, "b" in mode
        raw = _PipeFile(self, reading=reading, writing=writing)
        if buffering == 0:
            if not binary:
                raise ValueError("a file without a buffer is binary")
            return cast("IO[bytes]", raw)
        size = io.DEFAULT_BUFFER_SIZE if buffering is None or buffering < 0 else buffering
        buffer: Any  # typeshed has no common type for the three
        if reading and writing:
            buffer = io.BufferedRWPair(raw, raw, size)
        elif reading:
            buffer = io.BufferedReader(raw, size)
        else:
            buffer = io.BufferedWriter(raw, size)
        if binary:
            return cast("IO[bytes]", buffer)
        return io.TextIOWrapper(buffer, encoding, errors, newline)


class _PipeFile(io.RawIOBase):
    """A raw file over a pipe, for makefile."""

    def __init__(self, pipe: StreamPipe, *, reading: bool, writing: bool) -> None:
        self._pipe = pipe
        self._reading = reading
        self._writing = writing

    def __reduce__(self) -> NoReturn:
        """Raise TypeError, as for the pipe."""
        refuse_copy(self, "pass the pipe's name, and open it there with npipe.connect")

    def readable(self) -> bool:
        """Whether the file was made for reading."""
        return self._reading

    def writable(self) -> bool:
        """Whether the file was made for writing."""
        return self._writing

    def fileno(self) -> int:
        """Return the pipe's descriptor for selectors."""
        return self._pipe.fileno()

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read as the pipe does; 0 at the end, as files do, but not when another thread has closed the pipe."""
        try:
            return self._pipe.readinto(buffer)
        except PipeClosedError as error:
            if error.winerror != WinError.BROKEN_PIPE or self._pipe.closed:
                raise
            return 0

    def readall(self) -> bytes:
        """Read up to the end. Nothing is lost when that fails, unlike what io does with many calls of readinto."""
        return self._pipe.read()

    def write(self, data: ReadableBuffer) -> int | None:
        """Write all of it; None if that would block and the handle has PIPE_NOWAIT."""
        count = self._pipe.write(data)
        return None if count == 0 and memoryview(data).nbytes else count


def peer_of(pid: int, uid: int) -> Peer:
    """Describe a process of this machine."""
    if sys.platform == "win32":  # there the transport knows
        raise NotImplementedError
    import pwd

    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = None
    return Peer(pid=pid, uid=uid, user=user, host=socket.gethostname() or os.uname().nodename)
