"""The door of the platform's name: the program, and packages that the user names, are told that this is Windows.

`sys` is one object, which the standard library has too. So whoever is told gets another one by `import sys`, which
stands for it and says "win32"; so with `os`, `platform`, `subprocess` and `signal` (`modules`, on `said`).
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from npipe._doors.base import Door, Patches
from npipe._doors.importers import is_below, is_library, is_own, package_of
from npipe._doors.imports import IMPORTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

__all__ = ["PlatformDoor"]


class PlatformDoor(Door):
    """Windows' answers for the program's own modules, and for the packages and folders that any installation names."""

    name = "platform"

    def __init__(self) -> None:
        super().__init__()
        self._patches = Patches()
        self._packages: frozenset[str] = frozenset()
        self._folders: frozenset[str] = frozenset()
        self._modules: dict[str, ModuleType] = {}  # the same ones each time: they have what programs have set
        self._start = ""
        self._startup_info: Any = None

    def open(self) -> None:
        """Answer imports from now on."""
        if not self._modules:
            made = importlib.import_module("npipe._doors.as_windows.modules")
            self._startup_info = made.STARTUPINFO
            self._modules = made.modules(lambda: self.is_open)
        try:
            self._start = os.getcwd()  # noqa: PTH109
        except FileNotFoundError:  # it has been removed: nothing is below it
            self._start = ""
        subprocess = importlib.import_module("subprocess")
        self._patches.replace(subprocess.Popen, "__init__", self._without_windows)
        IMPORTS.add(self._answer)

    def close(self) -> None:
        """Answer no more; the modules that were given out say what the real ones say."""
        IMPORTS.remove(self._answer)
        self._patches.undo()

    def changed(self, wanted: list[Any]) -> None:
        """Take note of the packages, and of the folders, which are absolute paths."""
        named = frozenset(name for names in wanted if names is not True for name in names)
        self._folders = frozenset(name for name in named if name.startswith("/"))
        self._packages = named - self._folders

    def _answer(self, name: str, importer: Mapping[str, Any]) -> ModuleType | None:
        module = self._modules.get(name)
        return module if module is not None and self.is_open and self._is_told(importer) else None

    def _is_told(self, importer: Mapping[str, Any]) -> bool:
        if (self._packages or self._folders) and not is_library(importer):
            full = importer.get("__name__")
            if package_of(importer) in self._packages or (isinstance(full, str) and self._is_named(full)):
                return True
            if any(is_below(importer, folder) for folder in self._folders):
                return True
        return is_own(importer, self._start)

    def _is_named(self, full: str) -> bool:
        """Return whether a name below a top-level one was given, such as `google.pipes`."""
        return any(full == name or full.startswith(f"{name}.") for name in self._packages)

    def _without_windows(self, original: Callable[..., None]) -> Callable[..., None]:
        """Return Popen's `__init__`, which a window's beginning is no error for."""

        def __init__(popen: Any, *arguments: Any, **keywords: Any) -> None:  # noqa: N807
            if self.is_open:
                keywords.pop("creationflags", None)
                if isinstance(keywords.get("startupinfo"), self._startup_info):
                    del keywords["startupinfo"]
            original(popen, *arguments, **keywords)

        __init__.__wrapped__ = original  # type: ignore[attr-defined]  # inspect.signature looks there
        return __init__
