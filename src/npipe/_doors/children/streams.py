"""Pipes that `subprocess` is given as a child's standard streams: a Python program opens them itself."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from npipe._process import NO_FILE
from npipe.errors import PipeStateError, WinError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npipe._doors.files.descriptors import Descriptor

__all__ = ["without_pipes"]

_NAMES: Final = ("stdin", "stdout", "stderr")
_STDOUT, _DEVNULL = -2, -3  # subprocess'
_AT: Final = {"args": 0, "executable": 2, "stdin": 3, "stdout": 4, "stderr": 5}
"""Where Popen's arguments are that it may be given by their places."""


def without_pipes(
    arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], dict[int, int], list[Descriptor]]:
    """Return Popen's arguments with the null device in the place of pipes.

    Also {0, 1 or 2: the handle of its pipe}, and the pipes of which selectors are told no more.

    Raises PipeStateError (50) if the child could do nothing with them, for it is no Python program, or reads no
    environment.
    """
    given = {name: keywords.get(name, arguments[at] if at < len(arguments) else None) for name, at in _AT.items()}
    pipes = {place: _pipe_of(given[name]) for place, name in enumerate(_NAMES)}
    found = {place: pipe for place, pipe in pipes.items() if pipe is not None}
    if not found:
        return arguments, keywords, {}, []
    command = [] if keywords.get("shell") else _texts(given["args"])
    program = _texts(given["executable"]) or command[:1]
    inheritance: Any = importlib.import_module("npipe.win32._inheritance")
    if not program or not inheritance.opens_standard_streams(program[0], command[1:]):
        name = next(iter(found.values())).name
        raise PipeStateError(WinError.NOT_SUPPORTED, name, "giving to a child process", NO_FILE)
    replaced = list(arguments)
    keywords = dict(keywords)
    for place in found:
        name = _NAMES[place]
        if name in keywords or _AT[name] >= len(replaced):
            keywords[name] = _DEVNULL
        else:
            replaced[_AT[name]] = _DEVNULL
    if given["stderr"] == _STDOUT and 1 in found:
        found[2] = found[1]
    numbers = {place: int(pipe.handle) for place, pipe in found.items()}
    # The program has asked for their numbers, which arms them.
    return tuple(replaced), keywords, numbers, [pipe for pipe in found.values() if pipe.disarm()]


def _pipe_of(stream: Any) -> Any:
    """Return the files door's descriptor behind what is to be a stream; None for all else."""
    descriptors: Any = sys.modules.get("npipe._doors.files.descriptors")
    if stream is None or descriptors is None:
        return None
    if isinstance(stream, int):
        return descriptors.find(stream)
    raw = getattr(stream, "buffer", stream)
    raw = getattr(raw, "raw", raw)
    kind: Any = sys.modules.get("npipe._doors.files.raw")
    return raw.pipe if kind is not None and isinstance(raw, kind.FileIO) and not raw.closed else None


def _texts(command: Any) -> list[str]:
    """Return a command, or a program's path, as a list of texts; empty if it is none."""
    if command is None:
        return []
    parts: Sequence[Any] = [command] if isinstance(command, str | bytes | os.PathLike) else list(command)
    return [os.fsdecode(part) for part in parts]
