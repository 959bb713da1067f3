"""Descriptors of the system as handles, and handles as descriptors: standard streams, FdCreatePipe, CreatePipe's ends.

An end that CreatePipe has made becomes a pipe of the system when a descriptor of it is needed: for a child's standard
stream, or for `_open_osfhandle`. Both ends are this process's until then, so nothing is lost, and nobody has to copy.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
import sys
import termios
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from npipe._buffers import view_of
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import targets as _targets
from npipe.win32._files import File
from npipe.win32_error import error, make_error

if TYPE_CHECKING:
    from npipe._buffers import ReadableBuffer
    from npipe.binding.win32.handles import PyHANDLE

__all__ = [
    "as_handle",
    "couple",
    "descriptor_of",
    "file_for",
    "never_waits",
    "replaced_standard",
    "set_standard_handle",
    "standard_handle",
    "take_descriptor",
]

_BROKEN_PIPE: Final = 109
_BUSY: Final = 231
_NO_DATA: Final = 232
_NOT_SUPPORTED: Final = 50
_NOWAIT: Final = 1
_STANDARD: Final = (-10, -11, -12)  # STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE

_lock = threading.Lock()
_standard: dict[int, int] = {}  # STD_*_HANDLE: the number of the handle of its descriptor
_replaced: dict[int, int] = {}  # ... or what SetStdHandle has set
_no_waits: dict[int, tuple[int, int]] = {}  # descriptors with PIPE_NOWAIT: their files


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def never_waits(descriptor: int) -> bool:
    """Return whether SetNamedPipeHandleState has given the descriptor PIPE_NOWAIT."""
    marked = _no_waits.get(descriptor)
    if marked is None:
        return False
    try:
        return marked == _identity(descriptor)
    except OSError:  # it has been closed
        return False


def _mode_of(descriptor: int) -> int:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    return 0 if os.get_blocking(descriptor) else _NOWAIT


class Stream(File):
    """A pipe of the system, or a socket: its ends answer as those of a byte pipe."""

    def __init__(self, descriptor: int, *, borrowed: bool = False) -> None:
        super().__init__(descriptor, borrowed=borrowed)
        self.mode = _mode_of(descriptor)

    def read_at(self, offset: int | None, size: int) -> bytes:
        """Return what is there, at most `size` bytes; wait for the first. Raises 109, 232 (PIPE_NOWAIT)."""
        del offset  # a pipe has none
        try:
            data = os.read(self.descriptor, size)
        except BlockingIOError:
            raise make_error(_NO_DATA, "ReadFile") from None
        except ConnectionResetError:
            data = b""
        if size and not data:
            raise make_error(_BROKEN_PIPE, "ReadFile")
        return data

    def write_at(self, offset: int | None, data: ReadableBuffer) -> int:
        """Write all of `data`; with PIPE_NOWAIT what there is room for. Raises 232: nobody reads any more."""
        del offset
        try:
            if not self.mode & _NOWAIT:
                return super().write_at(None, data)
            return os.write(self.descriptor, view_of(data))
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            raise make_error(_NO_DATA, "WriteFile") from None

    def peek(self, size: int) -> tuple[bytes, int, int]:
        """PeekNamedPipe: (at most `size` bytes, bytes available, 0)."""
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        (available,) = struct.unpack("i", fcntl.ioctl(self.descriptor, termios.FIONREAD, b"\0\0\0\0"))
        if available == 0:
            poller = select.poll()
            poller.register(self.descriptor, select.POLLIN)
            if any(events & (select.POLLHUP | select.POLLERR) for _, events in poller.poll(0)):
                raise make_error(_BROKEN_PIPE, "PeekNamedPipe")
        return self._look(min(size, available)), available, 0

    def _look(self, size: int) -> bytes:
        if size == 0:
            return b""
        reader, writer = os.pipe()
        try:
            return os.read(reader, _targets.tee(self.descriptor, writer, size))
        finally:
            os.close(reader)
            os.close(writer)

    def set_mode(self, mode: int) -> None:
        """SetNamedPipeHandleState: PIPE_WAIT or PIPE_NOWAIT. Raises 87 for other modes."""
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        if mode & ~_NOWAIT:
            raise make_error(87, "SetNamedPipeHandleState")
        os.set_blocking(self.descriptor, not mode & _NOWAIT)
        self.mode = mode & _NOWAIT
        if self.mode:
            _no_waits[self.descriptor] = _identity(self.descriptor)
        else:
            _no_waits.pop(self.descriptor, None)

    def info(self) -> list[int]:
        """GetNamedPipeInfo: of a byte pipe with one instance, as large as the system made it."""
        if sys.platform == "win32":  # there it is pywin32's
            raise NotImplementedError
        size = fcntl.fcntl(self.descriptor, fcntl.F_GETPIPE_SZ)
        reads = fcntl.fcntl(self.descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        return [1 if reads else 0, size, size, 1]


def file_for(descriptor: int, *, borrowed: bool = False) -> File:
    """Return what stands for an open descriptor: OSError for one that is closed."""
    mode = os.fstat(descriptor).st_mode
    return (Stream if stat.S_ISFIFO(mode) else File)(descriptor, borrowed=borrowed)


def as_handle(descriptor: int, *, bound: bool = False) -> PyHANDLE:
    """Return a handle of a descriptor, which stays somebody else's (`_get_osfhandle`); OSError EBADF.

    `bound`: of the file that it is now; else of whatever has the number.
    """
    file = file_for(descriptor, borrowed=True)
    if bound:
        file.bind()
    return _targets.file_handle("file", file, False)


# ---- A handle's descriptor


def couple(reader: PyHANDLE, writer: PyHANDLE) -> None:
    """Note that two handles are the ends of one nameless pipe."""
    ends = [_targets.pipe_target(end, "CreatePipe") for end in (reader, writer)]
    ends[0].partner = (weakref.ref(ends[1]), True)
    ends[1].partner = (weakref.ref(ends[0]), False)


def descriptor_of(handle: PyHANDLE | int, function: str) -> int:
    """Return the descriptor behind a handle, which stays the handle's: of a file, or of a nameless pipe.

    Raises 50, with the reason, for a handle that cannot have one; 231: a call is under way on an end of the pipe; 6.
    """
    kind = _handles.handle_kind(handle, function)
    if kind == "pipe":
        _become_descriptors(handle, function)
    elif kind != "file":
        raise make_error(6, function)
    file: File = _targets.file_of(handle, "file", function)
    return file.descriptor


def take_descriptor(handle: PyHANDLE | int, function: str) -> int:
    """Return the descriptor behind a handle, which is closed with it: it is the caller's alone (`_open_osfhandle`)."""
    descriptor = descriptor_of(handle, function)
    file: File = _targets.file_of(handle, "file", function)
    file.give_away()
    number = int(handle)
    _handles.close_handle(number)
    return descriptor


def _become_descriptors(handle: PyHANDLE | int, function: str) -> None:
    end = _targets.pipe_target(handle, function)
    other, reads = end.partner or (None, False)
    partner = None if other is None else other()
    if partner is None or partner.handles == 0:
        raise _cannot(function, "its other end is not here: only CreatePipe's pipes become descriptors, while both are")
    reader, writer = (end, partner) if reads else (partner, end)
    try:
        _targets.become_files(reader, writer, _pipe_with, function)
    except error as failure:
        if failure.winerror == _BUSY:
            raise _cannot(function, "a call is under way on it", _BUSY) from None
        raise


def _cannot(function: str, reason: str, code: int = _NOT_SUPPORTED) -> error:
    """Return the error for a pipe that has no descriptor; what it says is npipe's."""
    return error(code, function, f"A pipe's handle has no descriptor: {reason}. See docs/porting.md.")


def _pipe_with(unread: bytes) -> tuple[Any, Any]:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    reader, writer = os.pipe()
    try:
        if unread:
            _write_unread(writer, unread)
        return Stream(reader), Stream(writer)
    except BaseException:
        os.close(reader)
        os.close(writer)
        raise


def _write_unread(writer: int, unread: bytes) -> None:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    try:
        if fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) < len(unread):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, len(unread))
    except PermissionError:
        raise _cannot("CreateProcess", f"{len(unread)} bytes in it are unread, more than may be put into one") from None
    File(writer, borrowed=True).write_at(None, unread)


# ---- Standard streams


def standard_handle(which: int, function: str) -> int:
    """GetStdHandle: the number of a handle, 0 if the stream is closed; raises 6 for another number than -10 to -12."""
    if which not in _STANDARD:
        raise make_error(6, function)
    with _lock:
        number = _replaced.get(which, _standard.get(which))
        if number is None:
            try:
                handle = as_handle(_STANDARD.index(which))
            except OSError as failure:
                if failure.errno != errno.EBADF:
                    raise
                return 0
            _handles.set_handle_inheritable(handle, True, function)
            number = _standard[which] = handle.Detach()
        return number


def set_standard_handle(which: int, handle: object, function: str) -> None:
    """SetStdHandle: what GetStdHandle returns from now on, and what a child gets that is told of no other."""
    if which not in _STANDARD:
        raise make_error(6, function)
    with _lock:
        _replaced[which] = int(handle)  # type: ignore[call-overload]


def replaced_standard(which: int) -> int | None:
    """Return what SetStdHandle has set, None if nothing."""
    return _replaced.get(which)
