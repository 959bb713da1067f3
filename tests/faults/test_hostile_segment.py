"""A client that writes whatever it likes into the memory that it shares, under every face of npipe.

tests/c/test_hostile_peer.c does the same to the engine, a thousand times faster and under the sanitizers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.helpers import CHECKOUT, Background

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

LINKS = 2_000 if os.environ.get("NPIPE_LONG") else 100
IN_TIME = 10.0  # seconds

# Opens the pipe again and again, and spoils each link until the server has had enough of it or a while has passed.
ENEMY = """
    import mmap, os, random, struct, sys
    sys.path.insert(0, sys.argv[1])
    from tests.faults import hostile
    chance = random.Random(int(sys.argv[4]))
    chosen = [0, 1, 2, 7, 8, 127, 128, 4096, 65535, 65536, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    done = 0
    for number in range(int(sys.argv[3])):
        raw, segment = hostile.open_link(sys.argv[2])
        with mmap.mmap(segment, 0) as memory:
            os.close(segment)
            raw.setblocking(False)
            frame = bytes([chance.randrange(4)]) + b"abc"
            memory[4096 : 4096 + len(frame)] = frame  # something to read, now and then
            struct.pack_into("<Q", memory, 640, len(frame))
            for turn in range(3_000):
                where = chance.randrange(0, 1920, 4) if turn % 4 else chance.randrange(4096, 4096 + 512, 4)
                value = chance.choice(chosen) if turn % 2 else chance.getrandbits(32)
                old = struct.unpack_from("<I", memory, where)[0]
                value = value if turn % 3 else old + chance.randrange(-9, 10)
                struct.pack_into("<I", memory, where, value & 0xFFFFFFFF)
                done += 1
                if turn % 64 == 0:
                    try:
                        raw.send(b"!")
                    except BlockingIOError:
                        pass
                    except OSError:
                        break  # it has hung up
        raw.close()
    print(done, flush=True)
"""


@pytest.fixture
def attack(child: Callable[..., Child], figure: Callable[[str], None]) -> Callable[[str], None]:
    """Lets two enemies loose on a pipe, and returns when they are through."""

    def run(name: str) -> None:
        enemies = [child(ENEMY, str(CHECKOUT), name, str(LINKS), str(seed)) for seed in (1, 2)]
        total = sum(int(enemy.line(50 if LINKS < 1000 else 1000)) for enemy in enemies)
        figure(f"{total} mutations on {2 * LINKS} links")

    return run


def use(pipe: Any, chance: int) -> None:
    """Some calls on an end that may be over at any moment."""
    calls: list[Callable[[], object]] = [
        lambda: pipe.send(bytes(100), timeout=0.01),
        lambda: pipe.recv(timeout=0.01),
        lambda: pipe.peek(),
        lambda: pipe.transact(b"x", timeout=0.01),
        lambda: pipe.send(bytes(200_000), timeout=0.01),
        lambda: pipe.flush(timeout=0.01),
        lambda: pipe.recv(timeout=0.01),
    ]
    if not hasattr(pipe, "send"):
        calls = [
            lambda: pipe.read(1000, timeout=0.01),
            lambda: pipe.write(bytes(100), timeout=0.01),
            lambda: pipe.peek(),
            lambda: pipe.write(bytes(200_000), timeout=0.01),
        ]
    for number in range(12):
        began = time.monotonic()
        # PipeStateError: the answer of an earlier transaction is owed.
        with contextlib.suppress(npipe.PipeTimeoutError, npipe.PipeMessageTooLargeError, npipe.PipeStateError):
            calls[(number + chance) % len(calls)]()
        assert time.monotonic() - began < IN_TIME


@pytest.mark.timeout(2000)
@pytest.mark.parametrize("mode", ["message", "byte"])
def test_the_sync_face(name: str, attack: Callable[[str], None], mode: Any) -> None:
    with npipe.listen(name, mode=mode, in_buffer_size=4096, out_buffer_size=4096) as listener:

        def serve() -> int:
            count = 0
            with contextlib.suppress(npipe.PipeClosedError):
                for pipe in listener:
                    count += 1
                    with contextlib.suppress(npipe.PipeError):
                        use(pipe, count)
                    pipe.abort()
            return count

        serving = Background(serve)
        attack(name)
        listener.close()
        assert serving.result(IN_TIME) > LINKS // 4  # others had gone before they were accepted


@pytest.mark.timeout(2000)
@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_each_server_goes_on_for_its_other_clients(name: str, attack: Callable[[str], None], model: Any) -> None:
    with npipe.serve(name, bytes.upper, model=model), npipe.connect(name) as friend:
        done = Background(lambda: attack(name))
        turns = 0
        while done.running:
            assert friend.transact(b"friend", timeout=IN_TIME) == b"FRIEND"
            turns += 1
        done.result()
        assert turns > 0
        assert npipe.call(name, b"after", timeout=IN_TIME) == b"AFTER"


@pytest.mark.timeout(2000)
def test_the_face_for_event_loops(name: str, attack: Callable[[str], None]) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper), await npipe.aio.connect(name) as friend:
            done = asyncio.create_task(asyncio.to_thread(attack, name))
            turns = 0
            while not done.done():
                assert await friend.transact(b"friend", timeout=IN_TIME) == b"FRIEND"
                turns += 1
            await done
            assert turns > 0

    asyncio.run(main())


LYING = """
    import mmap, os, struct, sys
    sys.path.insert(0, sys.argv[1])
    from tests.faults import hostile
    raw, segment = hostile.open_link(sys.argv[2])
    memory = mmap.mmap(segment, 0)
    outbound = 1408
    print("open", flush=True)
    sys.stdin.readline()
    while True:  # all that is announced is read, it says, before it has even come
        memory[outbound + 136 : outbound + 144] = memory[outbound + 8 : outbound + 16]
"""


def test_a_reader_that_says_it_has_read_everything_does_not_fill_the_writers_memory(
    name: str, child: Callable[..., Child], figure: Callable[[str], None]
) -> None:
    with npipe.listen(name) as listener:
        liar = child(LYING, str(CHECKOUT), name)
        pipe = listener.accept(IN_TIME)
        assert liar.line() == "open"
        with contextlib.suppress(npipe.PipeTimeoutError):
            for _ in range(300_000):  # the ring is full of what costs no quota
                pipe.send(b"", timeout=0)
        before = memory()
        liar.say("lie")
        data, sent = bytes(16384), 0
        with pytest.raises(npipe.PipeError) as caught:
            for _ in range(8_000):
                pipe.send(data, timeout=0.5)
                sent += len(data)
        grown = memory() - before
        figure(f"{sent} bytes sent, {grown} bytes kept")
        assert caught.value.winerror in (13, 121)
        assert grown < 8 << 20
        liar.kill()
        pipe.abort()


def memory() -> int:
    """Bytes of memory of this process's own."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024
