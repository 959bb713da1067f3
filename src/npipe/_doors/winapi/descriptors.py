"""Descriptors and the handles that stand for the same file.

A pipe's descriptors are the files door's own. This module has the system's: standard input, a `subprocess`' pipe, a
file on the disk; each has one handle, which pywin32's ReadFile, WriteFile and PeekNamedPipe know.
"""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import array
import contextlib
import errno
import fcntl
import importlib
import os
import select
import stat
import termios
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from npipe._doors.os_errors import os_error
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import targets as _targets
from npipe.win32 import _inheritance
from npipe.win32._descriptors import take_descriptor
from npipe.win32._files import File
from npipe.win32_error import error, make_error

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["get_handle_inheritable", "get_osfhandle", "open_osfhandle", "set_handle_inheritable"]


class _PipeDescriptors(Protocol):
    """What the files door has for pipes."""

    def open_osfhandle(self, handle: int, flags: int) -> int:
        """Return a descriptor that owns the handle of a pipe."""

    def get_osfhandle(self, fd: int) -> int | None:
        """Return the handle of a pipe's descriptor; None for another descriptor."""


class _Descriptor:
    """A descriptor of the system's, behind a handle. Closing the handle leaves it open: it is the program's."""

    def __init__(self, fd: int, identity: tuple[int, int]) -> None:
        self.fd = fd
        self.identity = identity

    @property
    def descriptor(self) -> int:
        """The descriptor, for children that inherit the handle. Raises OSError (EBADF): another file has it now."""
        found = os.fstat(self.fd)
        if (found.st_dev, found.st_ino) != self.identity:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self.fd

    def read_at(self, offset: int | None, size: int) -> bytes:
        """Return at most `size` bytes; nothing is the end, which for a pipe is an error (109)."""
        if offset is not None and self._is_file():
            return os.pread(self.fd, size, offset)
        data = os.read(self.fd, size)
        if not data and size and not self._is_file():
            raise make_error(109, "ReadFile")
        return data

    def write_at(self, offset: int | None, data: ReadableBuffer) -> int:
        """Write all of `data` and return its length in bytes."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            rest = view[done:]
            if offset is not None and self._is_file():
                done += os.pwrite(self.fd, rest, offset + done)
            else:
                try:
                    done += os.write(self.fd, rest)
                except BrokenPipeError:
                    raise make_error(232, "WriteFile") from None
        return len(view)

    def peek(self, size: int) -> tuple[bytes, int, int]:
        """Return (nothing, how many bytes there are to be read, 0).

        Raises error 109 when there will be none, 1 for a file, 50 for a `size`: what is there cannot be looked at.
        """
        if self._is_file():
            raise make_error(1, "PeekNamedPipe")
        if size:
            raise make_error(50, "PeekNamedPipe")
        count = array.array("i", [0])
        fcntl.ioctl(self.fd, termios.FIONREAD, count)
        if not count[0] and self._has_ended():
            raise make_error(109, "PeekNamedPipe")
        return b"", count[0], 0

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        if self._is_file():
            os.fsync(self.fd)

    def close(self) -> None:
        """Leave the descriptor open."""

    def _is_file(self) -> bool:
        return stat.S_ISREG(os.fstat(self.fd).st_mode)

    def _has_ended(self) -> bool:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return any(events & select.POLLHUP for _, events in poll.poll(0))


_known: dict[int, tuple[int, _Descriptor]] = {}  # descriptor: its handle
_lock: Final = threading.Lock()


def _of_pipes() -> _PipeDescriptors | None:
    files: Any = importlib.import_module("npipe._doors.files")
    return files if hasattr(files, "open_osfhandle") else None


def get_osfhandle(fd: int) -> int:
    """Return the handle of a descriptor. Raises OSError (EBADF)."""
    pipes = _of_pipes()
    handle = None if pipes is None else pipes.get_osfhandle(fd)
    if handle is not None:
        return handle
    found = os.fstat(fd)
    identity = (found.st_dev, found.st_ino)
    with _lock:
        if fd in _known:
            number, descriptor = _known[fd]
            if descriptor.identity == identity and _is_open(number):
                return number
        descriptor = _Descriptor(fd, identity)
        number = _targets.file_handle("file", descriptor, False).Detach()
        _known[fd] = number, descriptor
        return number


def open_osfhandle(handle: int, flags: int) -> int:
    """Return a descriptor for a handle. Raises OSError: EBADF, or error 50 for what can have none."""
    try:
        kind = _handles.handle_kind(handle, "open_osfhandle")
    except error:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    if kind == "pipe":
        with contextlib.suppress(error):  # only CreatePipe's ends become descriptors of the system, for any child too
            return take_descriptor(handle, "open_osfhandle")
        pipes = _of_pipes()
        if pipes is not None:
            return pipes.open_osfhandle(handle, flags)
    if kind == "file":
        file = _targets.file_of(handle, "file", "open_osfhandle")
        if isinstance(file, _Descriptor):
            return os.dup(file.fd)
        if isinstance(file, File):
            return take_descriptor(handle, "open_osfhandle")
    raise os_error(50)


def get_handle_inheritable(handle: int, /) -> bool:
    """Return whether child processes inherit the handle. Raises OSError."""
    try:
        return _inheritance.is_inheritable(int(handle))
    except error as failure:
        raise os_error(failure.winerror) from None


def set_handle_inheritable(handle: int, inheritable: bool, /) -> None:
    """Let child processes inherit the handle, or not; a descriptor that it stands for is the same. Raises OSError."""
    try:
        _handles.set_handle_inheritable(int(handle), bool(inheritable), "SetHandleInformation")
        descriptor = _inheritance.descriptor_behind(int(handle))
    except error as failure:
        raise os_error(failure.winerror) from None
    if descriptor is not None:
        os.set_inheritable(descriptor, bool(inheritable))


def _is_open(number: int) -> bool:
    try:
        return _handles.handle_kind(number, "GetFileType") == "file"
    except error:
        return False
