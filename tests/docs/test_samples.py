"""What the pages for users show: every program and every transcript, carried out as it stands (pages.py)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.docs import pages
from tests.helpers import CHECKOUT

pytestmark = pytest.mark.slow  # whole pages, with all that they start

DOCS = CHECKOUT / "docs"
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "examples" / "README.md",
    CHECKOUT / "examples" / "article" / "README.md",
    *sorted((DOCS / "tutorial").glob("*.md")),
    *sorted((DOCS / "howto").glob("*.md")),
]


UNTRIED = {
    "docs/howto/samba.md": {"remote_client.py"},  # it is another machine's
}


def title(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", PAGES, ids=title)
def test_what_a_page_shows_is_so(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path.read_text("utf-8")
    if "numpy" in text:
        pytest.importorskip("numpy", reason="numpy is not installed: the group lint of pyproject.toml has it")
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "examples").symlink_to(CHECKOUT / "examples")
    for name in os.environ:  # this pytest's own, for one that the page runs
        if name.startswith(("PYTEST_", "NPIPE_")):
            monkeypatch.delenv(name)
    pages.run(text, folder, {"NPIPE_ROOT": str(tmp_path / "npipe-root")})


@pytest.mark.parametrize("path", PAGES, ids=title)
def test_no_program_of_a_page_is_left_untried(path: Path) -> None:
    found = pages.steps(path.read_text("utf-8"))
    commands = " ".join(one.text for one in found if isinstance(one, pages.Command))
    programs = [one for one in found if isinstance(one, pages.File) and one.name.endswith(".py")]
    imported = {
        name
        for one in programs
        for names in re.findall(r"^\s*(?:from|import) ([\w., ]+)", one.text, re.MULTILINE)
        for name in re.split(r"[, ]+", names)
    }
    if path.name == "README.md":  # its transcripts are below the tutorial's first page
        return
    for program in programs:
        stem = Path(program.name).stem
        is_test = stem.startswith("test_") or stem == "conftest"
        started = any(f'"{program.name}"' in one.text for one in programs)
        tried = program.name in commands or started or stem in imported or (is_test and "pytest" in commands)
        untried = program.name in UNTRIED.get(title(path), set())
        assert tried != untried, f"{title(path)}:{program.number}: nothing runs {program.name}"
