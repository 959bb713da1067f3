"""asyncio's streams over a Unix socket: each side has a loop of its own, which runs a whole order."""

from __future__ import annotations

import asyncio
import socket
import time
from itertools import repeat
from typing import TYPE_CHECKING

from bench.tasks import ECHO, SINK, Channel, Ways, messages

from .base import BACKLOG, Acceptor, Peer

if TYPE_CHECKING:
    import array
    from collections.abc import Coroutine
    from typing import Any

_ORDER = 32  # bytes


class _StreamsChannel:
    """Orders are run whole by the loop: what an event loop costs for each message is what is to be seen."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.new_event_loop()
        self._reader, self._writer = self._run(asyncio.open_unix_connection(sock=sock, limit=1 << 21))

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(coroutine)

    def ways(self, size: int) -> Ways:
        """There are no calls that do not wait for the loop."""
        raise NotImplementedError

    async def _answer(self) -> bool:
        reader, writer = self._reader, self._writer
        try:
            order = await reader.readexactly(_ORDER)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        kind, size, count = map(int, order.split())
        take = reader.readexactly
        if kind == ECHO:
            for _ in repeat(None, count):
                writer.write(await take(size))
                await writer.drain()
            return True
        for _ in repeat(None, count - 1):
            await take(size)
        writer.write(await take(size))
        await writer.drain()
        return True

    def answer_order(self) -> bool:
        """Serve one order."""
        return bool(self._run(self._answer()))

    async def _order(self, kind: int, size: int, count: int) -> float:
        reader, writer = self._reader, self._writer
        payload, last = messages(size)
        writer.write(f"{kind} {size} {count}".encode().ljust(_ORDER))
        await writer.drain()
        take = reader.readexactly
        start = time.perf_counter()
        if kind == ECHO:
            last = payload
            for _ in repeat(None, count):
                writer.write(payload)
                await writer.drain()
                reply = await take(size)
        else:
            for _ in repeat(None, count - 1):
                writer.write(payload)
                await writer.drain()
            writer.write(last)
            await writer.drain()
            reply = await take(size)
        seconds = time.perf_counter() - start
        if reply != last:
            raise RuntimeError("what came back is not what was sent")
        return seconds

    def run_order(self, kind: int, size: int, count: int) -> float:
        """Run one order; one way, the server sends the last message back, which is the acknowledgement."""
        if kind not in (ECHO, SINK):
            raise ValueError(f"streams have no order of the kind {kind}")
        return float(self._run(self._order(kind, size, count)))

    async def _sample(self, size: int, until: int, into: array.array[int]) -> None:
        clock, reader, writer = time.perf_counter_ns, self._reader, self._writer
        payload, _ = messages(size)
        while clock() < until:
            writer.write(f"{ECHO} {size} 200".encode().ljust(_ORDER))
            await writer.drain()
            for _ in repeat(None, 200):
                start = clock()
                writer.write(payload)
                await writer.drain()
                reply = await reader.readexactly(size)
                into.append(clock() - start)
                if reply != payload:
                    raise RuntimeError("what came back is not what was sent")

    def sample(self, size: int, until: int, into: array.array[int]) -> None:
        """Note the time of each round trip until ``until``."""
        self._run(self._sample(size, until, into))

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


class _StreamsAcceptor:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def accept(self) -> Channel:
        return _StreamsChannel(self._sock.accept()[0])


class Streams(Peer):
    """asyncio's own streams, `write`, `drain` and `readexactly`, on asyncio's own loop."""

    name = "asyncio streams"
    module = "asyncio"
    scenarios = frozenset({"roundtrip", "oneway", "tail"})

    def listen(self, address: str, count: int) -> Acceptor:  # noqa: ARG002
        """Listen on a Unix socket."""
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(self.folder / address))
        sock.listen(BACKLOG)
        return _StreamsAcceptor(sock)

    def connect(self, address: str, index: int) -> Channel:  # noqa: ARG002
        """Connect to it."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.folder / address))
        return _StreamsChannel(sock)
