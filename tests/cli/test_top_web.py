"""`npipe top --web`: in a real browser, and against who should not get in (SECURITY.md)."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import pytest

pytest.importorskip("textual_serve", reason="the extra `monitor` is not installed")
pytest.importorskip("websockets", reason="the extra `ws` is not installed")

import websockets.exceptions
import websockets.sync.client

import npipe
from tests import helpers as h
from tests.cli.browser import Browser
from tests.cli.helpers import DEADLINE, INTERRUPTED, NPIPE, run
from tests.helpers import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # each starts some processes, which import textual


class Web:
    """An `npipe top --web` process that serves."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*NPIPE, "top", "--web", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        ready = readable(self.process.stderr, DEADLINE)
        assert ready
        line = self.process.stderr.readline()
        found = re.fullmatch(r"npipe: top at (http://127\.0\.0\.1:(\d+)/\?token=([\w-]{32}))\n", line)
        assert found, line
        self.link, self.port, self.token = found[1], int(found[2]), found[3]
        self.cookie = f"npipe-top-{self.port}={self.token}"

    def ask(self, path: str, **headers: str) -> http.client.HTTPResponse:
        """The answer to a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    def windows(self) -> list[int]:
        """The processes that it has started."""
        found = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [int(pid) for pid in found if _parent(pid) == self.process.pid]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        assert self.process.stderr is not None
        self.process.stderr.close()


def _parent(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


@pytest.fixture
def web() -> Iterator[Web]:
    with Web("--interval", "0.2") as web:
        yield web


def dial(web: Web, **headers: str) -> websockets.sync.client.ClientConnection:
    """Open the page's websocket as a program does."""
    return websockets.sync.client.connect(
        f"ws://127.0.0.1:{web.port}/ws?width=90&height=20", additional_headers=headers, max_size=None
    )


def refused(web: Web, **headers: str) -> int:
    """The status with which the websocket is refused."""
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        with dial(web, **headers):
            pass
    return caught.value.response.status_code


def test_who_has_no_token_gets_nothing(web: Web) -> None:
    for path in ("/", "/?token=", f"/?token={web.token[:-1]}", "/static/js/textual.js", "/download/x", "/nothing"):
        assert web.ask(path).status == 403, path
    assert web.ask("/", Cookie=f"npipe-top-{web.port}=x\u00e9").status in (400, 403)
    assert web.ask(f"/static/js/textual.js?token={web.token}").status == 403  # the link alone lets in
    assert refused(web) == 403
    assert refused(web, Cookie=f"npipe-top-{web.port}={web.token}x") == 403
    assert refused(web, Cookie=f"npipe-top-{web.port + 1}={web.token}") == 403
    assert web.windows() == []


def test_another_site_s_page_gets_nothing_even_with_the_cookie(web: Web) -> None:
    for origin in ("http://evil.example", f"http://localhost:{web.port}", "null", f"https://127.0.0.1:{web.port}"):
        assert refused(web, Cookie=web.cookie, Origin=origin) == 403
        assert web.ask("/", Cookie=web.cookie, Origin=origin).status == 403
    for host in ("evil.example", f"evil.example:{web.port}", f"localhost:{web.port}", "127.0.0.1", ""):
        assert web.ask(f"/?token={web.token}", Host=host, Cookie=web.cookie).status in (400, 421), host
    assert web.windows() == []


def test_the_link_gives_a_cookie_and_no_page_with_the_token(web: Web) -> None:
    answer = web.ask(f"/?token={web.token}")
    assert (answer.status, answer.getheader("Location")) == (303, "/")
    assert answer.getheader("Set-Cookie") == f"{web.cookie}; HttpOnly; Path=/; SameSite=Strict"
    page = web.ask("/", Cookie=web.cookie)
    assert page.status == 200
    policy = page.getheader("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert page.getheader("Cache-Control") == "no-store"


def test_only_the_loopback_is_listened_on(web: Web) -> None:
    lines = Path("/proc/net/tcp").read_text().splitlines()
    listening = [line.split()[1] for line in lines if line.split()[3] == "0A"]
    assert [one for one in listening if one.endswith(f":{web.port:04X}")] == [f"0100007F:{web.port:04X}"]


def test_a_window_is_a_process_that_ends_with_it_and_there_are_eight_at_most(web: Web) -> None:
    with contextlib.ExitStack() as dialled:
        for _ in range(8):
            dialled.enter_context(dial(web, Cookie=web.cookie))
        assert refused(web, Cookie=web.cookie) == 503
        h.until(lambda: len(web.windows()) == 8, DEADLINE)
    h.until(lambda: web.windows() == [], DEADLINE)
    with dial(web, Cookie=web.cookie):
        h.until(lambda: len(web.windows()) == 1, DEADLINE)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, INTERRUPTED), (signal.SIGKILL, -9)]
)
@pytest.mark.usefixtures("ctrl_c")
def test_its_end_ends_its_windows(number: signal.Signals, status: int) -> None:
    with Web() as web, dial(web, Cookie=web.cookie) as window:
        while b"pipes" not in (piece := window.recv(DEADLINE)):
            assert piece
        [pid] = web.windows()
        web.process.send_signal(number)
        assert web.process.wait(DEADLINE) == status
        h.until(lambda: not Path(f"/proc/{pid}").exists(), DEADLINE)


def test_a_port_that_is_taken_is_one_line(web: Web) -> None:
    done = run("top", "--web", str(web.port))
    assert done.returncode == 1
    assert done.stderr == f"npipe: Address already in use: port {web.port}\n"


@pytest.mark.timeout(400)
def test_pipes_and_messages_in_a_browser(web: Web, name: str, tmp_path: Path) -> None:
    short = name.removeprefix("\\\\.\\pipe\\")
    with npipe.serve(name, bytes.upper), npipe.connect(name, timeout=20) as client, Browser(tmp_path) as browser:
        browser.go(f"http://127.0.0.1:{web.port}/")
        assert "has printed" in browser.value("document.body.innerText")
        browser.go(web.link)
        browser.shows(re.escape(short))
        browser.shows("1 pipe, 1 client")
        assert browser.value("document.location.href") == f"http://127.0.0.1:{web.port}/"
        assert web.token not in browser.value("document.documentElement.outerHTML")
        assert browser.value("document.cookie") == ""
        browser.click(500, 400)
        browser.type("Enter")
        browser.shows("there already")
        client.send(b"what a browser sees")
        client.recv()
        browser.shows("WHAT A BROWSER SEES")
        (tmp_path / "top.png").write_bytes(browser.picture())
        sent = [url for url in browser.requests if url not in browser.refused]
        assert [url for url in sent if urlsplit(url).hostname != "127.0.0.1" and url != "about:blank"] == []
        [window] = web.windows()
        browser.type("q")
        h.until(lambda: not Path(f"/proc/{window}").exists(), DEADLINE)
