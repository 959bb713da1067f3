r"""Runs what a Markdown page shows: its programs and its transcripts.

A page is carried out from its top to its end, in a folder of its own, as a reader would:

- A block whose first line is a comment with a file's name (`# server.py`) becomes that file, in the moment in which the
  page comes to it: a later block of the same name is its next version.
- Another block of `python` is a program: it is run, and has to end with 0.
- A block of `console` is a transcript: behind `$ ` a command of the shell's, and below it what it prints, on both
  outputs. A command has to end with 0, unless the next one is `echo $?`.

In a transcript

- `...` stands for anything in a line, and, alone in a line, for any lines;
- `$ COMMAND &` goes on when the lines below have come, and the command runs until the page's end;
- `$ fg` takes the last of these back (`$ fg %1` the first): below is what it has printed since, and `^C` where it gets
  that;
- `$ wait %1` is the same for a job that ends by itself, and may have ended: a shell has no `fg` for that;
- `$ kill %1` ends the first of these, and so on; `$ kill -TERM %1` tells it to end, and does not wait for that;
- `$ cd FOLDER` and `$ export NAME=VALUE` hold for the commands behind them;
- a command that ends with a backslash goes on in the next line.

Blocks of other languages (`sh`, `text`, `ini`) are for reading, unless they begin with a file's name.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Block", "Command", "File", "Page", "PageError", "Script", "blocks", "run", "steps"]

DEADLINE: Final = 60.0  # seconds that a command may take for what it is to do, on a busy machine too

_FENCE = re.compile(r"(?P<indent>\s*)(?P<fence>`{3,}|~{3,})\s*(?P<info>[^`]*)$")
_FILE = re.compile(r"(?:#|//|;)\s*(?P<name>[\w.][\w./@-]*\.\w+)$")


class PageError(AssertionError):
    """A page shows what is not so; `number` is the line, if it is another one than that of the step."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its lines, and the number of its first line in the page."""

    language: str
    lines: tuple[str, ...]
    number: int


@dataclass(frozen=True)
class File:
    """A file that the page shows."""

    name: str
    text: str
    number: int


@dataclass(frozen=True)
class Script:
    """A program without a name."""

    text: str
    number: int


@dataclass(frozen=True)
class Command:
    """A command of a transcript, and the lines below it."""

    text: str
    expected: tuple[str, ...]
    number: int

    @property
    def in_background(self) -> bool:
        """Whether it runs on."""
        return self.text.endswith(" &")


Page = list[File | Script | Command]


# ---- Reading


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, those in lists too."""
    begin, indent, fence, language = 0, "", "", ""
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if not fence:
            if found:
                begin, indent, fence = number + 1, found["indent"], found["fence"]
                language = found["info"].strip().split(" ")[0]
                lines = []
        elif found and found["fence"].startswith(fence) and not found["info"].strip():
            yield Block(language, tuple(lines), begin)
            fence = ""
        else:
            lines.append(line.removeprefix(indent))
    if fence:
        raise PageError(f"line {begin - 1}: the block has no end")


def steps(text: str) -> Page:
    """What a reader of the page would do, in order."""
    found: Page = []
    for block in blocks(text):
        named = _FILE.match(block.lines[0]) if block.lines else None
        if block.language == "console":
            found += _commands(block)
        elif named:
            found.append(File(named["name"], "\n".join(block.lines) + "\n", block.number))
        elif block.language == "python":
            found.append(Script("\n".join(block.lines) + "\n", block.number))
    return found


def _commands(block: Block) -> Iterator[Command]:
    command, expected, begin, goes_on = "", [""], 0, False
    for number, line in enumerate(block.lines, block.number):
        if goes_on:
            command += line.removeprefix("> ").strip()
        elif line.startswith("$ "):
            if command:
                yield Command(command, tuple(expected), begin)
            command, expected, begin = line[2:].strip(), [], number
        elif not command:
            raise PageError(f"line {number}: a transcript begins with a command")
        else:
            expected.append(line)
            continue
        goes_on = command.endswith("\\")
        command = command.removesuffix("\\")
    if command:
        yield Command(command, tuple(expected), begin)


# ---- Running


class _Job:
    """A process of the shell's, in a group of its own, and what it prints."""

    def __init__(self, command: str, folder: Path, environment: Mapping[str, str]) -> None:
        # A shell in the background has SIGINT ignored, and its children inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self.process = subprocess.Popen(
                ["sh", "-c", command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="backslashreplace",
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        self.command = command
        self.stopped = False  # by a signal of the page's
        self.taken_back = False  # so all of its output is the page's
        self.printed: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._at_end = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, until: float) -> str | None:
        """Its next line; None at its end."""
        try:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise PageError(f"{self.command}: nothing more in {DEADLINE:g} s, after\n{self.text}") from None
        if line is None:
            self._at_end = True
        else:
            self.printed.append(line)
        return line

    @property
    def text(self) -> str:
        """All that was read of it."""
        return "\n".join(self.printed)

    def rest(self) -> list[str]:
        """Wait for its end: the rest of its lines."""
        until = time.monotonic() + DEADLINE
        lines: list[str] = []
        if self._at_end:
            return lines
        while (line := self.line(until)) is not None:
            lines.append(line)
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise PageError(f"{self.command}: it has closed its output and goes on") from None
        return lines

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its whole group, as a terminal does."""
        self.stopped = True
        if self.process.poll() is None:  # else its number may be another's
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        """End it, whatever it does. Its children, too: the group lives as long as any of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()


def _is_any(line: str) -> bool:
    """Whether a line of a page stands for any lines."""
    return line.strip() == "..."


def _pattern(line: str) -> str:
    """The regular expression of a line of a page."""
    return re.escape(line.rstrip()).replace(r"\.\.\.", ".*")


class _Shell:
    """Carries out the steps of a page."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._home = self._folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        fixed = {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "COLUMNS": "80"}
        self._environment = {**os.environ, **fixed, "PWD": str(folder), **environment}
        self._jobs: list[_Job] = []  # in the background, by their numbers
        self._foreground: _Job | None = None
        self._status: int | None = None  # of the last command, if it is still to be told: not 0
        self._last, self._last_number, self._printed = "", 0, ""  # the last command, its line and its output

    def write(self, file: File) -> None:
        path = self._home / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")

    def run_script(self, script: Script) -> None:
        path = self._home / f"block_at_line_{script.number}.py"
        path.write_text(script.text, encoding="utf-8")
        self._run(f"python {path.name}", ("...",), script.number)
        self.check_status()

    def run(self, command: Command) -> None:
        """Run one, and compare what it prints."""
        text, expected = command.text, command.expected
        if text == "echo $?":
            self._compare(text, [str(self._status or 0)], expected)
            self._status = None
            return
        self.check_status()
        if text.startswith("cd "):
            self._folder /= text[3:]
            self._environment["PWD"] = str(self._folder)
        elif text.startswith("export "):
            name, _, value = text[7:].partition("=")
            self._environment[name] = value.strip("'\"")
        elif taken := re.fullmatch(r"fg(?: %(\d+))?|wait %(\d+)", text):
            self._take_back(self._job(taken[1] or taken[2]), expected)
        elif killed := re.fullmatch(r"kill (-TERM )?%(\d+)", text):
            job = self._job(killed[2])
            job.signal(signal.SIGTERM)
            if not killed[1]:
                job.rest()
        elif command.in_background:
            job = _Job(text.removesuffix("&").strip(), self._folder, self._environment)
            self._jobs.append(job)
            self._follow(job, expected)
        else:
            self._run(text, expected, command.number)

    def _run(self, text: str, expected: tuple[str, ...], number: int) -> None:
        self._foreground = job = _Job(text, self._folder, self._environment)
        lines = job.rest()
        job.end()
        self._foreground = None
        self._compare(text, lines, expected)
        self._status = job.process.returncode or None
        self._last, self._last_number, self._printed = text, number, job.text

    def _follow(self, job: _Job, expected: tuple[str, ...]) -> None:
        """Wait for a job's next lines."""
        until = time.monotonic() + DEADLINE
        any_lines = False
        for wanted in expected:
            if _is_any(wanted):
                any_lines = True
                continue
            line = job.line(until)
            while any_lines and line is not None and not re.fullmatch(_pattern(wanted), line.rstrip()):
                line = job.line(until)
            any_lines = False
            if line is None:
                raise PageError(f"{job.command}: expected\n{wanted}\nand it has ended, after\n{job.text}")
            self._compare(job.command, [line], (wanted,))

    def _job(self, number: str | None) -> _Job:
        """The job of that number, or the last one."""
        try:
            return self._jobs[-1 if number is None else int(number) - 1]
        except IndexError:
            raise PageError("there is no such job") from None

    def _take_back(self, job: _Job, expected: tuple[str, ...]) -> None:
        """Compare a job's output to its end, with what it is sent in between."""
        job.taken_back = True
        if "^C" in expected:
            place = expected.index("^C")
            self._follow(job, expected[:place])
            job.signal(signal.SIGINT)
            expected = expected[place + 1 :]
        self._compare(job.command, job.rest(), expected)

    def _compare(self, text: str, lines: list[str], expected: tuple[str, ...]) -> None:
        pattern = "".join(r"(?:.*\n)*" if _is_any(line) else rf"{_pattern(line)}\n" for line in expected)
        printed = "".join(f"{line.rstrip()}\n" for line in lines)
        if not re.fullmatch(pattern, printed):
            wanted = "\n".join(expected)
            raise PageError(f"{text}: expected\n{wanted}\n-- and it has printed\n{printed}")

    def check_status(self) -> None:
        """The last command has ended with 0, or the page has told what it has ended with."""
        if self._status is not None:
            told = f"it has ended with {self._status}, which the page does not tell, after"
            raise PageError(f"{self._last}: {told}\n{self._printed}", self._last_number)

    def check_jobs(self) -> None:
        """No job has failed behind the page's back."""
        for job in self._jobs:
            status = job.process.poll()
            job.end()
            job.rest()
            if status and not job.stopped:
                raise PageError(f"{job.command}: it has ended with {status}, after\n{job.text}")
            if "Traceback" in job.text and not job.taken_back:
                raise PageError(f"{job.command}: it has printed\n{job.text}")

    def end(self) -> None:
        for job in (*self._jobs, self._foreground):
            if job is not None:
                job.end()


def run(text: str, folder: Path, environment: Mapping[str, str] | None = None) -> int:
    """Carry a page out in a folder. All processes have ended when this returns, whether it does or raises.

    Args:
        text: the page.
        folder: where its files go, and its commands run.
        environment: variables beside those that are there.

    Returns:
        The number of programs and commands that were run.

    Raises:
        PageError: what the page shows is not so; its text has the line.
    """
    shell = _Shell(folder, environment or {})
    count = 0
    try:
        for step in steps(text):
            try:
                if isinstance(step, File):
                    shell.write(step)
                    continue
                count += 1
                if isinstance(step, Script):
                    shell.run_script(step)
                else:
                    shell.run(step)
            except PageError as error:
                raise PageError(f"line {error.number or step.number}: {error}") from None
        try:
            shell.check_status()
        except PageError as error:
            raise PageError(f"line {error.number}: {error}") from None
        shell.check_jobs()
    finally:
        shell.end()
    return count
