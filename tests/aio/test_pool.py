"""npipe.aio.Pool, on asyncio, uvloop and trio: turns, cancellation at every moment, servers that go."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import pickle
import random
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import npipe
import npipe.aio
from tests.aio.helpers import LOOPS, run, turns
from tests.helpers import DEADLINE, fails
from tests.pools import EMPTIES, Servers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.conftest import Child

every_loop = pytest.mark.parametrize("kind", sorted(LOOPS))
every_backend = pytest.mark.parametrize("backend", ["asyncio"] if sys.platform == "win32" else ["asyncio", "trio"])


@pytest.fixture
def servers(child: Callable[..., Child], name: str, tmp_path: Path) -> Servers:
    return Servers(child, name, tmp_path / "requests")


def number(_request: bytes, connection: npipe.Connection) -> bytes:
    return b"%d" % connection.number


async def who(pool: npipe.aio.Pool[Any]) -> bytes:
    """The number that the connection of the next call has at the server."""
    return await pool.call(b"who", timeout=DEADLINE)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what other tasks do; fails when it does not come."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


@every_loop
def test_many_tasks_get_their_own_answers_over_a_few_connections(name: str, kind: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper) as server, npipe.aio.Pool(name, size=3) as pool:

            async def ask(who: int) -> None:
                for turn in range(20):
                    text = b"request %d of %d" % (turn, who)
                    assert await pool.call(text) == text.upper()

            await asyncio.gather(*(ask(who) for who in range(20)))
            assert server.stats.clients <= 3
            stats = pool.stats
            assert (stats.answered, stats.in_use, stats.waiting, stats.dropped) == (400, 0, 0, 0)
            assert stats.idle == stats.connected == server.stats.clients
        assert pool.stats.idle == 0

    run(main(), kind)


@every_loop
def test_connections_are_made_when_they_are_needed_and_used_again(name: str, kind: str) -> None:
    pool = npipe.aio.Pool(name)  # there is no loop yet, and no server
    assert pool.stats == npipe.PoolStats(4, 0, 0, 0, 0, 0, 0, 0)

    async def main() -> None:
        async with await npipe.aio.serve(name, number), pool:
            assert [await who(pool) for _ in range(5)] == [b"1"] * 5
            async with pool.connection() as first, pool.connection() as second:
                assert await first.transact(b"who") == b"1"
                assert await second.transact(b"who") == b"2"
                assert await who(pool) == b"3"
                assert repr(pool) == f"<npipe.aio.Pool r'{name}', 2 of 4 connections in use, 1 idle, 0 waiting>"
            assert (pool.stats.connected, pool.stats.idle, pool.stats.dropped) == (3, 3, 0)

    run(main(), kind)


@every_loop
def test_who_waits_longest_gets_the_next_connection_and_who_is_cancelled_none(name: str, kind: str) -> None:
    async def main() -> None:
        order = []
        async with await npipe.aio.serve(name, bytes.upper), npipe.aio.Pool(name, size=1) as pool:

            async def use(who: int) -> None:
                async with pool.connection(timeout=DEADLINE):
                    order.append(who)
                    await asyncio.sleep(0)

            async with pool.connection():
                users = [asyncio.create_task(use(who)) for who in range(9)]
                await turns()
                assert pool.stats.waiting == 9
                for cancelled in users[::3]:
                    cancelled.cancel()
                await asyncio.wait(users[::3])
                assert pool.stats.waiting == 6
            await asyncio.wait(users)
            assert order == [1, 2, 4, 5, 7, 8]
            assert pool.stats.dropped == 0

    run(main(), kind)


@every_loop
def test_a_task_that_is_cancelled_just_as_it_gets_a_connection_hands_it_on(name: str, kind: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, number), npipe.aio.Pool(name, size=1) as pool:
            async with pool.connection() as pipe:
                await pipe.transact(b"who")
                first, second = asyncio.create_task(who(pool)), asyncio.create_task(who(pool))
                await turns()
                assert pool.stats.waiting == 2
            assert (pool.stats.in_use, pool.stats.waiting) == (1, 1)  # the first has it, and has not run yet
            first.cancel()
            assert await second == b"1"
            with pytest.raises(asyncio.CancelledError):
                await first
            assert (pool.stats.in_use, pool.stats.dropped) == (0, 0)

    run(main(), kind)


@every_loop
def test_all_connections_in_use_is_an_error_that_says_so(name: str, kind: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper), npipe.aio.Pool(name, size=2) as pool:
            async with pool.connection(), pool.connection():
                for timeout in (0, 0.02):
                    with pytest.raises(npipe.PipeTimeoutError, match="all 2 connections of the pool") as caught:
                        await pool.call(b"x", timeout=timeout)
                    assert caught.value.sent is False
                    with pytest.raises(npipe.PipeTimeoutError, match="all 2 connections of the pool"):
                        async with pool.connection(timeout=timeout):
                            pass
            assert await pool.call(b"x") == b"X"

    run(main(), kind)


@every_loop
def test_a_connection_whose_server_went_while_it_was_idle_is_replaced_in_silence(
    name: str, kind: str, servers: Servers
) -> None:
    async def main() -> None:
        server = servers.start()
        async with npipe.aio.Pool(name, size=2) as pool:
            async with pool.connection() as pipe:
                await pipe.transact(b"who")
                assert await pool.call(b"echo both") == b"both"
            server.kill()
            servers.start()
            assert [await pool.call(b"echo %d" % turn) for turn in range(4)] == [b"0", b"1", b"2", b"3"]
            async with pool.connection() as one, pool.connection() as other:
                assert (await one.transact(b"echo one"), await other.transact(b"echo other")) == (b"one", b"other")
            assert (pool.stats.connected, pool.stats.dropped) == (4, 2)

    run(main(), kind, blocks=True)


@every_loop
def test_a_request_is_sent_once_and_with_retry_twice_at_most(name: str, kind: str, servers: Servers) -> None:
    async def main() -> None:
        async with npipe.aio.Pool(name, size=2) as pool:
            for retry, victims in ((False, 1), (True, 2)):
                server = servers.start()
                before = servers.asked(b"hang") if retry else 0
                call = asyncio.create_task(pool.call(b"hang", timeout=30, retry=retry))
                for _ in range(victims):
                    assert await asyncio.to_thread(server.line) == "hangs"
                    victim, server = server, servers.start()
                    victim.kill()
                with pytest.raises(npipe.PipeClosedError) as caught:
                    await call
                assert caught.value.sent is True
                assert ("tried once more" if retry else "retry=True sends it once more") in str(caught.value)
                assert servers.asked(b"hang") - before == victims
                assert await pool.call(b"echo on") == b"on"
                server.kill()
            assert (pool.stats.repeated, pool.stats.in_use) == (1, 0)
            with pytest.raises(npipe.PipeNotFoundError) as gone:
                await pool.call(b"echo x", retry=True)
            assert gone.value.sent is False

    run(main(), kind, blocks=True)


@every_loop
def test_with_wait_for_server_a_call_waits_for_the_restart(name: str, kind: str, servers: Servers) -> None:
    async def main() -> None:
        async with npipe.aio.Pool(name, wait_for_server=True, timeout=30) as pool:
            for text in (b"first", b"second"):
                call = asyncio.create_task(pool.call(b"echo " + text))
                await turns()
                server = servers.starting()
                assert await call == text
                server.kill()

    run(main(), kind, blocks=True)


@pytest.mark.parametrize("seed", [1, 2, 3])
@every_loop
def test_callers_that_time_out_or_are_cancelled_get_their_own_answers_or_none(
    name: str, kind: str, servers: Servers, seed: int
) -> None:
    async def main() -> None:
        late, answered = [], []

        async def ask(pool: npipe.aio.Pool[npipe.aio.MessagePipe], who: int) -> None:
            choices = random.Random(seed * 1000 + who)
            for turn in range(100):
                text = b"%d of %d" % (turn, who)
                request = b"slow %f %b" % (choices.choice([0, 0, 0.001, 0.002, 0.004]), text)
                patience = choices.choice([0.0005, 0.001, 0.002, 0.004, 5])
                way = choices.random()
                try:
                    if way < 0.3:
                        answer = await pool.call(request, timeout=patience)
                    elif way < 0.6:
                        async with asyncio.timeout(patience):
                            answer = await pool.call(request)
                    else:
                        async with pool.connection(timeout=5) as pipe:
                            await pipe.send(request)
                            try:
                                async with asyncio.timeout(patience):
                                    answer = await pipe.recv()
                            except TimeoutError:  # and the block ends well: the pool has to know
                                late.append(text)
                                continue
                except TimeoutError:
                    late.append(text)
                else:
                    assert answer == text
                    answered.append(text)

        async with npipe.aio.Pool(name, size=2) as pool:
            await asyncio.gather(*(ask(pool, who) for who in range(6)))
            assert len(late) + len(answered) == 600
            assert late
            assert answered
            assert (pool.stats.in_use, pool.stats.waiting) == (0, 0)

    servers.start()
    run(main(), kind)


@pytest.mark.parametrize("seed", range(3))
@every_loop
def test_a_storm_of_cancellations_loses_no_connection(name: str, kind: str, seed: int) -> None:
    async def main() -> None:
        choices, numbers = random.Random(seed), itertools.count()
        async with await npipe.aio.serve(name, bytes.upper), npipe.aio.Pool(name, size=2) as pool:

            async def use() -> None:
                text = b"%d" % next(numbers)
                if choices.random() < 0.5:
                    assert await pool.call(text) == text.upper()
                else:
                    async with pool.connection() as pipe:
                        assert await pipe.transact(text) == text.upper()

            for _ in range(150):
                users = [asyncio.create_task(use()) for _ in range(6)]
                for victim in choices.sample(users, 4):
                    await turns(choices.randrange(4))
                    victim.cancel()
                for result in await asyncio.gather(*users, return_exceptions=True):
                    assert result is None or isinstance(result, asyncio.CancelledError), result
                assert (pool.stats.in_use, pool.stats.waiting) == (0, 0)
            async with pool.connection(timeout=5) as one, pool.connection(timeout=5) as other:
                assert (await one.transact(b"one"), await other.transact(b"other")) == (b"ONE", b"OTHER")

    run(main(), kind)


# ---- Blocks


async def recv_in_vain(pipe: npipe.aio.MessagePipe) -> None:
    with pytest.raises(npipe.PipeTimeoutError):
        await pipe.recv(timeout=0.001)


async def recv_cancelled(pipe: npipe.aio.MessagePipe) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.001):
            await pipe.recv()


async def read_a_part(pipe: npipe.aio.MessagePipe) -> None:
    await pipe.send(b"x" * 100)
    assert await pipe.recv_into(bytearray(10), timeout=DEADLINE) == 10


async def leave_unread(pipe: npipe.aio.MessagePipe) -> None:
    await pipe.send(b"more")
    await until(lambda: pipe.peek().available > 0)


async def leave_owed(pipe: npipe.aio.MessagePipe) -> None:
    with pytest.raises(npipe.PipeTimeoutError):
        await pipe.transact(b"silence", timeout=0.001)


async def abort(pipe: npipe.aio.MessagePipe) -> None:
    pipe.abort()


NOT_AGAIN: dict[str, Callable[[npipe.aio.MessagePipe], Awaitable[object]]] = {
    "closed": lambda pipe: pipe.close(),
    "aborted": abort,
    "a read that timed out": recv_in_vain,
    "a read that was cancelled": recv_cancelled,
    "a message read in part": read_a_part,
    "something unread": leave_unread,
    "an answer owed": leave_owed,
    "a request without its answer": lambda pipe: pipe.send(b"silence"),
}


def answer_but_silence(request: bytes, connection: npipe.Connection) -> bytes | None:
    return {b"silence": None, b"who": b"%d" % connection.number}.get(request, request)


@pytest.mark.parametrize("what", NOT_AGAIN)
@every_loop
def test_a_connection_that_nobody_can_be_sure_of_is_not_used_again(name: str, kind: str, what: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, answer_but_silence) as server, npipe.aio.Pool(name, size=1) as pool:
            async with pool.connection() as pipe:
                assert await pipe.transact(b"who") == b"1"
                await NOT_AGAIN[what](pipe)
            assert await who(pool) == b"2"
            await until(lambda: server.clients == 1)
            assert (pool.stats.dropped, pool.stats.in_use) == (1, 0)
            with pytest.raises(ZeroDivisionError):
                async with pool.connection() as pipe:
                    assert await pipe.transact(b"who") == b"2"
                    1 / 0  # noqa: B018
            assert await who(pool) == b"3"

    run(main(), kind)


@every_loop
@pytest.mark.parametrize("ends", ["raises", "goes on"])
def test_a_message_that_goes_on_in_the_background_arrives_however_the_block_ends(
    name: str, kind: str, ends: str
) -> None:
    content = bytes(range(256)) * 2000

    async def main() -> None:
        with npipe.listen(name, in_buffer_size=4096) as listener:
            async with npipe.aio.Pool(name, size=1) as pool:
                out_of_time = asyncio.Event()

                async def send() -> None:
                    async with pool.connection() as pipe:
                        try:
                            await pipe.send(content, timeout=0.2)
                        except TimeoutError:
                            out_of_time.set()
                            if ends == "raises":
                                raise

                sending = asyncio.create_task(send())
                server = await asyncio.to_thread(listener.accept, DEADLINE)
                part = bytearray(1000)
                size = await asyncio.to_thread(server.recv_into, part, timeout=DEADLINE)
                await out_of_time.wait()
                await turns()  # the block is at its end
                rest = await asyncio.to_thread(server.recv, timeout=DEADLINE)
                assert bytes(part[:size]) + rest == content
                if ends == "raises":
                    with fails(121):
                        await sending
                else:
                    await sending
                assert (pool.stats.dropped, pool.stats.in_use) == (1, 0)
                server.close()

    run(main(), kind, blocks=True)


@every_backend
@pytest.mark.parametrize("when", ["before it goes back", "when it is idle"])
def test_an_empty_message_that_nobody_has_read_reaches_no_other_block(
    name: str, child: Callable[..., Child], backend: str, when: str
) -> None:
    server = child(EMPTIES, name)
    assert server.line() == "listens"

    def send_it() -> None:
        server.say("now")
        assert server.line() == "sent"

    async def main() -> None:
        async with npipe.aio.Pool(name, size=1) as pool:
            async with pool.connection() as pipe:
                assert await pipe.transact(b"more", timeout=DEADLINE) == b"1 more"
                if when == "before it goes back":
                    send_it()
            if when == "when it is idle":
                send_it()
            async with pool.connection() as pipe:
                await pipe.send(b"mine")
                assert await pipe.recv(timeout=DEADLINE) == b"2 mine"
            async with pool.connection() as pipe:
                assert await pipe.transact(b"again", timeout=DEADLINE) == b"2 again"

    anyio.run(main, backend=backend)


@every_loop
def test_a_read_into_no_room_is_no_answer(name: str, kind: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, answer_but_silence), npipe.aio.Pool(name, size=1) as pool:
            async with pool.connection() as pipe:
                await pipe.send(b"one")
                await pipe.send(b"silence")
                await until(lambda: pipe.peek().available > 0)
                assert await pipe.recv_into(bytearray()) == 0
                assert await pipe.recv() == b"one"
            assert await who(pool) == b"2"

    run(main(), kind)


@every_loop
def test_a_connection_with_nothing_left_over_is_used_again_as_new(name: str, kind: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, answer_but_silence), npipe.aio.Pool(name, size=1) as pool:
            async with pool.connection() as pipe:
                await read_a_part(pipe)
                assert await pipe.recv_into(bytearray(100)) == 90
                await pipe.send(b"x")
                assert await pipe.recv() == b"x"
                await pipe.flush(timeout=DEADLINE)
                pipe.max_message_size, pipe.busy_wait = 1, 0.001
            async with pool.connection() as pipe:
                assert (pipe.max_message_size, pipe.busy_wait) == (2**32 - 1, 0)
            assert await who(pool) == b"1"

    run(main(), kind)


@every_loop
def test_a_pipe_that_was_given_back_is_closed_for_whoever_keeps_it(name: str, kind: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, number), npipe.aio.Pool(name, size=1) as pool:
            async with pool.connection() as kept:
                assert isinstance(kept, npipe.aio.MessagePipe)
                assert (kept.name, kept.closed, kept.info.type) == (name, False, "message")
                assert "open" in repr(kept)
            assert kept.closed
            assert "closed" in repr(kept)
            for use in (kept.recv, lambda: kept.send(b"x"), lambda: kept.transact(b"x"), kept.flush):
                with pytest.raises(npipe.PipeClosedError, match="given back to its pool"):
                    await use()
            await kept.close()
            kept.abort()
            assert await who(pool) == b"1"

    run(main(), kind)


@every_loop
def test_byte_pipes_are_lent_and_have_no_calls(name: str, kind: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper, mode="byte"), npipe.aio.Pool(name, mode="byte") as pool:
            with pytest.raises(npipe.PipeModeError, match='make the pool with mode="message"'):
                await pool.call(b"x")
            for _ in range(2):
                async with pool.connection() as pipe:
                    assert isinstance(pipe, npipe.aio.StreamPipe)
                    assert await pipe.write(b"abc") == 3
                    assert await pipe.read(3, timeout=DEADLINE) == b"ABC"
            assert (pool.stats.connected, pool.stats.dropped) == (1, 0)
            async with pool.connection() as pipe:
                await pipe.write(b"abc")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await pipe.read()
            assert pool.stats.dropped == 1

    run(main(), kind)


# ---- Loops and ends


def test_a_pool_belongs_to_the_loop_that_uses_it_first(name: str) -> None:
    pool = npipe.aio.Pool(name)

    async def use() -> bytes:
        return await pool.call(b"x")

    with npipe.serve(name, bytes.upper):
        with asyncio.Runner() as first, asyncio.Runner() as second:
            assert first.run(use()) == b"X"
            for wrong in (use, pool.close, lambda: pool.connection().__aenter__()):

                async def try_it(wrong: Callable[[], Awaitable[object]] = wrong) -> None:
                    with pytest.raises(npipe.PipeStateError, match="make a pool in each loop") as caught:
                        await wrong()
                    assert caught.value.winerror == 50

                second.run(try_it())
            assert first.run(use()) == b"X"
            first.run(pool.close())


@every_loop
def test_close_ends_those_who_wait_and_the_idle_and_the_others_when_they_come_back(name: str, kind: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper) as server:
            pool = npipe.aio.Pool(name, size=2)
            async with pool.connection() as pipe:
                await pool.call(b"x")
                async with pool.connection():
                    waiter = asyncio.create_task(pool.call(b"x"))
                    await turns()
                    await pool.close()
                    with pytest.raises(npipe.PipeClosedError, match="the pool was closed in this process") as caught:
                        await waiter
                    assert (caught.value.winerror, caught.value.sent) == (6, False)
                assert await pipe.transact(b"still mine") == b"STILL MINE"
                await pool.close()
            await until(lambda: server.clients == 0)
            with pytest.raises(npipe.PipeClosedError, match="make a new one"):
                await pool.call(b"x")
            assert (pool.stats.idle, pool.stats.in_use, pool.stats.waiting) == (0, 0, 0)
            for give in (pickle.dumps, copy.copy):
                with pytest.raises(TypeError, match="make a pool there"):
                    give(pool)

    run(main(), kind)


@every_loop
def test_arguments_are_checked_before_anything_else(name: str, kind: str) -> None:
    async def main() -> None:
        for size in (0, -1, 65536):
            with fails(87):
                npipe.aio.Pool(name, size)
        with fails(87):
            npipe.aio.Pool(name, timeout=-1)
        async with npipe.aio.Pool(name) as pool:
            with fails(87):
                await pool.call(b"x", timeout=-1)
            with fails(87):
                pool.connection(timeout=-1)
            with pytest.raises(TypeError, match="encode the text"):
                await pool.call("text")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="retry is True or False"):
                await pool.call(b"x", retry="yes")  # type: ignore[arg-type]
        for option in ("verify_owner", "wait_for_server"):
            wrong: dict[str, Any] = {option: "no"}
            with pytest.raises(TypeError, match=f"{option} is True or False"):
                npipe.aio.Pool(name, **wrong)

    run(main(), kind)


# ---- anyio's backends


@every_backend
def test_it_is_the_same_under_anyio_on_asyncio_and_trio(name: str, backend: str, servers: Servers) -> None:
    async def main() -> None:
        with anyio.fail_after(30):
            choices = random.Random(backend)
            answered: list[bytes] = []
            late: list[bytes] = []
            async with npipe.aio.Pool(name, size=2) as pool:

                async def ask(who: int) -> None:
                    for turn in range(50):
                        text = b"%d of %d" % (turn, who)
                        request = b"slow %f %b" % (choices.choice([0, 0.001, 0.003]), text)
                        with anyio.move_on_after(choices.choice([0.0005, 0.001, 0.002, 0.004, 20])) as scope:
                            if choices.random() < 0.5:
                                assert await pool.call(request) == text
                            else:
                                async with pool.connection() as pipe:
                                    await pipe.send(request)
                                    assert await pipe.recv() == text
                        (late if scope.cancelled_caught else answered).append(text)

                async with anyio.create_task_group() as group:
                    for one in range(6):
                        group.start_soon(ask, one)
                assert len(answered) + len(late) == 300
                assert late
                assert answered
                assert (pool.stats.in_use, pool.stats.waiting) == (0, 0)
                async with pool.connection(), pool.connection():
                    with pytest.raises(npipe.PipeTimeoutError, match="all 2 connections"):
                        await pool.call(b"x", timeout=0.01)
                assert await pool.call(b"echo x") == b"x"

    servers.start()
    anyio.run(main, backend=backend)


@every_backend
def test_waiters_are_served_in_their_order_on_every_backend(name: str, backend: str) -> None:
    async def main() -> None:
        order: list[int] = []
        async with npipe.aio.Pool(name, size=1) as pool:

            async def use(who: int) -> None:
                async with pool.connection(timeout=DEADLINE):
                    order.append(who)
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as group:
                async with pool.connection():
                    for one in range(6):
                        group.start_soon(use, one)
                        while pool.stats.waiting <= one:
                            await anyio.sleep(0.001)
            assert order == list(range(6))

    with npipe.serve(name, bytes.upper):
        anyio.run(main, backend=backend)
