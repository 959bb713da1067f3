"""`open` and `io.open`: the buffers and the text above a raw file."""

from __future__ import annotations

import io
import os
import warnings
from typing import TYPE_CHECKING, Any

from npipe._doors.files.duplex import BufferedRandom, BufferedReader
from npipe._doors.files.raw import FileIO, OfPipe, is_concerned, watched
from npipe._doors.files.text import Text, TextOfBoth

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["open_file"]


def open_file(
    original: Callable[..., Any],
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[Any, int], int] | None = None,
) -> Any:
    """Open a file, or a pipe as Windows does it."""
    if not is_concerned(file, opener):
        return original(file, mode, buffering, encoding, errors, newline, closefd, opener)
    if not isinstance(file, int):
        file = os.fspath(file)
    if opener is not None and not isinstance(file, int):
        return _by_opener(original, (file, mode, buffering, encoding, errors, newline, closefd), opener)
    return _open_pipe(file, mode, buffering, encoding, errors, newline, closefd=closefd)


def _by_opener(original: Callable[..., Any], arguments: tuple[Any, ...], opener: Callable[[Any, int], int]) -> Any:
    """Open what an opener returns, which may be the descriptor of a pipe."""
    try:
        return original(*arguments, watched(opener))
    except OfPipe as found:
        fd = found.descriptor.fd
    file, mode, buffering, encoding, errors, newline, _ = arguments
    return _open_pipe(fd, mode, buffering, encoding, errors, newline, closefd=True, name=file)


def _open_pipe(
    file: Any,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
    *,
    closefd: bool,
    name: Any = None,
) -> Any:
    _check(mode, buffering, encoding, errors, newline)
    raw = FileIO(file, "".join(letter for letter in mode if letter not in "bt"), closefd)
    result: Any = raw
    try:
        if name is not None:
            raw.name = name
        if buffering == 0:
            return raw
        size = io.DEFAULT_BUFFER_SIZE if buffering in (-1, 1) or buffering < 0 else buffering
        if "+" in mode:
            result = BufferedRandom(raw, size)
        elif "r" in mode:
            result = BufferedReader(raw, size)
        else:
            result = io.BufferedWriter(raw, size)
        if "b" in mode:
            return result
        kind = TextOfBoth if "+" in mode else Text
        result = kind(result, encoding, errors, newline, line_buffering=buffering == 1)
        result.mode = mode
    except BaseException:
        result.close()
        raise
    return result


def _kind_of(given: object) -> str:
    return "None" if given is None else type(given).__name__


def _check(mode: Any, buffering: Any, encoding: object, errors: object, newline: object) -> None:
    """Raise TypeError or ValueError for arguments that do not go together, as io.open does."""
    if not isinstance(mode, str):
        raise TypeError(f"open() argument 'mode' must be str, not {_kind_of(mode)}")
    if not isinstance(buffering, int):
        raise TypeError(f"{type(buffering).__name__!r} object cannot be interpreted as an integer")
    for name, given in (("encoding", encoding), ("errors", errors), ("newline", newline)):
        if given is not None and not isinstance(given, str):
            raise TypeError(f"open() argument {name!r} must be str or None, not {_kind_of(given)}")
    if set(mode) - set("axrwb+t") or len(mode) > len(set(mode)):
        raise ValueError(f"invalid mode: {mode!r}")
    if "t" in mode and "b" in mode:
        raise ValueError("can't have text and binary mode at once")
    if sum(letter in mode for letter in "xrwa") != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if "b" in mode:
        for what, given in (("an encoding", encoding), ("an errors", errors), ("a newline", newline)):
            if given is not None:
                raise ValueError(f"binary mode doesn't take {what} argument")
        if buffering == 1:
            warnings.warn(
                "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used",
                RuntimeWarning,
                stacklevel=4,
            )
    elif buffering == 0:
        raise ValueError("can't have unbuffered text I/O")
    if newline is not None and newline not in ("", "\n", "\r", "\r\n"):
        raise ValueError(f"illegal newline value: {newline!r}")
