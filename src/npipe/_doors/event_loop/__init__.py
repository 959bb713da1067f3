"""The door of asyncio: the Proactor loop and its policy, the default ones as on Windows, with pipes.

- `windows_events`, `windows_utils`: what `asyncio.windows_events` and `asyncio.windows_utils` are meanwhile;
- `proactor`: operations on pipes' handles, for programs that use `loop._proactor`;
- `defaults`: whose loops are the default.

Nothing of it is imported before asyncio is.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.base import Door, Patches
from npipe._doors.imports import IMPORTS
from npipe._doors.modules import Modules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from npipe._doors.event_loop.defaults import Defaults

__all__ = ["EventLoopDoor"]

_SUBMODULES: Final = ("windows_events", "windows_utils")
_DEPRECATED: Final = ("DefaultEventLoopPolicy", "WindowsSelectorEventLoopPolicy", "WindowsProactorEventLoopPolicy")
"""The names that asyncio warns of from Python 3.14 on."""


class _Finder(MetaPathFinder, Loader):
    """Finds the submodules when a statement imports them together with asyncio, before the door is open in that."""

    def __init__(self, open_in_asyncio: Callable[[], None]) -> None:
        self._open_in_asyncio = open_in_asyncio

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of a submodule."""
        del path, target
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == "asyncio" and name in _SUBMODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Open the door in asyncio, and return the module that it has put there."""
        self._open_in_asyncio()
        return importlib.import_module(f"npipe._doors.event_loop.{spec.name.partition('.')[2]}")

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it is loaded."""


class EventLoopDoor(Door):
    """asyncio's names for Windows; a policy that the program has set itself stays."""

    name = "asyncio"

    def __init__(self) -> None:
        super().__init__()
        self._patches = Patches()
        self._lock = threading.RLock()  # of what follows: an import in any thread may open the door in asyncio
        self._may_open = False
        self._is_opening = False
        self._modules: Modules | None = None
        self._defaults: Defaults | None = None
        self._finder = _Finder(self._loaded)

    def open(self) -> None:
        """Wait for asyncio."""
        self._may_open = True
        sys.meta_path.insert(0, self._finder)
        IMPORTS.add(_answer)
        IMPORTS.once_loaded("asyncio", self._loaded)

    def close(self) -> None:
        """Put back asyncio's names, and the default policy."""
        IMPORTS.never_mind("asyncio")
        IMPORTS.remove(_answer)
        with contextlib.suppress(ValueError):  # somebody else has taken it away
            sys.meta_path.remove(self._finder)
        with self._lock:
            self._may_open = False
            defaults, self._defaults = self._defaults, None
            if defaults is not None:
                defaults.put_back()
            modules, self._modules = self._modules, None
            if modules is not None:
                modules.take_away()
            self._patches.undo()

    def _loaded(self, _: object = None) -> None:
        """Open the door in asyncio, unless a part of npipe is just being imported, which this would need."""
        importing = [name for name in list(sys.modules) if name.startswith("npipe.") and _is_importing(name)]
        if importing:
            IMPORTS.once_loaded(importing[0], lambda _: self._try_again(importing[0]))
            return
        with self._lock:
            if self._may_open and not self._is_opening and self._modules is None:
                self._is_opening = True  # what is imported now may call this again
                try:
                    self._open_in_asyncio()
                finally:
                    self._is_opening = False

    def _try_again(self, name: str) -> None:
        IMPORTS.never_mind(name)
        self._loaded()

    def _open_in_asyncio(self) -> None:
        asyncio: Any = importlib.import_module("asyncio")
        ours: dict[str, ModuleType] = {
            name: importlib.import_module(f"npipe._doors.event_loop.{name}") for name in _SUBMODULES
        }
        events: Any = ours["windows_events"]
        self._modules = Modules({f"asyncio.{name}": module for name, module in ours.items()})
        self._modules.put()
        replace = self._patches.replace
        for name, module in ours.items():
            replace(asyncio, name, lambda _, module=module: module)  # type: ignore[misc]
        for name in ("ProactorEventLoop", "IocpProactor"):
            replace(asyncio, name, lambda _, name=name: getattr(events, name))  # type: ignore[misc]
        if sys.version_info >= (3, 13):
            replace(asyncio, "EventLoop", lambda _: events.EventLoop)
        if sys.version_info >= (3, 14):
            replace(asyncio, "__getattr__", self._deprecated)
            unix_events = importlib.import_module("asyncio.unix_events")
            replace(unix_events, "_DefaultEventLoopPolicy", lambda _: events.DefaultEventLoopPolicy)
        else:
            for name in _DEPRECATED:
                replace(asyncio, name, lambda _, name=name: getattr(events, name))  # type: ignore[misc]
        public = [name for name in events.__all__ if name not in asyncio.__all__]
        replace(asyncio, "__all__", lambda before: (*before, *public))
        self._defaults = importlib.import_module("npipe._doors.event_loop.defaults").Defaults()
        self._defaults.put()

    def _deprecated(self, original: Any) -> Any:
        """Return asyncio's `__getattr__` for the names that it warns of, on Windows these three among them."""

        def __getattr__(name: str) -> Any:  # noqa: N807
            if name in _DEPRECATED and self.is_open:
                import warnings

                text = f"'asyncio.{name}' is deprecated and slated for removal in Python 3.16"
                warnings.warn(text, DeprecationWarning, stacklevel=2)
                return getattr(sys.modules["npipe._doors.event_loop.windows_events"], f"_{name}")
            return original(name)

        return __getattr__


def _answer(name: str, importer: Mapping[str, Any]) -> None:
    """Have nothing to say of an import; that it is heard of is enough."""
    del name, importer


def _is_importing(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(getattr(sys.modules[name].__spec__, "_initializing", False))
    return False
