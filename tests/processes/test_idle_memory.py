"""A connection that is idle gives its rings' memory back, one that trickles uses a few pages over and over, and neither
loses a byte. Between processes; tests/c/test_streams.c has the same with a thread that gives back all the time."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.helpers import DEADLINE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]

pytestmark = pytest.mark.slow  # each waits for an idle time

# A header page, and three pages of each ring.
MOST_KIB = 28
IDLE = 10.0  # seconds within which it has to be given back; 2 are usual

ECHO = """
    import sys, npipe
    with npipe.connect(sys.argv[1], timeout=10) as pipe:
        print("there", flush=True)
        while message := pipe.recv():
            pipe.send(message)
"""


def _mapped() -> dict[int, int]:
    """By inode, what each segment that this process has mapped takes of the machine's memory, in KiB."""
    found = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "memfd:npipe-link" in line:
            place = "-".join(part.lstrip("0") for part in line.split()[0].split("-"))
            with contextlib.suppress(FileNotFoundError):  # an earlier test's, which has just gone
                status = Path("/proc/self/map_files", place).stat()
                found[status.st_ino] = status.st_blocks // 2
    return found


@pytest.fixture
def segments(name: str) -> Callable[[], list[int]]:
    """Returns what the segments take that the test has made. Only root, and who may checkpoint, sees that."""
    with npipe.listen(name) as listener, npipe.connect(name, timeout=DEADLINE), listener.accept(timeout=DEADLINE):
        try:
            assert _mapped()
        except PermissionError:
            pytest.skip("/proc/self/map_files needs root, or the right to checkpoint")
    before = set(_mapped())
    return lambda: [held for inode, held in _mapped().items() if inode not in before]


def numbered(number: int, size: int) -> bytes:
    return (b"%016d" % number * (size // 16 + 1))[:size]


def test_a_connection_that_is_idle_and_empty_holds_a_few_pages_whatever_it_has_moved(
    child: Start, name: str, segments: Callable[[], list[int]]
) -> None:
    with npipe.listen(name) as listener:
        worker = child(ECHO, name)
        with listener.accept(timeout=DEADLINE) as pipe:
            for size in (64, 4096, 65536, 65537, 1_000_000):
                for number in range(300 if size < 100_000 else 20):
                    message = numbered(number, size)
                    if size <= 65536:
                        pipe.send(message, timeout=DEADLINE)
                    else:  # more than the quota: it pends until it is read
                        writing = threading.Thread(target=pipe.send, args=(message,))
                        writing.start()
                        writing.join(DEADLINE)
                        assert not writing.is_alive()
                    assert pipe.recv(timeout=DEADLINE) == message
                until(lambda: max(segments()) <= MOST_KIB, IDLE)
            pipe.send(b"", timeout=DEADLINE)
        assert worker.wait() == 0


def test_what_nobody_has_read_yet_stays_and_the_memory_goes_when_it_is_read(
    name: str, segments: Callable[[], list[int]]
) -> None:
    with npipe.listen(name) as listener, npipe.connect(name, timeout=DEADLINE) as client:
        server = listener.accept(timeout=DEADLINE)
        for number in range(100):
            client.send(numbered(number, 60_000), timeout=DEADLINE)
            if number < 99:
                assert server.recv(timeout=DEADLINE) == numbered(number, 60_000)
        # As long as it takes to look at it: of another connection the memory is given back meanwhile.
        with npipe.connect(name, timeout=DEADLINE) as other:
            another = listener.accept(timeout=DEADLINE)
            for number in range(100):
                other.send(numbered(number, 60_000), timeout=DEADLINE)
                assert another.recv(timeout=DEADLINE) == numbered(number, 60_000)
            until(lambda: min(segments()) <= MOST_KIB, IDLE)
            assert max(segments()) > 60
            another.close()
        assert server.recv(timeout=DEADLINE) == numbered(99, 60_000)
        until(lambda: max(segments()) <= MOST_KIB, IDLE)
        client.send(b"and on", timeout=DEADLINE)
        assert server.recv(timeout=DEADLINE) == b"and on"
        server.close()


def test_a_connection_that_trickles_uses_the_same_few_pages(
    child: Start, name: str, segments: Callable[[], list[int]]
) -> None:
    with npipe.listen(name) as listener:
        worker = child(ECHO, name)
        with listener.accept(timeout=DEADLINE) as pipe:
            for batch in range(60):  # of 8 KB in 10 ms: more than the ring in all
                for number in range(batch * 16, batch * 16 + 16):
                    pipe.send(numbered(number, 500), timeout=DEADLINE)
                    assert pipe.recv(timeout=DEADLINE) == numbered(number, 500)
                time.sleep(0.01)  # the pace, which is what is tested: nothing is waited for
            assert max(segments()) <= MOST_KIB
            pipe.send(b"", timeout=DEADLINE)
        assert worker.wait() == 0


def test_pauses_about_as_long_as_an_idle_time_lose_no_byte(child: Start, name: str) -> None:
    pauses = random.Random(4711)
    with npipe.listen(name) as listener:
        workers = [child(ECHO, name) for _ in range(4)]
        pipes = [listener.accept(timeout=DEADLINE) for _ in workers]
        for worker in workers:
            assert worker.line() == "there"
        for turn in range(6):
            for pipe in pipes:
                messages = [numbered(turn + i, pauses.choice((1, 4000, 16_000, 65_000, 300_000))) for i in range(5)]
                for message in messages:
                    pipe.send(message, timeout=DEADLINE)
                    if turn % 2:
                        time.sleep(pauses.choice((0.0, 0.0, 0.01)))
                    assert pipe.recv(timeout=DEADLINE) == message
                if turn % 3 == 0:
                    pipe.send(b"left over", timeout=DEADLINE)
            time.sleep(pauses.uniform(0.9, 1.3))  # the idle time, to and fro: nothing is waited for
            if turn % 3 == 0:
                for pipe in pipes:
                    assert pipe.recv(timeout=DEADLINE) == b"left over"
        for pipe in pipes:
            pipe.send(b"", timeout=DEADLINE)
            pipe.close()
        assert [worker.wait() for worker in workers] == [0] * len(workers)
