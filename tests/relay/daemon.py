"""As much of docker's daemon as its own client asks for, over a Unix socket: what it says back is what it was told."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import socketserver
import struct
import threading
from typing import TYPE_CHECKING

from tests.relay.helpers import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT, STDERR = 1, 2
CODE = 7
"""What every command that is run in the container ends with."""
_PIECE = 65536
_UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
_CONTAINER = {
    "Id": "c",
    "Name": "/c",
    "State": {"Running": True, "Status": "running"},
    "Config": {"Tty": False, "OpenStdin": True, "StdinOnce": True},
    "HostConfig": {},
}


def summary(data: bytes) -> str:
    """What the daemon says of what it was sent."""
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith("/_ping"):
            self.answer(b"OK", Api_Version="1.44", Ostype="linux")
        elif path.endswith("/version"):
            self.answer({"Version": "99.1", "ApiVersion": "1.44", "MinAPIVersion": "1.24"})
        elif path.endswith("/containers/c/json"):
            self.answer(_CONTAINER)
        elif path.endswith("/exec/e/json"):
            self.answer({"ID": "e", "Running": False, "ExitCode": CODE, "ContainerID": "c"})
        else:
            self.answer({"message": f"there is no {path}"}, 404)

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith(("/exec/e/start", "/attach")):
            self.drop()
            self.talk()
        elif path.endswith("/containers/c/exec"):
            self.drop()
            self.answer({"Id": "e"}, 201)
        elif path.endswith("/wait"):
            self.drop()
            self.answer({"StatusCode": CODE})
        else:
            data = b"".join(self.body())
            self.answer({"stream": summary(data) + "\n"})

    def talk(self) -> None:
        """The connection is a stream now: echo on standard output up to its end, then a summary on standard error."""
        self.wfile.write(_UPGRADED)
        self.wfile.flush()
        self.close_connection = True
        digest, size = hashlib.sha256(), 0
        while data := self.rfile.read1(_PIECE):  # some of it may have come with the request
            digest.update(data)
            size += len(data)
            self.connection.sendall(struct.pack(">BxxxI", STDOUT, len(data)) + data)
        last = f"{size} {digest.hexdigest()}".encode()
        self.connection.sendall(struct.pack(">BxxxI", STDERR, len(last)) + last)

    def body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            assert self.rfile.readline() == b"\r\n"
        assert self.rfile.readline() == b"\r\n"

    def drop(self) -> None:
        for _ in self.body():
            pass

    def answer(self, what: object, status: int = 200, **headers: str) -> None:
        data = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(DEADLINE)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 512


@contextlib.contextmanager
def docker_daemon(path: str) -> Iterator[None]:
    """Serve on the Unix socket."""
    with _Server(path, _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(DEADLINE)
