"""`make help`: every target that somebody is to call, each in a line."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path


def helped(folder: Path) -> str:
    """What `make help` prints in a folder."""
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_make_help_has_a_line_for_each_target() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    phony = [name for line in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE) for name in line.split()]
    listed = re.findall(r"^  make (\S+) +\S", helped(CHECKOUT), re.MULTILINE)
    assert len(listed) > 30
    assert sorted(listed) == sorted(phony)


def test_make_help_is_as_wide_as_a_terminal_and_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    shutil.copy(CHECKOUT / "Makefile", tmp_path)
    text = helped(tmp_path)
    assert [line for line in text.splitlines() if len(line) > 100] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Makefile", "src"]
