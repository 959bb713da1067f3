"""Docstrings of the house's form, which are nearly Markdown, as the reStructuredText that Sphinx takes them for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import faces
from sphinx.ext.napoleon import Config, GoogleDocstring

if TYPE_CHECKING:
    from collections.abc import Callable

    from sphinx.application import Sphinx

_STYLE: Final = Config(napoleon_use_param=True, napoleon_use_rtype=True)
_SECTION: Final = re.compile(r"(Args|Returns|Raises|Yields|Attributes):$")
_ITEM: Final = re.compile(r"\s*(?:- |\d+\. )")
_CODE: Final = re.compile(r"(`[^`]+`)")
_NAME: Final = re.compile(r"[A-Za-z_][\w.]*\w")
_PLAIN: Final = re.compile(
    r"(?P<page>\bdocs/(?P<file>[\w/-]+)\.md\b)|(?P<row>\bSEMANTICS §+[\d.]+)"
    r"|(?P<name>\bnpipe(?:\.\w+)+\b|\b(?:[A-Z][a-z0-9]+){2,}\b)(?:\(\))?"
)


def converted(lines: list[str], link: Callable[[str], str | None]) -> list[str]:
    """Return a docstring's lines as reStructuredText; `link` gives the full name of what a word names, if anything."""
    lines = _joined(lines)
    made: list[str] = []
    in_section = in_code = False
    base = 0  # the indentation of an item's text
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if not line.strip():
            made.append("")
            continue
        after_blank = not made or not made[-1]
        if in_code:
            if indent >= base + 4:
                made.append(line)
                continue
            in_code = False
        if indent == 0:
            in_section = bool(_SECTION.match(line))
            base = 0
        if in_section and indent == 0:
            made.append(":returns:" if line == "Returns:" else line)  # napoleon takes "A pair: ..." for a type
            continue
        if not in_section:
            if _ITEM.match(line):
                base = indent + 2
                if not after_blank and not _ITEM.match(made[-1]) and not made[-1].startswith(" " * (indent + 1)):
                    made.append("")
            elif after_blank and indent >= base + 4:
                made += [" " * base + ".. code-block:: python", ""]
                in_code = True
                made.append(line)
                continue
            elif after_blank and indent < base:
                base = indent
        made.append(_inline(line, link, item=in_section and indent == 4))
    return made


def _joined(lines: list[str]) -> list[str]:
    """Return the lines with those joined between which a word in backticks goes on."""
    made: list[str] = []
    for line in lines:
        if made and made[-1].count("`") % 2 and line.strip():
            made[-1] += " " + line.strip()
        else:
            made.append(line)
    return made


def _inline(line: str, link: Callable[[str], str | None], *, item: bool) -> str:
    head = ""
    if item and (found := re.match(r"\s+\*{0,2}\w+: ", line)):
        head, line = found[0], line[found.end() :]
    made = ""
    for part in _CODE.split(line):
        is_code = part.startswith("`") and part.endswith("`") and len(part) > 2
        for text, is_role in [(_code(part[1:-1], link), True)] if is_code else _prose(part, link):
            made = _beside(made, text, is_role=is_role)
    return head + made


def _beside(made: str, text: str, *, is_role: bool) -> str:
    """Return one behind the other, with the mark between them that markup beside letters needs."""
    if not made or not text:
        return made + text
    needs = made[-1] not in " ([{<-/:'\"" if is_role else made[-1] == "`" and text[0] not in " '\")]}>-/\\:.,;!?"
    return made + ("\\ " if needs else "") + text


def _code(text: str, link: Callable[[str], str | None]) -> str:
    name, call = (text[:-2], "()") if text.endswith("()") else (text, "")
    if _NAME.fullmatch(name) and (full := link(name)):
        return f":py:obj:`{name}{call} <{full}>`"
    return f"``{text}``"


def _prose(text: str, link: Callable[[str], str | None]) -> list[tuple[str, bool]]:
    """Return the parts of a text, and whether each is markup."""

    def named(found: re.Match[str]) -> tuple[str, bool]:
        if found["file"]:
            return f":doc:`/{found['file']}`", True
        if found["row"]:
            return f":doc:`{found[0]} </semantics>`", True
        full = link(found["name"])
        return (f":py:obj:`{found[0]} <{full}>`", True) if full else (_escaped(found[0]), False)

    made, at = [], 0
    for found in _PLAIN.finditer(text):
        made += [(_escaped(text[at : found.start()]), False), named(found)]
        at = found.end()
    return [*made, (_escaped(text[at:]), False)]


def _escaped(text: str) -> str:
    """Return a text as it is, but for what is bold."""
    parts = re.split(r"(\*\*\w[^*]*\*\*)", text)
    return "".join(part if at % 2 else _as_it_is(part) for at, part in enumerate(parts))


def _as_it_is(text: str) -> str:
    text = re.sub(r"([\\*|])", r"\\\1", text)
    return re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", text)


def _process(app: Sphinx, what: str, name: str, thing: object, options: Any, lines: list[str]) -> None:
    module = next((face for face in sorted(faces.FACES, key=len, reverse=True) if name.startswith(f"{face}.")), name)
    inside = name[len(module) + 1 :].split(".") if name != module else []
    kind = inside[0] if len(inside) > 1 or what == "class" else None

    def link(word: str) -> str | None:
        full = faces.home_of(word, module, kind)
        return None if full == name else full

    # Napoleon takes "Why: ..." of an attribute for its type.
    kind_of = "object" if what in ("attribute", "data", "property") else what
    text = GoogleDocstring(converted(lines, link), _STYLE, app, kind_of, name, thing, options)
    lines[:] = [*text.lines(), ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Be an extension of Sphinx's."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
