"""A look-alike of CPython's _winapi on the drop-in modules, for the Windows half of multiprocessing.connection.

To be imported while `npipe.win32.install()` is in force. `connection_module` makes a private copy of
multiprocessing.connection that believes to be on Windows and finds this module as _winapi; nothing else sees either.
"""
# ruff: noqa: N802  # functions and methods have the names that they have in _winapi

from __future__ import annotations

import builtins
import errno
import functools
import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pywintypes: Any = importlib.import_module("pywintypes")
win32api: Any = importlib.import_module("win32api")
win32event: Any = importlib.import_module("win32event")
win32file: Any = importlib.import_module("win32file")
win32pipe: Any = importlib.import_module("win32pipe")
winerror: Any = importlib.import_module("winerror")
completion: Any = importlib.import_module("npipe.win32.completion")  # CancelIoEx, which pywin32 lacks

NULL = 0
INFINITE: int = win32event.INFINITE
WAIT_OBJECT_0: int = win32event.WAIT_OBJECT_0
WAIT_ABANDONED_0: int = win32event.WAIT_ABANDONED_0
WAIT_TIMEOUT: int = win32event.WAIT_TIMEOUT
GENERIC_READ: int = win32file.GENERIC_READ
GENERIC_WRITE: int = win32file.GENERIC_WRITE
OPEN_EXISTING: int = win32file.OPEN_EXISTING
FILE_FLAG_OVERLAPPED: int = win32file.FILE_FLAG_OVERLAPPED
FILE_FLAG_FIRST_PIPE_INSTANCE: int = win32pipe.FILE_FLAG_FIRST_PIPE_INSTANCE
FILE_GENERIC_READ: int = win32file.FILE_GENERIC_READ
FILE_GENERIC_WRITE: int = win32file.FILE_GENERIC_WRITE
PIPE_ACCESS_DUPLEX: int = win32pipe.PIPE_ACCESS_DUPLEX
PIPE_ACCESS_INBOUND: int = win32pipe.PIPE_ACCESS_INBOUND
PIPE_TYPE_MESSAGE: int = win32pipe.PIPE_TYPE_MESSAGE
PIPE_READMODE_MESSAGE: int = win32pipe.PIPE_READMODE_MESSAGE
PIPE_WAIT: int = win32pipe.PIPE_WAIT
PIPE_UNLIMITED_INSTANCES: int = win32pipe.PIPE_UNLIMITED_INSTANCES
NMPWAIT_WAIT_FOREVER: int = win32pipe.NMPWAIT_WAIT_FOREVER
ERROR_BROKEN_PIPE: int = winerror.ERROR_BROKEN_PIPE
ERROR_IO_INCOMPLETE: int = winerror.ERROR_IO_INCOMPLETE
ERROR_IO_PENDING: int = winerror.ERROR_IO_PENDING
ERROR_MORE_DATA: int = winerror.ERROR_MORE_DATA
ERROR_NETNAME_DELETED: int = winerror.ERROR_NETNAME_DELETED
ERROR_NO_DATA: int = winerror.ERROR_NO_DATA
ERROR_NOT_FOUND: int = winerror.ERROR_NOT_FOUND
ERROR_OPERATION_ABORTED: int = winerror.ERROR_OPERATION_ABORTED
ERROR_PIPE_BUSY: int = winerror.ERROR_PIPE_BUSY
ERROR_PIPE_CONNECTED: int = winerror.ERROR_PIPE_CONNECTED
ERROR_SEM_TIMEOUT: int = winerror.ERROR_SEM_TIMEOUT

# The errno, and with it the class, that CPython on Windows gives to an OSError with one of these codes.
_ERRNO = {
    winerror.ERROR_FILE_NOT_FOUND: errno.ENOENT,
    winerror.ERROR_ACCESS_DENIED: errno.EACCES,
    winerror.ERROR_INVALID_HANDLE: errno.EBADF,
    winerror.ERROR_BROKEN_PIPE: errno.EPIPE,
    winerror.ERROR_NO_DATA: errno.EPIPE,
}


class WindowsError(OSError):
    """OSError as it is on Windows, where each one has a `winerror`; None in one that comes from no call of Windows."""

    winerror: int | None = None


@functools.cache
def _kind_of(number: int) -> type[WindowsError]:
    """The class for an errno: WindowsError, and FileNotFoundError for ENOENT and so on."""
    portable = type(OSError(number, ""))
    return WindowsError if portable is OSError else type(portable.__name__, (WindowsError, portable), {})


def _os_error(error: Any) -> OSError:
    """An OSError as CPython on Windows makes it; `error` is a pywintypes.error."""
    number = _ERRNO.get(error.winerror, errno.EINVAL)
    made = _kind_of(number)(number, error.strerror)
    made.winerror = error.winerror
    return made


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except pywintypes.error as error:
        raise _os_error(error) from None


class Overlapped:
    """One overlapped operation, its event and its buffer."""

    def __init__(self, handle: int, buffer: Any = None, *, reads: bool = False) -> None:
        self._handle = handle
        self._buffer = buffer  # held here until the operation is over
        self._reads = reads
        self._transferred: int | None = None  # not None: completed
        self._pending = False
        self._event = win32event.CreateEvent(None, True, False, None)
        self.overlapped = pywintypes.OVERLAPPED()
        self.overlapped.hEvent = self._event

    @property
    def event(self) -> int:
        """The number of the event's handle."""
        return int(self._event)

    def started(self, code: int) -> None:
        """Note what the call that starts the operation has returned."""
        self._pending = code == ERROR_IO_PENDING
        if code == ERROR_PIPE_CONNECTED:
            win32event.SetEvent(self._event)

    def GetOverlappedResult(self, wait: bool) -> tuple[int, int]:
        """The number of bytes and the code: 0, 234, 995 or 996; others are raised."""
        code = 0
        try:
            transferred = int(win32file.GetOverlappedResult(self._handle, self.overlapped, wait))
        except pywintypes.error as error:
            code = int(error.winerror)
            if code == ERROR_IO_INCOMPLETE:
                return 0, code
            self._pending = False
            if code not in (ERROR_MORE_DATA, ERROR_OPERATION_ABORTED):
                raise _os_error(error) from None
            # pywin32's function gives no number with an error; with more data to come, the buffer is full.
            transferred = len(self._buffer) if code == ERROR_MORE_DATA else 0
        self._pending = False
        self._transferred = transferred
        return transferred, code

    def getbuffer(self) -> bytes | None:
        """What was read, once GetOverlappedResult has said that it is over."""
        if self._transferred is None:
            raise ValueError("can't get read buffer before GetOverlappedResult() signals the operation completed")
        return bytes(self._buffer[: self._transferred]) if self._reads else None

    def cancel(self) -> None:
        """Ask for the end of the operation, in whatever thread it was started."""
        if self._pending:
            try:
                completion.CancelIoEx(self._handle, self.overlapped)
            except pywintypes.error as error:
                if error.winerror != ERROR_NOT_FOUND:  # it has ended meanwhile
                    raise _os_error(error) from None
        self._pending = False


def CreateNamedPipe(
    name: str,
    open_mode: int,
    pipe_mode: int,
    max_instances: int,
    out_buffer_size: int,
    in_buffer_size: int,
    default_timeout: int,
    security_attributes: int,
) -> int:
    assert security_attributes == NULL
    handle = _call(
        win32pipe.CreateNamedPipe,
        name,
        open_mode,
        pipe_mode,
        max_instances,
        out_buffer_size,
        in_buffer_size,
        default_timeout,
        None,
    )
    return int(handle.Detach())


def CreateFile(
    name: str, access: int, share: int, security_attributes: int, disposition: int, flags: int, template: int
) -> int:
    assert security_attributes == template == NULL
    return int(_call(win32file.CreateFile, name, access, share, None, disposition, flags, None).Detach())


def ConnectNamedPipe(handle: int, overlapped: bool = False) -> Overlapped | None:
    if not overlapped:
        _call(win32pipe.ConnectNamedPipe, handle)
        return None
    operation = Overlapped(handle)
    operation.started(_call(win32pipe.ConnectNamedPipe, handle, operation.overlapped))
    return operation


def ReadFile(handle: int, size: int, overlapped: bool = False) -> tuple[Overlapped | bytes, int]:
    if not overlapped:
        code, data = _call(win32file.ReadFile, handle, size)
        return bytes(data), code
    operation = Overlapped(handle, win32file.AllocateReadBuffer(size), reads=True)
    code, _ = _call(win32file.ReadFile, handle, operation._buffer, operation.overlapped)
    operation.started(code)
    return operation, code


def WriteFile(handle: int, data: Any, overlapped: bool = False) -> tuple[Overlapped | int, int]:
    if not overlapped:
        code, written = _call(win32file.WriteFile, handle, data)
        return written, code
    operation = Overlapped(handle, data)
    code, _ = _call(win32file.WriteFile, handle, data, operation.overlapped)
    operation.started(code)
    return operation, code


def PeekNamedPipe(handle: int, size: int = 0) -> tuple[int, int] | tuple[bytes, int, int]:
    data, available, left = _call(win32pipe.PeekNamedPipe, handle, size)
    return (data, available, left) if size else (available, left)


def SetNamedPipeHandleState(
    handle: int, mode: int | None, max_collection_count: int | None, collect_data_timeout: int | None
) -> None:
    _call(win32pipe.SetNamedPipeHandleState, handle, mode, max_collection_count, collect_data_timeout)


def WaitNamedPipe(name: str, timeout: int) -> None:
    _call(win32pipe.WaitNamedPipe, name, timeout)


def WaitForMultipleObjects(handles: Sequence[int], wait_all: bool, milliseconds: int = INFINITE) -> int:
    return int(_call(win32event.WaitForMultipleObjects, handles, wait_all, milliseconds))


def CloseHandle(handle: int) -> None:
    _call(win32api.CloseHandle, handle)


class _Sys(types.ModuleType):
    """sys, but on Windows 10."""

    platform = "win32"

    @staticmethod
    def getwindowsversion() -> tuple[int, int, int, int, str]:
        return 10, 0, 19045, 2, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def _no_socket(*_: object) -> None:
    raise NotImplementedError("connections over sockets have no part in this")


def connection_module() -> Any:
    """A copy of multiprocessing.connection, from the standard library's own source, in its Windows half."""
    spec = importlib.util.find_spec("multiprocessing.connection")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    sockets = types.ModuleType("_multiprocessing")
    vars(sockets).update(vars(importlib.import_module("_multiprocessing")))
    vars(sockets).update(closesocket=_no_socket, send=_no_socket, recv=_no_socket)
    replaced = {"sys": _Sys("sys"), "_winapi": sys.modules[__name__], "_multiprocessing": sockets}

    def import_(name: str, *arguments: Any) -> Any:
        return replaced.get(name) or builtins.__import__(name, *arguments)

    module: Any = types.ModuleType("multiprocessing.connection_of_windows")
    module.__package__ = "multiprocessing"
    module.__file__ = spec.origin
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": import_, "OSError": WindowsError}
    exec(compile(source, spec.origin, "exec"), vars(module))
    return module
