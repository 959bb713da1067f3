"""The sides of the demonstration: their processes, and the one pipe by which what they write comes in order."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

__all__ = ["Side", "Stage", "StageError"]

_DEADLINE: Final = 60.0  # seconds, for what takes a moment
_ENDED: Final = "\0"  # before a process' number: it has ended


class StageError(Exception):
    """A side has ended or hung where the story goes on."""


class Side(NamedTuple):
    """A process, and what it is called."""

    label: str
    process: subprocess.Popen[bytes]

    def go_on(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self.process.stdin.write(b"\n")
            self.process.stdin.close()
        except OSError as error:  # no BrokenPipeError of standard output's, which ends the story in good order
            raise StageError(f"the {self.label} has ended where it was to go on") from error


class Stage:
    """The sides, and what they write. All are ended with it."""

    def __init__(self, show: Callable[[str, str], None]) -> None:
        """`show` is given a side's label ("" if it has none) and a line."""
        self._show = show
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._sides: list[Side] = []
        self._ended: set[int] = set()

    def __enter__(self) -> Self:
        reader, self._writer = os.pipe()
        threading.Thread(target=self._read, args=(reader,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for side in self._sides:
            side.process.kill()
            side.process.wait()
            assert side.process.stdin is not None  # noqa: S101 - it is a pipe
            if not side.process.stdin.closed:
                side.process.stdin.close()
        os.close(self._writer)

    def _read(self, reader: int) -> None:
        with os.fdopen(reader, encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                self._lines.put(line.rstrip("\r\n"))

    def start(self, label: str, role: str, *arguments: str) -> Side:
        """Start a side."""
        command = [sys.executable, "-P", "-m", "npipe.cli.demonstration.sides", label, role, *arguments]
        with _whole():
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._writer, stderr=self._writer)
            side = Side(label, process)
            self._sides.append(side)
        # What it wrote stands before this in the pipe. Of its own, for the stage closes its writer.
        writer = os.dup(self._writer)
        threading.Thread(target=_tell_of_its_end, args=(process, writer), daemon=True).start()
        return side

    def until(self, side: Side, words: str) -> None:
        """Show what comes, until this side writes a line with these words."""
        while True:
            label, line = self._next(side)
            if label == side.label and words in line:
                return
            if side.process.pid in self._ended:
                raise StageError(f"the {side.label} has ended, with status {side.process.wait()}")

    def end(self, side: Side) -> None:
        """Let it end, and show what comes until then."""
        assert side.process.stdin is not None  # noqa: S101 - it is a pipe
        if not side.process.stdin.closed:
            side.process.stdin.close()
        while side.process.pid not in self._ended:
            self._next(side)

    def _next(self, side: Side) -> tuple[str, str]:
        try:
            line = self._lines.get(timeout=_DEADLINE)
        except queue.Empty:
            raise StageError(f"the {side.label} does not go on: nothing for {_DEADLINE:.0f} seconds") from None
        if line.startswith(_ENDED):
            self._note_the_end_of(int(line[1:]))
            return "", ""
        label, tab, text = line.partition("\t")
        if not tab:
            label, text = "", line
        self._show(label, text)
        return label, text

    def _note_the_end_of(self, pid: int) -> None:
        self._ended.add(pid)
        for side in self._sides:
            if side.process.pid == pid and side.process.wait():
                raise StageError(f"the {side.label} has failed, with status {side.process.returncode}")


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Keep Ctrl-C until the block is over: a process that it starts is known to whoever ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def _tell_of_its_end(process: subprocess.Popen[bytes], writer: int) -> None:
    process.wait()
    os.write(writer, f"{_ENDED}{process.pid}\n".encode())
    os.close(writer)
