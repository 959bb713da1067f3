"""pywin32's module names in `sys.modules`: put there on request, for a scope, and taken away again."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Self

__all__ = ["NAMES", "Installation", "install"]

NAMES: Final = (
    "pywintypes",
    "winerror",
    "win32con",
    "win32api",
    "win32event",
    "win32file",
    "win32pipe",
    "win32security",
)
"""The modules that there are. Never msvcrt or _winapi, by which other software tells that it runs on Windows."""

_MISSING: Final = object()  # no entry; an entry may be None, which forbids an import

_lock = threading.Lock()
_installations: list[Installation] = []  # in the order they were made; under _lock, as is what each displaced


class Installation:
    """What `install` did: a context manager whose end undoes it, or `uninstall` does, once."""

    def __init__(self, modules: dict[str, ModuleType]) -> None:
        self._modules = modules
        self._displaced: dict[str, object] = {}

    def uninstall(self) -> None:
        """Put back what was in `sys.modules` before; nothing happens the second time.

        Installations may end in any order: the names are there until the last one ends. A module that somebody else
        has put under one of the names since is left alone.
        """
        with _lock:
            if self not in _installations:
                return
            place = _installations.index(self)
            del _installations[place]
            if place == len(_installations):
                self._give_back()
            else:  # the next one found ours there: it displaced what we did
                self._hand_over(_installations[place])

    def take(self) -> None:
        """Put the modules under their names; `install` does, with the lock held."""
        for name, module in self._modules.items():
            self._displaced[name] = sys.modules.get(name, _MISSING)
            sys.modules[name] = module

    def _give_back(self) -> None:
        for name, before in self._displaced.items():
            if not self._is_ours(name, sys.modules.get(name, _MISSING)):
                continue
            if before is _MISSING:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = before  # type: ignore[assignment]

    def _hand_over(self, later: Installation) -> None:
        for name, before in self._displaced.items():
            if self._is_ours(name, later._displaced[name]):
                later._displaced[name] = before

    def _is_ours(self, name: str, entry: object) -> bool:
        """Return whether an entry is what this put there, or what is left after somebody removed that."""
        return entry is self._modules[name] or entry is _MISSING

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.uninstall()


def install() -> Installation:
    """Make `import win32pipe` and the like find npipe's modules in this process, until the installation ends.

        with npipe.win32.install():
            import win32pipe

    The names are `win32pipe`, `win32file`, `win32event`, `win32api`, `win32con`, `win32security`, `pywintypes` and
    `winerror`. Nothing has to be kept: an installation stays until `uninstall` or the end of the `with` block, for
    good if neither comes. Modules that were imported meanwhile keep what they have. Child processes have nothing.

    Raises `RuntimeError` on Windows, where the names are pywin32's, and where pywin32 itself has been imported.
    """
    if sys.platform == "win32":
        raise RuntimeError("npipe.win32.install() is not for Windows: import win32pipe and the others from pywin32")
    modules = {name: importlib.import_module(f"npipe.win32.{name}") for name in NAMES}
    installation = Installation(modules)
    with _lock:
        for name in NAMES:
            if _is_pywin32(sys.modules.get(name)):
                raise RuntimeError(f"pywin32's own {name} has been imported: npipe.win32 does not take its place")
        installation.take()
        _installations.append(installation)
    return installation


def _is_pywin32(module: ModuleType | None) -> bool:
    """Return whether a module comes from an installation of pywin32: from a library of Windows, or from its folders."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    path = Path(file)
    if path.suffix.lower() in (".pyd", ".dll"):
        return True
    return any((folder / sign).exists() for folder in path.parents[:3] for sign in ("pywin32_system32", "pywin32.pth"))
