"""The errors of files as Python on Windows raises them.

What goes through the C library (`open`, `os.open`, `os.read`, `os.write`) has an `errno`, and `winerror` is None;
what calls Win32 itself (`os.stat`, `os.listdir`, `os.remove`) has `winerror`, an `errno` that goes with it, and shows
"[WinError 2] ..." (`win_error`, which is `npipe._doors.os_errors.os_error`).
"""

from __future__ import annotations

import errno
import os
from typing import Any, Final

from npipe._doors.os_errors import os_error as win_error
from npipe.win32_error import error

__all__ = ["crt_error", "error", "win_error"]

_CRT_CODES: Final = {
    errno.ENOENT: (2, 3, 15, 18, 53, 67, 161, 206),
    errno.EMFILE: (4,),
    errno.EACCES: (5, 16, 19, 32, 33, 65, 82, 108, 132, 158, 167),
    errno.EBADF: (6, 114, 130),
    errno.ENOMEM: (8, 1816),
    errno.EXDEV: (17,),
    errno.EEXIST: (80, 183),
    errno.EPIPE: (109,),
    errno.ENOSPC: (112,),
}
_CRT: Final = {code: number for number, codes in _CRT_CODES.items() for code in codes}


def crt_error(code: int, filename: object = None, *, number: int | None = None) -> OSError:
    """Return the OSError for a Win32 code of the C library's, or for an `errno` of its own; the caller raises it."""
    number = _CRT.get(code, errno.EINVAL) if number is None else number
    arguments = (number, os.strerror(number)) if filename is None else (number, os.strerror(number), filename)
    made: Any = OSError(*arguments)
    made.winerror = None
    result: OSError = made
    return result
