"""npipe.aio: pipes on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import LOOPS, pair, run, turns
from tests.helpers import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

SIZES = (0, 1, 127, 128, 5000, 65535, 65536, 65537, 200_000, 3_000_000)


@pytest.fixture(params=sorted(LOOPS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


ECHO = """
    import asyncio, sys
    import npipe.aio

    async def main():
        async with npipe.aio.listen(sys.argv[1]) as listener:
            print("listening", flush=True)
            async with await listener.accept() as pipe:
                async for message in pipe:
                    await pipe.send(message)

    asyncio.run(main())
"""


def test_messages_of_all_sizes_go_to_another_process_and_back(
    kind: str, name: str, child: Callable[..., Child]
) -> None:
    async def main() -> None:
        async with await npipe.aio.connect(name) as pipe:
            for size in SIZES:
                await pipe.send(bytes(size))
                assert await pipe.recv() == bytes(size)
            for size in SIZES:
                assert await pipe.transact(b"x" * size) == b"x" * size

    server = child(ECHO, name)
    assert server.line() == "listening"
    run(main(), kind)
    assert server.wait() == 0


def test_both_ends_may_be_on_one_loop(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            for size in SIZES:
                sending = asyncio.create_task(client.send(b"y" * size))
                assert await server.recv() == b"y" * size
                await sending

    run(main(), kind)


@pytest.mark.parametrize("then", ["receives", "does something else", "is cancelled", "leaves", "hears of the end"])
def test_a_loop_has_nothing_to_do_when_the_message_has_been_received(kind: str, name: str, then: str) -> None:
    # The byte that told of a message may be taken later than the message: by the next call, or in the loop's next turn.
    async def main() -> None:
        async with pair(name) as (server, client), pair(name + "-other") as (other_server, other_client):
            other = asyncio.create_task(other_server.recv())
            receiving = asyncio.create_task(server.recv())
            await turns()
            await client.send(b"one")
            if then == "is cancelled":
                while not receiving.done():
                    receiving.cancel()
                    await asyncio.sleep(0)
            assert then == "is cancelled" or await receiving == b"one"
            if then == "receives":
                receiving = asyncio.create_task(server.recv())
            elif then == "leaves":
                await server.close()
            elif then == "hears of the end":
                await client.close()
            await turns()
            used = time.process_time()
            await asyncio.sleep(0.5)
            used = time.process_time() - used
            assert used < 0.25, "the loop is kept busy"
            # Nothing that the one pipe has left undone keeps another from being told.
            await other_client.send(b"two")
            assert await other == b"two"
            if then == "receives":
                await client.send(b"three")
                assert await receiving == b"three"
            elif then == "is cancelled":
                await client.send(b"three")
                messages = [await server.recv()] if receiving.cancelled() else [receiving.result()]
                messages.append(await server.recv())
                assert messages == [b"one", b"three"]
            elif then == "hears of the end":
                with pytest.raises(npipe.PipeClosedError):
                    await server.recv()

    run(main(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="the engine's calls: the Proactor loop's are asyncio's own futures")
def test_a_wake_that_came_before_the_wait_counts(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            receiving = asyncio.create_task(server.recv())
            await turns()
            await client.send(b"one")
            server._waker.on_readable()  # which leaves the byte for later
            pause = server._next_wake(None)
            with pytest.raises(StopIteration) as result:
                pause.send(None)  # takes it, so nothing else will wake it
            assert result.value.value is True
            assert await receiving == b"one"

    run(main(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="the engine's calls: the Proactor loop's are asyncio's own futures")
def test_a_call_that_is_dropped_while_it_waits_is_over(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=10) as (server, client):
            await client.send(b"unread")
            makes: list[Callable[[], Any]] = [
                lambda: client.send(bytes(20)),
                client.flush,
                client.recv,
                lambda: client.recv_into(bytearray(5)),
                lambda: client._next_wake(None),
            ]
            for make in makes:
                call = make()
                call.send(None)
                del call
            await client.send(b"on")
            assert [await server.recv(), await server.recv()] == [b"unread", b"on"]
            await server.send(b"back")
            assert await client.recv() == b"back"

    run(main(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="the engine's promise of pauses")
@pytest.mark.parametrize("into", [False, True])
def test_a_writer_is_told_when_the_reader_stops_after_letting_others_run(kind: str, name: str, into: bool) -> None:
    # The last of 129 reads in a row lets the loop have a turn first.
    async def main() -> None:
        async with pair(name, in_buffer_size=129) as (server, client):
            for _ in range(129):
                await client.send(b"x")
            writing = asyncio.create_task(client.send(b"y" * 129))
            await turns()
            assert not writing.done()
            for _ in range(129):
                assert await (server.recv_into(bytearray(1)) if into else server.recv())
            await writing

    run(main(), kind)


DROPPED = """
    import asyncio, gc, sys, npipe.aio

    async def main(number):
        async with npipe.aio.listen(f"{sys.argv[1]}-{number}", in_buffer_size=10) as listener:
            client = await npipe.aio.connect(listener.name)
            server = await listener.accept()
        tasks = [asyncio.ensure_future(call) for call in (%s)]
        await asyncio.sleep(0)
        return tasks, client, server

    def new_loop():
        if sys.argv[2] == "uvloop":
            import uvloop
            return uvloop.new_event_loop()
        return asyncio.new_event_loop()

    for number in range(5):
        loop = new_loop()
        loop.set_exception_handler(lambda loop, context: None)
        loop.run_until_complete(main(number))
        loop.close()
        del loop
        gc.collect()
    print("fine", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the engine's calls: the Proactor loop's are asyncio's own futures")
@pytest.mark.parametrize(
    "calls",
    [
        "server.recv(), client.recv()",
        "client.send(bytes(1000)), server.recv()",
        "client.send(bytes(20)), client.flush()",
    ],
)
def test_a_loop_that_is_dropped_with_calls_that_wait_leaves_no_harm(
    kind: str, name: str, child: Callable[..., Child], calls: str
) -> None:
    process = child(DROPPED % calls, name, kind)
    assert process.line() == "fine"
    assert process.wait() == 0


def test_a_message_that_is_there_is_received_without_the_selector(name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            coroutine = client.send(b"one")
            with pytest.raises(StopIteration):
                coroutine.send(None)
            coroutine = server.recv()
            with pytest.raises(StopIteration) as stop:
                coroutine.send(None)
            assert stop.value.value == b"one"

    run(main())


def test_a_task_that_always_finds_a_message_lets_others_run(kind: str, name: str) -> None:
    async def main() -> None:
        count = 3000
        counted = 0

        async def other() -> None:
            nonlocal counted
            while True:
                counted += 1
                await asyncio.sleep(0)

        async with pair(name, in_buffer_size=1 << 20) as (server, client):
            for _ in range(count):
                await client.send(b"x")
            counting = asyncio.create_task(other())
            await turns()
            counted = 0
            for _ in range(count):
                await server.recv()
            assert counted >= count // 256
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)

    run(main(), kind)


def test_the_quota_holds_a_writer_back_until_the_reader_has_read(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=1000) as (server, client):
            await client.send(b"a" * 1000)
            sending = asyncio.create_task(client.send(b"b" * 600))
            await turns(10)
            assert not sending.done()
            assert await server.recv() == b"a" * 1000
            await sending
            assert await server.recv() == b"b" * 600

    run(main(), kind)


def test_writes_of_several_tasks_go_in_whole_and_in_order(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=5000) as (server, client):
            tasks = [asyncio.create_task(client.send(bytes([i]) * (100_000 + i))) for i in range(20)]
            for i in range(20):
                assert await server.recv() == bytes([i]) * (100_000 + i)
            await asyncio.gather(*tasks)

    run(main(), kind)


def test_writes_of_several_tasks_into_a_byte_pipe_are_not_mixed(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, mode="byte") as (server, client):
            tasks = [asyncio.create_task(client.write(bytes([i]) * 100_000)) for i in range(10)]
            received = bytearray()
            while len(received) < 1_000_000:
                received += await server.read(50_000)
            assert received == b"".join(bytes([i]) * 100_000 for i in range(10))
            await asyncio.gather(*tasks)

    run(main(), kind)


def test_two_tasks_that_receive_on_one_pipe_are_an_error(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            first = asyncio.create_task(server.recv())
            await turns()
            with pytest.raises(npipe.PipeStateError, match="another task is reading") as caught:
                await server.recv()
            assert caught.value.winerror == 170
            with pytest.raises(npipe.PipeStateError):
                await server.recv_into(bytearray(4))
            await client.send(b"for the first")
            with pytest.raises(npipe.PipeStateError):  # also when the message is there, but the first is not awake yet
                await server.recv()
            assert await first == b"for the first"

    run(main(), kind)


def test_the_end_of_the_peer_ends_an_iteration_after_what_it_wrote(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            await client.send(b"1")
            await client.send(b"2")
            await client.close()
            assert [message async for message in server] == [b"1", b"2"]
            with pytest.raises(npipe.PipeClosedError) as caught:
                await server.send(b"3")
            assert caught.value.winerror == 232
            with pytest.raises(npipe.PipeClosedError) as caught:
                await client.recv()
            assert caught.value.winerror == 6

    run(main(), kind)


def test_a_receiver_that_waits_hears_of_the_peers_end(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            receiving = asyncio.create_task(server.recv())
            await turns()
            await client.close()
            with pytest.raises(npipe.PipeClosedError) as caught:
                await receiving
            assert caught.value.winerror == 109

    run(main(), kind)


def test_a_killed_peer_is_noticed_by_reader_and_writer(kind: str, name: str, child: Callable[..., Child]) -> None:
    server = child(
        """
        import npipe, sys
        with npipe.listen(sys.argv[1], in_buffer_size=100) as listener:
            print("listening", flush=True)
            pipe = listener.accept()
            listener.accept()
        """,
        name,
    )
    assert server.line() == "listening"

    async def main() -> None:
        async with await npipe.aio.connect(name) as pipe:
            receiving = asyncio.create_task(pipe.recv())
            sending = asyncio.create_task(pipe.send(b"x" * 1000))
            await turns()
            server.process.kill()
            for task in receiving, sending:
                with pytest.raises(npipe.PipeClosedError) as caught:
                    await task
                assert caught.value.winerror == 109

    run(main(), kind)


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_closing_ends_what_other_tasks_wait_for(kind: str, name: str, ending: str) -> None:
    async def main() -> None:
        async with pair(name, out_buffer_size=100) as (server, _):
            receiving = asyncio.create_task(server.recv())
            sending = asyncio.create_task(server.send(b"x" * 300_000))
            await turns()
            if ending == "close":
                await server.close(timeout=0)
            else:
                server.abort()
            for task in receiving, sending:
                with pytest.raises(npipe.PipeClosedError) as caught:
                    await task
                assert caught.value.winerror == 109

    run(main(), kind)


def test_close_waits_until_what_was_written_stands_in_the_pipe(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, out_buffer_size=100) as (server, client):
            sending = asyncio.create_task(server.send(b"x" * 300_000))
            await turns()
            closing = asyncio.create_task(server.close())
            assert await client.recv() == b"x" * 300_000
            await closing
            await sending

    run(main(), kind)


def test_flush_waits_for_the_reader(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            await client.flush()
            await client.send(b"x")
            with pytest.raises(npipe.PipeTimeoutError):
                await client.flush(timeout=0.01)
            flushing = asyncio.create_task(client.flush())
            await turns(5)
            assert not flushing.done()
            await server.recv()
            await flushing

    run(main(), kind)


def test_a_long_message_is_read_in_parts(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            await client.send(b"abcdef")
            buffer = bytearray(4)
            assert await server.recv_into(buffer) == 4
            assert server.more_data
            assert await server.recv() == b"ef"
            assert not server.more_data
            receiving = asyncio.create_task(server.recv_into(buffer))
            await turns()
            await client.send(b"wxyz!")
            assert await receiving == 4
            assert bytes(buffer) == b"wxyz"
            assert await server.recv() == b"!"

    run(main(), kind)


def test_a_message_above_the_limit_stays(name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            server.max_message_size = 10
            await client.send(b"x" * 11)
            with pytest.raises(npipe.PipeMessageTooLargeError) as caught:
                await server.recv()
            assert caught.value.winerror == 234
            server.max_message_size = 11
            assert await server.recv() == b"x" * 11

    run(main())


def test_streams_read_what_is_there_and_all_up_to_the_end(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, mode="byte") as (server, client):
            assert await client.write(b"hello") == 5
            assert await server.read(3) == b"hel"
            assert await server.read(100) == b"lo"
            buffer = bytearray(10)
            reading = asyncio.create_task(server.readinto(buffer))
            await turns()
            await client.write(b"again")
            assert await reading == 5
            everything = asyncio.create_task(server.read())
            await client.write(bytearray(300_000))
            await client.close()
            assert await everything == bytes(300_000)
            with pytest.raises(npipe.PipeClosedError):
                await server.read(1)

    run(main(), kind)


def test_transactions_check_as_win32_does(name: str) -> None:
    async def main() -> None:
        async with pair(name) as (server, client):
            await server.send(b"unread")
            with pytest.raises(npipe.PipeBusyError):
                await client.transact(b"x")
            await client.recv()
            asking = asyncio.create_task(client.transact(b"q" * 200_000))
            assert await server.recv() == b"q" * 200_000
            await server.send(b"a")
            assert await asking == b"a"
            with pytest.raises(npipe.PipeTimeoutError):
                await client.transact(b"r", timeout=0.01)
            assert await server.recv() == b"r"  # it stays sent

    run(main())


def test_what_a_pipe_tells_of_itself(name: str) -> None:
    async def main() -> None:
        import os

        async with pair(name, in_buffer_size=123, max_instances=7) as (server, client):
            assert server.peer.pid == client.peer.pid == os.getpid()
            assert server.info.is_server
            assert not client.info.is_server
            assert client.info.in_buffer_size == 123
            assert client.info.max_instances == 7
            await client.send(b"abc")
            assert server.peek(2) == (b"ab", 3, 1)
            assert "open" in repr(client)
            await client.close()
            await client.close()
            assert client.closed
            with pytest.raises(npipe.PipeClosedError):
                _ = client.info

    run(main())


def test_a_read_that_waits_counts_as_room_for_a_quota_of_zero(name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=0) as (server, client):
            receiving = asyncio.create_task(server.recv())
            await turns()
            coroutine = client.send(b"straight to the reader")
            with pytest.raises(StopIteration):  # complete at once
                coroutine.send(None)
            assert await receiving == b"straight to the reader"

    run(main())


def test_busy_waiting_finds_a_message_without_the_selector(name: str, child: Callable[..., Child]) -> None:
    async def main() -> None:
        async with await npipe.aio.connect(name) as pipe:
            pipe.busy_wait = 0.0001
            for _ in range(100):
                await pipe.send(b"x")
                assert await pipe.recv() == b"x"

    server = child(ECHO, name)
    assert server.line() == "listening"
    run(main())


def test_the_sync_face_talks_to_the_async_one_in_one_thread(name: str) -> None:
    """The engine connects while the loop is busy, so a blocking connect to a server of one's own loop works."""

    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            with npipe.connect(name, timeout=5) as client:
                client.send(b"from a blocking client")
                async with await listener.accept() as server:
                    assert await server.recv() == b"from a blocking client"
                    await server.send(b"yes")
                assert client.recv(timeout=5) == b"yes"

    run(main())


def test_an_unclosed_pipe_warns_and_is_closed(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            client: Any = await npipe.aio.connect(name)
            server = await listener.accept()
            clients = [client]
            del client
            with pytest.warns(ResourceWarning, match="unclosed"):
                clients.clear()
            with pytest.raises(npipe.PipeClosedError):
                await server.recv()
            await server.close()

    run(main())


def test_no_descriptor_is_left(kind: str, name: str) -> None:
    async def main() -> None:
        for _ in range(20):
            async with pair(name) as (server, client):
                await client.send(b"x")
                await server.recv()

    run(main(), kind)
    before = descriptors()
    run(main(), kind)
    assert descriptors() == before


def test_many_ready_pipes_are_read_in_turns(kind: str, name: str) -> None:
    pipes, messages = 20, 600

    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            ends = []
            for _ in range(pipes):
                client = await npipe.aio.connect(name)
                ends.append((client, await listener.accept()))
                for _ in range(messages):
                    await client.send(b"x")
            received = [0] * pipes
            first_through: list[int] = []

            async def read(number: int) -> None:
                for _ in range(messages):
                    await ends[number][1].recv()
                    received[number] += 1
                if not first_through:
                    first_through.extend(received)

            await asyncio.gather(*map(read, range(pipes)))
            assert min(first_through) >= messages - 2 * 128  # nobody is more than two turns behind
            for pair_of_ends in ends:
                for end in pair_of_ends:
                    await end.close()

    run(main(), kind)


def test_a_writer_at_the_quota_is_woken_though_the_reader_stops_in_the_middle(kind: str, name: str) -> None:
    """The wake of a writer may wait while the reader goes on; when it does not, the writer is told."""

    async def main() -> None:
        async with pair(name, in_buffer_size=1000) as (server, client):
            for _ in range(1000 // 10):
                await client.send(b"x" * 10)
            sending = asyncio.create_task(client.send(b"y" * 10))
            await turns()
            assert not sending.done()
            await server.recv()  # room for one, and much is left to read
            await asyncio.wait_for(sending, 5)
            sending = asyncio.create_task(client.send(b"z" * 500))
            await turns()
            for number in range(49):
                await server.recv()
                if number % 7 == 0:
                    await turns()
                assert not sending.done()
            await server.recv()
            await asyncio.wait_for(sending, 5)

    run(main(), kind)


def test_a_writer_is_woken_when_the_reader_that_lets_others_run_does_not_go_on(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=10_000) as (server, client):
            for _ in range(1000):
                await client.send(b"x" * 10)
            sending = asyncio.create_task(client.send(b"y"))
            await turns()
            assert not sending.done()
            while server._handle.turns_left > 0:
                await server.recv()
            receiving = asyncio.create_task(server.recv())
            await turns(1)
            assert not receiving.done()  # it goes on in the next turn
            receiving.cancel()
            await asyncio.wait_for(sending, 5)
            assert len([await server.recv() for _ in range(500)]) == 500

    run(main(), kind)


def test_a_writer_of_another_process_is_woken_by_a_reader_that_pauses(
    kind: str, name: str, child: Callable[..., Child]
) -> None:
    writer = child(
        """
        import npipe, sys
        with npipe.connect(sys.argv[1]) as pipe:
            for number in range(101):
                pipe.send(b"x" * 10)
            print("through", flush=True)
            input()
        """,
        name,
    )

    async def main() -> None:
        async with npipe.aio.listen(name, in_buffer_size=1000) as listener, await listener.accept() as pipe:
            while pipe.peek().available < 1010:
                await asyncio.sleep(0.001)  # until it waits
            await pipe.recv()
            assert await asyncio.to_thread(writer.line) == "through"

    run(main(), kind, blocks=True)
