"""A byte pipe as a transport of asyncio's, which behaves as its sockets' transports do."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import warnings
from typing import TYPE_CHECKING, Any, Final, NoReturn

from npipe._buffers import content_of
from npipe._display import literal
from npipe._process import refuse_copy
from npipe.aio._steps import Steps
from npipe.errors import PipeAccessError, PipeClosedError, PipeError, WinError, short_write

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.async_pipe import StreamPipe

__all__ = ["PipeTransport"]

logger: Final = logging.getLogger("asyncio")  # with asyncio's own transports

_READ_SIZE = 65536
_READS_AT_ONCE = 4
"""Reads in one turn of the loop, while there is something to read."""
_WRITE_SIZE = 1 << 20
"""Bytes from which on what is buffered is not put together into a longer write."""
_HIGH_WATER = 65536
_WRITES_UNTIL_WARNING = 5
"""How many writes to a connection that is lost are ignored, until each is warned of; asyncio's number."""

_PEER_CLOSED = (WinError.BROKEN_PIPE, WinError.NO_DATA)
_DISCONNECTED = WinError.PIPE_NOT_CONNECTED


def _nothing(*_: object) -> None:
    """Stand for a method that a protocol does not have."""


class PipeTransport(asyncio.Transport):
    """A byte pipe as asyncio's duplex transport: callbacks, limits and errors are those of its sockets' transports.

    Nothing of it is a task. Two things are better than a socket's: what came before a write that failed is delivered
    first, and a message pipe read as a stream can be closed for writing alone (write_eof), by an empty message.
    """

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a transport can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and open it there with create_pipe_connection")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipe: StreamPipe,
        protocol: asyncio.BaseProtocol,
        extra: dict[str, Any],
        *,
        made: asyncio.Future[None] | None = None,
        on_lost: Callable[[PipeTransport], object] = _nothing,
    ) -> None:
        super().__init__({"pipe": pipe, "sockname": pipe.name, "peername": pipe.name, **extra})
        self._loop = loop
        self._pipe = pipe
        self._on_lost = on_lost
        self._context = contextvars.copy_context()
        self._reading: Steps | None = None  # a read under way
        self._read_soon: asyncio.Handle | None = None
        self._rest = memoryview(b"")  # was read, and paused before a BufferedProtocol had all of it
        self._paused = False
        self._read_over = False  # the end has come, or this end may not read
        self._writing: Steps | None = None  # a write under way, of the first `_written` bytes that are buffered
        self._written = 0
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        self._protocol_paused = False
        self._of_message_type = pipe._is_message_type()  # noqa: SLF001
        self._eof = self._eof_to_send = False
        self._write_error: PipeError | None = None  # the peer had gone, and what it had written is read before the end
        self._closing = False
        self._conn_lost = False  # connection_lost is scheduled
        self._ignored = 0  # writes since the connection was lost
        self.set_protocol(protocol)
        pipe._has_transport = True  # noqa: SLF001
        # In three steps, as asyncio's: one that raises does not keep the others from being done.
        loop.call_soon(getattr(protocol, "connection_made", _nothing), self)
        loop.call_soon(self._begin, context=self._context)
        if made is not None:
            loop.call_soon(_set_result, made)

    def __repr__(self) -> str:
        state = "closed" if self._pipe.closed else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {literal(self._pipe.name)}, {state}, {self._buffered} bytes to write>"

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        if getattr(self, "_protocol", None) is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._pipe._end(discard=False)  # noqa: SLF001

    @property
    def _sock(self) -> Any:
        """The pipe until it is closed, then None: programs look here whether a transport of asyncio's has ended."""
        return None if self._protocol is None else self.get_extra_info("pipe")

    # ---- The protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See asyncio.BaseTransport.set_protocol.

        A protocol is any object with the methods; those that it does not have are as if they did nothing, but for
        data_received. One of get_buffer and buffer_updated is a BufferedProtocol if it has no data_received.
        """
        self._protocol: Any = protocol
        self._is_buffered = isinstance(protocol, asyncio.BufferedProtocol) or (
            hasattr(protocol, "get_buffer") and not hasattr(protocol, "data_received")
        )

    def get_protocol(self) -> asyncio.BaseProtocol:
        """See asyncio.BaseTransport.get_protocol."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def _tell(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    # ---- Reading

    def _begin(self) -> None:
        if self.is_reading():
            self._read_on()

    def is_reading(self) -> bool:
        """See asyncio.ReadTransport.is_reading."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport.pause_reading. Nothing is consumed until resume_reading."""
        if not self.is_reading():
            return
        self._paused = True
        self._stop_reading()

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport.resume_reading."""
        if self._closing or not self._paused:
            return
        self._paused = False
        self._context = contextvars.copy_context()
        self._plan_to_read()

    def _plan_to_read(self) -> None:
        if self._read_soon is None and self._reading is None:
            self._read_soon = self._loop.call_soon(self._read_on, context=self._context)

    def _stop_reading(self) -> None:
        if self._read_soon is not None:
            self._read_soon.cancel()
            self._read_soon = None
        if self._reading is not None:
            self._reading.drop()  # has consumed nothing
            self._reading = None

    def _may_read(self) -> bool:
        return not (self._read_over or self._paused or self._closing)

    def _read_on(self) -> None:
        self._read_soon = None
        if self._rest:
            self._feed(self._rest)
        for _ in range(_READS_AT_ONCE):
            if not self._may_read():
                return
            steps = Steps(self._loop, self._pipe._read_some(_READ_SIZE, None), self._have_read, self._context)  # noqa: SLF001
            if not steps.start():
                self._reading = steps
                return
            self._receive(steps)
        if self._may_read():
            self._plan_to_read()  # others have their turn first

    def _have_read(self, steps: Steps) -> None:
        self._reading = None
        self._receive(steps)
        if self._may_read() and self._reading is None and self._read_soon is None:
            self._read_on()

    def _receive(self, steps: Steps) -> None:
        """Deliver what a read has brought."""
        error = steps.error
        if error is None:
            if not steps.result:
                self._receive_end()
            elif self._is_buffered:
                self._feed(memoryview(steps.result))
            else:
                self._call("data_received", steps.result)
        elif isinstance(error, PipeClosedError) and error.winerror == WinError.BROKEN_PIPE:
            self._receive_end()
        elif isinstance(error, PipeAccessError):
            self._read_over = True  # this end may only write
        elif self._write_error is not None:
            self._fatal_error(self._write_error, "Fatal write error on pipe transport")  # which was first
        else:
            self._fatal_error(error, "Fatal read error on pipe transport")

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the protocol's, whose failure is the end of the connection."""
        try:
            return getattr(self._protocol, method)(*arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio's transports
            self._fatal_error(error, f"Fatal error: protocol.{method}() call failed.")

    def _feed(self, rest: memoryview) -> None:
        """Hand a BufferedProtocol what was read, as far as it goes on reading."""
        while rest and self._may_read():
            if not self._is_buffered:  # not any more
                self._rest = memoryview(b"")
                self._call("data_received", bytes(rest))
                return
            try:
                buffer = self._protocol.get_buffer(len(rest))
                if not len(buffer):
                    raise RuntimeError("get_buffer() returned an empty buffer")  # noqa: TRY301
                count = min(len(buffer), len(rest))
                buffer[:count] = rest[:count]
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio's transports
                self._fatal_error(error, "Fatal error: protocol.get_buffer() call failed.")
                return
            self._rest = rest = rest[count:]
            self._call("buffer_updated", count)
        self._rest = rest

    def _receive_end(self) -> None:
        """Everything that the peer has written is read: it has closed, or will not write any more."""
        self._read_over = True
        if self._write_error is not None:
            self._force_close(self._write_error)
            return
        if self._is_buffered:  # a socket's transport asks for a buffer before it finds the end
            self._call("get_buffer", -1)
            if self._closing:
                return
        if hasattr(self._protocol, "eof_received"):
            stays_open = self._call("eof_received")
            if self._closing or stays_open:
                return
        self.close()

    # ---- Writing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """See asyncio.WriteTransport.write."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data:
            return
        if self._conn_lost or self._write_error is not None:
            self._ignored += 1
            if self._ignored >= _WRITES_UNTIL_WARNING:
                logger.warning("pipe.write() raised exception.")
            return
        data = content_of(data)
        if self._writing is None:
            count = self._pipe._write_now(data)  # noqa: SLF001
            if count == len(data):
                return
            if count >= 0:
                self._write_failed(short_write(self._pipe.name, count, len(data)))
                return
        self._buffer.append(data)
        self._buffered += len(data)
        if self._writing is None:
            self._write_on()
        self._maybe_pause_protocol()

    def _write_on(self) -> None:
        """Write what is buffered, and then the end, if that is wanted."""
        while self._buffer or self._eof_to_send:
            if self._buffer:
                data = self._next_part()
                steps = Steps(self._loop, self._pipe.write(data), self._have_written)
            else:
                data, self._eof_to_send = b"", False
                steps = Steps(self._loop, self._write_end(), self._have_written)
            self._written = len(data)
            self._writing = steps
            if not steps.start() or not self._wrote(steps):
                return
        if self._closing:
            self._lose_soon(None)

    def _next_part(self) -> bytes:
        if len(self._buffer) == 1 or len(self._buffer[0]) >= _WRITE_SIZE:
            return self._buffer.pop(0)
        count = size = 0
        while count < len(self._buffer) and size < _WRITE_SIZE:
            size += len(self._buffer[count])
            count += 1
        parts, self._buffer = self._buffer[:count], self._buffer[count:]
        return b"".join(parts)

    async def _write_end(self) -> None:
        await self._pipe.flush()  # a reader of bytes takes an empty message together with what is before it
        await self._pipe.write(b"")

    def _have_written(self, steps: Steps) -> None:
        if self._wrote(steps):
            self._write_on()

    def _wrote(self, steps: Steps) -> bool:
        """Heed a write that is over. Whether to go on with the next one."""
        error = steps.error
        if error is None and self._written and steps.result != self._written:
            error = short_write(self._pipe.name, steps.result, self._written)
        try:
            if self._conn_lost:
                return False
            if error is None:
                self._buffered -= self._written
                self._maybe_resume_protocol()  # may write, into the buffer, as long as `_writing` is set
            elif self._written or not isinstance(error, PipeClosedError):  # who has gone need not be told of the end
                self._write_failed(error)
                return False
            return not self._conn_lost
        finally:
            self._writing = None

    def _write_failed(self, error: BaseException) -> None:
        """Be lost; but if the peer has just closed, what it wrote before is still to be delivered."""
        self._buffer.clear()
        self._buffered = 0
        over = self._read_over or self._closing
        # A read that is pending has what came before a disconnect; no later one has.
        readable = (*_PEER_CLOSED, _DISCONNECTED) if self._reading is not None else _PEER_CLOSED
        if over or not isinstance(error, PipeClosedError) or error.winerror not in readable:
            self._fatal_error(error, "Fatal write error on pipe transport")
            return
        self._write_error = error
        self._eof_to_send = False
        self._maybe_resume_protocol()  # who waits for that learns that nothing is written any more
        if error.winerror in _PEER_CLOSED and self._may_read():
            self._stop_reading()
            self._plan_to_read()

    def get_write_buffer_size(self) -> int:
        """See asyncio.WriteTransport.get_write_buffer_size."""
        return self._buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """See asyncio.WriteTransport.get_write_buffer_limits."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.WriteTransport.set_write_buffer_limits."""
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._maybe_pause_protocol()

    def _maybe_pause_protocol(self) -> None:
        if self._buffered > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._control_flow("pause_writing")

    def _maybe_resume_protocol(self) -> None:
        if self._protocol_paused and self._buffered <= self._low:
            self._protocol_paused = False
            self._control_flow("resume_writing")

    def _control_flow(self, method: str) -> None:
        """Call a method of the protocol's, whose failure ends nothing."""
        try:
            getattr(self._protocol, method, _nothing)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio's transports
            self._tell(f"protocol.{method}() failed", error)

    def can_write_eof(self) -> bool:
        """Whether write_eof works: on pipes of message type."""
        return self._of_message_type

    def write_eof(self) -> None:
        """End what is written, behind what is buffered, by an empty message; reading goes on.

        The peer's stream ends there, if it reads the pipe as one. Raises NotImplementedError on a pipe of byte type,
        which has no empty messages.
        """
        if self._closing or self._eof:
            return
        if not self._of_message_type:
            raise NotImplementedError("a named pipe of byte type cannot be closed for writing alone")
        self._eof = True
        if self._write_error is None:
            self._eof_to_send = True
            if self._writing is None:
                self._write_on()

    # ---- Ending

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport.is_closing."""
        return self._closing

    def close(self) -> None:
        """Stop reading, write what is buffered, then close the pipe: see asyncio.BaseTransport.close."""
        if self._closing:
            return
        if self._write_error is not None:
            self._force_close(self._write_error)
            return
        self._closing = True
        self._stop_reading()
        if self._writing is None:
            self._lose_soon(None)

    def abort(self) -> None:
        """Close the pipe at once; what the peer has not read yet is lost."""
        if self._conn_lost:
            return
        self._stop_reading()
        self._pipe.abort()
        self._force_close(None)

    def _fatal_error(self, error: BaseException, message: str) -> None:
        if isinstance(error, OSError):
            if self._loop.get_debug():
                logger.debug("%r: %s", self, message, exc_info=error)
        else:
            self._tell(message, error)
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        if self._conn_lost:
            return
        self._buffer.clear()
        self._buffered = 0
        self._eof_to_send = False
        self._closing = True
        self._stop_reading()
        self._lose_soon(error)

    def _lose_soon(self, error: BaseException | None) -> None:
        self._conn_lost = True
        self._loop.call_soon(self._call_connection_lost, error)

    def _call_connection_lost(self, error: BaseException | None) -> None:
        try:
            getattr(self._protocol, "connection_lost", _nothing)(error)
        finally:
            self._pipe._end(discard=False)  # noqa: SLF001
            writing, self._writing = self._writing, None
            if writing is not None:
                writing.drop()
            self._protocol = None
            self._rest = memoryview(b"")
            self._on_lost(self)


def _set_result(made: asyncio.Future[None]) -> None:
    if not made.done():
        made.set_result(None)
