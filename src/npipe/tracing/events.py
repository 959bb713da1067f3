"""What a trace tells of: messages, and how connections begin and end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from npipe._tapping import Event, Flags, Kind
from npipe._text import printable
from npipe.errors import PipeNameError
from npipe.names import PipeName, parse_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Event", "Flags", "Kind", "Named", "TraceFileError", "matcher"]


class TraceFileError(ValueError):
    """A file is no trace, or its end is missing: str() says which and where, in one line."""


_UNKNOWN: Final = "?"  # in a process's own recording, the pipe of what was lost
_SIZES: Final = re.compile(r"(\d*)(?:(:)(\d*))?")


def matcher(
    size: str | None = None, peer: int | None = None, pattern: str | None = None, connection: int | None = None
) -> Callable[[Event], bool]:
    """Return what tells whether an event is wanted; ValueError: a filter is none.

    Args:
        size: bytes of messages: "N", "MIN:MAX", "MIN:" or ":MAX"; None: any.
        peer: the other process's number; None: any.
        pattern: a regular expression that is searched for in the bytes that were recorded; None: any.
        connection: a connection's number; None: any.
    """
    least, most = 0, None
    if size is not None:
        found = _SIZES.fullmatch(size)
        if found is None or not (found[1] or found[3]):
            raise ValueError(f"{size!r} is no size: N, MIN:MAX, MIN: or :MAX")
        least = int(found[1] or 0)
        most = int(found[3]) if found[3] else None if found[2] else least
        if most is not None and most < least:
            raise ValueError(f"{size!r} is no size: MIN is more than MAX")
    try:
        wanted = None if pattern is None else re.compile(pattern.encode("utf-8", "surrogateescape"), re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    about_data = size is not None or pattern is not None

    def wants(event: Event) -> bool:
        if event.kind is Kind.LOST:
            return True
        if peer is not None and event.peer != peer:
            return False
        if connection is not None and event.connection != connection:
            return False
        if event.kind is not Kind.DATA:
            return not about_data
        if event.size < least or (most is not None and event.size > most):
            return False
        return wanted is None or wanted.search(event.data) is not None

    return wants


class Named:
    """Tells which events of a recording are of pipes with these names, in any of their forms, or as they were shown.

    Raises:
        PipeNameError: one of them is no name (123).
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._wanted = [parse_name(name) for name in names]
        self._found: dict[str, list[PipeName]] = {}  # of each pipe those that mean it

    def __call__(self, event: Event) -> bool:
        """Whether it is; what a process has lost, of whatever pipe, is."""
        if event.pipe not in self._found:
            means = set(_meanings(event.pipe))
            self._found[event.pipe] = [name for name in self._wanted if name in means]
        return bool(self._found[event.pipe]) or (event.kind is Kind.LOST and event.pipe == _UNKNOWN)

    @property
    def missing(self) -> list[str]:
        """The names of which no event was."""
        found = {name for names in self._found.values() for name in names}
        return [name.path for name in self._wanted if name not in found]

    @property
    def pipes(self) -> list[str]:
        """The pipes of all events so far."""
        return [pipe for pipe in self._found if pipe != _UNKNOWN]


def _meanings(pipe: str) -> Iterable[PipeName]:
    for text in (pipe, printable(pipe)):
        try:
            yield parse_name(text)
        except PipeNameError:  # a file's word
            continue
