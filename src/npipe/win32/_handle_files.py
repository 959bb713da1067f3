"""What win32file asks of open files and pipes by their handles: sizes, positions, times."""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import datetime as dt
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import operations as _operations
from npipe.binding.win32 import targets as _targets
from npipe.win32._file_functions import facts_of
from npipe.win32_error import error, make_error

if TYPE_CHECKING:
    from npipe.binding.win32.handles import PyHANDLE
    from npipe.win32._files import File

__all__ = [
    "GetFileInformationByHandle",
    "GetFileInformationByHandleEx",
    "GetFileSize",
    "GetFileTime",
    "GetFinalPathNameByHandle",
    "SetEndOfFile",
    "SetFilePointer",
    "SetFileTime",
]

_WHENCE: Final = {0: os.SEEK_SET, 1: os.SEEK_CUR, 2: os.SEEK_END}
_FILE_BASIC_INFO: Final = 0
_FILE_STANDARD_INFO: Final = 1
_FILE_NAME_INFO: Final = 2


def _file(handle: Any, function: str) -> File:
    """Return an ordinary file; raises 1 for a pipe, 6 for what is no file."""
    if _handles.handle_kind(handle, function) in ("pipe", "root"):
        raise make_error(1, function)
    file: File = _targets.file_of(handle, "file", function)
    return file


def GetFileSize(handle: PyHANDLE | int, /) -> int:
    """GetFileSize: of a file; of a pipe how many bytes are there to be read. Raises 6."""
    if _handles.handle_kind(handle, "GetFileSize") == "pipe":
        try:
            return _operations.PeekNamedPipe(handle, 0)[1]
        except error:
            return 0  # nobody is connected
    return os.fstat(_file(handle, "GetFileSize").descriptor).st_size


def SetFilePointer(handle: PyHANDLE | int, offset: int, moveMethod: int, /) -> int:
    """SetFilePointer: the new position. Raises 1 (a pipe), 87, 131 (before the file's beginning), 6."""
    file = _file(handle, "SetFilePointer")
    if moveMethod not in _WHENCE:
        raise make_error(87, "SetFilePointer")
    try:
        return os.lseek(file.descriptor, offset, _WHENCE[moveMethod])
    except OSError as failure:
        raise make_error(131 if stat.S_ISREG(os.fstat(file.descriptor).st_mode) else 1, "SetFilePointer") from failure


def SetEndOfFile(hFile: PyHANDLE | int, /) -> None:
    """SetEndOfFile: at the file's position. Raises 1 (a pipe), 5, 6."""
    file = _file(hFile, "SetEndOfFile")
    try:
        os.ftruncate(file.descriptor, os.lseek(file.descriptor, 0, os.SEEK_CUR))
    except OSError as failure:
        raise make_error(5, "SetEndOfFile") from failure


def GetFileTime(
    handle: PyHANDLE | int, creationTime: object = None, accessTime: object = None, writeTime: object = None, /
) -> tuple[dt.datetime, dt.datetime, dt.datetime]:
    """GetFileTime: (creation, access, writing), in UTC; the creation's is not kept, and is the last writing's."""
    del creationTime, accessTime, writeTime
    return facts_of(os.fstat(_file(handle, "GetFileTime").descriptor))[1:4]


def SetFileTime(
    File: PyHANDLE | int,
    CreationTime: dt.datetime | None = None,
    LastAccessTime: dt.datetime | None = None,
    LastWriteTime: dt.datetime | None = None,
    UTCTimes: object = False,
) -> None:
    """SetFileTime: access and writing; the creation's is not kept. None: it stays as it is. Raises 1 (a pipe), 5, 6."""
    del UTCTimes
    for when in (CreationTime, LastAccessTime, LastWriteTime):
        if when is not None and not isinstance(when, dt.datetime):
            raise TypeError(f"must be a pywintypes time object (got {type(when).__name__})")
    descriptor = _file(File, "SetFileTime").descriptor
    before = os.fstat(descriptor)
    accessed = before.st_atime_ns if LastAccessTime is None else _nanoseconds(LastAccessTime)
    written = before.st_mtime_ns if LastWriteTime is None else _nanoseconds(LastWriteTime)
    try:
        os.utime(descriptor, ns=(accessed, written))
    except OSError as failure:
        raise make_error(5, "SetFileTime") from failure


def _nanoseconds(when: dt.datetime) -> int:
    since = when.astimezone(dt.UTC) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since // dt.timedelta(milliseconds=1)) * 1_000_000


def GetFileInformationByHandle(
    handle: PyHANDLE | int, /
) -> tuple[int, dt.datetime, dt.datetime, dt.datetime, int, int, int, int, int, int]:
    """GetFileInformationByHandle of a file.

    It is (attributes, times of creation, access and writing, volume, size / 2**32, size % 2**32, links, index / 2**32,
    index % 2**32). Raises 1 (a pipe), 6.
    """
    status = os.fstat(_file(handle, "GetFileInformationByHandle").descriptor)
    attributes, created, accessed, written, size = facts_of(status)
    volume = status.st_dev & 0xFFFFFFFF
    high, low = status.st_ino >> 32, status.st_ino & 0xFFFFFFFF
    return attributes, created, accessed, written, volume, size >> 32, size & 0xFFFFFFFF, status.st_nlink, high, low


def GetFileInformationByHandleEx(File: PyHANDLE | int, FileInformationClass: int) -> Any:
    """GetFileInformationByHandleEx: FileBasicInfo and FileStandardInfo as dictionaries, FileNameInfo as text.

    Raises 87 for another class, 1 (a pipe), 6.
    """
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    function = "GetFileInformationByHandleEx"
    file = _file(File, function)
    status = os.fstat(file.descriptor)
    attributes, created, accessed, written, size = facts_of(status)
    if FileInformationClass == _FILE_BASIC_INFO:
        return {
            "CreationTime": created,
            "LastAccessTime": accessed,
            "LastWriteTime": written,
            "ChangeTime": written,
            "FileAttributes": attributes,
        }
    if FileInformationClass == _FILE_STANDARD_INFO:
        return {
            "AllocationSize": status.st_blocks * 512,
            "EndOfFile": size,
            "NumberOfLinks": status.st_nlink,
            "DeletePending": status.st_nlink == 0,
            "Directory": stat.S_ISDIR(status.st_mode),
        }
    if FileInformationClass == _FILE_NAME_INFO:
        return GetFinalPathNameByHandle(File, 0)
    raise make_error(87, function)


def GetFinalPathNameByHandle(File: PyHANDLE | int, Flags: int) -> str:
    """GetFinalPathNameByHandle: a file's path; `Flags` is about volumes of Windows. Raises 1 (a pipe), 6."""
    del Flags
    return str(Path(f"/proc/self/fd/{_file(File, 'GetFinalPathNameByHandle').descriptor}").readlink())
