"""A relay as a process, servers and clients for its ends, and random streams whose content is compared."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE = 30.0
NPIPE = [sys.executable, "-m", "npipe"]


class RelayProcess:
    """An `npipe relay` process with its log as JSON; where it listens, it does when this is there."""

    def __init__(self, *arguments: str, listens: int = 1, **more: Any) -> None:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **more}
        self.process = subprocess.Popen([*NPIPE, "relay", "--json", *arguments], stderr=subprocess.PIPE, **pipes)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.places = [self.line()["text"].removeprefix("listening on ") for _ in range(listens)]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line.decode())
        self._lines.put(None)

    def line(self) -> dict[str, Any]:
        """The next line of the log."""
        line = self._lines.get(timeout=DEADLINE)
        assert line is not None, "the relay has ended"
        assert line.startswith("{"), line
        found: dict[str, Any] = json.loads(line)
        return found

    def report(self) -> dict[str, Any]:
        """What came of the connection that ends next."""
        while True:
            line = self.line()
            if "connection" in line:
                report: dict[str, Any] = line["connection"]
                return report

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; its exit status, and the last line that is no JSON."""
        self.process.send_signal(number)
        return self.rest()

    def rest(self) -> tuple[int, str]:
        status = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        last = ""
        while (line := self._lines.get_nowait()) is not None:
            if not line.startswith("{"):
                last = line
        return status, last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def unix_server(path: str, handle: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server of threads; what a handler raises is raised at its end."""
    failures: list[BaseException] = []
    threads: list[threading.Thread] = []
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(path)
    listening.listen(2048)

    def run(connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(DEADLINE)
                handle(connection)
        except BaseException as error:
            failures.append(error)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threads.append(threading.Thread(target=run, args=(connection,)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join(DEADLINE)
        listening.close()
        for thread in threads:
            thread.join(DEADLINE)
    assert not failures, failures


def unix_client(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(DEADLINE)
    client.connect(path)
    return client


def free_path(folder: Path) -> str:
    return str(folder / "s.sock")
