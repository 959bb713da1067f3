"""What the tests of faults share: how many rounds, what a process holds, processes of other users, busy neighbours."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests import helpers as h

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = bool(os.environ.get("NPIPE_LONG"))
MINUTES = 60.0 if LONG else 1.0  # a test's own deadline, in seconds for each


def rounds(short: int, long: int) -> int:
    """How often, in the form of the suite that runs."""
    return long if LONG else short


class Holding(NamedTuple):
    """What a process holds of what could leak."""

    descriptors: int
    mappings: int  # of links
    threads: int


def holding(pid: int | None = None) -> Holding:
    """What a process, by default this one, holds now."""
    place = Path(f"/proc/{pid or os.getpid()}")
    return Holding(
        len(list((place / "fd").iterdir())) - (pid is None),  # less the one that reads the list
        (place / "maps").read_text().count("memfd:npipe-link"),
        len(list((place / "task").iterdir())),
    )


class Baseline:
    """What this process holds when no connection is open.

    The engine's own thread unmaps a link before it closes what belongs to it, and may be between the two when somebody
    looks; so it is looked at a few times, and the least counts.
    """

    LOOKS = range(3, 8)  # turns: the first ones make what stays

    def __init__(self) -> None:
        self._seen: list[Holding] = []

    def look(self, turn: int) -> None:
        """To be called at the end of each turn, when all its connections are closed."""
        if turn in self.LOOKS:
            h.until(lambda: holding().mappings == 0)
            self._seen.append(holding())

    def comes_back(self) -> None:
        """Wait until the process holds just that again; fails when that does not come."""
        assert len(self._seen) == len(self.LOOKS)
        least = Holding(*map(min, zip(*self._seen, strict=True)))
        h.until(lambda: holding() == least)


def resident_kib(pid: int | None = None) -> int:
    """The memory that a process has for itself: anonymous pages, in KiB."""
    for line in Path(f"/proc/{pid or os.getpid()}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")


def switches(pid: int) -> int:
    """How often the threads of a process have gone to sleep or been put off the processor."""
    return sum(
        int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if "ctxt_switches" in line
    )


@contextlib.contextmanager
def busy_neighbours(count: int = 4) -> Iterator[None]:
    """Processes that want every processor, for as long as the block runs."""
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def percentiles(seconds: list[float]) -> str:
    """The middle, the 99th percentile and the largest, in milliseconds."""
    ordered = sorted(seconds)
    middle, late = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return f"median {middle * 1000:.2f} ms, 99 % {late * 1000:.2f} ms, longest {ordered[-1] * 1000:.2f} ms"
