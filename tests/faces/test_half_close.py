"""An empty message ends a message pipe that is read as a stream (go-winio's CloseWrite), in every way of reading."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import npipe
import npipe.aio
import npipe.anyio
from tests.aio.helpers import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def ends(name: str) -> Iterator[tuple[npipe.MessagePipe, npipe.StreamPipe]]:
    """One that has written, flushed and written nothing, and stays open; and one who reads."""
    with npipe.listen(name) as listener, npipe.connect(name, mode="byte") as reader, listener.accept(5) as writer:
        writer.send(b"first line\n")
        writer.send(b"second")
        flushing = threading.Thread(target=lambda: (writer.flush(timeout=10), writer.send(b"")))
        flushing.start()
        yield writer, reader
        flushing.join()


def pieces(reader: npipe.StreamPipe) -> bytes:
    data = b""
    while piece := reader.read(4, timeout=5):
        data += piece
    return data


def into(reader: npipe.StreamPipe) -> bytes:
    data, buffer = b"", bytearray(5)
    while count := reader.readinto(buffer, timeout=5):
        data += buffer[:count]
    return data


WAYS: dict[str, Callable[[npipe.StreamPipe], Any]] = {
    "read": lambda reader: reader.read(timeout=5),
    "read of some": pieces,
    "readinto": into,
    "binary file": lambda reader: reader.makefile("rb").read(),
    "binary file by parts": lambda reader: (
        b"".join(iter(lambda: file.read(4), b"")) if (file := reader.makefile("rb")) else b""
    ),
    "raw file": lambda reader: reader.makefile("rb", buffering=0).read(),
    "lines": lambda reader: b"".join(reader.makefile("rb")),
    "text file": lambda reader: reader.makefile("r").read().encode(),
    "lines of text": lambda reader: "".join(reader.makefile("r")).encode(),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_message_ends_the_stream(ends: tuple[npipe.MessagePipe, npipe.StreamPipe], way: str) -> None:
    writer, reader = ends
    assert WAYS[way](reader) == b"first line\nsecond"
    for other in WAYS.values():
        assert other(reader) == b""  # and it stays ended
    assert reader.readinto(bytearray(10), timeout=5) == 0
    reader.write(b"answer")  # for writing it is open
    assert writer.recv(timeout=5) == b"answer"


def test_a_closed_pipe_is_closed_after_the_end_too(ends: tuple[npipe.MessagePipe, npipe.StreamPipe]) -> None:
    _, reader = ends
    assert reader.read(timeout=5) == b"first line\nsecond"
    reader.close()
    for call in (lambda: reader.read(1), lambda: reader.readinto(bytearray(1))):
        with pytest.raises(npipe.PipeClosedError) as raised:
            call()
        assert raised.value.winerror == 6


async def aio_pieces(reader: npipe.aio.StreamPipe) -> bytes:
    data = b""
    while piece := await reader.read(4):
        data += piece
    return data


async def aio_into(reader: npipe.aio.StreamPipe) -> bytes:
    data, buffer = b"", bytearray(5)
    while count := await reader.readinto(buffer):
        data += buffer[:count]
    return data


async def aio_iterated(reader: npipe.aio.StreamPipe) -> bytes:
    return b"".join([piece async for piece in reader])


AIO_WAYS: dict[str, Callable[[npipe.aio.StreamPipe], Any]] = {
    "read": lambda reader: reader.read(),
    "read of some": aio_pieces,
    "readinto": aio_into,
    "async for": aio_iterated,
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("way", AIO_WAYS)
def test_an_empty_message_ends_an_async_stream(name: str, way: str, late: bool) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            async with await npipe.aio.connect(name, mode="byte") as reader, await listener.accept() as writer:
                reading = asyncio.create_task(AIO_WAYS[way](reader))
                if late:
                    await asyncio.sleep(0)
                await writer.send(b"all there is")
                await writer.flush()
                await asyncio.sleep(0)  # the reader waits for the next
                await writer.send(b"")
                assert await reading == b"all there is"
                for other in AIO_WAYS.values():
                    assert await other(reader) == b""
                await reader.write(b"answer")
                assert await writer.recv() == b"answer"

    run(main())


def test_a_stream_reader_ends_and_a_stream_writer_ends_what_it_writes(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener:
            reader, writer = await npipe.aio.open_stream(name)
            async with await listener.accept() as pipe:
                assert writer.can_write_eof()
                writer.write(b"question")
                writer.write_eof()
                assert await pipe.recv() == b"question"
                assert await pipe.recv() == b""
                await pipe.send(b"answer\n")
                await pipe.flush()
                await pipe.send(b"")
                assert await reader.readline() == b"answer\n"
                assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()

    run(main())


def test_a_byte_pipe_has_no_end_but_that_of_the_pipe(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, mode="byte") as listener:
            _, writer = await npipe.aio.open_stream(name)
            async with await listener.accept() as pipe:
                assert not writer.can_write_eof()
                with pytest.raises(NotImplementedError, match="byte type"):
                    writer.write_eof()
                writer.write(b"goes on")
                assert await pipe.read(100) == b"goes on"
                writer.close()
                await writer.wait_closed()

    run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_streams_send_and_receive_the_end(name: str, backend: str) -> None:
    async def main() -> None:
        async with await npipe.anyio.listen(name) as listener, await npipe.anyio.connect(name, mode="byte") as stream:
            async with await listener.accept() as messages:
                await stream.send(b"question")
                async with anyio.create_task_group() as group:
                    group.start_soon(stream.send_eof)
                    assert await messages.receive() == b"question"
                    assert await messages.receive() == b""
                with pytest.raises(NotImplementedError):
                    await messages.send_eof()
                await messages.send(b"answer")
                assert await stream.receive() == b"answer"
                await messages.send(b"")
                for _ in range(2):
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()
        async with await npipe.anyio.listen(name, mode="byte"), await npipe.anyio.connect(name, mode="byte") as stream:
            with pytest.raises(NotImplementedError):
                await stream.send_eof()

    anyio.run(main, backend=backend)


# ---- Closing under another's write


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_write_that_stands_in_the_pipe_succeeds_under_a_close(name: str, kind: str) -> None:
    """What was written stays readable for the peer; so the writer is not told that it failed."""
    if kind == "sync":
        with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept(5) as server:
            client.send(bytes(60_000))
            failed: list[Exception] = []

            def send() -> None:
                try:
                    client.send(b"x" * 100_000)
                except npipe.PipeError as error:
                    failed.append(error)

            sending = threading.Thread(target=send)
            sending.start()
            while server.peek().available < 160_000:
                pass
            client.close()
            sending.join()
            assert failed == []
            assert server.recv(timeout=5) == bytes(60_000)
            assert server.recv(timeout=5) == b"x" * 100_000
        return

    async def main() -> None:
        async with npipe.aio.listen(name) as listener, await npipe.aio.connect(name) as client:
            async with await listener.accept() as server:
                await client.send(bytes(60_000))
                sending = asyncio.create_task(client.send(b"x" * 100_000))
                await asyncio.sleep(0)
                await client.close()
                await sending
                assert await server.recv() == bytes(60_000)
                assert await server.recv() == b"x" * 100_000

    run(main())


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_write_without_room_fails_under_a_close_and_says_why(name: str, kind: str) -> None:
    if kind == "sync":
        with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept(5) as server:
            errors: list[str] = []

            def send() -> None:
                with pytest.raises(npipe.PipeClosedError) as raised:
                    client.send(bytes(10_000_000))
                errors.append(str(raised.value))

            sending = threading.Thread(target=send)
            sending.start()
            while not server.peek().available:
                pass
            client.close(timeout=0.05)
            sending.join()
            assert "it was closed in this process" in errors[0]
            assert "everything it wrote" not in errors[0]
        return

    async def main() -> None:
        async with npipe.aio.listen(name) as listener, await npipe.aio.connect(name) as client:
            async with await listener.accept():
                sending = asyncio.create_task(client.send(bytes(10_000_000)))
                await asyncio.sleep(0)
                await client.close(timeout=0.05)
                with pytest.raises(npipe.PipeClosedError, match="it was closed in this process"):
                    await sending

    run(main())


@pytest.mark.parametrize("mode", ["message", "byte"])
def test_a_message_is_there_after_a_write_that_failed(name: str, mode: Any) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, mode=mode) as listener:
            client: Any = await npipe.aio.connect(name, mode=mode)
            async with client:
                server: Any = await listener.accept()
                await (server.send if mode == "message" else server.write)(b"last")
                await server.close()
                with pytest.raises(npipe.PipeClosedError):
                    await (client.send if mode == "message" else client.write)(b"late")
                assert await (client.recv() if mode == "message" else client.read(10)) == b"last"

    run(main())
