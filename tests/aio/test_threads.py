"""npipe.aio over a blocking transport whose calls are made in threads, as another transport of npipe's may be."""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
import pickle
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.transports import default
from npipe.transports.threads import ThreadsTransport
from tests import helpers as h

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from npipe.names import PipeName
    from npipe.transports import AsyncTransport


@pytest.fixture(autouse=True)
def over_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def select(_: PipeName, _remote: object = None) -> AsyncTransport:
        return ThreadsTransport(default())

    for face in ("opening", "listener", "streams"):
        monkeypatch.setattr(f"npipe.aio.{face}.select_async", select)


def on_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(bounded())


def on_trio(main: Callable[[], Awaitable[None]]) -> None:
    import trio

    async def bounded() -> None:
        with trio.fail_after(20):
            await main()

    trio.run(bounded)


LOOPS = [on_asyncio] if sys.platform == "win32" else [on_asyncio, on_trio]


@pytest.mark.parametrize("run", LOOPS)
def test_a_client_a_listener_and_both_kinds_of_pipe(run: Callable[[Callable[[], Any]], None], name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, max_instances=2) as listener:
            await npipe.aio.wait(name, timeout=5)
            for _ in range(2):
                client = await npipe.aio.connect(name)
                async with await listener.accept(5) as server:
                    assert isinstance(client, npipe.aio.MessagePipe)
                    about = f"open, duplex, client's end, server is process {os.getpid()}"
                    assert repr(client) == f"<npipe.aio.MessagePipe r'{name}', {about}>"
                    await client.send(b"question")
                    assert await server.recv() == b"question"
                    await server.send(bytes(60_000))
                    assert await client.recv() == bytes(60_000)
                    await client.close()
                    assert [message async for message in server] == []
            with pytest.raises(npipe.PipeTimeoutError):
                await listener.accept(0.02)
        with pytest.raises(npipe.PipeNotFoundError):
            await npipe.aio.connect(name)
        async with npipe.aio.listen(name, mode="byte") as streams:
            stream = await npipe.aio.connect(name, mode="byte")
            async with await streams.accept() as other:
                await stream.write(b"all of it")
                await stream.close()
                assert await other.read() == b"all of it"

    run(main)


def test_serve_call_and_streams(name: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper):
            assert await npipe.aio.call(name, b"shout", timeout=5) == b"SHOUT"
            reader, writer = await npipe.aio.open_stream(name)
            writer.write(b"stream")
            await writer.drain()
            assert await reader.readexactly(6) == b"STREAM"
            writer.close()
            await writer.wait_closed()

    on_asyncio(main)


def test_accepts_end_with_their_listener_and_no_client_is_lost_by_a_cancellation(name: str) -> None:
    async def main() -> None:
        listener = npipe.aio.listen(name)
        accepting = asyncio.create_task(listener.accept())
        await asyncio.sleep(0.02)
        accepting.cancel()
        await asyncio.wait([accepting])
        async with await npipe.aio.connect(name) as client, await listener.accept(5) as server:
            await client.send(b"x")
            assert await server.recv() == b"x"
            waiting = [asyncio.create_task(listener.accept()) for _ in range(2)]
            await asyncio.sleep(0.02)
            listener.close()
            for task in waiting:
                with pytest.raises(npipe.PipeClosedError):
                    await task

    on_asyncio(main)


def test_a_forgotten_pipe_is_warned_of_and_closed(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            client: Any = await npipe.aio.connect(name)
            async with await listener.accept(5) as server:
                with pytest.warns(ResourceWarning, match="unclosed <npipe.aio.MessagePipe"):
                    del client
                with pytest.raises(npipe.PipeClosedError):
                    await server.recv(timeout=5)

    on_asyncio(main)


@pytest.mark.parametrize("run", LOOPS)
def test_a_client_of_an_instance_that_is_just_being_made_is_not_lost_to_a_pipes_close(
    run: Callable[[Callable[[], Any]], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = h.HeldTransport()
    monkeypatch.setattr("npipe.aio.listener.select_async", lambda _: ThreadsTransport(transport))

    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            other = await npipe.aio.connect(name)
            first = await listener.accept(5)
            instances: Any = listener._instances
            place = instances._listening
            place._maker = maker = h.NotedLock()
            spare, place.end = place.end, None  # as if the next instance could not be made when the client came
            spare.close_handle()
            with pytest.raises(npipe.PipeTimeoutError):
                await listener.accept(0)  # its thread makes an instance
            h.until(transport.created.is_set)
            client = await npipe.aio.connect(name, timeout=5)
            await client.send(b"here")
            blocking_pipe: Any = first
            closing = h.started(blocking_pipe._pipe.close)
            h.until(lambda: not closing.running or maker.wanted.is_set())
            transport.go.set()
            async with await listener.accept(5) as server:
                assert await server.recv(timeout=5) == b"here"
            closing.result()
            await client.close()
            await other.close()

    run(main)


def test_what_is_given_up_between_two_looks_is_no_other_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            pipe: Any = await npipe.aio.connect(name)
            server = await listener.accept(5)
            # As when a part of an answer that is being dropped was read, and 90 bytes of it were left.
            pipe._head, pipe._unfinished, pipe._dropping, pipe._left = b"a part....", True, True, 100
            blocking = SimpleNamespace(more_data=True, _forget_reply=lambda: None)

            def looked(_size: int, **_: bool) -> Any:
                blocking.more_data = False  # its writer gives the rest up, and what is left is of the next message
                return SimpleNamespace(left=8)

            with monkeypatch.context() as patched:
                patched.setattr(pipe, "_pipe", blocking)
                patched.setattr(pipe, "_rest", looked)
                assert not pipe._is_another(await pipe._look_behind())
                assert pipe._is_given_up()
            pipe._head, pipe._unfinished, pipe._dropping = None, False, False
            await server.send(b"an event")
            assert await pipe.recv(timeout=5) == b"an event"
            await server.close()
            await pipe.close()

    on_asyncio(main)


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows does not tell the rest of a message from the next one (docs/windows.md)"
)
@pytest.mark.parametrize("number", [1, 2])
def test_an_answer_whose_rest_is_given_up_right_behind_a_read_takes_no_message_along(name: str, number: int) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, out_buffer_size=0) as listener:
            pipe: Any = await npipe.aio.connect(name)
            server: Any = await listener.accept(5)
            with h.fails(121):
                await pipe.transact(b"question", timeout=0.1)
            given_up = threading.Event()

            def answer() -> None:
                with h.fails(121):
                    server._pipe.send(b"A" * 1_000_000, timeout=0.5)
                given_up.set()
                server._pipe.send(b"an event", timeout=h.DEADLINE)
                server._pipe.send(b"another", timeout=h.DEADLINE)

            real, parts = pipe._pipe.recv_into, itertools.count(1)

            def read(buffer: Any, **more: Any) -> int:
                count: int = real(buffer, **more)
                if next(parts) == number:
                    assert given_up.wait(h.DEADLINE)
                return count

            blocking = pipe._pipe
            pipe._pipe = Reading(blocking, read)
            answering = h.Background(answer)
            await pipe.discard_reply(timeout=h.DEADLINE)
            pipe._pipe = blocking
            assert await pipe.recv(timeout=h.DEADLINE) == b"an event"
            assert await pipe.recv(timeout=h.DEADLINE) == b"another"
            answering.result()
            await server.close()
            await pipe.close()

    on_asyncio(main)


def test_the_event_loop_goes_on_while_it_is_looked_what_is_left_of_an_answer(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            pipe: Any = await npipe.aio.connect(name)
            server: Any = await listener.accept(5)
            with h.fails(121):
                await pipe.transact(b"question", timeout=0.1)
            answering = asyncio.ensure_future(server.send(b"A" * 300_000, timeout=h.DEADLINE))
            blocking, here, looks = pipe._pipe, threading.get_ident(), []

            def look(size: int) -> Any:
                looks.append(threading.get_ident())
                return blocking.peek(size)

            pipe._any = Looking(blocking, look)
            await pipe.discard_reply(timeout=h.DEADLINE)
            assert looks
            assert here not in looks
            pipe._any = blocking
            await answering
            await server.send(b"an event")
            assert await pipe.recv(timeout=h.DEADLINE) == b"an event"
            await server.close()
            await pipe.close()

    on_asyncio(main)


def test_a_request_that_is_cancelled_and_then_not_sent_is_owed_nothing(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            pipe: Any = await npipe.aio.connect(name)
            server: Any = await listener.accept(5)
            reads, begun, fails = threading.Event(), threading.Event(), threading.Event()
            blocking = pipe._pipe

            def recv_into(buffer: Any, **options: Any) -> int:
                reads.set()
                count: int = blocking.recv_into(buffer, **options)
                return count

            pipe._pipe = Reading(blocking, recv_into)
            reading = asyncio.ensure_future(pipe.recv())
            await asyncio.to_thread(reads.wait, h.DEADLINE)  # it goes on in its thread
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

            def send(_content: bytes, **_: Any) -> None:
                begun.set()
                assert fails.wait(h.DEADLINE)
                raise npipe.PipeTimeoutError(121, name, "writing")

            pipe._pipe = Sending(blocking, send)
            asking = asyncio.ensure_future(pipe.transact(b"question"))
            await asyncio.to_thread(begun.wait, h.DEADLINE)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert asking.cancelled()
            assert pipe._owed == 1  # as far as is known
            fails.set()
            await pipe.flush(timeout=h.DEADLINE)
            pipe._pipe = blocking
            assert pipe._owed == 0
            answering = asyncio.ensure_future(pipe.transact(b"another question", timeout=h.DEADLINE))
            assert await server.recv(timeout=h.DEADLINE) == b"another question"
            await server.send(b"an answer")
            assert await answering == b"an answer"
            await server.close()
            await pipe.close()

    on_asyncio(main)


class Looking:
    """A pipe whose looks are made by something else."""

    def __init__(self, pipe: Any, peek: Callable[[int], Any]) -> None:
        self._of, self.peek, self._peek_here = pipe, peek, peek

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


class Sending:
    """A pipe whose messages are sent by something else."""

    def __init__(self, pipe: Any, send: Callable[..., None]) -> None:
        self._of, self.send = pipe, send

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


class Reading:
    """A pipe whose reads are made by something else."""

    def __init__(self, pipe: Any, recv_into: Callable[..., int]) -> None:
        self._of, self.recv_into = pipe, recv_into

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


def test_a_close_does_not_wait_for_an_instance_that_is_being_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replacing, go = threading.Event(), threading.Event()

    async def main() -> None:
        listener = npipe.aio.listen(name, max_instances=1)
        instances: Any = listener._instances
        ends: Any = type(instances._listening.end)
        replace = ends.replace

        def held_replace(end: Any, discard: bool = False) -> Any:
            replacing.set()
            assert go.wait(h.DEADLINE)
            return replace(end, discard)

        monkeypatch.setattr(ends, "replace", held_replace)
        async with await npipe.aio.connect(name):
            server = await listener.accept(5)
            closing = asyncio.create_task(server.close())
            while not replacing.is_set():
                await asyncio.sleep(0)
            listener.close()
            assert not closing.done()
            go.set()
            await closing
            with pytest.raises(npipe.PipeNotFoundError):  # what was made is closed
                await npipe.aio.connect(name, timeout=0)

    on_asyncio(main)


class StopError(Exception):
    pass


async def left(pipe: Any) -> bytes:
    """What a view of the next message has that leaves it there."""
    with pytest.raises(StopError):
        async with pipe.recv_view() as view:
            content = bytes(view)
            raise StopError
    return content


def test_a_viewed_message_stays_until_the_end_of_its_block(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            client: Any = await npipe.aio.connect(name)
            server: Any = await listener.accept(5)
            async with client, server:
                for size in (10, 60_000, 300_000):  # the rest of one
                    data = bytes(range(250)) * (size // 250) + bytes(size % 250)
                    sending = asyncio.create_task(client.send(data))
                    assert await server.recv_into(bytearray(4)) == 4
                    for _ in range(2):
                        assert await left(server) == data[4:]
                        assert server.more_data
                        assert server.peek(3).data == data[4:7]
                    async with server.recv_view() as view:
                        assert bytes(view) == data[4:]
                        assert not server.more_data
                        assert server.peek(3) == npipe.Peek(b"", 0, 0)
                    assert not server.more_data
                    await sending
                for end in (client.recv, lambda: client.recv_into(bytearray(6)), lambda: at_its_end(client)):
                    with h.fails(121):  # an answer
                        await client.transact(b"ask", timeout=0.01)
                    assert await server.recv() == b"ask"
                    await server.send(b"answer")
                    for _ in range(2):
                        assert await left(client) == b"answer"
                        with h.fails(996):
                            await client.transact(b"again")
                    await end()
                    answer = asyncio.create_task(client.transact(b"again"))
                    assert await server.recv() == b"again"
                    await server.send(b"done")
                    assert await answer == b"done"

    async def at_its_end(pipe: Any) -> None:
        async with pipe.recv_view():
            with h.fails(170):
                await pipe.transact(b"again")

    on_asyncio(main)


def test_blocks_that_are_dropped_left_twice_or_of_several_tasks(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            client: Any = await npipe.aio.connect(name)
            server: Any = await listener.accept(5)
            async with client, server:
                await client.send(b"message")
                view = await server.recv_view().__aenter__()
                with h.fails(170):
                    await server.recv()
                assert bytes(view) == b"message"
                del view
                assert await server.recv() == b"message"  # that one has ended with what it gave
                view = await client.reserve(3).__aenter__()
                with h.fails(170):
                    await client.send(b"own")
                del view
                reservation = client.reserve(1)

                async def write() -> None:
                    async with client.reserve(1) as view:
                        with h.fails(170):
                            await client.send(b"own")
                        view[:] = b"2"

                (await reservation.__aenter__())[:] = b"1"
                await asyncio.create_task(write())
                with h.fails(170):
                    await client.send(b"own")
                for _ in range(2):
                    await reservation.__aexit__(None, None, None)
                await client.send(b"own")
                assert [await server.recv() for _ in range(3)] == [b"2", b"1", b"own"]
                await client.send(b"first")
                await client.send(b"second")
                viewed = server.recv_view()
                await viewed.__aenter__()
                for _ in range(2):
                    await viewed.__aexit__(None, None, None)
                assert await server.recv() == b"second"
                with pytest.raises(npipe.PipeTimeoutError):
                    await server.recv(timeout=0)

    on_asyncio(main)


def test_what_a_block_gives_is_the_blocks(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            client: Any = await npipe.aio.connect(name)
            server: Any = await listener.accept(5)
            async with client, server:
                reservation, viewed = client.reserve(4), server.recv_view()
                assert reservation
                assert reservation != client.reserve(4)
                assert len({reservation, viewed}) == 2
                assert (await reservation.__aenter__()).obj is reservation
                await reservation.__aexit__(None, None, None)
                async with viewed as view:
                    assert view.obj is viewed
                    assert not viewed.in_place
                    assert bytes(view) == bytes(4)
                for used in (reservation, viewed):
                    with pytest.raises(RuntimeError, match="one block"):
                        await used.__aenter__()
                    for of_it in (copy.copy, copy.deepcopy, pickle.dumps):
                        with pytest.raises(TypeError, match="cannot pickle or copy"):
                            of_it(used)
                for size in (0, 1, 60_000):  # what looks at it afterwards
                    with h.fails(1224):
                        async with client.reserve(size) as view:
                            written = view[:]
                    await client.send(b"m" * size)
                    with h.fails(1224):
                        async with server.recv_view() as view:
                            looked_at = view[:]
                    assert bytes(looked_at) == b"m" * size
                    assert bytes(written) == bytes(size)
                with pytest.raises(npipe.PipeTimeoutError):
                    await server.recv(timeout=0)

    on_asyncio(main)


def test_a_view_without_memory_leaves_the_message_and_the_turn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(*_: Any, **__: Any) -> Any:
        raise MemoryError

    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            client: Any = await npipe.aio.connect(name)
            server: Any = await listener.accept(5)
            async with client, server:
                await client.send(b"message")
                viewed, reservation = server.recv_view(), client.reserve(5)
                with monkeypatch.context() as patch:
                    for block in (viewed, reservation):
                        patch.setattr(type(block), "_lend", without_memory)
                        with pytest.raises(MemoryError):
                            await block.__aenter__()
                await client.send(b"second")
                assert await left(server) == b"message"
                async with viewed as view, reservation as room:
                    assert bytes(view) == b"message"
                    room[:] = b"third"
                assert [await server.recv(), await server.recv()] == [b"second", b"third"]

    on_asyncio(main)
