"""The faces behind one set of methods: whoever writes and reads does it the same way through each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import npipe
import npipe.aio
from npipe.win32 import win32pipe
from tests.integrity.ends import LIMIT, End, Server, client_options
from tests.integrity.faces_aio import AioEnd, AioServer, StreamEnd, StreamServer
from tests.integrity.faces_sync import SyncServer, sync_end
from tests.integrity.faces_win32 import ENDS, Win32Server, open_client

if TYPE_CHECKING:
    import random

    from tests.integrity.plans import Plan

LOOPS = ("aio", "stream")
WIN32 = ("win32", "nowait", "overlapped")


async def listen(plan: Plan, chance: random.Random, name: str, face: str, *, writing: bool) -> Server:
    """Begin to serve a pipe through a face."""
    if face == "stream":
        server = StreamServer(plan, chance)
        await server.listen(name)
        return server
    if face == "aio":
        return AioServer(plan, chance, name, writing=writing)
    return (Win32Server if face in ENDS else SyncServer)(plan, chance, name, face, writing=writing)


async def connect(plan: Plan, chance: random.Random, name: str, face: str, *, writing: bool) -> End:
    """Connect through a face."""
    options = client_options(plan, writing=writing)
    if face == "stream":
        del options["mode"]
        return StreamEnd(plan, chance, *await npipe.aio.open_stream(name, **options))
    if face == "aio":
        return AioEnd(plan, chance, await npipe.aio.connect(name, **options))
    if face in ENDS:
        return open_client(plan, chance, name, face, writing=writing)
    pipe: Any = npipe.connect(name, **options)
    return sync_end(plan, chance, face, writing=writing)(pipe)


async def call(plan: Plan, name: str, face: str, request: bytes) -> bytes:
    """Ask once, on a connection for this."""
    if face == "aio":
        return await npipe.aio.call(name, request)
    if face == "win32":
        return win32pipe.CallNamedPipe(name, request, max(plan.sizes), int(LIMIT * 1000))
    return npipe.call(name, request)
