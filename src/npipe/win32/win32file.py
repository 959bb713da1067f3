"""pywin32's `win32file`, as far as pipes go: opening, reading, writing, overlapped results, completion ports.

`CreateFile` opens pipes; ordinary files too, as far as plain reading and writing go. A name that is not here raises
`AttributeError`.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final

from npipe import transports
from npipe import win32_error as _error
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import operations as _operations
from npipe.binding.win32 import overlapped as _overlapped
from npipe.binding.win32 import ports as _ports
from npipe.binding.win32 import targets as _targets
from npipe.binding.win32 import waiting as _waiting
from npipe.errors import PipeError
from npipe.names import is_pipe_root, parse_win32_name
from npipe.win32 import _files, _inheritance, _security
from npipe.win32._offered import _no_such, _offered_by
from npipe.win32_error import make_error, text_of

if TYPE_CHECKING:
    from npipe.binding.win32.handles import PyHANDLE

error = _error.error

GENERIC_READ = -2147483648
GENERIC_WRITE = 1073741824
GENERIC_EXECUTE = 536870912
GENERIC_ALL = 268435456
FILE_GENERIC_READ = 0x120089
FILE_GENERIC_WRITE = 0x120116
FILE_ALL_ACCESS = 0x1F01FF
FILE_READ_DATA = 1
FILE_WRITE_DATA = 2
FILE_APPEND_DATA = 4
FILE_CREATE_PIPE_INSTANCE = 4
FILE_READ_ATTRIBUTES = 0x80
FILE_WRITE_ATTRIBUTES = 0x100
FILE_SHARE_READ = 1
FILE_SHARE_WRITE = 2
FILE_SHARE_DELETE = 4
CREATE_NEW = 1
CREATE_ALWAYS = 2
OPEN_EXISTING = 3
OPEN_ALWAYS = 4
TRUNCATE_EXISTING = 5
FILE_ATTRIBUTE_NORMAL = 0x80
FILE_FLAG_OVERLAPPED = 0x40000000
FILE_FLAG_WRITE_THROUGH = -2147483648
FILE_FLAG_NO_BUFFERING = 0x20000000
FILE_FLAG_RANDOM_ACCESS = 0x10000000
FILE_FLAG_SEQUENTIAL_SCAN = 0x8000000
FILE_FLAG_DELETE_ON_CLOSE = 0x4000000
FILE_FLAG_BACKUP_SEMANTICS = 0x2000000
FILE_FLAG_OPEN_REPARSE_POINT = 0x200000
SECURITY_ANONYMOUS = 0
SECURITY_IDENTIFICATION = 0x10000
SECURITY_IMPERSONATION = 0x20000
SECURITY_DELEGATION = 0x30000
SECURITY_CONTEXT_TRACKING = 0x40000
SECURITY_EFFECTIVE_ONLY = 0x80000
SECURITY_SQOS_PRESENT = 0x100000
FILE_TYPE_UNKNOWN = 0
FILE_TYPE_DISK = 1
FILE_TYPE_CHAR = 2
FILE_TYPE_PIPE = 3
INVALID_HANDLE_VALUE = -1
UNICODE = 1

OVERLAPPED = _overlapped.OVERLAPPED
AllocateReadBuffer: Final = _operations.AllocateReadBuffer
ReadFile: Final = _operations.ReadFile
WriteFile: Final = _operations.WriteFile
FlushFileBuffers: Final = _operations.FlushFileBuffers
CancelIo: Final = _operations.CancelIo
GetOverlappedResult: Final = _waiting.GetOverlappedResult
CreateIoCompletionPort: Final = _ports.CreateIoCompletionPort
GetQueuedCompletionStatus: Final = _ports.GetQueuedCompletionStatus
PostQueuedCompletionStatus: Final = _ports.PostQueuedCompletionStatus

_READ = 0x80000000 | 0x10000000 | 1  # GENERIC_READ, GENERIC_ALL, FILE_READ_DATA
_WRITE = 0x40000000 | 0x10000000 | 2
_WRITE_ATTRIBUTES = 0x40000000 | 0x10000000 | 0x100


def CreateFile(
    FileName: str,
    DesiredAccess: int,
    ShareMode: int,
    SecurityAttributes: object,
    CreationDisposition: int,
    FlagsAndAttributes: int,
    TemplateFile: object = None,
    /,
) -> PyHANDLE:
    r"""CreateFile: open a pipe (SEMANTICS §2.5), or a file.

    Raises 2 (no such pipe), 231 (no instance listens, or the server does not answer within a second: its process is
    stopped), 1450 (it has no memory for the connection), 5 (direction or access rule), 87 (the disposition), 3, 123.
    """
    return _create_file(
        "CreateFile",
        text_of(FileName),
        (DesiredAccess, ShareMode, CreationDisposition, FlagsAndAttributes),
        SecurityAttributes,
        TemplateFile,
    )


def CreateFileW(
    FileName: str,
    DesiredAccess: int,
    ShareMode: int,
    SecurityAttributes: object,
    CreationDisposition: int,
    FlagsAndAttributes: int,
    TemplateFile: object = None,
    Transacted: None = None,
    MiniVersion: None = None,
    ExtendedParameters: None = None,
) -> PyHANDLE:
    r"""CreateFileW: CreateFile, with keywords; there are no transactions here."""
    if Transacted is not None or MiniVersion is not None or ExtendedParameters is not None:
        raise NotImplementedError("CreateFileTransacted is not available on this platform")
    return _create_file(
        "CreateFileW",
        text_of(FileName),
        (DesiredAccess, ShareMode, CreationDisposition, FlagsAndAttributes),
        SecurityAttributes,
        TemplateFile,
    )


def _open_for_call(name: str, patience: float) -> PyHANDLE:
    """CreateFile for CallNamedPipe: a server that is silent for `patience` seconds is busy."""
    access = GENERIC_READ | GENERIC_WRITE
    return _create_file("CreateFile", name, (access, 0, OPEN_EXISTING, 0), None, None, patience)


def _create_file(
    function: str,
    FileName: str,
    numbers: tuple[int, int, int, int],
    attributes: object,
    template: object,
    patience: float | None = None,
) -> PyHANDLE:
    access, _share, disposition, flags = (operator.index(number) & 0xFFFFFFFF for number in numbers)
    if attributes is not None and not isinstance(attributes, _security.SECURITY_ATTRIBUTES):
        raise TypeError("The object is not a PySECURITY_ATTRIBUTES object")
    _handles.PyHANDLE(template).Detach()  # only whether it is one
    if not FileName:
        raise make_error(3, function)
    if not CREATE_NEW <= disposition <= TRUNCATE_EXISTING:
        raise make_error(87, function)
    overlapped = bool(flags & FILE_FLAG_OVERLAPPED)
    if is_pipe_root(FileName):
        return _targets.file_handle("root", None, overlapped)
    if not _is_device(FileName):
        reads, writes = bool(access & _READ), bool(access & _WRITE)
        file = _files.open_file(FileName, reads=reads, writes=writes, disposition=disposition, flags=flags)
        return _targets.file_handle("file", file, overlapped)
    try:
        name = parse_win32_name(FileName)
    except PipeError as failure:
        raise make_error(failure.winerror or 123, function) from None
    if name.host is not None:
        raise make_error(53, function)
    wanted = 4  # FILE_READ_ATTRIBUTES comes with every handle
    wanted |= 1 if access & _READ else 0
    wanted |= 2 if access & _WRITE else 0
    wanted |= 8 if access & _WRITE_ATTRIBUTES else 0
    result = _targets.open_pipe(
        *transports.select(name).place(name),
        name.path,
        access=wanted,
        overlapped=overlapped,
        patience=patience,
    )
    if isinstance(result, int):
        raise make_error(result, function)
    return _inheritance.mark(result, attributes)


def _is_device(name: str) -> bool:
    return name.replace("/", "\\").startswith(("\\\\", "\\??\\"))


def CloseHandle(handle: PyHANDLE | int, /) -> None:
    """CloseHandle; raises 6."""
    _handles.close_handle(handle)


def GetFileType(hFile: PyHANDLE | int, /) -> int:
    """GetFileType: 3 (FILE_TYPE_PIPE) for both ends of a pipe, 0 (FILE_TYPE_UNKNOWN) for what is no file."""
    try:
        kind = _handles.handle_kind(hFile, "GetFileType")
    except error:
        return FILE_TYPE_UNKNOWN
    return {"pipe": FILE_TYPE_PIPE, "root": FILE_TYPE_PIPE, "file": FILE_TYPE_DISK}.get(kind, FILE_TYPE_UNKNOWN)


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("win32file", name)


del annotations, TYPE_CHECKING
