"""CPython's `_winapi` on npipe.win32: pipes, files, events, mutexes, waiting. Handles are numbers, errors OSError."""
# ruff: noqa: N802 - the names of _winapi

from __future__ import annotations

import itertools
import operator
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn, overload

from npipe._doors.os_errors import os_error, raises_os_errors
from npipe._doors.winapi import constants as _constants
from npipe._doors.winapi import elsewhere as _elsewhere
from npipe.binding.win32 import handles as _handles
from npipe.win32 import completion, pywintypes, win32api, win32event, win32file, win32pipe, win32process
from npipe.win32_error import error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, Self

    from _typeshed import ReadableBuffer

    from npipe.binding.win32.handles import PyHANDLE
    from npipe.binding.win32.overlapped import OVERLAPPED

globals().update(_constants.WINAPI)

_INFINITE: Final = 0xFFFFFFFF
_INVALID: Final = (1 << 64) - 1
_IO_PENDING: Final = 997
_PIPE_CONNECTED: Final = 535
_IO_INCOMPLETE: Final = 996
_MORE_DATA: Final = 234
_ABORTED: Final = 995
_NOT_FOUND: Final = 1168
_TIMEOUT: Final = 258
_ABANDONED: Final = 128
_MOST: Final = 63  # and one for Ctrl-C
_MAX_PATH: Final = 260


def _dword(value: int) -> int:
    return operator.index(value) & 0xFFFFFFFF


def _no_attributes(value: object) -> None:
    """Take the address of a SECURITY_ATTRIBUTES: NULL is all that there is."""
    if value is not None and operator.index(value):  # type: ignore[arg-type]
        raise os_error(87)


class Overlapped:
    """An overlapped operation of this module's functions: its event, its OVERLAPPED, its buffer."""

    __slots__ = ("__weakref__", "_buffer", "_completed", "_event", "_handle", "_overlapped", "_pending", "_reads")

    _handle: int
    _buffer: Any
    _reads: bool
    _pending: bool
    _completed: bool
    _event: PyHANDLE
    _overlapped: OVERLAPPED

    def __new__(cls) -> Self:
        """Refuse: only the functions make them."""
        raise TypeError("cannot create '_winapi.Overlapped' instances")

    @classmethod
    def _start(cls, handle: int, buffer: Any = None, *, reads: bool = False) -> Overlapped:
        self = object.__new__(cls)
        self._handle = handle
        self._buffer = buffer
        self._reads = reads
        self._pending = False
        self._completed = False
        self._event = win32event.CreateEvent(None, True, False, None)
        self._overlapped = pywintypes.OVERLAPPED()
        self._overlapped.hEvent = self._event
        return self

    def __del__(self) -> None:
        if getattr(self, "_pending", False):
            self.cancel()

    @property
    def event(self) -> int:
        """The handle of its event, which is manual-reset, and closed with this object."""
        return int(self._event)

    def GetOverlappedResult(self, wait: bool, /) -> tuple[int, int]:
        """Return (bytes moved, code): 0, 234, 995, or 996 while it is pending. Raises OSError for other codes."""
        code = 0
        try:
            count = win32file.GetOverlappedResult(self._handle, self._overlapped, bool(wait))
        except error as failure:
            code = failure.winerror
            if code == _IO_INCOMPLETE:
                return 0, code
            self._pending = False
            if code not in (_MORE_DATA, _ABORTED):
                raise os_error(code) from None
            count = self._overlapped.InternalHigh if code == _MORE_DATA else 0
        self._pending = False
        self._completed = True
        if self._reads and len(self._buffer) != count:
            self._buffer = bytes(memoryview(self._buffer)[:count])
        return count, code

    def getbuffer(self) -> bytes | None:
        """Return what was read, or None; ValueError before GetOverlappedResult has said that it is over."""
        if not self._completed:
            text = "can't get read buffer before GetOverlappedResult() signals the operation completed"
            raise ValueError(text)
        return bytes(self._buffer) if self._reads else None

    def cancel(self) -> None:
        """Ask for the end of it, whichever thread has started it; nothing happens if it is over."""
        if self._pending:
            try:
                completion.CancelIoEx(self._handle, self._overlapped)
            except error as failure:
                if failure.winerror != _NOT_FOUND:
                    raise os_error(failure.winerror) from None
        self._pending = False


Overlapped.__module__ = "_winapi"


# ---- Pipes and files


@raises_os_errors
def CreateNamedPipe(
    name: str,
    open_mode: int,
    pipe_mode: int,
    max_instances: int,
    out_buffer_size: int,
    in_buffer_size: int,
    default_timeout: int,
    security_attributes: int,
    /,
) -> int:
    """CreateNamedPipe: the handle of a new instance. Raises as `win32pipe.CreateNamedPipe`."""
    _no_attributes(security_attributes)
    sizes = (_dword(out_buffer_size), _dword(in_buffer_size), _dword(default_timeout))
    modes = (_dword(open_mode), _dword(pipe_mode), _dword(max_instances))
    return win32pipe.CreateNamedPipe(name, *modes, *sizes, None).Detach()


@raises_os_errors
def CreateFile(
    file_name: str,
    desired_access: int,
    share_mode: int,
    security_attributes: int,
    creation_disposition: int,
    flags_and_attributes: int,
    template_file: int,
    /,
) -> int:
    """CreateFile: the handle of a pipe's client end, or of a file. Raises as `win32file.CreateFile`."""
    _no_attributes(security_attributes)
    _dword(template_file)
    access, share = _dword(desired_access), _dword(share_mode)
    how = (_dword(creation_disposition), _dword(flags_and_attributes))
    return win32file.CreateFile(file_name, access, share, None, *how, None).Detach()


@overload
def ConnectNamedPipe(handle: int, overlapped: Literal[True]) -> Overlapped: ...


@overload
def ConnectNamedPipe(handle: int, overlapped: bool = False) -> Overlapped | None: ...


@raises_os_errors
def ConnectNamedPipe(handle: int, overlapped: bool = False) -> Overlapped | None:
    """ConnectNamedPipe: None, or the operation; raises OSError, also of 535 when `overlapped` is false."""
    if not overlapped:
        if win32pipe.ConnectNamedPipe(handle) == _PIPE_CONNECTED:
            raise os_error(_PIPE_CONNECTED)
        return None
    operation = Overlapped._start(handle)  # noqa: SLF001
    code = win32pipe.ConnectNamedPipe(handle, operation._overlapped)  # noqa: SLF001
    operation._pending = code == _IO_PENDING  # noqa: SLF001
    if code == _PIPE_CONNECTED:
        win32event.SetEvent(operation._event)  # noqa: SLF001
    return operation


@overload
def ReadFile(handle: int, size: int, overlapped: Literal[True]) -> tuple[Overlapped, int]: ...


@overload
def ReadFile(handle: int, size: int, overlapped: Literal[False] = False) -> tuple[bytes, int]: ...


@raises_os_errors
def ReadFile(handle: int, size: int, overlapped: int | bool = False) -> tuple[Overlapped | bytes, int]:
    """ReadFile: (bytes, 0 or 234), or (the operation, 0, 234 or 997)."""
    if not overlapped:
        code, data = win32file.ReadFile(handle, _dword(size))
        return data, code
    operation = Overlapped._start(handle, bytearray(_dword(size)), reads=True)  # noqa: SLF001
    code, _ = win32file.ReadFile(handle, operation._buffer, operation._overlapped)  # noqa: SLF001
    operation._pending = code == _IO_PENDING  # noqa: SLF001
    return operation, code


@overload
def WriteFile(handle: int, buffer: ReadableBuffer, overlapped: Literal[True]) -> tuple[Overlapped, int]: ...


@overload
def WriteFile(handle: int, buffer: ReadableBuffer, overlapped: Literal[False] = False) -> tuple[int, int]: ...


@raises_os_errors
def WriteFile(handle: int, buffer: ReadableBuffer, overlapped: int | bool = False) -> tuple[Overlapped | int, int]:
    """WriteFile: (bytes written, 0), or (the operation, 0 or 997)."""
    view = memoryview(buffer)
    if not overlapped:
        code, count = win32file.WriteFile(handle, view)
        return count, code
    operation = Overlapped._start(handle, view)  # noqa: SLF001
    code, _ = win32file.WriteFile(handle, view, operation._overlapped)  # noqa: SLF001
    operation._pending = code == _IO_PENDING  # noqa: SLF001
    return operation, code


@raises_os_errors
def PeekNamedPipe(handle: int, size: int = 0, /) -> tuple[int, int] | tuple[bytes, int, int]:
    """PeekNamedPipe: (bytes there, bytes left of the message), with the first bytes before them if `size` is given."""
    if size < 0:
        raise ValueError("negative size")
    data, available, left = win32pipe.PeekNamedPipe(handle, size)
    return (data, available, left) if size else (available, left)


@raises_os_errors
def SetNamedPipeHandleState(
    named_pipe: int, mode: int | None, max_collection_count: int | None, collect_data_timeout: int | None, /
) -> None:
    """SetNamedPipeHandleState. Raises as `win32pipe.SetNamedPipeHandleState`."""
    given = (mode, max_collection_count, collect_data_timeout)
    win32pipe.SetNamedPipeHandleState(named_pipe, *(None if one is None else _dword(one) for one in given))


@raises_os_errors
def WaitNamedPipe(name: str, timeout: int, /) -> None:
    """WaitNamedPipe: until an instance listens, at most `timeout` milliseconds. Raises 2, 121, 161."""
    win32pipe.WaitNamedPipe(name, _dword(timeout))


@raises_os_errors
def CreatePipe(pipe_attrs: object, size: int, /) -> tuple[int, int]:
    """CreatePipe: the handles to read from and to write to."""
    del pipe_attrs
    reader, writer = win32pipe.CreatePipe(None, _dword(size))
    return reader.Detach(), writer.Detach()


@raises_os_errors
def GetFileType(handle: int) -> int:
    """GetFileType: 1 (a file), 3 (a pipe). Raises 6."""
    _handles.handle_kind(handle, "GetFileType")
    return win32file.GetFileType(handle)


# ---- Handles


@raises_os_errors
def CloseHandle(handle: int, /) -> None:
    """CloseHandle. Raises 6."""
    if not handle:
        raise os_error(6)
    win32api.CloseHandle(handle)


@raises_os_errors
def DuplicateHandle(
    source_process_handle: int,
    source_handle: int,
    target_process_handle: int,
    desired_access: int,
    inherit_handle: bool,
    options: int = 0,
    /,
) -> int:
    """DuplicateHandle, from or for another process too, as win32api's does it. Raises 5, 6, 50, 231, 233."""
    source, target = _process(source_process_handle), _process(target_process_handle)
    access = _dword(desired_access)
    return win32api.DuplicateHandle(source, source_handle, target, access, inherit_handle, options).Detach()


def _process(handle: int) -> int:
    """Return a process' handle, or -1 for the number that stands for this one."""
    return -1 if operator.index(handle) & _INVALID in (_INVALID, _INFINITE) else handle


def GetCurrentProcess() -> int:
    """GetCurrentProcess: the number that stands for this process."""
    return _INVALID


@raises_os_errors
def OpenProcess(desired_access: int, inherit_handle: bool, process_id: int, /) -> int:
    """OpenProcess: its handle. Raises as `win32api.OpenProcess` (5, 87)."""
    return win32api.OpenProcess(_dword(desired_access), inherit_handle, process_id).Detach()


@raises_os_errors
def GetExitCodeProcess(process: int, /) -> int:
    """GetExitCodeProcess: 259 while it runs. Raises as `win32process.GetExitCodeProcess` (6, 50)."""
    return win32process.GetExitCodeProcess(_process(process)) & 0xFFFFFFFF


@raises_os_errors
def TerminateProcess(handle: int, exit_code: int, /) -> None:
    """TerminateProcess: at once. Raises 5, 6."""
    win32process.TerminateProcess(_process(handle), _dword(exit_code))


@raises_os_errors
def GetStdHandle(std_handle: int, /) -> int | None:
    """GetStdHandle: of STD_INPUT_HANDLE and so on; None for a stream that is closed. Raises 6."""
    return win32api.GetStdHandle(_dword(std_handle) - (1 << 32)) or None


def ExitProcess(exit_code: int, /) -> NoReturn:
    """ExitProcess: end this process at once."""
    os._exit(exit_code & 0xFF)


def GetLastError() -> int:
    """GetLastError: of the calling thread."""
    return win32api.GetLastError()


def GetModuleFileName(module_handle: int, /) -> str:
    """GetModuleFileName: the interpreter; there are no other modules (126)."""
    if module_handle:
        raise os_error(126)
    return sys.executable[:_MAX_PATH]


def GetVersion() -> int:
    """GetVersion: Windows 10, build 19045."""
    return 10 | 19045 << 16


def GetTickCount64() -> int:
    """GetTickCount64: milliseconds since the start of the system."""
    return int(time.monotonic() * 1000)


# ---- Events and mutexes


@raises_os_errors
def CreateEventW(security_attributes: int, manual_reset: bool, initial_state: bool, name: str | None) -> int:
    """CreateEvent: its handle; GetLastError is 183 where there is one of that name."""
    _no_attributes(security_attributes)
    return win32event.CreateEvent(None, bool(manual_reset), bool(initial_state), name).Detach()


@raises_os_errors
def OpenEventW(desired_access: int, inherit_handle: bool, name: str) -> int:
    """OpenEvent. Raises 2."""
    return win32event.OpenEvent(_dword(desired_access), inherit_handle, name).Detach()


@raises_os_errors
def SetEvent(event: int) -> None:
    """SetEvent. Raises 6."""
    win32event.SetEvent(event)


@raises_os_errors
def ResetEvent(event: int) -> None:
    """ResetEvent. Raises 6."""
    win32event.ResetEvent(event)


@raises_os_errors
def CreateMutexW(security_attributes: int, initial_owner: bool, name: str | None) -> int:
    """CreateMutex: its handle; GetLastError is 183 where there is one of that name."""
    _no_attributes(security_attributes)
    return win32event.CreateMutex(None, bool(initial_owner), name).Detach()


@raises_os_errors
def OpenMutexW(desired_access: int, inherit_handle: bool, name: str) -> int:
    """OpenMutex. Raises 2."""
    return win32event.OpenMutex(_dword(desired_access), inherit_handle, name).Detach()


@raises_os_errors
def ReleaseMutex(mutex: int) -> None:
    """ReleaseMutex. Raises 6, 288."""
    win32event.ReleaseMutex(mutex)


# ---- Waiting


@raises_os_errors
def WaitForSingleObject(handle: int, milliseconds: int, /) -> int:
    """WaitForSingleObject: 0, 128 or 258. Raises 6."""
    return win32event.WaitForSingleObject(handle, _dword(milliseconds))


def _sequence(handle_seq: Sequence[int], most: int) -> list[int]:
    if not hasattr(type(handle_seq), "__getitem__"):
        raise TypeError(f"sequence type expected, got '{type(handle_seq).__name__}'")
    if len(handle_seq) > most:
        raise ValueError(f"need at most {most} handles, got a sequence of length {len(handle_seq)}")
    return [operator.index(handle_seq[index]) for index in range(len(handle_seq))]


@raises_os_errors
def WaitForMultipleObjects(handle_seq: Sequence[int], wait_flag: bool, milliseconds: int = _INFINITE, /) -> int:
    """WaitForMultipleObjects over at most 63 handles: an index, 128 and an index, or 258. Raises 6, 87."""
    handles = _sequence(handle_seq, _MOST)
    return win32event.WaitForMultipleObjects(handles, bool(wait_flag), _dword(milliseconds))


@raises_os_errors
def BatchedWaitForMultipleObjects(
    handle_seq: Sequence[int], wait_all: bool, milliseconds: int = _INFINITE
) -> list[int] | None:
    """Wait for as many as 3,969 handles, 63 in a thread: the indices of those that ended it; None with `wait_all`.

    Raises TimeoutError (258) when the time is over, and 735 for an abandoned mutex.
    """
    handles, timeout = _sequence(handle_seq, _MOST * _MOST), _dword(milliseconds)
    if not handles:
        return None if wait_all else []
    batches = [handles[start : start + _MOST] for start in range(0, len(handles), _MOST)]
    if wait_all:
        deadline = time.monotonic() + timeout / 1000
        for batch in batches:
            left = timeout if timeout == _INFINITE else max(0, round((deadline - time.monotonic()) * 1000))
            if win32event.WaitForMultipleObjects(batch, True, left) == _TIMEOUT:
                raise os_error(_TIMEOUT)
        return None
    if len(batches) == 1:
        return [_index_of(win32event.WaitForMultipleObjects(handles, False, timeout))]
    return _wait_in_threads(batches, timeout)


def _index_of(waited: int) -> int:
    if waited == _TIMEOUT:
        raise os_error(_TIMEOUT)
    if waited >= _ABANDONED:
        raise os_error(735)
    return waited


def _wait_in_threads(batches: list[list[int]], timeout: int) -> list[int]:
    """Wait for any; the first thread that ends ends all of them."""
    over = win32event.CreateEvent(None, True, False, None)
    waited: dict[int, int] = {}
    failures: list[error] = []

    def wait(first: int, batch: list[int]) -> None:
        try:
            index = win32event.WaitForMultipleObjects([*batch, over], False, _INFINITE)
            if index != len(batch):
                waited[first] = index
        except error as failure:
            failures.append(failure)
        finally:
            win32event.SetEvent(over)

    firsts = itertools.count(0, _MOST)
    threads = [threading.Thread(target=wait, args=pair, daemon=True) for pair in zip(firsts, batches, strict=False)]
    for thread in threads:
        thread.start()
    try:
        in_vain = win32event.WaitForSingleObject(over, timeout) == _TIMEOUT
    finally:
        win32event.SetEvent(over)
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    if in_vain:
        raise os_error(_TIMEOUT)
    return [first + _index_of(index) for first, index in sorted(waited.items())]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return _elsewhere.find("_winapi", name)
