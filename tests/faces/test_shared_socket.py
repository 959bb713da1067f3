"""The byte that tells a selector or an event loop of a message is for that alone, whatever else waits on the socket."""

from __future__ import annotations

import asyncio
import select
import sys
import threading
import time

import pytest

import npipe
import npipe.aio
from tests.helpers import Background, until

if sys.platform == "win32":
    pytest.skip("Windows: pipes have no descriptors", allow_module_level=True)

QUOTA = 1024
RING = 65536  # bytes: the least, which is more than four times the quota


def _queue_beyond_the_ring(client: npipe.MessagePipe) -> int:
    """Sends empty messages, which take no quota, until some have no place in the ring; their number."""
    count = RING + 3000  # an empty message takes a byte of it
    for _ in range(count):
        client.send(b"", timeout=5)
    return count


def test_a_selector_hears_of_messages_while_writes_wait_for_the_ring(name: str) -> None:
    with (
        npipe.listen(name, in_buffer_size=QUOTA) as listener,
        npipe.connect(name) as client,
        listener.accept(5) as server,
    ):
        poll = select.poll()
        poll.register(client.fileno(), select.POLLIN)
        count = _queue_beyond_the_ring(client)
        time.sleep(0.05)  # the native thread asks for a byte too, a moment later: nothing tells that it has
        for number in range(20):
            assert poll.poll(0) == []
            server.send(b"%d" % number)
            time.sleep(0.01)  # whoever else waits on the socket may take the byte meanwhile
            assert poll.poll(5000)
            assert client.recv(timeout=0) == b"%d" % number
            with pytest.raises(npipe.PipeTimeoutError):
                client.recv(timeout=0)
        for _ in range(count):
            assert server.recv(timeout=5) == b""
        client.send(b"the last")
        assert server.recv(timeout=5) == b"the last"


def test_a_thread_that_reads_hears_of_messages_while_writes_wait_for_the_ring(name: str) -> None:
    with (
        npipe.listen(name, in_buffer_size=QUOTA) as listener,
        npipe.connect(name) as client,
        listener.accept(5) as server,
    ):
        count = _queue_beyond_the_ring(client)
        time.sleep(0.05)
        for number in range(200):
            reading = Background(lambda: client.recv(timeout=5))
            if number % 2:
                reading.blocked()
            server.send(b"%d" % number)
            assert reading.result(5) == b"%d" % number
        taking = threading.Thread(target=lambda: [server.recv(timeout=5) for _ in range(count)])
        taking.start()
        taking.join(20)
        assert not taking.is_alive()
        client.send(b"the last")
        assert server.recv(timeout=5) == b"the last"


def test_an_event_loop_hears_of_messages_while_writes_wait_for_the_ring(name: str) -> None:
    async def talk() -> None:
        async with npipe.aio.listen(name, in_buffer_size=QUOTA) as listener:
            client = await npipe.aio.connect(name)
            server = await listener.accept(5)
            # What has no place waits for it, behind a write that is longer than the ring.
            long = asyncio.create_task(client.send(bytes(100_000)))
            await asyncio.sleep(0)
            sending = [asyncio.create_task(client.send(b"")) for _ in range(3000)]
            await asyncio.sleep(0.05)
            for number in range(20):
                receiving = asyncio.create_task(client.recv(timeout=5))
                await asyncio.sleep(0.001)
                await server.send(b"%d" % number)
                assert await receiving == b"%d" % number
            assert await server.recv(timeout=5) == bytes(100_000)
            for _ in sending:
                assert await server.recv(timeout=5) == b""
            await asyncio.gather(long, *sending)
            await server.close()
            await client.close()

    asyncio.run(talk())


def test_a_long_conversation_of_empty_and_long_messages_on_one_loop_stands_still_nowhere(name: str) -> None:
    """The same from one process to another, as many times as it takes for the two ends to be anywhere."""

    async def talk() -> None:
        async with npipe.aio.listen(name, in_buffer_size=QUOTA, out_buffer_size=QUOTA) as listener:
            client = await npipe.aio.connect(name)
            server = await listener.accept(5)

            async def echo() -> None:
                async for message in server:
                    await server.send(message)

            echoing = asyncio.create_task(echo())
            for number in range(300):
                messages = [bytes([number % 256]) * size for size in (20_000, 0, 0, 70, 0)[: number % 6]]
                messages += [b""] * (5000 if number % 50 == 7 else 1)
                sending = [asyncio.create_task(client.send(message)) for message in messages]
                for message in messages:
                    assert await client.recv(timeout=20) == message
                await asyncio.gather(*sending)
            await client.close()
            await echoing
            await server.close()

    asyncio.run(talk())
    until(lambda: npipe.list_pipes() == [])
