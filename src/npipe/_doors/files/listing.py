r"""What there is to know of pipes without opening them: `os.stat`, `os.listdir(r"\\.\pipe")`, `os.scandir`, `glob`."""

from __future__ import annotations

import fnmatch
import functools
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, Final, Self

from npipe._doors.files.errors import win_error
from npipe._doors.files.paths import PipePath, pipe_path, split_pattern
from npipe._doors.files.scope import SCOPE
from npipe.errors import PipeAccessError, PipeError, PipeTimeoutError
from npipe.opening import list_pipes, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from npipe.options import PipeListing

__all__ = [
    "OPEN_PIPE_STAT",
    "PipeEntry",
    "check_exists",
    "entries",
    "exists",
    "find_names",
    "folder_names",
    "iterdir_of",
    "names",
    "status",
]

_DIRECTORY: Final = 267
_NO_PATH: Final = 3
_REGULAR: Final = stat.S_IFREG | 0o666  # what a listing of Windows says of each pipe
_PREFIX: Final = len("\\\\.\\pipe\\")


def _stat_result(mode: int, size: int = 0) -> os.stat_result:
    times = {f"st_{time}time{unit}": 0 for time in "amc" for unit in ("", "_ns")}
    of_linux = {"st_blksize": 4096, "st_blocks": 0, "st_rdev": 0}
    return os.stat_result((mode, 0, 0, 1 if size else 0, 0, 0, size, 0, 0, 0), times | of_linux)


OPEN_PIPE_STAT: Final = _stat_result(stat.S_IFIFO)
"""What `os.fstat` says of each open pipe, and `os.stat` of its name."""


def check_exists(path: PipePath, filename: object) -> None:
    """Raise the OSError of Windows unless there is such a pipe; no instance of it is used up for that."""
    if path.is_root:
        return
    try:
        wait(path.name.path, timeout=0)
    except (PipeTimeoutError, PipeAccessError):
        return  # it is there, and has no instance for us now
    except PipeError as failure:
        raise win_error(failure.winerror, filename) from failure


def exists(path: PipePath) -> bool:
    """Return whether there is such a pipe, be it busy."""
    try:
        check_exists(path, None)
    except OSError:
        return False
    return True


def status(path: PipePath, filename: object) -> os.stat_result:
    """Return what `os.stat` says. Raises OSError: error 2 (no such pipe), 123 (no name of a pipe)."""
    check_exists(path, filename)
    return _stat_result(stat.S_IFDIR) if path.is_root else OPEN_PIPE_STAT


def names() -> list[str]:
    r"""Return the names of all pipes, without `\\.\pipe\`."""
    return [listing.name[_PREFIX:] for listing in list_pipes()]


def _check_root(path: PipePath, filename: object) -> None:
    if not path.is_root:
        raise win_error(_DIRECTORY if exists(path) else _NO_PATH, filename)


def folder_names(path: PipePath, given: object) -> list[Any]:
    """Return what `os.listdir` does. Raises OSError (267) for a pipe, which is no folder."""
    _check_root(path, given)
    return [os.fsencode(name) if isinstance(given, bytes) else name for name in names()]


class PipeEntry(os.PathLike[Any]):
    """A pipe in what `os.scandir` gives, with what `os.DirEntry` has."""

    def __init__(self, folder: str, listing: PipeListing, *, as_bytes: bool) -> None:
        name = listing.name[_PREFIX:]
        path = folder + name
        self.name: Any = os.fsencode(name) if as_bytes else name
        self.path: Any = os.fsencode(path) if as_bytes else path
        self._instances = listing.instances

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def inode(self) -> int:
        """Return 0: pipes have none."""
        return 0

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return False."""
        del follow_symlinks
        return False

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return True, as Windows' listings tell no pipe from a file; `os.path.isfile` of its path is false."""
        del follow_symlinks
        return True

    def is_symlink(self) -> bool:
        """Return False."""
        return False

    def is_junction(self) -> bool:
        """Return False."""
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return what the listing says: a regular file, whose size is the number of instances."""
        del follow_symlinks
        return _stat_result(_REGULAR, self._instances)


class entries:  # noqa: N801 - as os.scandir
    """What `os.scandir` returns for the root of all pipes."""

    def __init__(self, path: PipePath, given: object, separator: str = "\\") -> None:
        _check_root(path, given)
        as_bytes = isinstance(given, bytes)
        folder = os.fsdecode(os.fspath(given))  # type: ignore[call-overload]
        if not folder.endswith(("\\", "/")):
            folder += separator
        self._left = iter([PipeEntry(folder, listing, as_bytes=as_bytes) for listing in list_pipes()])

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> PipeEntry:
        return next(self._left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        self._left = iter(())


def iterdir_of(original: Callable[[Path], Iterator[Path]]) -> Callable[[Path], Iterator[Path]]:
    """Return `Path.iterdir`, which puts a slash before each pipe's name: PosixPath knows no other end of a folder."""

    @functools.wraps(original)
    def iterdir(self: Path) -> Iterator[Path]:
        path = pipe_path(self) if SCOPE.is_open else None
        if path is None:
            return original(self)
        _check_root(path, self)
        return iter([self / name for name in names()])

    return iterdir


def find_names(
    original: Callable[..., Iterator[Any]],
    pathname: Any,
    *,
    root_dir: Any = None,
    dir_fd: int | None = None,
    recursive: bool = False,
    include_hidden: bool = False,
) -> Iterator[Any]:
    """`glob.iglob`: names are compared without regard to case, as on Windows."""
    pattern = _pattern_of(pathname, root_dir) if SCOPE.is_open and dir_fd is None else None
    if pattern is None:
        return original(pathname, root_dir=root_dir, dir_fd=dir_fd, recursive=recursive, include_hidden=include_hidden)
    sys.audit("glob.glob", pathname, recursive)
    found = _found(*pattern, include_hidden=include_hidden)
    return (os.fsencode(name) for name in found) if isinstance(pathname, bytes) else found


def _pattern_of(pathname: object, root_dir: object) -> tuple[str, str] | None:
    """Return (what stands before each name, the pattern of the names) of a pattern for pipes."""
    if not isinstance(pathname, str | bytes):
        return None
    text = os.fsdecode(pathname)
    below = None if root_dir is None else pipe_path(root_dir)
    if below is not None and below.is_root and text and not text.startswith(("/", "\\")):
        return "", text
    split = split_pattern(text)
    if split is None and (path := pipe_path(text)) is not None and path.is_root:
        return text, ""
    return split


def _found(prefix: str, pattern: str, *, include_hidden: bool) -> Iterator[str]:
    if not pattern:
        yield prefix
        return
    wanted = pattern.replace("/", "\\").lower()
    for name in names():
        hidden = name.startswith(".") and not (include_hidden or pattern.startswith("."))
        if not hidden and fnmatch.fnmatchcase(name.lower(), wanted):
            yield prefix + name
