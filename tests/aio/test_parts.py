"""npipe.aio: one message out of several buffers, and into several."""

from __future__ import annotations

import array
import asyncio
import random
from typing import Any

import pytest

import npipe
from tests.aio.helpers import WITH_EAGER, pair, run, turns
from tests.helpers import fails


@pytest.fixture(params=sorted(WITH_EAGER))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_several_buffers_are_one_message(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            numbers = array.array("I", [1, 2, 3])
            await client.send(b"ab", bytearray(b"cd"), numbers)
            assert await server.recv() == b"abcd" + numbers.tobytes()
            await client.send_parts()
            await client.send_parts(b"", b"one")
            await client.send(data=b"plain")
            assert [await server.recv() for _ in range(3)] == [b"", b"one", b"plain"]
            for parts in ((b"x", "text"), ("text", b"x"), (b"x", memoryview(b"abcd")[::2])):
                with pytest.raises((TypeError, BufferError)):
                    await client.send(*parts)
            await client.send(b"next")
            assert await server.recv() == b"next"

    run(main(), kind)


@pytest.mark.parametrize("quota", [0, 4096, 65536])
def test_long_parts_come_whole_and_into_several_buffers(kind: str, name: str, quota: int) -> None:
    async def main() -> None:
        rng = random.Random(quota)
        parts = [rng.randbytes(rng.choice((0, 1, 7, 4096, 40000, 300000))) for _ in range(40)]
        whole = b"".join(parts)
        async with pair(name, in_buffer_size=quota, out_buffer_size=quota) as (server, client):
            for exact in (False, True):
                rooms = [bytearray(size) for size in (0, 1, len(whole) // 2, 0, len(whole))]
                sending = asyncio.create_task(client.send_parts(*parts))
                assert await server.recv_into(*rooms, exact=exact) == len(whole)
                assert b"".join(rooms)[: len(whole)] == whole
                await sending
            assert not server.more_data

    run(main(), kind)


def test_a_message_longer_than_all_buffers(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            first, second = bytearray(3), bytearray(2)
            for waits in (False, True):
                if not waits:
                    await client.send(b"0123456789")
                reading = asyncio.create_task(server.recv_into(first, second, exact=True))
                await turns()
                if waits:
                    await client.send(b"0123456789")
                with fails(234):
                    await reading
                assert await server.recv_into(first, second) == 5
                assert (bytes(first), bytes(second)) == (b"012", b"34")
                assert server.more_data
                assert await server.recv_into(first, second) == 5
                assert (bytes(first), bytes(second)) == (b"567", b"89")
                assert not server.more_data

    run(main(), kind)


@pytest.mark.parametrize("size", [6, 60_000, 3_000_000])
def test_a_cancelled_read_into_several_leaves_the_message(kind: str, name: str, size: int) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for after in range(12):
                message = random.Random(after).randbytes(size)
                reading = asyncio.create_task(server.recv_into(bytearray(3), bytearray(size)))
                await turns(after % 3)
                sending = asyncio.create_task(client.send(message[: size // 2], message[size // 2 :]))
                await turns(after)
                reading.cancel()
                try:
                    assert await reading == size
                except asyncio.CancelledError:
                    assert await server.recv() == message
                await sending
            assert server.peek().available == 0

    run(main(), kind)


def test_a_cancelled_send_of_parts_sends_all_or_nothing(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=1000) as (server, client):
            await client.send(bytes(1000))
            sending = asyncio.create_task(client.send(b"a" * 600, b"b" * 600))
            await turns()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            with fails(121):
                await client.send(b"a" * 600, b"b" * 600, timeout=0.01)
            assert await server.recv() == bytes(1000)
            await client.send(b"c", b"d")
            assert await server.recv() == b"cd"

    run(main(), kind)


def test_an_answer_is_read_in_parts(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            with fails(121):
                await client.transact(b"ask", timeout=0.01)
            await server.recv()
            await server.send(b"rep", b"ly!")
            with pytest.raises(npipe.PipeStateError):
                await client.transact(b"again")
            rooms: list[Any] = [bytearray(3), bytearray(3)]
            assert await client.recv_into(*rooms) == 6
            assert rooms == [b"rep", b"ly!"]
            answer = asyncio.create_task(client.transact(b"again"))
            assert await server.recv() == b"again"
            await server.send(b"done")
            assert await answer == b"done"

    run(main(), kind)
