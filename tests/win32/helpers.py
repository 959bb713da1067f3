"""Shortcuts over npipe.win32: pipes by keyword, OVERLAPPED structures with an event, codes instead of exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npipe.win32 import completion, pywintypes, win32api, win32con, win32event, win32file, win32pipe

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 5000  # deadline of what should happen at once
BYTE, MESSAGE = win32pipe.PIPE_TYPE_BYTE, win32pipe.PIPE_TYPE_MESSAGE | win32pipe.PIPE_READMODE_MESSAGE
DUPLEX = win32pipe.PIPE_ACCESS_DUPLEX
READ_WRITE = win32file.GENERIC_READ | win32file.GENERIC_WRITE
OVERLAPPED = win32con.FILE_FLAG_OVERLAPPED
PENDING, TIMEOUT = 997, 258

Handle = Any
Ov = win32file.OVERLAPPED


def create(
    name: str,
    *,
    mode: int = BYTE,
    direction: int = DUPLEX,
    overlapped: bool = True,
    quota: int = 65536,
    most: int = 255,
    sa: object = None,
) -> Handle:
    """CreateNamedPipe."""
    flags = direction | (OVERLAPPED if overlapped else 0)
    return win32pipe.CreateNamedPipe(name, flags, mode, most, quota, quota, 0, sa)


def open_client(name: str, *, overlapped: bool = True, access: int = READ_WRITE, message: bool = False) -> Handle:
    """CreateFile, then perhaps message-read mode."""
    handle = win32file.CreateFile(name, access, 0, None, win32file.OPEN_EXISTING, OVERLAPPED if overlapped else 0, None)
    if message:
        win32pipe.SetNamedPipeHandleState(handle, win32pipe.PIPE_READMODE_MESSAGE, None, None)
    return handle


def connected(
    name: str, *, mode: int = BYTE, overlapped: bool = True, client_overlapped: bool | None = None, quota: int = 65536
) -> tuple[Handle, Handle]:
    """A server's and a client's end."""
    server = create(name, mode=mode, overlapped=overlapped, quota=quota)
    client_overlapped = overlapped if client_overlapped is None else client_overlapped
    return server, open_client(name, overlapped=client_overlapped, message=mode == MESSAGE)


def event(*, manual: bool = True, initial: bool = False) -> Handle:
    return win32event.CreateEvent(None, manual, initial, None)


def with_event(*, manual: bool = True) -> Ov:
    """An OVERLAPPED with an event of its own."""
    overlapped = win32file.OVERLAPPED()
    overlapped.hEvent = event(manual=manual)
    return overlapped


def signalled(handle: Handle) -> bool:
    """Whether a wait with a time-out of 0 succeeds (it takes an auto-reset event)."""
    result = win32event.WaitForSingleObject(handle, 0)
    assert result in (0, TIMEOUT)
    return result == 0


def code_of(call: Callable[..., object], *arguments: object) -> int:
    """The Win32 code that a call raises, 0 when it returns."""
    try:
        call(*arguments)
    except pywintypes.error as error:
        return int(error.winerror)
    return 0


def result(handle: Handle, overlapped: Ov) -> tuple[int, int]:
    """(code, bytes) of an operation that is over or comes to its end in time."""
    code = code_of(completion.GetOverlappedResultEx, handle, overlapped, MS, False)
    return code, overlapped.InternalHigh


def pending(handle: Handle, overlapped: Ov) -> bool:
    return code_of(win32file.GetOverlappedResult, handle, overlapped, False) == 996


def read(handle: Handle, size: int = 100) -> tuple[Ov, memoryview]:
    """A read with an event that has to pend."""
    overlapped = with_event()
    code, buffer = win32file.ReadFile(handle, size, overlapped)
    assert code == PENDING
    return overlapped, buffer


def write(handle: Handle, data: bytes) -> Ov:
    """A write with an event that has to pend."""
    overlapped = with_event()
    assert win32file.WriteFile(handle, data, overlapped)[0] == PENDING
    return overlapped


def port_for(*handles: Handle) -> Handle:
    """A completion port that the handles are bound to, with keys 1, 2, 3 …"""
    port = win32file.CreateIoCompletionPort(win32file.INVALID_HANDLE_VALUE, None, 0, 1)
    for key, handle in enumerate(handles, 1):
        win32file.CreateIoCompletionPort(handle, port, key, 0)
    return port


def packet(port: Handle, milliseconds: int = MS) -> tuple[int, int, int, Ov | None]:
    code, count, key, overlapped = win32file.GetQueuedCompletionStatus(port, milliseconds)
    return code, count, key, overlapped


class Routine:
    """A completion routine that notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, code: int, count: int, overlapped: Ov) -> None:
        self.calls.append((code, count))


def read_ex(handle: Handle, size: int, routine: Callable[[int, int, Ov], object]) -> tuple[Ov, bytearray]:
    overlapped, buffer = win32file.OVERLAPPED(), bytearray(size)
    completion.ReadFileEx(handle, buffer, overlapped, routine)
    return overlapped, buffer


def thread_handle() -> Handle:
    """A handle of the calling thread that any thread can use."""
    process = win32api.GetCurrentProcess()
    return win32api.DuplicateHandle(process, win32api.GetCurrentThread(), process, 0, False, 2)
