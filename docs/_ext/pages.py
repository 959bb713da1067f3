"""Pages as GitHub shows them, for the site.

That is: links to files of the repository, pictures for light and dark, and the files at its top (CHANGELOG and such) as
pages of the site.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from sphinx.application import Sphinx

DOCS: Final = Path(__file__).resolve().parents[1]
ROOT: Final = DOCS.parent

STANDS_FOR: Final = {
    "about/changelog": "CHANGELOG.md",
    "about/contributing": "CONTRIBUTING.md",
    "about/security": "SECURITY.md",
}
"""Pages of the site whose text is that of a file at the top. On GitHub they only point to it."""

_PAGE_OF: Final = {file: f"docs/{page}.md" for page, file in STANDS_FOR.items()} | {"README.md": "docs/index.md"}

_FENCE: Final = re.compile(r"(?m)^ *(?:```|~~~).*\n(?:.*\n)*?^ *(?:```|~~~) *$")
_LINK: Final = re.compile(r"(?<=\]\()([^()\s]+)(?=\))|(?m:(?<=^)(\[[^\]\n]+\]:\s+)(\S+))")
_PICTURE: Final = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*'
    r'<img alt="([^"]*)" src="([^"]+)"[^>]*>\s*</picture>'
)


def outside_of_code(text: str, change: Callable[[str], str]) -> str:
    """Return a page's text with `change` made to all that stands between its blocks of code."""
    parts, at = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, change(text[at:])])


def link_for_site(target: str, file: Path, page: Path, repository: str) -> str:
    """Return where a link leads on the site: `file` is what holds it, `page` what shows it.

    A page of the site stays one, relative to `page`; any other file of the repository is on its host.
    """
    if "://" in target or target.startswith(("#", "mailto:")):
        return target
    name, mark, anchor = target.partition("#")
    there = Path(os.path.normpath(file.parent / name))
    if not there.is_relative_to(ROOT):
        return target
    inside = there.relative_to(ROOT).as_posix()
    shown = ROOT / _PAGE_OF.get(inside, inside)
    if inside.startswith("docs/") and there.is_dir():
        shown = there / "index.md"
    if shown.is_relative_to(DOCS) and (shown.suffix == ".md" or shown.is_relative_to(DOCS / "images")):
        if inside == "README.md":
            mark = anchor = ""
        return os.path.relpath(shown, page.parent) + mark + anchor
    if shown.is_relative_to(DOCS / "benchmarks"):
        return os.path.relpath(shown, page.parent)
    kind = "tree" if there.is_dir() else "blob"
    return f"{repository}/{kind}/main/{inside}{mark}{anchor}"


def page_for_site(text: str, file: Path, page: Path, repository: str) -> str:
    """Return the text of a Markdown file as the site is to have it."""

    def lead(found: re.Match[str]) -> str:
        if found[1]:
            return link_for_site(found[1], file, page, repository)
        return found[2] + link_for_site(found[3], file, page, repository)

    def show(found: re.Match[str]) -> str:
        dark, alt, light = found.groups()
        return f"![{alt}]({light}){{.only-light}} ![{alt}]({dark}){{.only-dark}}"

    return outside_of_code(text, lambda part: _LINK.sub(lead, _PICTURE.sub(show, part)))


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    page = DOCS / f"{name}.md"
    if not page.is_file():
        return
    file = page
    if name in STANDS_FOR:
        file = ROOT / STANDS_FOR[name]
        app.env.note_dependency(str(file))
        source[0] = file.read_text(encoding="utf-8")
    repository = app.config.npipe_repository or "https://example.invalid/npipe"
    source[0] = page_for_site(source[0], file, page, repository)


def setup(app: Sphinx) -> dict[str, bool]:
    """Be an extension of Sphinx's."""
    app.add_config_value("npipe_repository", "", "env")
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
