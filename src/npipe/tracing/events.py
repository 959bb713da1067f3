"""What a trace tells of: messages, and how connections begin and end."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Event", "Flags", "Kind", "TraceFileError", "matcher"]


class Kind(enum.IntEnum):
    """What has happened. The numbers are those of docs/protocol.md, section 9, and of files."""

    DATA = 1
    """A message, or a write to a byte pipe, or a part of it."""
    OPENED = 2
    """A connection begins."""
    PRESENT = 3
    """It was there when the trace began."""
    CLOSED = 4
    """The traced process has closed its end."""
    GONE = 5
    """The peer has closed its end, or has died."""
    LOST = 6
    """Records were lost: `size` is how many."""


class Flags(enum.IntFlag):
    """How a record is to be read. The numbers are those of docs/protocol.md, section 9, and of files."""

    OUT = 1
    """From the traced process to its peer."""
    FIRST = 2
    """It has the first bytes of its write."""
    LAST = 4
    """It has the last ones."""
    WITHDRAWN = 8
    """The rest of the write does not come."""
    SERVER = 16
    """The traced process is the server."""
    MESSAGE = 32
    """The pipe is a message pipe."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened on a connection."""

    time: int
    """Nanoseconds since 1970."""
    kind: Kind
    flags: Flags
    pipe: str
    r"""The full name, `\\.\pipe\NAME`."""
    owner: int
    """The traced process."""
    connection: int
    """That process's own number of the connection, from 1."""
    peer: int
    """The other process; 0: not known."""
    code: int = 0
    """Win32's code of it: 0; 995, a write was withdrawn; 109 or 233, the end."""
    size: int = 0
    """Bytes of the message, or of this part of it."""
    data: bytes = b""
    """What was recorded of them."""

    @property
    def direction(self) -> str:
        """Which way: "in" or "out", as the traced process sees it."""
        return "out" if self.flags & Flags.OUT else "in"

    @property
    def is_whole(self) -> bool:
        """Whether it is all of a message."""
        return self.flags & (Flags.FIRST | Flags.LAST | Flags.WITHDRAWN) == Flags.FIRST | Flags.LAST


class TraceFileError(ValueError):
    """A file is no trace, or its end is missing: str() says which and where, in one line."""


_SIZES: Final = re.compile(r"(\d*)(?:(:)(\d*))?")


def matcher(size: str | None = None, peer: int | None = None, pattern: str | None = None) -> Callable[[Event], bool]:
    """Return what tells whether an event is wanted; ValueError: a filter is none.

    Args:
        size: bytes of messages: "N", "MIN:MAX", "MIN:" or ":MAX"; None: any.
        peer: the other process's number; None: any.
        pattern: a regular expression that is searched for in the bytes that were recorded; None: any.
    """
    least, most = 0, None
    if size is not None:
        found = _SIZES.fullmatch(size)
        if found is None or not (found[1] or found[3]):
            raise ValueError(f"{size!r} is no size: N, MIN:MAX, MIN: or :MAX")
        least = int(found[1] or 0)
        most = int(found[3]) if found[3] else None if found[2] else least
    try:
        wanted = None if pattern is None else re.compile(pattern.encode("utf-8", "surrogateescape"), re.DOTALL)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    about_data = size is not None or pattern is not None

    def wants(event: Event) -> bool:
        if event.kind is Kind.LOST:
            return True
        if peer is not None and event.peer != peer:
            return False
        if event.kind is not Kind.DATA:
            return not about_data
        if event.size < least or (most is not None and event.size > most):
            return False
        return wanted is None or wanted.search(event.data) is not None

    return wants
