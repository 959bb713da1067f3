"""PIPE_NOWAIT under the faces that wait (SEMANTICS §6.2): a write without room is told, never taken for one made."""

from __future__ import annotations

import asyncio
import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
import npipe.anyio
from tests import helpers as h
from tests.aio.helpers import LOOPS, pair, run, turns
from tests.helpers import blocked_in, fails

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Ends

KINDS: list[Callable[[bytes], Any]] = [bytes, bytearray, memoryview]
SIZES: dict[str, Any] = {"in_buffer_size": 10, "out_buffer_size": 10}


@pytest.fixture(params=sorted(LOOPS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def do_not_wait(pipe: Any, *, message: bool) -> None:
    """SetNamedPipeHandleState with PIPE_NOWAIT, on a pipe of the sync or the async face."""
    mode = h.NOWAIT | (h.READ_MESSAGE if message else 0)
    if sys.platform == "win32":
        import win32pipe

        win32pipe.SetNamedPipeHandleState(pipe._file.handle, mode, None, None)
    else:
        pipe._handle.set_state(mode)


@pytest.mark.parametrize("of", KINDS)
def test_a_message_that_does_not_fit_is_121_and_not_sent(ends: Callable[..., Ends], of: Callable[[bytes], Any]) -> None:
    pair = ends(**SIZES)
    do_not_wait(pair.server, message=True)
    pair.server.send(of(b"first"))
    for timeout in (None, 0, 5):
        with fails(121):
            pair.server.send(of(b"second"), timeout=timeout)
    pair.server.send(of(b"third"))
    assert [pair.client.recv(timeout=5) for _ in range(2)] == [b"first", b"third"]
    pair.server.send(of(b"second"))
    assert pair.client.recv(timeout=5) == b"second"
    with fails(121):
        pair.server.send(of(b"more than 10"))
    with fails(121):
        pair.client.recv(timeout=0)


@pytest.mark.parametrize("of", KINDS)
def test_a_stream_says_how_many_bytes_were_written(ends: Callable[..., Ends], of: Callable[[bytes], Any]) -> None:
    pair = ends("byte", **SIZES)
    do_not_wait(pair.server, message=False)
    assert [pair.server.write(of(b"abcdef")), pair.server.write(of(b"ghijkl")), pair.server.write(of(b"ghij"))] == [
        6,
        0,
        4,
    ]
    assert pair.client.read(100, timeout=5) == b"abcdefghij"


@pytest.mark.skipif(sys.platform == "win32", reason="whether a thread waits for data is to be seen in /proc")
def test_a_stream_says_what_was_given_to_those_who_wait(ends: Callable[..., Ends]) -> None:
    pair = ends("byte", **SIZES)
    do_not_wait(pair.server, message=False)
    reading = blocked_in(pair.client.read, 4)
    assert pair.server.write(b"more than fourteen") == 4
    assert reading.result() == b"more"


def test_files_say_that_they_would_block(ends: Callable[..., Ends]) -> None:
    pair = ends("byte", **SIZES)
    do_not_wait(pair.server, message=False)
    raw = pair.server.makefile("wb", buffering=0)
    assert isinstance(raw, io.RawIOBase)
    assert raw.write(b"raw 5") == 5
    assert raw.write(b"raw six") is None
    buffered = pair.server.makefile("wb")
    buffered.write(b"buffered")
    with pytest.raises(BlockingIOError):
        buffered.flush()
    assert pair.client.read(100, timeout=5) == b"raw 5"
    buffered.flush()
    assert pair.client.read(100, timeout=5) == b"buffered"
    buffered.close()


@pytest.mark.parametrize("of", KINDS)
def test_an_async_message_that_does_not_fit_is_121(kind: str, name: str, of: Callable[[bytes], Any]) -> None:
    async def main() -> None:
        async with pair(name, **SIZES) as (server, client):
            do_not_wait(server, message=True)
            await server.send(of(b"first"))
            for _ in range(200):  # also when the loop is due to have a turn
                with fails(121):
                    await server.send(of(b"second"))
            await server.send(of(b"third"))
            assert [await client.recv(), await client.recv()] == [b"first", b"third"]
            await server.send(of(b"second"))
            assert await client.recv() == b"second"
            with fails(121):
                await client.recv(timeout=0)

    run(main(), kind)


@pytest.mark.parametrize("of", KINDS)
def test_an_async_stream_says_how_many_bytes_were_written(kind: str, name: str, of: Callable[[bytes], Any]) -> None:
    async def main() -> None:
        async with pair(name, mode="byte", **SIZES) as (server, client):
            do_not_wait(server, message=False)
            for _ in range(100):
                found = [await server.write(of(data)) for data in (b"abcdef", b"ghijkl", b"ghij")]
                assert found == [6, 0, 4]
                assert await client.read(100) == b"abcdefghij"
            reading = asyncio.create_task(client.read(4))
            await turns()
            assert await server.write(of(b"more than fourteen")) == 4
            assert await reading == b"more"
            assert client.peek().available == 0

    run(main(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="there an answer is a read, which NOWAIT ends with 232")
def test_an_async_transaction_waits_whatever_the_mode(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, in_buffer_size=100_000, out_buffer_size=10) as (server, client):
            do_not_wait(client, message=True)
            asking = asyncio.create_task(client.transact(b"question"))
            assert await server.recv() == b"question"
            await server.send(b"answer")
            assert await asking == b"answer"

    run(main(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="there a request is a write, and NOWAIT's is refused")
def test_the_request_of_an_async_transaction_needs_no_room(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, **SIZES) as (server, client):
            do_not_wait(client, message=True)
            asking = asyncio.create_task(client.transact(b"q" * 100_000))
            assert await server.recv() == b"q" * 100_000
            await server.send(b"answer")
            assert await asking == b"answer"

    run(main(), kind)


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere the request needs no room")
def test_a_request_that_has_no_room_is_not_waited_for(kind: str, name: str) -> None:
    async def main() -> None:
        async with pair(name, **SIZES) as (server, client):
            do_not_wait(client, message=True)
            with fails(121):
                await client.transact(b"q" * 100)
            assert server.peek().available == 0

    run(main(), kind)


def test_a_stream_of_anyio_has_sent_all_or_says_not(name: str) -> None:
    async def main() -> None:
        async with pair(name, mode="byte", **SIZES) as (server, client):
            do_not_wait(server, message=False)
            stream = npipe.anyio.PipeByteStream(server)
            await stream.send(b"abcdef")
            with fails(121):
                await stream.send(b"ghijkl")
            assert await client.read(100) == b"abcdef"

    run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="the Proactor's transports are asyncio's own")
def test_a_transport_that_cannot_write_all_is_lost(name: str) -> None:
    class Told(asyncio.Protocol):
        def __init__(self) -> None:
            self.error: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def connection_lost(self, error: Exception | None) -> None:
            self.error.set_result(error)

    async def main() -> None:
        from npipe.aio.transports import PipeTransport

        for data in (b"x" * 11, bytearray(b"y" * 11)):
            async with pair(name, mode="byte", **SIZES) as (server, client):
                do_not_wait(server, message=False)
                told = Told()
                transport = PipeTransport(asyncio.get_running_loop(), server, told, {})
                transport.write(data)
                error = await told.error
                assert isinstance(error, npipe.PipeTimeoutError)
                with fails(109):
                    await client.read(1)

    run(main())
