r"""CreateFile, on pipes, files and `\\.\pipe\` itself; and WaitNamedPipe."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final

from npipe import transports
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import targets as _targets
from npipe.errors import PipeError
from npipe.names import is_pipe_root, parse_win32_name
from npipe.win32 import _files, _inheritance, _object_security, _remote, _security
from npipe.win32._paths import is_device, local_path
from npipe.win32_error import make_error, text_of

if TYPE_CHECKING:
    from npipe.binding.win32.handles import PyHANDLE
    from npipe.names import PipeName

__all__ = ["create_file", "wait_named_pipe"]

_FILE_FLAG_OVERLAPPED: Final = 0x40000000
_CREATE_NEW: Final = 1
_TRUNCATE_EXISTING: Final = 5
_READ: Final = 0x80000000 | 0x10000000 | 1  # GENERIC_READ, GENERIC_ALL, FILE_READ_DATA
_WRITE: Final = 0x40000000 | 0x10000000 | 2
_WRITE_ATTRIBUTES: Final = 0x40000000 | 0x10000000 | 0x100


def create_file(
    function: str,
    name: str,
    numbers: tuple[int, int, int, int],
    attributes: object = None,
    template: object = None,
    patience: float | None = None,
) -> PyHANDLE:
    """CreateFile with (access, sharing, disposition, flags), for `function`.

    A server that is silent for `patience` seconds (1 at most) is busy.
    """
    access, _share, disposition, flags = (operator.index(number) & 0xFFFFFFFF for number in numbers)
    if attributes is not None and not isinstance(attributes, _security.SECURITY_ATTRIBUTES):
        raise TypeError("The object is not a PySECURITY_ATTRIBUTES object")
    _handles.PyHANDLE(template).Detach()  # only whether it is one
    if not name:
        raise make_error(3, function)
    if not _CREATE_NEW <= disposition <= _TRUNCATE_EXISTING:
        raise make_error(87, function)
    overlapped = bool(flags & _FILE_FLAG_OVERLAPPED)
    if is_pipe_root(name):
        return _targets.file_handle("root", None, overlapped)
    if not is_device(name):
        reads, writes = bool(access & _READ), bool(access & _WRITE)
        path = local_path(name, function)
        file = _files.open_file(path, reads=reads, writes=writes, disposition=disposition, flags=flags)
        return _inheritance.mark(_targets.file_handle("file", file, overlapped), attributes)
    return _inheritance.mark(_open_pipe(function, name, access, overlapped, patience), attributes)


def _open_pipe(function: str, text: str, access: int, overlapped: bool, patience: float | None) -> PyHANDLE:
    try:
        name = parse_win32_name(text)
    except PipeError as failure:
        raise make_error(failure.winerror or 123, function) from None
    if name.host is not None:

        def open_local(near: PipeName) -> PyHANDLE:
            return _open_pipe(function, near.path, access, overlapped, patience)

        reads, writes = bool(access & _READ), bool(access & _WRITE)
        return _remote.open_remote(function, name, reads=reads, writes=writes, open_local=open_local)
    wanted = 4  # FILE_READ_ATTRIBUTES comes with every handle
    wanted |= 1 if access & _READ else 0
    wanted |= 2 if access & _WRITE else 0
    wanted |= 8 if access & _WRITE_ATTRIBUTES else 0
    root, folder, display = transports.select(name).place(name)
    result = _targets.open_pipe(
        root,
        folder,
        display,
        name.path,
        access=wanted,
        overlapped=overlapped,
        patience=patience,
    )
    if isinstance(result, int):
        raise make_error(result, function)
    _object_security.note_client(result, (root, folder), access)
    return result


def wait_named_pipe(text: object, timeout: int, function: str) -> None:
    """WaitNamedPipe, for `function`."""
    milliseconds = _handles.dword(timeout)
    try:
        name = parse_win32_name(text_of(text))
    except PipeError:
        raise make_error(161, function) from None
    if name.host is not None:
        _remote.wait_remote(function, name, milliseconds)
        return
    code = _targets.wait_for_pipe(*transports.select(name).place(name), milliseconds)
    if code:
        raise make_error(code, function)
