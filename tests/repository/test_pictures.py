"""The pictures of the README and the docs: what scripts/pictures draws, and that readers can make them out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from scripts.pictures.canvas import SMALL, THEMES, Theme
from scripts.pictures.drawn import PICTURES, drawn
from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = CHECKOUT / "docs" / "images"
SVG = "{http://www.w3.org/2000/svg}"
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
FILES = sorted((CHECKOUT / "docs").rglob("*.svg"))


def named(page: Path) -> list[Path]:
    """The pictures that a page shows."""
    text = page.read_text("utf-8")
    found = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)|\bsrc(?:set)?=\"([^\"]+)\"", text)
    return [(page.parent / (one or other)).resolve() for one, other in found]


def luminance(colour: str) -> float:
    """WCAG's relative luminance of #rrggbb."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_a_picture_is_well_formed(file: Path) -> None:
    assert ET.parse(file).getroot().tag == f"{SVG}svg"


@pytest.mark.parametrize("name", sorted(drawn()))
def test_a_drawn_picture_is_what_its_source_draws(name: str) -> None:
    assert (IMAGES / name).read_text("utf-8") == drawn()[name], "make pictures"


@pytest.mark.parametrize("name", sorted(drawn()))
def test_a_drawn_picture_says_what_it_shows_to_who_does_not_see_it(name: str) -> None:
    root = ET.fromstring(drawn()[name])
    title, desc = root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")
    assert title
    assert desc
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "t d"


def test_there_is_no_drawn_picture_without_a_source() -> None:
    of_top = {path.name for path in IMAGES.glob("top*.svg")}
    assert {path.name for path in IMAGES.iterdir()} - of_top == drawn().keys()


@pytest.mark.parametrize("name", PICTURES)
def test_the_words_of_a_picture_can_be_read_on_a_phone(name: str) -> None:
    for theme in THEMES:
        root = ET.fromstring(PICTURES[name](theme).svg())
        wide = float(root.get("viewBox", "").split()[2])
        sizes = [float(text.get("font-size", 0)) for text in root.iter(f"{SVG}text")]
        assert sizes
        assert min(sizes) * 340 / wide >= 9  # a phone's 360 less the page's margins
        assert min(sizes) >= SMALL


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_every_ink_stands_out_on_everything_that_may_be_behind_it(theme: Theme) -> None:
    for colour, fill in theme.fills:
        ink = theme.ink_of(colour)  # type: ignore[arg-type]
        for behind in (theme.ground, fill, theme.fill_of("ink")):
            assert contrast(ink, behind) >= 4.5, (colour, behind)


@pytest.mark.parametrize("page", [page for page in PAGES if named(page)], ids=lambda path: path.name)
def test_each_picture_that_a_page_names_is_there(page: Path) -> None:
    assert [one for one in named(page) if not one.is_file()] == []


@pytest.mark.parametrize("name", sorted(drawn()))
def test_every_drawn_picture_is_shown_by_a_page(name: str) -> None:
    assert (IMAGES / name).resolve() in {one for page in PAGES for one in named(page)}


@pytest.mark.parametrize("page", [page for page in PAGES if named(page)], ids=lambda path: path.name)
def test_a_page_shows_a_picture_for_light_and_dark_pages_with_words_for_who_sees_neither(page: Path) -> None:
    shown = {one.name for one in named(page)}
    for one in shown:
        if one.endswith(("-light.svg", "-dark.svg")):
            other = one.replace("-light", "-dark") if "-light" in one else one.replace("-dark", "-light")
            assert other in shown
    text = page.read_text("utf-8")
    assert re.findall(r"!\[\s*\]|<img (?![^>]*\balt=\"[^\"]+\")[^>]*>", text) == []
