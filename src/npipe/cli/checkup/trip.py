"""A round trip between two processes: whether all of it works together."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Final

import npipe
from npipe.cli.checkup.findings import ok, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.cli.checkup.findings import Finding

__all__ = ["check_round_trip", "main"]

_DEADLINE: Final = 20.0
_SIZES: Final = (1, 4096, 300_000)  # the last one is larger than the usual buffer
_TIMES: Final = 100


def check_round_trip() -> Iterator[Finding]:
    """Serve a pipe, and let a process of its own talk to it."""
    name = rf"\\.\pipe\npipe-doctor-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-P", "-m", "npipe.cli.checkup.trip", name]
    try:
        with _quietly(), npipe.serve(name, bytes):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_DEADLINE, check=False
            )
    except npipe.PipeError as error:
        yield problem("round trip", str(error).replace("\n", " "), "see the other findings")
        return
    except subprocess.TimeoutExpired:
        yield problem(
            "round trip",
            f"no answer within {_DEADLINE:.0f} seconds",
            "see the other findings; is the machine overloaded?",
        )
        return
    except (OSError, RuntimeError) as error:  # no process, no thread
        yield problem("round trip", f"it could not be begun: {error}", "see the limits: descriptors, processes, memory")
        return
    said = (done.stdout if done.returncode == 0 else done.stderr).decode(errors="replace").strip().splitlines()
    last = said[-1] if said else f"the other process has ended with status {done.returncode}"
    if done.returncode == 0:
        yield ok("round trip", last)
    else:
        yield problem("round trip", last, "see the other findings")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep what the server logs off standard error: the client's end is what is told."""
    logger, handler = logging.getLogger("npipe"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def main(arguments: list[str]) -> int:
    """Be the other process: send, compare what comes back, and say how it went."""
    import time

    (name,) = arguments
    with npipe.connect(name, timeout=10) as pipe:
        for size in _SIZES:
            sent = random.Random(size).randbytes(size)  # noqa: S311 - no secret
            pipe.send(sent)
            if pipe.recv(timeout=10) != sent:
                sys.stderr.write(f"{size} bytes came back as others\n")
                return 1
        times = []
        for _ in range(_TIMES):
            before = time.perf_counter()
            pipe.send(b"npipe")
            reply = pipe.recv(timeout=10)
            times.append(time.perf_counter() - before)
            if reply != b"npipe":
                sys.stderr.write("5 bytes came back as others\n")
                return 1
    median = sorted(times)[_TIMES // 2] * 1e6
    sys.stdout.write(f"two processes have talked, {median:.0f} microseconds there and back\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
