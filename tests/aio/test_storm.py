"""npipe.aio: many clients whose every call may be cancelled or run out of time, and who leave as they like."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import WITH_EAGER, run
from tests.helpers import descriptors

if TYPE_CHECKING:
    from collections.abc import Coroutine

CLIENTS, CONVERSATIONS = 20, 4
SIZES = [0, 1, 64, 127, 128, 999, 1000, 1001, 5000, 70_000, 300_000]
END = b"end"


class Storm:
    """The server, the clients, and the chance that decides what becomes of a call."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.chance = random.Random(seed)
        self.finished = 0

    async def perhaps(self, call: Coroutine[Any, Any, Any], probability: float) -> tuple[bool, Any]:
        """Await a call, which may be cancelled after some turns: whether it was through, and its result."""
        task = asyncio.ensure_future(call)
        try:
            if self.chance.random() < probability:
                for _ in range(self.chance.randrange(8)):
                    await asyncio.sleep(0)
                task.cancel()
            return True, await task
        except asyncio.CancelledError:
            if (own := asyncio.current_task()) and own.cancelling():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise
            return False, None
        except npipe.PipeTimeoutError:
            return False, None

    def time(self) -> float | None:
        return self.chance.choice([None, None, 0.0, 0.001])

    async def receive(self, pipe: npipe.aio.MessagePipe) -> list[int]:
        numbers = []
        while True:
            through, message = await self.perhaps(pipe.recv(timeout=self.time()), 0.4)
            if through:
                numbers.append(int.from_bytes(message[:4], "big"))
                if message[4:] == END:
                    return numbers

    async def send(self, pipe: npipe.aio.MessagePipe) -> tuple[set[int], set[int]]:
        """Send some messages and a last one: the numbers of those that were sent, and of those that may have been."""
        certain, begun = set(), set()
        for number in range(self.chance.randrange(1, 30)):
            begun.add(number)
            data = number.to_bytes(4, "big") + bytes(self.chance.choice(SIZES))
            through, _ = await self.perhaps(pipe.send(data, timeout=self.time()), 0.3)
            if through:
                certain.add(number)
            if self.chance.random() < 0.05:
                await self.perhaps(pipe.flush(timeout=0.01), 0.5)
        last = len(begun)
        await pipe.send(last.to_bytes(4, "big") + END)
        return certain | {last}, begun | {last}

    async def converse(self) -> None:
        through, pipe = await self.perhaps(npipe.aio.connect(self.name), 0.2)
        if not through:
            return
        async with pipe:
            receiving = asyncio.create_task(self.receive(pipe))
            try:
                if self.chance.random() < 0.2:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.005):
                            await self.send(pipe)
                    if self.chance.random() < 0.5:
                        pipe.abort()
                    return
                certain, begun = await self.send(pipe)
                received = await receiving
            finally:
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)
        assert received == sorted(set(received))
        assert certain <= set(received) <= begun
        self.finished += 1

    async def echo(self, pipe: npipe.aio.MessagePipe) -> None:
        with contextlib.suppress(npipe.PipeClosedError):
            while True:
                through, message = await self.perhaps(pipe.recv(), 0.2)
                if through:
                    await pipe.send(message)
        await pipe.close()

    async def accept(self, listener: npipe.aio.Listener[npipe.aio.MessagePipe]) -> None:
        async with asyncio.TaskGroup() as group:
            with contextlib.suppress(npipe.PipeClosedError):
                while True:
                    through, pipe = await self.perhaps(listener.accept(), 0.3)
                    if through:
                        group.create_task(self.echo(pipe))

    async def client(self) -> None:
        for _ in range(CONVERSATIONS):
            await self.converse()

    async def rage(self) -> None:
        async with npipe.aio.listen(self.name, in_buffer_size=1000, out_buffer_size=1000) as listener:
            accepting = asyncio.create_task(self.accept(listener))
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(self.client())
            listener.close()
            await accepting


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", sorted(WITH_EAGER))
@pytest.mark.slow
def test_whatever_is_cancelled_no_message_is_lost_or_doubled_and_nothing_is_left(
    kind: str, name: str, seed: int
) -> None:
    run(Storm(f"{name}-first", seed).rage(), kind)
    before = descriptors()
    storm = Storm(name, seed)
    run(storm.rage(), kind)
    gc.collect()
    assert storm.finished
    assert descriptors() == before
