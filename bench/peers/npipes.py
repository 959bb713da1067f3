"""The project's own: message pipes, and connections for objects."""

from __future__ import annotations

import importlib
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.tasks import Channel, Ways

from .base import COMMON, Acceptor, Peer
from .connections import ObjectsAcceptor, ObjectsChannel
from .places import Copies

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.tasks import InPlace

_NUMBER = struct.Struct("<Q")


class _Views:
    """`reserve` and `recv_view`."""

    def __init__(self, pipe: Any, size: int) -> None:
        reserve, recv_view = pipe.reserve, pipe.recv_view
        write, read, end = _NUMBER.pack_into, _NUMBER.unpack_from, size - 8

        def put(number: int) -> None:
            with reserve(size) as view:
                write(view, 0, number)
                write(view, end, number)

        def take() -> tuple[int, int, int]:
            with recv_view() as view:
                return len(view), read(view)[0], read(view, end)[0]

        def put_filled(fill: Callable[[memoryview], None]) -> None:
            with reserve(size) as view:
                fill(view)

        def take_looked_at(look: Callable[[Any], int]) -> int:
            with recv_view() as view:
                return look(view)

        self.put, self.take, self.put_filled, self.take_looked_at = put, take, put_filled, take_looked_at


class _PipeChannel:
    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def ways(self, size: int) -> Ways:
        pipe = self._pipe
        buffer = bytearray(size)
        return Ways(pipe.send, pipe.recv, partial(pipe.recv_into, buffer), buffer)

    def in_place(self, size: int) -> InPlace:
        return _Views(self._pipe, size)

    def close(self) -> None:
        self._pipe.close()


class _CopyingChannel(_PipeChannel):
    def in_place(self, size: int) -> InPlace:
        return Copies(self._pipe.send, self._pipe.recv_into, size)


class _PipeAcceptor:
    def __init__(self, listener: Any, channel: type[_PipeChannel]) -> None:
        self._listener = listener
        self._channel = channel

    def accept(self) -> Channel:
        return self._channel(self._listener.accept())


class Npipe(Peer):
    """Message pipes over the local engine, every option at its default; in place: `reserve` and `recv_view`."""

    name = "npipe"
    module = "npipe"
    scenarios = COMMON | {"views", "frames"}
    channel: type[_PipeChannel] = _PipeChannel

    def listen(self, address: str, count: int) -> Acceptor:  # noqa: ARG002 - instances are made as clients come
        """Listen on a message pipe."""
        options = {"in_buffer_size": 4 * self.slot} if self.roomy else {}
        return _PipeAcceptor(importlib.import_module("npipe").listen(address, **options), self.channel)

    def connect(self, address: str, index: int) -> Channel:  # noqa: ARG002 - all clients use one name
        """Open the pipe by its name."""
        return self.channel(importlib.import_module("npipe").connect(address))


class NpipeCopying(Npipe):
    """The same; in place is `send` and `recv_into`, which copy in and out."""

    name = "npipe, copying"
    scenarios = frozenset({"frames"})
    channel = _CopyingChannel


class NpipeConnection(Peer):
    """npipe.connection: objects over pipes."""

    name = "npipe.connection"
    module = "npipe.connection"
    scenarios = frozenset({"objects", "frames"})

    def listen(self, address: str, count: int) -> Acceptor:  # noqa: ARG002
        """Listen on a pipe."""
        return ObjectsAcceptor(importlib.import_module(self.module).Listener(address))

    def connect(self, address: str, index: int) -> Channel:  # noqa: ARG002
        """Connect to the pipe."""
        return ObjectsChannel(importlib.import_module(self.module).Client(address))
