"""npipe.connection on Windows: multiprocessing's own connections, which are native message pipes there.

They travel by DuplicateHandle, and a peer is any client of a message pipe. Objects are pickled as multiprocessing does.
"""

# ruff: noqa: E402 - what follows the assertion is for Windows alone

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import multiprocessing
import os
from multiprocessing import connection, managers, reduction
from multiprocessing.connection import Pipe, PipeConnection, wait
from typing import TYPE_CHECKING, Any, Final

from npipe.names import parse_name

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

__all__ = ["Client", "Connection", "Listener", "Pipe", "context", "rebuild_connection", "reduce_connection", "wait"]

Connection = PipeConnection
SERIALIZER: Final = "npipe"


def _address(address: object, family: str | None) -> str:
    if family not in (None, "AF_PIPE"):
        raise ValueError(f"Family {family} is not recognized: npipe.connection has AF_PIPE, whose addresses are names")
    if not isinstance(address, str | os.PathLike):
        raise ValueError(f"address type of {address!r} unrecognized: it is the name of a pipe")  # noqa: TRY004
    return parse_name(os.fspath(address)).path


def Client(  # noqa: N802 - multiprocessing's name
    address: str | os.PathLike[str], family: str | None = None, authkey: bytes | None = None
) -> Any:
    """See npipe.connection.Client on Linux."""
    return connection.Client(_address(address, family), "AF_PIPE", authkey)


class Listener(connection.Listener):
    """See npipe.connection.Listener on Linux."""

    def __init__(
        self,
        address: str | os.PathLike[str] | None = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        if address is None:
            address = connection.arbitrary_address("AF_PIPE")  # type: ignore[attr-defined]
        super().__init__(_address(address, family), "AF_PIPE", backlog, authkey)


def context(method: str | None = None) -> BaseContext:
    """See npipe.connection.context on Linux: here multiprocessing's own context."""
    return multiprocessing.get_context(method or multiprocessing.get_start_method())


def reduce_connection(made: Any) -> tuple[Any, ...]:
    """Return how a connection is made again in another process: for multiprocessing's picklers."""
    return reduction.reduce_pipe_connection(made)  # type: ignore[attr-defined, no-any-return]


def rebuild_connection(given: Any, readable: bool, writable: bool) -> Any:
    """Return the connection that `reduce_connection` has described; once."""
    return reduction.rebuild_pipe_connection(given, readable, writable)  # type: ignore[attr-defined]


managers.listener_client[SERIALIZER] = (Listener, Client)  # type: ignore[attr-defined]
