"""`npipe top` in a browser: textual-serve on the loopback, for who has the link alone."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from aiohttp import web
from textual_serve.server import Server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["WebServer", "bound"]

HOST: Final = "127.0.0.1"
_USUAL_PORT: Final = 80
_MOST: Final = 8  # windows at a time: each is a process
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self' ws://{host}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def bound(port: int) -> socket.socket:
    """Return a socket that is bound to a port of the loopback; 0: to any."""
    return socket.create_server((HOST, port), family=socket.AF_INET)


class WebServer(Server):
    """Serves the command `arguments` in a terminal of the browser's, each window with a process of its own.

    Every user of the machine reaches a port of the loopback, and so does every page that the user's browser shows. So
    what is asked for has to come with the token of this server, which only its first line has, and from its own page.
    """

    def __init__(self, arguments: Sequence[str], listening: socket.socket) -> None:
        port = listening.getsockname()[1]
        shell = subprocess.list2cmdline(arguments) if sys.platform == "win32" else f"exec {shlex.join(arguments)}"
        super().__init__(shell, host=HOST, port=port, title="npipe top", public_url=f"http://{HOST}:{port}")
        self._listening = listening
        self._token = secrets.token_urlsafe(24)
        self._cookie = f"npipe-top-{port}"  # cookies do not tell ports apart
        self._host = HOST if port == _USUAL_PORT else f"{HOST}:{port}"
        self._windows = 0

    @property
    def link(self) -> str:
        """The address, with the token."""
        return f"{self.public_url}/?token={self._token}"

    def run(self) -> int:
        """Serve until SIGTERM, and return the exit status for it. KeyboardInterrupt: it was SIGINT."""
        return asyncio.run(self._run())

    async def _run(self) -> int:
        ended = asyncio.Event()
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        runner = web.AppRunner(await self._make_app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.SockSite(runner, self._listening).start()
            await ended.wait()
        finally:
            await runner.cleanup()
        return 128 + signal.SIGTERM

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Say nothing: the command has."""

    def _is_token(self, said: str | None) -> bool:
        return said is not None and hmac.compare_digest(said.encode("utf-8", "replace"), self._token.encode())

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if host != self._host:  # a name that somebody lets lead here
            raise web.HTTPMisdirectedRequest(text="this is another machine's name\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            raise web.HTTPForbidden(text="another site's pages are not let in\n")
        if request.path == "/" and self._is_token(request.query.get("token")):
            answer = web.Response(status=303, headers={"Location": "/"})
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="Strict", path="/")
            return self._hardened(answer, host)
        if not self._is_token(request.cookies.get(self._cookie)):
            raise web.HTTPForbidden(text="open the link that `npipe top --web` has printed\n")
        if request.path != "/ws":
            answer_of_page = await handler(request)
            return self._hardened(answer_of_page, host)
        if self._windows >= _MOST:
            raise web.HTTPServiceUnavailable(text=f"{_MOST} windows are open already\n")
        self._windows += 1
        try:
            return await handler(request)
        finally:
            self._windows -= 1

    def _hardened(self, answer: web.StreamResponse, host: str) -> web.StreamResponse:
        answer.headers["Content-Security-Policy"] = _POLICY.format(host=host)
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Cache-Control"] = "no-store"
        return answer
