"""A program that a test starts, talks with by lines, and ends: the examples, the samples of the pages."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["DEADLINE", "Program", "run"]

DEADLINE = 60.0  # seconds for anything that a program is to do, on a busy machine too


class Program:
    """A Python program in a process of its own, whatever it prints being kept. Its Ctrl-C is SIGINT."""

    def __init__(
        self, *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, typing: bool = False
    ) -> None:
        # A shell in the background has SIGINT ignored, and its children inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", *command],
                stdin=subprocess.PIPE if typing else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env={**os.environ, **(env or {}), "PYTHONIOENCODING": "utf-8"},
                encoding="utf-8",
            )
        finally:
            signal.signal(signal.SIGINT, before)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: list[str | None] = []
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._lines.put)),
            threading.Thread(target=self._read, args=(self.process.stderr, self._errors.append)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[str], take: Callable[[str | None], object]) -> None:
        with stream:
            for line in stream:
                take(line.rstrip("\n"))
        take(None)

    @property
    def errors(self) -> list[str]:
        """The lines of its standard error so far."""
        return [line for line in self._errors if line is not None]

    def line(self) -> str:
        """Its next line on standard output; fails when none comes in time, or at its end."""
        try:
            line = self._lines.get(timeout=DEADLINE)
        except queue.Empty:
            raise AssertionError(f"no line in time; on standard error: {self.errors}") from None
        assert line is not None, f"it has ended; on standard error: {self.errors}"
        return line

    def lines(self, count: int) -> list[str]:
        """Its next lines."""
        return [self.line() for _ in range(count)]

    def type(self, *lines: str) -> None:
        """Write lines to its standard input."""
        assert self.process.stdin is not None
        for line in lines:
            self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end_of_input(self) -> None:
        """Close its standard input: Ctrl-D."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def ctrl_c(self) -> None:
        """Send SIGINT."""
        self.process.send_signal(signal.SIGINT)

    def rest(self) -> tuple[int, list[str], list[str]]:
        """Wait for its end: its exit status, the rest of its output, its errors."""
        status = self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)
            assert not reader.is_alive(), "a child of it has its output open"
        rest = []
        while (line := self._lines.get(timeout=DEADLINE)) is not None:
            rest.append(line)
        return status, rest, self.errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended with lines unread
                self.process.stdin.close()
        until = time.monotonic() + DEADLINE
        for reader in self._readers:
            reader.join(max(0.0, until - time.monotonic()))


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> list[str]:
    """Run a Python program to its end: its output. It may say nothing on standard error."""
    with Program(*command, cwd=cwd, env=env) as program:
        status, lines, errors = program.rest()
        assert (status, errors) == (0, [])
        return lines
