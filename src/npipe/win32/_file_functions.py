r"""What win32file and win32api have of files by name, pipes' names among them: finding, attributes, copying, moving.

`\\.\pipe\*` lists pipes; a pipe's attributes are asked by opening it, as on Windows, so an instance that listens is
used up by the question. Other names are this system's files. A file's creation time is not kept here: it is the time of
the last write.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import errno
import fnmatch
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from npipe import transports
from npipe.names import is_pipe_root
from npipe.win32._files import code_of
from npipe.win32._opening import create_file
from npipe.win32._paths import is_device, local_path
from npipe.win32._time import NO_TIME, time_of
from npipe.win32_error import make_error, text_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

__all__ = [
    "CopyFile",
    "CreateDirectory",
    "DeleteFile",
    "DeleteFileW",
    "FindData",
    "FindFilesIterator",
    "FindFilesW",
    "GetFileAttributes",
    "GetFileAttributesEx",
    "GetFullPathName",
    "GetLongPathName",
    "MoveFile",
    "MoveFileEx",
    "RemoveDirectory",
    "SetFileAttributes",
    "SetFileAttributesW",
    "facts_of",
    "find",
]

_READONLY: Final = 0x1
_DIRECTORY: Final = 0x10
_ARCHIVE: Final = 0x20
_NORMAL: Final = 0x80
_REPARSE_POINT: Final = 0x400
_REPLACE_EXISTING: Final = 1
_READ_ATTRIBUTES: Final = 0x80
_OPEN_EXISTING: Final = 3
_IN_PIPES: Final = re.compile(r"[\\/]{2}[.?][\\/]pipe[\\/](.*)", re.IGNORECASE | re.DOTALL)

FindData = tuple[int, "dt.datetime", "dt.datetime", "dt.datetime", int, int, int, int, str, str]


def _no_transactions(transaction: object, function: str) -> None:
    if transaction is not None:
        raise NotImplementedError(f"{function} with a transaction is not available on this platform")


def _fail(failure: OSError, function: str) -> NoReturn:
    code = 183 if isinstance(failure, FileExistsError) else code_of(failure)
    raise make_error(145 if failure.errno == errno.ENOTEMPTY else code, function) from failure


# ---- Finding


def find(pattern: object, function: str) -> Iterator[FindData]:
    """Return an iterator over what a pattern finds (FindFirstFile); nothing found is no error. Raises 3, 5."""
    text = text_of(pattern)
    in_pipes = _IN_PIPES.fullmatch(text)
    if in_pipes is not None:
        return _find_pipes(in_pipes[1], function)
    if is_device(text):
        raise make_error(53 if text.replace("/", "\\").startswith("\\\\") else 5, function)
    return _find_files(local_path(text, function), function)


def _matcher(pattern: str) -> re.Pattern[str]:
    """Return what Windows' wildcards mean: in any case, and "*.*" is everything."""
    pattern = "*" if pattern == "*.*" else pattern
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")), re.IGNORECASE)


def _find_pipes(pattern: str, function: str) -> Iterator[FindData]:
    r"""Find `\\.\pipe\PATTERN`: the size is the number of instances, as the pipes' file system tells it."""
    if not pattern or "\\" in pattern:  # it has no folders
        raise make_error(2 if not pattern else 3, function)
    matches = _matcher(pattern)
    instances: dict[str, int] = {}
    for pipe in transports.default().list_pipes():  # each process's share
        name = pipe.name.partition("\\pipe\\")[2]
        instances[name] = instances.get(name, 0) + pipe.instances
    found = [
        (_NORMAL, NO_TIME, NO_TIME, NO_TIME, 0, count, 0, 0, name, "")
        for name, count in instances.items()
        if matches.fullmatch(name)
    ]
    return iter(found)


def _find_files(path: str, function: str) -> Iterator[FindData]:
    folder, _, pattern = path.rpartition("/")
    folder = folder or ("/" if path.startswith("/") else os.curdir)
    if not pattern:
        return iter(())  # a folder with a separator behind it
    if not any(sign in pattern for sign in "*?"):
        return iter([_found(folder, pattern)] if os.path.lexists(Path(folder, pattern)) else [])
    try:
        names = [".", "..", *sorted(entry.name for entry in Path(folder).iterdir())]
    except OSError:
        raise make_error(3, function) from None
    matches = _matcher(pattern)
    return (_found(folder, name) for name in names if matches.fullmatch(name) and os.path.lexists(Path(folder, name)))


def _found(folder: str, name: str) -> FindData:
    attributes, created, accessed, written, size = facts_of(os.lstat(os.path.join(folder, name)))  # noqa: PTH118 - ".."
    return attributes, created, accessed, written, size >> 32, size & 0xFFFFFFFF, 0, 0, name, ""


def FindFilesW(FileName: str, Transaction: None = None) -> list[FindData]:
    r"""FindFilesW: what a pattern finds, `\\.\pipe\*` or files, as a list of WIN32_FIND_DATA.

    Each is (attributes, times of creation, access and writing, size / 2**32, size % 2**32, 0, 0, name, ""). A pipe's
    size is how many instances it has, its times are 1601. Raises 3: there is no such folder.
    """
    _no_transactions(Transaction, "FindFirstFileTransacted")
    return list(find(FileName, "FindFirstFileW"))


def FindFilesIterator(FileName: str, Transaction: None = None) -> Iterator[FindData]:
    """FindFilesIterator: as FindFilesW, one after the other."""
    _no_transactions(Transaction, "FindFirstFileTransacted")
    return find(FileName, "FindFirstFileW")


# ---- Attributes


def facts_of(status: os.stat_result) -> tuple[int, dt.datetime, dt.datetime, dt.datetime, int]:
    """Return (attributes, times of creation, access and writing, size) of a file."""
    if stat.S_ISDIR(status.st_mode):
        attributes, size = _DIRECTORY, 0
    elif stat.S_ISLNK(status.st_mode):
        attributes, size = _REPARSE_POINT, 0
    else:
        attributes, size = _ARCHIVE, status.st_size
    if not status.st_mode & stat.S_IWUSR and not stat.S_ISDIR(status.st_mode):
        attributes |= _READONLY
    written = time_of(status.st_mtime)
    return attributes, written, time_of(status.st_atime), written, size


def _facts(name: object, function: str) -> tuple[int, dt.datetime, dt.datetime, dt.datetime, int]:
    text = text_of(name)
    if is_pipe_root(text):
        return _DIRECTORY, NO_TIME, NO_TIME, NO_TIME, 0
    if is_device(text):
        create_file(function, text, (_READ_ATTRIBUTES, 0, _OPEN_EXISTING, 0)).Close()
        return _NORMAL, NO_TIME, NO_TIME, NO_TIME, 0
    try:
        return facts_of(Path(local_path(text, function)).stat())
    except OSError as failure:
        _fail(failure, function)


def GetFileAttributes(pathName: str, /) -> int:
    """GetFileAttributes: FILE_ATTRIBUTE_*; of a pipe FILE_ATTRIBUTE_NORMAL. Raises 2, 3, 5, 231 (a busy pipe)."""
    return _facts(pathName, "GetFileAttributes")[0]


def GetFileAttributesEx(
    FileName: str, InfoLevelId: int = 0, Transaction: None = None
) -> tuple[int, dt.datetime, dt.datetime, dt.datetime, int]:
    """GetFileAttributesEx: (attributes, times of creation, access and writing, size). Raises as GetFileAttributes."""
    _no_transactions(Transaction, "GetFileAttributesTransacted")
    if InfoLevelId != 0:
        raise make_error(87, "GetFileAttributesEx")
    return _facts(FileName, "GetFileAttributesEx")


def SetFileAttributes(pathName: str, attrs: int, /) -> None:
    """SetFileAttributes: FILE_ATTRIBUTE_READONLY is whether the file may be written; others mean nothing here."""
    path = Path(local_path(pathName, "SetFileAttributes"))
    try:
        mode = path.stat().st_mode
        writable = mode & ~0o222 if attrs & _READONLY else mode | stat.S_IWUSR
        if not stat.S_ISDIR(mode):
            path.chmod(stat.S_IMODE(writable))
    except OSError as failure:
        _fail(failure, "SetFileAttributes")


def SetFileAttributesW(FileName: str, FileAttributes: int, Transaction: None = None) -> None:
    """SetFileAttributesW: as SetFileAttributes."""
    _no_transactions(Transaction, "SetFileAttributesTransacted")
    SetFileAttributes(FileName, FileAttributes)


# ---- Files and folders


def CopyFile(_from: str, to: str, bFailIfExists: object = 0, /) -> None:
    """CopyFile. Raises 2, 3, 5, 80 (it exists, and `bFailIfExists`)."""
    source, target = (local_path(name, "CopyFile") for name in (_from, to))
    if bFailIfExists and os.path.lexists(target):
        raise make_error(80, "CopyFile")
    try:
        shutil.copy2(source, target)
    except OSError as failure:
        _fail(failure, "CopyFile")


def MoveFile(existingFileName: str, newFileName: str, /) -> None:
    """MoveFile. Raises 2, 3, 5, 183 (there is one of the new name)."""
    MoveFileEx(existingFileName, newFileName, 2)  # MOVEFILE_COPY_ALLOWED


def MoveFileEx(existingFileName: str, newFileName: str | None, flags: int, /) -> None:
    """MoveFileEx: MOVEFILE_REPLACE_EXISTING and MOVEFILE_COPY_ALLOWED count.

    Raises as MoveFile, and 17 (another disk).
    """
    source = local_path(existingFileName, "MoveFileEx")
    if newFileName is None:
        raise make_error(87, "MoveFileEx")  # to delete it at the next start of Windows
    target = local_path(newFileName, "MoveFileEx")
    if not flags & _REPLACE_EXISTING and os.path.lexists(target):
        raise make_error(183, "MoveFileEx")
    try:
        if flags & 2:
            shutil.move(source, target)
        else:
            Path(source).replace(target)
    except OSError as failure:
        if failure.errno == errno.EXDEV:
            raise make_error(17, "MoveFileEx") from failure
        _fail(failure, "MoveFileEx")


def DeleteFile(fileName: str, /) -> None:
    """DeleteFile. Raises 2, 3, 5."""
    path = Path(local_path(fileName, "DeleteFile"))
    try:
        path.unlink()
    except OSError as failure:
        _fail(failure, "DeleteFile")


def DeleteFileW(FileName: str, Transaction: None = None) -> None:
    """DeleteFileW: as DeleteFile."""
    _no_transactions(Transaction, "DeleteFileTransacted")
    DeleteFile(FileName)


def CreateDirectory(name: str, sa: object, /) -> None:
    """CreateDirectory; `sa` is not looked at. Raises 3, 5, 183."""
    del sa
    try:
        Path(local_path(name, "CreateDirectory")).mkdir()
    except FileNotFoundError:
        raise make_error(3, "CreateDirectory") from None
    except OSError as failure:
        _fail(failure, "CreateDirectory")


def RemoveDirectory(PathName: str, Transaction: None = None) -> None:
    """RemoveDirectory. Raises 2, 3, 5, 145 (it is not empty)."""
    _no_transactions(Transaction, "RemoveDirectoryTransacted")
    try:
        Path(local_path(PathName, "RemoveDirectory")).rmdir()
    except OSError as failure:
        _fail(failure, "RemoveDirectory")


def GetFullPathName(FileName: str, Transaction: None = None) -> str:
    """GetFullPathName: a path from the root; a pipe's name stays as it is."""
    _no_transactions(Transaction, "GetFullPathNameTransacted")
    text = text_of(FileName)
    return text if is_device(text) else str(Path(local_path(text, "GetFullPathName")).absolute())


def GetLongPathName(ShortPath: str, Transaction: None = None) -> str:
    """GetLongPathName: there are no short names here. Raises 2, 3."""
    _no_transactions(Transaction, "GetLongPathNameTransacted")
    text = text_of(ShortPath)
    if not is_device(text) and not os.path.lexists(local_path(text, "GetLongPathName")):
        raise make_error(2, "GetLongPathName")
    return text
