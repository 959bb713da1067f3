"""Imports whose result depends on who asks, without an entry in `sys.modules`, which everybody would find."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from npipe._doors.base import Patches
from npipe.binding.imports import stand_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import FrameType, ModuleType

    _Import = Callable[..., Any]

__all__ = ["IMPORTS", "Answer", "Imports"]


class Answer(Protocol):
    """What a door says to an import."""

    def __call__(self, name: str, importer: Mapping[str, Any]) -> ModuleType | None:
        """Return the module that `name` is for the module with the globals `importer`; None: as for everybody."""


class Imports:
    """`import` statements, `importlib.import_module`, `reload` and `find_spec`, while a door has something to say.

    Extension modules that import through C alone do not pass here: those that Cython or mypyc has made.
    """

    def __init__(self) -> None:
        self._patches = Patches()
        self._answers: tuple[Answer, ...] = ()  # replaced as a whole: any thread reads it at any time
        self._awaited: dict[str, Callable[[ModuleType], object]] = {}

    def add(self, answer: Answer) -> None:
        """Ask `answer` from now on. Called with the lock of all doors."""
        if not self._answers:
            self._put()
        self._answers = (*self._answers, answer)

    def remove(self, answer: Answer) -> None:
        """Ask it no more; nothing happens if it was not asked."""
        if answer not in self._answers:
            return
        self._answers = tuple(one for one in self._answers if one != answer)
        if not self._answers:
            self._patches.undo()

    def once_loaded(self, name: str, function: Callable[[ModuleType], object]) -> None:
        """Call `function(module)` now, or when an import has loaded the module."""
        self._awaited[name] = function
        self._tell()

    def never_mind(self, name: str) -> None:
        """Undo `once_loaded`, if that has not happened."""
        self._awaited.pop(name, None)

    def _put(self) -> None:
        self._patches.replace(builtins, "__import__", self._statement)
        self._patches.replace(importlib, "import_module", self._import_module)
        self._patches.replace(importlib, "reload", self._reload)
        self._patches.replace(importlib.util, "find_spec", self._find_spec)

    def _asked(self, name: str, importer: Mapping[str, Any]) -> ModuleType | None:
        for answer in self._answers:
            module = answer(name, importer)
            if module is not None:
                return module
        return None

    def _tell(self) -> None:
        for name in list(self._awaited):
            module = sys.modules.get(name)
            if module is None or getattr(module.__spec__, "_initializing", False):
                continue
            function = self._awaited.pop(name, None)
            if function is not None:
                function(module)

    def _statement(self, original: _Import) -> _Import:
        def asked(
            name: str,
            globals: Mapping[str, Any] | None = None,  # noqa: A002 - as it is called
            locals: Mapping[str, Any] | None = None,  # noqa: A002
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> ModuleType | None:
            del locals
            # A list is what C passes, which takes the module from sys.modules afterwards.
            if not self._answers or level != 0 or type(name) is not str or type(fromlist) is list:
                return None
            wanted = name if fromlist else name.partition(".")[0]
            if wanted != name and name not in sys.modules:
                return None
            module = self._asked(wanted, _importer(globals))
            if module is not None:
                _check_names(wanted, module, fromlist or ())
            return module

        return stand_in("__import__", asked, original, self._awaited, self._tell)

    def _import_module(self, original: _Import) -> _Import:
        def asked(name: str, package: str | None = None) -> ModuleType | None:
            del package
            if not self._answers or type(name) is not str or name.startswith("."):
                return None
            return self._asked(name, _importer(None))

        return stand_in("import_module", asked, original, self._awaited, self._tell)

    def _find_spec(self, original: _Import) -> _Import:
        def asked(name: str, package: str | None = None) -> ModuleSpec | None:
            del package
            if not self._answers or type(name) is not str or name in sys.modules:
                return None
            module = self._asked(name, _importer(None))
            return None if module is None else module.__spec__

        return stand_in("find_spec", asked, original, self._awaited, self._tell)

    def _reload(self, original: _Import) -> _Import:
        def reload(module: ModuleType) -> ModuleType:
            """Reload the module and return it."""
            real = getattr(type(module), "npipe_reloads", None)
            if real is None:
                result: ModuleType = original(module)
                return result
            real(module, original)
            return module

        return reload


def _importer(namespace: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the globals of the module that imports: of the code that has called `__import__` or `exec` if need be."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
    if namespace is None and frame is not None:
        namespace = frame.f_globals
    while frame is not None and (namespace is None or "__name__" not in namespace):
        namespace, frame = frame.f_globals, frame.f_back
    return {} if namespace is None else namespace


def _check_names(asked: str, module: ModuleType, names: Sequence[str]) -> None:
    """Raise ImportError for a name that a module of npipe's has not; the statement's own error lacks the page."""
    if not module.__name__.startswith("npipe."):
        return
    for name in names:
        if name != "*" and not hasattr(module, name):
            text = f"cannot import name {name!r} from {asked!r} (npipe has what pipes need: docs/porting.md)"
            raise ImportError(text, name=asked)


IMPORTS: Final = Imports()
"""Those of this process."""
