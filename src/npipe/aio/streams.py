"""asyncio's own shapes over pipes: transports and protocols, StreamReader and StreamWriter."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from npipe._process import refuse_copy
from npipe.aio._loops import current
from npipe.aio.listener import Listener, ListenOptions
from npipe.aio.opening import connect
from npipe.errors import PipeClosedError, PipeError, WinError
from npipe.names import parse_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from npipe.aio.pipe import StreamPipe

__all__ = ["PipeEventLoop", "PipeLoopMixin", "PipeServer", "PipeTransport", "open_stream"]

_READ_SIZE = 65536
_HIGH_WATER = 65536


class PipeTransport(asyncio.Transport):
    """A byte pipe as asyncio's duplex pipe transport. A pipe cannot be closed for writing alone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipe: StreamPipe,
        protocol: asyncio.BaseProtocol,
        extra: dict[str, Any],
        *,
        made: asyncio.Future[None] | None = None,
    ) -> None:
        super().__init__({"pipe": pipe, "sockname": pipe.name, "peername": pipe.name, **extra})
        self._loop = loop
        self._pipe = pipe
        self._protocol = protocol
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        self._protocol_paused = False
        self._reading_paused = False
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._closing = False
        self._lost = False
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        loop.call_soon(self._begin, made)

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a transport can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and open it there with create_pipe_connection")

    def _begin(self, made: asyncio.Future[None] | None) -> None:
        self._protocol.connection_made(self)
        if not self._closing:
            self._reader = self._loop.create_task(self._read())
        if made is not None and not made.done():
            made.set_result(None)

    # ---- Reading

    async def _read(self) -> None:
        protocol = self._protocol
        try:
            while not self._closing:
                await self._may_read.wait()
                protocol = self._protocol
                if isinstance(protocol, asyncio.BufferedProtocol):
                    count = await self._pipe.readinto(protocol.get_buffer(-1))
                    await self._may_read.wait()  # paused meanwhile
                    if count:
                        protocol.buffer_updated(count)
                    continue
                data = await self._pipe.read(_READ_SIZE)
                await self._may_read.wait()
                protocol = self._protocol
                if data and isinstance(protocol, asyncio.Protocol):
                    protocol.data_received(data)
        except PipeClosedError as error:
            if self._closing:
                return
            if error.winerror != WinError.BROKEN_PIPE:
                self._fail(error)
                return
            if isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol):
                protocol.eof_received()
            self._lose(None)  # both directions end with the peer
        except PipeError as error:
            self._fail(error)

    def is_reading(self) -> bool:
        """See asyncio.ReadTransport.is_reading."""
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport.pause_reading."""
        self._reading_paused = True
        self._may_read.clear()

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport.resume_reading."""
        self._reading_paused = False
        self._may_read.set()

    # ---- Writing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """See asyncio.WriteTransport.write."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data is bytes-like, not {type(data).__name__}")
        if self._closing or self._lost or not data:
            return
        data = bytes(data)
        if self._writer is None and self._pipe._write_now(data):  # noqa: SLF001
            return
        self._buffer.append(data)
        self._buffered += len(data)
        if self._writer is None:
            self._writer = self._loop.create_task(self._write())
        if self._buffered > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._protocol.pause_writing()

    async def _write(self) -> None:
        try:
            while self._buffer:
                parts, self._buffer = self._buffer, []
                data = parts[0] if len(parts) == 1 else b"".join(parts)
                await self._pipe.write(data)
                self._buffered -= len(data)
                if self._protocol_paused and self._buffered <= self._low:
                    self._protocol_paused = False
                    self._protocol.resume_writing()
        except PipeError as error:
            self._fail(error)
        finally:
            self._writer = None
        if self._closing and not self._lost:
            self._lose(None)

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
            raise ValueError(f"high ({high}) >= low ({low}) >= 0 does not hold")
        self._high, self._low = high, low

    def can_write_eof(self) -> bool:
        """No: a pipe has no half-close."""
        return False

    def write_eof(self) -> None:
        """Raise NotImplementedError: a pipe has no half-close."""
        raise NotImplementedError("a named pipe cannot be closed for writing alone")

    # ---- Ending

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport.is_closing."""
        return self._closing

    def close(self) -> None:
        """Write what is buffered, then close the pipe."""
        if self._closing:
            return
        self._closing = True
        if self._writer is None:
            self._lose(None)

    def abort(self) -> None:
        """Close the pipe at once; what the peer has not read yet is lost."""
        self._buffer.clear()
        self._pipe.abort()
        self._lose(None)

    def _fail(self, error: Exception) -> None:
        self._buffer.clear()
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._closer = self._loop.create_task(self._end(error))

    async def _end(self, error: Exception | None) -> None:
        tasks = [task for task in (self._reader, self._writer) if task is not None]
        await self._pipe.close(timeout=0 if error else 5.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._protocol.connection_lost(error)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See asyncio.BaseTransport.set_protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """See asyncio.BaseTransport.get_protocol."""
        return self._protocol


async def _transport(
    pipe: StreamPipe, protocol: asyncio.BaseProtocol, address: str | os.PathLike[str]
) -> PipeTransport:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[None] = loop.create_future()
    transport = PipeTransport(loop, pipe, protocol, {"addr": address}, made=made)
    try:
        await made
    except BaseException:
        transport.close()
        raise
    return transport


async def open_stream(
    name: str | os.PathLike[str], *, limit: int = 65536, **options: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a pipe and return asyncio's reader and writer, as asyncio.open_unix_connection does.

    `limit` is the reader's, in bytes; `options` are those of `connect` but mode. Raises as `connect` does; the reader
    and the writer raise what their transport got, a PipeError. Cancelled, the connection is closed.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    pipe = await connect(name, mode="byte", **options)
    transport = await _transport(pipe, protocol, name)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class PipeServer:
    """What start_serving_pipe returns: a server whose clients get a protocol each."""

    def __init__(self, protocol_factory: Callable[[], asyncio.BaseProtocol], address: str) -> None:
        self._factory = protocol_factory
        self._address = address
        # As asyncio's own server on Windows: of message type, and read as bytes.
        options = ListenOptions(mode="byte", message_type=True)
        self._listener: Listener[StreamPipe] = Listener(current(), parse_name(address), options, exclusive=True)
        self._task = asyncio.get_running_loop().create_task(self._accept())

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a server can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and serve it there with start_serving_pipe")

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        async for pipe in self._listener:
            PipeTransport(loop, pipe, self._factory(), {"addr": self._address})

    def close(self) -> None:
        """Stop listening; connections live on."""
        self._listener.close()

    def closed(self) -> bool:
        """Whether the server is closed."""
        return self._listener.closed


class PipeLoopMixin:
    """The two methods for pipes that asyncio's Proactor loop has on Windows, for any loop with add_reader.

    class Loop(PipeLoopMixin, asyncio.SelectorEventLoop): ...
    """

    async def create_pipe_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], address: str
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect to a pipe; return a transport and the protocol made for it. Waits while all instances are busy."""
        pipe = await connect(address, mode="byte", timeout=None)
        protocol = protocol_factory()
        return await _transport(pipe, protocol, address), protocol

    async def start_serving_pipe(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], address: str
    ) -> list[PipeServer]:
        """Serve a pipe, a protocol for each client; return a list of one server, which has `close`."""
        return [PipeServer(protocol_factory, address)]


if sys.platform == "win32":
    _Loop = asyncio.ProactorEventLoop
else:
    _Loop = asyncio.SelectorEventLoop


class PipeEventLoop(PipeLoopMixin, _Loop):
    """asyncio's loop with create_pipe_connection and start_serving_pipe: asyncio.Runner(loop_factory=PipeEventLoop)."""
