"""Standard streams of a Python program over handles of pipes."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Final

from npipe.binding.win32 import operations as _operations
from npipe.win32_error import error

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["HandleIO", "open_stream"]

_NAMES: Final = ("stdin", "stdout", "stderr")
_ENDS: Final = (109, 233)  # ERROR_BROKEN_PIPE, ERROR_PIPE_NOT_CONNECTED
_MORE_DATA: Final = 234


class HandleIO(io.RawIOBase):
    """The bytes of a pipe by the number of its handle, which stays open."""

    def __init__(self, number: int, *, reads: bool) -> None:
        self._number = number
        self._reads = reads

    def readable(self) -> bool:
        """Return whether it is read from."""
        return self._reads

    def writable(self) -> bool:
        """Return whether it is written to."""
        return not self._reads

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read what is there, waiting for the first byte; 0 at the end."""
        view = memoryview(buffer).cast("B")
        try:
            _code, data = _operations.ReadFile(self._number, len(view))
        except error as failure:
            if failure.winerror in _ENDS:
                return 0
            raise OSError(f"[WinError {failure.winerror}] {failure.strerror}") from failure
        view[: len(data)] = data
        return len(data)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it."""
        try:
            return _operations.WriteFile(self._number, data)[1]
        except error as failure:
            if failure.winerror in (*_ENDS, 232):
                raise BrokenPipeError(f"[WinError {failure.winerror}] {failure.strerror}") from failure
            raise OSError(f"[WinError {failure.winerror}] {failure.strerror}") from failure


def open_stream(place: int, number: int) -> None:
    """Let a standard stream, 0 to 2, be what a handle's number stands for: text, as Python opens it."""
    raw = HandleIO(number, reads=place == 0)
    buffer = io.BufferedReader(raw) if place == 0 else io.BufferedWriter(raw)
    before = getattr(sys, _NAMES[place])
    text = io.TextIOWrapper(
        buffer,
        encoding=getattr(before, "encoding", "utf-8"),
        errors="backslashreplace" if place == 2 else getattr(before, "errors", "strict"),
        line_buffering=place == 2,
    )
    setattr(sys, _NAMES[place], text)
    setattr(sys, f"__{_NAMES[place]}__", text)
