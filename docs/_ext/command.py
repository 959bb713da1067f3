"""What sphinx-click makes of the command's help: its text is plain, and no markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _literal(line: str) -> str:
    """Return a line of the description; one that click leaves as it is becomes one of a block."""
    if line.startswith("| "):
        return "   " + line[2:]
    parts = re.split(r"(`[^`]+`|\*\*Required\*\*)", line)
    for at, part in enumerate(parts):
        if part.startswith("`") and len(part) > 1:
            parts[at] = f"`{part}`"
        elif part != "**Required**":
            parts[at] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", re.sub(r"([\\*|`])", r"\\\1", part))
    return "".join(parts)


def plain(lines: list[str]) -> list[str]:
    """Return the lines of a command's description, so that they are shown as they are."""
    made: list[str] = []
    in_block = False
    for line in lines:
        is_block = line.startswith("| ")
        if is_block and not in_block:
            made += ["", ".. code-block:: text", ""]
        if in_block and not is_block:
            made.append("")
        in_block = is_block
        made.append(_literal(line))
    return made


def _description(_app: Sphinx, _context: Any, lines: list[str]) -> None:
    lines[:] = plain(lines)


def _options(_app: Sphinx, _context: Any, lines: list[str]) -> None:
    lines[:] = [line if ".. option::" in line or line.lstrip().startswith(":") else _literal(line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Be an extension of Sphinx's, after sphinx-click."""
    app.connect("sphinx-click-process-description", _description)
    app.connect("sphinx-click-process-options", _options)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
