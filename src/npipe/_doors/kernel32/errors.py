"""`ctypes.WinError`, `FormatError`, `GetLastError`, `HRESULT`."""
# ruff: noqa: N802 - ctypes' names

from __future__ import annotations

import ctypes
import errno
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from npipe.binding.win32 import handles as _handles
from npipe.win32_error import message_of

if TYPE_CHECKING:
    _Number = ctypes._SimpleCData[int]  # noqa: SLF001
else:
    _Number = ctypes._SimpleCData  # noqa: SLF001

__all__ = ["HRESULT", "FormatError", "GetLastError", "WinError", "errno_of"]


def GetLastError() -> int:
    """Return the calling thread's last error, whichever face of npipe.win32 it comes from."""
    return _handles.get_last_error()


def FormatError(code: int | None = None) -> str:
    """Return Windows' text for a code, by default the last error's."""
    number = GetLastError() if code is None else code
    return message_of(_win32_code(number)) or "<no description>"


def WinError(code: int | None = None, descr: str | None = None) -> OSError:
    """Return the OSError for a code, by default the last error's, as Windows' Python makes it.

    It has the class and `errno` that Python on Windows gives it (2: FileNotFoundError), `winerror`, and the text
    "[WinError 2] The system cannot find the file specified."
    """
    number = GetLastError() if code is None else code
    text = FormatError(number).strip() if descr is None else descr
    number_of_posix = errno_of(number)
    kind: Any = type(OSError(number_of_posix, text))
    error: Any = _class_for(kind)(number_of_posix, text)
    error.winerror = number
    made: OSError = error
    return made


def _win32_code(number: int) -> int:
    """Return a code, of an HRESULT that stands for one too."""
    number &= 0xFFFFFFFF
    return number & 0xFFFF if number >> 16 == 0x8007 else number


@cache
def _class_for(base: Any) -> Any:
    """Return a class of the same name whose text has the Win32 code, as an OSError's has on Windows."""

    def as_text(self: Any) -> str:
        names = [repr(name) for name in (self.filename, self.filename2) if name is not None]
        return f"[WinError {self.winerror}] {self.strerror}" + (f": {' -> '.join(names)}" if names else "")

    def reduce(self: Any) -> Any:
        return _remake, (self.winerror, self.strerror, self.filename)

    return type(base.__name__, (base,), {"__str__": as_text, "__reduce__": reduce, "__module__": "builtins"})


def _remake(winerror: int, text: str, filename: object) -> OSError:
    error = WinError(winerror, text)
    error.filename = filename
    return error


# As Python on Windows maps them; what is not here is EINVAL.
_ERRNOS: Final = {
    errno.ENOENT: (2, 3, 15, 18, 53, 67, 161, 206),
    errno.E2BIG: (10,),
    errno.ENOEXEC: (11, *range(188, 203)),
    errno.EBADF: (6, 114, 130),
    errno.ECHILD: (128, 129),
    errno.EAGAIN: (89, 164, 215),
    errno.ENOMEM: (7, 8, 9, 1816),
    errno.EACCES: (5, 16, *range(19, 34), 36, 65, 82, 83, 108, 132, 158, 167),
    errno.EEXIST: (80, 183),
    errno.EXDEV: (17,),
    errno.ENOTDIR: (267,),
    errno.EMFILE: (4,),
    errno.ENOSPC: (112,),
    errno.EPIPE: (109, 232),
    errno.ENOTEMPTY: (145,),
    errno.EILSEQ: (1113,),
}
_ERRNO_OF: Final = {code: number for number, codes in _ERRNOS.items() for code in codes}


def errno_of(code: int) -> int:
    """Return the `errno` that Python on Windows gives an OSError with this Win32 code."""
    return _ERRNO_OF.get(code, errno.EINVAL)


class HRESULT(_Number):
    """A result type: OSError for a failure (a negative number), as of ctypes on Windows."""

    _type_ = "i"

    @staticmethod
    def _check_retval_(result: int) -> int:
        if result < 0:
            raise WinError(result)
        return result
