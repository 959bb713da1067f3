"""The buffer of a pipe that is read and written: two buffers, where `io.BufferedRandom` has one for both.

That one is made for files, in which reading and writing have one position. On a pipe a thread that waits for something
to read would keep all others from writing, and a write would take the place of what was read ahead.
"""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.files.errors import crt_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["BufferedRandom", "BufferedReader"]

_NEGATIVE_SEEK: Final = 131


class BufferedReader(io.BufferedReader):
    """A buffered file of a pipe that is read. Its end does not wait for a thread that reads."""

    __module__ = "_io"

    def close(self) -> None:
        """Close it; a read of another thread ends with an error (EBADF)."""
        if not getattr(self, "_finalizing", False):  # else nobody reads, and there is a warning to be given
            self.raw.close()
        super().close()

    def __repr__(self) -> str:
        return f"<_io.BufferedReader name={self.name!r}>"


class BufferedRandom(io.BufferedRandom):
    """A buffered file of a pipe. What was written goes out before a read, as with `io.BufferedRandom`."""

    __module__ = "_io"

    def __init__(self, raw: Any, buffer_size: int = io.DEFAULT_BUFFER_SIZE) -> None:
        super().__init__(raw, buffer_size)
        self._reader = io.BufferedReader(raw, buffer_size)
        self._writer = io.BufferedWriter(raw, buffer_size)
        self._writing = threading.Lock()  # held during a write; whoever reads does not wait for it
        self._is_dirty = False  # something was written that may not have gone out

    # ---- Reading

    def _source(self) -> io.BufferedReader:
        """Return the buffer to read from, when what was written has gone out."""
        if self._is_dirty and self._writing.acquire(blocking=False):
            try:
                self._flush()
            finally:
                self._writing.release()
        return self._reader

    def read(self, size: int | None = -1, /) -> bytes:
        """Return `size` bytes, or fewer at the end; all up to the end when that is negative."""
        return self._source().read(size)

    def read1(self, size: int = -1, /) -> bytes:
        """Return what is there, at least a byte and at most `size`."""
        return self._source().read1(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer, or less of it at the end; return how many bytes."""
        return self._source().readinto(buffer)

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """Read what is there, at least a byte, into a buffer; return how many bytes."""
        return self._source().readinto1(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line, of which at most `size` bytes."""
        return self._source().readline(size)

    def peek(self, size: int = 0, /) -> bytes:
        """Return what is there without taking it."""
        return self._source().peek(size)

    # ---- Writing

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`, perhaps later; return its length in bytes."""
        with self._writing:
            self._is_dirty = True
            return self._writer.write(data)

    def writelines(self, lines: Iterable[ReadableBuffer], /) -> None:
        """Write all of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Send what was written."""
        with self._writing:
            self._flush()

    def _flush(self) -> None:
        self._writer.flush()
        self._is_dirty = False

    # ---- The position, such as it is (FileIO.seek)

    def tell(self) -> int:
        """Return the position."""
        return self._reader.tell() + self._writer.tell() - self.raw.tell()

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        """Send what was written, set the position and return it; what was read ahead stays to be read."""
        self.flush()
        ahead = self.raw.tell() - self._reader.tell()
        if whence == os.SEEK_CUR:
            position += self.tell()
        elif whence != os.SEEK_SET:
            position += self.raw.seek(0, whence)
        if position < 0:
            raise crt_error(_NEGATIVE_SEEK)
        self.raw.seek(position + ahead)
        return position

    def truncate(self, size: int | None = None, /) -> int:
        """Raise OSError (EINVAL), unless there is nothing to do."""
        self.flush()
        return self.raw.truncate(self.tell() if size is None else size)

    # ---- The end

    def __repr__(self) -> str:
        return f"<_io.BufferedRandom name={self.name!r}>"

    def detach(self) -> io.RawIOBase:
        """Return the raw file, without a buffer."""
        raw = super().detach()  # which flushes
        self._reader.detach()
        self._writer.detach()
        return raw
