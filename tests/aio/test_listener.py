"""npipe.aio: listen and Listener."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import WITH_EAGER, run, threads, turns
from tests.helpers import descriptors, fails

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child


@pytest.fixture(params=sorted(WITH_EAGER))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_clients_come_one_after_the_other(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            served = 0

            async def serve() -> None:
                nonlocal served
                async for pipe in listener:
                    async with pipe:
                        await pipe.send(await pipe.recv())
                        served += 1

            serving = asyncio.create_task(serve())
            for number in range(50):
                assert await npipe.aio.call(name, str(number).encode()) == str(number).encode()
            while served < 50:  # the last client has his answer before his server has counted him
                await turns()
            listener.close()
            await serving

    run(main(), kind)


def test_several_tasks_may_accept_and_closing_ends_them(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            accepting = [asyncio.create_task(listener.accept()) for _ in range(5)]
            await turns()
            clients = [await npipe.aio.connect(name) for _ in range(3)]
            done: set[asyncio.Task[npipe.aio.MessagePipe]] = set()
            rest = set(accepting)
            while len(done) < 3:
                now, rest = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
                done |= now
            listener.close()
            for task in rest:
                with pytest.raises(npipe.PipeClosedError) as caught:
                    await task
                assert caught.value.winerror == 109
            for task in done:
                await task.result().close()
            for client in clients:
                await client.close()
            with pytest.raises(npipe.PipeClosedError):
                await listener.accept()
            assert listener.closed
            assert "closed" in repr(listener)

    run(main(), kind)


def test_accept_has_a_time_out(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            with pytest.raises(npipe.PipeTimeoutError) as caught:
                await listener.accept(timeout=0.02)
            assert caught.value.winerror == 121
            async with await npipe.aio.connect(name), await listener.accept(timeout=5):
                pass

    run(main(), kind)


def test_a_client_that_left_is_handed_out_if_it_left_something(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            await (await npipe.aio.connect(name)).close()
            accepting = asyncio.create_task(listener.accept())
            async with await npipe.aio.connect(name) as client:
                await client.send(b"left")
            async with await accepting as pipe:
                assert [message async for message in pipe] == [b"left"]

    run(main(), kind)


def test_at_the_limit_the_next_client_gets_the_place_of_a_closed_one(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, max_instances=2) as listener:
            clients, servers = [], []
            for _ in range(2):
                clients.append(await npipe.aio.connect(name))
                servers.append(await listener.accept())
            accepting = asyncio.create_task(listener.accept())
            connecting = asyncio.create_task(npipe.aio.connect(name))
            await turns(10)
            assert not accepting.done()
            await servers[0].close()
            servers.append(await accepting)
            clients.append(await connecting)
            for pipe in servers + clients:
                await pipe.close()

    run(main(), kind)


def test_at_the_limit_an_instance_that_another_process_closes_makes_room(
    name: str, child: Callable[..., Child]
) -> None:
    other = child(
        """
        import npipe, sys
        with npipe.listen(sys.argv[1], max_instances=2, exclusive=False) as listener:
            pipe = listener.accept()
            listener.close()
            print("one", flush=True)
            input()
        """,
        name,
    )

    async def main() -> None:
        while True:
            try:
                first = await npipe.aio.connect(name)
                break
            except npipe.PipeNotFoundError:
                await asyncio.sleep(0.001)  # until the other has begun
        assert other.line() == "one"
        async with npipe.aio.listen(name, max_instances=2, exclusive=False) as listener:
            async with await npipe.aio.connect(name), await listener.accept():
                accepting = asyncio.create_task(listener.accept())
                await turns(10)
                other.kill()
                async with await npipe.aio.connect(name), await accepting:
                    pass
        await first.close()

    # Child reads its lines in a thread, which blocks the loop for a moment: not what this test is about.
    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_name_is_exclusive_unless_told_otherwise(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name):
            with pytest.raises(npipe.PipeAccessError):
                npipe.aio.listen(name)
            with pytest.raises(npipe.PipeAccessError):
                npipe.listen(name)
            async with npipe.aio.listen(name, exclusive=False):
                pass
        with pytest.raises(npipe.PipeNameError):
            npipe.aio.listen(r"\\host\pipe\x")

    run(main())


def test_two_listeners_of_one_name_in_one_loop_share_the_clients(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as one, npipe.aio.listen(name, exclusive=False) as two:
            accepting = [asyncio.create_task(listener.accept()) for listener in (one, two)]
            await turns()
            clients = [await npipe.aio.connect(name) for _ in range(2)]
            for task in accepting:
                await (await task).close()
            for client in clients:
                await client.close()

    run(main(), kind)


def test_a_listener_can_be_made_again_and_leaves_no_descriptor(kind: str, name: str) -> None:
    async def main() -> None:
        for _ in range(20):
            async with npipe.aio.listen(name) as listener:
                accepting = asyncio.create_task(listener.accept())
                await turns()
                async with await npipe.aio.connect(name), await accepting:
                    pass

    run(main(), kind)
    before = descriptors()
    run(main(), kind)
    assert descriptors() == before


def test_neither_listeners_nor_connections_have_threads(kind: str, name: str) -> None:
    async def main() -> None:
        with npipe.listen(f"{name}-warm"):
            before = threads()  # with the engine's own
        listeners = [npipe.aio.listen(f"{name}-{number}", max_instances=2) for number in range(10)]
        ends: list[npipe.aio.MessagePipe] = []
        waiting: list[asyncio.Task[npipe.aio.MessagePipe]] = []
        for number, listener in enumerate(listeners):
            for _ in range(2):
                ends += [await npipe.aio.connect(f"{name}-{number}"), await listener.accept()]
            waiting.append(asyncio.create_task(listener.accept()))  # at the limit
        reading = [asyncio.create_task(end.recv()) for end in ends]
        await turns()
        assert threads() == before
        for task in reading:
            task.cancel()
        for end in ends:
            await end.close()
        for listener in listeners:
            listener.close()
        await asyncio.gather(*waiting, *reading, return_exceptions=True)
        assert threads() == before

    run(main(), kind, blocks=True)


def test_a_client_is_let_in_while_nobody_accepts_and_the_loop_is_told_once_it_is(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            accepting = asyncio.create_task(listener.accept())
            await turns()
            accepting.cancel()
            await turns()
            client = await npipe.aio.connect(name)  # the signal of this comes to nobody
            async with client, await asyncio.wait_for(listener.accept(), 5) as server:
                await client.send(b"x")
                assert await server.recv() == b"x"
            one, two = asyncio.create_task(listener.accept()), asyncio.create_task(listener.accept())
            await turns()
            one.cancel()  # the other one is told all the same
            async with await npipe.aio.connect(name), await asyncio.wait_for(two, 5):
                pass

    run(main(), kind)


def test_a_forked_child_has_no_part_in_a_listener(name: str, child: Callable[..., Child]) -> None:
    forked = child(
        """
        import asyncio, os, sys
        import npipe, npipe.aio

        async def main():
            async with npipe.aio.listen(sys.argv[1]) as listener:
                accepting = asyncio.create_task(listener.accept())
                await asyncio.sleep(0)
                pid = os.fork()
                if pid == 0:
                    ok = listener.closed
                    listener.close()
                    del listener
                    os._exit(0 if ok else 1)
                assert os.waitpid(pid, 0)[1] == 0
                async with await npipe.aio.connect(sys.argv[1]) as client, await accepting as server:
                    await client.send(b"x")
                    assert await server.recv() == b"x"
            print("through", flush=True)

        asyncio.run(main())
        """,
        name,
    )
    assert forked.line() == "through"
    assert forked.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows pipes have no folder with a lock")
def test_a_lock_that_was_met_and_is_met_again_later_is_another_one(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr("npipe.transports.patience.time", clock)

    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            instances: Any = listener._instances
            create, locked = instances._create, True

            def held(**options: Any) -> Any:
                if locked:
                    raise npipe.PipeTimeoutError(121, name, "creating an instance")
                return create(**options)

            monkeypatch.setattr(instances, "_create", held)
            for released in (True, False):
                client = await npipe.aio.connect(name)
                server = await listener.accept()
                spare, instances._listening = instances._listening, None  # it could not be made
                spare.close_handle()
                with fails(121):
                    await listener.accept(0)  # the lock is met
                if released:
                    await server.close()  # which makes one
                else:
                    clock.now += 2.0  # or nobody looks any more
                clock.now += 2.0
                if not released:
                    with fails(121):
                        await listener.accept(0)
                    await server.close()
                await client.close()
                waiting = asyncio.create_task(listener.accept())
                await turns()
                client = await npipe.aio.connect(name)
                server = await waiting
                spare, instances._listening = instances._listening, None
                spare.close_handle()
                for later in (0.0, 0.9, 0.9, 0.9):
                    clock.now += later
                    with fails(121):
                        await listener.accept(0)
                clock.now += 0.9
                with fails(1450):  # this one was seen all the time
                    await listener.accept(0)
                locked = False
                with fails(121):
                    await listener.accept(0)
                locked = True
                await client.close()
                await server.close()

    run(main(), kind)
