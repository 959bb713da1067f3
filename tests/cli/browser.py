"""A Chromium without a window, that does what a person would do: through its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final, Self

from tests.cli.helpers import DEADLINE
from tests.helpers import readable
from tests.packages import need

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from websockets.sync.client import ClientConnection

_PATIENCE: Final = 60.0  # seconds for a start: it is a big program
_LISTEN: Final = """
window.said = "";
const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
    constructor(...given) {
        super(...given);
        const decoder = new TextDecoder();
        window.socket = this;
        this.addEventListener("message", async (event) => {
            const data = event.data instanceof Blob ? await event.data.arrayBuffer() : event.data;
            if (typeof data !== "string") window.said += decoder.decode(data, {stream: true});
        });
    }
};
"""


def program() -> str:
    """The browser; skips the test if there is none, and none can be had."""
    return need("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One page."""

    def __init__(self, folder: Path) -> None:
        import websockets.sync.client

        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen(
            [
                program(),
                "--headless=new",
                *root,
                "--remote-debugging-port=0",
                f"--user-data-dir={folder}",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--window-size=1000,600",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "HOME": str(folder)},
        )
        self._count = self._loads = 0
        self.requests: list[str] = []
        """What its pages have asked for."""
        self.refused: dict[str, str] = {}
        """Of these, what was not sent, and why."""
        self.errors: list[str] = []
        """What its pages' scripts have complained of."""
        self._ids: dict[str, str] = {}
        self._stack = contextlib.ExitStack()
        self._socket: ClientConnection | None = None
        try:
            address = self._address()
            self._socket = self._stack.enter_context(websockets.sync.client.connect(address, max_size=None))
            self._session = None
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Network", "Runtime", "Log"):
                self.call(f"{domain}.enable")
            self.call("Emulation.setFocusEmulationEnabled", enabled=True)
            self.call("Page.addScriptToEvaluateOnNewDocument", source=_LISTEN)
        except BaseException:
            self.close()
            raise

    def _address(self) -> str:
        assert self.process.stderr is not None
        limit = time.monotonic() + _PATIENCE
        said = b""
        while not (found := re.search(rb"DevTools listening on (ws://\S+)\r?\n", said)):
            ready = readable(self.process.stderr, max(0.0, limit - time.monotonic()))
            assert ready, said
            piece = os.read(self.process.stderr.fileno(), 65536)
            assert piece, said
            said += piece
        return found[1].decode()

    def call(self, method: str, **given: object) -> dict[str, Any]:
        """Call a method of the protocol; what comes meanwhile is noted."""
        assert self._socket is not None
        self._count += 1
        message: dict[str, object] = {"id": self._count, "method": method, "params": given}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            said = json.loads(self._socket.recv(DEADLINE))
            if said.get("id") == self._count:
                assert "result" in said, said
                result: dict[str, Any] = said["result"]
                return result
            self._note(said)

    _session: str | None = None

    def _note(self, said: dict[str, Any]) -> None:
        given = said.get("params", {})
        if said.get("method") in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            url = given["request"]["url"] if "request" in given else given["url"]
            self._ids[given["requestId"]] = url
            self.requests.append(url)
        elif said.get("method") == "Page.loadEventFired":
            self._loads += 1
        elif said.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(given["exceptionDetails"]))
        elif said.get("method") == "Runtime.consoleAPICalled" and given["type"] in ("error", "assert"):
            self.errors.append(str(given["args"]))
        elif said.get("method") == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.errors.append(str(given["entry"]))
        elif said.get("method") == "Network.loadingFailed":
            self.refused[self._ids[given["requestId"]]] = given.get("blockedReason", given["errorText"])

    def go(self, url: str) -> None:
        """Open an address, and wait until its page is there."""
        self.follow(lambda: self.call("Page.navigate", url=url))

    def follow(self, act: Callable[[], object]) -> None:
        """Do what leads to another page, and wait until that is there."""
        assert self._socket is not None
        before = self._loads
        act()
        while self._loads == before:
            self._note(json.loads(self._socket.recv(DEADLINE)))

    def value(self, expression: str) -> Any:
        """The value of a promise of JavaScript's, or of a plain expression."""
        said = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def shows(self, pattern: str) -> str:
        """Wait until the terminal has been told that; what it was told."""
        text = json.dumps(pattern)
        plain = r"window.said.replace(/\x1b\[[0-9;?]*[ -\/]*[@-~]/g, '')"
        limit = int(DEADLINE * 1000)
        found = self.value(
            f"""new Promise((resolve) => {{
                const began = Date.now(), wanted = new RegExp({text});
                const look = () => {{
                    if (typeof window.said === "string" && wanted.test({plain})) resolve(true);
                    else if (Date.now() - began > {limit}) resolve(false);
                    else requestAnimationFrame(look);
                }};
                look();
            }})"""
        )
        said: str = self.value("window.said")
        assert found, said
        return said

    def click(self, x: int, y: int) -> None:
        """Click there; what is typed then is for what is there."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, key: str, code: int = 0) -> None:
        """Press a key."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        number = code or (13 if key == "Enter" else ord(key[0].upper()))
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=number, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=number)

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def close(self) -> None:
        """End it."""
        self._stack.close()
        self.process.kill()
        self.process.wait(DEADLINE)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
