"""npipe.aio: cancellation and time-outs at every await, without losing or doubling a message."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import WITH_EAGER, pair, run, turns
from tests.helpers import descriptors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.conftest import Child


@pytest.fixture(params=sorted(WITH_EAGER))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def cancelled(coroutine: Awaitable[Any], after: int) -> tuple[bool, Any]:
    """Cancel it after so many turns of the loop: whether it was, and what it returned otherwise."""
    task = asyncio.ensure_future(coroutine)
    await turns(after)
    task.cancel()
    try:
        return False, await task
    except asyncio.CancelledError:
        return True, None


@pytest.mark.parametrize("size", [1, 60_000, 1_000_000])
def test_a_cancelled_recv_leaves_the_message_for_the_next(kind: str, name: str, size: int) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for after in range(12):
                message = bytes([after + 1]) * size
                receiving = asyncio.create_task(server.recv())
                await turns(after % 3)
                sending = asyncio.create_task(client.send(message))
                await turns(after)
                receiving.cancel()
                try:
                    received = await receiving
                except asyncio.CancelledError:
                    received = await server.recv()
                assert received == message
                await sending
            assert server.peek().available == 0

    run(main(), kind)


def test_a_recv_cancelled_in_the_moment_it_was_woken_loses_nothing(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            receiving = asyncio.create_task(server.recv())
            await turns()
            await client.send(b"message")
            server._waker.wake_all()  # the wake is on its way to the task
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await server.recv() == b"message"

    run(main(), kind)


def test_a_cancelled_recv_into_and_readinto_leave_what_they_copied(kind: str, name: str) -> None:
    async def main() -> None:
        message = bytes(range(256)) * 4000
        async with pair(name) as (server, client):
            for after in range(10):
                sending = asyncio.create_task(client.send(message))
                buffer = bytearray(len(message))
                was, count = await cancelled(server.recv_into(buffer), after)
                if was:
                    assert await server.recv() == message
                else:
                    assert (count, bytes(buffer)) == (len(message), message)
                await sending

    run(main(), kind)


def test_a_cancelled_send_has_sent_nothing_while_the_peer_has_read_nothing(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=100) as (server, client):
            for size in 90, 101, 5_000, 400_000:
                await client.send(b"a" * 100)
                for after in range(1, 6):
                    was, _ = await cancelled(client.send(b"b" * size), after)
                    assert was
                assert await server.recv() == b"a" * 100
                assert server.peek().available == 0

    run(main(), kind)


def test_a_send_that_is_out_of_time_is_taken_back(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=100) as (server, client):
            await client.send(b"a" * 100)
            with pytest.raises(npipe.PipeTimeoutError):
                await client.send(b"b" * 1000, timeout=0.01)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.send(b"c" * 1000)
            assert await server.recv() == b"a" * 100
            with pytest.raises(npipe.PipeTimeoutError):
                await server.recv(timeout=0.01)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await server.recv()

    run(main(), kind)


def test_a_write_of_which_the_peer_has_read_a_part_goes_on_after_its_cancellation(kind: str, name: str) -> None:
    async def main() -> None:
        data = bytes(range(256)) * 2000
        async with pair(name, mode="byte", in_buffer_size=1000) as (server, client):
            writing = asyncio.create_task(client.write(data))
            await turns()
            received = bytearray(await server.read(10))
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            after = asyncio.create_task(client.write(b"the next"))
            while len(received) < len(data) + 8:
                received += await server.read(70_000)
            assert bytes(received) == data + b"the next"
            await after

    run(main(), kind)


def test_close_waits_for_a_cancelled_write_that_goes_on(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, mode="byte", in_buffer_size=1000) as (server, client):
            writing = asyncio.create_task(client.write(bytes(500_000)))
            await turns()
            received = len(await server.read(10))
            await cancelled(writing, 0)
            closing = asyncio.create_task(client.close())
            received += len(await server.read())
            assert received == 500_000
            await closing

    run(main(), kind)


def test_a_cancelled_send_in_the_middle_leaves_the_others_in_their_order(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=100) as (server, client):
            tasks = [asyncio.create_task(client.send(bytes([i]) * (200 * i + 60))) for i in range(1, 9)]
            await turns()
            for i in (3, 5, 8):
                tasks[i - 1].cancel()
            await turns()
            for i in (1, 2, 4, 6, 7):
                assert await server.recv() == bytes([i]) * (200 * i + 60)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [isinstance(result, asyncio.CancelledError) for result in results] == [
                i in (3, 5, 8) for i in range(1, 9)
            ]
            assert server.peek().available == 0

    run(main(), kind)


def test_a_cancelled_accept_loses_no_client(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            for after in range(12):
                accepting = asyncio.create_task(listener.accept())
                await turns(after % 4)
                connecting = asyncio.create_task(npipe.aio.connect(name))
                await turns(after)
                accepting.cancel()
                try:
                    server = await accepting
                except asyncio.CancelledError:
                    server = await listener.accept()
                async with server, await connecting as client:
                    await client.send(b"x")
                    assert await server.recv() == b"x"

    run(main(), kind)


def test_a_cancelled_connect_leaves_the_instance_for_others(kind: str, name: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper, max_instances=1):
            for after in range(12):
                was, pipe = await cancelled(npipe.aio.connect(name), after)
                if not was:  # it was through already
                    await pipe.close()
                async with await npipe.aio.connect(name) as client:
                    assert await client.transact(b"x") == b"X"
                    was, _ = await cancelled(npipe.aio.connect(name), after)
                    assert was
                    await cancelled(npipe.aio.wait(name), after)

    run(main(), kind)


def test_a_cancelled_close_has_closed(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=100) as (server, client):
            sending = asyncio.create_task(client.send(b"x" * 400_000))
            await turns()
            was, _ = await cancelled(client.close(timeout=None), 3)
            assert was
            assert client.closed
            with pytest.raises(npipe.PipeClosedError):
                await sending
            with pytest.raises(npipe.PipeClosedError):
                await server.recv()

    run(main(), kind)


def test_a_cancelled_transaction_stays_sent(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            was, _ = await cancelled(client.transact(b"question"), 3)
            assert was
            assert await server.recv() == b"question"
            await server.send(b"answer")
            assert await client.recv() == b"answer"
            was, _ = await cancelled(client.flush(), 3)
            await client.send(b"unread")
            was, _ = await cancelled(client.flush(), 3)
            assert was
            await server.recv()
            await client.flush()

    run(main(), kind)


def test_a_read_of_all_that_is_cancelled_keeps_what_it_has(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, mode="byte") as (server, client):
            reading = asyncio.create_task(server.read())
            await client.write(b"part one, ")
            while server.peek().available:
                await asyncio.sleep(0)
            await cancelled(reading, 3)
            await client.write(b"part two")
            await client.close()
            assert await server.read(5) == b"part "
            assert await server.read() == b"one, part two"

    run(main(), kind)


async def read_in_part(reader: Any, writer: Any, data: bytes, *, mode: str = "byte") -> asyncio.Task[bytes]:
    """A read of all that has read this much, and waits for more."""
    reading = asyncio.create_task(reader.read())
    if mode == "byte":
        await writer.write(data)
    else:
        await writer.send(data)
    while reader.peek().available:
        await asyncio.sleep(0)
    await turns()
    return reading


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("size", [0, 7, 300_000])
def test_a_read_of_all_under_which_the_pipe_is_closed_has_no_ordinary_end(
    kind: str, name: str, end: str, size: int
) -> None:
    async def main() -> None:
        async with pair(name, mode="byte") as (server, client):
            reading = await read_in_part(server, client, b"x" * size)
            if end == "close":
                await server.close()
            else:
                server.abort()
            with pytest.raises(npipe.PipeClosedError, match="it was closed in this process") as caught:
                await reading
            assert caught.value.winerror == 109
            for call in (server.read, lambda: server.read(1), lambda: server.readinto(bytearray(1))):
                with pytest.raises(npipe.PipeClosedError) as caught:
                    await call()
                assert caught.value.winerror == 6
            with pytest.raises(npipe.PipeClosedError):
                server.peek()

    run(main(), kind)


def test_what_a_cancelled_read_of_all_had_read_goes_with_the_pipe(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, mode="byte") as (server, client):
            await cancelled(await read_in_part(server, client, b"part one"), 1)
            await server.close()
            for call in (server.read, lambda: server.read(1), lambda: server.readinto(bytearray(1))):
                with pytest.raises(npipe.PipeClosedError) as caught:
                    await call()
                assert caught.value.winerror == 6
            with pytest.raises(npipe.PipeClosedError):
                server.peek()

    run(main(), kind)


@pytest.mark.parametrize("mode", ["byte", "message"])
def test_a_peek_shows_what_a_cancelled_read_of_all_keeps(kind: str, name: str, mode: str) -> None:
    async def main() -> None:
        kind_of: Any = mode
        async with npipe.aio.listen(name, mode=kind_of) as listener:
            client = await npipe.aio.connect(name, mode="byte")
            server: Any = await listener.accept()
            async with client, server:
                write = server.write if mode == "byte" else server.send
                await cancelled(await read_in_part(client, server, b"kept", mode=mode), 1)
                assert client.peek() == npipe.Peek(b"", 4, 0)
                assert client.peek(3) == npipe.Peek(b"kep", 4, 0)
                await write(b"new")
                assert client.peek(2)[:2] == (b"ke", 7)
                assert client.peek(6)[:2] == (b"keptne", 7)
                assert client.peek(100) == npipe.Peek(b"keptnew", 7, 0)
                assert await client.read(1) == b"k"
                assert client.peek(4) == npipe.Peek(b"eptn", 6, 2 if mode == "message" else 0)
                buffer = bytearray(2)
                assert await client.readinto(buffer) == 2
                assert buffer == b"ep"
                assert client.peek(100) == npipe.Peek(b"tnew", 4, 0)
                await server.close()
                assert client.peek(100) == npipe.Peek(b"tnew", 4, 0)
                assert await client.read(1) == b"t"
                assert await client.read() == b"new"
                with pytest.raises(npipe.PipeClosedError) as caught:
                    client.peek()
                assert caught.value.winerror == 109

    run(main(), kind)


def test_a_peek_shows_what_is_kept_when_nothing_else_is_left(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, mode="byte") as (server, client):
            await cancelled(await read_in_part(server, client, b"kept"), 1)
            await client.close()
            await turns()
            assert server.peek(3) == npipe.Peek(b"kep", 4, 0)
            assert await server.read() == b"kept"
            with pytest.raises(npipe.PipeClosedError):
                server.peek()

    run(main(), kind)


def test_what_is_kept_survives_a_read_into_what_cannot_be_written_to(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, mode="byte") as (server, client):
            await cancelled(await read_in_part(server, client, b"kept"), 1)
            with pytest.raises((BufferError, TypeError)):
                await server.readinto(b"read-only")
            assert await server.read(10) == b"kept"

    run(main(), kind)


def test_an_iteration_goes_on_after_a_step_that_was_cancelled(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            clients = aiter(listener)
            was, _ = await cancelled(anext(clients), 3)
            assert was
            client = await npipe.aio.connect(name)
            async with client, await anext(clients) as server:
                messages = aiter(server)
                was, _ = await cancelled(anext(messages), 3)
                assert was
                await client.send(b"one")
                await client.send(b"two")
                assert await anext(messages) == b"one"
                async for message in server:
                    assert message == b"two"
                    break
                await client.close()
                with pytest.raises(StopAsyncIteration):
                    await anext(messages)
            listener.close()
            with pytest.raises(StopAsyncIteration):
                await anext(clients)
        async with pair(name, mode="byte") as (server, client):
            pieces = aiter(server)
            was, _ = await cancelled(anext(pieces), 3)
            assert was
            await client.write(b"piece")
            assert await anext(pieces) == b"piece"

    run(main(), kind)


STORM_PEER = """
    import random, sys
    import npipe

    random.seed(int(sys.argv[2]))
    with npipe.listen(sys.argv[1], in_buffer_size=3000) as listener:
        print("listening", flush=True)
        with listener.accept() as pipe:
            for message in pipe:
                pipe.send(message)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_cancellations_loses_and_doubles_nothing(
    kind: str, name: str, child: Callable[..., Child], seed: int
) -> None:
    peer = child(STORM_PEER, name, str(seed))
    assert peer.line() == "listening"
    rng = random.Random(seed)

    async def main() -> None:
        async with await npipe.aio.connect(name) as pipe:
            certain: set[int] = set()
            uncertain: set[int] = set()
            received: list[int] = []

            async def send_all() -> None:
                for number in range(600):
                    body = number.to_bytes(4, "big") + bytes(rng.choice([1, 100, 2999, 9000, 150_000]))
                    uncertain.add(number)
                    try:
                        async with asyncio.timeout(rng.choice([None, 0.0, 0.0001, 0.001])):
                            await pipe.send(body)
                        certain.add(number)
                    except TimeoutError:
                        pass
                certain.add(600)
                await pipe.send((600).to_bytes(4, "big"))

            async def receive_all() -> None:
                while not received or received[-1] != 600:
                    try:
                        async with asyncio.timeout(rng.choice([None, 0.0, 0.0001, 0.001])):
                            message = await pipe.recv()
                    except TimeoutError:
                        continue
                    assert len(message) in (4, 5, 104, 3003, 9004, 150_004)
                    received.append(int.from_bytes(message[:4], "big"))

            async with asyncio.TaskGroup() as group:
                group.create_task(send_all())
                group.create_task(receive_all())
            assert received == sorted(set(received))
            assert certain <= set(received) <= uncertain | {600}

    run(main(), kind)
    assert peer.wait() == 0


def test_cancelled_calls_leave_no_descriptor(kind: str, name: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper):
            for after in range(40):
                await cancelled(npipe.aio.call(name, b"x" * 100), after % 20)
            assert await npipe.aio.call(name, b"x") == b"X"

    run(main(), kind)
    before = descriptors()
    run(main(), kind)
    assert descriptors() == before


@pytest.mark.skipif(sys.platform == "win32", reason="how the engine's calls wake each other")
@pytest.mark.parametrize("how", ["cancelled", "out of time"])
@pytest.mark.parametrize("second", ["send", "flush"])
def test_what_waits_behind_a_write_that_is_taken_back_goes_on(kind: str, name: str, how: str, second: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=100) as (server, client):
            unread = b"a" * 90 if second == "send" else b""
            if unread:
                await client.send(unread)
            first = asyncio.create_task(client.send(b"1" * 200, timeout=0.05 if how == "out of time" else None))
            await turns()
            behind = asyncio.create_task(client.send(b"2" * 10) if second == "send" else client.flush())
            await turns()
            if how == "cancelled":
                first.cancel()
            outcome = (await asyncio.gather(first, return_exceptions=True))[0]
            assert isinstance(outcome, asyncio.CancelledError | npipe.PipeTimeoutError)
            await behind
            if unread:
                assert [await server.recv(), await server.recv()] == [unread, b"2" * 10]

    run(main(), kind)
