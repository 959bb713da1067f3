"""npipe.aio beside asyncio's streams over a Unix socket, on asyncio's loop and on uvloop: python -m bench.aio."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import npipe.aio
from npipe import PipeClosedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SIZE = 64
TRIPS, ONE_WAY, CLIENTS, ROUNDS, DEPTH, REPEATS = 5_000, 100_000, 100, 20, 10, 3
MESSAGE = bytes(SIZE)


class Channel(NamedTuple):
    """One conversation, whatever carries it."""

    send: Callable[[bytes], Awaitable[Any]]
    recv: Callable[[], Awaitable[bytes]]
    close: Callable[[], Awaitable[Any]]


def stream_channel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Channel:
    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    async def recv() -> bytes:
        return await reader.readexactly(SIZE)

    async def close() -> None:
        writer.close()

    return Channel(send, recv, close)


def pipe_channel(pipe: npipe.aio.MessagePipe) -> Channel:
    return Channel(pipe.send, pipe.recv, pipe.close)


async def converse(channel: Channel) -> None:
    """Echo; or, when the first byte says so, answer only the last of many."""
    try:
        silent = (await channel.recv())[0]
        for count in range(1, sys.maxsize):
            data = await channel.recv()
            if not silent or count == ONE_WAY:
                await channel.send(data)
    except (asyncio.IncompleteReadError, ConnectionError, PipeClosedError):
        await channel.close()


async def serve(peer: str, name: str) -> None:
    if peer == "unix":
        server = await asyncio.start_unix_server(lambda r, w: converse(stream_channel(r, w)), name)
        print("ready", flush=True)
        await server.serve_forever()
    tasks = set()
    async with npipe.aio.listen(name) as listener:
        print("ready", flush=True)
        async for pipe in listener:
            task = asyncio.create_task(converse(pipe_channel(pipe)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def connect(peer: str, name: str, *, silent: bool = False) -> Channel:
    if peer == "unix":
        channel = stream_channel(*await asyncio.open_unix_connection(name))
    else:
        channel = pipe_channel(await npipe.aio.connect(name))
    await channel.send(bytes([silent]) * SIZE)
    return channel


async def measure(peer: str, name: str) -> tuple[float, float, float]:
    """Microseconds for a round trip; messages per second one way; requests per second of many clients."""
    channel = await connect(peer, name)
    begin = time.perf_counter()
    for _ in range(TRIPS):
        await channel.send(MESSAGE)
        await channel.recv()
    trip = (time.perf_counter() - begin) / TRIPS * 1e6
    await channel.close()
    channel = await connect(peer, name, silent=True)
    begin = time.perf_counter()
    for _ in range(ONE_WAY):
        await channel.send(MESSAGE)
    await channel.recv()
    one_way = ONE_WAY / (time.perf_counter() - begin)
    await channel.close()
    channels = [await connect(peer, name) for _ in range(CLIENTS)]

    async def ask(channel: Channel) -> None:
        for _ in range(ROUNDS):
            for _ in range(DEPTH):
                await channel.send(MESSAGE)
            for _ in range(DEPTH):
                await channel.recv()

    begin = time.perf_counter()
    await asyncio.gather(*map(ask, channels))
    many = CLIENTS * ROUNDS * DEPTH / (time.perf_counter() - begin)
    for channel in channels:
        await channel.close()
    return trip, one_way, many


def loop_of(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.SelectorEventLoop


def main() -> None:
    if len(sys.argv) > 1:
        kind, peer, name = sys.argv[1:]
        with asyncio.Runner(loop_factory=loop_of(kind)) as runner:
            runner.run(serve(peer, name))
    for kind in "asyncio", "uvloop":
        results = {}
        for peer in "unix", "npipe":
            runs = []
            for number in range(REPEATS):
                name = f"{tempfile.mkdtemp()}/s" if peer == "unix" else f"bench-aio-{number}-{time.monotonic_ns()}"
                arguments = [sys.executable, "-m", "bench.aio", kind, peer, name]
                with subprocess.Popen(arguments, stdout=subprocess.PIPE) as server:
                    assert server.stdout is not None
                    server.stdout.readline()
                    with asyncio.Runner(loop_factory=loop_of(kind)) as runner:
                        runs.append(runner.run(measure(peer, name)))
                    server.kill()
            results[peer] = [statistics.median(column) for column in zip(*runs, strict=True)]
        for what, unix, own in zip(
            ("round trip, µs", "one-way, /s", "100 clients, /s"), *results.values(), strict=True
        ):
            print(
                f"{kind:8} {what:16} streams {unix:12,.1f}   npipe.aio {own:12,.1f}   {own / unix:6.2f} times",
                flush=True,
            )


if __name__ == "__main__":
    main()
