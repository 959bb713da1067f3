"""Checks the text of the repository: check_text.py. Lines are at most 120 characters wide, and links lead somewhere.

Width, in every file of SUFFIXES or NAMES that git does not ignore. Python is ruff's (E501). What cannot be broken may
be wider:
  - a row of a Markdown table (it begins with `|`);
  - a line that is one word behind its indentation and list mark, such as a link's address.

Links, in Markdown: a relative one names a file that is there, and behind `#` a heading of it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

WIDTH = 120
SUFFIXES = {".build", ".c", ".h", ".md", ".pml", ".pxd", ".pxi", ".pyx", ".sh", ".toml", ".yaml", ".yml"}
NAMES = {"Makefile", ".clang-format", ".editorconfig"}

_ONE_WORD = re.compile(r"\s*(?:[-*>#]\s+|//\s+|\d+\.\s+|\[[^\]]+\]:\s+)?\S+")
_FENCE = re.compile(r"\s*(```|~~~)")
_PICTURE = re.compile(r"\bsrc(?:set)?=\"([^\"]*)\"")
_LINK = re.compile(r"\]\(([^()\s]+)\)|^\[[^\]]+\]:\s+(\S+)")  # its text may begin in the line before
_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*$")


def _files() -> list[Path]:
    """Return the files of the repository, also those that are not committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [path for path in map(Path, names) if path.is_file()]


def _may_be_wide(path: Path, line: str) -> bool:
    return bool((path.suffix == ".md" and line.startswith("|")) or _ONE_WORD.fullmatch(line))


def _check_width(path: Path) -> list[str]:
    """Return what is wider than it may be."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        f"{path}:{number}: {len(line)} characters, more than {WIDTH}"
        for number, line in enumerate(lines, 1)
        if len(line) > WIDTH and not _may_be_wide(path, line)
    ]


def _prose(path: Path) -> list[tuple[int, str]]:
    """Return the numbered lines of a Markdown file that stand outside of code."""
    prose, fenced = [], False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            prose.append((number, line))
    return prose


def _anchors(path: Path) -> set[str]:
    """Return the anchors of a Markdown file's headings, as GitHub makes them."""
    anchors: set[str] = set()
    for _, line in _prose(path):
        if heading := _HEADING.match(line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            names = (anchor if not n else f"{anchor}-{n}" for n in range(len(anchors) + 1))
            anchors.add(next(name for name in names if name not in anchors))
    return anchors


def _check_links(path: Path) -> list[str]:
    """Return the links that lead nowhere."""
    wrong = []
    for number, line in _prose(path):
        text = re.sub(r"`[^`]*`", "", line)
        targets = [found[1] or found[2] for found in _LINK.finditer(text)] + _PICTURE.findall(text)
        for target in targets:
            if "://" in target:
                continue
            name, _, anchor = target.partition("#")
            there = path.parent / name if name else path
            if not there.exists():
                wrong.append(f"{path}:{number}: there is no {name}")
            elif anchor and anchor not in _anchors(there):
                wrong.append(f"{path}:{number}: {there} has no heading for #{anchor}")
    return wrong


def main() -> int:
    """Print what is wrong, and say by the exit status whether anything is."""
    wrong = []
    for path in _files():
        if path.suffix in SUFFIXES or path.name in NAMES:
            wrong += _check_width(path)
        if path.suffix == ".md":
            wrong += _check_links(path)
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
