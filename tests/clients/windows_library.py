"""The standard library's modules in their Windows halves, from its own source, on the door's `_winapi` and others.

A private copy of a module that believes to be on Windows; nothing else sees it. To be used while the door is open.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable


class _Sys(types.ModuleType):
    """sys, but on Windows 10."""

    platform = "win32"

    @staticmethod
    def getwindowsversion() -> tuple[int, int, int, int, str]:
        return 10, 0, 19045, 2, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


class _WindowsOSError(OSError):
    """As each OSError is there: it has a `winerror`, None for one that comes from no call of Windows."""

    winerror: int | None = None


def _no_socket(*_: object) -> None:
    raise NotImplementedError("connections over sockets have no part in this")


def module_of_windows(full: str, **replaced: Any) -> Any:
    """A copy of a module of the library; `replaced` has what else it finds by an import."""
    spec = importlib.util.find_spec(full)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8").replace("raise OSError(", "raise _WindowsOSError(")
    found = {"sys": _Sys("sys"), **replaced}
    for name in ("_winapi", "_overlapped", "msvcrt"):
        found[name] = importlib.import_module(name)

    def import_(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level and fromlist and fromlist[0] in found:
            return types.SimpleNamespace(**{one: found[one] for one in fromlist})
        return found.get(name) or builtins.__import__(name, globals, locals, fromlist, level)

    package, _, short = full.rpartition(".")
    module: Any = types.ModuleType(f"{package}.{short}_of_windows")
    module.__package__ = package
    module.__file__ = spec.origin
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": import_, "_WindowsOSError": _WindowsOSError}
    exec(compile(source, spec.origin, "exec"), vars(module))
    return module


def _library_connection() -> Any:
    sockets = types.ModuleType("_multiprocessing")
    vars(sockets).update(vars(importlib.import_module("_multiprocessing")))
    vars(sockets).update(closesocket=_no_socket, send=_no_socket, recv=_no_socket)
    return module_of_windows("multiprocessing.connection", _multiprocessing=sockets)


MODULES: Final[dict[str, Callable[[], Any]]] = {
    "the library's source": _library_connection,
    "the door's": lambda: importlib.import_module("multiprocessing.connection"),
}
"""What multiprocessing.connection may be."""


def asyncio_events() -> Any:
    """asyncio.windows_events, for its proactor and pipe server."""
    utils = module_of_windows("asyncio.windows_utils")
    return module_of_windows("asyncio.windows_events", windows_utils=utils)
