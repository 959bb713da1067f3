"""What is said of a name that `_winapi`, `_overlapped` and `msvcrt` have on Windows and not here."""

from __future__ import annotations

import sys
from typing import Any

from npipe.win32._offered import missing_name

__all__ = ["find"]


def find(module: str, name: str) -> Any:
    """Raise AttributeError or ImportError that names `module.name` and the page, for a module's `__getattr__`."""
    asked = sys.modules.get(f"npipe._doors.winapi.{module}")
    raise missing_name(module, name, "npipe has what pipes need: docs/porting.md", asked, depth=3)
