"""A read that is pending has what comes at once: whatever ends the connection behind it takes nothing of it back."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
import npipe.anyio
from tests.aio.helpers import LOOPS, pair, run, turns
from tests.helpers import blocked, code_of, fails

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.conftest import Ends

DATA = bytes(range(256)) * 20
ENDINGS = ["the server disconnects", "the client aborts", "the peer closes", "it is closed here", "it is aborted here"]
NO_LINK_LEFT = "it is closed here", "it is aborted here"
ROUNDS = 50


@pytest.fixture(params=sorted(LOOPS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def _readinto(pipe: Any) -> bytes:
    buffer = bytearray(len(DATA) + 1)
    count = await pipe.readinto(buffer)
    return bytes(buffer[:count])


async def _recv_into(pipe: Any) -> bytes:
    buffer = bytearray(len(DATA))
    count = await pipe.recv_into(buffer)
    return bytes(buffer[:count])


async def _recv_into_exact(pipe: Any) -> bytes:
    buffer = bytearray(len(DATA))
    count = await pipe.recv_into(buffer, exact=True)
    return bytes(buffer[:count])


async def _next(pipe: Any) -> bytes:
    async for data in pipe:
        return bytes(data)
    return b""


READS: dict[str, tuple[str, Callable[[Any], Awaitable[bytes]]]] = {
    "recv": ("message", lambda pipe: pipe.recv()),
    "recv_into": ("message", _recv_into),
    "recv_into exact": ("message", _recv_into_exact),
    "messages": ("message", _next),
    "read": ("byte", lambda pipe: pipe.read(len(DATA) + 1)),
    "readinto": ("byte", _readinto),
    "pieces": ("byte", _next),
}


def end(reader: Any, writer: Any, ending: str) -> None:
    """What ends the connection, at once: without a turn of the event loop."""
    if ending == "it is closed here":
        reader._end(discard=False)
    elif ending == "it is aborted here":
        reader._end(discard=True)
    elif ending == "the peer closes":
        writer._end(discard=False)
    else:
        writer._end(discard=True)


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel has it so; there a close needs turns")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("how", sorted(READS))
def test_a_read_of_an_event_loop_has_what_came_while_it_was_pending(
    kind: str, name: str, how: str, ending: str
) -> None:
    mode, read = READS[how]

    async def talk() -> None:
        async with pair(name, mode=mode) as (server, client):
            reader, writer = (server, client) if ending == "the client aborts" else (client, server)
            task = asyncio.ensure_future(read(reader))
            await turns()
            await writer.send(DATA) if mode == "message" else await writer.write(DATA)
            end(reader, writer, ending)
            assert await task == DATA
            with pytest.raises(npipe.PipeClosedError):
                await (reader.recv() if mode == "message" else reader.read(1))

    run(talk(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel has it so; there a close needs turns")
def test_a_read_of_all_keeps_what_came_while_it_was_pending(kind: str, name: str) -> None:
    async def talk() -> None:
        async with pair(name, mode="byte") as (server, client):
            task = asyncio.ensure_future(client.read())
            await turns()
            await server.write(DATA)
            end(client, server, "the server disconnects")
            with fails(233):
                await task
            assert await client.read(len(DATA) + 1) == DATA

    run(talk(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel has it so; there a close needs turns")
def test_a_transaction_has_the_answer_that_came_before_the_end(kind: str, name: str) -> None:
    async def talk() -> None:
        async with pair(name) as (server, client):
            task = asyncio.ensure_future(client.transact(b"?"))
            assert await server.recv() == b"?"
            await server.send(DATA)
            server.abort()
            assert await task == DATA

    run(talk(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel has it so; there a close needs turns")
def test_asyncios_streams_have_what_came_before_the_end(kind: str, name: str) -> None:
    async def talk() -> None:
        async with npipe.aio.listen(name, mode="byte") as listener:
            reader, writer = await npipe.aio.open_stream(name)
            async with await listener.accept() as server:
                await turns()
                await server.write(DATA)
                server.abort()
                writer.write(b"too late")  # which fails before the loop has had a turn to read
                assert await reader.readexactly(len(DATA)) == DATA
                with fails(233):
                    await reader.read()
            writer.transport.abort()
            await turns()

    run(talk(), kind)


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel has it so; there a close needs turns")
def test_anyios_streams_have_what_came_before_the_end(name: str) -> None:
    async def talk() -> None:
        async with npipe.aio.listen(name, mode="byte") as listener:
            stream = await npipe.anyio.connect(name, mode="byte")
            async with stream, await listener.accept() as server:
                task = asyncio.ensure_future(stream.receive(len(DATA) + 1))
                await turns()
                await server.write(DATA)
                server.abort()
                assert await task == DATA

    run(talk())


def _sync_read(pipe: Any, how: str) -> bytes:
    if how == "recv":
        return bytes(pipe.recv())
    if how == "iteration":
        return bytes(next(iter(pipe)))
    if how == "file":
        with pipe.makefile("rb", buffering=0) as file:
            return bytes(file.read(len(DATA) + 1))
    buffer = bytearray(len(DATA) + 1)
    count = pipe.recv_into(buffer) if how == "recv_into" else pipe.readinto(buffer)
    return bytes(buffer[:count])


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel has it so")
@pytest.mark.parametrize("ending", ["the server disconnects", "the client aborts", "the peer closes"])
@pytest.mark.parametrize("how", ["recv", "recv_into", "iteration", "readinto"])
def test_a_thread_that_reads_has_what_came_before_the_end(ends: Callable[..., Ends], how: str, ending: str) -> None:
    mode = "byte" if how == "readinto" else "message"
    for _ in range(ROUNDS):
        both = ends(mode=mode)
        reader, writer = (both.client, both.server) if ending != "the client aborts" else (both.server, both.client)
        reading = blocked(lambda pipe=reader: _sync_read(pipe, how))  # type: ignore[misc]
        writer.send(DATA) if mode == "message" else writer.write(DATA)
        writer.close() if ending == "the peer closes" else writer.abort()
        assert reading.result() == DATA
        assert code_of(lambda pipe=reader: _sync_read(pipe, how if how != "iteration" else "recv")) in (109, 233)  # type: ignore[misc]
        reader.close()


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel has it so")
def test_a_thread_that_reads_has_what_came_before_a_close_of_its_own_end(ends: Callable[..., Ends]) -> None:
    for discard in (False, True):
        for _ in range(ROUNDS):
            both = ends()
            reading = blocked(both.client.recv)
            both.server.send(DATA)
            both.client.abort() if discard else both.client.close()
            assert reading.result() == DATA
            both.server.close()


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel has it so")
def test_threads_that_read_in_line_have_a_message_each(ends: Callable[..., Ends]) -> None:
    for _ in range(ROUNDS):
        both = ends()
        readings = [blocked(both.client.recv) for _ in range(3)]
        sent = [DATA, b"second", b"third"]
        for message in sent:
            both.server.send(message)
        both.server.abort()
        assert [reading.result() for reading in readings] == sent
        both.client.close()
