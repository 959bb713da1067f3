"""npipe.aio: serve."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import WITH_EAGER, run, turns


@pytest.fixture(params=sorted(WITH_EAGER))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_coroutine_or_a_plain_function_answers(kind: str, name: str) -> None:
    async def answer(request: bytes) -> bytes | None:
        await asyncio.sleep(0)
        return request[::-1] if request else None

    async def main() -> None:
        async with await npipe.aio.serve(name, answer) as server, await npipe.aio.connect(name) as pipe:
            await pipe.send(b"")  # which has no answer
            assert await pipe.transact(b"abc") == b"cba"
            assert server.name == name
            assert server.clients == 1
            await pipe.close()
            await turns(20)
            assert server.clients == 0
        async with await npipe.aio.serve(name, bytes.upper, mode="byte"):
            async with await npipe.aio.connect(name, mode="byte") as stream:
                await stream.write(b"abc")
                assert await stream.read(10) == b"ABC"

    run(main(), kind)


def test_no_more_requests_are_answered_at_once_than_allowed(kind: str, name: str) -> None:
    async def main() -> None:
        now = most = 0
        three = asyncio.Event()

        async def answer(request: bytes) -> bytes:
            nonlocal now, most
            now += 1
            most = max(most, now)
            if now == 3:
                three.set()
            await three.wait()
            await asyncio.sleep(0.002)  # a fourth would come by now
            now -= 1
            return request

        async with await npipe.aio.serve(name, answer, concurrency=3):
            calls = (npipe.aio.call(name, b"%d" % i) for i in range(20))
            assert await asyncio.gather(*calls) == [b"%d" % i for i in range(20)]
        assert most == 3
        with pytest.raises(npipe.PipeArgumentError):
            await npipe.aio.serve(name, answer, concurrency=0)

    run(main(), kind)


def test_a_handler_that_raises_costs_its_client_the_connection(
    kind: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(request: bytes) -> bytes:
        if request == b"bad":
            raise ValueError("no good")
        return request

    async def main() -> None:
        async with await npipe.aio.serve(name, answer):
            with pytest.raises(npipe.PipeClosedError):
                await npipe.aio.call(name, b"bad")
            assert await npipe.aio.call(name, b"good") == b"good"

    with caplog.at_level(logging.CRITICAL, "npipe"):
        run(main(), kind)


def test_what_a_handler_raises_is_logged_also_if_it_looks_like_the_end_of_a_connection(
    kind: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(request: bytes) -> bytes:
        if request == b"bad":
            raise npipe.PipeClosedError(109, "another pipe")
        return request

    async def main() -> None:
        async with await npipe.aio.serve(name, answer) as server, await npipe.aio.connect(name) as pipe:
            await pipe.send(b"good")
            await pipe.send(b"bad")
            assert await pipe.recv() == b"good"  # which was answered before
            with pytest.raises(npipe.PipeClosedError) as raised:
                await pipe.recv()
            assert raised.value.winerror == 109
            assert server.stats.failed == 1

    with caplog.at_level(logging.ERROR, "npipe"):
        run(main(), kind)
    assert "client 1: the handler failed" in caplog.text
    assert "another pipe" in caplog.text


def test_close_lets_requests_finish_and_ends_idle_clients(kind: str, name: str) -> None:
    async def main() -> None:
        begun = asyncio.Event()
        go = asyncio.Event()

        async def answer(request: bytes) -> bytes:
            begun.set()
            await go.wait()
            return request

        server = await npipe.aio.serve(name, answer)
        async with await npipe.aio.connect(name) as idle, await npipe.aio.connect(name) as busy:
            asking = asyncio.create_task(busy.transact(b"x"))
            await begun.wait()
            closing = asyncio.create_task(server.close())
            with pytest.raises(npipe.PipeClosedError):
                await idle.recv()
            with pytest.raises(npipe.PipeNotFoundError):
                await npipe.aio.connect(name + "-other")
            assert not closing.done()
            go.set()
            assert await asking == b"x"
            await closing
            await server.wait()
        with pytest.raises(npipe.PipeNotFoundError):
            await npipe.aio.connect(name)

    run(main(), kind)


def test_close_ends_requests_that_take_too_long(kind: str, name: str) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def answer(request: bytes) -> bytes:
            begun.set()
            await asyncio.Event().wait()
            return request

        server = await npipe.aio.serve(name, answer)
        async with await npipe.aio.connect(name) as pipe:
            asking = asyncio.create_task(pipe.transact(b"x"))
            await begun.wait()
            await server.close(timeout=0.01)
            with pytest.raises(npipe.PipeClosedError):
                await asking

    run(main(), kind)


@pytest.mark.skipif("eager" not in WITH_EAGER, reason="eager_task_factory came with 3.12; make test-pythons")
def test_close_in_a_handler_that_an_eager_task_calls_ends_that_client_too(name: str) -> None:
    """Its request is there when it is accepted, so the handler is called before `create_task` has returned the task."""

    async def main() -> None:
        seen: list[object] = []
        closing: list[asyncio.Task[None]] = []

        async def answer(_: bytes) -> bytes:
            seen.append(server.clients)
            closing.append(asyncio.create_task(server.close(timeout=0.01)))
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("over")
            return b"never"

        server = await npipe.aio.serve(name, answer)
        with npipe.connect(name) as client:
            client.send(b"x")
            await server.wait()
            await turns()
            assert (seen, server.clients) == ([1, "over"], 0)
            with pytest.raises(npipe.PipeClosedError):
                client.recv(timeout=5)

    run(main(), "eager", blocks=True)


def test_sync_clients_are_served(name: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper):
            script = "import npipe, sys; print(npipe.call(sys.argv[1], b'x' * 70000) == b'X' * 70000)"
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, name, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            assert out == b"True\n"

    asyncio.run(asyncio.wait_for(main(), 30))  # to start a process blocks the loop, and that is not ours
