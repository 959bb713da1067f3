r"""The async face: the nouns and verbs of `npipe`, awaitable, on asyncio, uvloop and trio.

    async with npipe.aio.listen(r"\\.\pipe\shout") as listener:
        async for pipe in listener:
            ...

    print(await npipe.aio.call(r"\\.\pipe\shout", b"hello"))

A pipe belongs to the event loop on which it was made. docs/aio.md says what cancellation does to each method.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from npipe.win32._windows import alias

    # The modules that stand on the engine have counterparts that stand on the Proactor loop.
    alias(
        __name__,
        (),
        _loops=f"{__name__}._proactor",
        listener=f"{__name__}._proactor_listener",
        opening=f"{__name__}._proactor_opening",
        pipe=f"{__name__}._proactor_pipe",
    )

from npipe.aio.listener import Listener, listen
from npipe.aio.opening import call, connect, wait
from npipe.aio.pipe import MessagePipe, Pipe, StreamPipe
from npipe.aio.serving import Server, serve
from npipe.aio.streams import PipeEventLoop, PipeLoopMixin, PipeServer, open_stream
from npipe.aio.transports import PipeTransport

__all__ = [
    "Listener",
    "MessagePipe",
    "Pipe",
    "PipeEventLoop",
    "PipeLoopMixin",
    "PipeServer",
    "PipeTransport",
    "Server",
    "StreamPipe",
    "call",
    "connect",
    "listen",
    "open_stream",
    "serve",
    "wait",
]
