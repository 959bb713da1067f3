"""The door of ctypes: `ctypes.WinDLL("kernel32")`, `windll`, `WinError`, and `wintypes` in Windows' sizes.

- `libraries`: what `WinDLL`, `windll`, `CDLL` and `find_library` give; `functions`: what a function of them is.
- `call`, `memory`, `overlapped`: one call, and the program's memory: numbers, texts, OVERLAPPED, by address.
- `pipes`, `files`, `names`, `objects`, `threads`, `ports`, `heap`, `system`, `security`: the functions themselves, on
  npipe.win32.
- `errors`, `sizes`: `WinError` and its like; the types that have other sizes on Linux.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import ctypes.wintypes
from typing import TYPE_CHECKING, Any

from npipe._doors.base import Door, Patches
from npipe._doors.kernel32 import errors, functions, libraries, sizes
from npipe.win32._offered import missing_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CtypesDoor"]

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

_MISSING_NAMES = frozenset({"OleDLL", "oledll", "COMError", "CopyComPointer", "DllCanUnloadNow", "DllGetClassObject"})
"""What it has there besides, and this door has not."""


class CtypesDoor(Door):
    """Windows' names in `ctypes`, and Windows' libraries behind them."""

    name = "ctypes"

    def __init__(self) -> None:
        super().__init__()
        self._patches = Patches()

    def open(self) -> None:
        """Put the names in place."""
        replace = self._patches.replace
        for name, ours in _NEW_NAMES.items():
            replace(ctypes, name, lambda _, ours=ours: ours)  # type: ignore[misc]
        replace(ctypes, "windll", lambda _: ctypes.LibraryLoader(libraries.WinDLL))
        replace(ctypes, "__getattr__", self._refuse)
        replace(ctypes.CDLL, "__init__", lambda original: libraries.initializer(original, lambda: self.is_open))
        replace(ctypes.util, "find_library", lambda original: libraries.finder(original, lambda: self.is_open))
        for name, kind in sizes.TYPES.items():
            replace(ctypes.wintypes, name, lambda _, kind=kind: kind)  # type: ignore[misc]
        sizes.tell_apart(ctypes)

    def close(self) -> None:
        """Put back what was there, and forget the libraries that the loaders have kept."""
        sizes.tell_no_more(ctypes)
        self._patches.undo()
        for loader in (ctypes.cdll, ctypes.pydll):
            for name, value in list(vars(loader).items()):
                if isinstance(value, libraries.Library):
                    delattr(loader, name)

    def _refuse(self, original: Callable[[str], Any] | None) -> Callable[[str], Any]:
        """Return ctypes' `__getattr__`, which is asked for the names that there are not."""

        def __getattr__(name: str) -> Any:  # noqa: N807
            if self.is_open and name in _MISSING_NAMES:
                raise missing_name("ctypes", name, "npipe has no COM: docs/porting.md", ctypes)
            if original is not None:
                return original(name)
            raise AttributeError(f"module 'ctypes' has no attribute {name!r}", name=name, obj=ctypes)

        return __getattr__
