"""OSError as Python on Windows raises it for a Win32 code: class, `errno`, `winerror` and text."""

from __future__ import annotations

import errno
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from npipe.win32_error import error as win32_error
from npipe.win32_error import message_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["errno_of", "os_error", "os_error_saying", "raises_os_errors", "win32_code"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_CODES: Final = {
    errno.ENOENT: (2, 3, 15, 18, 53, 67, 161, 206),
    errno.E2BIG: (10,),
    errno.ENOEXEC: (11, *range(188, 203)),
    errno.EBADF: (6, 114, 130),
    errno.ECHILD: (128, 129),
    errno.EAGAIN: (89, 164, 215),
    errno.ENOMEM: (7, 8, 9, 1816),
    errno.EACCES: (5, 16, *range(19, 37), 65, 82, 83, 108, 132, 158, 167),
    errno.EEXIST: (80, 183),
    errno.EXDEV: (17,),
    errno.ENOTDIR: (267,),
    errno.EMFILE: (4,),
    errno.ENOSPC: (112,),
    errno.EPIPE: (109, 232),
    errno.ENOTEMPTY: (145,),
    errno.EILSEQ: (1113,),
    errno.ETIMEDOUT: (258,),
}
_ERRNO_OF: Final = {code: number for number, codes in _CODES.items() for code in codes}

_WINSOCK: Final = range(10000, 12000)
"""Codes of sockets: on Windows they are an `errno`, by whose name Linux has another number."""
_WINSOCK_NAMES: Final = {
    10004: "EINTR",
    10009: "EBADF",
    10013: "EACCES",
    10014: "EFAULT",
    10022: "EINVAL",
    10024: "EMFILE",
    10035: "EWOULDBLOCK",
    10036: "EINPROGRESS",
    10037: "EALREADY",
    10038: "ENOTSOCK",
    10040: "EMSGSIZE",
    10048: "EADDRINUSE",
    10049: "EADDRNOTAVAIL",
    10050: "ENETDOWN",
    10051: "ENETUNREACH",
    10053: "ECONNABORTED",
    10054: "ECONNRESET",
    10055: "ENOBUFS",
    10056: "EISCONN",
    10057: "ENOTCONN",
    10058: "ESHUTDOWN",
    10060: "ETIMEDOUT",
    10061: "ECONNREFUSED",
    10064: "EHOSTDOWN",
    10065: "EHOSTUNREACH",
}


def errno_of(code: int) -> int:
    """Return the `errno` that Python on Windows gives an OSError with a Win32 code, or an HRESULT of one.

    A socket's code has the number that Linux has for its name, and itself where it has none.
    """
    code = win32_code(code)
    if code in _WINSOCK:
        return getattr(errno, _WINSOCK_NAMES.get(code, ""), code)
    return _ERRNO_OF.get(code, errno.EINVAL)


def os_error(code: int, filename: object = None, filename2: object = None) -> OSError:
    """Return the OSError for a Win32 code, to be raised by the caller, as Python itself makes it on Windows.

    It is of the class that Python on Windows gives it (2: FileNotFoundError), or rather of one of that name below it,
    for an OSError of Linux has no `winerror` and does not show it.
    """
    text = message_of(win32_code(code))
    text = f"Windows Error 0x{code & 0xFFFFFFFF:x}" if text is None else text.rstrip(". ")
    return _made(errno_of(code), text, filename, code, filename2)


def os_error_saying(code: int, text: str) -> OSError:
    """Return the OSError that `OSError(None, text, None, code)` is on Windows: ctypes' WinError makes it so."""
    return _made(errno_of(code), text, None, code)


def raises_os_errors(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Return a function that raises `os_error(code)` where this one raises pywin32's error."""

    @wraps(function)
    def call(*arguments: _Arguments.args, **keywords: _Arguments.kwargs) -> _Result:
        try:
            return function(*arguments, **keywords)
        except win32_error as failure:
            raise os_error(failure.winerror) from None

    return call


def win32_code(code: int) -> int:
    """Return a code itself, and that of an HRESULT which stands for one."""
    code &= 0xFFFFFFFF
    return code & 0xFFFF if code >> 16 == 0x8007 else code


def _made(number: int, text: str, filename: object, code: int, *filename2: object) -> OSError:
    base: Any = type(OSError(number, text))
    error: Any = _class_below(base)(number, text, filename, code, *filename2)  # Linux takes five arguments too
    error.winerror = code
    made: OSError = error
    return made


@cache
def _class_below(base: Any) -> Any:
    def as_text(self: Any) -> str:
        names = [repr(name) for name in (self.filename, self.filename2) if name is not None]
        return f"[WinError {self.winerror}] {self.strerror}" + (f": {' -> '.join(names)}" if names else "")

    def reduce(self: Any) -> Any:
        given = (self.errno, self.strerror, self.filename, self.winerror, self.filename2)
        return _made, given[: len(self.args)] if len(self.args) > 3 else given

    return type(base.__name__, (base,), {"__str__": as_text, "__reduce__": reduce, "__module__": "builtins"})
