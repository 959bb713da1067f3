"""The pages of the documentation, and what is in them."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCS: Final = CHECKOUT / "docs"
SITE: Final = CHECKOUT / "build" / "docs" / "html"
PICTURES: Final = CHECKOUT / "build" / "docs" / "pictures"

_FENCE: Final = re.compile(r"^( *)(```+|~~~+)([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """Of its first line of text."""
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"


def pages() -> list[Path]:
    """All pages: those of the site, and those at the top."""
    top = sorted(path for path in CHECKOUT.glob("*.md"))
    return top + sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)


def pages_of(kind: str) -> list[Path]:
    """The pages of a folder of the site."""
    return sorted((DOCS / kind).glob("*.md"))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        indent = len(found[1])
        body = "".join(line[indent:] if line.strip() else line for line in found[4].splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, found.start()) + 2, found[3].strip(), body)


def indented(page: Path) -> Iterator[Block]:
    """The indented blocks of a page, which are command lines and what they print."""
    text = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8"))
    for found in re.finditer(r"(?:\A|\n)\n((?:    .*\n|\n(?=    ))+)", text):
        before = text[: found.start()].rstrip("\n").rpartition("\n")[2]
        if re.match(r"\s*(?:[-*]|\d+\.)\s", before) or before.startswith("  "):
            continue  # a list's item goes on
        lines = "".join(line[4:] if line.strip() else line for line in found[1].splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, found.start(1)) + 1, "", lines)


def build_site() -> subprocess.CompletedProcess[str]:
    """Build the site, as `make docs` does; one worker at a time, and what is built already stays. Returns the run."""
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("sphinx is not installed: the group docs of pyproject.toml has it (make build/stamp-docs)")
    SITE.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sphinx", "-n", "-q", "-W", "--keep-going", "-d", "build/docs/doctrees"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NPIPE_")}
    with (SITE.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return subprocess.run(
            [*command, "-b", "html", "docs", str(SITE)],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
