"""What is said of a name that `_winapi`, `_overlapped` and `msvcrt` have on Windows and not here."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["find"]


def find(module: str, name: str) -> Any:
    """Raise AttributeError that names `module.name` and the page, for a module's `__getattr__`."""
    asked = sys.modules.get(f"npipe._doors.winapi.{module}")
    text = f"module {module!r} has no attribute {name!r} (npipe has what pipes need: docs/porting.md)"
    raise AttributeError(text, name=name, obj=asked)
