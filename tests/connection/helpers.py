"""What the tests of npipe.connection share: arrays by their content, and children that are forked."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import select
import signal
import struct
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import threading
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


def thread_asleep(thread: threading.Thread) -> None:
    """Wait until a thread of this process sleeps in a call of the system's."""
    while "\nState:\tS" not in Path(f"/proc/self/task/{thread.native_id}/status").read_text():
        os.sched_yield()


def ended(pid: int, seconds: float = 30.0) -> bool:
    """Whether a child ends within that time. It is not reaped."""
    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def birth(pid: int) -> int:
    """When a process was started, in hundredths of a second."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])


WRITERS, READERS = 16, 136  # where the words of a direction's locks are

RING = 1 << 18  # bytes, of a channel in one direction


class Direction:
    """What a connection reads from, as it is in shared memory (docs/protocol.md, section 8)."""

    def __init__(self, connection: Any) -> None:
        (segment, *_), side = connection._descriptors()
        self._map = mmap.mmap(segment, 0)
        self._at = 4096 + (4096 + RING if side == 0 else 0)

    def _word(self, offset: int, form: str = "Q") -> int:
        at = self._at + offset
        return int(struct.unpack_from(f"<{form}", self._map, at)[0])

    def promise(self, size: int) -> None:
        """Publish the header of a message of so many bytes, and a few of them."""
        tail = self._word(0)
        struct.pack_into("<4Q", self._map, self._at + 4096 + tail % RING, size, 0, 0, 0)
        struct.pack_into("<Q", self._map, self._at, tail + 32)

    def give_holders_number_to(self, pid: int, lock: int) -> None:
        """Have a lock's word name another process: the holder has died, and that one has got its number since."""
        word = self._word(lock)
        assert word & ~(0x3FFFFF << 32)
        struct.pack_into("<Q", self._map, self._at + lock, word & ~(0x3FFFFF << 32) | pid << 32)

    @property
    def sleepers(self) -> int:
        """How many sleep until there is more."""
        return self._word(256, "I")

    def wait_until_full(self) -> None:
        """Wait until its writer sleeps for room."""
        while self._word(0) - self._word(128) < RING - 16384:
            os.sched_yield()

    def wait_until_drained(self) -> None:
        """Wait until its reader has taken all that there is, of a message that is longer."""
        while not (self._word(0) == self._word(128) > 0 and self.sleepers):
            os.sched_yield()


def echo(connection: Any) -> None:
    """Send back what comes, until the end."""
    while True:
        try:
            obj = connection.recv()
        except EOFError:
            return
        connection.send(obj)
