"""Looking at pipes from outside: counts of this process, and what other processes tell of their pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npipe.names import parse_name
from npipe.transports import default, select

if TYPE_CHECKING:
    import os

    from npipe.figures import PipeReport, ProcessStats

__all__ = ["inspect", "stats"]


def inspect(name: str | os.PathLike[str]) -> PipeReport:
    r"""Ask the owners of a pipe what they know of it: instances, clients, what each connection has moved, who waits.

    Nothing is opened, and the pipe's clients and servers notice nothing of it. It takes a second for each owner that
    does not answer. On Windows the system tells of other processes' pipes how many instances there are, no more.

    Args:
        name: `\\.\pipe\NAME` in any of its forms, or the bare NAME.

    Returns:
        A PipeReport. Only the owner's user and root are told of the connections: an OwnerReport's `problem` says so.

    Raises:
        PipeNotFoundError: there is no such pipe (2).
        PipeNameError: the name is none (123).
        PipeStateError: it is of another machine (50).
        PipeAccessError: the root folder cannot be trusted (5).
    """
    parsed = parse_name(name)
    return select(parsed).inspect(parsed)


def stats() -> ProcessStats:
    """Return what the pipes of this process have moved since it began, as servers and as clients.

    What connections of npipe.connection carry is beside the pipe, and counted apart: `connections`. After a fork the
    child begins at zero. A connection that moves a long message just now may tell of it a moment later.

    Raises:
        PipeStateError: on Windows, where nobody counts (50).
    """
    return default().stats()
