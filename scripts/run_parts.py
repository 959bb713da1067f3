"""Runs parts of the tests, targets of make, and says which, how far it is, and at the end how long each took.

run_parts.py PART... [--beside PART...]

A part is a target, with variables behind it if there are any: "test-c", "test-python PYTEST_ARGS=-x". They run one
after the other; those behind --beside, likewise, at the same time. Then each line says which part it is from. What
fails keeps no other part from running. Exits with 1 if one has failed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Ended(NamedTuple):
    """A part that is over."""

    part: str
    seconds: float
    status: int
    summary: str  # pytest's last line, if it is one


class Run:
    """What runs, and how it went."""

    def __init__(self, lanes: list[list[str]]) -> None:
        self._lanes = lanes
        self._many = len(lanes) > 1
        self._lock = threading.Lock()
        self._started = 0
        self._count = sum(map(len, lanes))
        self.ended: list[Ended] = []

    def run(self) -> None:
        """Run all."""
        threads = [threading.Thread(target=self._run_lane, args=(lane,)) for lane in self._lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run_lane(self, lane: list[str]) -> None:
        for part in lane:
            with self._lock:
                self._started += 1
                number = self._started
            target, *variables = shlex.split(part)
            self._say(f"== [{number}/{self._count}] {target}")
            start = time.monotonic()
            # Variables that were given to the make above this are for all parts; MAKEFLAGS has them.
            with subprocess.Popen(
                [os.environ.get("MAKE", "make"), "--no-print-directory", target, *variables],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process:
                assert process.stdout is not None
                summary = ""
                for line in process.stdout:
                    text = line.rstrip("\n")
                    self._say(f"{target}: {text}" if self._many else text)
                    if re.search(r"\d (passed|failed)", text):
                        summary = text.strip("= ")
            seconds = time.monotonic() - start
            how = "done" if process.returncode == 0 else "FAILED"
            self._say(f"== [{number}/{self._count}] {target}: {how} in {_time(seconds)}")
            with self._lock:
                self.ended.append(Ended(target, seconds, process.returncode, summary))

    def _say(self, text: str) -> None:
        with self._lock:
            print(text, flush=True)


def _time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def main(arguments: list[str]) -> int:
    """Run the parts, and tell of each."""
    lanes: list[list[str]] = [[]]
    for argument in arguments:
        if argument == "--beside":
            lanes.append([])
        else:
            lanes[-1].append(argument)
    run = Run([lane for lane in lanes if lane])
    start = time.monotonic()
    run.run()
    print("\n== Summary (minutes:seconds)")
    for part in run.ended:
        how = "FAILED" if part.status else "passed"
        print(f"{part.part:<18} {how}  {_time(part.seconds):>6}  {part.summary}".rstrip())
    print(f"{'all':<18} {'FAILED' if any(part.status for part in run.ended) else 'passed'}", end="")
    print(f"  {_time(time.monotonic() - start):>6}")
    return int(any(part.status for part in run.ended))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
