"""The package as it is built: that nothing is forgotten, and that the core needs nothing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "npipe"


def test_every_python_file_is_listed_in_the_build() -> None:
    listed = set(re.findall(r"'([\w.]+\.(?:py|pyi|typed))'", (PACKAGE / "meson.build").read_text(encoding="utf-8")))
    there = {path.name for pattern in ("*.py", "*.pyi", "*.typed") for path in PACKAGE.rglob(pattern)}
    assert listed == there


def test_every_c_file_of_the_engine_is_listed_in_the_build() -> None:
    listed = set(re.findall(r"engine/(\w+\.c)'", (ROOT / "meson.build").read_text(encoding="utf-8")))
    assert listed == {path.name for path in (PACKAGE / "engine").glob("*.c")}


def test_the_core_has_no_dependencies_and_the_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == []
    assert set(project["optional-dependencies"]) == {"cli", "smb", "monitor", "all"}
    assert "Typing :: Typed" in project["classifiers"]
