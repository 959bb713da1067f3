"""What a trace tells of: messages, and how connections begin and end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from npipe._tapping import Event, Flags, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Event", "Flags", "Kind", "TraceFileError", "matcher"]


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
