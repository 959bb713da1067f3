"""What every pipe offers, whatever carries it: the abstract classes of the sync face."""

from __future__ import annotations

import io
import os
import socket
import sys
from abc import abstractmethod
from typing import IO, TYPE_CHECKING, Any, ClassVar, NoReturn, Self, cast

from npipe._buffers import plain_view
from npipe._display import PipeType, listed, of_messages, of_streams, refuse_construction, show_pipe, take_after
from npipe._process import refuse_copy
from npipe.errors import PipeClosedError, WinError
from npipe.options import Peek, Peer, PipeInfo, check_timeout, read_size
from npipe.peers import NOBODY_HERE, remote_peer
from npipe.reasons import not_counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from npipe._buffers import ReadableBuffer, WriteableBuffer
    from npipe._display import Traits
    from npipe.figures import PipeStats
    from npipe.views import MessageView, Reservation

__all__ = ["MessagePipe", "Pipe", "StreamPipe"]

CLOSE_TIMEOUT = 5.0
"""Seconds that close() gives writes which other threads have under way."""

_READ_SIZE = 65536


class Pipe(metaclass=PipeType):
    """One end of a connected named pipe. `connect` and a listener's `accept` return it; `with` closes it.

    - **Threads**: several may use one pipe. Reads are served in the order in which they began, a write goes in whole,
      and a `close` in one thread ends the calls of the others (PipeClosedError, 109).
    - **Time-outs** are seconds, None is for ever. When one is over PipeTimeoutError (121) is raised: a read has
      consumed nothing and a write has sent nothing. But the request of a `transact` stays sent, and what a reader of
      bytes, or of a message's parts, had taken of a write stays read (SEMANTICS §10.2).
    - **Who waits for what**: a write waits only while the pipe's buffer is full, not for its reader; `flush` waits
      until the peer has read all; a read waits for data or the peer's end; `close` does not wait for the peer, which
      reads what is left.
    - **After a fork** the pipe is the parent's: in the child it is closed (6), and the parent's is not disturbed. The
      child opens the pipe anew by its name.

    More: docs/semantics.md has the rows that "SEMANTICS §n" names. Errors: npipe.errors.
    """

    __slots__ = ()

    _kind: ClassVar[str] = "npipe.Pipe"
    """The public name of the class."""

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

        Returns a Peek. On a message pipe its `data` and `left` are of the first message only; `available` counts all of
        them. On a byte pipe `left` is 0. Follows PeekNamedPipe, SEMANTICS §7.

        Raises:
            PipeClosedError: the peer has closed and nothing is left (109), or the server has disconnected (233).
            PipeAccessError: this end may only write (5).
        """

    def _look(self) -> None:
        """Find out now whether the peer has gone, where that is otherwise known a moment after it. Raises as peek."""

    _asks_host: ClassVar[bool] = False
    """Whether `peek`, and what is like it, asks another machine, and so may wait."""

    def _peek_here(self, size: int) -> Peek:
        """Return what `peek` does without asking another machine; raises PipeStateError (50) where it would have to."""
        return self.peek(size)

    def _has_unread(self) -> bool:
        """Whether there is something to read, be it an empty message, of which peek does not tell. Raises as peek."""
        return self.peek().available > 0

    @abstractmethod
    def flush(self, *, timeout: float | None = None) -> None:
        """Wait until the peer has read everything written before this call, at most `timeout` seconds (None: for ever).

        Follows FlushFileBuffers, SEMANTICS §10.1.

        Raises:
            PipeTimeoutError: the time is over (121); what was written stays readable.
            PipeClosedError: the peer has gone meanwhile (109), or the server has disconnected (233).
            PipeAccessError: this end may only read (5).
        """

    @abstractmethod
    def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """Close this end. What was written stays readable for the peer; closing twice is no error.

        Writes that other threads have under way get `timeout` seconds until they stand in the pipe, and succeed then.
        Other calls that wait in other threads raise PipeClosedError (109), which says that it was closed here; but a
        read that was waiting when something came has that. It does not wait for the peer: `flush` does.
        """

    @abstractmethod
    def abort(self) -> None:
        """Close this end at once, and discard what the peer has not read yet.

        The peer of a server's end is told that it was disconnected (233, DisconnectNamedPipe), the peer of a client's
        end that the pipe has ended (109).
        """

    @property
    @abstractmethod
    def peer(self) -> Peer:
        """The process at the other end, by the kernel's word at the time when it connected.

        Raises:
            PipeClosedError: the server has disconnected (233), or this end is closed (6).
        """

    @property
    @abstractmethod
    def info(self) -> PipeInfo:
        """The pipe's attributes, and how many instances it has now.

        Raises:
            PipeClosedError: this end is closed (6).
        """

    @property
    def stats(self) -> PipeStats:
        """What this connection has moved, and who waits; after a close, what it had moved. Costs the pipe nothing.

        Raises:
            PipeStateError: on Windows, and of a pipe of another machine: nobody counts there (50).
            PipeClosedError: this is a forked child, and the connection the parent's (6).
        """
        raise not_counted(self.name, "asking for the pipe's counts")

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor for select, poll and epoll, which is readable when a read would not wait. Not on Windows.

        It is good for waiting only, and for as long as the pipe is open; no program that is started inherits it.

        Raises:
            PipeClosedError: this end is closed (6).
            PipeStateError: subprocess asks for it (50): a child cannot have a pipe as its standard input or output.
                Give it subprocess.PIPE and copy, or let it open the pipe by its name. On Windows, always.
            PipeResourceError: the process has no descriptor left (4).
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
    """A pipe that keeps message boundaries: what one `send` wrote is what one `recv` returns.

    A peer that has opened it with mode="byte" reads the messages as one stream, without boundaries; each write of its
    own is a message here.

    A message that may be longer than a buffer is read in its parts:

        size = pipe.recv_into(buffer)
        use(buffer[:size])
        while pipe.more_data:  # that was not all of it
            size = pipe.recv_into(buffer)
            use(buffer[:size])

    `pipe.recv_into(buffer, exact=True)` raises PipeMessageTooLargeError (234) instead, and the message stays.
    """

    __slots__ = ()

    _kind = "npipe.MessagePipe"

    if not TYPE_CHECKING:
        read = of_streams("recv()")
        readinto = of_streams("recv_into()")
        readline = of_streams("recv()")
        write = of_streams("send()")
        makefile = of_streams("recv() and send()")

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
    def send(self, data: ReadableBuffer, *more: ReadableBuffer, timeout: float | None = None) -> None:
        """Write `data`, a buffer of bytes or numbers, as one message; an empty one is a message too.

        With `more` buffers, `send(a, b, c)`, all of them together are one message, as for send_parts.

        Waits, at most `timeout` seconds (None: for ever), while the pipe's buffer is full; not for the reader. Follows
        WriteFile, SEMANTICS §6.

        Raises:
            PipeClosedError: the peer has gone (232), it went while this waited (109), the server has disconnected
                (233), or this end is closed (6).
            PipeTimeoutError: the time is over (121), and the message is withdrawn; on a handle with PIPE_NOWAIT at
                once, when there is no room for it.
            PipeAccessError: this end may only read (5).
        """

    @abstractmethod
    def send_parts(self, *parts: ReadableBuffer, timeout: float | None = None) -> None:
        """Write `parts`, buffers of bytes or numbers, as one message: one behind the other, without joining them first.

        Without any it is an empty message. `timeout` as for `send`, which is the same for one buffer or more.

        Raises:
            PipeError: all that `send` raises.
        """

    @abstractmethod
    def reserve(self, nbytes: int, *, timeout: float | None = None) -> Reservation:
        """Return room for a message of `nbytes`, for a `with` block, which sends it at its end.

            with pipe.reserve(len(data)) as view:
                view[:] = data

        The block gets a writable memoryview in the pipe's buffer, whose bytes are not defined yet; what it writes there
        is not copied. Its end sends the message, an exception withdraws it. `shrink` of what this returns, before the
        end, makes it shorter. The block begins when there is room, `timeout` seconds (None: for ever) later at most.

        - A message that is longer than the buffer, and an empty one, is put together elsewhere and sent at the end,
          which may wait as `send` does, for `timeout` seconds again. On Windows every message is.
        - While it is out, a write of the same thread raises PipeStateError, and those of other threads wait for its end
          if it is in the buffer; one that is put together elsewhere holds nobody back, and is sent after them. `flush`
          and `close` do not wait for it. After a close the end of the block raises PipeClosedError.
        - An array or a slice of the view that is still there at the end of the block raises PipeViewError, and nothing
          is sent; it keeps a copy of the bytes.

        More: docs/zero-copy.md.

        Raises:
            PipeClosedError: the peer has gone (232, 109), the server has disconnected (233), or this end is closed (6);
                from the block's end, too.
            PipeTimeoutError: there is no room in time (121).
            PipeStateError: this thread has a reservation out (170).
            PipeViewError: something still looks at the bytes at the block's end (1224).
            PipeArgumentError: a message cannot have so many bytes (87).
            PipeAccessError: this end may only read (5).
        """

    @abstractmethod
    def recv_view(self, *, timeout: float | None = None, copy: bool = False) -> MessageView:
        """Return a view of the next message, for a `with` block, which consumes it at its end.

            with pipe.recv_view() as view:
                use(view)

        The block gets a read-only memoryview of the message where it stands in the pipe's buffer: nothing is copied,
        and its room is free again at the end of the block. After an exception the message stays, and is what the next
        read returns. The block begins when a message has come, `timeout` seconds (None: for ever) later at most.

        - A message that does not lie in the buffer as a whole, and with `copy` every one, comes as a copy. So it does
          on Windows. A peer that breaks the rules can change what is looked at in place: `copy` is for strangers.
        - While it is out, other threads' reads wait for its end; one of the same thread raises PipeStateError. The
          bytes stay there whatever becomes of the pipe meanwhile.
        - An array or a slice of the view that is still there at the end of the block raises PipeViewError; the message
          is consumed, and what looks at it keeps a copy.

        More: docs/zero-copy.md.

        Raises:
            PipeError: all that `recv` raises.
            PipeStateError: this thread has a view out (170).
            PipeViewError: something still looks at the bytes at the block's end (1224).
        """

    @abstractmethod
    def recv(self, *, timeout: float | None = None) -> bytes:
        """Return the next whole message, of any length up to `max_message_size`.

        Waits for it at most `timeout` seconds (None: for ever). After a part was read with recv_into, returns the rest
        of that message. Follows ReadFile in message-read mode, SEMANTICS §5.

        Raises:
            PipeClosedError: the peer has closed and nothing is left (109), the server has disconnected (233), or this
                end is closed (6).
            PipeTimeoutError: no message has come in time (121).
            PipeMessageTooLargeError: the message is longer than `max_message_size` (234); it stays.
            PipeAccessError: this end may only write (5).
        """

    @abstractmethod
    def recv_into(
        self, buffer: WriteableBuffer, *more: WriteableBuffer, exact: bool = False, timeout: float | None = None
    ) -> int:
        """Read the next message, or as much of it as fits, into `buffer`; return the number of bytes.

        With `more`, `recv_into(a, b, c)`, it is scattered into several buffers: each is filled before the next, and
        together they are what is called the buffer here. A message that does not fit leaves its rest for the next read,
        and `more_data` is true until that is read: the number alone does not tell a part from a message. With `exact`
        such a message raises PipeMessageTooLargeError instead, nothing is consumed, and `peek().left` is its length; it
        reads through a copy of the message. The buffer is its limit, not max_message_size. Waits at most `timeout`
        seconds (None: for ever). Follows ReadFile, SEMANTICS §5.

        Raises:
            PipeClosedError: the peer has closed and nothing is left (109), the server has disconnected (233), or this
                end is closed (6).
            PipeTimeoutError: no message has come in time (121).
            PipeMessageTooLargeError: with `exact`, the buffer is too small (234); the message stays.
            PipeAccessError: this end may only write (5).
        """

    @property
    @abstractmethod
    def more_data(self) -> bool:
        """Whether a message has been read in part, so that the next read returns more of it."""

    @abstractmethod
    def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes:
        """Send `data` as one message and return the next message that comes, within `timeout` seconds (None: for ever).

        A time-out's `sent` is True when the request was sent, as a rule; one larger than the pipe's buffer, of which a
        part still waited for room, is withdrawn. After a request that was sent the pipe is *owed* its answer, also when
        an exception of a signal's handler ended the call. The next transact would get that answer, so it raises
        PipeStateError and sends nothing, until the answer has been read (`recv`) or dropped (`discard_reply`). Follows
        TransactNamedPipe, SEMANTICS §8.

        Raises:
            PipeTimeoutError: the answer has not come in time (121).
            PipeStateError: the answer of an earlier request is owed (996); nothing is sent.
            PipeBusyError: unread messages are there, or another thread reads (231); nothing is sent.
            PipeClosedError: the peer has gone while this waited (109), or the server has disconnected (233).
            PipeModeError: the pipe is not duplex, or the peer has gone (230).
            PipeMessageTooLargeError: the answer is longer than `max_message_size` (234); it stays.
            PipeAccessError: this end may only read, or only write (5).
        """

    @property
    @abstractmethod
    def _owed(self) -> int:
        """How many answers of transactions are still to be read that ended before they came."""

    def _forget_reply(self) -> None:
        """Be owed nothing: the writer of the answer has given it up."""

    @property
    @abstractmethod
    def _too_long(self) -> bool:
        """Whether the answer that is owed is known to be longer than max_message_size."""

    @abstractmethod
    def discard_reply(self, *, timeout: float | None = None) -> None:
        """Wait until the answer that a transact has left to come is there, at most `timeout` seconds, and drop it.

        Does nothing when none is owed. The answer may be of any length. Of several threads each waits for the one
        before; if another one's read takes the answer meanwhile, this drops nothing.

        Raises:
            PipeTimeoutError: it is not there in full (121), and still owed; what had come of it is dropped all the
                same, and the next read drops the rest before it looks for a message.
            PipeClosedError: it will not come: the peer has gone (109), or the server has disconnected (233).
        """

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
    """A pipe read as a stream of bytes, whatever the writes were; `makefile` makes a file of it.

    A message pipe too is read so if it is opened with mode="byte": its messages come without boundaries, and each write
    is one message for the peer.
    """

    __slots__ = ()

    _kind = "npipe.StreamPipe"

    if not TYPE_CHECKING:
        recv = of_messages("read()")
        recv_into = of_messages("readinto()")
        send = of_messages("write()")
        transact = of_messages("write() and read()")

    @abstractmethod
    def readinto(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        """Read what is there, at least one byte, into `buffer`; return the number of bytes.

        Waits at most `timeout` seconds (None: for ever). On a message pipe an empty message is the end of the stream,
        by which the peer has closed for writing alone: 0, from then on. Follows ReadFile in byte-read mode, SEMANTICS
        §5.

        Raises:
            PipeClosedError: the stream is at its end, as the peer has closed (109), the server has disconnected (233),
                or this end is closed (6).
            PipeTimeoutError: nothing has come in time (121).
            PipeAccessError: this end may only write (5).
        """

    @abstractmethod
    def write(self, data: ReadableBuffer, *, timeout: float | None = None) -> int:
        """Write all of `data`, a buffer of bytes or numbers; return its length in bytes.

        Waits, at most `timeout` seconds (None: for ever), while the pipe's buffer is full; not for the reader. On a
        pipe of message type an empty write, after a flush, is the end for a peer that reads a stream; a read of bytes
        takes an empty message together with what is before it. This end can go on reading.

        On a handle with PIPE_NOWAIT it does not wait, and the number returned is that of the bytes that were written:
        all, or those that reads were waiting for, or 0 (SEMANTICS §6.2). A file of `makefile` does then what files do
        that would block: a raw one returns None, a buffered one raises BlockingIOError.

        Raises:
            PipeClosedError: the peer has gone (232), it went while this waited (109), the server has disconnected
                (233), or this end is closed (6).
            PipeTimeoutError: the time is over (121), and nothing of it is sent, unless the peer had begun to read it.
            PipeAccessError: this end may only read (5).
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
        on. `timeout` in seconds (None: for ever) is for each wait; what a read of all had read when it is over is there
        for the next read.

        Raises:
            PipeClosedError: the stream is at its end (109), the server has disconnected (233), or this end is closed
                (6).
            PipeTimeoutError: nothing has come in time (121).
            PipeAccessError: this end may only write (5).
        """
        check_timeout(timeout)
        size = read_size(size)
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

        A signal's handler that raises in the middle of a read with a buffer takes what that has read by then with it,
        as with all of io's files.

        Args:
            mode: made of "r", "w" and "b"; without "b" the file is one of text.
            buffering: the buffer's size in bytes, 0 (binary only) for none, None for io's usual one.
            encoding: of text, as for open().
            errors: of text, as for open().
            newline: of text, as for open().

        Raises:
            ValueError: the mode is another, or text without a buffer is asked for.
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
        return None if count == 0 and plain_view(data).nbytes else count


def peer_of(pid: int, uid: int, remote: bytes | None = None) -> Peer:
    """Describe a process of this machine, or what the engine knows of a client of another one (`remote`)."""
    if remote is not None:
        return remote_peer(remote)
    if sys.platform == "win32":  # there the transport knows
        raise NotImplementedError
    if uid == NOBODY_HERE:  # one of another machine, and the process that took it in has not told of whom
        return Peer(pid=0, uid=None, user=None, host="", kind="anonymous", origin="samba")
    import pwd

    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = None
    return Peer(pid=pid, uid=uid, user=user, host=socket.gethostname() or os.uname().nodename)
