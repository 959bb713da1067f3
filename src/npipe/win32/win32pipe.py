"""pywin32's `win32pipe`: all of it, and the ids that kernel32 has beside it."""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import os
import pwd
import sys
import time
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from npipe import transports
from npipe import win32_error as _error
from npipe._buffers import view_of
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import operations as _operations
from npipe.binding.win32 import targets as _targets
from npipe.binding.win32 import waiting as _waiting
from npipe.errors import PipeError
from npipe.names import parse_win32_name
from npipe.peers import NOBODY_HERE, remote_peer
from npipe.win32 import _descriptors, _inheritance, _object_security, _opening
from npipe.win32._access import access_rule
from npipe.win32._offered import _no_such, _offered_by
from npipe.win32_error import make_error, text_of

if TYPE_CHECKING:
    from npipe._buffers import ReadableBuffer
    from npipe.binding.win32.handles import PyHANDLE
    from npipe.names import PipeName

error = _error.error

PIPE_ACCESS_INBOUND = 1
PIPE_ACCESS_OUTBOUND = 2
PIPE_ACCESS_DUPLEX = 3
FILE_FLAG_FIRST_PIPE_INSTANCE = 0x80000
FILE_FLAG_OVERLAPPED = 0x40000000
FILE_FLAG_WRITE_THROUGH = -2147483648
PIPE_TYPE_BYTE = 0
PIPE_TYPE_MESSAGE = 4
PIPE_READMODE_BYTE = 0
PIPE_READMODE_MESSAGE = 2
PIPE_WAIT = 0
PIPE_NOWAIT = 1
PIPE_ACCEPT_REMOTE_CLIENTS = 0
PIPE_REJECT_REMOTE_CLIENTS = 8
PIPE_CLIENT_END = 0
PIPE_SERVER_END = 1
PIPE_UNLIMITED_INSTANCES = 255
UNICODE = 1
NMPWAIT_NOWAIT = 1
NMPWAIT_USE_DEFAULT_WAIT = 0
NMPWAIT_WAIT_FOREVER = -1

# Direction, first instance (WRITE_OWNER), overlapped, write-through, other rights.
_OPEN_MODE_BITS = 0xC10C0003 | 0x40000
_PIPE_MODE_BITS = 0xF
_O_TEXT = 0x4000
_O_BINARY = 0x8000
_MOST_INSTANCES = 255
_CREATE = "CreateNamedPipe"
_WRITE = 0x40000000
_READ_WRITE = 0xC0000000
_OPEN_EXISTING = 3

ConnectNamedPipe: Final = _operations.ConnectNamedPipe
DisconnectNamedPipe: Final = _targets.DisconnectNamedPipe
PeekNamedPipe: Final = _operations.PeekNamedPipe
TransactNamedPipe: Final = _operations.TransactNamedPipe
GetOverlappedResult: Final = _waiting.GetOverlappedResult
GetNamedPipeInfo: Final = _targets.GetNamedPipeInfo
GetNamedPipeClientProcessId: Final = _targets.GetNamedPipeClientProcessId
GetNamedPipeServerProcessId: Final = _targets.GetNamedPipeServerProcessId


def _name(text: object, function: str) -> PipeName:
    try:
        name = parse_win32_name(text_of(text))
    except PipeError as failure:
        raise make_error(failure.winerror or 123, function) from None
    return name


def CreateNamedPipe(
    pipeName: str,
    openMode: int,
    pipeMode: int,
    nMaxInstances: int,
    nOutBufferSize: int,
    nInBufferSize: int,
    nDefaultTimeOut: int,
    sa: object,
    /,
) -> PyHANDLE:
    """CreateNamedPipe: a new, listening instance (SEMANTICS §2). `sa` None: only this user may connect.

    Raises 87 (bits, instances), 123 or 3 (the name), 231 (the limit), 5 (first instance or direction).
    """
    open_mode, pipe_mode = _handles.dword(openMode), _handles.dword(pipeMode)
    most, default_timeout = _handles.dword(nMaxInstances), _handles.dword(nDefaultTimeOut)
    out_quota, in_quota = _handles.dword(nOutBufferSize), _handles.dword(nInBufferSize)
    rule = access_rule(sa, open_mode & PIPE_ACCESS_DUPLEX)
    name = _name(pipeName, _CREATE)
    if name.host is not None:
        raise make_error(123, _CREATE)
    wrong = open_mode & PIPE_ACCESS_DUPLEX == 0 or open_mode & ~_OPEN_MODE_BITS or pipe_mode & ~_PIPE_MODE_BITS
    wrong = wrong or (pipe_mode & PIPE_READMODE_MESSAGE and not pipe_mode & PIPE_TYPE_MESSAGE)
    if wrong or not 1 <= most <= _MOST_INSTANCES:
        raise make_error(87, _CREATE)
    root, folder, display = transports.select(name).place(name)
    result = _targets.create_pipe_instance(
        root,
        folder,
        display,
        name.path,
        open_mode=open_mode,
        type=pipe_mode & PIPE_TYPE_MESSAGE,
        mode=pipe_mode & (PIPE_READMODE_MESSAGE | PIPE_NOWAIT),
        max_instances=most,
        out_quota=out_quota,
        in_quota=in_quota,
        default_timeout_ms=default_timeout,
        everyone=rule.everyone,
        uids=rule.uids,
        gids=rule.gids,
        allowed=rule.access,
    )
    if isinstance(result, int):
        raise make_error(result, _CREATE)
    _object_security.note_instance(result, (root, folder), sa, open_mode)
    return _inheritance.mark(result, sa)


def WaitNamedPipe(pipeName: str, timeout: int, /) -> None:
    """WaitNamedPipe: until an instance listens, at most `timeout` milliseconds (SEMANTICS §4).

    0 (NMPWAIT_USE_DEFAULT_WAIT) is the pipe's own time-out, -1 (NMPWAIT_WAIT_FOREVER) none. Raises 121 (the time is
    over), 2 (no such pipe), 161 (not a pipe's name).
    """
    _opening.wait_named_pipe(pipeName, timeout, "WaitNamedPipe")


def CallNamedPipe(pipeName: str, data: ReadableBuffer, bufSize: int, timeOut: int, /) -> bytes:
    """CallNamedPipe: open, transact, close; the reply, at most `bufSize` bytes (SEMANTICS §8.3).

    Raises 2, 231 (no instance came free within `timeOut` milliseconds), 5, 87 (a byte pipe), 234 (a longer reply: its
    rest is lost), 109 and 233 (no reply).
    """
    code, reply = _call_named_pipe(pipeName, data, bufSize, timeOut)
    if code:
        raise make_error(code, "CallNamedPipe")
    return reply


def _call_named_pipe(pipeName: str, data: ReadableBuffer, bufSize: int, timeOut: int) -> tuple[int, bytes]:
    """CallNamedPipe: (0 or 234, the reply as far as there is room for it)."""
    size, timeout = _handles.dword(bufSize), _handles.dword(timeOut)
    if data is None:
        raise TypeError("Buffer cannot be None")
    try:
        view_of(data)
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not '{type(data).__name__}'") from None
    text_of(pipeName)
    began = time.monotonic()
    bounded = timeout not in (_handles.dword(NMPWAIT_USE_DEFAULT_WAIT), _handles.dword(NMPWAIT_WAIT_FOREVER))
    patience = min(_PATIENCE, max(_LEAST_PATIENCE, timeout / 1000)) if bounded else _PATIENCE
    try:
        handle = _open_for_call(pipeName, patience)
    except error as busy:
        left = timeout - int((time.monotonic() - began) * 1000) if bounded else timeout
        if busy.winerror == 2 or (bounded and left <= 0):  # ERROR_FILE_NOT_FOUND
            raise
        try:
            WaitNamedPipe(pipeName, left)
        except error as in_vain:
            if in_vain.winerror == 50:  # ERROR_NOT_SUPPORTED: the pipe's host has no wait (Samba)
                raise make_error(busy.winerror, "CallNamedPipe") from None
            if in_vain.winerror != 121:  # ERROR_SEM_TIMEOUT
                raise make_error(in_vain.winerror, "CallNamedPipe") from None
        if bounded:
            patience = min(_PATIENCE, max(_LEAST_PATIENCE, began + timeout / 1000 - time.monotonic()))
        handle = _open_for_call(pipeName, patience)
    try:
        _targets.set_pipe_state(handle, PIPE_READMODE_MESSAGE)
        code, reply = TransactNamedPipe(handle, data, size, None)
    except error as failure:
        raise make_error(failure.winerror, "CallNamedPipe") from None
    finally:
        _handles.close_handle(handle)
    return code, reply


_PATIENCE = 1.0
"""Seconds for a server that does not answer, where no time is given: the engine's own bound."""

_LEAST_PATIENCE = 0.05  # as what a WaitNamedPipe gives the question at least


def _open_for_call(name: str, patience: float) -> PyHANDLE:
    return _opening.create_file("CallNamedPipe", name, (_READ_WRITE, 0, _OPEN_EXISTING, 0), patience=patience)


def SetNamedPipeHandleState(
    hPipe: PyHANDLE | int, Mode: int | None, MaxCollectionCount: int | None, CollectDataTimeout: int | None, /
) -> None:
    """SetNamedPipeHandleState: read mode and wait mode; the others are for pipes of other machines (SEMANTICS §9.1).

    Raises 87 (other bits, message reads of a byte pipe, collection parameters), 5 (no FILE_WRITE_ATTRIBUTES), 231
    (PIPE_NOWAIT while something is pending), 233, 6.
    """
    given = {"mode": Mode, "maxCollectionCount": MaxCollectionCount, "collectDataTimeout": CollectDataTimeout}
    for what, value in given.items():
        if value is not None and not isinstance(value, int):
            raise TypeError(f"{what} param must be None or an integer (got {type(value).__name__})")
    if MaxCollectionCount is not None or CollectDataTimeout is not None:
        _handles.handle_kind(hPipe, "SetNamedPipeHandleState")
        raise make_error(87, "SetNamedPipeHandleState")
    if Mode is not None:
        _targets.set_pipe_state(hPipe, _handles.dword(Mode))


def GetNamedPipeHandleState(
    hPipe: PyHANDLE | int, bGetCollectionData: int = False, bGetUserName: int = False, /
) -> tuple[int, int, int | None, int | None, str]:
    """GetNamedPipeHandleState: (modes, instances, None, None, the client's user if asked for) (SEMANTICS §9.2).

    Raises 87 (collection data, or a user's name at a client's end), 1368 (no client, nothing read of it yet, or one
    of another machine that another process has taken in), 5 (no FILE_READ_ATTRIBUTES), 233 (a disconnected client), 6.
    """
    wants_collection, wants_user = _handles.dword(bGetCollectionData), _handles.dword(bGetUserName)
    mode, instances = _targets.get_pipe_state(hPipe)
    if wants_collection:
        raise make_error(87, "GetNamedPipeHandleState")
    user = ""
    if wants_user:
        is_server, connected, has_read, _pid, uid = _targets.pipe_peer(hPipe, "GetNamedPipeHandleState")
        if not is_server:
            raise make_error(87, "GetNamedPipeHandleState")
        if not connected or not has_read:
            raise make_error(1368, "GetNamedPipeHandleState")
        remote = _targets.pipe_remote(hPipe, "GetNamedPipeHandleState")
        if remote is None and uid == NOBODY_HERE:  # only the process that took it in knows who it is
            raise make_error(1368, "GetNamedPipeHandleState")
        user = _user_name(uid) if remote is None else remote_peer(remote).user or ""
    return mode, instances, None, None, user


def _user_name(uid: int) -> str:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def CreatePipe(sa: object, nSize: int, /) -> tuple[PyHANDLE, PyHANDLE]:
    """CreatePipe: (the end to read from, the end to write to) of a nameless byte pipe of `nSize` bytes (0: 4096).

    Where a descriptor is needed (a child's standard stream, `win32file._open_osfhandle`) both ends become a pipe of the
    system, with what is unread in it; its size is the system's then.
    """
    name = rf"\\.\pipe\npipe.anonymous.{os.getpid()}.{uuid4().hex}"
    size = _handles.dword(nSize) or 4096
    reader = CreateNamedPipe(
        name, PIPE_ACCESS_INBOUND | FILE_FLAG_FIRST_PIPE_INSTANCE, PIPE_TYPE_BYTE, 1, size, size, 120_000, sa
    )
    # The writer's attributes say nothing but whether it is inherited: who may connect is the reader's business.
    writer = _opening.create_file("CreatePipe", name, (_WRITE, 0, _OPEN_EXISTING, 0))
    _descriptors.couple(reader, writer)
    return reader, _inheritance.mark(writer, sa)


def FdCreatePipe(sa: object, nSize: int, mode: int, /) -> tuple[int, int]:
    """CreatePipe as file descriptors: an ordinary pipe of the system. O_TEXT changes nothing here."""
    del nSize
    if mode not in (_O_TEXT, _O_BINARY):
        raise ValueError("mode must be O_TEXT or O_BINARY")
    ends = os.pipe()
    for end in ends:
        os.set_inheritable(end, bool(getattr(sa, "bInheritHandle", False)))
    return ends


def _popen(*_: object) -> object:
    """Not implemented in pywin32 since Python 3."""
    raise NotImplementedError("not available in py3k")


popen: Final = _popen
popen2: Final = _popen
popen3: Final = _popen
popen4: Final = _popen


def GetNamedPipeClientSessionId(hPipe: PyHANDLE | int, /) -> int:
    """GetNamedPipeClientSessionId: the session (setsid) that the client's process is in (SEMANTICS §11)."""
    return _session(GetNamedPipeClientProcessId(hPipe), "GetNamedPipeClientSessionId")


def GetNamedPipeServerSessionId(hPipe: PyHANDLE | int, /) -> int:
    """GetNamedPipeServerSessionId: the session (setsid) that the server's process is in (SEMANTICS §11)."""
    return _session(GetNamedPipeServerProcessId(hPipe), "GetNamedPipeServerSessionId")


def _session(pid: int, function: str) -> int:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    try:
        return os.getsid(pid)
    except OSError:
        raise make_error(1168, function) from None


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("win32pipe", name)


del annotations, TYPE_CHECKING
