"""npipe.aio: messages in place, and what is asked while one is out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import WITH_EAGER, pair, run, turns
from tests.helpers import fails

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=sorted(WITH_EAGER))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class StopError(Exception):
    pass


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    with pytest.raises(StopError):
        yield


async def reserved(pipe: Any, data: bytes, **options: Any) -> None:
    async with pipe.reserve(len(data), **options) as view:
        view[:] = data


async def viewed(pipe: Any, **options: Any) -> bytes:
    async with pipe.recv_view(**options) as view:
        return bytes(view)


@pytest.mark.parametrize("size", [0, 1, 128, 65536, 65537, 400_000])
def test_every_size_comes_whole_and_shrinks(kind: str, name: str, size: int) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for number in range(12):
                data = random.Random(number).randbytes(size)
                sending = asyncio.create_task(reserved(client, data))
                if number % 2:
                    await turns()
                assert await viewed(server, copy=number % 3 == 0) == data
                await sending
                if number % 2:
                    reading = asyncio.create_task(viewed(server))  # which waits
                    await turns()
                reservation = client.reserve(size)
                async with reservation as view:
                    view[:] = data
                    assert reservation.size == size
                    reservation.shrink(size // 8)
                assert (await reading if number % 2 else await viewed(server)) == data[: size // 8]

    run(main(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows every one is a copy")
def test_what_lies_in_the_buffer_is_not_copied(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for waits in (False, True):

                async def look() -> bool:
                    async with server.recv_view() as view:
                        return bool(view.obj.in_place)

                looking = asyncio.create_task(look())
                if waits:
                    await turns()
                async with client.reserve(60_000) as view:
                    assert view.obj.in_place
                assert await looking

    run(main(), kind)


def test_an_exception_withdraws_and_leaves(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for size in (0, 5, 60_000, 200_000):
                with stopped():
                    async with client.reserve(size):
                        raise StopError
                data = bytes([size % 251]) * size
                sending = asyncio.create_task(client.send(data))
                for copied in (False, True, False):
                    with stopped():
                        async with server.recv_view(copy=copied) as view:
                            assert bytes(view) == data
                            raise StopError
                assert await server.recv() == data
                await sending

    run(main(), kind)


def test_one_that_is_dropped_in_its_block_is_withdrawn_at_once(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            gc.disable()  # nothing waits for the collector
            for size in (5, 200_000):
                view = await client.reserve(size).__aenter__()
                behind = None
                if view.obj.in_place:
                    behind = asyncio.create_task(client.send(b"behind"))
                    await turns()
                    assert not behind.done()
                del view
                if behind is not None:
                    await behind
                    assert await server.recv() == b"behind"
                await client.send(b"own")
                assert await server.recv() == b"own"
                await client.send(b"left")
                for copied in (False, True):
                    await server.recv_view(copy=copied).__aenter__()
                assert await server.recv() == b"left"

    gc.collect()
    try:
        run(main(), kind)
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [10, 60_000, 300_000])
def test_the_rest_of_a_message_is_viewed(kind: str, name: str, size: int) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for order in ((False, True, False), (True, True), (False,), (True, False)):
                data = random.Random(size).randbytes(size)
                sending = asyncio.create_task(client.send(data))
                part = bytearray(4)
                assert await server.recv_into(part) == 4
                for copied in order:
                    with stopped():
                        async with server.recv_view(copy=copied) as view:
                            assert bytes(view) == data[4:]
                            raise StopError
                    assert server.more_data
                async with server.recv_view(copy=order[0]) as view:
                    assert bytes(view) == data[4:]
                assert not server.more_data
                await sending
                await client.send(data[:100])  # a whole one, which a left view does not make a rest
                for copied in order:
                    with stopped():
                        async with server.recv_view(copy=copied):
                            raise StopError
                    assert not server.more_data
                assert await server.recv() == data[:100]

    run(main(), kind)


def test_what_is_looked_at_is_no_more_to_be_seen(kind: str, name: str) -> None:
    async def main() -> None:
        for copied in (False, True):
            for size in (0, 7, 60_000):
                async with pair(f"{name}-{copied}-{size}") as (server, client):
                    await client.send(bytes(size))
                    await client.send(b"next")
                    nothing = npipe.Peek(b"", 0, 0)
                    with stopped():
                        async with server.recv_view(copy=copied):
                            assert server.peek(100) == nothing
                            assert not server.more_data
                            with fails(170):
                                await server.transact(b"x")
                            raise StopError
                    assert server.peek(3).available == size + 4
                    async with server.recv_view(copy=copied):
                        assert server.peek(100) == nothing
                    assert server.peek(100) == npipe.Peek(b"next", 4, 0)
                    async with server.recv_view(copy=copied):
                        await server.close()
                        with fails(6):
                            server.peek()

    run(main(), kind)


def test_the_same_task_is_told_what_it_would_wait_for(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for size in (5, 200_000):
                with stopped():
                    async with client.reserve(size):
                        for write in (
                            lambda: client.send(b"x"),
                            lambda: client.send(b""),
                            lambda: client.send(b"x", b"y"),
                            lambda: client.transact(b"x"),
                            lambda: reserved(client, b"x"),
                        ):
                            with fails(170):
                                await write()
                        raise StopError
            await client.send(b"message")
            for copied in (False, True):
                with stopped():
                    async with server.recv_view(copy=copied) as view:
                        for read in (server.recv, lambda: server.recv_into(bytearray(5)), lambda: viewed(server)):
                            with fails(170):
                                await read()
                            with fails(170):
                                await asyncio.create_task(read())
                        assert bytes(view) == b"message"
                        raise StopError
            assert await server.recv() == b"message"

    run(main(), kind)


def test_other_tasks_write_behind_it(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            async with client.reserve(5) as view:
                others = [asyncio.create_task(client.send(b"a")), asyncio.create_task(reserved(client, b"b"))]
                await turns()
                with fails(121):
                    await asyncio.create_task(client.send(b"c", timeout=0.01))
                with fails(121):
                    await asyncio.create_task(reserved(client, b"c", timeout=0.01))
                assert not any(other.done() for other in others)
                view[:] = b"first"
            assert [await server.recv() for _ in range(3)] == [b"first", b"a", b"b"]
            await asyncio.gather(*others)

    run(main(), kind)


def test_every_task_is_told_of_its_own_whoever_else_has_one(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for first_size, second_size in ((5, 200_000), (200_000, 5), (200_000, 300_000)):
                entered, go = asyncio.Event(), asyncio.Event()

                async def write(size: int = second_size, entered: Any = entered, go: Any = go) -> None:
                    async with client.reserve(size) as view:
                        with fails(170):
                            await client.send(b"own")
                        entered.set()
                        await go.wait()
                        with fails(170):
                            await client.send_parts(b"own")
                        view[:] = b"2" * size

                first = client.reserve(first_size)
                view = await first.__aenter__()
                in_order = first_size == 5 and view.obj.in_place
                writing = asyncio.create_task(write())
                await entered.wait()
                with fails(170):
                    await client.send(b"own")
                go.set()
                if in_order:
                    await turns()
                    assert not writing.done()  # it is behind this one
                else:
                    assert await server.recv() == b"2" * second_size
                    await writing
                with fails(170):
                    await client.send(b"own")
                view[:] = b"1" * first_size
                del view
                receiving = asyncio.create_task(server.recv())
                await first.__aexit__(None, None, None)
                assert await receiving == b"1" * first_size
                if in_order:
                    assert await server.recv() == b"2" * second_size
                    await writing
                await client.send(b"free")
                assert await server.recv() == b"free"

    run(main(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows nothing is mapped")
def test_one_that_is_tried_again_keeps_no_memory(name: str) -> None:
    def mapped() -> int:
        return sum("memfd" in line for line in Path("/proc/self/maps").read_text().splitlines())

    async def main() -> None:
        counts = []
        for number in range(4):
            async with pair(f"{name}-{number}", in_buffer_size=1 << 20) as (_, client):
                await client.send(bytes(1 << 20))
                reservation = client.reserve(500, timeout=0)
                for _ in range(3):
                    with fails(121):
                        await reservation.__aenter__()
                del reservation
            del client, _
            gc.collect()
            counts.append(mapped())
        assert counts[1:] == counts[:1] * 3

    run(main(), blocks=True)


def test_a_reservation_waits_for_room_and_is_cancelled(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=1000) as (server, client):
            await client.send(bytes(1000))
            for after in range(6):
                waiting = asyncio.create_task(reserved(client, b"r" * 500))
                await turns(after)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            with fails(121):
                await reserved(client, b"r" * 500, timeout=0.01)
            waiting = asyncio.create_task(reserved(client, b"r" * 500))
            behind = asyncio.create_task(client.send(b"behind"))
            await turns()
            assert await server.recv() == bytes(1000)
            assert [await server.recv(), await server.recv()] == [b"r" * 500, b"behind"]
            await asyncio.gather(waiting, behind)
            await reserved(client, bytes(1000), timeout=0)

    run(main(), kind)


@pytest.mark.parametrize("size", [5, 60_000, 300_000])
def test_a_cancelled_block_loses_and_sends_nothing(kind: str, name: str, size: int) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            data = random.Random(size).randbytes(size)
            for copied in (False, True):
                sending = asyncio.create_task(client.send(data))

                async def look(copied: bool = copied) -> None:
                    async with server.recv_view(copy=copied):
                        await asyncio.sleep(60)

                async def write() -> None:
                    async with server.reserve(size):
                        await asyncio.sleep(60)

                for call in (look, write, look):
                    task = asyncio.create_task(call())
                    await turns(9)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                assert await server.recv() == data
                await sending
                assert client.peek().available == 0

    run(main(), kind)


def test_a_view_that_is_cancelled_while_it_waits_leaves_the_message(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for size in (5, 60_000, 1_000_000):
                for after in range(12):
                    message = bytes([after + 1]) * size
                    looking = asyncio.create_task(viewed(server))
                    await turns(after % 3)
                    sending = asyncio.create_task(client.send(message))
                    await turns(after)
                    looking.cancel()
                    try:
                        assert await looking == message
                    except asyncio.CancelledError:
                        assert await server.recv() == message
                    await sending
            assert server.peek().available == 0

    run(main(), kind)


def test_ends_of_the_pipe(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            await client.send(b"message")
            async with server.recv_view() as view:
                await client.close()
                await server.close()
                assert bytes(view) == b"message"
            for block in (server.reserve(5), server.recv_view()):
                with fails(6):
                    async with block:
                        pass
        async with pair(f"{name}-2", in_buffer_size=10) as (server, client):
            await client.send(bytes(10))
            waiting = [asyncio.create_task(reserved(client, b"hello")), asyncio.create_task(viewed(client))]
            await turns()
            await client.close()
            for task in waiting:
                with fails(109):
                    await task
        async with pair(f"{name}-3") as (server, client):
            with fails(232):
                async with client.reserve(5):
                    await server.close()
            with fails(109):
                await viewed(client)

    run(main(), kind)


@pytest.mark.parametrize("size", [5, 60_000, 200_000])
def test_what_outlives_its_block_is_told(kind: str, name: str, size: int) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            with fails(1224):
                async with client.reserve(size) as view:
                    view[:] = b"a" * size
                    written = view[:]
            sending = asyncio.create_task(client.send(b"b" * size))
            with fails(1224):
                async with server.recv_view() as view:
                    looked_at = view[:]
            await sending
            for _ in range(12):
                await client.send(b"\xff" * 60_000)
                assert await server.recv() == b"\xff" * 60_000
            assert bytes(written) == b"a" * size
            assert bytes(looked_at) == b"b" * size
            del view, written, looked_at
        gc.collect()

    run(main(), kind)


def test_an_answer_is_viewed(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for copied in (False, True):
                with fails(121):
                    await client.transact(b"ask", timeout=0.01)
                await server.recv()
                await reserved(server, b"answer")
                with stopped():
                    async with client.recv_view(copy=copied):
                        raise StopError
                with fails(996):
                    await client.transact(b"again")
                assert await viewed(client, copy=copied) == b"answer"
                answer = asyncio.create_task(client.transact(b"again"))
                await server.recv()
                await server.send(b"done")
                assert await answer == b"done"

    run(main(), kind)


def test_what_is_wrong_is_told(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for size in (-1, 1 << 32):
                with pytest.raises(npipe.PipeArgumentError):
                    client.reserve(size)
            with pytest.raises(TypeError):
                client.reserve("5")
            with fails(121):
                await viewed(client, timeout=0)
            await client.send(bytes(11))
            server.max_message_size = 10
            for copied in (False, True):
                with fails(234):
                    await viewed(server, copy=copied)
            server.max_message_size = 11
            assert len(await viewed(server)) == 11
            reservation = client.reserve(1)
            async with reservation:
                pass
            with pytest.raises(RuntimeError):
                await reservation.__aenter__()

    run(main(), kind)


def test_who_waits_for_its_reservation_is_the_only_one(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=1000) as (server, client):
            await client.send(bytes(1000))
            reservation = client.reserve(500)

            async def write() -> None:
                async with reservation as view:
                    await turns()
                    view[:] = b"r" * 500

            writing = asyncio.create_task(write())
            await turns()
            for _ in range(2):  # in the block, too
                with pytest.raises(RuntimeError, match="one block"):
                    await reservation.__aenter__()
                if not server.peek().available:
                    break
                assert await server.recv() == bytes(1000)
                await turns(2)
            await writing
            assert await server.recv() == b"r" * 500

    run(main(), kind)


def test_who_waits_for_its_view_is_the_only_one(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for copied in (False, True):
                view = server.recv_view(copy=copied)

                async def look(view: Any = view) -> bytes:
                    async with view as found:
                        return bytes(found)

                looking = asyncio.create_task(look())
                await turns()
                with pytest.raises(RuntimeError, match="one block"):
                    await view.__aenter__()
                await client.send(b"first")
                await client.send(b"second")
                assert await looking == b"first"
                with pytest.raises(RuntimeError, match="one block"):
                    await view.__aenter__()
                assert await server.recv() == b"second"

    run(main(), kind)


async def fails_to_enter(block: Any, timeout: float | None) -> None:
    for after in (0, 1, 3):
        entering = asyncio.ensure_future(block.__aenter__())
        if timeout is None:
            await turns(after)
            entering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await entering
        else:
            with fails(121):
                await entering


def test_a_reservation_that_could_not_begin_is_tried_again(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=1000) as (server, client):
            for timeout in (0, 0.02, None):
                await client.send(bytes(1000))
                reservation = client.reserve(500, timeout=timeout)
                await fails_to_enter(reservation, timeout)
                assert await server.recv() == bytes(1000)
                async with reservation as view:
                    view[:] = b"r" * 500
                assert await server.recv() == b"r" * 500

    run(main(), kind)


def test_a_view_that_could_not_begin_is_tried_again(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for timeout in (0, 0.02, None):
                for copied in (False, True):
                    looking = server.recv_view(timeout=timeout, copy=copied)
                    await fails_to_enter(looking, timeout)
                    await client.send(b"message")
                    async with looking as view:
                        assert bytes(view) == b"message"

    run(main(), kind)


def test_a_block_that_is_left_twice_ends_once(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for size in (0, 5, 200_000):
                reservation, looking = client.reserve(size), server.recv_view()

                async def write(reservation: Any = reservation, size: int = size) -> None:
                    async with reservation as view:
                        view[:] = b"r" * size
                    await reservation.__aexit__(None, None, None)

                writing = asyncio.create_task(write())
                async with looking as view:
                    assert bytes(view) == b"r" * size
                await looking.__aexit__(None, None, None)
                await writing
                await client.send(b"next")
                assert await server.recv() == b"next"

    run(main(), kind)


def test_a_pools_connection_has_them(kind: str, name: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper), npipe.aio.Pool(name) as pool, pool.connection() as lent:
            reservation = lent.reserve(7)
            async with reservation as view:
                view[:] = b"request"
                reservation.shrink(3)
            async with lent.recv_view() as view:
                assert bytes(view) == b"REQ"

    run(main(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="trio has no named pipes there")
def test_on_trio(name: str) -> None:
    import trio
    import trio.testing

    async def main() -> None:
        async with npipe.aio.listen(name, in_buffer_size=1000) as listener:
            client = await npipe.aio.connect(name)
            async with client, await listener.accept() as server:
                async with client.reserve(5) as view:
                    with fails(170):
                        await client.send(b"x")
                    view[:] = b"hello"
                assert await viewed(server) == b"hello"
                await client.send(bytes(1000))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(reserved, client, b"r" * 500)
                    await trio.testing.wait_all_tasks_blocked()
                    assert await viewed(server) == bytes(1000)
                    assert await viewed(server) == b"r" * 500

    trio.run(main)
