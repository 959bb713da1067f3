from collections.abc import Callable
from typing import Any

from npipe.binding.win32.handles import PyHANDLE, _AnyHandle

def file_handle(kind: str, file: object, overlapped: bool) -> PyHANDLE: ...

class PipeTarget:
    name: str
    handles: int
    partner: Any
    security: Any
    rights: int | None

def following_handle(kind: str, file: object, fd: int, function: str) -> PyHANDLE: ...
def set_pipe_rule(
    handle: object, everyone: bool, uids: tuple[int, ...], gids: tuple[int, ...], allowed: int, function: str
) -> None: ...
def pipe_target(handle: object, function: str) -> PipeTarget: ...
def tee(source: int, target: int, size: int) -> int: ...
def become_files(
    reader: PipeTarget, writer: PipeTarget, make: Callable[[bytes], tuple[object, object]], function: str
) -> None: ...
def file_of(handle: object, kind: str, function: str) -> Any: ...
def create_pipe_instance(
    root: str,
    folder: str,
    display: str,
    name: str,
    *,
    open_mode: int,
    type: int,
    mode: int,
    max_instances: int,
    out_quota: int,
    in_quota: int,
    default_timeout_ms: int,
    everyone: bool,
    uids: tuple[int, ...],
    gids: tuple[int, ...],
    allowed: int,
) -> PyHANDLE | int: ...
def open_pipe(
    root: str,
    folder: str,
    display: str,
    name: str,
    *,
    access: int,
    overlapped: bool,
    patience: float | None = None,
) -> PyHANDLE | int: ...
def wait_for_pipe(root: str, folder: str, display: str, timeout_ms: int) -> int: ...
def DisconnectNamedPipe(hPipe: _AnyHandle) -> None: ...
def set_pipe_state(handle: _AnyHandle, mode: int) -> None: ...
def get_pipe_state(handle: _AnyHandle) -> tuple[int, int]: ...
def GetNamedPipeInfo(hPipe: _AnyHandle) -> list[int]: ...
def GetNamedPipeClientProcessId(hPipe: _AnyHandle) -> int: ...
def GetNamedPipeServerProcessId(hPipe: _AnyHandle) -> int: ...
def pipe_peer(handle: _AnyHandle, function: str) -> tuple[bool, bool, bool, int, int]: ...
def ImpersonateNamedPipeClient(handle: object) -> None: ...
