"""Ordinary files behind CreateFile: what programs that use pipes do with files besides."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from npipe._buffers import view_of
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from npipe._buffers import ReadableBuffer

__all__ = ["File", "code_of", "open_file"]

_CREATE_NEW: Final = 1
_CREATE_ALWAYS: Final = 2
_OPEN_ALWAYS: Final = 4
_TRUNCATE_EXISTING: Final = 5
_DELETE_ON_CLOSE: Final = 0x04000000
_CODES: Final = {
    FileNotFoundError: 2,
    FileExistsError: 80,
    PermissionError: 5,
    IsADirectoryError: 5,
    NotADirectoryError: 3,
}
_DISK: Final = 1
_CHARACTER: Final = 2
_PIPE: Final = 3


def code_of(failure: OSError) -> int:
    """Return the Win32 code for what the system says of a file."""
    return _CODES.get(type(failure), 5)


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


class File:
    """An open descriptor, read and written at an offset, or (None) at its own position."""

    def __init__(
        self, descriptor: int, path: str | None = None, *, remove: bool = False, borrowed: bool = False
    ) -> None:
        self._descriptor = descriptor
        self._bound_to: tuple[int, int] | None = None
        self.path = path
        self._removes = remove
        self.borrowed = borrowed
        """Whether somebody else closes it."""

    @property
    def descriptor(self) -> int:
        """The descriptor. Raises OSError (EBADF) if this is bound to a file, and another one has the number now."""
        if self._bound_to is not None and self._bound_to != _identity(self._descriptor):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._descriptor

    def bind(self) -> None:
        """Be the file that the descriptor is now, and no other, should its owner close it."""
        self._bound_to = _identity(self._descriptor)

    def is_at(self, descriptor: int) -> bool:
        """Return whether this stands for a descriptor of that number, perhaps of a file that is no more."""
        return self._descriptor == descriptor

    @property
    def file_type(self) -> int:
        """FILE_TYPE_DISK, FILE_TYPE_CHAR or FILE_TYPE_PIPE."""
        mode = os.fstat(self.descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            return _PIPE
        return _CHARACTER if stat.S_ISCHR(mode) else _DISK

    def read_at(self, offset: int | None, size: int) -> bytes:
        """Return at most `size` bytes."""
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        return os.read(self.descriptor, size) if offset is None else os.pread(self.descriptor, size, offset)

    def write_at(self, offset: int | None, data: ReadableBuffer) -> int:
        """Write all of `data` and return its length in bytes."""
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        view = view_of(data).cast("B")
        done = 0
        while done < len(view):
            rest = view[done:]
            if offset is None:
                done += os.write(self.descriptor, rest)
            else:
                done += os.pwrite(self.descriptor, rest, offset + done)
        return done

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        if self.file_type == _DISK:
            os.fsync(self.descriptor)

    def give_away(self) -> int:
        """Return the descriptor, which `close` does not close any more."""
        self.borrowed = True
        return self.descriptor

    def close(self) -> None:
        """Close the file, and remove it if that was asked for."""
        if not self.borrowed:
            os.close(self._descriptor)
        if self._removes and self.path is not None:
            Path(self.path).unlink()


def open_file(path: str, *, reads: bool, writes: bool, disposition: int, flags: int) -> File:
    """Open or create a file as CreateFile does; raises error 2, 3, 5, 80."""
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    mode = os.O_CLOEXEC | (os.O_RDWR if reads and writes else os.O_WRONLY if writes else os.O_RDONLY)
    mode |= {_CREATE_NEW: os.O_CREAT | os.O_EXCL, _CREATE_ALWAYS: os.O_CREAT | os.O_TRUNC}.get(disposition, 0)
    mode |= {_OPEN_ALWAYS: os.O_CREAT, _TRUNCATE_EXISTING: os.O_TRUNC}.get(disposition, 0)
    try:
        descriptor = os.open(path, mode, 0o666)
    except OSError as failure:
        raise make_error(code_of(failure), "CreateFile") from failure
    return File(descriptor, path, remove=bool(flags & _DELETE_ON_CLOSE))
