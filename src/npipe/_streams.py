"""Standard input and output, and files: all of what is to be written, whatever they are and however they were set."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Protocol

if sys.platform != "win32":
    import select

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["read_some", "write_all", "write_file"]


class _Stream(Protocol):
    def fileno(self) -> int: ...
    def flush(self) -> None: ...
    def write(self, data: memoryview, /) -> int | None: ...


if sys.platform == "win32":

    def _await_ready(file: int, *, writes: bool) -> None:
        """Nothing: no file says that it would have to wait."""

else:

    def _await_ready(file: int, *, writes: bool) -> None:
        """Wait until a file that was set not to wait can go on: whoever shares it with this process may have set it."""
        poll = select.poll()
        poll.register(file, select.POLLOUT if writes else select.POLLIN)
        poll.poll()


def read_some(file: int, size: int) -> bytes:
    """Read what there is of a descriptor, `size` bytes at most, and wait for something; b"" at its end."""
    while True:
        try:
            return os.read(file, size)
        except BlockingIOError:
            _await_ready(file, writes=False)


def write_file(file: int, data: bytes) -> None:
    """Write all of `data` to a descriptor; OSError if that fails with a part of it."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(file, left) :]
        except BlockingIOError:
            _await_ready(file, writes=True)


def write_all(stream: _Stream, data: bytes) -> None:
    """Write all of `data` to a stream, and flush it; OSError if that fails with a part of it.

    One without a buffer (PYTHONUNBUFFERED makes standard output one) says how many bytes it has taken, and None for
    none: on a disk that is just full, or if it was set not to wait.
    """
    left = memoryview(data)

    def write() -> None:
        nonlocal left
        while left:
            try:
                taken = stream.write(left)
            except BlockingIOError as error:
                left = left[error.characters_written :]
                raise
            if taken is None:
                raise BlockingIOError
            left = left[taken:]

    _patiently(stream, write)
    _patiently(stream, stream.flush)


def _patiently(stream: _Stream, call: Callable[[], None]) -> None:
    while True:
        try:
            call()
        except BlockingIOError:
            _await_ready(stream.fileno(), writes=True)
        else:
            return
