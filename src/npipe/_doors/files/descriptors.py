"""Descriptors of pipes, as Windows' C library has them: numbers for `os.read`, `os.write` and `os.close`.

Each is a descriptor of the system's too, one that `select` and its like understand: it is readable when a read would
not wait. What is read and written goes through the handle behind it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING, Final

from npipe._doors.files.errors import crt_error, error
from npipe._process import refuse_child
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import operations as _operations
from npipe.binding.win32 import targets as _targets
from npipe.win32 import win32file

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from npipe.binding.win32.handles import PyHANDLE

__all__ = ["Descriptor", "find", "get_osfhandle", "in_range", "open_osfhandle", "open_pipe"]

_ACCESS: Final = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
_ACCESS_DENIED: Final = 5
_INVALID_PARAMETER: Final = 87
_BROKEN_PIPE: Final = 109
_NEGATIVE_SEEK: Final = 131
_NO_DATA: Final = 232
_NOWAIT: Final = 1
_MOST: Final = 0x7FFFFFFF  # bytes of one read or write

# As they are before any door has opened.
_fstat: Final = os.fstat
_dup2: Final = os.dup2

_table: dict[int, Descriptor] = {}
_lock: Final = threading.Lock()


class _Position:
    """Where the descriptors of one open file stand: how many bytes have gone through, or what was asked for.

    Windows lets a program seek in a pipe, and nothing comes of it; programs do so between writing and reading.
    """

    def __init__(self) -> None:
        self.value = 0


class Descriptor:
    """An open descriptor of a pipe, which owns a handle.

    Unlike Windows' own it lets one thread read and another write at a time; there the second would wait for the first.
    """

    def __init__(self, handle: PyHANDLE, name: str, position: _Position | None = None) -> None:
        self.handle = handle
        self.name = name
        self.closed = False
        self._position = _Position() if position is None else position
        self._looks_first = False  # a handle that may not be set to PIPE_NOWAIT: look before a read
        self._poller = _targets.poller_of(handle, "_open")
        self.fd = self._poller.fileno()
        self._identity = _identity(self.fd)
        with _lock:
            _table[self.fd] = self

    def is_own(self) -> bool:
        """Whether the number is still this descriptor's: something that the door does not see may have closed it."""
        try:
            return _identity(self.fd) == self._identity
        except OSError:
            return False

    def arm(self) -> int:
        """Return the number for a selector; from now on it tells when there is something to read.

        Raises PipeStateError (50) when subprocess asks.
        """
        refuse_child(self.name)
        try:
            _targets.arm(self.handle, self._poller, "ReadFile")
        except error as failure:
            raise crt_error(failure.winerror) from failure.with_traceback(None)
        return self.fd

    def disarm(self) -> bool:
        """Tell a selector nothing any more, so that the end may go to another process. Whether it was told."""
        return _targets.disarm(self.handle, self._poller)

    def arm_again(self) -> None:
        """Tell a selector as before: the end has not gone."""
        with contextlib.suppress(error):  # the program has closed it
            _targets.arm(self.handle, self._poller, "ReadFile")

    def close(self) -> None:
        """Close the number and its handle; a read or write of another thread ends with an error (EBADF)."""
        self._end(forgotten=False)

    def forget(self) -> None:
        """Close the handle; the number has been closed by something that the door does not see."""
        self._end(forgotten=True)

    def _end(self, *, forgotten: bool) -> None:
        with _lock:
            if self.closed:
                raise crt_error(0, number=errno.EBADF)
            self.closed = True
            if _table.get(self.fd) is self:
                del _table[self.fd]
        _targets.disarm(self.handle, self._poller)
        if forgotten:
            self._poller.forget()
        else:
            self._poller.close()
        try:
            self.handle.Close()
        except error as failure:  # the program has closed the handle itself
            raise crt_error(failure.winerror) from failure.with_traceback(None)

    def duplicate(self) -> Descriptor:
        """Return a second descriptor of the same open file."""
        try:
            second = _handles.duplicate_handle(self.handle)
        except error as failure:
            raise crt_error(failure.winerror) from failure.with_traceback(None)
        return Descriptor(second, self.name, self._position)

    def move_to(self, fd: int, *, inheritable: bool) -> None:
        """Take another number, which is closed first if it is in use; the one that this had is closed."""
        before = find(fd)
        _dup2(self.fd, fd, inheritable)
        if before is not None:
            before.forget()
        with _lock:
            del _table[self.fd]
            self._poller.take(fd)
            self.fd = fd
            _table[fd] = self

    # ---- Reading and writing

    def read(self, size: int) -> bytes:
        """Return what is there, at least a byte and at most `size`; nothing at the end. Raises OSError."""
        if size == 0:
            self._check()
            return b""
        try:
            self._look()
            data = _operations.ReadFile(self.handle, min(size, _MOST))[1]
        except error as failure:
            if self._is_end(failure):
                return b""
            raise self._failed(failure) from failure.with_traceback(None)
        self._position.value += len(data)
        return data

    def read_into(self, buffer: WriteableBuffer) -> int:
        """Read what is there into a buffer; return how many bytes, 0 at the end. Raises OSError."""
        view = memoryview(buffer).cast("B")[:_MOST]
        if not view:
            self._check()
            return 0
        try:
            self._look()
            count = _operations.read_into(self.handle, view)
        except error as failure:
            if self._is_end(failure):
                return 0
            raise self._failed(failure) from failure.with_traceback(None)
        self._position.value += count
        return count

    def put_back(self, data: bytes | bytearray) -> None:
        """Make `data`, which reads have returned, what the next reads return."""
        try:
            _operations.put_back(self.handle, data)
        except error as failure:
            raise self._failed(failure) from failure.with_traceback(None)
        self._position.value -= len(data)

    def write(self, data: ReadableBuffer) -> int:
        """Write all of `data`, or on a handle with PIPE_NOWAIT as much as there is room for; return how many bytes."""
        view = memoryview(data).cast("B")[:_MOST]
        if not view:
            self._check()
            return 0
        try:
            while view:
                count = _operations.WriteFile(self.handle, view)[1]
                if count:
                    self._position.value += count
                    return count
                view = view[: len(view) // 2]  # there is no room for so much: Python tries half of it
        except error as failure:
            raise self._failed(failure) from failure.with_traceback(None)
        raise crt_error(0, number=errno.EAGAIN)

    def flush(self) -> None:
        """Wait until the peer has read everything, which is what Windows does for `os.fsync`."""
        try:
            _operations.FlushFileBuffers(self.handle)
        except error as failure:
            raise self._failed(failure) from failure.with_traceback(None)

    def seek(self, offset: int, whence: int) -> int:
        """Set the position, of which nothing comes but its number; return it."""
        self._check()
        if whence == os.SEEK_CUR:
            offset += self._position.value
        elif whence == os.SEEK_END:
            offset += self._available()
        elif whence != os.SEEK_SET:
            raise crt_error(_INVALID_PARAMETER)
        if offset < 0:
            raise crt_error(_NEGATIVE_SEEK)
        self._position.value = offset
        return offset

    # ---- Modes

    @property
    def blocks(self) -> bool:
        """Whether reads and writes wait."""
        try:
            mode, _ = _targets.get_pipe_state(self.handle)
        except error as failure:
            raise self._failed(failure) from failure.with_traceback(None)
        return not (mode & _NOWAIT or self._looks_first)

    @blocks.setter
    def blocks(self, blocks: bool) -> None:
        try:
            mode, _ = _targets.get_pipe_state(self.handle)
            _targets.set_pipe_state(self.handle, mode & ~_NOWAIT if blocks else mode | _NOWAIT)
        except error as failure:
            if failure.winerror != _ACCESS_DENIED:  # a handle for reading alone may not
                raise self._failed(failure) from failure.with_traceback(None)
            self._looks_first = not blocks

    # ---- What went wrong

    def _check(self) -> None:
        if self.closed:
            raise crt_error(0, number=errno.EBADF)

    def _available(self) -> int:
        try:
            return _operations.PeekNamedPipe(self.handle, 0)[1]
        except error:
            return 0

    def _look(self) -> None:
        """Raise error 232 if a read would wait that must not."""
        if self._looks_first and _operations.PeekNamedPipe(self.handle, 0)[1] == 0:
            raise error(_NO_DATA, "ReadFile", "The pipe is being closed.")

    def _is_end(self, failure: error) -> bool:
        """Whether a read that has failed has found the end: the peer has closed, and not this side."""
        return failure.winerror == _BROKEN_PIPE and not self.closed

    def _failed(self, failure: error) -> OSError:
        if self.closed or failure.winerror == _ACCESS_DENIED:
            return crt_error(0, number=errno.EBADF)
        if failure.winerror == _NO_DATA and failure.funcname == "ReadFile":
            return crt_error(0, number=errno.EAGAIN)
        return crt_error(failure.winerror)


def find(fd: object) -> Descriptor | None:
    """Return what a number is a descriptor of, if that is a pipe."""
    found = _table.get(fd) if isinstance(fd, int) else None
    if found is None or found.is_own():
        return found
    found.forget()
    return None


def in_range(low: int, high: int) -> list[Descriptor]:
    """Return the descriptors of pipes with numbers from `low` to below `high`."""
    return [found for fd in sorted(_table) if low <= fd < high and (found := find(fd)) is not None]


def open_pipe(text: str, flags: int, filename: object) -> Descriptor:
    """Open a pipe as Windows' C library does: what was asked for besides reading and writing has no effect.

    Raises OSError: ENOENT (no such pipe), EINVAL (no instance listens; no name of a pipe), EACCES.
    """
    access = {os.O_RDONLY: win32file.GENERIC_READ, os.O_WRONLY: win32file.GENERIC_WRITE}.get(
        flags & _ACCESS, win32file.GENERIC_READ | win32file.GENERIC_WRITE
    )
    share = win32file.FILE_SHARE_READ | win32file.FILE_SHARE_WRITE
    try:
        # Overlapped, so that one operation does not wait for another.
        handle = win32file.CreateFile(
            text, access, share, None, win32file.OPEN_EXISTING, win32file.FILE_FLAG_OVERLAPPED, None
        )
    except error as failure:
        raise crt_error(failure.winerror, filename) from failure.with_traceback(None)
    return Descriptor(handle, text)


def open_osfhandle(handle: int, flags: int) -> int:
    """Return a descriptor that owns the handle of a pipe from now on. Raises OSError (EBADF)."""
    del flags
    try:
        if _handles.handle_kind(handle, "open_osfhandle") != "pipe":
            raise crt_error(0, number=errno.EBADF)
        return Descriptor(_handles.PyHANDLE(int(handle)), "a handle").fd
    except error as failure:
        raise crt_error(failure.winerror) from failure.with_traceback(None)


def get_osfhandle(fd: int) -> int | None:
    """Return the handle of a pipe's descriptor, which keeps it; None for another descriptor."""
    found = find(fd)
    return None if found is None else int(found.handle)


def _identity(fd: int) -> tuple[int, int, int]:
    found = _fstat(fd)
    return found.st_dev, found.st_ino, found.st_mode
