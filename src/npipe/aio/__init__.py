r"""The async face: the nouns and verbs of `npipe`, awaitable, on asyncio, uvloop and trio.

    async with npipe.aio.listen(r"\\.\pipe\shout") as listener:
        async for pipe in listener:
            ...

    print(await npipe.aio.call(r"\\.\pipe\shout", b"hello"))

A pipe belongs to the event loop on which it was made. docs/aio.md says what cancellation does to each method.
"""

from __future__ import annotations

from npipe.aio.listener import Listener, listen
from npipe.aio.opening import call, connect, wait
from npipe.aio.pool import Pool
from npipe.aio.serving import Server, serve
from npipe.aio.streams import PipeEventLoop, PipeLoopMixin, PipeServer, open_stream
from npipe.aio.transports import PipeTransport
from npipe.async_pipe import MessagePipe, Pipe, StreamPipe
from npipe.transports import default_async

__all__ = [
    "Listener",
    "MessagePipe",
    "Pipe",
    "PipeEventLoop",
    "PipeLoopMixin",
    "PipeServer",
    "PipeTransport",
    "Pool",
    "Server",
    "StreamPipe",
    "call",
    "connect",
    "listen",
    "open_stream",
    "serve",
    "wait",
]

default_async()  # imports it now: see npipe.transports
