"""pywin32's `win32api`, as far as programs with pipes use it: handles, sleeping, identities, error texts."""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import os
import pwd
import socket
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Final

from npipe import win32_error as _error
from npipe.binding import identity as _identity
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import objects as _objects
from npipe.binding.win32 import targets as _targets
from npipe.binding.win32 import waiting as _waiting
from npipe.win32 import _inheritance
from npipe.win32._offered import _no_such, _offered_by
from npipe.win32_error import make_error, message_of

if TYPE_CHECKING:
    from npipe.binding.win32.handles import PyHANDLE

error = _error.error

STD_INPUT_HANDLE = -10
STD_OUTPUT_HANDLE = -11
STD_ERROR_HANDLE = -12
_PROCESS = -1
_THREAD = -2
_HANDLE_FLAG_INHERIT = 1

_HRESULT_OF_WIN32 = 0x8007


def CloseHandle(handle: PyHANDLE | int, /) -> None:
    """CloseHandle; raises 6."""
    _handles.close_handle(handle)


def DuplicateHandle(
    hSourceProcess: object,
    hSource: PyHANDLE | int,
    hTargetProcessHandle: object,
    desiredAccess: int,
    bInheritHandle: object,
    options: int,
    /,
) -> PyHANDLE:
    """DuplicateHandle: a second handle of the same object, here or (a pipe's) from one process to another.

    For another process the result is the number that the handle has there. That process has it once it uses it, and
    this one has it no more; one that is closed here first goes there. Raises 6, 5 (another user's process), 231 (an
    operation is under way), 233 (nobody is connected), 50 (between two other processes).
    """
    del desiredAccess  # a duplicate has the same access
    source, target = _process_id(hSourceProcess), _process_id(hTargetProcessHandle)
    result = _inheritance.duplicate_handle(source, hSource, target, bInheritHandle, options)
    return result if isinstance(result, _handles.PyHANDLE) else _handles.PyHANDLE(result)


def Sleep(milliseconds: int, bAlterable: object = 0, /) -> int:
    """Sleep, or with `bAlterable` SleepEx."""
    return _waiting.sleep_ex(milliseconds, bAlterable)


def SleepEx(milliseconds: int, bAlertable: object, /) -> int:
    """SleepEx: 0 when the time is over, 192 after completion routines have run."""
    return _waiting.sleep_ex(milliseconds, bAlertable)


def GetCurrentProcess() -> int:
    """GetCurrentProcess: a number that stands for this process."""
    return _PROCESS


def GetCurrentProcessId() -> int:
    """GetCurrentProcessId."""
    return os.getpid()


def GetCurrentThread() -> int:
    """GetCurrentThread: a number that stands for the calling thread; DuplicateHandle makes a handle of it."""
    _objects.note_thread()
    return _THREAD


def GetCurrentThreadId() -> int:
    """GetCurrentThreadId."""
    _objects.note_thread()
    return threading.get_native_id()


GetLastError: Final = _handles.get_last_error
SetLastError: Final = _handles.set_last_error


def FormatMessage(errCode: int = 0, /) -> str:
    """FormatMessage of a system error or its HRESULT, with the line's end that Windows puts there; raises 317."""
    code = _handles.dword(errCode) or GetLastError()
    if code >> 16 == _HRESULT_OF_WIN32:
        code &= 0xFFFF
    text = message_of(code)
    if text is None:
        raise make_error(317, "FormatMessageW")
    return text + "\r\n"


def GetTickCount() -> int:
    """GetTickCount: milliseconds of a clock that only goes forward, as an unsigned 32-bit number."""
    return int(time.monotonic() * 1000) & 0xFFFFFFFF


def GetUserName() -> str:
    """GetUserName: of whom this thread acts as; the number of a user that this system has no name for."""
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    uid = _identity.effective_uid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def GetComputerName() -> str:
    """GetComputerName: in capitals, without a domain."""
    return socket.gethostname().partition(".")[0].upper()


def GetTempPath() -> str:
    """GetTempPath, with a separator at its end."""
    for variable in ("TMP", "TEMP", "TMPDIR"):
        if os.environ.get(variable):
            return os.environ[variable].rstrip("/") + "/"
    return tempfile.gettempdir().rstrip("/") + "/"


def _process_id(handle: object) -> int:
    if handle is None or int(handle) == _PROCESS:  # type: ignore[call-overload]
        return os.getpid()
    pid: int = _targets.file_of(handle, "process", "DuplicateHandle").pid
    return pid


def GetHandleInformation(handle: PyHANDLE | int, /) -> int:
    """GetHandleInformation: 1 (HANDLE_FLAG_INHERIT) if child processes inherit it, else 0; raises 6."""
    return int(_handles.handle_is_inheritable(handle, "GetHandleInformation"))


def SetHandleInformation(handle: PyHANDLE | int, mask: int, flags: int, /) -> None:
    """SetHandleInformation: HANDLE_FLAG_INHERIT in `mask` and `flags`, other flags mean nothing here; raises 6."""
    _handles.handle_kind(handle, "SetHandleInformation")
    if _handles.dword(mask) & _HANDLE_FLAG_INHERIT:
        inherits = _handles.dword(flags) & _HANDLE_FLAG_INHERIT
        _handles.set_handle_inheritable(handle, inherits, "SetHandleInformation")


def GetStdHandle(nStdHandle: int, /) -> int:
    """GetStdHandle: not provided here; raises 50."""
    del nStdHandle
    raise make_error(50, "GetStdHandle")


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("win32api", name)


del annotations, TYPE_CHECKING
