"""What stands in the place of the functions of `os`: each is given the one that was there as its first argument.

`path` and `fd` are asked for being a pipe's; for all else, and while the door is closed, the original does it.
"""

from __future__ import annotations

import errno
import ntpath
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.files import descriptors, listing
from npipe._doors.files.errors import crt_error, win_error
from npipe._doors.files.paths import PipePath, pipe_path
from npipe._doors.files.scope import SCOPE
from npipe.binding.win32 import handles as _handles
from npipe.win32._descriptors import never_waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._doors.files.descriptors import Descriptor

__all__ = ["ABSOLUTE", "BY_DESCRIPTOR", "BY_PATH", "OF_NAMES", "REFUSED", "absolute", "refusing", "scandir_of_paths"]

_ACCESS_DENIED: Final = 5
_NOT_SAME_DEVICE: Final = 17
_INVALID_PARAMETER: Final = 87
_NO_DATA: Final = 232
_DIRECTORY: Final = 267
_STANDARD: Final = 3  # descriptors of the standard streams, which C code writes to


def _pipe(fd: object) -> Descriptor | None:
    return descriptors.find(fd) if SCOPE.is_open else None


def _path(path: object) -> PipePath | None:
    return pipe_path(path) if SCOPE.is_open and not isinstance(path, int) else None


# ---- By path


def _open(original: Any, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> Any:
    pipe = _path(path)
    if pipe is None:
        return original(path, flags, mode, dir_fd=dir_fd)
    if pipe.is_root:
        raise crt_error(_ACCESS_DENIED, path)
    opened = descriptors.open_pipe(pipe.text, flags, path)
    opened.arm()
    return opened.fd


def _stat(original: Any, path: Any, **keywords: Any) -> Any:
    if _pipe(path) is not None:
        return listing.OPEN_PIPE_STAT
    pipe = _path(path)
    return original(path, **keywords) if pipe is None else listing.status(pipe, path)


def _access(original: Any, path: Any, mode: int, **keywords: Any) -> Any:
    pipe = _path(path)
    return original(path, mode, **keywords) if pipe is None else listing.exists(pipe)


def _listdir(original: Any, path: Any = None) -> Any:
    pipe = None if path is None else _path(path)
    return original(path) if pipe is None else listing.folder_names(pipe, path)


def _scandir(original: Any, path: Any = None) -> Any:
    pipe = None if path is None else _path(path)
    return original(path) if pipe is None else listing.entries(pipe, path)


def scandir_of_paths(original: Any, path: Any = None) -> Any:
    """Return what pathlib's glob lists; PosixPath knows a slash alone for the end of a folder."""
    pipe = None if path is None else _path(path)
    if pipe is None:
        return original(path)
    entries = listing.entries(pipe, path, "/")
    if sys.version_info >= (3, 14):
        return ((entry, entry.name, entry.path) for entry in entries)
    return entries


def absolute(original: Any, *arguments: Any, **keywords: Any) -> Any:
    """Return a pipe's name as Windows makes it absolute: for functions of os.path."""
    path = arguments[0] if arguments else keywords.get("path", keywords.get("filename"))
    pipe = _path(path)
    if pipe is None:
        return original(*arguments, **keywords)
    return os.fsencode(pipe.absolute) if isinstance(path, bytes) else pipe.absolute


BY_PATH: Final[dict[str, Callable[..., Any]]] = {
    "open": _open,
    "stat": _stat,
    "lstat": _stat,
    "access": _access,
    "listdir": _listdir,
    "scandir": _scandir,
}

ABSOLUTE: Final = ("abspath", "realpath")
"""The functions of os.path that make a path absolute."""


def _by_ntpath(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what asks ntpath's function of a pipe's name, which Linux' own takes for one word."""

    def call(original: Any, path: Any, *arguments: Any, **keywords: Any) -> Any:
        pipe = _path(path)
        if pipe is None:
            return original(path, *arguments, **keywords)
        return function(os.fsencode(pipe.text) if isinstance(path, bytes) else pipe.text, *arguments, **keywords)

    return call


OF_NAMES: Final = {
    name: _by_ntpath(getattr(ntpath, name))
    for name in ("split", "dirname", "basename", "splitext", "isabs", "normpath")
}
"""The functions of os.path that take names apart. `join` is Linux' own: what it makes of a pipe's name is one too."""


# ---- By descriptor


def _read(original: Any, fd: Any, length: int, /) -> Any:
    pipe = _pipe(fd)
    if pipe is None:
        try:
            return original(fd, length)
        except BlockingIOError:
            if not (SCOPE.is_open and never_waits(fd)):
                raise
        _handles.set_last_error(_NO_DATA)
        raise crt_error(_NO_DATA)
    if length < 0:
        raise crt_error(_INVALID_PARAMETER)
    return pipe.read(length)


def _write(original: Any, fd: Any, data: Any, /) -> Any:
    pipe = _pipe(fd)
    if pipe is None:
        return original(fd, data)
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not {type(data).__name__!r}") from None
    return pipe.write(view)


def _close(original: Any, fd: Any, *, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> Any:
    if _is_finalizing():  # a __del__ at the very end: this module has lost its globals
        return original(fd)
    pipe = _pipe(fd)
    return original(fd) if pipe is None else pipe.close()


def _closerange(original: Any, low: int, high: int, /) -> Any:
    if SCOPE.is_open:
        for pipe in descriptors.in_range(low, high):
            pipe.close()
    return original(low, high)


def _fstat(original: Any, fd: Any) -> Any:
    return original(fd) if _pipe(fd) is None else listing.OPEN_PIPE_STAT


def _dup(original: Any, fd: Any, /) -> Any:
    pipe = _pipe(fd)
    return original(fd) if pipe is None else pipe.duplicate().fd


def _dup2(original: Any, fd: Any, fd2: Any, inheritable: bool = True) -> Any:
    pipe = _pipe(fd)
    if pipe is None:
        target = _pipe(fd2)
        result = original(fd, fd2, inheritable)
        if target is not None:
            target.forget()
        return result
    if fd2 == fd:
        return fd2
    if 0 <= fd2 < _STANDARD:
        error = crt_error(0, number=errno.ENOTSUP)
        error.add_note(
            "a pipe of npipe cannot be a standard stream of the process; set sys.stdin, sys.stdout or sys.stderr to a "
            "file of the pipe instead (docs/porting.md)"
        )
        raise error
    second = pipe.duplicate()
    try:
        second.move_to(fd2, inheritable=inheritable)
    except BaseException:
        second.close()
        raise
    second.arm()
    return fd2


def _lseek(original: Any, fd: Any, position: int, whence: int, /) -> Any:
    pipe = _pipe(fd)
    return original(fd, position, whence) if pipe is None else pipe.seek(position, whence)


def _fsync(original: Any, fd: Any) -> Any:
    pipe = _pipe(fd if isinstance(fd, int) or not hasattr(fd, "fileno") else fd.fileno())
    return original(fd) if pipe is None else pipe.flush()


def _get_blocking(original: Any, fd: Any, /) -> Any:
    pipe = _pipe(fd)
    return original(fd) if pipe is None else pipe.blocks


def _set_blocking(original: Any, fd: Any, blocking: bool, /) -> Any:
    pipe = _pipe(fd)
    if pipe is None:
        return original(fd, blocking)
    pipe.blocks = bool(blocking)
    return None


def _ftruncate(original: Any, fd: Any, length: int, /) -> Any:
    if _pipe(fd) is None:
        return original(fd, length)
    raise crt_error(_INVALID_PARAMETER)


BY_DESCRIPTOR: Final[dict[str, Callable[..., Any]]] = {
    "read": _read,
    "write": _write,
    "close": _close,
    "closerange": _closerange,
    "fstat": _fstat,
    "dup": _dup,
    "dup2": _dup2,
    "lseek": _lseek,
    "fsync": _fsync,
    "fdatasync": _fsync,
    "get_blocking": _get_blocking,
    "set_blocking": _set_blocking,
    "ftruncate": _ftruncate,
}


# ---- What pipes' names are refused for

REFUSED: Final = {
    "remove": (_INVALID_PARAMETER, 1),
    "unlink": (_INVALID_PARAMETER, 1),
    "rename": (_INVALID_PARAMETER, 2),
    "replace": (_INVALID_PARAMETER, 2),
    "link": (_INVALID_PARAMETER, 2),
    "symlink": (_INVALID_PARAMETER, 2),
    "readlink": (_INVALID_PARAMETER, 1),
    "chmod": (_INVALID_PARAMETER, 1),
    "chown": (_INVALID_PARAMETER, 1),
    "utime": (_INVALID_PARAMETER, 1),
    "truncate": (_INVALID_PARAMETER, 1),
    "mkfifo": (_INVALID_PARAMETER, 1),
    "mknod": (_INVALID_PARAMETER, 1),
    "mkdir": (_DIRECTORY, 1),
    "rmdir": (_DIRECTORY, 1),
    "chdir": (_DIRECTORY, 1),
}
"""Functions that change what a path names: the code for a pipe that is there, and how many of the first arguments are
paths. Where there is no such pipe the code is 2, and 17 where a file would become one.
"""

_NAMES: Final = ("path", "src", "dst")


def refusing(code: int, count: int) -> Callable[..., Any]:
    """Return what stands in the place of a function that has nothing to do with a pipe."""

    def refuse(original: Any, *arguments: Any, **keywords: Any) -> Any:
        paths = [*arguments[:count], *(keywords[name] for name in _NAMES if name in keywords)]
        for number, path in enumerate(paths):
            pipe = _path(path)
            if pipe is None:
                continue
            if number and not pipe.is_root and not listing.exists(pipe):
                raise win_error(_NOT_SAME_DEVICE, *paths[:2])
            listing.check_exists(pipe, *paths[:1])
            raise win_error(_ACCESS_DENIED if pipe.is_root else code, *paths[:2])
        return original(*arguments, **keywords)

    return refuse
