"""How a connection goes to another process: by multiprocessing's own ways for descriptors."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import os
import pickle
import socket
from multiprocessing import context, reduction, resource_sharer
from typing import Any

from npipe.binding.channel import use_reducers
from npipe.connection._connections import Connection, channel

__all__ = ["_rebuild", "rebuild_connection", "reduce_connection"]


class _Shared:
    """Descriptors that this process keeps until another one has come for them, all at once."""

    def __init__(self, fds: tuple[int, ...]) -> None:
        kept: list[int] = []
        try:
            for fd in fds:
                kept.append(os.dup(fd))  # noqa: PERF401 - those before one for which there is no descriptor are closed
        except BaseException:
            for fd in kept:
                os.close(fd)
            raise

        def send(connection: Any, _pid: int) -> None:
            with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as speaker:
                reduction.sendfds(speaker, kept)

        def close() -> None:
            for fd in kept:
                os.close(fd)

        self._count = len(kept)
        self._id = resource_sharer._resource_sharer.register(send, close)  # type: ignore[attr-defined]  # noqa: SLF001

    def detach(self) -> tuple[int, ...]:
        """Return the descriptors, which are the caller's; once."""
        sharer = resource_sharer._resource_sharer  # type: ignore[attr-defined]  # noqa: SLF001
        with (
            sharer.get_connection(self._id) as connection,
            socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        ):
            fds = tuple(reduction.recvfds(listener, self._count))
        return _not_inherited(fds)


class _Given:
    """Descriptors that a child has from its start."""

    def __init__(self, popen: Any, fds: tuple[int, ...]) -> None:
        self._each = tuple(popen.DupFd(popen.duplicate_for_child(fd)) for fd in fds)

    def detach(self) -> tuple[int, ...]:
        """Return the descriptors, which are the caller's; once."""
        return _not_inherited(tuple(one.detach() for one in self._each))


def _not_inherited(fds: tuple[int, ...]) -> tuple[int, ...]:
    """Descriptors that have come from another process a program that is executed would have too."""
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds


def reduce_connection(connection: Connection[Any, Any]) -> tuple[Any, ...]:
    """Return how a connection is made again in another process: for multiprocessing's picklers."""
    fds, side = connection._descriptors()  # noqa: SLF001
    popen = context.get_spawning_popen()
    given: _Shared | _Given = _Shared(fds) if popen is None else _Given(popen, fds)
    return rebuild_connection, (given, side, connection.readable, connection.writable, connection._strange)  # noqa: SLF001


def rebuild_connection(
    given: _Shared | _Given, side: int, readable: bool, writable: bool, strange: bool = True
) -> Connection[Any, Any]:
    """Return the connection that `reduce_connection` has described; once."""
    segment, own_socket, event0, event1 = given.detach()
    made: Connection[Any, Any] = channel(
        own_socket, segment, (event0, event1), side, ways=(readable, writable), strange=strange
    )
    return made


def _rebuild(pickled: bytes, buffers: list[Any]) -> Any:
    """Return an object whose buffers went apart (what `recv_bytes` returns of such a message)."""
    return pickle.loads(pickled, buffers=buffers)  # noqa: S301 - this is a part of a pickle


reduction.ForkingPickler.register(Connection, reduce_connection)
use_reducers(reduction.ForkingPickler._extra_reducers)  # type: ignore[attr-defined]  # noqa: SLF001
