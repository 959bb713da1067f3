"""npipe.anyio, on asyncio and on trio."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import npipe
import npipe.anyio
from tests.helpers import descriptors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture(params=["asyncio"] if sys.platform == "win32" else ["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(main: Callable[[], Awaitable[Any]], backend: str) -> None:
    async def bounded() -> None:
        with anyio.fail_after(30):
            await main()

    anyio.run(bounded, backend=backend)


def test_objects_are_messages(backend: str, name: str) -> None:
    async def echo(stream: npipe.anyio.MessageStream) -> None:
        async for message in stream:
            await stream.send(message)

    async def main() -> None:
        async with await npipe.anyio.listen(name) as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await npipe.anyio.connect(name) as stream:
                for size in 0, 1, 100, 70_000, 1_000_000:
                    await stream.send(b"x" * size)
                    assert await stream.receive() == b"x" * size
                assert stream.extra(npipe.anyio.PipeAttribute.name) == name
                assert stream.extra(npipe.anyio.PipeAttribute.pipe).peer.pid
                with pytest.raises(NotImplementedError):
                    await stream.send_eof()
            group.cancel_scope.cancel()

    run(main, backend)


def test_bytes_are_a_stream(backend: str, name: str) -> None:
    async def main() -> None:
        async with await npipe.anyio.listen(name, mode="byte") as listener, anyio.create_task_group() as group:
            client = await npipe.anyio.connect(name, mode="byte")
            server = await listener.accept()
            group.start_soon(client.send, b"y" * 500_000)
            received = bytearray()
            while len(received) < 500_000:
                received += await server.receive()
            assert received == b"y" * 500_000
            await client.send(b"end")
            await client.aclose()
            assert await server.receive() == b"end"
            with pytest.raises(anyio.EndOfStream):
                await server.receive()
            with pytest.raises(anyio.BrokenResourceError):
                await server.send(b"x")
            with pytest.raises(anyio.ClosedResourceError):
                await client.receive()
            await server.aclose()

    run(main, backend)


def test_two_receivers_are_one_too_many(backend: str, name: str) -> None:
    async def main() -> None:
        async with await npipe.anyio.listen(name) as listener:
            async with await npipe.anyio.connect(name) as client, await listener.accept() as server:
                async with anyio.create_task_group() as group:
                    group.start_soon(server.receive)
                    await anyio.wait_all_tasks_blocked()
                    with pytest.raises(anyio.BusyResourceError):
                        await server.receive()
                    await client.send(b"for the first")

    run(main, backend)


def test_closing_ends_those_who_wait(backend: str, name: str) -> None:
    async def main() -> None:
        ended = []

        async def expect_closed(function: Callable[[], Awaitable[Any]]) -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await function()
            ended.append(function)

        listener = await npipe.anyio.listen(name)
        async with await npipe.anyio.connect(name) as client:
            server = await listener.accept()
            async with anyio.create_task_group() as group:
                group.start_soon(expect_closed, server.receive)
                group.start_soon(expect_closed, listener.accept)
                await anyio.wait_all_tasks_blocked()
                await server.aclose()
                await listener.aclose()
            assert len(ended) == 2
            with pytest.raises(anyio.EndOfStream):
                await client.receive()

    run(main, backend)


def test_a_cancelled_receive_and_send_lose_nothing(backend: str, name: str) -> None:
    async def main() -> None:
        async with await npipe.anyio.listen(name, in_buffer_size=100) as listener:
            async with await npipe.anyio.connect(name) as client, await listener.accept() as server:
                for timeout in 0, 0.001, 0.01:
                    with anyio.move_on_after(timeout) as scope:
                        await server.receive()
                    assert scope.cancelled_caught
                    with anyio.move_on_after(timeout) as scope:
                        await client.send(b"too long" * 10_000)
                    assert scope.cancelled_caught
                await client.send(b"x")
                assert await server.receive() == b"x"
                with anyio.move_on_after(0.01) as scope:
                    await listener.accept()
                assert scope.cancelled_caught

    run(main, backend)


def test_a_client_waits_for_an_instance(backend: str, name: str) -> None:
    async def main() -> None:
        async with await npipe.anyio.listen(name, max_instances=1) as listener:
            first = await npipe.anyio.connect(name)
            server = await listener.accept()
            with pytest.raises(npipe.PipeTimeoutError):
                await npipe.anyio.connect(name, timeout=0.02)

            async def second() -> None:
                async with await npipe.anyio.connect(name) as stream:
                    await stream.send(b"second")

            async with anyio.create_task_group() as group:
                group.start_soon(second)
                await anyio.wait_all_tasks_blocked()
                await first.aclose()
                await server.aclose()
                async with await listener.accept() as stream:
                    assert await stream.receive() == b"second"

    run(main, backend)


def test_nothing_is_left(backend: str, name: str) -> None:
    test_closing_ends_those_who_wait(backend, name)
    before = descriptors()
    test_closing_ends_those_who_wait(backend, name)
    assert descriptors() == before


def test_no_room_to_receive_into_is_refused_and_is_no_end(backend: str, name: str) -> None:
    async def main() -> None:
        async with (
            await npipe.anyio.listen(name, mode="byte") as listener,
            await npipe.anyio.connect(name, mode="byte") as client,
        ):
            server = await listener.accept()
            await server.send(b"hello")
            for size in (0, -1):
                with pytest.raises(npipe.PipeArgumentError, match="max_bytes"):
                    await client.receive(size)
            assert await client.receive(100) == b"hello"
            await server.aclose()

    run(main, backend)
