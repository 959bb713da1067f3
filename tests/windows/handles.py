"""The engine's handles, as the tests use them, over Windows' own: what tests/helpers.py has there."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"

import functools
from typing import TYPE_CHECKING, Any, Self

import pywintypes
import win32file
import win32pipe

from npipe.errors import PipeBusyError, WinError, error_from_code
from npipe.names import parse_name
from npipe.options import as_long, check_timeout
from npipe.transports.native.handles import File, close_file
from npipe.transports.native.pipes import NativeMessagePipe
from npipe.transports.native.transport import TRANSPORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer, WriteableBuffer

_FIRST_INSTANCE = 0x80000
_OVERLAPPED = 0x40000000
# What the engine's bits are as rights: FILE_READ_DATA, WRITE_DATA, READ_ATTRIBUTES, WRITE_ATTRIBUTES. Together they are
# asked for as programs do.
_RIGHTS = {1: 0x1, 2: 0x2, 4: 0x80, 8: 0x100}
_GENERIC = {1 | 4: 0x80000000, 2 | 8: 0x40000000, 15: 0xC0000000}


def _called(call: Callable[[], Any], name: str) -> Any:
    try:
        return call()
    except pywintypes.error as error:
        raise error_from_code(error.winerror, name) from None


class Handle:
    """One overlapped handle and its calls, each of which waits at most for its time-out."""

    file: File
    name: str
    _in_part = False

    @classmethod
    def of(cls, handle: Any, name: str) -> Self:
        made = cls()
        made.file, made.name = File(handle, name), name
        return made

    def adopt(self, other: Handle) -> None:
        self.file, self.name = other.file, other.name

    @classmethod
    def create(
        cls,
        _root: str,
        _folder: str,
        _display: str,
        name: str,
        *,
        access: int,
        first_instance: bool,
        type: int,
        mode: int,
        max_instances: int,
        out_quota: int,
        in_quota: int,
        default_timeout_ms: int,
    ) -> Self:
        flags = access | _OVERLAPPED | (_FIRST_INSTANCE if first_instance else 0)
        nothing: Any = None  # the stubs want a SECURITY_ATTRIBUTES
        most, out_size, in_size, default = map(as_long, (max_instances, out_quota, in_quota, default_timeout_ms))
        handle = _called(
            lambda: win32pipe.CreateNamedPipe(name, flags, type | mode, most, out_size, in_size, default, nothing), name
        )
        return cls.of(handle, name)

    @classmethod
    def open(
        cls,
        _root: str,
        _folder: str,
        _display: str,
        name: str,
        *,
        access: int,
        hold: bool,
        verify_owner: bool,
        timeout: float | None,
    ) -> Self:
        rights = _GENERIC.get(access) or sum(right for bit, right in _RIGHTS.items() if access & bit)
        while True:
            try:
                handle = _called(lambda: win32file.CreateFile(name, rights, 0, None, 3, _OVERLAPPED, None), name)
            except PipeBusyError:
                if not hold:
                    raise
            else:
                return cls.of(handle, name)
            TRANSPORT.wait(parse_name(name), timeout)

    @property
    def closed(self) -> bool:
        return self.file.closed

    def close_handle(self, discard: bool = False, patience: float = 5.0) -> None:
        if self.file.end(patience):
            close_file(self.file, discard=discard)

    def connect(self, timeout: float | None = None) -> int:
        handle = self.file.handle
        return self.file.run(lambda ov: win32pipe.ConnectNamedPipe(handle, ov), timeout, "connecting")[0]

    def disconnect(self) -> None:
        self.file.ask(win32pipe.DisconnectNamedPipe, "disconnecting")

    def write_file(self, data: ReadableBuffer, timeout: float | None = None) -> int:
        handle, content = self.file.handle, bytes(data)
        return self.file.run(lambda ov: win32file.WriteFile(handle, content, ov)[0], timeout, "writing", writing=True)[
            1
        ]

    def read_file(self, size: int, timeout: float | None = None) -> tuple[int, bytes]:
        buffer = bytearray(size)
        code, count = self.read_file_into(buffer, timeout)
        self._in_part = code == WinError.MORE_DATA
        return code, bytes(buffer[:count])

    def rest_of_message(self) -> int:
        return self.peek_pipe()[2] if self._in_part else 0

    def read_file_into(self, buffer: WriteableBuffer, timeout: float | None = None) -> tuple[int, int]:
        handle, view = self.file.handle, memoryview(buffer)
        return self.file.run(lambda ov: win32file.ReadFile(handle, view, ov)[0], check_timeout(timeout), "reading")

    def transact_pipe(self, data: ReadableBuffer, timeout: float | None = None) -> bytes:
        handle, view, content = self.file.handle, memoryview(bytearray(1 << 22)), bytes(data)
        transact: Any = win32pipe.TransactNamedPipe
        count = self.file.run(lambda ov: transact(handle, content, view, ov)[0], timeout, "transacting")[1]
        return bytes(view[:count])

    def peek_pipe(self, size: int = 0) -> tuple[bytes, int, int]:
        data, available, left = self.file.ask(lambda handle: win32pipe.PeekNamedPipe(handle, size), "peeking")
        return data, available, left & 0xFFFFFFFF

    def flush_buffers(self, timeout: float | None = None) -> None:
        self.file.flush(timeout)

    def set_state(self, mode: int) -> None:
        self.file.ask(lambda handle: win32pipe.SetNamedPipeHandleState(handle, mode, None, None), "setting the mode")

    def get_state(self) -> tuple[int, int]:
        mode, instances = self.file.ask(win32pipe.GetNamedPipeHandleState, "asking")[:2]
        return mode, instances

    def get_info(self) -> tuple[int, int, int, int]:
        flags, out_size, in_size, most = self.file.ask(win32pipe.GetNamedPipeInfo, "asking")
        return flags, out_size, in_size, most

    def client_pid(self) -> int:
        pid: int = self.file.ask(win32pipe.GetNamedPipeClientProcessId, "asking")
        return pid

    def server_pid(self) -> int:
        pid: int = self.file.ask(win32pipe.GetNamedPipeServerProcessId, "asking")
        return pid


class MessageHandle(Handle):
    """A handle that reads whole messages: the native transport's pipe on it."""

    @functools.cached_property
    def pipe(self) -> NativeMessagePipe:
        return NativeMessagePipe(self.file, access=3, is_server=False, direction=3)

    @property
    def max_message_size(self) -> int:
        return self.pipe.max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        self.pipe.max_message_size = size

    def send(self, data: ReadableBuffer, *, timeout: float | None = None) -> None:
        self.pipe.send(data, timeout=timeout)

    def recv(self, *, timeout: float | None = None) -> bytes:
        return self.pipe.recv(timeout=timeout)

    def recv_into(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        return self.pipe.recv_into(buffer, timeout=timeout)

    def transact_pipe(self, data: ReadableBuffer, timeout: float | None = None) -> bytes:
        return self.pipe.transact(data, timeout=timeout)

    def peek_pipe(self, size: int = 0) -> tuple[bytes, int, int]:
        return self.pipe.peek(size)

    def rest_of_message(self) -> int:
        return self.pipe.peek().left if self.pipe.more_data else 0


def wait_named_pipe(
    _root: str, _folder: str, _display: str, name: str, timeout: float | None, use_default: bool = False
) -> None:
    """WaitNamedPipe."""
    TRANSPORT.wait(parse_name(name), timeout, use_default=use_default)
