"""How each contestant opens a connection, sends and receives: on both of its sides, blocking or on an event loop."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Final, Protocol

import npipe
import npipe.aio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ASYNC", "BLOCKING", "AsyncLink", "Link", "accept_async", "accept_blocking", "dial_async", "dial_blocking"]

BLOCKING: Final = ("npipe", "multiprocessing", "seqpacket")
"""Those that block."""
ASYNC: Final = ("npipe.aio", "asyncio")
"""Those of event loops."""

_TIMEOUT: Final = 30.0
_LENGTH: Final = struct.Struct("<I")
_LONGEST: Final = 2**20 + 1  # one more than is ever sent


class Link(Protocol):
    """One side of a connection."""

    def send(self, message: bytes | bytearray, /) -> object:
        """Send a message."""

    def recv(self) -> bytes:
        """Receive one; EOFError, or none of its bytes, when the other side has gone."""

    def close(self) -> None:
        """End it."""


class AsyncLink(Protocol):
    """One side of a connection, on an event loop."""

    async def send(self, message: bytes | bytearray, /) -> object:
        """Send a message."""

    async def recv(self) -> bytes:
        """Receive one; EOFError when the other side has gone."""

    async def close(self) -> None:
        """End it."""


class _Multiprocessing:
    """A multiprocessing.connection.Connection."""

    def __init__(self, made: Any) -> None:
        self.send = made.send_bytes
        self.recv = made.recv_bytes
        self.close = made.close


class _Seqpacket:
    """A Unix socket that keeps messages apart."""

    def __init__(self, made: socket.socket, size: int) -> None:
        # As much as one message needs, where the system allows it: it has to fit as a whole.
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 2 * size:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * size)
        self.send = made.send
        self.close = made.close
        self._recv = made.recv
        self._size = size + 1

    def recv(self) -> bytes:
        return self._recv(self._size)


class _Streams:
    """asyncio's streams: a message is its length and its bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, message: bytes | bytearray, /) -> None:
        self._writer.write(_LENGTH.pack(len(message)) + message)
        await self._writer.drain()

    async def recv(self) -> bytes:
        (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
        return await self._reader.readexactly(length)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def _unix_socket() -> socket.socket:
    if sys.platform == "win32":
        raise NotImplementedError("Windows has no SOCK_SEQPACKET")
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def dial_blocking(kind: str, address: str, size: int) -> Link:
    """Connect to a contestant's server. `size`: bytes of the longest message."""
    if kind == "npipe":
        return npipe.connect(address, timeout=_TIMEOUT)
    if kind == "multiprocessing":
        return _Multiprocessing(connection.Client(address))
    made = _unix_socket()
    made.connect(address)
    return _Seqpacket(made, size)


def accept_blocking(kind: str, address: str, size: int, ready: Callable[[], None]) -> Link:
    """Listen, say so, and return the one connection that comes."""
    if kind == "npipe":
        with npipe.listen(address) as listener:
            ready()
            return listener.accept()
    if kind == "multiprocessing":
        with connection.Listener(address) as waiting:
            ready()
            return _Multiprocessing(waiting.accept())
    with _unix_socket() as listening:
        listening.bind(address)
        listening.listen(1)
        ready()
        return _Seqpacket(listening.accept()[0], size)


async def dial_async(kind: str, address: str) -> AsyncLink:
    """Connect to a contestant's server from the running loop."""
    if kind == "npipe.aio":
        return await npipe.aio.connect(address, timeout=_TIMEOUT)
    if sys.platform == "win32":
        raise NotImplementedError("asyncio has no Unix sockets on Windows")
    return _Streams(*await asyncio.open_unix_connection(address, limit=_LONGEST))


async def accept_async(kind: str, address: str, ready: Callable[[], None]) -> AsyncLink:
    """Listen, say so, and return the one connection that comes."""
    if kind == "npipe.aio":
        async with npipe.aio.listen(address) as listener:
            ready()
            return await listener.accept()
    if sys.platform == "win32":
        raise NotImplementedError("asyncio has no Unix sockets on Windows")
    came: asyncio.Future[AsyncLink] = asyncio.get_running_loop().create_future()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Awaitable[None] | None:
        came.set_result(_Streams(reader, writer))
        return None

    server = await asyncio.start_unix_server(take, address, limit=_LONGEST)
    ready()
    link = await came
    server.close()  # the socket's; the connection goes on
    return link
