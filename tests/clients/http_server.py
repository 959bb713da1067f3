"""An HTTP/1.1 server behind a byte pipe, made of npipe's own face and the standard library's request handler."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import npipe

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

CHUNKS = [b"first", b"x" * 70_000, b"last"]
API_VERSION = "1.44"


def pattern(size: int) -> bytes:
    """`size` bytes that depend on their position."""
    unit = bytes(range(251))
    return (unit * (size // len(unit) + 1))[:size]


class _Answers(BaseHTTPRequestHandler):
    """Answers the requests of one connection; `request` is a StreamPipe, `server` the PipeHTTPServer."""

    protocol_version = "HTTP/1.1"
    request: npipe.StreamPipe
    server: Any

    def setup(self) -> None:
        self.rfile = self.request.makefile("rb")  # type: ignore[assignment]
        self.wfile = self.request.makefile("wb")  # type: ignore[assignment]
        self._numbers = itertools.count(1)

    def finish(self) -> None:
        self.wfile.close()
        self.rfile.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def parse_request(self) -> bool:
        self._number = next(self._numbers)
        return super().parse_request()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        path = path.removeprefix(f"/v{API_VERSION}")
        if path == "/hello":
            self._answer(b"hello")
        elif path == "/number":  # of this request on its connection
            self._answer(str(self._number).encode())
        elif path == "/large":
            self._answer(pattern(int(query)))
        elif path == "/chunked":
            self._answer_in_chunks()
        elif path == "/never":
            self.server.over.wait()
            self.close_connection = True
        elif path == "/hangs-up":
            self.close_connection = True
        elif path == "/half":
            self._head(100)
            self.wfile.write(b"half")
            self.close_connection = True
        elif path == "/_ping":
            self._answer(b"OK")
        elif path == "/version":
            self._answer(json.dumps({"ApiVersion": API_VERSION, "Os": "npipe"}).encode())
        else:
            self._answer(b"no such page", status=404)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _head(self, length: int, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _answer(self, body: bytes, status: int = 200) -> None:
        self._head(len(body), status)
        self.wfile.write(body)

    def _answer_in_chunks(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in [*CHUNKS, b""]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()


class PipeHTTPServer:
    """Serves until the end of its `with` block; a thread per connection."""

    def __init__(self, name: str) -> None:
        self.connections = 0
        self.over = threading.Event()  # ends /never
        self.errors: list[BaseException] = []
        self._pipes: list[npipe.StreamPipe] = []
        self._threads: list[threading.Thread] = []
        self._listener = npipe.listen(name, mode="byte")
        self._accepting = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._listener.close()
        self._accepting.join()
        for pipe in self._pipes:
            pipe.abort()
        for thread in self._threads:
            thread.join()
        if error is None:
            assert not self.errors

    def _accept(self) -> None:
        for pipe in self._listener:
            self.connections += 1
            self._pipes.append(pipe)
            thread = threading.Thread(target=self._serve, args=(pipe,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, pipe: npipe.StreamPipe) -> None:
        # A client that goes, in the middle of a request or of its answer, is no error of the server's.
        with pipe, contextlib.suppress(npipe.PipeClosedError):
            try:
                _Answers(pipe, ("pipe", 0), self)  # type: ignore[arg-type]
            except npipe.PipeError:
                raise
            except Exception as error:
                self.errors.append(error)
