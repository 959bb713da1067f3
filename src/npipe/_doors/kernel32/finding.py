"""kernel32's functions for what has a name, pipes among it: finding, attributes; and for a file's size and position."""

from __future__ import annotations

import ctypes
import datetime as dt
import itertools
import threading
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.kernel32 import memory, sizes
from npipe._doors.kernel32.functions import exported, exported_text
from npipe.win32 import win32file
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe._doors.kernel32.call import Call

__all__: list[str] = []

_INVALID_HANDLE_VALUE: Final = -1
_FAILED: Final = 0xFFFFFFFF
_NOT_FOUND: Final = 2
_INVALID_HANDLE: Final = 6
_NO_MORE_FILES: Final = 18
_INVALID_PARAMETER: Final = 87

_SINCE: Final = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)


# ---- Finding

_searches: Final[dict[int, Iterator[Any]]] = {}
_numbers: Final = itertools.count(0x5EA0_0000, 16)  # the handles of searches are none of objects
_lock: Final = threading.Lock()


def _put_found(call: Call, index: int, address: int, found: Any) -> None:
    """Store what was found in the program's WIN32_FIND_DATA."""
    attributes, created, accessed, written, high, low, _, _, name, short = found
    kind = call.type_at(index, address)
    if not (isinstance(kind, type) and issubclass(kind, ctypes.Structure)):
        kind = sizes.WIN32_FIND_DATAW if call.wide else sizes.WIN32_FIND_DATAA
    values: tuple[Any, ...] = (attributes, created, accessed, written, high, low, 0, 0, name, short)
    fields: Any = kind._fields_
    for (field, inner, *_), value in zip(fields, values, strict=False):
        place = address + getattr(kind, field).offset
        if isinstance(value, str):
            _put_name(call, inner, place, value)
        elif isinstance(value, dt.datetime):
            ticks = (value - _SINCE) // dt.timedelta(microseconds=1) * 10
            memory.store(place, ticks & 0xFFFFFFFF, 4)
            memory.store(place + ctypes.sizeof(inner) // 2, ticks >> 32, 4)
        else:
            memory.store(place, value, ctypes.sizeof(inner))


def _put_name(call: Call, kind: Any, place: int, name: str) -> None:
    data, width = memory.wide_text(kind, name) if call.wide else (name.encode("utf-8", "surrogateescape") + b"\0", 1)
    room = ctypes.sizeof(kind)
    if len(data) > room:
        data = data[: room - width] + bytes(width)
    memory.view(place, len(data), writable=True)[:] = data


def _find_first(call: Call, index: int, pattern: str | None, data: int) -> int:
    search = win32file.FindFilesIterator(pattern or "")
    found = next(search, None)
    if found is None:
        raise make_error(_NOT_FOUND, "FindFirstFile")
    _put_found(call, index, data, found)
    with _lock:
        number = next(_numbers)
        _searches[number] = search
    return number


@exported_text("FindFirstFile", "tp", failure=_INVALID_HANDLE_VALUE)
def _find_first_file(call: Call, pattern: str | None, data: int) -> int:
    return _find_first(call, 1, pattern, data)


@exported_text("FindFirstFileEx", "tdpdpd", failure=_INVALID_HANDLE_VALUE)
def _find_first_file_ex(
    call: Call, pattern: str | None, level: int, data: int, kind: int, _filter: int, _flags: int
) -> int:
    if level > 1 or kind > 1:
        raise make_error(_INVALID_PARAMETER, "FindFirstFileEx")
    return _find_first(call, 2, pattern, data)


@exported_text("FindNextFile", "hp")
def _find_next_file(call: Call, handle: int, data: int) -> None:
    with _lock:
        if handle not in _searches:
            raise make_error(_INVALID_HANDLE, "FindNextFile")
        found = next(_searches[handle], None)
    if found is None:
        raise make_error(_NO_MORE_FILES, "FindNextFile")
    _put_found(call, 1, data, found)


@exported("FindClose", "h")
def _find_close(_call: Call, handle: int) -> None:
    if _searches.pop(handle, None) is None:
        raise make_error(_INVALID_HANDLE, "FindClose")


# ---- Attributes, size, position


@exported_text("GetFileAttributes", "t", failure=_FAILED)
def _get_file_attributes(_call: Call, name: str | None) -> int:
    return win32file.GetFileAttributes(name or "")


@exported_text("DeleteFile", "t")
def _delete_file(_call: Call, name: str | None) -> None:
    win32file.DeleteFile(name or "")


@exported("GetFileSize", "hp", failure=_FAILED)
def _get_file_size(call: Call, handle: int, high: int) -> int:
    size = win32file.GetFileSize(handle)
    call.put(1, high, size >> 32)
    return size & 0xFFFFFFFF


@exported("GetFileSizeEx", "hp")
def _get_file_size_ex(_call: Call, handle: int, size: int) -> None:
    value = win32file.GetFileSize(handle)
    memory.view(size, 8, writable=True)[:] = value.to_bytes(8, "little")


@exported("SetFilePointer", "hlpd", failure=_FAILED)
def _set_file_pointer(call: Call, handle: int, low: int, high: int, method: int) -> int:
    offset = low
    if high:
        upper = memory.get(high)
        offset = (low & 0xFFFFFFFF) | (upper - (1 << 32) if upper >> 31 else upper) << 32
    position = win32file.SetFilePointer(handle, offset, method)
    call.put(2, high, position >> 32)
    return position & 0xFFFFFFFF


@exported("SetFilePointerEx", "hqpd")
def _set_file_pointer_ex(_call: Call, handle: int, offset: int, place: int, method: int) -> None:
    position = win32file.SetFilePointer(handle, offset - (1 << 64) if offset >> 63 else offset, method)
    if place:
        memory.view(place, 8, writable=True)[:] = position.to_bytes(8, "little")


@exported("SetEndOfFile", "h")
def _set_end_of_file(_call: Call, handle: int) -> None:
    win32file.SetEndOfFile(handle)
