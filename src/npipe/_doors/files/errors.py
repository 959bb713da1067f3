"""The errors of files as Python on Windows raises them.

What goes through the C library (`open`, `os.open`, `os.read`, `os.write`) has an `errno`, and `winerror` is None;
what calls Win32 itself (`os.stat`, `os.listdir`, `os.remove`) has `winerror`, an `errno` that goes with it, and shows
"[WinError 2] ...".
"""

from __future__ import annotations

import errno
import os
from functools import cache
from typing import Any, Final

from npipe.win32_error import error, message_of

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
# Python's own table has what the C library's lacks.
_PYTHON: Final = _CRT | {232: errno.EPIPE, 258: errno.ETIMEDOUT, 267: errno.ENOTDIR}

_OTHER_MESSAGES: Final = {17: "The system cannot move the file to a different disk drive."}


def crt_error(code: int, filename: object = None, *, number: int | None = None) -> OSError:
    """Return the OSError for a Win32 code of the C library's, or for an `errno` of its own; the caller raises it."""
    number = _CRT.get(code, errno.EINVAL) if number is None else number
    arguments = (number, os.strerror(number)) if filename is None else (number, os.strerror(number), filename)
    made: Any = OSError(*arguments)
    made.winerror = None
    result: OSError = made
    return result


def win_error(code: int, filename: object = None, filename2: object = None) -> OSError:
    """Return the OSError for a Win32 code, of the class and with the text that it has on Windows."""
    text = message_of(code) or _OTHER_MESSAGES.get(code) or f"Windows Error 0x{code:x}"
    return _made(_PYTHON.get(code, errno.EINVAL), text.rstrip(". "), filename, code, filename2)


def _made(number: int, text: str, filename: object, code: int, filename2: object) -> OSError:
    base: Any = type(OSError(number, text))
    made: Any = _class_below(base)(number, text, filename, code, filename2)  # Linux takes five arguments too
    made.winerror = code
    result: OSError = made
    return result


@cache
def _class_below(base: Any) -> Any:
    """Return a class that shows the code; an OSError of Linux has none."""

    def as_text(self: Any) -> str:
        names = [repr(name) for name in (self.filename, self.filename2) if name is not None]
        return f"[WinError {self.winerror}] {self.strerror}" + (f": {' -> '.join(names)}" if names else "")

    def reduce(self: Any) -> Any:
        return _made, (self.errno, self.strerror, self.filename, self.winerror, self.filename2)

    return type(base.__name__, (base,), {"__str__": as_text, "__reduce__": reduce, "__module__": "builtins"})
