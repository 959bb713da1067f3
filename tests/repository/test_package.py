"""The package as it is built: that nothing is forgotten, and that the core needs nothing."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import npipe
from tests.helpers import CHECKOUT

ROOT = CHECKOUT
PACKAGE = ROOT / "src" / "npipe"
BINDING = PACKAGE / "binding"
VOCABULARY = {
    "_buffers",
    "_display",
    "_process",
    "_streams",
    "_text",
    "errors",
    "names",
    "options",
    "reasons",
    "remote",
    "remote_access",
    "views",
    "win32_error",
}


def test_every_python_file_is_listed_in_the_build() -> None:
    build = (PACKAGE / "meson.build").read_text(encoding="utf-8")
    listed = {
        (Path(folder) / name).as_posix()
        for folder, names in re.findall(r"^  '([\w/]*)': \[(.*?)\]", build, re.MULTILINE | re.DOTALL)
        for name in re.findall(r"'([\w.]+)'", names)
    }
    there = {path for pattern in ("*.py", "*.pyi", "*.typed") for path in PACKAGE.rglob(pattern)}
    assert listed == {path.relative_to(PACKAGE).as_posix() for path in there}


def test_every_c_file_of_the_engine_is_listed_in_the_build() -> None:
    listed = set(re.findall(r"engine/(\w+/\w+\.c)'", (ROOT / "meson.build").read_text(encoding="utf-8")))
    engine = PACKAGE / "engine"
    assert listed == {path.relative_to(engine).as_posix() for path in engine.rglob("*.c")}


def parts() -> tuple[str, ...]:
    """The parts of the binding, the lowest first."""
    source = (BINDING / "__init__.py").read_text(encoding="utf-8")
    listed = re.search(r"^PARTS: Final = \((.*?)^\)", source, re.MULTILINE | re.DOTALL)
    assert listed is not None
    return tuple(re.findall(r'"([\w.]+)"', listed[1]))


def test_every_part_of_the_binding_is_built_and_loaded() -> None:
    there = {path.relative_to(BINDING).with_suffix("").as_posix() for path in BINDING.rglob("*.pyx")}
    build = (PACKAGE / "meson.build").read_text(encoding="utf-8")
    assert sorted(re.findall(r"'binding/([\w/]+)\.pyx'", build)) == sorted(there)
    declarations = {path.relative_to(BINDING).as_posix() for path in BINDING.rglob("*.pxd")}
    assert set(re.findall(r"'binding/([\w/]+\.pxd)'", build)) == declarations
    assert parts()[0] == "utility", "Cython's own, which it generates"
    assert sorted(parts()[1:]) == sorted(name.replace("/", ".") for name in there)
    last = [name.rpartition(".")[2] for name in parts()]
    assert len(set(last)) == len(last), "each has a function PyInit_NAME in the one shared object"


def test_a_part_of_the_binding_imports_what_is_below_it_only() -> None:
    for number, part in enumerate(parts()):
        allowed = {"engine", "system", *parts()[:number]}
        for suffix in (".pyx", ".pxd"):
            source = BINDING / (part.replace(".", "/") + suffix)
            if not source.exists():
                continue
            text = source.read_text(encoding="utf-8")
            own = set(re.findall(r"npipe\.binding\.([\w.]+) c?import", text))
            assert own <= allowed, (part, own - allowed)
            others = set(re.findall(r"^ *from npipe\.(?!binding\.)([\w.]+) import", text, re.MULTILINE))
            others |= set(re.findall(r"^ *from npipe import (\w+)", text, re.MULTILINE))
            assert others <= VOCABULARY, (part, others - VOCABULARY)
            assert not re.search(r"^ *(?:c?import npipe|include )", text, re.MULTILINE), part


def test_the_vocabulary_imports_nothing_above_it() -> None:
    for name in VOCABULARY:
        text = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
        imported = set(re.findall(r"^ *from npipe\.([\w.]+) import", text, re.MULTILINE))
        imported |= set(re.findall(r"^ *from npipe import (\w+)", text, re.MULTILINE))
        assert imported <= VOCABULARY, (name, imported - VOCABULARY)


def test_the_engine_is_declared_to_the_binding_once() -> None:
    headers = {path.name for path in (PACKAGE / "engine").rglob("*.h")}
    for pattern in ("*.pyx", "*.pxd"):
        for path in BINDING.rglob(pattern):
            declared = re.findall(r'cdef extern from "([^"]+)"', path.read_text(encoding="utf-8"))
            if path.name != "engine.pxd":
                assert not headers & {name.rpartition("/")[2] for name in declared}, path
    text = (BINDING / "engine.pxd").read_text(encoding="utf-8")
    functions = re.findall(r"^    .*?\b(np_\w+)\(", text, re.MULTILINE)
    assert len(set(functions)) == len(functions) > 100


def test_the_core_has_no_dependencies_and_the_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == []
    assert set(project["optional-dependencies"]) == {"cli", "smb", "monitor", "ws", "all"}
    assert "Typing :: Typed" in project["classifiers"]


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    build = re.search(r"version: '([\d.]+)'", (ROOT / "meson.build").read_text(encoding="utf-8"))
    assert build is not None
    assert npipe.__version__ == project["version"] == build[1]


def test_every_row_of_windows_behaviour_that_is_cited_stands_in_the_docs() -> None:
    table = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    there = set(re.findall(r"^##+ (\d+(?:\.\d+)?)\b", table, re.MULTILINE))
    for folder in ("src", "tests", "docs", "bench", "scripts"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".pyi", ".pyx", ".pxd", ".c", ".h", ".md"}:
                cited = re.findall(r"SEMANTICS §? ?(\d+(?:\.\d+)?)", path.read_text(encoding="utf-8"))
                assert set(cited) <= there, path


def test_npipe_imports_no_event_loop_by_itself() -> None:
    code = "import sys, npipe; print([name for name in ('asyncio', 'trio', 'anyio') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_what_npipe_offers_is_what_type_checkers_are_told() -> None:
    """The names are found when they are asked for: the table of it, against the imports that only checkers see."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    told = {
        name.name: statement.module
        for statement in ast.walk(tree)
        if isinstance(statement, ast.ImportFrom) and statement.module != "__future__"
        for name in statement.names
    }
    del told["recording"]  # NPIPE_TRACE's
    assert set(told) == set(npipe.__all__) - {"__version__"}
    for name, module in told.items():
        assert module is not None
        found = importlib.import_module("npipe.remote" if name == "remote" else module)
        assert getattr(npipe, name) is (found if name == "remote" else getattr(found, name)), name
    assert set(npipe.__all__) <= set(dir(npipe))
    assert not hasattr(npipe, "no_such_name")


def test_npipe_imports_next_to_nothing_by_itself() -> None:
    code = "import sys; before = set(sys.modules); import npipe; print(sorted(set(sys.modules) - before))"
    environment = {name: value for name, value in os.environ.items() if name != "NPIPE_TRACE"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "['__future__', 'npipe']\n"
