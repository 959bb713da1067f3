"""Names that `_winapi` shares with pywin32, taken from there; and what is said of a name that there is not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.os_errors import raises_os_errors

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["find"]

_SHARED: Final = {
    "OpenProcess": "win32api",
    "GetStdHandle": "win32api",
    "GetExitCodeProcess": "win32process",
    "TerminateProcess": "win32process",
}


def find(module: str, name: str) -> Any:
    """Return what `module.name` is, for a module's `__getattr__`; raises AttributeError that names it and the page."""
    if module == "_winapi" and name in _SHARED:
        found = _from_pywin32(_SHARED[name], name)
        if found is not None:
            return _with_numbers(found)
    asked = sys.modules.get(f"npipe._doors.winapi.{module}")
    text = f"module {module!r} has no attribute {name!r} (npipe has what pipes need: docs/porting.md)"
    raise AttributeError(text, name=name, obj=asked)


def _from_pywin32(module: str, name: str) -> Any:
    import npipe.win32

    return getattr(getattr(npipe.win32, module, None), name, None)


def _with_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose handles are numbers."""

    @raises_os_errors
    def call(*arguments: Any) -> Any:
        result = function(*arguments)
        detach = getattr(result, "Detach", None)
        return result if detach is None else detach()

    return call
