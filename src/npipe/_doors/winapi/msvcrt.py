"""CPython's `msvcrt`, as far as descriptors of pipes go. The console is not here: kbhit, getch and their like."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.winapi import constants as _constants
from npipe._doors.winapi import descriptors as _descriptors
from npipe._doors.winapi import elsewhere as _elsewhere

globals().update(_constants.MSVCRT)

_BINARY: Final = 0x8000
_UNLOCK, _LOCK, _TRY_LOCK, _READ_LOCK, _TRY_READ_LOCK = range(5)
_TRIES: Final = 10  # Windows' for a lock that is waited for, a second apart
_EDEADLOCK: Final = 36  # what Windows calls errno 36


def open_osfhandle(handle: int, flags: int, /) -> int:
    """Return a descriptor of a handle, which it owns from now on: `os.close` closes the handle. Raises OSError."""
    return _descriptors.open_osfhandle(handle, flags)


def get_osfhandle(fd: int, /) -> int:
    """Return the handle of a descriptor, which keeps it. Raises OSError (EBADF)."""
    return _descriptors.get_osfhandle(fd)


def setmode(fd: int, flags: int, /) -> int:
    """Return the mode before, which is binary always: there is no other here. Raises OSError (EBADF)."""
    del flags
    os.fstat(fd)
    return _BINARY


def locking(fd: int, mode: int, nbytes: int, /) -> None:
    """Lock `nbytes` of a file from its position on, or unlock them. Raises OSError as on Windows."""
    if mode == _UNLOCK:
        fcntl.lockf(fd, fcntl.LOCK_UN, nbytes, 0, os.SEEK_CUR)
        return
    if mode not in (_LOCK, _TRY_LOCK, _READ_LOCK, _TRY_READ_LOCK):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    tries = _TRIES if mode in (_LOCK, _READ_LOCK) else 1
    for left in reversed(range(tries)):
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, nbytes, 0, os.SEEK_CUR)
        except BlockingIOError:
            if tries == 1:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
            if left == 0:
                raise OSError(_EDEADLOCK, "Resource deadlock avoided") from None
            time.sleep(1)
        else:
            return


def heapmin() -> None:
    """Do nothing."""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return _elsewhere.find("msvcrt", name)
