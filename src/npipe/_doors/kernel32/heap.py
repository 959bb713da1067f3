"""kernel32's memory: what a function hands out, or a program asks for, and LocalFree and its like end."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

from npipe._doors.kernel32.functions import exported

if TYPE_CHECKING:
    from npipe._doors.kernel32.call import Call

__all__ = ["allocate"]

_HEAP: Final = 0x10000  # the one heap's handle
_HEAP_NOTHING: Final = (1 << 64) - 1

_given: Final[dict[int, ctypes.Array[ctypes.c_char]]] = {}


def allocate(data: bytes, size: int = 0) -> int:
    """Return the address of memory that begins with `data`, the rest of `size` bytes being 0, until LocalFree."""
    block = ctypes.create_string_buffer(data, max(len(data), size, 1))
    address = ctypes.addressof(block)
    _given[address] = block
    return address


@exported("LocalAlloc", "dq")
@exported("GlobalAlloc", "dq")
def _allocate(_call: Call, _flags: int, size: int) -> int:
    return allocate(b"", size)


@exported("LocalFree", "p")
@exported("GlobalFree", "p")
def _free(_call: Call, address: int) -> int:
    _given.pop(address, None)
    return 0


@exported("LocalLock", "p")
@exported("GlobalLock", "p")
def _lock(_call: Call, address: int) -> int:
    return address  # it never moves


@exported("GetProcessHeap", "")
def _get_process_heap(_call: Call) -> int:
    return _HEAP


@exported("HeapAlloc", "hdq")
def _heap_allocate(_call: Call, _heap: int, _flags: int, size: int) -> int:
    return allocate(b"", size)


@exported("HeapSize", "hdp", failure=_HEAP_NOTHING)
def _heap_size(_call: Call, _heap: int, _flags: int, address: int) -> int:
    return len(_given[address]) if address in _given else _HEAP_NOTHING


@exported("HeapFree", "hdp")
def _heap_free(_call: Call, _heap: int, _flags: int, address: int) -> None:
    _given.pop(address, None)
