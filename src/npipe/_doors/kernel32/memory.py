"""The program's memory, by address: numbers, texts, buffers.

A program declares its variables and structures itself, and those that were declared with `c_ulong` have 8 bytes where
Windows has 4. So what is known of an argument's type decides how many bytes are written, and where a structure's
fields are; without it everything is as on Windows of 64 bits.
"""

from __future__ import annotations

import ctypes
import errno
from typing import Any, Final

from npipe.win32_error import make_error

__all__ = [
    "CODES",
    "NUMBERS",
    "bytes_at",
    "get",
    "same_on_windows",
    "size_of",
    "store",
    "text_at",
    "type_at",
    "view",
    "wide_text",
    "wide_text_at",
]

CODES: Final = {
    errno.ENOENT: 2,
    errno.EACCES: 5,
    errno.EPERM: 5,
    errno.EBADF: 6,
    errno.ENOMEM: 8,
    errno.EINVAL: 87,
    errno.EPIPE: 109,
    errno.ENOSPC: 112,
}
"""Win32's codes for the errors that ordinary files give."""

_NO_ACCESS: Final = 998
_WRITABLE: Final = 0x200  # PyBUF_WRITE
_READABLE: Final = 0x100

_memory_view: Final = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)

NUMBERS: Final = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}

# ctypes' own types, by classes that are all it has for them.
_Pointer: Final[Any] = ctypes._Pointer  # noqa: SLF001
_Simple: Final[Any] = ctypes._SimpleCData  # noqa: SLF001
_Aggregates: Final = (ctypes.Structure, ctypes.Union, ctypes.Array)


# ---- Types


def type_at(argument: Any, address: int) -> Any:
    """Return the type of what an argument points to, as the program gave it; None where it is not known."""
    referred = getattr(argument, "_obj", None)  # of byref()
    if referred is not None:
        return type(referred) if ctypes.addressof(referred) == address else None
    if isinstance(argument, _Pointer):
        return argument._type_ if ctypes.cast(argument, ctypes.c_void_p).value == address else None
    if isinstance(argument, (*_Aggregates, _Simple)) and ctypes.addressof(argument) == address:
        return type(argument)
    return None


def size_of(kind: Any, usual: int) -> int:
    """Return how many bytes a number of such a type has."""
    if isinstance(kind, type) and issubclass(kind, (_Simple, _Pointer)) and ctypes.sizeof(kind) in NUMBERS:
        return ctypes.sizeof(kind)
    return usual


_SAME_SIZE: Final[dict[Any, Any]] = {
    ctypes.c_ulong: ctypes.c_uint,
    ctypes.c_uint: ctypes.c_ulong,
    ctypes.c_long: ctypes.c_int,
    ctypes.c_int: ctypes.c_long,
}
"""Types that are one and the same on Windows."""


def same_on_windows(argument: Any, declared: Any) -> Any:
    """Return an argument as the declared type takes it, if it is of one that is the same on Windows."""
    if not isinstance(declared, type):
        return argument
    other = _SAME_SIZE.get(declared)
    if other is not None:
        return argument.value if isinstance(argument, other) else argument
    if not issubclass(declared, _Pointer):
        return argument
    target: Any = getattr(declared, "_type_", None)
    other = _SAME_SIZE.get(target)
    if other is None:
        return argument
    referred = getattr(argument, "_obj", argument)
    if isinstance(referred, other):
        return ctypes.byref(target.from_address(ctypes.addressof(referred)))
    if isinstance(argument, _Pointer | ctypes.Array) and argument._type_ is other:
        return ctypes.cast(argument, declared)
    return argument


# ---- Numbers and bytes


def store(address: int, value: int, size: int) -> None:
    """Store a number of `size` bytes (1, 2, 4, 8)."""
    NUMBERS[size].from_address(address).value = value


def get(address: int, size: int = 4) -> int:
    """Return the number of `size` bytes at an address; it is not negative. Error 998 at NULL."""
    if not address:
        raise make_error(_NO_ACCESS, "")
    return NUMBERS[size].from_address(address).value


def bytes_at(address: int, size: int) -> bytes:
    """Return a copy of memory. Error 998 at NULL."""
    if size and not address:
        raise make_error(_NO_ACCESS, "")
    return ctypes.string_at(address, size) if size else b""


def view(address: int, size: int, *, writable: bool = False) -> memoryview:
    """Return the program's memory itself, which has to stay as long as the view is used. Error 998 at NULL."""
    if not size:
        return memoryview(bytearray())
    if not address:
        raise make_error(_NO_ACCESS, "")
    made: memoryview = _memory_view(address, size, _WRITABLE if writable else _READABLE)
    return made


# ---- Texts: ctypes passes wide ones as wchar_t, which has 4 bytes here


_UTF16: Final = (ctypes.c_char, ctypes.c_uint16, ctypes.c_ubyte)
"""The elements of buffers that hold wide texts as they are on Windows."""


def _element_of(kind: Any) -> Any:
    return kind._type_ if isinstance(kind, type) and issubclass(kind, ctypes.Array) else kind


def wide_text_at(address: int, argument: Any = None) -> str | None:
    """Return the text that a function of NAMEW is given; bytes are UTF-16."""
    if not address:
        return None
    if isinstance(argument, bytes):
        text = argument.decode("utf-16-le", "surrogatepass")
        return text.partition("\0")[0]
    kind = type_at(argument, address)
    if _element_of(kind) in _UTF16 and issubclass(kind, ctypes.Array):
        text = ctypes.string_at(address, ctypes.sizeof(kind)).decode("utf-16-le", "surrogatepass")
        return text.partition("\0")[0]
    return ctypes.wstring_at(address)


def text_at(address: int) -> str | None:
    """Return the text that a function of NAMEA is given."""
    return ctypes.string_at(address).decode("utf-8", "surrogateescape") if address else None


def wide_text(kind: Any, text: str) -> tuple[bytes, int]:
    """Return a text with its NUL as a buffer of such a type has it, and the bytes of one character."""
    if _element_of(kind) in _UTF16:
        return (text + "\0").encode("utf-16-le", "surrogatepass"), 2
    return (text + "\0").encode("utf-32-le", "surrogatepass"), ctypes.sizeof(ctypes.c_wchar)
