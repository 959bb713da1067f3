"""The threads in which an event loop's blocking calls are made (npipe.loops.worker)."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest

from npipe.loops import worker
from npipe.loops.current import current
from npipe.loops.worker import Worker
from tests.helpers import DEADLINE, until


def resting() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == worker.RESTING]


async def made(one: Worker, function: Any) -> Any:
    call = one.start(function)
    await call.wait()
    return call.result()


def test_calls_that_come_one_by_one_are_made_in_one_thread() -> None:
    async def main() -> set[int]:
        one = Worker(current())
        threads = set()
        for _ in range(50):
            threads.add(await made(one, threading.get_ident))
            until(lambda: bool(resting()))
        return threads

    assert len(asyncio.run(main())) == 1


def test_a_thread_that_has_nothing_to_do_ends() -> None:
    async def main() -> None:
        await made(Worker(current()), os.getpid)

    asyncio.run(main())
    until(lambda: not [one for one in threading.enumerate() if one.name in (worker.RESTING, worker.WORKING)])


def test_calls_that_wait_for_each_other_have_threads_of_their_own() -> None:
    async def main() -> list[int]:
        meeting = threading.Barrier(8, timeout=DEADLINE)
        calls = [Worker(current()).start(meeting.wait) for _ in range(8)]
        for call in calls:
            await call.wait()
        return sorted(call.result() for call in calls)

    for _ in range(20):
        assert asyncio.run(main()) == list(range(8))


def test_a_thread_that_rests_keeps_nothing_of_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE", DEADLINE)

    class Thing:
        pass

    async def main() -> weakref.ref[Thing]:
        thing = Thing()
        await made(Worker(current()), lambda: thing)
        until(lambda: bool(resting()))
        return weakref.ref(thing)

    assert asyncio.run(main())() is None


def test_a_worker_that_could_not_have_a_thread_has_one_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> list[int]:
        one, done = Worker(current()), [0]
        with monkeypatch.context() as patched:
            patched.setattr(worker, "_in_a_thread", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                one.start(lambda: done.append(1))
        await made(one, lambda: done.append(2))
        return done

    assert asyncio.run(main()) == [0, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    script = """
import asyncio, os, threading
from npipe.loops import worker
from npipe.loops.current import current
worker.IDLE = 60
async def main():
    call = worker.Worker(current()).start(os.getpid)
    await call.wait()
    return call.result()
asyncio.run(main())
while not any(one.name == worker.RESTING for one in threading.enumerate()):
    pass
pid = os.fork()
if not pid:
    os._exit(0 if asyncio.run(main()) == os.getpid() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], timeout=DEADLINE, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_task_that_nobody_else_keeps_gets_its_answer() -> None:
    done: list[int] = []
    go = threading.Event()

    async def ask() -> None:
        done.append(await made(Worker(current()), lambda: go.wait(DEADLINE) and 5))

    async def main() -> None:
        asyncio.get_running_loop().create_task(ask())
        await asyncio.sleep(0)
        gc.collect()
        go.set()
        async with asyncio.timeout(DEADLINE):
            while not done:
                await asyncio.sleep(0)

    asyncio.run(main())
    assert done == [5]


def test_a_pipe_that_is_dropped_in_the_midst_of_the_hand_over_gets_a_thread_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the collector may do it, whose finalizers end pipes in threads."""
    done: list[str] = []

    async def main() -> None:
        loop = current()

        class Dropping(list[Any]):
            def pop(self, *at: Any) -> Any:
                if not done:
                    done.append("dropped")
                    Worker(loop).start(lambda: done.append("ended"))
                return super().pop(*at)

        await made(Worker(loop), os.getpid)
        until(lambda: bool(resting()))
        monkeypatch.setattr(worker, "_resting", Dropping(worker._resting))
        await made(Worker(loop), lambda: done.append("worked"))
        until(lambda: len(done) == 3)

    asyncio.run(main())
    assert sorted(done) == ["dropped", "ended", "worked"]
