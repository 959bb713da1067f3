"""Answering requests in the background: a task for each client, on asyncio's loop or uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn, Self, Unpack, cast

from npipe._buffers import content_of
from npipe._display import refuse_construction
from npipe._process import refuse_copy
from npipe.aio.listener import Listener, listen
from npipe.async_pipe import MessagePipe, StreamPipe
from npipe.clients import Connection, ServerStats, describe_server, takes_connection
from npipe.errors import PipeClosedError, PipeMessageTooLargeError, PipeResourceError, PipeStateError, WinError
from npipe.options import (
    ListenOptions,
    Mode,
    check_count,
    check_handler,
    check_timeout,
    refuse_outbound,
    refuse_unknown,
    takes_listen_options,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from npipe._buffers import ReadableBuffer
    from npipe.options import Peer

    _Answer = ReadableBuffer | None
    Handler = (
        Callable[[bytes], Awaitable[_Answer] | _Answer] | Callable[[bytes, Connection], Awaitable[_Answer] | _Answer]
    )

__all__ = ["Server", "serve"]

logger: Final = logging.getLogger("npipe")

_READ_SIZE = 65536
_PAUSE = 0.05
"""Seconds between attempts to accept while descriptors or memory have run out, whose end nothing tells."""


class PipeConnection(Connection):
    """A client, and its pipe."""

    def __init__(self, number: int, pipe: MessagePipe | StreamPipe) -> None:
        super().__init__(number)
        self._pipe = pipe

    def _ask_peer(self) -> Peer:
        return self._pipe.peer


class Server:
    """A server that runs until `close`; made by `serve`. An async context manager that closes it."""

    def __init__(self, *_: object, **__: object) -> None:
        refuse_construction("npipe.aio.Server")

    @classmethod
    def _made(
        cls, listener: Listener[MessagePipe] | Listener[StreamPipe], handler: Handler, concurrency: int | None
    ) -> Self:
        self = cls.__new__(cls)
        self._begin(listener, handler, concurrency)
        return self

    def _begin(
        self, listener: Listener[MessagePipe] | Listener[StreamPipe], handler: Handler, concurrency: int | None
    ) -> None:
        self._listener = listener
        self._handler: Callable[..., Awaitable[_Answer] | _Answer] = handler
        self._with_connection = takes_connection(handler)
        self._slots = None if concurrency is None else asyncio.Semaphore(concurrency)
        self._clients: dict[asyncio.Task[None], PipeConnection] = {}
        self._have_come = 0
        self._answered = 0
        self._failed = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._ending = False
        self._over = asyncio.Event()
        self._accepting = asyncio.create_task(self._accept(), name=f"accepting on {listener.name}")

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a server can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and serve it there with npipe.aio.serve")

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""
        return self._listener.name

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The clients that are connected now, in the order in which they came."""
        return tuple(self._clients.values())

    @property
    def stats(self) -> ServerStats:
        """What the server has done so far: requests answered and failed, clients that have come."""
        return ServerStats(self._answered, self._failed, self._have_come)

    async def _accept(self) -> None:
        while True:
            try:
                pipe = await self._listener.accept()
            except PipeResourceError:
                logger.exception("%s: cannot accept", self.name)
                await asyncio.sleep(_PAUSE)
                continue
            except PipeClosedError:
                return  # of the listener
            self._have_come += 1
            connection = PipeConnection(self._have_come, pipe)
            task = asyncio.create_task(self._serve(connection), name=f"a client of {self.name}")
            self._clients[task] = connection  # an eager one has done so itself, and may be over; the callback is later
            task.add_done_callback(self._client_left)

    def _client_left(self, task: asyncio.Task[None]) -> None:
        pipe = self._clients.pop(task)._pipe  # noqa: SLF001
        if not pipe.closed:
            pipe.abort()  # the task was cancelled before it had begun

    async def _serve(self, connection: PipeConnection) -> None:
        pipe = connection._pipe  # noqa: SLF001
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._clients[task] = connection  # here too: an eager task (3.12) calls the handler before create_task returns
        try:
            await self._converse(connection, task)
        except PipeClosedError:
            pass  # which is how every conversation ends
        except PipeMessageTooLargeError:
            logger.warning(
                "client %d: its request is longer than max_message_size, %d bytes, and its connection is closed",
                connection.number,
                cast("MessagePipe", pipe).max_message_size,
            )
        except Exception:
            logger.exception("client %d: its connection failed, and is closed", connection.number)
        finally:  # what has been answered stays readable
            await pipe.close()

    async def _converse(self, connection: PipeConnection, task: asyncio.Task[None]) -> None:
        pipe = connection._pipe  # noqa: SLF001
        read: Callable[[], Awaitable[bytes]]
        write: Callable[[ReadableBuffer], Awaitable[object]]
        if isinstance(pipe, MessagePipe):  # not for each request: the class is an abstract one
            read, write = pipe.recv, pipe.send
        else:
            read, write = functools.partial(pipe.read, _READ_SIZE), pipe.write
        arguments: tuple[()] | tuple[Connection] = (connection,) if self._with_connection else ()
        while not self._ending:
            request = await read()
            self._answering.add(task)
            try:
                async with self._slots or contextlib.nullcontext():
                    try:
                        answer = self._handler(request, *arguments)
                        if inspect.isawaitable(answer):
                            answer = await answer
                        if answer is not None and type(answer) is not bytes:
                            answer = content_of(answer)  # TypeError for what is no answer
                    except Exception:
                        self._failed += 1
                        # Here: what it raises may look like the end of a connection.
                        logger.exception("client %d: the handler failed, its connection is closed", connection.number)
                        return
                if answer is not None:
                    await write(answer)
                connection.requests += 1
                self._answered += 1
            finally:
                self._answering.discard(task)

    async def wait(self) -> None:
        """Wait until the server has ended."""
        await self._over.wait()

    async def close(self, *, timeout: float | None = 5.0) -> None:
        """Stop accepting; requests that are being answered get `timeout` seconds, then all connections are ended.

        What is answered in that time stays readable for its client. Cancelled, it ends them at once.
        """
        timeout = check_timeout(timeout)
        if self._ending:
            await self._over.wait()
            return
        self._ending = True
        ends = self._listener._end()  # noqa: SLF001 - that is told when all clients' ends have been
        try:
            for task in self._clients.keys() - self._answering:
                task.cancel()
            if self._clients:
                await asyncio.wait(list(self._clients), timeout=timeout)
        finally:
            self._accepting.cancel()
            for task in self._clients:
                task.cancel()
            ending = [self._accepting, *self._clients]
            self._over.set()
            try:
                await asyncio.gather(*ending, return_exceptions=True)
            finally:
                if ends:
                    self._listener._tell_stopped()  # noqa: SLF001

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return describe_server(
            "npipe.aio.Server", self.name, closed=self._ending, clients=len(self._clients), stats=self.stats
        )


@takes_listen_options
async def serve(
    name: str | os.PathLike[str],
    handler: Handler,
    *,
    concurrency: int | None = None,
    mode: Mode = "message",
    exclusive: bool = True,
    **options: Unpack[ListenOptions],
) -> Server:
    """Serve `name` until the server is closed: each message is answered with what `handler` returns.

    Each client is a task; its requests are answered one after the other, and those of different clients at the same
    time, at most `concurrency` of them. A handler that raises is logged (logger "npipe"), and ends its client's
    connection: what had been answered before stays readable, and then the client gets 109. So does a request that is
    longer than `max_message_size`. More: docs/servers.md.

    Args:
        name: the pipe's name.
        handler: takes a request's bytes and returns the reply's, or None for no reply. It may be a coroutine function,
            or a plain one that does not block. One that takes two arguments gets the client's Connection too, as in
            npipe.serve.
        concurrency: how many requests are answered at the same time; None: no limit.
        mode: "message"; on a "byte" pipe a request is what one read returns.
        exclusive: the name must not exist yet.
        options: those of npipe.listen: `access`, `max_instances`, `in_buffer_size`, `out_buffer_size`,
            `default_timeout`, `security`, `max_message_size`, `remote`, `allow`, `require_encryption`, `samba_dir`,
            `traceable`.

    Returns:
        A Server, which listens already.

    Raises:
        PipeArgumentError: an option is not what it may be (87).
        TypeError: an option does not exist, or the handler is not callable or takes another number of arguments.
        PipeError: all that npipe.listen raises.
    """
    refuse_unknown("serve()", options, {"concurrency", "mode", "exclusive", *ListenOptions.__annotations__})
    check_handler(handler, "the handler", "the request's bytes", may_be_async=True, with_connection=True)
    if concurrency is not None:
        concurrency = check_count(concurrency, 1, sys.maxsize, "concurrency")
    refuse_outbound(options.get("access"))
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise PipeStateError(
            WinError.NOT_SUPPORTED,
            os.fspath(name),
            "serving",
            "npipe.aio.serve needs asyncio's event loop, and another one runs",
            hint="on trio use `async for pipe in npipe.aio.listen(...)`, or npipe.anyio.listen",
        ) from None
    listener = listen(name, mode=mode, exclusive=exclusive, **options)
    return Server._made(listener, handler, concurrency)  # noqa: SLF001
