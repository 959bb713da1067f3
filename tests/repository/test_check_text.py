"""The text of the repository: what scripts/check_text.py finds, and what it lets pass."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = CHECKOUT / "scripts" / "check_text.py"
WIDE = "word " * 24 + "words"  # 125 characters


def complaints(folder: Path, files: dict[str, str]) -> list[str]:
    """What the script says of a repository of these files, without the explanation behind each place."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    run = subprocess.run([sys.executable, SCRIPT], cwd=folder, capture_output=True, text=True, check=False)
    found = run.stdout.splitlines()
    assert run.stderr == ""
    assert run.returncode == bool(found)
    return found


@pytest.mark.parametrize("name", ["page.md", "code.c", "code.h", "code.pyx", "run.sh", "Makefile"])
def test_a_line_of_more_than_120_characters_is_found(tmp_path: Path, name: str) -> None:
    assert complaints(tmp_path, {name: f"short\n{WIDE}\n"}) == [f"{name}:2: 125 characters, more than 120"]


def test_a_file_that_is_not_committed_is_checked_and_one_that_is_ignored_is_not(tmp_path: Path) -> None:
    assert complaints(tmp_path, {".gitignore": "build/\n", "build/page.md": WIDE, "page.md": WIDE}) == [
        "page.md:1: 125 characters, more than 120"
    ]


def test_characters_are_counted_not_bytes(tmp_path: Path) -> None:
    assert complaints(tmp_path, {"page.md": "µ " * 60 + "\n"}) == []


def test_what_cannot_be_broken_may_be_wide(tmp_path: Path) -> None:
    address = "https://example.org/" + "x" * 120
    text = f"| {WIDE} |\n\n- {address}\n[page]: {address}\n"
    assert complaints(tmp_path, {"page.md": text}) == []
    assert complaints(tmp_path, {"page.md": f"see {address}\n"}) == ["page.md:1: 144 characters, more than 120"]


def test_a_row_of_a_table_is_one_in_markdown_only(tmp_path: Path) -> None:
    assert complaints(tmp_path, {"code.c": f"| {WIDE} |\n"}) == ["code.c:1: 129 characters, more than 120"]


def test_a_link_to_a_page_or_heading_that_is_not_there_is_found(tmp_path: Path) -> None:
    files = {
        "page.md": "# Top\n[a](docs/other.md) [b](docs/other.md#its-heading) [c](#top) [d](https://example.org/)\n"
        "[e](gone.md) [f](docs/other.md#gone) `[g](gone.md)`\n```\n[h](gone.md)\n# Not a heading\n```\n"
        "[i](#not-a-heading) [a text that goes\non](gone.md)\n\n[j]: gone.md\n",
        "docs/other.md": "# Other\n## Its *heading*\n[back](../page.md#top)\n",
    }
    assert complaints(tmp_path, files) == [
        "page.md:3: there is no gone.md",
        "page.md:3: docs/other.md has no heading for #gone",
        "page.md:8: page.md has no heading for #not-a-heading",
        "page.md:9: there is no gone.md",
        "page.md:11: there is no gone.md",
    ]


def test_the_anchors_of_equal_headings_are_numbered(tmp_path: Path) -> None:
    text = "# Same\n# Same\n[a](#same) [b](#same-1) [c](#same-2)\n"
    assert complaints(tmp_path, {"page.md": text}) == ["page.md:3: page.md has no heading for #same-2"]


def test_a_picture_that_is_not_there_is_found(tmp_path: Path) -> None:
    page = '<picture>\n  <source srcset="dark.svg">\n  <img alt="one" src="light.svg">\n</picture>\n'
    assert complaints(tmp_path, {"page.md": page, "light.svg": "<svg/>"}) == ["page.md:2: there is no dark.svg"]
