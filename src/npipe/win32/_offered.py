"""What a module of pywin32's name offers, and what it says of a name that it has not."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Final

__all__ = ["_no_such", "_offered_by"]

_OFFERED: Final = "npipe offers pipes, events, overlapped I/O, completion ports and what belongs to them"
_PAGE: Final = "see docs/porting.md"


def _no_such(module: str, name: str) -> AttributeError:
    """Return the error for a name that a module of pywin32's has and npipe's has not, or that neither has.

    For a module's `__getattr__`, which raises it. `module` is pywin32's name, "win32pipe".
    """
    from npipe.win32._absent import reason_of  # here: few programs ask for what is not there

    reason = reason_of(module, name)
    but = "" if reason is None else f", but not {reason}"
    text = f"module {module!r} has no attribute {name!r} ({_OFFERED}{but}; {_PAGE})"
    return AttributeError(text, name=name, obj=sys.modules.get(f"npipe.win32.{module}"))


def _offered_by(names: dict[str, object]) -> list[str]:
    """Return which of a module's globals a `from win32api import *` gives: not what it has imported for itself."""
    return [
        name
        for name, value in names.items()
        if not name.startswith("_")
        and name not in ("annotations", "TYPE_CHECKING")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", None) not in _HELPERS
    ]


_HELPERS: Final = (
    "npipe.errors",
    "npipe.names",
    "npipe.transports.local",
    "npipe.win32._access",
    "npipe.win32._inheritance",
    "npipe.win32._services",
    "npipe.win32_error",
    __name__,
    "pathlib",
    "typing",
    "uuid",
)
