r"""Which of the paths that a program gives to `open`, `os` and `pathlib` name pipes.

- `\\.\pipe\NAME`, `\\?\pipe\NAME`, `\??\pipe\NAME`, `//./pipe/NAME`, with either slash, in any case, as text or bytes;
- `\\HOST\pipe\NAME`, which is refused later: with slashes instead it is a path of Linux;
- one of these behind a folder and a slash, which is what `os.path.join` of Linux makes where Windows' drops the folder;
- `//pipe/NAME`, which is what PosixPath makes of `//./pipe/NAME`, unless there is a folder `/pipe`.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from npipe.errors import PipeError
from npipe.names import PipeName, is_pipe_root, parse_win32_name

__all__ = ["PipePath", "pipe_path", "split_pattern"]

_FORMS: Final = re.compile(
    r"""
    [\\/]{2} [.?] [\\/]+ pipe (?: [\\/] | \Z )
    | \\\?\?\\ pipe (?: [\\/] | \Z )
    | [\\/]{2} [.?] [\\/] globalroot [\\/] device [\\/] namedpipe (?: [\\/] | \Z )
    | \\\\ \?\\ unc \\ [^\\/]+ \\ pipe (?: \\ | \Z )
    | \\\\ (?! [.?][\\/] ) [^\\/]+ [\\/] pipe [\\/]
    """,
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
_BEHIND_A_FOLDER: Final = re.compile(r"/(?=\\\\)")
_NORMALISED: Final = re.compile(r"//pipe(?:/+|\Z)", re.IGNORECASE | re.ASCII)
_ROOT: Final = re.compile(r"(?:[\\/]{2}[.?][\\/]+|\\\?\?\\)pipe[\\/]+|//pipe/+", re.IGNORECASE | re.ASCII)
_PREFIX: Final = "\\\\.\\pipe\\"

# As they are before any door has opened.
_lstat: Final = os.lstat


class PipePath(NamedTuple):
    """A path that names a pipe, or the root of all pipes."""

    text: str
    """As CreateFile takes it."""
    is_root: bool

    @property
    def name(self) -> PipeName:
        """The pipe's name. Raises PipeError with the code that CreateFile gives."""
        return parse_win32_name(self.text)

    @property
    def absolute(self) -> str:
        """As Windows' GetFullPathName writes it; as it is when it is no name of a pipe."""
        if self.is_root:
            return _PREFIX
        try:
            return self.name.path
        except PipeError:
            return self.text


def pipe_path(path: object) -> PipePath | None:
    """Return the path if it names a pipe; None for all else, also for what is no path."""
    text = _text_of(path)
    if text is None or ("\\" not in text and not text.startswith("//")) or "\0" in text:
        return None
    if _FORMS.match(text):
        return PipePath(text, is_pipe_root(text))
    if normalised := _NORMALISED.match(text):
        return None if _is_there(text) else PipePath(*_made(text[normalised.end() :]))
    for folder in _BEHIND_A_FOLDER.finditer(text):
        if _FORMS.match(text, folder.end()):
            rest = text[folder.end() :]
            return PipePath(rest, is_pipe_root(rest))
    return None


def split_pattern(pattern: str) -> tuple[str, str] | None:
    r"""Return (`\\.\pipe\` as it is written, what follows it) of glob's pattern for pipes; None for other patterns."""
    found = _ROOT.match(pattern)
    if found is None or (found[0].lower().startswith("//pipe") and _is_there(pattern)):
        return None
    return found[0], pattern[found.end() :]


def _text_of(path: object) -> str | None:
    if type(path) is str:
        return path
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if isinstance(path, bytes):
        return os.fsdecode(path)
    return str(path) if isinstance(path, str) else None


def _is_there(normalised: str) -> bool:
    """Whether this machine has a folder of this name, so that `//pipe/x` is what it looks like."""
    try:
        _lstat("/" + normalised[2:6])
    except OSError:
        return False
    return True


def _made(name: str) -> tuple[str, bool]:
    return _PREFIX + name, not name
