"""npipe.aio: the awaitables that pipes give are coroutines in all that matters, and begin with their first step."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import LOOPS, pair, run, turns

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(params=sorted(LOOPS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_call_is_taken_wherever_a_coroutine_is(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            call: Any = client.send(b"one")
            assert call.__qualname__ == "MessagePipe.send"
            assert issubclass(type(call), collections.abc.Coroutine)
            assert inspect.isawaitable(call)
            assert asyncio.iscoroutine(call)
            assert "MessagePipe.send" in repr(call)
            assert await asyncio.create_task(call) is None
            await asyncio.gather(client.send(b"two"), client.send(b"three"))
            assert await asyncio.wait_for(server.recv(), 5) == b"one"
            assert (await asyncio.gather(asyncio.ensure_future(server.recv())))[0] == b"two"
            async with asyncio.TaskGroup() as group:
                task = group.create_task(server.recv())
            assert task.result() == b"three"
            waiting = asyncio.create_task(server.recv())
            await turns()
            assert "MessagePipe.recv" in repr(waiting)
            assert waiting.get_stack() == []
            await client.send(b"four")
            assert await waiting == b"four"

    run(main(), kind)


def test_nothing_happens_before_the_first_step(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            sending = client.send(b"message")
            await turns()
            assert server.peek().available == 0
            await sending
            assert server.peek().available == 7
            receiving = server.recv()
            await turns()
            assert server.peek().available == 7
            assert await receiving == b"message"

    run(main(), kind)


@pytest.mark.parametrize("way", ["task", "wait_for", "close", "throw"])
def test_a_call_that_is_ended_before_its_first_step_has_done_nothing(kind: str, name: str, way: str) -> None:
    async def ended(call: Any) -> None:
        if way == "task":
            task = asyncio.create_task(call)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif way == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call, 0)
        elif way == "close":
            call.close()
        else:
            with pytest.raises(ZeroDivisionError):
                call.throw(ZeroDivisionError())

    async def main() -> None:
        async with pair(name) as (server, client):
            await client.send(b"message")
            await ended(server.recv())
            await ended(server.recv_into(bytearray(10)))
            await ended(client.send(b"another"))
            await ended(client.transact(b"another"))
            await ended(client.flush())
            assert await server.recv() == b"message"
            assert server.peek().available == 0

    run(main(), kind)


def test_a_call_is_awaited_once(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            call = client.send(b"message")
            await call
            with pytest.raises(RuntimeError, match="already awaited"):
                await call
            with pytest.raises(RuntimeError, match="already awaited"):
                call.throw(ValueError)
            call.close()
            await client.send(b"another")  # which is not the call that somebody still has
            with pytest.raises(RuntimeError, match="already awaited"):
                await call
            assert [await server.recv(), await server.recv()] == [b"message", b"another"]
            receiving = server.recv()

            async def wait() -> bytes:
                return bytes(await receiving)

            first = asyncio.create_task(wait())
            await turns()
            with pytest.raises(RuntimeError, match="being awaited already"):
                await receiving
            await client.send(b"third")
            assert await first == b"third"

    run(main(), kind)


def test_a_call_that_nobody_awaits_is_warned_of(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for make in (lambda: client.send(b"x"), server.recv, client.flush, lambda: client.transact(b"x")):
                with pytest.warns(RuntimeWarning, match=r"coroutine '.*Pipe\..*' was never awaited"):
                    make()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                client.send(b"x").close()
            await client.send(b"y")
            assert await server.recv() == b"y"

    run(main(), kind)


def test_a_call_can_be_driven_by_hand(name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for step in (lambda call: call.send(None), next, lambda call: call.__next__()):
                with pytest.raises(StopIteration) as stop:
                    step(client.send(b"message").__await__())
                assert stop.value.value is None
                with pytest.raises(StopIteration) as stop:
                    step(server.recv().__await__())
                assert stop.value.value == b"message"
                call = server.recv()
                future = step(call.__await__())
                assert isinstance(future, asyncio.Future)
                with pytest.raises(KeyError):
                    call.throw(KeyError, None, None)
                await client.send(b"later")
                assert await server.recv() == b"later"
                call = server.recv()
                step(call.__await__())
                call.close()
                call = server.recv()
                step(call.__await__())
                del call  # a driver that forgets it
                gc.collect()
                assert (await asyncio.gather(server.recv(), client.send(b"last")))[0] == b"last"

    run(main())


def test_a_task_that_nobody_holds_waits_on_all_the_same(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            received: list[bytes] = []

            async def receive() -> None:
                received.append(await server.recv())

            asyncio.create_task(receive())  # noqa: RUF006
            await turns()
            gc.collect()
            await client.send(b"message")
            await turns()
            assert received == [b"message"]

    run(main(), kind)


def test_calls_are_used_again_only_when_they_are_over(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            calls = [client.send(bytes([number])) for number in range(50)]
            assert len({id(call) for call in calls}) == 50
            for call in reversed(calls):
                await call
            again = [client.send(bytes([number])) for number in range(50, 60)]
            assert not {id(call) for call in again} & {id(call) for call in calls}
            await asyncio.gather(*again)
            expected = [*range(49, -1, -1), *range(50, 60)]
            assert [(await server.recv())[0] for _ in range(60)] == expected

    run(main(), kind)


def test_a_failed_call_leaves_the_pipe_to_be_freed_at_once(kind: str, name: str) -> None:
    async def main() -> None:
        gc.disable()
        try:
            async with npipe.aio.listen(name) as listener:
                client: Any = await npipe.aio.connect(name)
                server: Any = await listener.accept()
                await client.send(b"x")
                assert await server.recv() == b"x"
                with pytest.raises(npipe.PipeTimeoutError):
                    await server.recv(timeout=0)
                await server.close()
                with pytest.raises(npipe.PipeClosedError):
                    await client.recv()
                with pytest.warns(ResourceWarning, match="unclosed"):
                    del client  # by its count of references alone
        finally:
            gc.enable()

    run(main(), kind)


def test_bad_arguments_are_told_when_the_call_is_awaited(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            bad: Any = None
            with pytest.raises(TypeError):
                await client.send("text")
            with pytest.raises(BufferError):
                await server.recv_into(b"not writable")
            with pytest.raises(npipe.PipeArgumentError):
                await server.recv(timeout=-1)
            with pytest.raises(TypeError):
                await server.recv(timeout="1")
            with pytest.raises(TypeError):
                server.recv(bad, bad)
            await client.send(bytearray(b"a"))
            await client.send(memoryview(b"bcd")[::1])
            assert [await server.recv(), await server.recv()] == [b"a", b"bcd"]

    run(main(), kind)


# ---- Cancellation wherever a call can stand

LONG = bytes(range(256)) * 1200


METHODS: dict[str, Callable[[Any, Any], Any]] = {
    "recv": lambda server, client: server.recv(),
    "recv_into": lambda server, client: server.recv_into(bytearray(400_000)),
    "send": lambda server, client: server.send(LONG),
    "transact": lambda server, client: server.transact(b"request"),
    "flush": lambda server, client: server.flush(),
    "close": lambda server, client: server.close(),
}


@pytest.mark.parametrize("after", range(5))
@pytest.mark.parametrize("method", METHODS)
def test_cancelled_at_any_turn_a_call_keeps_what_is_promised(kind: str, name: str, method: str, after: int) -> None:
    """The peer has sent a message that does not fit the pipe at once, and reads nothing."""

    async def main() -> None:
        async with pair(name, in_buffer_size=5000, out_buffer_size=5000) as (server, client):
            if method == "flush":
                await server.send(b"unread")
            expects_message = method in {"recv", "recv_into"}
            sending = asyncio.create_task(client.send(LONG)) if expects_message else None
            task = asyncio.create_task(METHODS[method](server, client))
            await turns(after)
            task.cancel()
            try:
                result = await task
            except asyncio.CancelledError:
                result = None
            if expects_message:
                if result is None:
                    assert await server.recv() == LONG
                else:
                    assert result in (LONG, len(LONG))
                assert sending is not None
                await sending
            elif method == "send":
                assert client.peek().available == 0
            elif method == "transact":
                await server.send(b"marker")
                assert await client.recv() == (b"request" if after else b"marker")
            elif method == "flush":
                assert await client.recv() == b"unread"
            elif method == "close":
                assert server.closed or after == 0
            if method != "close":
                await client.send(b"still")
                assert await server.recv() == b"still"

    run(main(), kind)


async def tire(pipe: Any, peer: Any) -> None:
    """Use up what a pipe may do before the event loop has a turn."""
    count = 0
    while pipe._handle.turns_left > 0:
        await pipe.send(b"")
        count += 1
    for _ in range(count):
        assert await peer.recv() == b""


@pytest.mark.parametrize("method", METHODS)
def test_cancelled_while_it_lets_others_run_a_call_has_done_nothing(kind: str, name: str, method: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            await client.send(b"first")
            await tire(server, client)
            task = asyncio.create_task(METHODS[method](server, client))
            await turns(1)
            if method == "close":  # has nothing to wait for
                await task
                return
            assert not task.done() or method == "flush"
            task.cancel()
            if method != "flush":
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert client.peek().available == 0
            assert await server.recv() == b"first"
            await server.send(b"second")
            assert await client.recv() == b"second"

    run(main(), kind)


def test_a_reader_that_lets_others_run_keeps_its_turn_to_read(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for number in range(3):
                await client.send(bytes([number]))
            await tire(server, client)
            first = asyncio.create_task(server.recv())
            await turns(1)
            with pytest.raises(npipe.PipeStateError) as caught:
                await server.recv()
            assert caught.value.winerror == 170
            assert await first == b"\0"

    run(main(), kind)
