"""The package as it is built: that nothing is forgotten, and that the core needs nothing."""

from __future__ import annotations

import re
import tomllib

import npipe
from tests.helpers import CHECKOUT

ROOT = CHECKOUT
PACKAGE = ROOT / "src" / "npipe"


def test_every_python_file_is_listed_in_the_build() -> None:
    listed = set(re.findall(r"'([\w.]+\.(?:py|pyi|typed))'", (PACKAGE / "meson.build").read_text(encoding="utf-8")))
    there = {path.name for pattern in ("*.py", "*.pyi", "*.typed") for path in PACKAGE.rglob(pattern)}
    assert listed == there


def test_every_c_file_of_the_engine_is_listed_in_the_build() -> None:
    listed = set(re.findall(r"engine/(\w+/\w+\.c)'", (ROOT / "meson.build").read_text(encoding="utf-8")))
    engine = PACKAGE / "engine"
    assert listed == {path.relative_to(engine).as_posix() for path in engine.rglob("*.c")}


def test_the_core_has_no_dependencies_and_the_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == []
    assert set(project["optional-dependencies"]) == {"cli", "smb", "monitor", "all"}
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
            if path.suffix in {".py", ".pyi", ".pyx", ".pxi", ".c", ".h", ".md"}:
                cited = re.findall(r"SEMANTICS §? ?(\d+(?:\.\d+)?)", path.read_text(encoding="utf-8"))
                assert set(cited) <= there, path
