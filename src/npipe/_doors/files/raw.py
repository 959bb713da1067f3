"""`io.FileIO` that opens pipes too: the raw file at the bottom of every other one."""

from __future__ import annotations

import io
import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.files import descriptors
from npipe._doors.files.errors import crt_error
from npipe._doors.files.paths import pipe_path
from npipe._doors.files.scope import SCOPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["FileIO", "OfPipe", "is_concerned", "watched"]

_PIECE: Final = 65536
_MOST_KEPT: Final = 1 << 20  # bytes of the last read, to go back over
_TRUNCATED: Final = 87

_Original = io.FileIO


class OfPipe(Exception):  # noqa: N818 - no error
    """Carries the descriptor of a pipe, which an opener has returned, out of the opening of a file."""

    def __init__(self, descriptor: descriptors.Descriptor) -> None:
        super().__init__()
        self.descriptor = descriptor


def watched(opener: Callable[[Any, int], int]) -> Callable[[Any, int], int]:
    """Return an opener that raises `OfPipe` where this one returns the descriptor of a pipe."""

    def ask(path: Any, flags: int) -> int:
        fd = opener(path, flags)
        found = descriptors.find(fd)
        if found is not None:
            raise OfPipe(found)
        return fd

    return ask


class _Kind(type):
    """Makes the class stand for the one in whose place it is: every FileIO is an instance of it."""

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        if cls is FileIO and not _asks_for_pipe(*arguments, **keywords):
            return _Original(*arguments, **keywords)
        return super().__call__(*arguments, **keywords)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Original) if cls is FileIO else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _Original) if cls is FileIO else super().__subclasscheck__(subclass)


class FileIO(_Original, metaclass=_Kind):  # type: ignore[metaclass]  # typeshed's have another, Python's have not
    """A raw file, of a pipe or of anything else; `io.FileIO` while the door is open."""

    __module__ = "_io"

    def __init__(
        self, file: Any, mode: str = "r", closefd: bool = True, opener: Callable[[Any, int], int] | None = None
    ) -> None:
        self._pipe: descriptors.Descriptor | None = None
        self._owns: bool | None = None  # the descriptor, if it is a pipe's
        self._last = b""
        self._seeks = True
        if not SCOPE.is_open:
            super().__init__(file, mode, closefd, opener)
            return
        try:
            found = self._find(file, mode, closefd, opener)
        except OfPipe as by_opener:
            found = by_opener.descriptor
        if found is None:
            if opener is None or isinstance(file, int):
                super().__init__(file, mode, closefd)
            return
        try:
            super().__init__(found.fd, mode, closefd=False)
        except BaseException:
            if not isinstance(file, int):
                found.close()
            raise
        self._pipe = found
        self._owns = closefd
        self.name = file

    def _find(self, file: Any, mode: str, closefd: bool, opener: Any) -> descriptors.Descriptor | None:
        """Return the descriptor of a pipe; None for all else, which is open already if there is an opener."""
        if opener is not None and not isinstance(file, int):
            super().__init__(file, mode, closefd, watched(opener))
            return None
        if isinstance(file, int):
            return descriptors.find(file)
        path = pipe_path(file)
        if path is None:
            return None
        flags = _flags_of(mode)
        if not closefd:
            raise ValueError("Cannot use closefd=False with file name")
        sys.audit("open", file, mode, flags)
        if path.is_root:
            raise crt_error(5, file)
        return descriptors.open_pipe(path.text, flags, file)

    @property
    def closefd(self) -> bool:
        """Whether the descriptor is closed with the file."""
        return super().closefd if self._owns is None else self._owns

    @property
    def pipe(self) -> descriptors.Descriptor | None:
        """The descriptor of a pipe; None for another file."""
        return self._pipe

    def fileno(self) -> int:
        """Return the descriptor, for `os.read`, `os.write` and their like in the door's scope, and for selectors."""
        pipe = self._pipe
        return super().fileno() if pipe is None else pipe.arm()

    def seekable(self) -> bool:
        """Return True for a pipe, as Python before 3.16 does on Windows."""
        if self._pipe is None:
            return super().seekable()
        self._check_closed()
        return self._seeks

    @contextmanager
    def hiding_that_it_seeks(self) -> Iterator[None]:
        """Let those who ask during this time hear that the file cannot seek."""
        self._seeks = False
        try:
            yield
        finally:
            self._seeks = True

    def isatty(self) -> bool:
        """Return False for a pipe."""
        if self._pipe is None:
            return super().isatty()
        self._check_closed()
        return False

    # ---- Reading

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read what is there, at least a byte, into a buffer; 0 at the end, None if a read would have to wait."""
        pipe = self._pipe
        if pipe is None:
            return super().readinto(buffer)
        self._check_readable()
        try:
            count = pipe.read_into(buffer)
        except BlockingIOError:
            return None  # type: ignore[return-value]  # typeshed knows no file that does not wait
        if self.writable():
            self._keep(memoryview(buffer).cast("B")[:count])
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """Return what is there, at least a byte and at most `size`; all up to the end when that is negative."""
        pipe = self._pipe
        if pipe is None:
            return super().read(-1 if size is None else size)
        if size is None or size < 0:
            return self.readall()
        self._check_readable()
        try:
            data = pipe.read(size)
        except BlockingIOError:
            return None  # type: ignore[return-value]
        if self.writable():
            self._keep(data)
        return data

    def readall(self) -> bytes:
        """Return all up to the end. Nothing is lost when that fails."""
        pipe = self._pipe
        if pipe is None:
            return super().readall()
        self._check_readable()
        data = bytearray()
        try:
            while piece := pipe.read(_PIECE):
                data += piece
        except BlockingIOError:
            return bytes(data) or None  # type: ignore[return-value]
        except BaseException:
            if data and not pipe.closed:
                pipe.put_back(data)
            raise
        self._last = b""
        return bytes(data)

    def _keep(self, data: bytes | memoryview) -> None:
        self._last = bytes(data) if len(data) <= _MOST_KEPT else b""

    # ---- Writing

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data` and return its length; None if that would have to wait."""
        pipe = self._pipe
        if pipe is None:
            return super().write(data)
        self._check_closed()
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")
        try:
            return pipe.write(data)
        except BlockingIOError:
            return None  # type: ignore[return-value]

    # ---- The position, such as it is

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position, of which nothing comes but its number, and return it.

        A step back over what the last read has returned makes that what the next reads return: so
        `io.BufferedRandom` loses nothing when it goes from reading to writing.
        """
        pipe = self._pipe
        if pipe is None:
            return super().seek(position, whence)
        self._check_closed()
        if whence == os.SEEK_CUR and -len(self._last) <= position < 0:
            last, self._last = self._last, b""
            pipe.put_back(last[position:])
            position = 0
        return pipe.seek(position, whence)

    def tell(self) -> int:
        """Return the position: what was sought last, and the bytes since then."""
        pipe = self._pipe
        if pipe is None:
            return super().tell()
        self._check_closed()
        return pipe.seek(0, os.SEEK_CUR)

    def truncate(self, size: int | None = None, /) -> int:
        """Raise OSError (EINVAL) for a pipe, unless there is nothing to do."""
        if self._pipe is None:
            return super().truncate(size)
        self._check_closed()
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")
        wanted = self.tell() if size is None else size
        if wanted:
            raise crt_error(_TRUNCATED)
        return wanted

    # ---- The end

    def close(self) -> None:
        """Close the file; once."""
        pipe, self._pipe = self._pipe, None
        super().close()  # with closefd false if it was a pipe's
        if pipe is not None and self._owns:
            pipe.close()

    def _dealloc_warn(self, source: object) -> None:
        if self._pipe is None:
            super()._dealloc_warn(source)  # type: ignore[misc]
        elif self._owns and not self.closed:
            warnings.warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)

    def __del__(self) -> None:
        if getattr(self, "_pipe", None) is not None:
            self._dealloc_warn(self)
        super().__del__()

    def __repr__(self) -> str:
        if self._pipe is None:
            return super().__repr__()
        return f"<_io.FileIO name={self.name!r} mode={self.mode!r} closefd={self._owns}>"

    def _check_closed(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check_readable(self) -> None:
        self._check_closed()
        if not self.readable():
            raise io.UnsupportedOperation("File not open for reading")


def is_concerned(file: object, opener: object = None) -> bool:
    """Whether to open this is the door's affair, or may be: what an opener returns is known when it has been called."""
    if not SCOPE.is_open:
        return False
    if isinstance(file, int):
        return descriptors.find(file) is not None
    return opener is not None or pipe_path(file) is not None


def _asks_for_pipe(file: Any = None, mode: Any = None, closefd: Any = None, opener: Any = None) -> bool:
    del mode, closefd
    return is_concerned(file, opener)


def _flags_of(mode: str) -> int:
    """Return `os.open`'s flags for a raw file's mode. Raises ValueError as FileIO does."""
    kinds = [letter for letter in mode if letter in "xrwa"]
    for letter in mode:
        if letter not in "xrwab+":
            raise ValueError(f"invalid mode: {mode[:200]}")
    if len(kinds) != 1 or mode.count("+") > 1:
        raise ValueError("Must have exactly one of create/read/write/append mode and at most one plus")
    flags = {"x": os.O_EXCL | os.O_CREAT, "r": 0, "w": os.O_CREAT | os.O_TRUNC, "a": os.O_APPEND | os.O_CREAT}[kinds[0]]
    if "+" in mode:
        return flags | os.O_RDWR
    return flags | (os.O_RDONLY if kinds[0] == "r" else os.O_WRONLY)
