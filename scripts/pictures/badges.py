"""The badges of the README: files of ours, so that they are true without anybody's service."""

from __future__ import annotations

import tomllib
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_LETTER = 7.0  # what a letter of 11 takes at most, on average
_HIGH: Final = 20


def badge(left: str, right: str, colour: str) -> str:
    """Return a badge: white words on grey and on a colour, in a light page and a dark one alike."""
    a, b = round(len(left) * _LETTER) + 10, round(len(right) * _LETTER) + 12
    words = f"{left}: {right}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{a + b}" height="{_HIGH}" role="img" aria-labelledby="t d"'
        ' font-family="\'DejaVu Sans\', Verdana, Helvetica, Arial, sans-serif" font-size="11" fill="#fff"'
        ' text-anchor="middle">\n'
        f'<title id="t">{escape(words)}</title>\n<desc id="d">A badge: {escape(words)}</desc>\n'
        f'<rect width="{a + b}" height="{_HIGH}" rx="3" fill="#555"/>\n'
        f'<path d="M{a} 0h{b - 3}a3 3 0 0 1 3 3v{_HIGH - 6}a3 3 0 0 1-3 3H{a}z" fill="{colour}"/>\n'
        f'<text x="{a / 2:g}" y="14">{escape(left)}</text>\n<text x="{a + b / 2:g}" y="14">{escape(right)}</text>\n'
        "</svg>\n"
    )


def badges(checkout: Path) -> dict[str, str]:
    """Return all of them by their files' names; what they say is what pyproject.toml says."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=")
    systems = [one.rsplit(":: ", 1)[1] for one in project["classifiers"] if one.startswith("Operating System")]
    assert {*systems} == {"Linux", "Windows"}, systems
    assert "Typing :: Typed" in project["classifiers"]
    return {
        "badge-python.svg": badge("Python", f"{oldest}+", "#2966a3"),
        "badge-platforms.svg": badge("platforms", "Linux | Windows", "#2966a3"),
        "badge-licence.svg": badge("licence", project["license"], "#2d7a3a"),
        "badge-typed.svg": badge("types", "mypy strict | pyright", "#2d7a3a"),
    }
