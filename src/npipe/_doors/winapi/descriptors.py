"""Descriptors and the handles that stand for the same file.

A pipe's descriptors are the files door's own. This module has the system's: standard input, a `subprocess`' pipe, a
file on the disk; each has one handle, which `_winapi` and pywin32's functions know.
"""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import contextlib
import errno
import importlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from npipe._doors.os_errors import os_error
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import targets as _targets
from npipe.win32 import _descriptors, _inheritance
from npipe.win32_error import error

if TYPE_CHECKING:
    from npipe.win32._files import File

__all__ = ["get_handle_inheritable", "get_osfhandle", "open_osfhandle", "set_handle_inheritable"]


class _PipeDescriptors(Protocol):
    """What the files door has for pipes."""

    def open_osfhandle(self, handle: int, flags: int) -> int:
        """Return a descriptor that owns the handle of a pipe."""

    def get_osfhandle(self, fd: int) -> int | None:
        """Return the handle of a pipe's descriptor; None for another descriptor."""


_Identity = tuple[int, int]
_known: dict[int, tuple[int, _Identity]] = {}  # descriptor: its handle, and which file that is
_lock: Final = threading.Lock()


def _of_pipes() -> _PipeDescriptors:
    files: Any = importlib.import_module("npipe._doors.files")
    pipes: _PipeDescriptors = files
    return pipes


def get_osfhandle(fd: int) -> int:
    """Return the handle of a descriptor. Raises OSError (EBADF)."""
    handle = _of_pipes().get_osfhandle(fd)
    if handle is not None:
        return handle
    identity = _identity(fd)
    with _lock:
        number, known = _known.get(fd, (0, None))
        if known == identity and _is_open(number):
            return number
        _forget(fd)
        number = _descriptors.as_handle(fd, bound=True).Detach()
        _known[fd] = number, identity
        return number


def open_osfhandle(handle: int, flags: int) -> int:
    """Return a descriptor for a handle. Raises OSError: EBADF, or error 50 for what can have none."""
    try:
        kind = _handles.handle_kind(handle, "open_osfhandle")
        if kind == "file":
            return _descriptor_for(handle)
    except error:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    if kind != "pipe":
        raise os_error(50)
    try:
        return _descriptor_for(handle)  # of CreatePipe's ends, which become a pipe of the system
    except error:
        return _of_pipes().open_osfhandle(handle, flags)


def _descriptor_for(handle: int) -> int:
    """Return the descriptor behind a handle, whose owner the caller is; a second one where it is somebody else's."""
    fd = _descriptors.descriptor_of(handle, "open_osfhandle")
    file: File = _targets.file_of(handle, "file", "open_osfhandle")
    if file.borrowed:
        return os.dup(fd)
    with _lock:
        _forget(fd)
        file.give_away()
        _known[fd] = handle, _identity(fd)
    return fd


def _forget(fd: int) -> None:
    """Close the handle of a descriptor that has been closed: its number is another file's now."""
    number, _ = _known.pop(fd, (0, None))
    with contextlib.suppress(error):  # it is closed
        file: File = _targets.file_of(number, "file", "CloseHandle")
        if file.borrowed and file.is_at(fd):
            _handles.close_handle(number)


def _identity(fd: int) -> _Identity:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


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
