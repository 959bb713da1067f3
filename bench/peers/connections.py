"""multiprocessing.connection, with bytes and with objects."""

from __future__ import annotations

from functools import partial
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from bench.tasks import Channel, Ways

from .base import BACKLOG, COMMON, Acceptor, Peer
from .places import Copies

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.tasks import InPlace


class _Arrays:
    """Pictures as arrays, which are objects."""

    def __init__(self, conn: Any, size: int) -> None:
        import numpy as np

        out = np.zeros(size, np.uint8)
        view = out.data
        send, recv = conn.send, conn.recv

        def put_filled(fill: Callable[[memoryview], None]) -> None:
            fill(view)
            send(out)

        def take_looked_at(look: Callable[[Any], int]) -> int:
            return look(recv())

        self.put_filled, self.take_looked_at = put_filled, take_looked_at

    def put(self, number: int) -> None:
        raise NotImplementedError

    def take(self) -> tuple[int, int, int]:
        raise NotImplementedError


class ObjectsChannel:
    """One end of multiprocessing's connections, or of those of npipe.connection."""

    def __init__(self, conn: Any) -> None:
        self.conn = conn

    def ways(self, size: int) -> Ways:
        """Bytes, as they are."""
        conn = self.conn
        buffer = bytearray(size)
        return Ways(conn.send_bytes, conn.recv_bytes, partial(conn.recv_bytes_into, buffer), buffer)

    def in_place(self, size: int) -> InPlace:
        """Arrays, as objects."""
        return _Arrays(self.conn, size)

    def close(self) -> None:
        """Close this end."""
        self.conn.close()


class _BytesChannel(ObjectsChannel):
    def in_place(self, size: int) -> InPlace:
        return Copies(self.conn.send_bytes, self.conn.recv_bytes_into, size)


class ObjectsAcceptor:
    """A Listener."""

    def __init__(self, listener: Any, channel: type[ObjectsChannel] = ObjectsChannel) -> None:
        self._listener = listener
        self._channel = channel

    def accept(self) -> Channel:
        """Wait for a client."""
        return self._channel(self._listener.accept())


class Multiprocessing(Peer):
    """The standard library's Listener and Client over a Unix socket, without authentication; bytes, no pickling."""

    name = "multiprocessing.connection"
    module = "multiprocessing.connection"
    scenarios = COMMON | {"frames", "objects"}
    channel: type[ObjectsChannel] = ObjectsChannel

    def listen(self, address: str, count: int) -> Acceptor:  # noqa: ARG002
        """Listen on a Unix socket."""
        listener = connection.Listener(str(self.folder / address), "AF_UNIX", backlog=BACKLOG)
        return ObjectsAcceptor(listener, self.channel)

    def connect(self, address: str, index: int) -> Channel:  # noqa: ARG002
        """Connect to the Unix socket."""
        return self.channel(connection.Client(str(self.folder / address), "AF_UNIX"))


class MultiprocessingBytes(Multiprocessing):
    """The same; pictures are bytes, received into a buffer that is there already."""

    name = "multiprocessing.connection, bytes"
    scenarios = frozenset({"frames"})
    channel = _BytesChannel
