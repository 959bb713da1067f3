"""DeviceIoControl on pipes: their functions by number, FSCTL_PIPE_*."""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import operations as _operations
from npipe.binding.win32 import targets as _targets
from npipe.win32._opening import wait_named_pipe
from npipe.win32_error import error, make_error

if TYPE_CHECKING:
    from npipe.binding.win32.handles import PyHANDLE
    from npipe.binding.win32.overlapped import OVERLAPPED

__all__ = ["DeviceIoControl"]

_FUNCTION: Final = "DeviceIoControl"
_DISCONNECT: Final = 0x110004
_LISTEN: Final = 0x110008
_PEEK: Final = 0x11400C
_TRANSCEIVE: Final = 0x11C017
_WAIT: Final = 0x110018
_IMPERSONATE: Final = 0x11001C
_FLUSH: Final = 0x118040

_CONNECTED: Final = 3  # FILE_PIPE_CONNECTED_STATE
_PEEK_HEADER: Final = struct.Struct("<4I")
_WAIT_HEADER: Final = struct.Struct("<qI?x")
_FOR_EVER: Final = -(1 << 63)
_MORE_DATA: Final = 234


def DeviceIoControl(
    Device: PyHANDLE | int,
    IoControlCode: int,
    InBuffer: Any,
    OutBuffer: Any,
    Overlapped: OVERLAPPED | None = None,
) -> Any:
    r"""DeviceIoControl with a pipe's codes, winioctlcon.FSCTL_PIPE_*.

    They are PEEK, TRANSCEIVE, LISTEN, DISCONNECT, IMPERSONATE and FLUSH; on a handle of `\\.\pipe\` WAIT.
    `OutBuffer` is a number of bytes or a writable buffer. What came is returned: as bytes, of a buffer that was given
    as much of it as was filled, and with an OVERLAPPED the buffer that it comes into. Follows SEMANTICS §7 and §8.

    Raises what the function of the code's name raises, 1 for other codes, 122 (too small a buffer), 234 (there is
    more), 6.
    """
    code = _handles.dword(IoControlCode)
    size = _handles.dword(OutBuffer) if isinstance(OutBuffer, int) else None
    place = memoryview(bytearray(size)) if size is not None else memoryview(OutBuffer or bytearray()).cast("B")
    try:
        count, pending = _run(Device, code, b"" if InBuffer is None else InBuffer, place, Overlapped)
    except error as failure:
        raise make_error(failure.winerror, _FUNCTION) from None
    if Overlapped is not None and pending:
        return place if size is not None else OutBuffer
    if size is not None:
        return place if Overlapped is not None else bytes(place[:count])
    return OutBuffer if OutBuffer is None or count == len(place) else place[:count]


def _run(
    handle: PyHANDLE | int, code: int, given: Any, place: memoryview, overlapped: OVERLAPPED | None
) -> tuple[int, bool]:
    """Return (how much of the buffer was filled, whether that is still to come)."""
    if code == _DISCONNECT:
        _targets.DisconnectNamedPipe(handle)
    elif code == _LISTEN:
        status = _operations.ConnectNamedPipe(handle, overlapped)
        if status == 535:  # ERROR_PIPE_CONNECTED
            raise make_error(status, _FUNCTION)
        return 0, status != 0
    elif code == _IMPERSONATE:
        _targets.ImpersonateNamedPipeClient(handle)
    elif code == _PEEK:
        return _peek(handle, place), False
    elif code == _TRANSCEIVE:
        status, answer = _operations.TransactNamedPipe(handle, given, place, overlapped)
        if status == _MORE_DATA and overlapped is None:
            raise make_error(status, _FUNCTION)
        return len(answer), overlapped is not None
    elif code == _FLUSH:
        _operations.FlushFileBuffers(handle)
    elif code == _WAIT and _handles.handle_kind(handle, _FUNCTION) == "root":
        _wait(bytes(given))
    else:
        _targets.get_pipe_state(handle)  # 6 for what is no pipe
        raise make_error(1, _FUNCTION)
    return 0, False


def _peek(handle: PyHANDLE | int, place: memoryview) -> int:
    """FILE_PIPE_PEEK_BUFFER: state, bytes available, messages (1 where there are any), the first one's length; data."""
    if len(place) < _PEEK_HEADER.size:
        raise make_error(122, _FUNCTION)
    data, available, left = _operations.PeekNamedPipe(handle, len(place) - _PEEK_HEADER.size)
    length = (len(data) + left) & 0xFFFFFFFF
    _PEEK_HEADER.pack_into(place, 0, _CONNECTED, available, int(bool(length)), length)
    place[_PEEK_HEADER.size : _PEEK_HEADER.size + len(data)] = data
    if available > len(data):
        raise make_error(_MORE_DATA, _FUNCTION)
    return _PEEK_HEADER.size + len(data)


def _wait(given: bytes) -> None:
    """FILE_PIPE_WAIT_FOR_BUFFER: a time-out in 100 ns, negative; the name's length in bytes; whether there is one."""
    if len(given) < _WAIT_HEADER.size:
        raise make_error(87, _FUNCTION)
    timeout, length, is_given = _WAIT_HEADER.unpack_from(given)
    name = given[_WAIT_HEADER.size :][:length].decode("utf-16-le", "surrogatepass")
    if len(given) < _WAIT_HEADER.size + length or not name:
        raise make_error(87, _FUNCTION)
    default = 0  # NMPWAIT_USE_DEFAULT_WAIT
    milliseconds = (-1 if timeout == _FOR_EVER else max(1, -timeout // 10_000)) if is_given else default
    wait_named_pipe("\\\\.\\pipe\\" + name, milliseconds, _FUNCTION)
