"""asyncio's own shapes over pipes: transports and protocols, StreamReader and StreamWriter."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

from npipe._process import refuse_copy
from npipe.aio._steps import Steps
from npipe.aio.listener import Listener
from npipe.aio.opening import connect
from npipe.aio.transports import PipeTransport
from npipe.errors import PipeClosedError, PipeResourceError, WinError
from npipe.names import parse_name
from npipe.options import listen_options
from npipe.transports import select_async

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from npipe.async_pipe import StreamPipe
    from npipe.options import ConnectOptions

__all__ = ["PipeEventLoop", "PipeLoopMixin", "PipeServer", "PipeTransport", "open_stream"]


def _extra_of(loop: asyncio.AbstractEventLoop, pipe: StreamPipe, address: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a transport says besides: the address as it was given, and what the loop has to say of the pipe."""
    more = getattr(loop, "_extra_of_pipe", None)
    return {"addr": address, **({} if more is None else more(pipe))}


async def _transport(
    pipe: StreamPipe, protocol: asyncio.BaseProtocol, address: str | os.PathLike[str]
) -> PipeTransport:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[None] = loop.create_future()
    transport = PipeTransport(loop, pipe, protocol, _extra_of(loop, pipe, address), made=made)
    try:
        await made
    except BaseException:
        transport.close()
        raise
    return transport


class _StreamReader(asyncio.StreamReader):
    """A reader from which what came before a write that failed can still be read, up to the end."""

    _write_error: Exception | None = None

    def exception(self) -> Exception | None:
        """See asyncio.StreamReader.exception. It is what the writer's drain raises."""
        return self._write_error or super().exception()

    def set_exception(self, exc: Exception) -> None:
        """See asyncio.StreamReader.set_exception."""
        if isinstance(exc, PipeClosedError) and exc.winerror in (WinError.NO_DATA, WinError.BROKEN_PIPE):
            self._write_error = exc  # the peer had closed, and the transport has read everything before it said so
            self.feed_eof()
        else:
            super().set_exception(exc)


async def open_stream(
    name: str | os.PathLike[str], *, limit: int = 65536, **options: Unpack[ConnectOptions]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a pipe and return asyncio's reader and writer, as asyncio.open_unix_connection does.

    `limit` is the reader's, in bytes; `options` are those of `connect` but mode. Raises as `connect` does; the reader
    and the writer raise what their transport got, a PipeError; but after a write that failed because the peer has gone,
    what it had written is there to be read. On a pipe of message type the writer has `write_eof`, an empty message, and
    such a message is the end for the reader. Cancelled, the connection is closed.
    """
    loop = asyncio.get_running_loop()
    reader = _StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    pipe = await connect(name, mode="byte", **options)
    transport = await _transport(pipe, protocol, name)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


_ACCEPT_PAUSE = 1.0
"""Seconds until it is tried again, when an accept has failed; asyncio's own."""


class PipeServer(asyncio.AbstractServer):
    """What start_serving_pipe returns: a server whose clients get a protocol each.

    It has the methods of asyncio.Server, which do what they do there on the Python that runs, and `closed`. Serving is
    no task of the program's. A protocol factory that raises, or an accept, is told to the loop's exception handler, and
    the server goes on.
    """

    sockets: tuple[()] = ()
    """A pipe has none."""

    def __init__(self, protocol_factory: Callable[[], asyncio.BaseProtocol], address: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._factory = protocol_factory
        self._address = address
        # As asyncio's own server on Windows: of message type, and read as bytes.
        options = dataclasses.replace(listen_options(mode="byte"), message_type=True)
        name = parse_name(address)
        self._listener: Listener[StreamPipe] = Listener(select_async(name), name, options, exclusive=True)
        self._clients: weakref.WeakSet[PipeTransport] = weakref.WeakSet()
        self._waiters: list[asyncio.Future[None]] | None = []
        self._forever: asyncio.Future[None] | None = None
        self._accepting: Steps | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._accept()

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a server can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and serve it there with start_serving_pipe")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._listener.name!r}, {'closed' if self.closed() else 'serving'}>"

    # ---- Accepting

    def _accept(self) -> None:
        self._retry = None
        while not self._listener.closed:
            steps = self._accepting = Steps(self._loop, self._listener.accept(), self._accepted)
            if not steps.start() or not self._take(steps):
                return

    def _accepted(self, steps: Steps) -> None:
        if self._take(steps):
            self._accept()

    def _take(self, steps: Steps) -> bool:
        """Begin with a client. Whether to accept the next one."""
        self._accepting = None
        if self._listener.closed:
            return False
        if steps.error is not None:
            what = "out of system resources" if isinstance(steps.error, PipeResourceError) else "failed"
            self._tell(f"accepting a pipe's client {what}", steps.error)
            self._retry = self._loop.call_later(_ACCEPT_PAUSE, self._accept)
            return False
        pipe = steps.result
        try:
            extra = _extra_of(self._loop, pipe, self._address)
            transport = PipeTransport(self._loop, pipe, self._factory(), extra, on_lost=self._client_left)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio's servers
            pipe._end(discard=False)  # noqa: SLF001
            self._tell("Error on transport creation for incoming connection", error)
        else:
            self._clients.add(transport)
        return True

    def _tell(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": message, "exception": error, "server": self})

    def _client_left(self, transport: PipeTransport) -> None:
        self._clients.discard(transport)
        self._look_whether_over()

    def _look_whether_over(self) -> None:
        if self.closed() and not self._clients and self._waiters is not None:
            waiters, self._waiters = self._waiters, None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # ---- What asyncio.Server has

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """See asyncio.Server.get_loop."""
        return self._loop

    def is_serving(self) -> bool:
        """See asyncio.Server.is_serving."""
        return not self.closed()

    def closed(self) -> bool:
        """Whether the server is closed."""
        return self._listener.closed

    def close(self) -> None:
        """Stop listening; connections live on."""
        if self._listener.closed:
            return
        if self._retry is not None:
            self._retry.cancel()
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.drop()
        self._listener.close()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._look_whether_over()

    def close_clients(self) -> None:
        """Close the transports of all clients, as asyncio.Server.close_clients (3.13)."""
        for transport in self._clients.copy():
            transport.close()

    def abort_clients(self) -> None:
        """Abort the transports of all clients, as asyncio.Server.abort_clients (3.13)."""
        for transport in self._clients.copy():
            transport.abort()

    async def start_serving(self) -> None:
        """Do nothing: it serves from the start. RuntimeError when it is closed."""
        self._check_open()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """See asyncio.Server.serve_forever: cancelled, the server is closed."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self._check_open()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    def _check_open(self) -> None:
        if self.closed():
            raise RuntimeError(f"server {self!r} is closed")

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its connections have ended; see asyncio.Server.wait_closed.

        Before Python 3.12 it does not wait if the server is closed already.
        """
        if self._waiters is None or (sys.version_info < (3, 12) and self.closed()):
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter


class PipeLoopMixin:
    """The two methods for pipes that asyncio's Proactor loop has on Windows, for any loop with add_reader.

    Their transports and servers behave as those of asyncio's sockets.

    class Loop(PipeLoopMixin, asyncio.SelectorEventLoop): ...
    """

    async def create_pipe_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], address: str
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect to a pipe; return a transport and the protocol made for it. Waits while all instances are busy."""
        pipe = await connect(address, mode="byte", timeout=None)
        try:
            protocol = protocol_factory()
        except BaseException:
            pipe._end(discard=False)  # noqa: SLF001
            raise
        return await _transport(pipe, protocol, address), protocol

    async def start_serving_pipe(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], address: str
    ) -> list[PipeServer]:
        """Serve a pipe, a protocol for each client; return a list of one server, with the methods of asyncio.Server."""
        return [PipeServer(protocol_factory, address)]


if sys.platform == "win32":
    _Loop = asyncio.ProactorEventLoop
else:
    _Loop = asyncio.SelectorEventLoop


class PipeEventLoop(PipeLoopMixin, _Loop):  # type: ignore[misc,unused-ignore]  # the Proactor loop has the two methods
    """asyncio's loop with create_pipe_connection and start_serving_pipe: asyncio.Runner(loop_factory=PipeEventLoop)."""
