"""`ctypes.WinError`, `FormatError`, `GetLastError`, `HRESULT`."""
# ruff: noqa: N802 - ctypes' names

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from npipe._doors.os_errors import os_error_saying, win32_code
from npipe.binding.win32 import handles as _handles
from npipe.win32_error import message_of

if TYPE_CHECKING:
    _Number = ctypes._SimpleCData[int]  # noqa: SLF001
else:
    _Number = ctypes._SimpleCData  # noqa: SLF001

__all__ = ["HRESULT", "FormatError", "GetLastError", "WinError"]


def GetLastError() -> int:
    """Return the calling thread's last error, whichever face of npipe.win32 it comes from."""
    return _handles.get_last_error()


def FormatError(code: int | None = None) -> str:
    """Return Windows' text for a code, by default the last error's."""
    number = GetLastError() if code is None else code
    return message_of(win32_code(number)) or "<no description>"


def WinError(code: int | None = None, descr: str | None = None) -> OSError:
    """Return the OSError for a code, by default the last error's, as Windows' Python makes it.

    It has the class and `errno` that Python on Windows gives it (2: FileNotFoundError), `winerror`, and the text
    "[WinError 2] The system cannot find the file specified."
    """
    number = GetLastError() if code is None else code
    return os_error_saying(number, FormatError(number).strip() if descr is None else descr)


class HRESULT(_Number):
    """A result type: OSError for a failure (a negative number), as of ctypes on Windows."""

    _type_ = "i"

    @staticmethod
    def _check_retval_(result: int) -> int:
        if result < 0:
            raise WinError(result)
        return result
