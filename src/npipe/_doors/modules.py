"""Modules put into `sys.modules` for a scope; the door of pywin32's names."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.base import Door
from npipe.win32._modules import ABSENT, NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["Modules", "Pywin32Door"]

_MISSING: Final = object()  # no entry; an entry may be None, which forbids an import


_IMPORT_SYSTEM: Final = ("importlib._bootstrap", "_frozen_importlib")


class Modules:
    """Modules in `sys.modules`, each above what was there before; several of these may stand above each other."""

    def __init__(self, modules: dict[str, ModuleType]) -> None:
        self._modules = modules
        self._displaced: dict[str, object] = {}

    def put(self) -> None:
        """Put the modules under their names."""
        for name, module in self._modules.items():
            self._displaced[name] = sys.modules.get(name, _MISSING)
            sys.modules[name] = module

    def take_away(self, above: Modules | None = None) -> None:
        """Put back what was there; `above` stands on this one, and gets it where this one is what it displaced.

        A module that somebody else has put under one of the names since is left alone.
        """
        for name, before in self._displaced.items():
            if above is not None:
                if self._is_ours(name, above._displaced[name]):  # noqa: SLF001
                    above._displaced[name] = before  # noqa: SLF001
            elif not self._is_ours(name, sys.modules.get(name, _MISSING)):
                continue
            elif before is _MISSING:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = before  # type: ignore[assignment]

    def _is_ours(self, name: str, entry: object) -> bool:
        """Return whether an entry is what this put there, or what is left after somebody removed that."""
        return entry is self._modules[name] or entry is _MISSING


class _Absent(MetaPathFinder):
    """The last to be asked for a module: says of pywin32's others that they are not here, and why.

    Only an import is told; who looks whether there is such a module (`importlib.util.find_spec`) finds none.
    """

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in ABSENT and _is_import():
            about = f"not one that npipe has: {ABSENT[fullname]}; see docs/porting.md"
            raise ModuleNotFoundError(f"No module named {fullname!r} ({about})", name=fullname)
        return None


def _is_import() -> bool:
    """Return whether the finder is asked by the import system itself: it asks for a spec to load a module."""
    frame = sys._getframe(2)  # noqa: SLF001 - who has called the finder
    while frame is not None and frame.f_globals.get("__name__") in _IMPORT_SYSTEM:
        if frame.f_code.co_name == "_find_and_load":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


class Pywin32Door(Door):
    """pywin32's modules under their own names: each installation puts them there anew, above what it finds."""

    name = "pywin32"

    def __init__(self) -> None:
        super().__init__()
        self._put: dict[object, Modules] = {}  # by each installation, in the order they were made
        self._absent = _Absent()

    def enter(self, owner: object, wanted: Any) -> None:
        """Put the modules there, unless pywin32's own are."""
        modules = {name: importlib.import_module(f"npipe.win32.{name}") for name in NAMES}
        for name in NAMES:
            if _is_pywin32(sys.modules.get(name)):
                raise RuntimeError(f"pywin32's own {name} has been imported: npipe.win32 does not take its place")
        self._put[owner] = Modules(modules)
        self._put[owner].put()
        super().enter(owner, wanted)

    def leave(self, owner: object) -> None:
        """Take them away from what stands there now: from `sys.modules`, or from what a later one has displaced."""
        super().leave(owner)
        order = list(self._put)
        later = order[order.index(owner) + 1 :]
        self._put.pop(owner).take_away(self._put[later[0]] if later else None)

    def open(self) -> None:
        """Let imports of pywin32's other modules say why they are not here."""
        sys.meta_path.append(self._absent)

    def close(self) -> None:
        """Nothing is said of them any more."""
        if self._absent in sys.meta_path:
            sys.meta_path.remove(self._absent)


def _is_pywin32(module: ModuleType | None) -> bool:
    """Return whether a module comes from an installation of pywin32: from a library of Windows, or from its folders."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    path = Path(file)
    if path.suffix.lower() in (".pyd", ".dll"):
        return True
    return any((folder / sign).exists() for folder in path.parents[:3] for sign in ("pywin32_system32", "pywin32.pth"))
