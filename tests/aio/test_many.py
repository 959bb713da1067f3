"""npipe.aio: a thousand clients at once, in one process and one thread of the server's."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import LOOPS
from tests.helpers import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

PROCESSES = 10
KILLED = 2
EACH = 100

CLIENTS = """
    import asyncio, random, sys
    import npipe, npipe.aio

    name, seed, each, lives = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "lives"
    sizes = [0, 1, 63, 64, 1000, 4096, 9000, 70_000]

    async def client(number, everybody):
        rng = random.Random(seed * 1000 + number)
        async with await npipe.aio.connect(name, timeout=60) as pipe:
            await everybody.wait()
            count = 0
            while not lives or count < 20:
                depth = rng.randrange(1, 5)
                messages = [bytes([count % 256]) * rng.choice(sizes) for _ in range(depth)]
                sending = [asyncio.create_task(pipe.send(message)) for message in messages]
                for message in messages:
                    assert await pipe.recv() == message
                await asyncio.gather(*sending)
                count += 1
                if lives and rng.random() < 0.02:
                    if rng.random() < 0.5:
                        pipe.abort()
                    return

    async def main():
        everybody = asyncio.Barrier(each + 1)
        async with asyncio.TaskGroup() as group:
            for number in range(each):
                group.create_task(client(number, everybody))
            while everybody.n_waiting < each:
                await asyncio.sleep(0.01)
            print("connected", flush=True)
            sys.stdin.readline()
            await everybody.wait()
        print("done", flush=True)

    asyncio.run(main())
"""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", sorted(LOOPS))
@pytest.mark.slow
def test_a_thousand_clients_lose_nothing_and_leave_nothing(kind: str, name: str, child: Callable[..., Child]) -> None:
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < 1200:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    most = 0

    async def serve_all() -> None:
        nonlocal most
        tasks: set[asyncio.Task[None]] = set()

        async def serve(pipe: npipe.aio.MessagePipe) -> None:
            try:
                async for message in pipe:
                    await pipe.send(message)
            except npipe.PipeClosedError:
                pass  # aborted, or killed
            finally:
                await pipe.close()

        async def accept(listener: npipe.aio.Listener[npipe.aio.MessagePipe]) -> None:
            nonlocal most
            async for pipe in listener:
                task = asyncio.create_task(serve(pipe))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                most = max(most, len(tasks))

        async with npipe.aio.listen(name, in_buffer_size=4096, out_buffer_size=4096) as listener:
            accepting = asyncio.create_task(accept(listener))
            children = [
                child(CLIENTS, name, str(i), str(EACH), "dies" if i < KILLED else "lives") for i in range(PROCESSES)
            ]

            async def say(process: Child, expected: str) -> None:
                assert await asyncio.to_thread(process.line, 120) == expected

            await asyncio.gather(*(say(process, "connected") for process in children))
            for process in children:
                process.say("go")
            for process in children[:KILLED]:
                await asyncio.to_thread(process.kill)
            await asyncio.gather(*(say(process, "done") for process in children[KILLED:]))
            for process in children[KILLED:]:
                assert await asyncio.to_thread(process.wait, 60) == 0
            while tasks:
                await asyncio.wait(tasks, timeout=60)
            listener.close()
            await accepting

    with npipe.listen(name + "-warm"):
        before = descriptors()  # with the engine's own
    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(asyncio.wait_for(serve_all(), 200))
    assert most == PROCESSES * EACH
    # The children's own ends of their standard streams are closed with the test.
    assert descriptors() <= before + 2 * PROCESSES
