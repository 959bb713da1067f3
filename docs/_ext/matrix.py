"""What each face has, and what differs on Windows: tables that are made of the code at each build.

`.. features:: TABLE` is one of TABLES, below.
"""

from __future__ import annotations

import ast
import collections
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import faces
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from docutils import nodes
    from sphinx.application import Sphinx

ROOT: Final = Path(__file__).resolve().parents[2]
_COLUMNS: Final = ("npipe", "npipe.aio", "npipe.anyio")
_HAS, _HAS_NOT = "✓", "–"
_KINDS: Final = {
    "MessagePipe": {"npipe": "MessagePipe", "npipe.aio": "MessagePipe", "npipe.anyio": "MessageStream"},
    "StreamPipe": {"npipe": "StreamPipe", "npipe.aio": "StreamPipe", "npipe.anyio": "PipeByteStream"},
    "Listener": {"npipe": "Listener", "npipe.aio": "Listener", "npipe.anyio": "PipeListener"},
    "Server": {"npipe": "Server", "npipe.aio": "Server"},
    "Pool": {"npipe": "Pool", "npipe.aio": "Pool"},
}

Table = list[tuple[str, ...]]


def names() -> Table:
    """Return the functions and classes of each face."""
    found = {face: set(importlib.import_module(face).__all__) for face in _COLUMNS}
    shown = sorted({name for face in _COLUMNS for name in found[face]} - {"__version__", "remote"}, key=_order)
    rows = [
        (f"``{name}``", *(_link(face, name) for face in _COLUMNS))
        for name in shown
        if not name.endswith(("Error", "Stats", "Report")) and name not in ("Totals", "WinError")
    ]
    return [("name", *_COLUMNS), *rows]


def _order(name: str) -> tuple[bool, str]:
    return name[0].isupper(), name


def _link(face: str, name: str) -> str:
    if name not in importlib.import_module(face).__all__:
        return _HAS_NOT
    return f":py:obj:`{_HAS} <{face}.{name}>`"


def members(kind: str) -> Table:
    """Return the methods and attributes of a kind of object in each face, and what is so on Windows."""
    columns = _KINDS[kind]
    found = {face: getattr(importlib.import_module(face), name) for face, name in columns.items()}
    listed = {
        name
        for thing in found.values()
        for name in dir(thing)
        if not name.startswith("_") and not _is_elsewhere(thing, name)
    }
    rows = []
    for name in sorted(listed):
        cells = [_member(found[face], f"{face}.{columns[face]}", name) for face in columns]
        rows.append((f"``{name}``", *cells, _on_windows(found.values(), name)))
    return [("", *(f"{face}.{name}" for face, name in columns.items()), "on Windows"), *rows]


def _is_elsewhere(kind: type, name: str) -> bool:
    """Whether it is a name that only tells where the thing is that is meant."""
    return type(inspect.getattr_static(kind, name)).__name__ == "Elsewhere"


def _member(kind: type, path: str, name: str) -> str:
    if not hasattr(kind, name) or _is_elsewhere(kind, name):
        return _HAS_NOT
    thing = inspect.getattr_static(kind, name)
    returned = str(getattr(thing, "__annotations__", {}).get("return", ""))
    waits = inspect.iscoroutinefunction(thing) or returned.startswith("Coroutine")
    shown = "await" if waits else _HAS
    return f":py:obj:`{shown} <{faces.home_of(f'{path}.{name}', None, None)}>`" if _is_documented(path, name) else shown


def _is_documented(path: str, name: str) -> bool:
    home = faces.home_of(f"{path}.{name}", None, None)
    if home is None:
        return False
    module, _, rest = home.rpartition(".")[0].rpartition(".")
    kind = getattr(importlib.import_module(module), rest, None)
    thing = vars(kind).get(name) if kind is not None else None
    return bool(getattr(thing, "__doc__", None))


def _on_windows(kinds: Iterable[type], name: str) -> str:
    """Return the sentences of a docstring that name Windows."""
    for kind in kinds:
        text = re.sub(r"\s+", " ", inspect.getdoc(getattr(kind, name, None)) or "")
        said = [one for one in re.split(r"(?<=[.:;]) ", text) if re.search(r"\b[Oo]n Windows\b", one)]
        if said:
            return "; ".join(one.strip(" .;:`").replace("`", "``") for one in said)
    return "the same"


def options(function: str) -> Table:
    """Return the parameters of a function in each face, with their defaults."""
    found = {}
    for face in _COLUMNS:
        thing = getattr(importlib.import_module(face), function, None)
        if thing is not None:
            found[face] = _parameters(thing)
    listed = list(dict.fromkeys(name for one in found.values() for name in one))
    rows = [(f"``{name}``", *(found[face].get(name, _HAS_NOT) for face in found)) for name in listed]
    return [("parameter", *(f"{face}.{function}" for face in found)), *rows]


def _parameters(function: Callable[..., Any]) -> dict[str, str]:
    shown = {}
    for one in inspect.signature(function).parameters.values():
        if one.kind is one.VAR_KEYWORD:
            note = str(one.annotation)
            options_of = importlib.import_module("npipe.options")
            name = re.sub(r"Unpack\[(\w+)\]", r"\1", note.strip("'"))
            for base in reversed(getattr(options_of, name, object).__mro__[:-1] or ()):
                shown |= dict.fromkeys(getattr(base, "__annotations__", {}), _HAS)
            shown |= dict.fromkeys(getattr(getattr(options_of, name, None), "__annotations__", {}), _HAS)
            continue
        value = one.default
        shown[one.name] = "needed" if value is one.empty else f"``{value!r}``"
    return shown


def modules() -> Table:
    """Return the modules of pywin32 that there are."""
    rows = []
    for module in faces.WIN32:
        functions = [
            name for name in faces.public_names(module) if not inspect.isclass(getattr(sys.modules[module], name))
        ]
        rows.append(
            (
                f"``{module.rpartition('.')[2]}``",
                str(len(functions)),
                str(len(faces.constants(module))),
                "npipe's own",
                "pywin32's own",
            )
        )
    return [("module", "functions", "constants", "on Linux", "on Windows"), *rows]


def doors() -> Table:
    """Return the doors of npipe.win32.install, with what its docstring says of each."""
    from npipe.win32 import install

    text = inspect.getdoc(install) or ""
    said = dict(re.findall(r"^- `(\w+)`: (.*?)[;.]$(?=\n[-\n])", text, re.MULTILINE | re.DOTALL))
    opened = [name for name in inspect.signature(install).parameters if name in said]
    rows = [(f"``{name}``", re.sub(r"\s+", " ", said[name]).replace("`", "``"), "the system's own") for name in opened]
    return [("door", "on Linux", "on Windows"), *rows]


def commands() -> Table:
    """Return the commands, and where they are."""
    tree = ast.parse((ROOT / "src" / "npipe" / "cli" / "app.py").read_text(encoding="utf-8"))
    table = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.value, ast.Dict)
        and ast.unparse(node.target) == "_PLACES"
    )
    rows = []
    for key, value in zip(table.keys, table.values, strict=True):
        if isinstance(key, ast.Constant):
            rows.append((f"``npipe {key.value}``", _HAS, _HAS))
        elif isinstance(value, ast.IfExp) and ast.unparse(value.test) == "sys.platform != 'win32'":
            rows += [(f"``npipe {name}``", _HAS, _HAS_NOT) for name in ast.literal_eval(value.body)]
        else:
            raise TypeError(f"docs/_ext/matrix.py does not know what this says: {ast.unparse(value)}")
    return [("command", "Linux", "Windows"), *rows]


def differences() -> Table:
    """Return what the tests say that is another on Windows, with how many of them say so."""
    sys.path.insert(0, str(ROOT))
    try:
        found = importlib.import_module("tests.windows.differences")
    finally:
        sys.path.remove(str(ROOT))
    counted = collections.Counter(why for tests in found.DIFFERENCES.values() for why in tests.values())
    rows = [
        (_linked(why.removeprefix("Windows: ")), str(count))
        for why, count in counted.most_common()
        if why.startswith("Windows: ") and "test" not in why
    ]
    return [("on Windows", "tests"), *rows]


def linux_alone() -> Table:
    """Return the tests that are about what is not there on Windows, with the reason."""
    found = importlib.import_module("tests.windows.differences")
    return [("tests", "why"), *((f"``tests/{path}``", _linked(why)) for path, why in sorted(found.LINUX.items()))]


def _linked(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("*", "\\*").replace("_", "\\_")
    text = re.sub(r"\bSEMANTICS §[\d.]+", r":doc:`\g<0> </semantics>`", text)
    return re.sub(r"\bdocs/(\w+)\.md", r":doc:`/\1`", text)


TABLES: Final[dict[str, Callable[[], Table]]] = {
    "names": names,
    **{f"members-{kind}": lambda kind=kind: members(kind) for kind in _KINDS},  # type: ignore[misc]
    **{f"options-{name}": lambda name=name: options(name) for name in ("connect", "listen", "serve", "call", "wait")},  # type: ignore[misc]
    "modules": modules,
    "doors": doors,
    "commands": commands,
    "differences": differences,
    "linux": linux_alone,
}


class Features(SphinxDirective):
    """One of the tables."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return it."""
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto", ""]
        for row in TABLES[self.arguments[0]]():
            lines += [f"   {'* -' if not number else '  -'} {cell}" for number, cell in enumerate(row)]
        return self.parse_text_to_nodes("\n".join(lines), offset=self.lineno)


def setup(app: Sphinx) -> dict[str, bool]:
    """Be an extension of Sphinx's."""
    app.add_directive("features", Features)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
