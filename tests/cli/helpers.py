"""The command as processes: one that is run to its end, and a server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Self

from tests.helpers import readable

DEADLINE = 30.0
NPIPE = [sys.executable, "-m", "npipe"]
STATUSES = {
    2: 3,
    3: 2,
    5: 5,
    13: 1,
    50: 9,
    53: 3,
    64: 6,
    87: 2,
    109: 6,
    121: 4,
    123: 2,
    231: 4,
    232: 6,
    233: 6,
    1306: 9,
    1326: 5,
}
"""Of an error's Win32 code, what the command ends with."""
INTERRUPTED = 130 if sys.platform == "win32" else -signal.SIGINT  # how a process ends that Ctrl-C ends


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `npipe` in a process of its own, without a terminal."""
    return subprocess.run(
        [*NPIPE, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


def wide(text: str) -> bytes:
    """What a Unicode build sends: the final NUL is counted."""
    return (text + "\0").encode("utf-16-le")


class Server:
    """An `npipe serve` process, which listens when this is there."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*NPIPE, "serve", name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._read = b""
        assert self.line() == f"npipe: listening on {name}, process {self.process.pid}"

    def line(self) -> str:
        """Its next line on standard error; fails when none comes in time."""
        assert self.process.stderr is not None
        until = time.monotonic() + DEADLINE
        while b"\n" not in self._read:
            ready = readable(self.process.stderr, max(0.0, until - time.monotonic()))
            assert ready, f"only {self._read!r} in time"
            piece = os.read(self.process.stderr.fileno(), 65536)
            assert piece, f"only {self._read!r} before its end"
            self._read += piece
        line, self._read = self._read.split(b"\n", 1)
        return line.decode()

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal; its exit status and the rest of what it wrote."""
        self.process.send_signal(number)
        return self.rest()

    def rest(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, out.decode(), (self._read + err).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
