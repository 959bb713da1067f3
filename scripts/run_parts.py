"""Runs parts of the tests, targets of make, and says which, how far it is, and at the end how long each took.

run_parts.py PART... [--beside PART...] [--then PART... [--beside PART...]]...

A part is a target, with variables behind it if there are any: "test-c", "test-python PYTEST_ARGS=-x". They run one
after the other; those behind --beside, likewise, at the same time. Then each line says which part it is from. Those
behind --then begin when all before it have ended. What fails keeps no other part from running. Exits with 1 if one has
failed, or has not run.

SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to all processes of the parts that run, and no other part begins; a
second one kills them.
"""

from __future__ import annotations

import io
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NOT_STARTED = 127  # as a shell has it
REST = 5.0  # seconds in which the output of a part that has ended comes


class Ended(NamedTuple):
    """A part that is over."""

    part: str
    seconds: float
    status: int
    summary: str  # pytest's last line, if it is one


class Run:
    """What runs, and how it went."""

    def __init__(self, stages: list[list[list[str]]]) -> None:
        """`stages` come one after the other; each has lanes, which run at the same time, and each lane parts."""
        self._stages = stages
        self._many = False
        self._lock = threading.Lock()
        self._started = 0
        self._count = sum(len(lane) for lanes in stages for lane in lanes)
        # What the main thread waits for: signals, and 0 for a lane that is over.
        self._news: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._running: dict[int, subprocess.Popen[str]] = {}
        self.stopped_by = 0
        """The signal that has ended it, if one has."""
        self.ended: list[Ended] = []

    @property
    def plan(self) -> str:
        """What is going to run, in words."""
        stages = [
            " beside ".join(", ".join(shlex.split(part)[0] for part in lane) for lane in lanes)
            for lanes in self._stages
        ]
        return f"{self._count} part{'s' * (self._count > 1)}: {', then '.join(stages)}"

    @property
    def status(self) -> int:
        """The exit status."""
        if self.stopped_by:
            return 128 + self.stopped_by
        return int(len(self.ended) < self._count or any(part.status for part in self.ended))

    def run(self) -> None:
        """Run all."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _frame: self._news.put(number))
        for lanes in self._stages:
            self._run_stage(lanes)

    def _run_stage(self, lanes: list[list[str]]) -> None:
        if self.stopped_by:
            self._say(f"== {sum(map(len, lanes))} more not begun")
            return
        self._many = len(lanes) > 1
        left = len(lanes)
        for lane in lanes:
            threading.Thread(target=self._run_lane, args=(lane,)).start()
        while left:
            number = self._news.get()
            if number == 0:
                left -= 1
            else:
                self._stop(number)

    def _stop(self, number: int) -> None:
        with self._lock:
            again, self.stopped_by = self.stopped_by, self.stopped_by or number
            for process in self._running.values():
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL if again else number)

    def _run_lane(self, lane: list[str]) -> None:
        try:
            for number, part in enumerate(lane):
                if not self._run_part(part):
                    self._say(f"== {len(lane) - number - 1} more not begun")
                    break
        finally:
            self._news.put(0)

    def _run_part(self, part: str) -> bool:
        """Run one; False: nothing is to be run after it."""
        target, *variables = shlex.split(part)
        with self._lock:
            self._started += 1
            number = self._started
        self._say(f"== [{number}/{self._count}] {target}")
        start = time.monotonic()
        try:
            status, summary = self._make(target, variables)
        except OSError as error:
            self._say(str(error))
            status, summary = NOT_STARTED, ""
        seconds = time.monotonic() - start
        self._say(f"== [{number}/{self._count}] {target}: {'FAILED' if status else 'done'} in {_time(seconds)}")
        with self._lock:
            self.ended.append(Ended(target, seconds, status, summary))
            return not self.stopped_by

    def _make(self, target: str, variables: list[str]) -> tuple[int, str]:
        summary = ""

        def read(output: IO[str]) -> None:
            nonlocal summary
            for line in output:
                text = line.rstrip("\n")
                self._say(f"{target}: {text}" if self._many else text)
                if re.search(r"\d (passed|failed)", text):
                    summary = text.strip("= ")

        with self._lock:  # so that a signal finds it, or finds nothing
            if self.stopped_by:
                return 128 + self.stopped_by, ""
            # Variables that were given to the make above this are for all parts; MAKEFLAGS has them.
            process = subprocess.Popen(
                [os.environ.get("MAKE", "make"), "--no-print-directory", target, *variables],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                process_group=0,  # a signal is for all of them
            )
            self._running[process.pid] = process
        reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
        reader.start()
        status = process.wait()
        with self._lock:
            del self._running[process.pid]
        reader.join(REST)
        if reader.is_alive():
            self._say(f"== {target} has left a process behind, which holds its output")
        return status, summary

    def _say(self, text: str) -> None:
        with self._lock:
            print(text, flush=True)


def _time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _split(arguments: list[str], at: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == at:
            parts.append([])
        else:
            parts[-1].append(argument)
    return parts


def main(arguments: list[str]) -> int:
    """Run the parts, and tell of each."""
    stages = [[lane for lane in _split(stage, "--beside") if lane] for stage in _split(arguments, "--then")]
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(errors="backslashreplace")  # what a part says need not be in this terminal's encoding
    run = Run(stages)
    print(f"== {run.plan}", flush=True)
    start = time.monotonic()
    run.run()
    print("\n== Summary (minutes:seconds)")
    for part in run.ended:
        how = "FAILED" if part.status else "passed"
        print(f"{part.part:<18} {how}  {_time(part.seconds):>6}  {part.summary}".rstrip())
    print(f"{'all':<18} {'FAILED' if run.status else 'passed'}  {_time(time.monotonic() - start):>6}")
    return run.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
