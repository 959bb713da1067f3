"""pywin32's `win32file`: opening, reading, writing, overlapped results, completion ports; and files by their names.

`CreateFile` opens pipes; ordinary files too, as far as plain reading and writing go. Sockets, serial lines, volumes and
NTFS's own are not here. A name that is not here raises `AttributeError`.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from npipe import win32_error as _error
from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import operations as _operations
from npipe.binding.win32 import overlapped as _overlapped
from npipe.binding.win32 import ports as _ports
from npipe.binding.win32 import targets as _targets
from npipe.binding.win32 import waiting as _waiting
from npipe.win32 import (
    _descriptors,
    _device,
    _file_functions,
    _files,
    _handle_files,
    _opening,
)
from npipe.win32._offered import _no_such, _offered_by
from npipe.win32_error import text_of

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
FILE_ATTRIBUTE_READONLY = 0x1
FILE_ATTRIBUTE_HIDDEN = 0x2
FILE_ATTRIBUTE_SYSTEM = 0x4
FILE_ATTRIBUTE_DIRECTORY = 0x10
FILE_ATTRIBUTE_ARCHIVE = 0x20
FILE_ATTRIBUTE_NORMAL = 0x80
FILE_ATTRIBUTE_TEMPORARY = 0x100
FILE_ATTRIBUTE_COMPRESSED = 0x800
FILE_ATTRIBUTE_OFFLINE = 0x1000
FILE_FLAG_OVERLAPPED = 0x40000000
FILE_FLAG_WRITE_THROUGH = -2147483648
FILE_FLAG_NO_BUFFERING = 0x20000000
FILE_FLAG_RANDOM_ACCESS = 0x10000000
FILE_FLAG_SEQUENTIAL_SCAN = 0x8000000
FILE_FLAG_DELETE_ON_CLOSE = 0x4000000
FILE_FLAG_BACKUP_SEMANTICS = 0x2000000
FILE_FLAG_POSIX_SEMANTICS = 0x1000000
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
FILE_BEGIN = 0
FILE_CURRENT = 1
FILE_END = 2
MOVEFILE_REPLACE_EXISTING = 0x1
MOVEFILE_COPY_ALLOWED = 0x2
MOVEFILE_DELAY_UNTIL_REBOOT = 0x4
MOVEFILE_WRITE_THROUGH = 0x8
MOVEFILE_CREATE_HARDLINK = 0x10
MOVEFILE_FAIL_IF_NOT_TRACKABLE = 0x20
DRIVE_UNKNOWN = 0
DRIVE_NO_ROOT_DIR = 1
DRIVE_REMOVABLE = 2
DRIVE_FIXED = 3
DRIVE_REMOTE = 4
DRIVE_CDROM = 5
DRIVE_RAMDISK = 6
GetFileExInfoStandard = 0
FileBasicInfo = 0
FileStandardInfo = 1
FileNameInfo = 2
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

CopyFile: Final = _file_functions.CopyFile
CopyFileW: Final = _file_functions.CopyFile
CreateDirectory: Final = _file_functions.CreateDirectory
CreateDirectoryW: Final = _file_functions.CreateDirectory
DeleteFile: Final = _file_functions.DeleteFile
DeleteFileW: Final = _file_functions.DeleteFileW
FindFilesIterator: Final = _file_functions.FindFilesIterator
FindFilesW: Final = _file_functions.FindFilesW
GetFileAttributes: Final = _file_functions.GetFileAttributes
GetFileAttributesW: Final = _file_functions.GetFileAttributes
GetFileAttributesEx: Final = _file_functions.GetFileAttributesEx
GetFileAttributesExW: Final = _file_functions.GetFileAttributesEx
GetFullPathName: Final = _file_functions.GetFullPathName
GetLongPathName: Final = _file_functions.GetLongPathName
MoveFile: Final = _file_functions.MoveFile
MoveFileW: Final = _file_functions.MoveFile
MoveFileEx: Final = _file_functions.MoveFileEx
MoveFileExW: Final = _file_functions.MoveFileEx
RemoveDirectory: Final = _file_functions.RemoveDirectory
SetFileAttributes: Final = _file_functions.SetFileAttributes
SetFileAttributesW: Final = _file_functions.SetFileAttributesW

GetFileInformationByHandle: Final = _handle_files.GetFileInformationByHandle
GetFileInformationByHandleEx: Final = _handle_files.GetFileInformationByHandleEx
GetFileSize: Final = _handle_files.GetFileSize
GetFileTime: Final = _handle_files.GetFileTime
GetFinalPathNameByHandle: Final = _handle_files.GetFinalPathNameByHandle
SetEndOfFile: Final = _handle_files.SetEndOfFile
SetFilePointer: Final = _handle_files.SetFilePointer
SetFileTime: Final = _handle_files.SetFileTime

DeviceIoControl: Final = _device.DeviceIoControl


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
    return _opening.create_file(
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
    Transaction: None = None,
    MiniVersion: None = None,
    ExtendedParameter: None = None,
) -> PyHANDLE:
    r"""CreateFileW: CreateFile, with keywords; there are no transactions here."""
    if Transaction is not None or MiniVersion is not None or ExtendedParameter is not None:
        raise NotImplementedError("CreateFileTransacted is not available on this platform")
    return _opening.create_file(
        "CreateFileW",
        text_of(FileName),
        (DesiredAccess, ShareMode, CreationDisposition, FlagsAndAttributes),
        SecurityAttributes,
        TemplateFile,
    )


def CloseHandle(handle: PyHANDLE | int, /) -> None:
    """CloseHandle; raises 6."""
    _handles.close_handle(handle)


def GetFileType(hFile: PyHANDLE | int, /) -> int:
    """GetFileType: FILE_TYPE_PIPE for both ends of a pipe, FILE_TYPE_UNKNOWN for what is no file."""
    try:
        kind = _handles.handle_kind(hFile, "GetFileType")
    except error:
        return FILE_TYPE_UNKNOWN
    if kind == "file":
        file: _files.File = _targets.file_of(hFile, "file", "GetFileType")
        return file.file_type
    return {"pipe": FILE_TYPE_PIPE, "root": FILE_TYPE_PIPE}.get(kind, FILE_TYPE_UNKNOWN)


def _open_osfhandle(osfhandle: PyHANDLE | int, flags: int, /) -> int:
    """Return a descriptor in the place of a handle, which ends: of a file, or of an end of CreatePipe's.

    Raises 50 and 231, with the reason, for a pipe's handle that can have none, 6.
    """
    del flags
    return _descriptors.take_descriptor(osfhandle, "_open_osfhandle")


def _get_osfhandle(fd: int, /) -> int:
    """Return the number of a handle of a descriptor, which stays the descriptor's owner's; raises OSError EBADF."""
    return _descriptors.as_handle(fd).Detach()


if not TYPE_CHECKING:
    __all__ = _offered_by(globals())

    def __getattr__(name: str) -> object:
        raise _no_such("win32file", name)


del annotations, TYPE_CHECKING
