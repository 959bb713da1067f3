"""The site: that it builds without a warning, has every public name, and leads nowhere that is not there."""

from __future__ import annotations

import html.parser
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import pytest

import npipe
import npipe.aio
import npipe.anyio
import npipe.connection
import npipe.relay
import npipe.win32
from tests.docs import helpers as h
from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FACES: Final[tuple[Any, ...]] = (npipe, npipe.aio, npipe.anyio, npipe.connection, npipe.relay, npipe.win32)


@pytest.fixture(scope="module")
def built() -> subprocess.CompletedProcess[str]:
    """What Sphinx says: the site as `make docs` builds it. One worker at a time; what is built already stays."""
    return h.build_site()


@pytest.fixture(scope="module")
def site(built: subprocess.CompletedProcess[str]) -> Path:
    assert built.returncode == 0, built.stderr
    return h.SITE


def test_the_site_builds_without_a_warning(built: subprocess.CompletedProcess[str]) -> None:
    assert (built.returncode, built.stderr) == (0, "")


# ---- Names


@pytest.fixture(scope="module")
def inventory(site: Path) -> dict[str, str]:
    """The documented names of Python's, and their pages."""
    from sphinx.util.inventory import InventoryFile

    found: dict[str, str] = {}
    loaded = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    for kind, items in loaded.items():
        if kind.startswith("py:"):
            found |= {name: item.uri for name, item in items.items()}
    return found


def test_the_reference_has_every_public_name(inventory: dict[str, str]) -> None:
    names = {
        f"{face.__name__}.{name}"
        for face in FACES
        for name in face.__all__
        if not inspect.ismodule(getattr(face, name))
    }
    assert len(names) > 90
    assert not names - inventory.keys()


def test_the_reference_has_every_public_method_and_attribute(inventory: dict[str, str]) -> None:
    members = []
    for face in FACES:
        for name in face.__all__:
            kind = getattr(face, name)
            if not inspect.isclass(kind):
                continue
            for member, thing in vars(kind).items():
                words = getattr(thing, "__func__", thing).__doc__
                is_own = callable(thing) or isinstance(thing, (property, staticmethod, classmethod))
                if is_own and not member.startswith("_") and words and not _is_elsewhere(thing):
                    members.append(f"{face.__name__}.{name}.{member}")
    assert len(members) > 120
    assert [one for one in members if one not in inventory and not _is_another_s(one, inventory)] == []


def _is_elsewhere(thing: object) -> bool:
    """Whether it only says where what is meant is."""
    return type(thing).__name__ == "Elsewhere"


def _is_another_s(path: str, inventory: dict[str, str]) -> bool:
    """Whether its class is described under another face's name."""
    face, name, member = path.rsplit(".", 2)
    kind = getattr(sys.modules[face], name)
    return any(
        f"{other.__name__}.{name}.{member}" in inventory for other in FACES if getattr(other, name, None) is kind
    )


def test_the_reference_has_the_functions_of_pywin32_s_modules(inventory: dict[str, str]) -> None:
    wanted = {
        "npipe.win32.win32pipe": ("CreateNamedPipe", "ConnectNamedPipe", "TransactNamedPipe", "PeekNamedPipe"),
        "npipe.win32.win32file": ("CreateFile", "ReadFile", "WriteFile", "CreateIoCompletionPort"),
        "npipe.win32.win32event": ("CreateEvent", "WaitForMultipleObjects"),
        "npipe.win32.pywintypes": ("HANDLE", "OVERLAPPED", "error"),
        "npipe.win32.completion": ("ReadFileEx", "WriteFileEx", "QueueUserAPC"),
    }
    missing = [f"{module}.{name}" for module, names in wanted.items() for name in names]
    assert [name for name in missing if name not in inventory] == []


def text_of(page: Path) -> str:
    plain = re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))
    return re.sub(r"\s+", " ", html.unescape(plain))


@pytest.mark.parametrize(
    ("page", "signature"),
    [
        ("npipe", "timeout: float | None = 20.0 , verify_owner: bool = True"),
        ("npipe", "send ( data : ReadableBuffer"),
        ("win32", "ReadFile ( hFile : PyHANDLE | int"),
        ("aio", "Coroutine"),
    ],
)
def test_signatures_have_the_types_of_the_sources(site: Path, page: str, signature: str) -> None:
    text = re.sub(r"\s", "", text_of(site / "reference" / f"{page}.html"))
    assert re.sub(r"\s", "", signature) in text


# ---- Links


class Page(html.parser.HTMLParser):
    """What a page leads to, and where one can come in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif (name == "src" or (name == "href" and tag in ("a", "link"))) and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_link_within_the_site_leads_to_something(parsed: dict[Path, Page]) -> None:
    wrong = []
    for path, page in parsed.items():
        for link in page.links:
            target = urlsplit(link)
            if target.scheme or target.netloc or link.startswith("data:"):
                continue
            there = (path.parent / unquote(target.path)).resolve() if target.path else path
            if not there.exists():
                wrong.append(f"{path.name}: {link}")
            elif target.fragment and there in parsed and unquote(target.fragment) not in parsed[there].anchors:
                wrong.append(f"{path.name}: {link} (there is no such place)")
    assert len(parsed) > 40
    assert not wrong, "\n".join(wrong)


def test_every_link_to_a_file_of_the_repository_leads_to_one(parsed: dict[Path, Page]) -> None:
    wrong, count = [], 0
    for path, page in parsed.items():
        for link in page.links:
            if found := re.search(r"/(?:blob|tree)/main/([^#?]+)", link):
                count += 1
                if not (CHECKOUT / unquote(found[1])).exists():
                    wrong.append(f"{path.name}: {link}")
    assert count
    assert not wrong, "\n".join(wrong)


def test_every_page_is_in_the_navigation(site: Path, parsed: dict[Path, Page]) -> None:
    index = site / "index.html"
    named = {(index.parent / urlsplit(link).path).resolve() for link in parsed[index].links}
    named |= {index, *(site / name for name in ("genindex.html", "search.html", "py-modindex.html"))}
    below = {"tutorial", "howto", "reference", "explanation"}
    assert [path for path in parsed if path.parent.name not in below and path not in named] == []


def test_nothing_of_the_site_is_fetched_from_elsewhere(parsed: dict[Path, Page], site: Path) -> None:
    for path in parsed:
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"(?:https?:)?//[^\"]+", text), path
