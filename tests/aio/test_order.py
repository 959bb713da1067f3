"""Writes go in whole and in the order in which they began, whoever lets the loop have a turn meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import LOOPS


@pytest.mark.parametrize("kind", sorted(LOOPS))
def test_a_send_that_lets_the_loop_have_a_turn_is_not_overtaken(kind: str, name: str) -> None:
    async def talk() -> None:
        async with npipe.aio.listen(name, out_buffer_size=1 << 20) as listener:
            client: Any = await npipe.aio.connect(name)
            server: Any = await listener.accept(5)
            tasks: list[asyncio.Task[None]] = []
            for number in range(50):
                while server._handle.turns_left > 0:
                    await server.send(b"fill")

                async def begin_later(number: int) -> None:
                    tasks.append(asyncio.create_task(server.send(b"%d third" % number)))

                begun = [
                    asyncio.create_task(server.send(b"%d first" % number)),
                    asyncio.create_task(begin_later(number)),
                    asyncio.create_task(server.send(b"%d second" % number)),
                ]
                got: list[bytes] = []
                while len(got) < 3:
                    message = await client.recv(timeout=5)
                    if message != b"fill":
                        got.append(message)
                assert got == [b"%d %s" % (number, word) for word in (b"first", b"second", b"third")]
                await asyncio.gather(*begun)
            await asyncio.gather(*tasks)
            await server.close()
            await client.close()

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(talk())


def test_a_send_that_is_cancelled_while_it_rests_holds_nobody_up(name: str) -> None:
    async def talk() -> None:
        async with npipe.aio.listen(name, out_buffer_size=1 << 20) as listener:
            client: Any = await npipe.aio.connect(name)
            server: Any = await listener.accept(5)
            while server._handle.turns_left > 0:
                await server.send(b"fill")
            first = asyncio.create_task(server.send(b"first"))
            second = asyncio.create_task(server.send(b"second"))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait_for(second, 5)
            while await client.recv(timeout=5) != b"second":
                pass
            await server.send(b"third", timeout=5)
            assert await client.recv(timeout=5) == b"third"
            await server.close()
            await client.close()

    asyncio.run(talk())
