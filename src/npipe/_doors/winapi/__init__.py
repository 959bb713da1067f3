"""The door of `_winapi`, `_overlapped` and `msvcrt`, and of multiprocessing's connections over pipes.

- `_winapi`, `_overlapped`, `msvcrt`: the modules; `constants`, `descriptors`, `elsewhere` are theirs.
- `connections`: multiprocessing's `PipeConnection`, `PipeListener`, `PipeClient`.

The modules never stand in `sys.modules`, for a part of the standard library takes that for Windows: `subprocess` asks
for `msvcrt`. Whoever is not of the library finds them by `import`, `importlib.import_module` and `find_spec`.
"""

from __future__ import annotations

import builtins
import importlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.base import Door, Patches
from npipe._doors.importers import is_library
from npipe._doors.imports import IMPORTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

__all__ = ["WinapiDoor"]

_MODULES: Final = frozenset({"_winapi", "_overlapped", "msvcrt"})
_CONNECTION: Final = "multiprocessing.connection"


class WinapiDoor(Door):
    """CPython's own modules for Windows, for everybody but the standard library."""

    name = "winapi"

    def __init__(self) -> None:
        super().__init__()
        self._patches = Patches()
        self._lock = threading.Lock()  # of the patches: an import in any thread may make some
        self._may_patch = False
        self._reducers: dict[type, object] = {}  # multiprocessing's, of classes
        self._pickled: type | None = None

    def open(self) -> None:
        """Answer imports from now on."""
        importlib.import_module("_compat_pickle")  # it notes for good whether there is a WindowsError
        self._may_patch = True
        self._patches.replace(builtins, "WindowsError", lambda _: OSError)
        for name in ("get_handle_inheritable", "set_handle_inheritable"):
            self._patches.replace(os, name, lambda _, name=name: _of_descriptors(name))  # type: ignore[misc]
        IMPORTS.add(self._answer)
        IMPORTS.once_loaded(_CONNECTION, self._open_connections)

    def close(self) -> None:
        """Put back multiprocessing's names; imports are as before."""
        IMPORTS.never_mind(_CONNECTION)
        IMPORTS.remove(self._answer)
        with self._lock:
            self._may_patch = False
            self._patches.undo()
            if self._pickled is not None:
                self._reducers.pop(self._pickled, None)

    def _answer(self, name: str, importer: Mapping[str, Any]) -> ModuleType | None:
        if name not in _MODULES or not self.is_open or is_library(importer):
            return None
        return importlib.import_module(f"npipe._doors.winapi.{name}")

    def _open_connections(self, connection: ModuleType) -> None:
        """Let `multiprocessing.connection` know the family AF_PIPE."""
        ours = importlib.import_module("npipe._doors.winapi.connections")
        with self._lock:
            if not self._may_patch:
                return
            replace = self._patches.replace
            for name in ("PipeConnection", "PipeListener", "PipeClient"):
                replace(connection, name, lambda _, name=name: getattr(ours, name))  # type: ignore[misc]
            replace(connection, "families", lambda before: [*before, "AF_PIPE"])
            replace(connection, "_validate_family", self._validator)
            replace(connection, "wait", ours.waiting)
            pickler = importlib.import_module("multiprocessing.reduction").ForkingPickler
            self._reducers = pickler._extra_reducers  # noqa: SLF001 - register() is for good
            self._pickled = ours.PipeConnection
            self._reducers[ours.PipeConnection] = ours.reduce_connection

    def _validator(self, original: Callable[[str], None]) -> Callable[[str], None]:
        def _validate_family(family: str) -> None:
            if family != "AF_PIPE" or not self.is_open:
                original(family)

        return _validate_family


def _of_descriptors(name: str) -> Callable[..., Any]:
    """Return a function of `os` on handles, whose module is imported when it is called."""

    def function(*arguments: Any) -> Any:
        return getattr(importlib.import_module("npipe._doors.winapi.descriptors"), name)(*arguments)

    function.__name__ = function.__qualname__ = name
    return function
