"""On Windows `npipe.win32.win32pipe` is pywin32's `win32pipe`, and so are the others."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

__all__ = ["alias"]


class _Pywin32(MetaPathFinder, Loader):
    """Answers the import of `PACKAGE.NAME` with the module NAME, when it is asked for."""

    def __init__(self, package: str, names: dict[str, str]) -> None:
        self._real = {f"{package}.{name}": real for name, real in names.items()}

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in self._real else None

    def exec_module(self, module: ModuleType) -> None:
        name = self._real[module.__name__]
        try:
            real = importlib.import_module(name)
        except ImportError as error:
            raise ImportError(f"on Windows npipe.win32 is pywin32: pip install pywin32 ({error})", name=name) from error
        # The import system takes what is here now, and leaves the real module's own name and loader as they are.
        sys.modules[module.__name__] = real


def alias(package: str, names: Iterable[str], **others: str) -> None:
    """Let `PACKAGE.NAME` be the module NAME for each name, or the one that `others` gives, imported at first use."""
    sys.meta_path.insert(0, _Pywin32(package, {name: name for name in names} | others))
