"""What `ctypes` has on Windows alone, put in place for a scope."""

from __future__ import annotations

import ctypes
import ctypes.util
import ctypes.wintypes
from typing import TYPE_CHECKING

from npipe._doors.kernel32 import errors, functions, libraries, sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._doors.base import Patches

__all__ = ["put", "take_away"]

_NEW_NAMES: dict[str, object] = {
    "WinDLL": libraries.WinDLL,
    "WINFUNCTYPE": functions.WINFUNCTYPE,
    "HRESULT": errors.HRESULT,
    "WinError": errors.WinError,
    "FormatError": errors.FormatError,
    "GetLastError": errors.GetLastError,
    "get_last_error": functions.get_last_error,
    "set_last_error": functions.set_last_error,
}
"""What `ctypes` has on Windows alone."""


def put(patches: Patches, is_open: Callable[[], bool]) -> None:
    """Put the names in place."""
    replace = patches.replace
    for name, ours in _NEW_NAMES.items():
        replace(ctypes, name, lambda _, ours=ours: ours)  # type: ignore[misc]
    replace(ctypes, "windll", lambda _: ctypes.LibraryLoader(libraries.WinDLL))
    replace(ctypes.CDLL, "__init__", lambda original: libraries.initializer(original, is_open))
    replace(ctypes.util, "find_library", lambda original: libraries.finder(original, is_open))
    for name, kind in sizes.TYPES.items():
        replace(ctypes.wintypes, name, lambda _, kind=kind: kind)  # type: ignore[misc]
    sizes.tell_apart(ctypes)


def take_away(patches: Patches) -> None:
    """Put back what was there, and forget the libraries that the loaders have kept."""
    sizes.tell_no_more(ctypes)
    patches.undo()
    for loader in (ctypes.cdll, ctypes.pydll):
        for name, value in list(vars(loader).items()):
            if isinstance(value, libraries.Library):
                delattr(loader, name)
