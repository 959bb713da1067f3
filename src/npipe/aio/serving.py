"""Answering requests in the background: a task for each client, on asyncio's loop or uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import sys
from typing import TYPE_CHECKING, NoReturn, Self, Unpack, cast

from npipe._process import refuse_copy
from npipe.aio.listener import Listener, listen
from npipe.async_pipe import MessagePipe, StreamPipe
from npipe.connection import Connection, ServerStats, describe_server, takes_connection
from npipe.errors import PipeClosedError, PipeResourceError
from npipe.options import (
    ListenOptions,
    Mode,
    check_count,
    check_handler,
    check_timeout,
    content_of,
    refuse_unknown,
    takes_listen_options,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from _typeshed import ReadableBuffer

    from npipe.options import Peer

    _Answer = ReadableBuffer | None
    Handler = (
        Callable[[bytes], Awaitable[_Answer] | _Answer] | Callable[[bytes, Connection], Awaitable[_Answer] | _Answer]
    )

__all__ = ["Server", "serve"]

logger = logging.getLogger("npipe")

_READ_SIZE = 65536
_PAUSE = 0.05
"""Seconds between attempts to accept while descriptors or memory have run out, whose end nothing tells."""


class PipeConnection(Connection):
    """A client, and its pipe."""

    def __init__(self, number: int, pipe: MessagePipe | StreamPipe) -> None:
        super().__init__(number)
        self.pipe = pipe

    def _ask_peer(self) -> Peer:
        return self.pipe.peer


class Server:
    """A server that runs until `close`; made by `serve`. An async context manager that closes it."""

    def __init__(
        self,
        listener: Listener[MessagePipe] | Listener[StreamPipe],
        handler: Handler,
        concurrency: int | None,
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
        pipe = self._clients.pop(task).pipe
        if not pipe.closed:
            pipe.abort()  # the task was cancelled before it had begun

    async def _serve(self, connection: PipeConnection) -> None:
        pipe = connection.pipe
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._clients[task] = connection  # here too: an eager task (3.12) calls the handler before create_task returns
        try:
            await self._converse(connection, task)
        except PipeClosedError:
            await pipe.close()  # which is how every conversation ends
        except Exception:
            logger.exception("%s: a request failed, and its client is disconnected", self.name)
            pipe.abort()
        finally:
            await pipe.close()

    async def _converse(self, connection: PipeConnection, task: asyncio.Task[None]) -> None:
        pipe = connection.pipe
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
                        raise
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
        self._listener.close()
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
            await asyncio.gather(*ending, return_exceptions=True)

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
    """Answer requests until the server that this returns is closed.

    `handler` takes a request's bytes and returns the reply's, or None for no reply; it may be a coroutine function, or
    a plain one that does not block. One that takes two arguments gets the client's Connection too, as in npipe.serve.
    Each client is a task; its requests are answered one after the other, and those of different clients at the same
    time, at most `concurrency` of them (None: no limit). A handler that raises is logged and its client disconnected;
    so is a client whose request is longer than `max_message_size`. The other arguments are those of `listen`. Raises as
    `listen` does, PipeArgumentError (87), and TypeError for a handler that is not callable or takes another number of
    arguments.
    """
    refuse_unknown("serve()", options, {"concurrency", "mode", "exclusive", *ListenOptions.__annotations__})
    check_handler(handler, "the handler", "the request's bytes", may_be_async=True, with_connection=True)
    if concurrency is not None:
        concurrency = check_count(concurrency, 1, sys.maxsize, "concurrency")
    return Server(listen(name, mode=mode, exclusive=exclusive, **options), handler, concurrency)
