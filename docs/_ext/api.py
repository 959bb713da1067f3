"""The reference: signatures as the sources have them, types as links, and directives that list a module's names.

`.. api:: MODULE [NAME ...]` documents these names of a module, or all that it has; `.. constants:: MODULE` is a table.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import functools
import importlib
import inspect
import re
import sys
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import faces
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.addnodes import pending_xref
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

import npipe

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

_SOURCES: Final = Path(__file__).resolve().parents[2] / "src"
_PYTHON: Final = "https://docs.python.org/3/library/"
_ELSEWHERE: Final = {
    "asyncio.AbstractEventLoop": "asyncio-eventloop.html#asyncio.AbstractEventLoop",
    "asyncio.AbstractServer": "asyncio-eventloop.html#asyncio.Server",
    "asyncio.BaseTransport": "asyncio-protocol.html#asyncio.BaseTransport",
    "asyncio.Transport": "asyncio-protocol.html#asyncio.Transport",
    "asyncio.BaseProtocol": "asyncio-protocol.html#asyncio.BaseProtocol",
    "asyncio.SelectorEventLoop": "asyncio-eventloop.html#asyncio.SelectorEventLoop",
    "asyncio.StreamReader": "asyncio-stream.html#asyncio.StreamReader",
    "asyncio.StreamWriter": "asyncio-stream.html#asyncio.StreamWriter",
    "asyncio.Task": "asyncio-task.html#asyncio.Task",
    "asyncio.Future": "asyncio-future.html#asyncio.Future",
    "None": "constants.html#None",
    "AuthenticationError": "multiprocessing.html#multiprocessing.AuthenticationError",
    "AbstractContextManager": "contextlib.html#contextlib.AbstractContextManager",
    "AbstractAsyncContextManager": "contextlib.html#contextlib.AbstractAsyncContextManager",
}
_TYPES: Final = ("str", "bytes", "bytearray", "memoryview", "list", "tuple", "dict", "set", "frozenset", "range")
_WRITTEN: Final = {
    r"\bdt\.": "datetime.",
    r"\b_AnyHandle\b": "PyHANDLE | int",
    r"\bTimeout\b": "float | Literal['default'] | None",
    r"\bRoutine\b": "Callable[[int, int, OVERLAPPED], object]",
    r"\bFindData\b": "tuple[Any, ...]",
    r"\b_starting\.|\b_sid\.|\b_file_functions\.|\b_security\.": "",
    r"\bAuthenticationError\b": "multiprocessing.AuthenticationError",
}
"""What stands in sources for something that a reader knows by another name."""

# --- Signatures ------------------------------------------------------------------------------------------------


@functools.cache
def _stubs() -> dict[str, tuple[str, str]]:
    """Return the signatures in the binding's stubs: what Cython's functions tell of themselves has no types."""
    found = {}
    for path in (_SOURCES / "npipe" / "binding").rglob("*.pyi"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            inner = node.body if isinstance(node, ast.ClassDef) else [node]
            prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
            for one in inner:
                if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    arguments = ast.unparse(one.args)
                    if prefix:
                        arguments = arguments.removeprefix("self").removeprefix("cls").lstrip(" ,").removeprefix("/, ")
                    returned = ast.unparse(one.returns) if one.returns else ""
                    found.setdefault(prefix + one.name, (f"({arguments})", returned))
    return found


def _signature(thing: Any, what: str) -> tuple[str, str] | None:
    """Return the signature of a function or class as its source has it; None for Sphinx' own way."""
    if type(thing).__name__ in ("cython_function_or_method", "method_descriptor"):
        return _stubs().get(thing.__qualname__)
    if inspect.isclass(thing):
        if thing.__module__ == "builtins" and thing.__name__ in faces.importlib.import_module("npipe.binding").__all__:
            return "", ""
        if getattr(thing, "_is_protocol", False) or _is_only_returned(thing):
            return "", ""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return None
    parameters = list(found.parameters.values())
    if what == "method" and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    returned = found.return_annotation
    plain = found.replace(parameters=[_unquoted(one) for one in parameters], return_annotation=inspect.Signature.empty)
    text = "" if inspect.isclass(thing) or returned is inspect.Signature.empty else inspect.formatannotation(returned)
    return str(plain).replace("~", ""), text.strip("'")


def _is_only_returned(kind: type) -> bool:
    """Whether a class is made by functions only: its constructor refuses."""
    if issubclass(kind, (npipe.Pipe, npipe.aio.Pipe)):
        return True
    names = [one for one in inspect.signature(kind).parameters if one.strip("_")] if _has_signature(kind) else []
    return _has_signature(kind) and not names and bool(inspect.signature(kind).parameters)


def _has_signature(kind: type) -> bool:
    try:
        inspect.signature(kind)
    except (TypeError, ValueError):
        return False
    return True


class _AsWritten:
    """An annotation, or a default, of which a signature shows the source's text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _unquoted(parameter: inspect.Parameter) -> inspect.Parameter:
    note, default = parameter.annotation, parameter.default
    if isinstance(note, str):
        note = _AsWritten(note)
    if default is not inspect.Parameter.empty and repr(default).startswith("<"):
        default = _AsWritten("...")
    return parameter.replace(annotation=note, default=default)


def _process_signature(
    _app: Sphinx, what: str, _name: str, thing: Any, _options: Any, arguments: str | None, returned: str | None
) -> tuple[str, str] | None:
    del arguments, returned
    if what in ("module", "property", "attribute", "data"):
        return None
    found = _signature(thing, what)
    return (_written(found[0]), _written(found[1])) if found else None


def _written(text: str) -> str:
    for inner, known in _WRITTEN.items():
        text = re.sub(inner, known, text)
    return text


def _process_bases(_app: Sphinx, _name: str, _thing: Any, _options: Any, bases: list[Any]) -> None:
    """Leave out what a reader has no page of."""
    known = faces.homes()

    def is_public(base: Any) -> bool:
        kind = typing.get_origin(base) or base
        where = f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}"
        return kind is not typing.Generic and (not where.startswith("npipe.") or where in known)

    bases[:] = [base for base in bases if is_public(base)] or [object]


# --- Names -----------------------------------------------------------------------------------------------------


def place_of(name: str) -> str | None:
    """Return where the documentation of a name of Python's, or of anyio's, is; None where that is not known."""
    if name in _ELSEWHERE:
        return _PYTHON + _ELSEWHERE[name]
    if "." not in name and hasattr(builtins, name):
        thing = getattr(builtins, name)
        page = "stdtypes" if name in _TYPES else "functions"
        if isinstance(thing, type) and issubclass(thing, BaseException):
            page = "exceptions"
        return f"{_PYTHON}{page}.html#{name}"
    if name in collections.abc.__all__:
        return f"{_PYTHON}collections.abc.html#collections.abc.{name}"
    if name in typing.__all__:
        return f"{_PYTHON}typing.html#typing.{name}"
    module, _, last = name.rpartition(".")
    if name in vars(types):
        module, last = "types", name
    elif name in ("Path", "IntEnum", "IntFlag", "ABC"):
        module, last = {"Path": "pathlib", "ABC": "abc"}.get(name, "enum"), name
    if module.partition(".")[0] in sys.stdlib_module_names:
        return f"{_PYTHON}{module}.html#{module}.{last}"
    if module.partition(".")[0] == "anyio":
        return f"https://anyio.readthedocs.io/en/stable/api.html#{name}"
    return None


class KnownNames(SphinxPostTransform):
    """Gives each name in signatures and docstrings its full public one, seen from where it stands."""

    default_priority = 5  # before Sphinx' own, which takes any name of several that end alike

    def run(self, **_: object) -> None:
        """Change the document."""
        for text in list(self.document.findall(nodes.Text)):
            if text.astext() == " -- ":  # between a parameter and what it is
                text.parent.replace(text, nodes.Text(" – "))
        for node in list(self.document.findall(pending_xref)):
            if node.get("refdomain") != "py" or node.get("reftype") == "mod":
                continue
            full = faces.home_of(node["reftarget"], node.get("py:module"), node.get("py:class"))
            if full is not None:
                node["reftarget"] = full
                node["refspecific"] = False
                node["reftype"] = "obj"


def _resolve(_app: Sphinx, _env: BuildEnvironment, node: pending_xref, text: nodes.Element) -> nodes.Element | None:
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    if place := place_of(target):
        return nodes.reference("", "", text, internal=False, refuri=place, reftitle=target)
    return text if target.split(".")[-1] in _PARAMETERS else None


_PARAMETERS: Final = {
    *("P", "S", "SendT", "RecvT", "Elsewhere", "Ace", "_Shared", "_Given", "_Stream", "Readable"),
    *("PipeName", "Role", "BaseContext"),
}
"""Names in signatures that stand for any type, or for one that has no page."""

# --- Directives ------------------------------------------------------------------------------------------------


def _kind(module: str, name: str) -> str:
    thing = getattr(importlib.import_module(module), name, None)
    if inspect.isclass(thing):
        return "autoexception" if issubclass(thing, BaseException) else "autoclass"
    if callable(thing) and not isinstance(thing, (types.GenericAlias, type(typing.Any))) and hasattr(thing, "__name__"):
        return "autofunction"
    return "autodata"


class Api(SphinxDirective):
    """Some names of a module, each with its signature and docstring."""

    required_arguments = 1
    optional_arguments = 200
    option_spec: ClassVar[dict[str, Any]] = {"inherited": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Return their nodes."""
        module, *names = self.arguments
        lines = []
        for name in names or faces.public_names(module):
            directive = _kind(module, name)
            home = faces.homes()[f"{module}.{name}"]
            if home != f"{module}.{name}":
                lines += [f".. py:data:: {module}.{name}", "", f"   The same as :py:obj:`{home}`.", ""]
                continue
            lines += [f".. {directive}:: {module}.{name}"]
            if directive in ("autoclass", "autoexception"):
                lines += ["   :members:", "   :show-inheritance:"]
                lines += ["   :inherited-members: Exception, object, tuple, int"] if "inherited" in self.options else []
                lines += ["   :undoc-members:"] if name == "WinError" else []
            lines += ["   :no-value:"] if directive == "autodata" and module != "npipe.options" else []
            lines += [""]
        return self.parse_text_to_nodes("\n".join(lines), offset=self.lineno)


class Constants(SphinxDirective):
    """A module's constants, as a table."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return it."""
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto", "", "   * - name", "     - value"]
        for name, value in sorted(faces.constants(self.arguments[0]).items()):
            shown = repr(value)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0xFFFF:
                shown = f"0x{value:X}"
            lines += [f"   * - ``{name}``", f"     - ``{shown}``"]
        return self.parse_text_to_nodes("\n".join(lines), offset=self.lineno)


def _forget_overloads(_app: Sphinx) -> None:
    """Let a function with overloads be shown by its own signature, which has all parameters and defaults."""
    for name in [name for name in sys.modules if name.startswith("npipe")]:
        if getattr(sys.modules[name], "__file__", "") and str(sys.modules[name].__file__).endswith(".py"):
            analyzer = ModuleAnalyzer.for_module(name)
            analyzer.analyze()
            analyzer.overloads.clear()


def setup(app: Sphinx) -> dict[str, bool]:
    """Be an extension of Sphinx's."""
    for module in faces.FACES:
        importlib.import_module(module)
    app.connect("builder-inited", _forget_overloads)
    app.connect("autodoc-process-signature", _process_signature)
    app.connect("autodoc-process-bases", _process_bases)
    app.connect("missing-reference", _resolve)
    app.add_post_transform(KnownNames)
    app.add_directive("api", Api)
    app.add_directive("constants", Constants)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
