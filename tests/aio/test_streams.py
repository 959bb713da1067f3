"""npipe.aio: asyncio's own shapes over pipes."""

from __future__ import annotations

import asyncio

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import WITH_EAGER, WITH_UVLOOP, run, turns


@pytest.fixture(params=sorted(WITH_EAGER))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_reader_and_writer_talk_to_a_byte_pipe(kind: str, name: str) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper, mode="byte"):
            reader, writer = await npipe.aio.open_stream(name)
            writer.write(b"hello\nworld\n")
            await writer.drain()
            assert await reader.readline() == b"HELLO\n"
            assert await reader.readline() == b"WORLD\n"
            writer.write(b"x" * 1_000_000)  # not drained: the server answers while we write
            assert await reader.readexactly(1_000_000) == b"X" * 1_000_000
            assert not writer.can_write_eof()
            assert writer.get_extra_info("pipe").peer.pid
            writer.close()
            await writer.wait_closed()
        with pytest.raises(npipe.PipeNotFoundError):
            await npipe.aio.open_stream(name)

    run(main(), kind)


def test_the_end_of_the_peer_is_the_end_of_the_stream(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, mode="byte") as listener:
            reader, writer = await npipe.aio.open_stream(name)
            async with await listener.accept() as pipe:
                await pipe.write(b"last words")
            assert await reader.read() == b"last words"
            writer.close()
            await writer.wait_closed()

    run(main(), kind)


class Echo(asyncio.Protocol):
    """Answers in capitals."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())


class Client(asyncio.Protocol):
    """Collects what comes."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.enough = asyncio.Event()
        self.lost = asyncio.Event()
        self.paused = 0

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= 5:
            self.enough.set()

    def pause_writing(self) -> None:
        self.paused += 1

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None
        self.lost.set()


LOOP_CLASSES: list[type[asyncio.AbstractEventLoop]] = [npipe.aio.PipeEventLoop]

if WITH_UVLOOP:
    import uvloop

    class UvLoop(npipe.aio.PipeLoopMixin, uvloop.Loop):  # type: ignore[misc]  # its stubs differ from typeshed
        """uvloop with the two methods."""

    LOOP_CLASSES.append(UvLoop)


@pytest.mark.parametrize("loop_class", LOOP_CLASSES)
def test_code_for_the_proactor_loop_runs(name: str, loop_class: type[asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, npipe.aio.PipeLoopMixin)
        [server] = await loop.start_serving_pipe(Echo, name)
        transport, protocol = await loop.create_pipe_connection(Client, name)
        assert isinstance(protocol, Client)
        assert transport.get_extra_info("addr") == name
        transport.write(b"hello")
        await protocol.enough.wait()
        assert protocol.received == b"HELLO"
        async with await npipe.aio.connect(name) as pipe:  # the pipe is of message type, as on Windows
            assert await pipe.transact(b"abc") == b"ABC"
        transport.write(b"x" * 1_000_000)
        assert protocol.paused == 1
        transport.close()
        await protocol.lost.wait()
        server.close()
        assert server.closed()
        with pytest.raises(npipe.PipeNotFoundError):
            await npipe.aio.connect(name + "x")
        for _ in range(200):
            await turns()
            if len(asyncio.all_tasks()) == 1:
                break

    with asyncio.Runner(loop_factory=loop_class) as runner:
        runner.run(asyncio.wait_for(main(), 30))


def test_reading_can_be_paused(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, mode="byte") as listener:
            reader, writer = await npipe.aio.open_stream(name, limit=1000)
            async with await listener.accept() as pipe:
                writing = asyncio.create_task(pipe.write(bytes(500_000)))
                await asyncio.sleep(0.01)
                assert not writing.done()
                assert len(await reader.readexactly(500_000)) == 500_000
                await writing
                writer.close()
                await writer.wait_closed()

    run(main(), kind)


def test_an_aborted_transport_is_closed_at_once(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, mode="byte") as listener:
            _, writer = await npipe.aio.open_stream(name)
            async with await listener.accept() as pipe:
                writer.write(b"never read")
                writer.transport.abort()
                with pytest.raises(npipe.PipeClosedError):
                    await pipe.read(1)
                await turns(20)

    run(main(), kind)


class Pausing(asyncio.Protocol):
    """Collects, and can be told to pause."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received.append(data)


@pytest.mark.parametrize("loop_class", LOOP_CLASSES)
def test_nothing_is_received_while_reading_is_paused(name: str, loop_class: type[asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, npipe.aio.PipeLoopMixin)
        async with npipe.aio.listen(name, mode="byte") as listener:
            transport, protocol = await loop.create_pipe_connection(Pausing, name)
            assert isinstance(protocol, Pausing)
            async with await listener.accept() as pipe:
                await turns()  # it is reading
                transport.pause_reading()
                assert not transport.is_reading()
                await pipe.write(b"while paused")
                for _ in range(20):
                    await turns()
                assert protocol.received == []
                transport.resume_reading()
                while not protocol.received:
                    await turns()
                assert protocol.received == [b"while paused"]
                transport.close()
                for _ in range(20):
                    await turns()

    with asyncio.Runner(loop_factory=loop_class) as runner:
        runner.run(asyncio.wait_for(main(), 30))


def test_what_has_room_is_written_at_once_and_the_rest_in_its_order(kind: str, name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, mode="byte", in_buffer_size=100) as listener:
            _, writer = await npipe.aio.open_stream(name)
            async with await listener.accept() as pipe:
                writer.write(b"a" * 60)
                assert pipe.peek().available == 60  # no turn of the loop was needed
                assert writer.transport.get_write_buffer_size() == 0
                writer.write(b"b" * 60)
                writer.write(b"c" * 10)
                assert writer.transport.get_write_buffer_size() == 70
                received = b""
                while len(received) < 130:
                    received += await pipe.read(1000)
                assert received == b"a" * 60 + b"b" * 60 + b"c" * 10
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    run(main(), kind)
