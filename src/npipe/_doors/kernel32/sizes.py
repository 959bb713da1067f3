"""The types of `ctypes.wintypes`, and `c_long` and `c_ulong`, in Windows' sizes."""
# ruff: noqa: N801 - Windows' names

from __future__ import annotations

import ctypes
import site
import sys
import sysconfig
from ctypes import wintypes
from pathlib import Path
from types import ModuleType
from typing import Any, Final

__all__ = ["TYPES", "tell_apart", "tell_no_more"]

_LONG: Final = ctypes.c_int  # on Windows c_int is c_long itself
_ULONG: Final = ctypes.c_uint


class FILETIME(ctypes.Structure):
    """100 ns since 1601."""

    _fields_ = (("dwLowDateTime", _ULONG), ("dwHighDateTime", _ULONG))


class POINT(ctypes.Structure):
    """A point."""

    _fields_ = (("x", _LONG), ("y", _LONG))


class RECT(ctypes.Structure):
    """A rectangle."""

    _fields_ = (("left", _LONG), ("top", _LONG), ("right", _LONG), ("bottom", _LONG))


class SIZE(ctypes.Structure):
    """A width and a height."""

    _fields_ = (("cx", _LONG), ("cy", _LONG))


class MSG(ctypes.Structure):
    """A window's message."""

    _fields_ = (
        ("hWnd", wintypes.HWND),
        ("message", ctypes.c_uint),
        ("wParam", wintypes.WPARAM),
        ("lParam", wintypes.LPARAM),
        ("time", _ULONG),
        ("pt", POINT),
    )


def _find_data(character: Any) -> tuple[tuple[str, Any], ...]:
    return (
        ("dwFileAttributes", _ULONG),
        ("ftCreationTime", FILETIME),
        ("ftLastAccessTime", FILETIME),
        ("ftLastWriteTime", FILETIME),
        ("nFileSizeHigh", _ULONG),
        ("nFileSizeLow", _ULONG),
        ("dwReserved0", _ULONG),
        ("dwReserved1", _ULONG),
        ("cFileName", character * wintypes.MAX_PATH),
        ("cAlternateFileName", character * 14),
    )


class WIN32_FIND_DATAA(ctypes.Structure):
    """What a search for files finds."""

    _fields_ = _find_data(ctypes.c_char)


class WIN32_FIND_DATAW(ctypes.Structure):
    """What a search for files finds."""

    _fields_ = _find_data(ctypes.c_wchar)


def _types() -> dict[str, Any]:
    kinds: dict[str, Any] = dict.fromkeys(("BOOL", "LONG"), _LONG)
    kinds |= dict.fromkeys(("DWORD", "ULONG", "COLORREF", "LCID", "LCTYPE", "LGRPID"), _ULONG)
    kinds |= dict.fromkeys(("FILETIME", "_FILETIME"), FILETIME)
    kinds |= dict.fromkeys(("POINT", "POINTL", "_POINTL", "tagPOINT"), POINT)
    kinds |= dict.fromkeys(("RECT", "RECTL", "_RECTL", "tagRECT"), RECT)
    kinds |= dict.fromkeys(("SIZE", "SIZEL", "tagSIZE"), SIZE)
    kinds |= dict.fromkeys(("MSG", "tagMSG"), MSG)
    kinds |= {"WIN32_FIND_DATAA": WIN32_FIND_DATAA, "WIN32_FIND_DATAW": WIN32_FIND_DATAW}
    for kind in list(kinds):
        for prefix in ("P", "LP"):
            if hasattr(wintypes, prefix + kind):
                kinds[prefix + kind] = ctypes.POINTER(kinds[kind])
    return {name: kind for name, kind in kinds.items() if hasattr(wintypes, name)}


TYPES: Final = _types()
"""What stands for the types of `ctypes.wintypes` that are a `long` on Windows, or hold one."""


# ---- c_long and c_ulong: of 4 bytes for the program's own modules, of 8 for everybody else's

_OTHERS: Final[tuple[str, ...]] = tuple(
    {
        str(Path(place).resolve())
        for place in (
            *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            site.getusersitepackages(),
            str(Path(__file__).parents[2]),
        )
    }
)


def _is_own(depth: int) -> bool:
    """Return whether the code that asks belongs to the program: neither to the library nor to a package."""
    asking = sys._getframe(depth).f_globals  # noqa: SLF001
    name = asking.get("__file__")
    return not name.startswith((*_OTHERS, "<")) if isinstance(name, str) else asking.get("__name__") == "__main__"


class _Ctypes(ModuleType):
    """The module `ctypes`, where the sizes of two types depend on who asks."""

    @property
    def c_long(self) -> Any:
        """A signed number of 4 bytes, or of 8."""
        return _LONG if _is_own(2) else self.__dict__["c_long"]

    @property
    def c_ulong(self) -> Any:
        """An unsigned number of 4 bytes, or of 8."""
        return _ULONG if _is_own(2) else self.__dict__["c_ulong"]


def tell_apart(module: ModuleType) -> None:
    """Begin to give the program's own modules Windows' two types, unless somebody else has changed the module."""
    if type(module) is ModuleType:
        module.__class__ = _Ctypes


def tell_no_more(module: ModuleType) -> None:
    """End it."""
    if type(module) is _Ctypes:
        ModuleType.__setattr__(module, "__class__", ModuleType)
