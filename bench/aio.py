"""npipe.aio measured beside asyncio's streams over a Unix socket and pyzmq.asyncio, on asyncio's loop and on uvloop.

`python -m bench.aio` prints tables and writes docs/benchmarks-aio.md. The server of each peer is a process of its own
with the same kind of loop; the peers take turns, window by window, and the ratios are of medians in one run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import npipe.aio
from npipe import PipeClosedError

from .measure import Case, Outcome, Quantity
from .results import FOLDER, save

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SIZE = 64
ECHO, SILENT = bytes(SIZE), b"\1" * SIZE  # the server sends back all but the silent ones
BATCH = 5_000  # one-way messages between two acknowledgements
CLIENTS, DEPTH = 100, 10
BUSY_WAIT = 50e-6
OUTPUT = Path(__file__).parent.parent / "docs" / "benchmarks-aio.md"

STREAMS, ZMQ, NPIPE, BUSY = "asyncio streams", "pyzmq.asyncio", "npipe.aio", "npipe.aio, busy waiting"
PEERS = (STREAMS, *([ZMQ] if importlib.util.find_spec("zmq") else []), NPIPE, BUSY)
LOOPS = ("asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else []))
TRIP, ONE_WAY, MANY = "round trip", "one-way", f"{CLIENTS} clients"
TASKS = (TRIP, ONE_WAY, MANY)


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


def pipe_channel(pipe: npipe.aio.MessagePipe, peer: str) -> Channel:
    if peer == BUSY:
        pipe.busy_wait = BUSY_WAIT
    return Channel(pipe.send, pipe.recv, pipe.close)


# ---- Servers


async def converse(channel: Channel) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, PipeClosedError):
        while True:
            data = await channel.recv()
            if data[0] == 0:
                await channel.send(data)
    await channel.close()


async def serve_pipes(name: str, peer: str) -> None:
    tasks = set()
    async with npipe.aio.listen(name) as listener:
        print("ready", flush=True)
        async for pipe in listener:
            task = asyncio.create_task(converse(pipe_channel(pipe, peer)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def serve_streams(name: str) -> None:
    server = await asyncio.start_unix_server(lambda r, w: converse(stream_channel(r, w)), name)
    print("ready", flush=True)
    await server.serve_forever()


async def serve_zmq(name: str) -> None:
    zmq_asyncio, zmq = importlib.import_module("zmq.asyncio"), importlib.import_module("zmq")
    context = zmq_asyncio.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(f"ipc://{name}")
    print("ready", flush=True)
    while True:
        who, data = await router.recv_multipart()
        if data[0] == 0:
            await router.send_multipart((who, data))


def serve(peer: str, name: str) -> Any:
    return serve_zmq(name) if peer == ZMQ else serve_streams(name) if peer == STREAMS else serve_pipes(name, peer)


# ---- Clients


class Server:
    """A server in a process of its own."""

    def __init__(self, kind: str, peer: str, folder: str) -> None:
        number = PEERS.index(peer)
        self.peer = peer
        self.name = f"{folder}/{kind}-{number}" if peer in {STREAMS, ZMQ} else f"bench-{kind}-{number}-{time.time_ns()}"
        arguments = [sys.executable, "-m", "bench.aio", "--serve", kind, peer, self.name]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise RuntimeError(f"the server of {peer} did not start")

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    async def connect(self) -> Channel:
        """Begin another conversation."""
        if self.peer == STREAMS:
            return stream_channel(*await asyncio.open_unix_connection(self.name))
        if self.peer != ZMQ:
            return pipe_channel(await npipe.aio.connect(self.name), self.peer)
        zmq = importlib.import_module("zmq")
        socket = importlib.import_module("zmq.asyncio").Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"ipc://{self.name}")

        async def close() -> None:
            socket.close()

        return Channel(socket.send, socket.recv, close)

    def processor_time(self) -> float:
        """Seconds that it and this process have used, all threads."""
        return sum(_used(Path(f"/proc/{pid}/task")) for pid in (self.process.pid, "self"))


def _used(tasks: Path) -> float:
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


async def trips(channels: list[Channel], seconds: float) -> int:
    channel, count, end = channels[0], 0, time.perf_counter() + seconds
    while not count or time.perf_counter() < end:
        for _ in range(50):
            await channel.send(ECHO)
            await channel.recv()
        count += 50
    return count


async def one_way(channels: list[Channel], seconds: float) -> int:
    channel, count, end = channels[0], 0, time.perf_counter() + seconds
    while not count or time.perf_counter() < end:
        for _ in range(BATCH - 1):
            await channel.send(SILENT)
        await channel.send(ECHO)
        await channel.recv()
        count += BATCH
    return count


async def many(channels: list[Channel], seconds: float) -> int:
    end = time.perf_counter() + seconds

    async def ask(channel: Channel) -> int:
        count = 0
        while not count or time.perf_counter() < end:
            for _ in range(DEPTH):
                await channel.send(ECHO)
            for _ in range(DEPTH):
                await channel.recv()
            count += DEPTH
        return count

    return sum(await asyncio.gather(*map(ask, channels)))


async def check(channel: Channel) -> None:
    """Send messages that differ, one by one and many at a time, and compare what comes back."""
    for depth in 1, DEPTH:
        sent = [bytes([0, depth, number]) + os.urandom(SIZE - 3) for number in range(DEPTH)]
        for first in range(0, DEPTH, depth):
            for data in sent[first : first + depth]:
                await channel.send(data)
            for data in sent[first : first + depth]:
                if await channel.recv() != data:
                    raise RuntimeError("what comes back is not what was sent")


WAYS = {TRIP: trips, ONE_WAY: one_way, MANY: many}


class Window(NamedTuple):
    """What one peer did in one window."""

    rate: float  # messages, or round trips, per second
    processor: float  # seconds of both processes for each


async def measure(servers: list[Server], rounds: int, seconds: float) -> dict[tuple[str, str], list[Window]]:
    windows: dict[tuple[str, str], list[Window]] = {}
    channels = {server.peer: [await server.connect() for _ in range(CLIENTS)] for server in servers}
    for task, way in WAYS.items():
        for number in range(-1, rounds):  # the first is thrown away
            for server in servers:
                for channel in channels[server.peer]:
                    await check(channel)
                gc.collect()
                used, begin = server.processor_time(), time.perf_counter()
                count = await way(channels[server.peer], seconds)
                took, used = time.perf_counter() - begin, server.processor_time() - used
                if number >= 0:
                    windows.setdefault((task, server.peer), []).append(Window(count / took, used / count))
    for opened in channels.values():
        for channel in opened:
            await check(channel)  # behind the last window: nothing of it is left
            await channel.close()
    return windows


# ---- Results


def loop_of(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.SelectorEventLoop


@contextlib.contextmanager
def running(kind: str) -> Iterator[list[Server]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = []
        for peer in PEERS:
            servers.append(Server(kind, peer, folder))
            stack.callback(servers[-1].end)
        yield servers


GOALS = ((TRIP, 0.8, "of the time of asyncio's streams"), (ONE_WAY, 5, "times"), (MANY, 3, "times"))


def cases_of(kind: str, windows: dict[tuple[str, str], list[Window]]) -> list[Case]:
    """Return the rates as columns."""
    return [
        Case(
            f"aio, {kind}",
            task,
            Quantity.RATE,
            SIZE,
            {peer: Outcome([window.rate for window in windows[task, peer]]) for peer in PEERS},
        )
        for task in TASKS
    ]


def report(kind: str, windows: dict[tuple[str, str], list[Window]]) -> list[str]:
    def rate(task: str, peer: str) -> float:
        return statistics.median(window.rate for window in windows[task, peer])

    def processor(task: str, peer: str) -> float:
        return statistics.median(window.processor for window in windows[task, peer]) * 1e6

    lines = [
        f"## {'uvloop' if kind == 'uvloop' else 'Asyncio’s own loop'}",
        "",
        "| | " + " | ".join(f"{task} | beside streams | processor" for task in TASKS) + " |",
        "| --- |" + " --- |" * 9,
    ]
    for peer in PEERS:
        cells = [peer]
        for task in TASKS:
            own, base = rate(task, peer), rate(task, STREAMS)
            what = f"{1e6 / own:.1f} µs" if task == TRIP else f"{own:,.0f} /s"
            beside = f"{base / own:.2f}" if task == TRIP else f"{own / base:.2f}×"
            cells += [what, beside, f"{processor(task, peer):.2f} µs"]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for task, goal, unit in GOALS:
        gain = rate(task, NPIPE) / rate(task, STREAMS)
        found = 1 / gain if task == TRIP else gain
        reached = found <= goal if task == TRIP else found >= goal
        lines.append(f"- {task}: {found:.2f} {unit} (to reach: {goal}{'' if reached else '; missed in this run'})")
    return [*lines, ""]


TEXT = f"""# The async face measured

`make bench` writes this page too (`python -m bench.aio`): messages of {SIZE} bytes between two processes, each with a
loop of the same kind and every option at its default. Peers take turns, window by window; cells are medians of one run,
so compare the ratios. *Processor* is what both processes together use for one message or round trip, in all threads.

- **round trip**: one client sends a message and waits for the answer: the time of one, and its share of the time that
  asyncio's streams take.
- **one-way**: one client sends {BATCH:,} messages, the server answers the last of them: messages per second.
- **{CLIENTS} clients**: each sends {DEPTH} requests and then receives {DEPTH} answers, all in one process: requests per
  second.

*Streams* are asyncio's over a Unix socket: `write`, `drain`, `readexactly`. *pyzmq.asyncio* has DEALER sockets and a
ROUTER over `ipc`. *Busy waiting* is `pipe.busy_wait = {BUSY_WAIT}` at both ends ([aio.md](aio.md#busy-waiting)).
"""


def machine() -> str:
    """Describe where and with what the numbers are made."""
    there = {"uvloop": "uvloop" in LOOPS, "pyzmq": ZMQ in PEERS}
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" if here else f"{name} is not installed, and left out"
        for name, here in there.items()
    )
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return f"{cores} cores, load {load:.1f} when the run began; Python {platform.python_version()}, {versions}."


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=9, help="windows of each peer at each task")
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a window")
    parser.add_argument("--quick", action="store_true", help="a short look: 2 windows of 0.1 s, and no page")
    parser.add_argument("--no-page", action="store_true", help="only print")
    parser.add_argument("--serve", nargs=3, metavar=("LOOP", "PEER", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        kind, peer, name = arguments.serve
        with asyncio.Runner(loop_factory=loop_of(kind)) as runner:
            runner.run(serve(peer, name))
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.no_page = 2, 0.1, True
    lines = [machine(), ""]
    cases: list[Case] = []
    for kind in LOOPS:
        with running(kind) as servers, asyncio.Runner(loop_factory=loop_of(kind)) as runner:
            windows = runner.run(measure(servers, arguments.rounds, arguments.seconds))
            lines += report(kind, windows)
            cases += cases_of(kind, windows)
    print("\n".join(lines))
    if not arguments.no_page:
        OUTPUT.write_text(TEXT + "\n" + "\n".join(lines).rstrip() + "\n")
        save(FOLDER / "aio.json", lines[:1], cases)


if __name__ == "__main__":
    main()
