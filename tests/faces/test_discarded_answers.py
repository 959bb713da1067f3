"""An answer that is being dropped, and of which a part has not come yet: nobody gets that for a message."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.names import parse_name
from npipe.options import ACCESS_READ, ACCESS_WRITE
from npipe.transports import default
from npipe.transports.threads import ThreadsTransport
from tests.aio.helpers import LOOPS, run, turns
from tests.helpers import DEADLINE, Background, asleep, fails, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child

SIZE = 8 << 20
SERVER = f"""
    import sys, npipe
    with npipe.listen(sys.argv[1]) as listener:
        print("listens", flush=True)
        pipe = listener.accept()
        pipe.recv()
        pipe.send(b"HEAD" + bytes({SIZE}) + b"TAIL")
        pipe.send(b"an event")
        pipe.send(pipe.recv().upper())
        pipe.recv()
"""


@pytest.fixture
def server(name: str, child: Callable[..., Child]) -> Child:
    process = child(SERVER, name)
    assert process.line() == "listens"
    return process


def stop_midway(process: Child) -> None:
    """Stop the server when it waits for room for the rest of its answer."""
    until(lambda: asleep(process.pid))
    os.kill(process.pid, signal.SIGSTOP)


def asleep_here() -> int:
    """How many of this process' threads sleep in a call; its native thread is not Python's."""
    threads = [thread for thread in threading.enumerate() if thread.name != "npipe-resting"]
    return sum(asleep(os.getpid(), thread.native_id) for thread in threads)


async def begun(before: int) -> None:
    """Return when the thread of a task that has just been made sleeps in the engine too."""
    async with asyncio.timeout(DEADLINE):
        while asleep_here() <= before:
            await asyncio.sleep(0)


def read_all(pipe: Any, way: str) -> bytes:
    if way == "recv":
        message: bytes = pipe.recv(timeout=DEADLINE)
        return message
    if way == "iteration":
        first: bytes = next(iter(pipe))
        return first
    buffer = bytearray(100)
    return bytes(buffer[: pipe.recv_into(buffer, exact=way == "recv_into exact", timeout=DEADLINE)])


@pytest.mark.parametrize("way", ["recv", "recv_into", "recv_into exact", "iteration", "discard_reply", "peek"])
def test_the_rest_of_an_answer_is_dropped_by_whatever_reads_next(name: str, server: Child, way: str) -> None:
    with npipe.connect(name) as pipe:
        with fails(121):
            pipe.transact(b"question", timeout=0)
        until(lambda: pipe.peek().available > 0)
        stop_midway(server)
        with fails(121):
            pipe.discard_reply(timeout=0.3)
        assert not pipe.more_data
        assert pipe.peek(100) == (b"", 0, 0)
        with fails(996):
            pipe.transact(b"next")
        with fails(121):
            pipe.recv(timeout=0.2)
        os.kill(server.pid, signal.SIGCONT)
        if way == "peek":
            until(lambda: pipe.peek(100) == (b"an event", 8, 0))
            way = "recv"
        if way == "discard_reply":
            pipe.discard_reply(timeout=DEADLINE)
            way = "recv"
        assert read_all(pipe, way) == b"an event"
        assert pipe.transact(b"next", timeout=DEADLINE) == b"NEXT"


def test_reads_that_wait_behind_a_discard_that_ends_midway_get_messages(name: str, server: Child) -> None:
    with npipe.connect(name) as pipe:
        with fails(121):
            pipe.transact(b"question", timeout=0)
        until(lambda: pipe.peek().available > 0)
        stop_midway(server)
        discard = Background(lambda: pipe.discard_reply(timeout=0.5)).blocked()
        buffer = bytearray(100)
        reading = Background(lambda: pipe.recv_into(buffer, timeout=20)).blocked()
        assert discard.code() == 121
        os.kill(server.pid, signal.SIGCONT)
        assert reading.result() == len(b"an event")
        assert buffer.startswith(b"an event")
        assert pipe.transact(b"next", timeout=DEADLINE) == b"NEXT"


WITHDRAWING = f"""
    import signal, sys, npipe
    class Enough(Exception): pass
    def enough(*_): raise Enough
    signal.signal(signal.SIGUSR1, enough)
    with npipe.listen(sys.argv[1]) as listener:
        print("listens", flush=True)
        pipe = listener.accept()
        pipe.recv()
        try:
            pipe.send(b"HEAD" + bytes({SIZE}))
        except Enough:
            pipe.send(b"an event")
            print("gives up", flush=True)
        pipe.send(pipe.recv().upper())
        pipe.recv()
"""


@pytest.mark.parametrize("waits", [False, True], ids=["before", "meanwhile"])
def test_an_answer_whose_rest_is_given_up_is_discarded_and_no_message_with_it(
    name: str, child: Callable[..., Child], waits: bool
) -> None:
    server = child(WITHDRAWING, name)
    assert server.line() == "listens"
    with npipe.connect(name) as pipe:
        with fails(121):
            pipe.transact(b"question", timeout=0)
        until(lambda: pipe.peek().available > 0)
        stop_midway(server)
        with fails(121):
            pipe.discard_reply(timeout=0.3)
        waiting = Background(lambda: pipe.discard_reply(timeout=DEADLINE)).blocked() if waits else None
        os.kill(server.pid, signal.SIGUSR1)
        os.kill(server.pid, signal.SIGCONT)
        assert server.line() == "gives up"
        if waiting:
            waiting.result()
        pipe.discard_reply(timeout=DEADLINE)
        assert pipe.recv(timeout=DEADLINE) == b"an event"
        assert pipe.transact(b"next", timeout=DEADLINE) == b"NEXT"


@pytest.mark.parametrize("waits", [False, True], ids=["before", "meanwhile"])
@pytest.mark.parametrize("threads", [False, True], ids=["the engine", "threads"])
def test_on_a_loop_one_whose_rest_is_given_up_is_discarded_alone(
    name: str, child: Callable[..., Child], threads: bool, waits: bool
) -> None:
    async def main() -> None:
        server = child(WITHDRAWING, name)
        assert server.line() == "listens"
        pipe = await opened(name, threads=threads)
        async with pipe:
            with fails(121):
                await pipe.transact(b"question", timeout=0)
            async with asyncio.timeout(DEADLINE):
                while not pipe.peek().available:
                    await asyncio.sleep(0)
            stop_midway(server)
            with fails(121):
                await pipe.discard_reply(timeout=0.3)
            waiting = asyncio.create_task(pipe.discard_reply(timeout=DEADLINE)) if waits else None
            if waiting and threads:
                await begun(0)  # in its own thread, or in that of the call before, which goes on
            else:
                await turns()
            os.kill(server.pid, signal.SIGUSR1)
            os.kill(server.pid, signal.SIGCONT)
            assert await asyncio.to_thread(server.line) == "gives up"
            if waiting:
                await waiting
            await pipe.discard_reply(timeout=DEADLINE)
            assert await pipe.recv(timeout=DEADLINE) == b"an event"
            assert await pipe.transact(b"next", timeout=DEADLINE) == b"NEXT"

    asyncio.run(main())


class InterruptionError(Exception):
    pass


@pytest.fixture
def alarm() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise InterruptionError

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("selected", [False, True], ids=["alone", "with a descriptor"])
def test_a_discard_that_a_signal_s_handler_ends_leaves_nothing_to_be_read(
    name: str, server: Child, selected: bool
) -> None:
    with npipe.connect(name) as pipe:
        if selected:
            pipe.fileno()
        with fails(121):
            pipe.transact(b"question", timeout=0)
        until(lambda: pipe.peek().available > 0)
        stop_midway(server)
        main = threading.main_thread()

        def interrupt() -> None:
            until(lambda: asleep(os.getpid(), main.native_id))
            signal.pthread_kill(main.ident or 0, signal.SIGUSR1)

        helper = Background(interrupt)
        with pytest.raises(InterruptionError):
            pipe.discard_reply(timeout=DEADLINE)
        helper.result()
        looking = Background(lambda: {pipe.peek(100) for _ in range(100)})  # none waits for the rest
        assert looking.result() == {(b"", 0, 0)}
        os.kill(server.pid, signal.SIGCONT)
        assert pipe.recv(timeout=DEADLINE) == b"an event"
        assert pipe.transact(b"next", timeout=DEADLINE) == b"NEXT"


def test_a_transaction_is_owed_its_answer_if_a_handler_ends_it_while_its_last_part_is_read(name: str) -> None:
    with npipe.listen(name, in_buffer_size=4096) as listener, npipe.connect(name) as pipe:
        server = listener.accept(timeout=DEADLINE)
        request = bytes(range(250)) * 400
        taken = bytearray(len(request) * 3 // 5)  # the rest has room in the ring then

        def read_and_raise(*_: object) -> None:
            assert server.recv_into(taken, timeout=0) == len(taken)
            raise InterruptionError

        before = signal.signal(signal.SIGUSR1, read_and_raise)
        main = threading.main_thread()

        def interrupt() -> None:
            until(lambda: asleep(os.getpid(), main.native_id))
            signal.pthread_kill(main.ident or 0, signal.SIGUSR1)

        try:
            helper = Background(interrupt)
            with pytest.raises(InterruptionError):
                pipe.transact(request, timeout=DEADLINE)
            helper.result()
        finally:
            signal.signal(signal.SIGUSR1, before)
        with fails(996):
            pipe.transact(b"next")
        assert taken + server.recv(timeout=DEADLINE) == request
        server.send(b"answer")
        pipe.discard_reply(timeout=DEADLINE)
        asking = Background(lambda: pipe.transact(b"next", timeout=DEADLINE))
        server.send(server.recv(timeout=DEADLINE).upper())
        assert asking.result() == b"NEXT"
        server.close()


async def opened(name: str, *, threads: bool) -> Any:
    if not threads:
        return await npipe.aio.connect(name)
    return await ThreadsTransport(default()).connect(
        parse_name(name), message_mode=True, access=ACCESS_READ | ACCESS_WRITE, timeout=DEADLINE, verify_owner=True
    )


@pytest.mark.parametrize("threads", [False, True], ids=["the engine", "threads"])
@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("way", ["recv", "recv_into", "recv_into exact", "iteration", "discard_reply", "peek"])
def test_on_a_loop_the_rest_is_dropped_too(name: str, server: Child, way: str, kind: str, threads: bool) -> None:
    async def main() -> None:
        pipe = await opened(name, threads=threads)
        async with pipe:
            with fails(121):
                await pipe.transact(b"question", timeout=0)
            async with asyncio.timeout(DEADLINE):
                while not pipe.peek().available:
                    await asyncio.sleep(0)
            stop_midway(server)
            discard = asyncio.create_task(pipe.discard_reply(timeout=0.3))
            with fails(121):
                await discard
            assert not pipe.more_data
            assert pipe.peek(100) == (b"", 0, 0)
            with fails(996):
                await pipe.transact(b"next")
            reading = asyncio.create_task(pipe.recv())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reading, 0.1)
            os.kill(server.pid, signal.SIGCONT)
            if way == "peek":
                while pipe.peek(100) != (b"an event", 8, 0):
                    await asyncio.sleep(0)
            if way == "discard_reply":
                await pipe.discard_reply(timeout=DEADLINE)
            if way in ("recv", "discard_reply", "peek"):
                message = await pipe.recv(timeout=DEADLINE)
            elif way == "iteration":
                message = await anext(aiter(pipe))
            else:
                buffer = bytearray(100)
                size = await pipe.recv_into(buffer, exact=way == "recv_into exact", timeout=DEADLINE)
                message = bytes(buffer[:size])
            assert message == b"an event"
            assert await pipe.transact(b"next", timeout=DEADLINE) == b"NEXT"

    run(main(), kind, blocks=True)


LONG = 256 << 20


@pytest.mark.parametrize("kind", LOOPS)
def test_other_tasks_have_their_turns_while_a_long_answer_is_dropped(name: str, kind: str) -> None:
    async def main() -> None:
        with npipe.listen(name, out_buffer_size=LONG + 4096) as listener:
            async with await npipe.aio.connect(name) as pipe:
                server = listener.accept(timeout=DEADLINE)
                with fails(121):
                    await pipe.transact(b"question", timeout=0)
                server.send(bytes(LONG))  # in the buffer as a whole
                server.send(b"an event")
                turns = 0

                async def count() -> None:
                    nonlocal turns
                    while True:
                        await asyncio.sleep(0)
                        turns += 1

                counting = asyncio.create_task(count())
                await pipe.discard_reply(timeout=DEADLINE)
                assert turns > LONG >> 24
                counting.cancel()
                assert await pipe.recv(timeout=DEADLINE) == b"an event"
                server.close()

    run(main(), kind, blocks=True)


def test_over_threads_a_transaction_behind_a_cancelled_read_that_is_cancelled_itself_is_owed_its_answer(
    name: str,
) -> None:
    async def main() -> None:
        with npipe.listen(name, in_buffer_size=0) as listener:
            pipe = await opened(name, threads=True)
            server: Any = listener.accept(timeout=DEADLINE)
            async with pipe:
                for call in (pipe.recv(), pipe.transact(b"question")):  # the read will get the answer
                    before = asleep_here()
                    doing = asyncio.create_task(call)
                    await begun(before)  # the transaction's: it waits for the server to read
                    doing.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await doing
                with fails(996):
                    await pipe.transact(b"next")
                assert await asyncio.to_thread(server.recv, timeout=DEADLINE) == b"question"
                server.send(b"answer")
                assert await pipe.recv(timeout=DEADLINE) == b"answer"
                asking = asyncio.create_task(pipe.transact(b"next"))
                assert await asyncio.to_thread(server.recv, timeout=DEADLINE) == b"next"
                server.send(b"answer to next")
                assert await asking == b"answer to next"
            server.close()

    asyncio.run(main())


def test_over_threads_a_request_behind_a_cancelled_read_that_is_out_of_time_is_withdrawn(name: str) -> None:
    async def main() -> None:
        with npipe.listen(name, in_buffer_size=0) as listener:
            pipe = await opened(name, threads=True)
            server: Any = listener.accept(timeout=DEADLINE)
            async with pipe:
                before = asleep_here()
                reading = asyncio.create_task(pipe.recv())
                await begun(before)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                with pytest.raises(npipe.PipeTimeoutError, match="was withdrawn") as caught:
                    await pipe.transact(b"question", timeout=0.05)
                assert caught.value.sent is False
                assert server.peek().available == 0
                asking = asyncio.create_task(pipe.transact(b"next"))
                assert await asyncio.to_thread(server.recv, timeout=DEADLINE) == b"next"
                server.send(b"answer to next")
                assert await asking == b"answer to next"
            server.close()

    asyncio.run(main())


def test_over_threads_a_transaction_cancelled_when_its_answer_is_there_is_owed_it(name: str) -> None:
    async def main() -> None:
        with npipe.listen(name) as listener:
            pipe = await opened(name, threads=True)
            server: Any = listener.accept(timeout=DEADLINE)
            async with pipe:
                asking = asyncio.create_task(pipe.transact(b"question"))
                await asyncio.sleep(0)
                assert server.recv(timeout=DEADLINE) == b"question"
                server.send(b"answer")
                # The loop has not had its turn since, and learns of both at once.
                until(lambda: not any(one.name == "npipe-worker" for one in threading.enumerate()))
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                with fails(996):
                    await pipe.transact(b"next")
                assert await pipe.recv(timeout=DEADLINE) == b"answer"
            server.close()

    asyncio.run(main())
