"""pywin32's `win32api`, as far as programs with pipes use it: handles, processes, files, identities, error texts.

The registry, windows and what else is Windows' own is not here. A name that is not here raises `AttributeError`.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import datetime as dt
import os
import pwd
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from npipe import win32_error as _error
from npipe.binding import identity as _identity
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import objects as _objects
from npipe.binding.win32 import waiting as _waiting
from npipe.win32 import _command_line, _console, _descriptors, _file_functions, _inheritance, _paths, _processes
from npipe.win32._offered import _no_such, _offered_by
from npipe.win32_error import make_error, message_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npipe.binding.win32.handles import PyHANDLE

error = _error.error

STD_INPUT_HANDLE = -10
STD_OUTPUT_HANDLE = -11
STD_ERROR_HANDLE = -12
NameUnknown = 0
NameFullyQualifiedDN = 1
NameSamCompatible = 2
NameDisplay = 3
NameUniqueId = 6
NameCanonical = 7
NameUserPrincipal = 8
NameCanonicalEx = 9
NameServicePrincipal = 10

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


def SleepEx(milliseconds: int, bAlertable: object = 0, /) -> int:
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


def GetLastError() -> int:
    """GetLastError: the code of the calling thread's last failure, or what SetLastError has set; a signed number."""
    code = _handles.get_last_error()
    return code - (1 << 32) if code >> 31 else code


SetLastError: Final = _handles.set_last_error


_FROM_STRING = 0x400
_FROM_HMODULE = 0x800
_IGNORE_INSERTS = 0x200
_INSERT = re.compile(r"%(?:([1-9][0-9]?)(?:!.*?!)?|(.))", re.DOTALL)


def FormatMessage(
    flags: int = 0,
    source: object = None,
    messageId: int | None = None,
    languageID: int = 0,
    inserts: Iterable[str] | None = None,
    /,
) -> str:
    """FormatMessage: `(code)` of a system error or its HRESULT, 0 for the last one, with a line's end behind it.

    With flags: FORMAT_MESSAGE_FROM_SYSTEM, or FORMAT_MESSAGE_FROM_STRING with `source`; %1 and so on stand for the
    `inserts`. Raises 317 (there is no such message).
    """
    del languageID  # texts are in English
    number = _handles.dword(flags)
    if source is None and messageId is None:
        return _system_text(number or _handles.get_last_error())
    text = text_of(source) if number & _FROM_STRING else _system_text(_handles.dword(messageId or 0))
    return text if number & _IGNORE_INSERTS else _with_inserts(text, list(inserts or ()))


FormatMessageW: Final = FormatMessage


def _system_text(code: int) -> str:
    if code >> 16 == _HRESULT_OF_WIN32:
        code &= 0xFFFF
    text = message_of(code)
    if text is None:
        raise make_error(317, "FormatMessageW")
    return text + "\r\n"


def _with_inserts(text: str, inserts: list[str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[1] is None:
            return {"n": "\r\n", "t": "\t", "r": "\r", "b": " "}.get(found[2], found[2])
        if int(found[1]) > len(inserts):
            raise make_error(87, "FormatMessageW")
        return inserts[int(found[1]) - 1]

    return _INSERT.sub(replaced, text)


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
    process = None if handle is None else _processes.process_of(handle, "DuplicateHandle")
    return os.getpid() if process is None else process.pid


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
    """GetStdHandle: the number of a handle of a standard stream's descriptor, 0 if it is closed; raises 6."""
    return _descriptors.standard_handle(nStdHandle, "GetStdHandle")


def SetStdHandle(nStdHandle: int, hHandle: PyHANDLE | int, /) -> None:
    """SetStdHandle: for GetStdHandle and children that CreateProcess starts; Python's own streams stay. Raises 6."""
    _descriptors.set_standard_handle(nStdHandle, hHandle, "SetStdHandle")


# --- Processes and threads -----------------------------------------------------------------------------------


def OpenProcess(reqdAccess: int, bInherit: object, pid: int, /) -> PyHANDLE:
    """OpenProcess: a handle that can be waited for, signalled when the process ends.

    It also goes to DuplicateHandle, GetExitCodeProcess and TerminateProcess. Raises 87 (no such process), 5 (more than
    PROCESS_QUERY_INFORMATION, and another user's).
    """
    handle = _processes.open_process(_handles.dword(reqdAccess), pid, "OpenProcess")
    if bInherit:
        _handles.set_handle_inheritable(handle, True, "OpenProcess")
    return handle


def TerminateProcess(handle: PyHANDLE | int, exitCode: int, /) -> None:
    """TerminateProcess: see win32process. Raises 5, 6."""
    from npipe.win32 import win32process

    win32process.TerminateProcess(handle, exitCode)


def OpenThread(reqdAccess: int, bInherit: object, tid: int, /) -> PyHANDLE:
    """OpenThread: one of this process's that has used anything here. Raises 87."""
    del reqdAccess, bInherit
    handle = _objects.open_thread(tid)
    if handle is None:
        raise make_error(87, "OpenThread")
    return handle


SetConsoleCtrlHandler: Final = _console.SetConsoleCtrlHandler
GenerateConsoleCtrlEvent: Final = _console.GenerateConsoleCtrlEvent
CommandLineToArgv: Final = _command_line.split


def GetCommandLine() -> str:
    """GetCommandLine: how this Python was started, with quotation marks as Windows has them."""
    return subprocess.list2cmdline(sys.orig_argv)


def GetModuleFileName(hModule: int | None, /) -> str:
    """GetModuleFileName of the program, 0 or None: Python's path. Raises 126: there are no other modules here."""
    if hModule not in (0, None):
        raise make_error(126, "GetModuleFileName")
    return sys.executable


GetModuleFileNameW: Final = GetModuleFileName


def GetSystemInfo() -> tuple[int, int, int, int, int, int, int, int, tuple[int, int]]:
    """GetSystemInfo: of an x64 processor; the sixth number is how many of them there are, the second a page's size.

    (9, page size, lowest and highest address, which processors, how many, 8664, granularity, (level, revision)).
    """
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    count = os.cpu_count() or 1
    return 9, os.sysconf("SC_PAGESIZE"), 0x10000, 0x7FFFFFFEFFFF, (1 << count) - 1, count, 8664, 0x10000, (6, 0)


GetNativeSystemInfo: Final = GetSystemInfo


def SetErrorMode(errorMode: int, /) -> int:
    """SetErrorMode: return the one before. There are no dialogs that it could suppress."""
    global _error_mode
    before, _error_mode = _error_mode, _handles.dword(errorMode)
    return before


_error_mode = 0


def OutputDebugString(msg: str, /) -> None:
    """OutputDebugString: there is no debugger that listens."""
    text_of(msg)


# --- Files ---------------------------------------------------------------------------------------------------

CopyFile: Final = _file_functions.CopyFile
DeleteFile: Final = _file_functions.DeleteFile
GetFileAttributes: Final = _file_functions.GetFileAttributes
MoveFile: Final = _file_functions.MoveFile
MoveFileEx: Final = _file_functions.MoveFileEx
SetFileAttributes: Final = _file_functions.SetFileAttributes


def FindFiles(fileSpec: str, /) -> list[_file_functions.FindData]:
    r"""FindFiles: what a pattern finds, as `win32file.FindFilesW` returns it; `\\.\pipe\*` lists pipes."""
    return list(_file_functions.find(fileSpec, "FindFirstFile"))


def GetFullPathName(fileName: str, /) -> str:
    """GetFullPathName: see win32file."""
    return _file_functions.GetFullPathName(fileName)


def GetLongPathName(fileName: str, /) -> str:
    """GetLongPathName: there are no short names here. Raises 2, 3."""
    return _file_functions.GetLongPathName(fileName)


GetLongPathNameW: Final = GetLongPathName
GetShortPathName: Final = GetLongPathName


def GetTempFileName(path: str, prefix: str, nUnique: int = 0, /) -> tuple[str, int]:
    """GetTempFileName: (path, number); without a number the file is made. Raises 267: there is no such folder."""
    folder = Path(_paths.local_path(path, "GetTempFileName"))
    if not folder.is_dir():
        raise make_error(267, "GetTempFileName")
    start = text_of(prefix)[:3]
    if nUnique:
        return str(folder / f"{start}{nUnique & 0xFFFF:X}.tmp"), nUnique & 0xFFFF
    for number in range(1, 0x10000):
        file = folder / f"{start}{number:X}.tmp"
        try:
            file.touch(exist_ok=False)
        except FileExistsError:
            continue
        return str(file), number
    raise make_error(80, "GetTempFileName")


def SearchPath(path: str | None, fileName: str, fileExt: str | None = None, /) -> tuple[str, int]:
    """SearchPath: (a file's path, where its name begins in it), in `path` or PATH. Raises 2."""
    name = text_of(fileName)
    if fileExt is not None and not Path(name).suffix:
        name += fileExt
    places = os.environ.get("PATH", os.defpath) if path is None else text_of(path)
    for folder in places.split(os.pathsep):
        if (Path(folder) / name).is_file():
            found = str((Path(folder) / name).absolute())
            return found, len(found) - len(Path(found).name)
    raise make_error(2, "SearchPath")


# --- Who and where -------------------------------------------------------------------------------------------


def GetDomainName() -> str:
    """GetDomainName: of a user of this machine, its name."""
    return GetComputerName()


def GetUserNameEx(NameFormat: int, /) -> str:
    r"""GetUserNameEx: NameSamCompatible, "MACHINE\user", or NameDisplay, the user's full name if there is one.

    Raises 1332: other forms are those of a domain.
    """
    user = GetUserName()
    if NameFormat == NameSamCompatible:
        return f"{GetDomainName()}\\{user}"
    if NameFormat == NameDisplay:
        return _full_name() or user
    raise make_error(1332, "GetUserNameEx")


def _full_name() -> str:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    try:
        return pwd.getpwuid(_identity.effective_uid()).pw_gecos.partition(",")[0]
    except KeyError:
        return ""


def GetComputerNameEx(NameType: int, /) -> str:
    """GetComputerNameEx: 0, 4 in capitals; 1, 5 the host's name; 2, 6 its domain; 3, 7 both. Raises 87."""
    if not 0 <= NameType <= 7:
        raise make_error(87, "GetComputerNameEx")
    host, _, domain = socket.gethostname().partition(".")
    return (GetComputerName(), host, domain, f"{host}.{domain}" if domain else host)[NameType % 4]


# --- The environment, time, numbers --------------------------------------------------------------------------


def GetEnvironmentVariable(variable: str, /) -> str | None:
    """GetEnvironmentVariable: None if there is none; upper and lower case are not the same here."""
    return os.environ.get(text_of(variable))


GetEnvironmentVariableW: Final = GetEnvironmentVariable


def SetEnvironmentVariable(Name: str, Value: str | None, /) -> None:
    """SetEnvironmentVariable; None removes it. Raises 203: there is none to remove."""
    name = text_of(Name)
    if Value is not None:
        os.environ[name] = text_of(Value)
    elif os.environ.pop(name, None) is None:
        raise make_error(203, "SetEnvironmentVariable")


SetEnvironmentVariableW: Final = SetEnvironmentVariable


def ExpandEnvironmentStrings(_in: str, /) -> str:
    """ExpandEnvironmentStrings: %NAME% by its value; one that is not set stays."""
    return re.sub("%([^%]+)%", lambda found: os.environ.get(found[1], found[0]), text_of(_in))


def GetLocalTime() -> tuple[int, ...]:
    """GetLocalTime: (year, month, day of the week from Sunday, day, hour, minute, second, millisecond)."""
    return _system_time(dt.datetime.now())  # noqa: DTZ005 - local


def GetSystemTime() -> tuple[int, ...]:
    """GetSystemTime: as GetLocalTime, in UTC."""
    return _system_time(dt.datetime.now(tz=dt.UTC))


def _system_time(now: dt.datetime) -> tuple[int, ...]:
    weekday = now.isoweekday() % 7
    return now.year, now.month, weekday, now.day, now.hour, now.minute, now.second, now.microsecond // 1000


def LOBYTE(val: int, /) -> int:
    """Return the lower byte."""
    return val & 0xFF


def HIBYTE(val: int, /) -> int:
    """Return the second byte."""
    return val >> 8 & 0xFF


def LOWORD(val: int, /) -> int:
    """Return the lower 16 bits."""
    return val & 0xFFFF


def HIWORD(val: int, /) -> int:
    """Return the second 16 bits."""
    return val >> 16 & 0xFFFF


def MAKEWORD(low: int, high: int, /) -> int:
    """Return 16 bits of two bytes."""
    return low & 0xFF | (high & 0xFF) << 8


def MAKELONG(low: int, high: int, /) -> int:
    """Return 32 bits, signed, of two words."""
    value = low & 0xFFFF | (high & 0xFFFF) << 16
    return value - (1 << 32) if value >> 31 else value


def MAKELANGID(PrimaryLanguage: int, SubLanguage: int, /) -> int:
    """Return the number of a language and its dialect, for FormatMessage."""
    return SubLanguage << 10 | PrimaryLanguage


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("win32api", name)


del annotations, TYPE_CHECKING
