"""The site in a real browser: its main pages as a reader sees them, light and dark, wide and on a phone; its search.

What was seen is kept in build/docs/pictures.
"""

from __future__ import annotations

import functools
import http.server
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("websockets", reason="the group `test` is not installed")

from tests.cli.browser import Browser, program
from tests.docs import helpers as h

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGES: Final = (
    "index",
    *(f"{path.parent.name}/{path.stem}" for kind in ("tutorial", "explanation") for path in h.pages_of(kind)),
    "howto/index",
    "reference/index",
    "reference/npipe",
    "reference/win32",
    "reference/command",
    "reference/features",
    "reference/limits",
    "errors",
    "semantics",
    "aio",
    "benchmarks",
    "about/changelog",
)
WIDE: Final = (1280, 900)
PHONE: Final = (390, 844)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the site is served."""
    program()
    built = h.build_site()
    assert built.returncode == 0, built.stderr
    handler: Any = functools.partial(_Quiet, directory=str(h.SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def look(browser: Browser, size: tuple[int, int], scheme: str) -> None:
    """Be a screen of that size, whose owner likes it light or dark."""
    width, height = size
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=width < 500,
    )
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def keep(browser: Browser, name: str) -> None:
    h.PICTURES.mkdir(parents=True, exist_ok=True)
    (h.PICTURES / f"{name}.png").write_bytes(browser.picture())


def brightness(browser: Browser) -> float:
    """Of the page's ground, from 0 to 255."""
    colours = browser.value("getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)")
    return float(sum(colours) / 3)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_light_and_dark_and_on_a_phone(page: str, browser: Browser, address: str) -> None:
    grounds = {}
    for size, kind in ((WIDE, "wide"), (PHONE, "phone")):
        for scheme in ("light", "dark"):
            look(browser, size, scheme)
            browser.errors.clear()
            browser.refused.clear()
            browser.go(f"{address}/{page}.html")
            grounds[kind, scheme] = brightness(browser)
            keep(browser, f"{page.replace('/', '-')}-{kind}-{scheme}")
            assert browser.value("document.querySelector('h1').innerText.length") > 0
            assert (browser.errors, browser.refused) == ([], {})
            wider = browser.value(
                """[...document.querySelectorAll("article *, h1, h2, h3")].filter((one) => {
                    if (one.closest(".table-wrapper, .highlight, pre, svg, details:not([open])")) return false;
                    return one.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
                }).slice(0, 5).map((one) => one.outerHTML.slice(0, 200))"""
            )
            assert (_widths(browser), wider) == ((size[0], 0), []), (kind, scheme)
            pictures = browser.value(
                "[...document.images].filter((one) => one.offsetParent && !one.naturalWidth).map((one) => one.src)"
            )
            assert pictures == []
    assert all(ground > 200 if scheme == "light" else ground < 60 for (_, scheme), ground in grounds.items()), grounds


def test_a_table_that_is_wider_than_a_phone_shows_that_it_goes_on(browser: Browser, address: str) -> None:
    look(browser, PHONE, "light")
    browser.go(f"{address}/reference/features.html")
    wide = browser.value(
        """[...document.querySelectorAll(".table-wrapper")].filter((one) => one.scrollWidth > one.clientWidth)
            .map((one) => getComputedStyle(one))
            .map((style) => [style.overflowX, style.backgroundImage.split("gradient").length])"""
    )
    assert wide
    assert {tuple(one) for one in wide} == {("auto", 5)}


def test_no_page_is_wider_than_a_phone_or_complains(browser: Browser, address: str) -> None:
    look(browser, PHONE, "light")
    browser.errors.clear()
    browser.refused.clear()
    wrong = {}
    pages = sorted(h.SITE.rglob("*.html"))
    for page in pages:
        path = page.relative_to(h.SITE).as_posix()
        browser.go(f"{address}/{path}")
        if (seen := (*_widths(browser), browser.errors[:], dict(browser.refused))) != (PHONE[0], 0, [], {}):
            wrong[path] = seen
        browser.errors.clear()
        browser.refused.clear()
    assert len(pages) > 40
    assert not wrong


def _widths(browser: Browser) -> tuple[int, int]:
    """How wide the screen is for the page, and how much wider the page is."""
    inner, more = browser.value(
        "[innerWidth, document.documentElement.scrollWidth - document.documentElement.clientWidth]"
    )
    return int(inner), int(more)


def results(browser: Browser) -> list[str]:
    """What the search has found, when it is through: the addresses, the best first."""
    found: list[str] = browser.value(
        """new Promise((resolve) => {
            const look = () => {
                const links = [...document.querySelectorAll("#search-results ul.search li a")];
                const said = document.querySelector("#search-results .search-summary, #search-results p");
                const none = said && /did not match/.test(said.innerText);
                if (none || (said && links.length && /found/.test(said.innerText)))
                    resolve(links.map((one) => one.href));
                else requestAnimationFrame(look);
            };
            look();
        })"""
    )
    return found


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("transact", "reference/npipe.html"),
        ("NPIPE_ROOT", "reference/environment.html"),
        ("PipeBusyError", "reference/exceptions.html"),
        ("cancellation", "aio.html"),
    ],
)
def test_the_search_finds_a_page(query: str, page: str, browser: Browser, address: str) -> None:
    look(browser, WIDE, "light")
    browser.go(f"{address}/index.html")
    browser.errors.clear()
    browser.value("document.querySelector('.sidebar-search').focus()")
    for letter in query:
        browser.call("Input.insertText", text=letter)
    browser.follow(lambda: browser.type("Enter"))
    found = results(browser)
    keep(browser, f"search-{query}")
    assert any(f"/{page}" in one for one in found), found
    assert not browser.errors


def test_the_search_for_nothing_that_is_there_says_so(browser: Browser, address: str) -> None:
    browser.go(f"{address}/search.html?q=zzyzxqqq")
    assert results(browser) == []


def test_a_name_in_a_signature_leads_to_its_type(browser: Browser, address: str) -> None:
    look(browser, WIDE, "light")
    browser.go(f"{address}/reference/npipe.html")
    link = "document.getElementById('npipe.connect').querySelector('a[href*=\"npipe.MessagePipe\"]')"
    assert browser.value(f"Boolean({link})")
    browser.value(f"{link}.click()")
    assert browser.value("location.hash") == "#npipe.MessagePipe"


def test_the_theme_is_changed_by_its_button(browser: Browser, address: str, tmp_path: Path) -> None:
    look(browser, WIDE, "light")
    browser.go(f"{address}/index.html")
    seen = set()
    for _ in range(3):
        browser.value("[...document.querySelectorAll('.theme-toggle')].find((one) => one.offsetParent).click()")
        seen.add(browser.value("document.body.dataset.theme"))
    assert seen == {"auto", "light", "dark"}
