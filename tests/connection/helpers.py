"""What the tests of npipe.connection share: arrays by their content, and children that are forked."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METHODS = ("fork", "spawn", "forkserver")


@functools.cache
def _block(seed: int) -> bytes:
    return bytes((seed * 31 + at * 7 + at // 251) % 256 for at in range(65537))


def pattern(size: int, seed: int = 1) -> bytes:
    """Bytes of which no two near ones are alike: what is out of place is seen."""
    return (_block(seed) * (size // 65537 + 1))[:size]


@contextlib.contextmanager
def forked(target: Callable[..., Any], *args: Any) -> Iterator[int]:
    """A child that calls `target`; its exit status must be 0, unless the test has taken it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            target(*args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    over = False
    try:
        yield pid
        over = True
    finally:
        if not over:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(pid, 0)
            assert not over or status == 0, status


def kill(pid: int) -> None:
    """End a child at once, and wait until it has gone."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def asleep(pid: int) -> None:
    """Wait until a child sleeps in a call of the system's."""
    while "\nState:\tS" not in Path(f"/proc/{pid}/status").read_text():
        os.sched_yield()


def echo(connection: Any) -> None:
    """Send back what comes, until the end."""
    while True:
        try:
            obj = connection.recv()
        except EOFError:
            return
        connection.send(obj)
