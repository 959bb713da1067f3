"""kernel32's functions for named pipes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from npipe._doors.kernel32 import memory, security
from npipe._doors.kernel32 import overlapped as _overlapped
from npipe._doors.kernel32.functions import exported, exported_text
from npipe.binding.win32 import operations as _operations
from npipe.binding.win32 import targets as _targets
from npipe.peers import remote_peer
from npipe.win32 import win32pipe, win32security
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from npipe._doors.kernel32.call import Call

__all__: list[str] = []

_INVALID_HANDLE_VALUE: Final = -1
_IO_PENDING: Final = 997
_MORE_DATA: Final = 234
_PIPE_LOCAL: Final = 229
_INVALID_NAME: Final = 123


@exported_text("CreateNamedPipe", "tddddddp", failure=_INVALID_HANDLE_VALUE)
def _create_named_pipe(
    _call: Call,
    name: str | None,
    open_mode: int,
    pipe_mode: int,
    instances: int,
    out_size: int,
    in_size: int,
    timeout: int,
    attributes: int,
) -> int:
    rule = security.attributes_at(attributes)
    if name is None:
        raise make_error(_INVALID_NAME, "CreateNamedPipe")
    handle = win32pipe.CreateNamedPipe(name, open_mode, pipe_mode, instances, out_size, in_size, timeout, rule)
    return handle.Detach()


@exported("ConnectNamedPipe", "hp")
def _connect_named_pipe(call: Call, handle: int, overlapped: int) -> int:
    over = _overlapped.started_at(call, 1, overlapped)
    return call.status(win32pipe.ConnectNamedPipe(handle, over))


@exported("DisconnectNamedPipe", "h")
def _disconnect_named_pipe(_call: Call, handle: int) -> None:
    win32pipe.DisconnectNamedPipe(handle)


@exported_text("WaitNamedPipe", "td")
def _wait_named_pipe(_call: Call, name: str | None, timeout: int) -> None:
    win32pipe.WaitNamedPipe(name or "", timeout)


@exported("PeekNamedPipe", "hpdppp")
def _peek_named_pipe(call: Call, handle: int, buffer: int, size: int, read: int, available: int, left: int) -> None:
    place = memory.view(buffer, size if buffer else 0, writable=True)
    data, there, rest = win32pipe.PeekNamedPipe(handle, len(place))
    place[: len(data)] = data
    call.put(3, read, len(data))
    call.put(4, available, there)
    call.put(5, left, rest & 0xFFFFFFFF)


@exported("TransactNamedPipe", "hpdpdpp")
def _transact_named_pipe(
    call: Call, handle: int, request: int, request_size: int, reply: int, reply_size: int, count: int, overlapped: int
) -> int:
    call.put(5, count, 0)
    data = memory.view(request, request_size)
    place = memory.view(reply, reply_size, writable=True)
    over = _overlapped.started_at(call, 6, overlapped)
    code, answer = _operations.TransactNamedPipe(handle, data, place, over)
    if over is None:
        call.put(5, count, len(answer))
    elif code != _IO_PENDING:
        call.put(5, count, over.InternalHigh)
    return call.status(code)


@exported_text("CallNamedPipe", "tpdpdpd")
def _call_named_pipe(
    call: Call, name: str | None, request: int, request_size: int, reply: int, reply_size: int, count: int, timeout: int
) -> int:
    call.put(5, count, 0)
    place = memory.view(reply, reply_size, writable=True)
    data = memory.view(request, request_size)
    code, answer = win32pipe._call_named_pipe(name or "", data, len(place), timeout)  # noqa: SLF001 - 234 with its data
    place[: len(answer)] = answer
    call.put(5, count, len(answer))
    return call.status(code)


@exported("SetNamedPipeHandleState", "hppp")
def _set_state(_call: Call, handle: int, mode: int, most: int, timeout: int) -> None:
    values = [memory.get(address) if address else None for address in (mode, most, timeout)]
    win32pipe.SetNamedPipeHandleState(handle, *values)


@exported_text("GetNamedPipeHandleState", "hpppppd")
def _get_state(
    call: Call, handle: int, state: int, instances: int, most: int, timeout: int, user: int, room: int
) -> None:
    modes, count, _, _, name = win32pipe.GetNamedPipeHandleState(handle, bool(most or timeout), bool(user))
    if user:
        call.put_text(5, user, room, name)
    call.put(1, state, modes)
    call.put(2, instances, count)


@exported("GetNamedPipeInfo", "hpppp")
def _get_info(call: Call, handle: int, flags: int, out_size: int, in_size: int, instances: int) -> None:
    values = win32pipe.GetNamedPipeInfo(handle)
    for index, (address, value) in enumerate(zip((flags, out_size, in_size, instances), values, strict=True), 1):
        call.put(index, address, value & 0xFFFFFFFF)


@exported("CreatePipe", "pppd")
def _create_pipe(call: Call, read_end: int, write_end: int, attributes: int, size: int) -> None:
    reader, writer = win32pipe.CreatePipe(security.attributes_at(attributes), size)
    call.put(0, read_end, reader.Detach(), 8)
    call.put(1, write_end, writer.Detach(), 8)


@exported("GetNamedPipeClientProcessId", "hp")
def _client_process(call: Call, handle: int, number: int) -> None:
    call.put(1, number, win32pipe.GetNamedPipeClientProcessId(handle))


@exported("GetNamedPipeServerProcessId", "hp")
def _server_process(call: Call, handle: int, number: int) -> None:
    call.put(1, number, win32pipe.GetNamedPipeServerProcessId(handle))


@exported("GetNamedPipeClientSessionId", "hp")
def _client_session(call: Call, handle: int, number: int) -> None:
    call.put(1, number, win32pipe.GetNamedPipeClientSessionId(handle))


@exported("GetNamedPipeServerSessionId", "hp")
def _server_session(call: Call, handle: int, number: int) -> None:
    call.put(1, number, win32pipe.GetNamedPipeServerSessionId(handle))


@exported_text("GetNamedPipeClientComputerName", "hpd")
def _client_computer(call: Call, handle: int, name: int, size: int) -> None:
    win32pipe.GetNamedPipeHandleState(handle)
    remote = _targets.pipe_remote(handle, "GetNamedPipeClientComputerName")
    if remote is not None:
        width = memory.wide_text(call.type_at(1, name), "")[1] if call.wide else 1
        call.put_text(1, name, size // width, remote_peer(remote).host)  # the size is in bytes
        return
    raise make_error(_PIPE_LOCAL, "GetNamedPipeClientComputerName")  # as for every client of the same machine


# ---- What a pipe's device is asked for by number (FSCTL_PIPE_*)

_DISCONNECT: Final = 0x110004
_LISTEN: Final = 0x110008
_PEEK: Final = 0x11400C
_TRANSCEIVE: Final = 0x11C017
_IMPERSONATE: Final = 0x11001C
_CONNECTED_STATE: Final = 3
_PEEK_HEADER: Final = 16


@exported("DeviceIoControl", "hdpdpdpp")
def _device_io_control(
    call: Call,
    handle: int,
    control: int,
    given: int,
    given_size: int,
    taken: int,
    taken_size: int,
    count: int,
    overlapped: int,
) -> int:
    call.put(6, count, 0)
    code = moved = 0
    over = _overlapped.started_at(call, 7, overlapped) if control in (_LISTEN, _TRANSCEIVE) else None
    place = memory.view(taken, taken_size, writable=True)
    if control == _DISCONNECT:
        win32pipe.DisconnectNamedPipe(handle)
    elif control == _LISTEN:
        code = win32pipe.ConnectNamedPipe(handle, over)
    elif control == _IMPERSONATE:
        win32security.ImpersonateNamedPipeClient(handle)
    elif control == _PEEK:
        code, moved = _peek(handle, place)
    elif control == _TRANSCEIVE:
        code, answer = _operations.TransactNamedPipe(handle, memory.view(given, given_size), place, over)
        moved = len(answer) if over is None else 0 if code == _IO_PENDING else over.InternalHigh
    else:
        _targets.get_pipe_state(handle)
        raise make_error(1, "DeviceIoControl")
    call.put(6, count, moved)
    return call.status(code)


def _peek(handle: int, place: memoryview) -> tuple[int, int]:
    if len(place) < _PEEK_HEADER:
        raise make_error(122, "DeviceIoControl")
    data, available, left = win32pipe.PeekNamedPipe(handle, len(place) - _PEEK_HEADER)
    length = (len(data) + left) & 0xFFFFFFFF
    header = struct.pack("<4I", _CONNECTED_STATE, available, 1 if left or data else 0, length)
    place[: _PEEK_HEADER + len(data)] = header + data
    return _MORE_DATA if available > len(data) else 0, _PEEK_HEADER + len(data)
