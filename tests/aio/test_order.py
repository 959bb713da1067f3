"""Writes go in whole and in the order in which they began, whoever lets the loop have a turn meanwhile."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import LOOPS
from tests.helpers import fails


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


async def _rested(name: str, use: Any) -> None:
    """Call `use` with a server's end whose next write rests, and the client's."""
    async with npipe.aio.listen(name, out_buffer_size=1 << 20) as listener:
        client: Any = await npipe.aio.connect(name)
        server: Any = await listener.accept(5)
        while server._handle.turns_left > 0:
            await server.send(b"fill")
        await use(server, client)
        await server.close()
        await client.close()


def _begin(call: Any) -> Any:
    """Begin a call that rests, with which nobody goes on."""
    steps = call.__await__()
    assert next(steps) is None
    return steps


@pytest.mark.skipif(sys.platform == "win32", reason="nothing rests there")
@pytest.mark.parametrize("kind", sorted(LOOPS))
def test_a_time_out_covers_the_time_that_a_write_waits_in_the_line(kind: str, name: str) -> None:
    async def use(server: Any, client: Any) -> None:
        first = server.send(b"first")
        _begin(first)
        for call in (server.send, server.transact):
            for timeout in (0, 0.1):
                began = time.monotonic()
                with fails(121):
                    await asyncio.wait_for(call(b"behind", timeout=timeout), 5)
                assert timeout <= time.monotonic() - began < 4
        first.close()
        await server.send(b"last", timeout=5)
        while (message := await client.recv(timeout=5)) != b"last":
            assert message == b"fill"

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(_rested(name, use))


@pytest.mark.skipif(sys.platform == "win32", reason="nothing rests there")
@pytest.mark.parametrize("kind", sorted(LOOPS))
def test_who_waits_in_the_line_waits_for_an_event_and_comes_in_order(kind: str, name: str) -> None:
    async def use(server: Any, client: Any) -> None:
        first = server.send(b"first")
        _begin(first)
        calls = [server.send(b"%d" % number) for number in range(5)]
        waits = []
        for call in calls:
            steps = _begin(call)
            waits.append(next(steps))  # not None, which is at once
        assert all(isinstance(future, asyncio.Future) and not future.done() for future in waits)
        first.close()
        assert [future.done() for future in waits] == [True, False, False, False, False]
        calls[2].close()  # from the middle: nobody else is next by that
        assert [future.done() for future in waits] == [True, False, False, False, False]
        for number in (0, 1, 3, 4):
            assert waits[number].done()
            with pytest.raises(StopIteration):
                calls[number].send(None)
        got: list[bytes] = []
        while len(got) < 4:
            if (message := await client.recv(timeout=5)) != b"fill":
                got.append(message)
        assert got == [b"0", b"1", b"3", b"4"]

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(_rested(name, use))


@pytest.mark.skipif(sys.platform == "win32", reason="nothing rests there")
@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize("kind", sorted(LOOPS))
def test_the_end_of_the_pipe_ends_the_line(kind: str, name: str, here: bool) -> None:
    async def use(server: Any, client: Any) -> None:
        first = server.send(b"first")
        _begin(first)
        tasks = [asyncio.ensure_future(server.send(b"behind", timeout=30)) for _ in range(3)]
        await asyncio.sleep(0.01)
        await (server if here else client).close()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert all(isinstance(result, npipe.PipeClosedError) for result in results), results
        first.close()

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(_rested(name, use))


@pytest.mark.skipif(sys.platform == "win32", reason="nothing rests there")
def test_a_read_that_rests_and_is_left_alone_holds_no_writer_up(name: str) -> None:
    async def talk() -> None:
        async with npipe.aio.listen(name, in_buffer_size=20000) as listener:
            client: Any = await npipe.aio.connect(name)
            server: Any = await listener.accept(5)
            sent = 0

            async def send_all() -> None:
                nonlocal sent
                while True:
                    await client.send(b"x" * 50)
                    sent += 1

            writer = asyncio.ensure_future(send_all())
            while sent < 400:  # then the quota is exhausted
                await asyncio.sleep(0)
            assert server._handle.turns_left > 100
            while server._handle.turns_left > 0:
                await server.recv(timeout=5)
            left = server.recv()
            _begin(left)
            before = time.process_time()
            await asyncio.sleep(0.3)
            assert time.process_time() - before < 0.2
            assert sent > 400  # told that there is room
            left.close()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await server.close()
            await client.close()

    asyncio.run(talk())


@pytest.mark.skipif(sys.platform == "win32", reason="there every call goes through the loop")
def test_where_all_have_sent_much_no_pipe_is_read_far_ahead(name: str) -> None:
    pipes, each = 10, 200

    async def talk() -> None:
        order: list[int] = []
        go_on = asyncio.Event()

        async def read(number: int, server: Any) -> None:
            for _ in range(5):  # they get to know of each other
                await server.recv(timeout=20)
                await server.send(b"known")
            await go_on.wait()
            for _ in range(each):
                assert await server.recv(timeout=20) == b"%d" % number
                order.append(number)

        async with npipe.aio.listen(name) as listener:
            clients: list[Any] = []
            servers: list[Any] = []
            for _ in range(pipes):
                clients.append(await npipe.aio.connect(name))
                servers.append(await listener.accept(5))
            reading = [asyncio.create_task(read(number, server)) for number, server in enumerate(servers)]
            for _ in range(5):
                for client in clients:
                    await client.send(b"?")
                for client in clients:
                    assert await client.recv(timeout=20) == b"known"
            for number, client in enumerate(clients):
                for _ in range(each):
                    await client.send(b"%d" % number)
            go_on.set()
            await asyncio.gather(*reading)
            for end in (*clients, *servers):
                await end.close()
        counts = [0] * pipes
        for number in order:
            counts[number] += 1
            assert max(counts) - min(counts) <= 20

    asyncio.run(talk())


@pytest.mark.skipif(sys.platform == "win32", reason="there every call goes through the loop")
@pytest.mark.parametrize("viewed", [False, True])
def test_in_a_crowd_a_turn_reads_what_had_come_before_it_and_nothing_more(name: str, viewed: bool) -> None:
    pipes, each = 4, 10

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        turn, go_on, ended = 0, asyncio.Event(), asyncio.Event()
        turns: dict[int, list[int]] = {}

        def count() -> None:
            nonlocal turn
            turn += 1
            if not ended.is_set():
                loop.call_soon(count)

        async def answer(number: int, client: Any, server: Any) -> None:
            for _ in range(5):  # they get to know of each other
                await server.recv(timeout=20)
                await server.send(b"known")
            for batch in range(3):
                await go_on.wait()
                seen = turns[number] = []
                for i in range(each):
                    expected = b"%d %d %d" % (number, batch, i)
                    if viewed:
                        async with server.recv_view(timeout=20) as view:
                            assert bytes(view) == expected
                    else:
                        assert await server.recv(timeout=20) == expected
                    await server.send(expected)
                    seen.append(turn)
                    if i == each - 1:  # comes in this turn, as from a process that answers at once
                        await client.send(b"late")
                        assert server._handle.turns_left == 0
                assert await server.recv(timeout=20) == b"late"
                assert turn > seen[-1]

        async with npipe.aio.listen(name) as listener:
            clients: list[Any] = []
            servers: list[Any] = []
            for _ in range(pipes):
                clients.append(await npipe.aio.connect(name))
                servers.append(await listener.accept(5))
            answering = [
                asyncio.create_task(answer(number, *ends))
                for number, ends in enumerate(zip(clients, servers, strict=True))
            ]
            for _ in range(5):
                for client in clients:
                    await client.send(b"?")
                for client in clients:
                    assert await client.recv(timeout=20) == b"known"
            loop.call_soon(count)
            for batch in range(3):
                for number, client in enumerate(clients):
                    for i in range(each):
                        await client.send(b"%d %d %d" % (number, batch, i))
                go_on.set()
                for number, client in enumerate(clients):
                    for i in range(each):
                        assert await client.recv(timeout=20) == b"%d %d %d" % (number, batch, i)
                go_on.clear()
                for seen in turns.values():
                    assert seen[-1] - seen[0] <= 2  # it may rest once
            ended.set()
            await asyncio.gather(*answering)
            for end in (*clients, *servers):
                await end.close()

    asyncio.run(talk())
