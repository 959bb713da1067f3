"""What asyncio promises of servers of transports, the same table for its own sockets and for pipes."""

from __future__ import annotations

import asyncio
import contextlib
import select
import sys
from typing import Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import turns
from tests.aio.transports import EAGER, Data, Place, Recorder, until

# ---- Servers


def test_a_server_has_the_methods_of_asyncios(place: Place) -> None:
    async def scenario(place: Place) -> None:
        server = await place.serve(Data)
        assert isinstance(server.sockets, tuple)
        assert isinstance(server, asyncio.AbstractServer)
        assert server.is_serving()
        assert server.get_loop() is asyncio.get_running_loop()
        await server.start_serving()
        forever = asyncio.create_task(server.serve_forever())
        await turns()
        with pytest.raises(RuntimeError, match="already"):
            await server.serve_forever()
        forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forever
        assert not server.is_serving()
        await server.wait_closed()
        server.close()
        with pytest.raises(RuntimeError, match="closed"):
            await server.serve_forever()

    place.run(scenario)


def test_closing_a_server_ends_serve_forever_and_leaves_connections(place: Place) -> None:
    async def scenario(place: Place) -> None:
        connection = Data()
        async with await place.serve(lambda: connection) as server:
            forever = asyncio.create_task(server.serve_forever())
            transport, client = await place.connect(Data)
            await until(lambda: connection.transport)
            server.close()
            transport.write(b"lives on")
            await until(lambda: connection.received == b"lives on")
            transport.close()
            with pytest.raises(asyncio.CancelledError):
                await forever
        await until(lambda: connection.is_lost and client.is_lost)
        with pytest.raises((OSError, ConnectionError)):
            await place.connect(Data)

    place.run(scenario)


def test_wait_closed_waits_for_connections_where_asyncio_does(place: Place) -> None:
    async def scenario(place: Place) -> None:
        connection = Data()
        server = await place.serve(lambda: connection)
        transport, _ = await place.connect(Data)
        await until(lambda: connection.transport)
        early = asyncio.create_task(server.wait_closed())
        await turns()
        server.close()
        late = asyncio.create_task(server.wait_closed())
        await turns(5)
        assert (early.done(), late.done()) == (False, sys.version_info < (3, 12))
        transport.close()
        await early
        await late

    place.run(scenario)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio has them from 3.13 on; make test-pythons")
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_a_server_ends_its_clients(place: Place, how: str) -> None:
    async def scenario(place: Place) -> None:
        connection = Data()
        server = await place.serve(lambda: connection)
        _, client = await place.connect(Data)
        await until(lambda: connection.transport)
        server.close()
        getattr(server, how)()
        await server.wait_closed()
        await until(lambda: connection.is_lost and client.is_lost)

    place.run(scenario)


def test_the_next_instance_listens_when_a_client_is_handed_out(name: str) -> None:
    """With `timeout=0` a client gets 231 if there is none."""

    async def scenario(place: Place) -> None:
        made: list[None] = []

        def look(_: Recorder) -> None:
            npipe.connect(name, timeout=0).close()
            made.append(None)

        await place.serve(lambda: Data(connection_made=look))
        for count in range(1, 20):
            await place.connect(Data)
            await until(lambda count=count: len(made) == count)  # type: ignore[misc]
        assert place.told == []

    Place("npipe", name).run(scenario)


def test_the_next_instance_listens_when_a_client_of_the_same_loop_is_connected(name: str) -> None:
    async def scenario(place: Place) -> None:
        await place.serve(Data)
        for _ in range(20):
            await place.connect(Data)
            async with await npipe.aio.connect(name, timeout=0):
                pass

    Place("npipe", name).run(scenario)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no descriptor to wait for the client's arrival with")
def test_the_next_instance_listens_in_the_turn_in_which_a_client_comes(name: str) -> None:
    async def scenario(place: Place) -> None:
        async with npipe.aio.listen(name) as listener:
            instances: Any = listener._instances
            for _ in range(20):
                accepting = asyncio.create_task(listener.accept())
                await turns(5)
                with npipe.connect(name):
                    assert select.select([instances._acceptor.fileno()], [], [], 5)[0]
                    await asyncio.sleep(0)  # the loop asks its selector,
                    await asyncio.sleep(0)  # and has called what waits for that
                    with npipe.connect(name, timeout=0):
                        await (await accepting).close()
                        await (await listener.accept()).close()

    Place("npipe", name).run(scenario)


def test_the_handler_of_a_stream_server_may_be_asyncios_own(name: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.write_eof()
        writer.close()
        await writer.wait_closed()

    async def scenario(place: Place) -> None:
        await place.serve(lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), handle))
        reader, writer = await npipe.aio.open_stream(name)
        writer.write(b"half-closed" * 10_000)
        assert writer.can_write_eof()
        writer.write_eof()
        assert await reader.read() == b"HALF-CLOSED" * 10_000
        writer.close()
        await writer.wait_closed()
        await turns(10)

    Place("npipe", name).run(scenario)


@EAGER
def test_servers_streams_and_calls_go_on_with_eager_tasks(name: str) -> None:
    async def scenario(place: Place) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        async with await npipe.aio.serve(name, bytes.upper):
            assert await asyncio.gather(*(npipe.aio.call(name, b"%d abc" % n) for n in range(50))) == [
                b"%d ABC" % n for n in range(50)
            ]
            assert await asyncio.create_task(npipe.aio.call(name, b"x" * 1_000_000)) == b"X" * 1_000_000
        async with await npipe.aio.serve(name, bytes.upper, mode="byte"):
            reader, writer = await npipe.aio.open_stream(name)
            writer.write(b"x" * 1_000_000)
            assert await reader.readexactly(1_000_000) == b"X" * 1_000_000
            writer.close()
            await writer.wait_closed()
        await turns(20)

    Place("npipe", name).run(scenario)
