"""What the tests of faults share: how many rounds, what a process holds, processes of other users, busy neighbours."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from npipe.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = bool(os.environ.get("NPIPE_LONG"))
MINUTES = 60.0 if LONG else 1.0  # a test's own deadline, in seconds for each

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")

OPEN, WAIT, QUERY, NUDGE, STAY = 1, 2, 3, 4, 16  # docs/protocol.md, section 3
HOLD, KEEP = 1, 2
ANSWER_SIZE = 48


def rounds(short: int, long: int) -> int:
    """How often, in the form of the suite that runs."""
    return long if LONG else short


def folder_of(name: str) -> Path:
    """The folder of a pipe."""
    return Path(os.environ["NPIPE_ROOT"]) / parse_name(name).folder


def sockets_of(name: str) -> list[Path]:
    """The sockets of a pipe's owners."""
    return sorted(folder_of(name).glob("s*"))


def dial(path: Path, deadline: float = 20.0) -> socket.socket:
    """A connection to an owner's socket, by hand."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(deadline)
    made.connect(str(path))
    return made


def request(kind: int, *, flags: int = 0, access: int = 3, offer: int = 0) -> bytes:
    """A request of the rendezvous."""
    return struct.pack("<IIIIIIQ", 0x5250504E, 1, kind, flags, access, 0, offer)


def code_of(answer: bytes) -> int:
    """The Win32 code of an answer of the rendezvous."""
    assert len(answer) >= ANSWER_SIZE, answer
    magic, version, _, code = struct.unpack_from("<4I", answer)
    assert (magic, version) == (0x5250504E, 1)
    return int(code)


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
