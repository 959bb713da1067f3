"""The door of ctypes: `ctypes.WinDLL("kernel32")`, `windll`, `WinError`, and `wintypes` in Windows' sizes.

- `libraries`: what `WinDLL`, `windll`, `CDLL` and `find_library` give; `functions`: what a function of them is.
- `call`, `memory`, `overlapped`: one call, and the program's memory: numbers, texts, OVERLAPPED, by address.
- `pipes`, `files`, `finding`, `objects`, `threads`, `ports`, `heap`, `system`, `security`: the functions themselves, on
  npipe.win32.
- `errors`, `sizes`: `WinError` and its like; the types that have other sizes on Linux.
- `names`: what is put into `ctypes`.

Nothing of it is imported before ctypes is: most of a program's children do without.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any

from npipe._doors.base import Door, Patches
from npipe._doors.imports import IMPORTS
from npipe.win32._offered import missing_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

__all__ = ["CtypesDoor"]

_MISSING_NAMES = frozenset({"OleDLL", "oledll", "COMError", "CopyComPointer", "DllCanUnloadNow", "DllGetClassObject"})
"""What it has there besides, and this door has not."""


class CtypesDoor(Door):
    """Windows' names in `ctypes`, and Windows' libraries behind them."""

    name = "ctypes"

    def __init__(self) -> None:
        super().__init__()
        self._patches = Patches()
        self._lock = threading.Lock()  # of the patches: an import in any thread may make some
        self._may_patch = False
        self._names: Any = None
        self._awaited: str | None = None  # what has to be imported first

    def open(self) -> None:
        """Put the names in place, once ctypes is imported."""
        self._may_patch = True
        IMPORTS.add(_answer)
        IMPORTS.once_loaded("ctypes", self._loaded)

    def close(self) -> None:
        """Put back what was there, and forget the libraries that the loaders have kept."""
        IMPORTS.never_mind("ctypes")
        if self._awaited is not None:
            IMPORTS.never_mind(self._awaited)
        IMPORTS.remove(_answer)
        with self._lock:
            self._may_patch = False
            names, self._names = self._names, None
            if names is not None:
                names.take_away(self._patches)

    def _loaded(self, ctypes: ModuleType) -> None:
        """Put the names in place, once nothing that this needs is being imported: `ctypes.wintypes` imports ctypes."""
        importing = [name for name in list(sys.modules) if name.startswith(("ctypes.", "npipe.")) and _begins(name)]
        if importing:
            self._awaited = importing[0]
            IMPORTS.once_loaded(importing[0], lambda _: self._loaded(ctypes))
            return
        names: Any = importlib.import_module("npipe._doors.kernel32.names")
        with self._lock:
            if self._may_patch and self._names is None:
                self._names = names
                names.put(self._patches, lambda: self.is_open)
                self._patches.replace(ctypes, "__getattr__", self._refuse)

    def _refuse(self, original: Callable[[str], Any] | None) -> Callable[[str], Any]:
        """Return ctypes' `__getattr__`, which is asked for the names that there are not."""

        def __getattr__(name: str) -> Any:  # noqa: N807
            if self.is_open and name in _MISSING_NAMES:
                raise missing_name("ctypes", name, "npipe has no COM: docs/porting.md", sys.modules["ctypes"])
            if original is not None:
                return original(name)
            raise AttributeError(f"module 'ctypes' has no attribute {name!r}", name=name, obj=sys.modules["ctypes"])

        return __getattr__


def _answer(name: str, importer: Mapping[str, Any]) -> None:
    """Have nothing to say of an import; that it is heard of is enough."""
    del name, importer


def _begins(name: str) -> bool:
    """Return whether a module is being imported."""
    module = sys.modules.get(name)
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))
