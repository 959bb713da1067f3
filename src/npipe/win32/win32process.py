"""pywin32's `win32process`: starting programs, waiting for them, ending them.

CreateProcess starts a program of this system by a command line, which is split as Windows splits it. The handle of a
process can be waited for, and goes to `win32api.DuplicateHandle`. A name that is not here raises `AttributeError`.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from npipe import win32_error as _error
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import objects as _objects
from npipe.win32 import _descriptors, _processes, _security, _starting
from npipe.win32._offered import _no_such, _offered_by
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from npipe.binding.win32.handles import PyHANDLE

error = _error.error

# --- Creation flags and priorities ---------------------------------------------------------------------------

DEBUG_PROCESS = 0x1
DEBUG_ONLY_THIS_PROCESS = 0x2
CREATE_SUSPENDED = 0x4
DETACHED_PROCESS = 0x8
CREATE_NEW_CONSOLE = 0x10
NORMAL_PRIORITY_CLASS = 0x20
IDLE_PRIORITY_CLASS = 0x40
HIGH_PRIORITY_CLASS = 0x80
REALTIME_PRIORITY_CLASS = 0x100
CREATE_NEW_PROCESS_GROUP = 0x200
CREATE_UNICODE_ENVIRONMENT = 0x400
CREATE_SEPARATE_WOW_VDM = 0x800
CREATE_SHARED_WOW_VDM = 0x1000
BELOW_NORMAL_PRIORITY_CLASS = 0x4000
ABOVE_NORMAL_PRIORITY_CLASS = 0x8000
CREATE_BREAKAWAY_FROM_JOB = 0x1000000
CREATE_PRESERVE_CODE_AUTHZ_LEVEL = 0x2000000
CREATE_DEFAULT_ERROR_MODE = 0x4000000
CREATE_NO_WINDOW = 0x8000000
MAXIMUM_PROCESSORS = 64
STARTF_USESHOWWINDOW = 0x1
STARTF_USESIZE = 0x2
STARTF_USEPOSITION = 0x4
STARTF_USECOUNTCHARS = 0x8
STARTF_USEFILLATTRIBUTE = 0x10
STARTF_RUNFULLSCREEN = 0x20
STARTF_FORCEONFEEDBACK = 0x40
STARTF_FORCEOFFFEEDBACK = 0x80
STARTF_USESTDHANDLES = 0x100
THREAD_MODE_BACKGROUND_BEGIN = 0x10000
THREAD_MODE_BACKGROUND_END = 0x20000
THREAD_PRIORITY_IDLE = -15
THREAD_PRIORITY_LOWEST = -2
THREAD_PRIORITY_BELOW_NORMAL = -1
THREAD_PRIORITY_NORMAL = 0
THREAD_PRIORITY_ABOVE_NORMAL = 1
THREAD_PRIORITY_HIGHEST = 2
THREAD_PRIORITY_TIME_CRITICAL = 15
UNICODE = 1

STARTUPINFO = _starting.STARTUPINFO

# --- Processes -----------------------------------------------------------------------------------------------


def CreateProcess(
    appName: str | None,
    commandLine: str | None,
    processAttributes: object,
    threadAttributes: object,
    bInheritHandles: object,
    dwCreationFlags: int,
    newEnvironment: Mapping[str, str] | None,
    currentDirectory: str | None,
    startupinfo: _starting.STARTUPINFO,
    /,
) -> tuple[PyHANDLE, PyHANDLE, int, int]:
    """CreateProcess: (a handle of the process, one of its thread, and their numbers, which are the same).

    The program is looked for beside this one's Python, in the current folder and in PATH, with and without ".exe"; so
    "python.exe" is this Python. With `bInheritHandles` it inherits pipes' handles that are inheritable. Standard
    handles may be files, the descriptors of FdCreatePipe, and ends of CreatePipe; other pipes' only of a Python
    program, and where the door of children is open. Flags that are about windows, priorities and debugging are not
    looked at; CREATE_SUSPENDED is.

    Raises 2 (no such program), 5 (it is none), 193, 206 (the command line is too long), 267 (no such folder), 50 and
    231 (a pipe's handle that cannot be a standard one; the text says why); TypeError for what is no STARTUPINFO.
    """
    for attributes in (processAttributes, threadAttributes):
        if attributes is not None and not isinstance(attributes, _security.SECURITY_ATTRIBUTES):
            raise TypeError("The object is not a PySECURITY_ATTRIBUTES object")
    process, thread, pid, tid = _starting.create(
        appName,
        commandLine,
        bool(bInheritHandles),
        _handles.dword(dwCreationFlags),
        newEnvironment,
        currentDirectory,
        startupinfo,
    )
    for handle, attributes in ((process, processAttributes), (thread, threadAttributes)):
        if getattr(attributes, "bInheritHandle", False):
            _handles.set_handle_inheritable(handle, True, "CreateProcess")
    return process, thread, pid, tid


def GetCurrentProcess() -> int:
    """GetCurrentProcess: a number that stands for this process."""
    return _processes.CURRENT


def GetCurrentProcessId() -> int:
    """GetCurrentProcessId."""
    return os.getpid()


def GetProcessId(Process: PyHANDLE | int, /) -> int:
    """GetProcessId; raises 6."""
    process = _processes.process_of(Process, "GetProcessId")
    return os.getpid() if process is None else process.pid


def GetExitCodeProcess(handle: PyHANDLE | int, /) -> int:
    """GetExitCodeProcess: 259 (STILL_ACTIVE) while it runs, else its code.

    What a signal has ended has that signal's number, what TerminateProcess has, the code that was given. Raises 50 for
    a process that was another one's child, on a Linux before 6.15, which does not tell; 6.
    """
    process = _processes.process_of(handle, "GetExitCodeProcess")
    return _processes.STILL_ACTIVE if process is None else process.exit_code("GetExitCodeProcess")


def TerminateProcess(handle: PyHANDLE | int, exitCode: int, /) -> None:
    """TerminateProcess: at once; other processes are told a signal's code. Raises 5, 6."""
    process = _processes.process_of(handle, "TerminateProcess")
    code = _handles.dword(exitCode)
    if process is None:
        os._exit(code & 0xFF)
    process.terminate(code, "TerminateProcess")


def ExitProcess(exitCode: int, /) -> None:
    """ExitProcess: at once, without what Python does at its end."""
    os._exit(_handles.dword(exitCode) & 0xFF)


def EnumProcesses() -> tuple[int, ...]:
    """EnumProcesses: the numbers of all processes that this one may see."""
    return tuple(sorted(int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit()))


def GetModuleFileNameEx(hProcess: PyHANDLE | int, hModule: object, /) -> str:
    """GetModuleFileNameEx of a process's program; `hModule` is 0 or None. Raises 5, 6."""
    if hModule not in (0, None):
        raise make_error(6, "GetModuleFileNameEx")
    try:
        return str(Path(f"/proc/{GetProcessId(hProcess)}/exe").readlink())
    except OSError:
        raise make_error(5, "GetModuleFileNameEx") from None


def GetProcessTimes(hProcess: PyHANDLE | int, /) -> dict[str, object]:
    """GetProcessTimes: CreationTime and ExitTime (of one that runs: 1601), KernelTime and UserTime in 100 ns.

    Raises 5: the process has ended.
    """
    return _processes.times_of(GetProcessId(hProcess))


def IsWow64Process(Process: PyHANDLE | int | None = None, /) -> bool:
    """IsWow64Process: False."""
    if Process is not None:
        GetProcessId(Process)
    return False


def GetStartupInfo() -> _starting.STARTUPINFO:
    """GetStartupInfo: the standard handles of this process."""
    info = STARTUPINFO()
    info.dwFlags = STARTF_USESTDHANDLES
    info.hStdInput, info.hStdOutput, info.hStdError = (
        _descriptors.standard_handle(which, "GetStartupInfo") for which in (-10, -11, -12)
    )
    return info


# --- Threads -------------------------------------------------------------------------------------------------

_results: dict[int, int] = {}  # of threads that beginthreadex has started, by their number


def beginthreadex(
    sa: object, stackSize: int, entryPoint: Callable[..., Any], args: tuple[Any, ...], flags: int, /
) -> tuple[PyHANDLE, int]:
    """Start a thread that calls `entryPoint(*args)`: (its handle, its number).

    `stackSize` is not looked at. With CREATE_SUSPENDED it waits for ResumeThread.
    """
    del sa, stackSize
    if not callable(entryPoint):
        raise TypeError("function must be callable")
    if not isinstance(args, tuple):
        raise TypeError("args must be a tuple")
    known, goes = threading.Event(), threading.Event()
    started: list[tuple[PyHANDLE, int]] = []

    def run() -> None:
        number = threading.get_native_id()
        _objects.note_thread()
        handle = _objects.open_thread(number)
        if handle is not None:
            started.append((handle, number))
        known.set()
        goes.wait()
        _results[number] = -1
        result = entryPoint(*args)
        _results[number] = result if isinstance(result, int) else 0

    threading.Thread(target=run, daemon=True).start()
    known.wait()
    handle, number = started[0]
    if _handles.dword(flags) & CREATE_SUSPENDED:
        _suspended[number] = goes
    else:
        goes.set()
    return handle, number


_suspended: dict[int, threading.Event] = {}


def ResumeThread(handle: PyHANDLE | int, /) -> int:
    """ResumeThread: of a process that CreateProcess, or a thread that beginthreadex has started; how often it was.

    Raises 6 for another thread.
    """
    number = _objects.thread_number(handle, "ResumeThread")
    if number is not None:
        event = _suspended.pop(number, None)
        if event is not None:
            event.set()
        return int(event is not None)
    return _processes.thread_process(handle, "ResumeThread").resume("ResumeThread")


def SuspendThread(handle: PyHANDLE | int, /) -> int:
    """SuspendThread of a process that CreateProcess has started: how often it was before. Raises 6 for a thread."""
    return _processes.thread_process(handle, "SuspendThread").suspend("SuspendThread")


def GetExitCodeThread(handle: PyHANDLE | int, /) -> int:
    """GetExitCodeThread: 259 while it runs, then what its function has returned, if a number, else 0. Raises 6."""
    number = _objects.thread_number(handle, "GetExitCodeThread")
    if number is None:
        return _processes.thread_process(handle, "GetExitCodeThread").exit_code("GetExitCodeThread")
    return _results.get(number, 0) if _objects.thread_has_ended(handle) else _processes.STILL_ACTIVE


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("win32process", name)


del annotations, TYPE_CHECKING
