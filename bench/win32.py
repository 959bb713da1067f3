"""The Win32 face measured: overlapped servers and completion ports beside threads, and beside asyncio.

`python -m bench.win32` prints a table and writes docs/benchmarks-win32.md. Each server is a process of its own; the
clients are the same small loop for all of them: one thread sends 64 bytes on each of its connections, then receives
the answer on each. Peers take turns, window by window, and the ratios are of medians in one run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from npipe.win32 import pywintypes, win32event, win32file, win32pipe

from .measure import Case, Outcome, Quantity
from .results import FOLDER, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

MESSAGE = bytes(64)
SIZE = len(MESSAGE)
INFINITE = -1
OUTPUT = Path(__file__).parent.parent / "docs" / "benchmarks-win32.md"


def _instance(name: str, *, overlapped: bool) -> Any:
    mode = win32pipe.PIPE_ACCESS_DUPLEX | (win32pipe.FILE_FLAG_OVERLAPPED if overlapped else 0)
    return win32pipe.CreateNamedPipe(
        name, mode, win32pipe.PIPE_TYPE_MESSAGE | win32pipe.PIPE_READMODE_MESSAGE, 255, 65536, 65536, 0, None
    )


def _overlapped(*, event: bool = True) -> Any:
    overlapped = pywintypes.OVERLAPPED()
    if event:
        overlapped.hEvent = win32event.CreateEvent(None, True, False, None)
    return overlapped


def _connected(handle: Any) -> Any:
    """Wait for the client on an overlapped instance."""
    overlapped = _overlapped()
    try:
        if win32pipe.ConnectNamedPipe(handle, overlapped) == 997:
            win32event.WaitForSingleObject(overlapped.hEvent, INFINITE)
    except pywintypes.error:
        pass  # the client was there already and has left: the first read says so
    return handle


# ---- Servers: each gets a name and the number of clients, and calls `ready` when they may come


def serve_overlapped(name: str, clients: int, ready: Callable[[], None]) -> None:
    """One thread, an event for each client, one WaitForMultipleObjects loop."""
    handles = [_instance(name, overlapped=True) for _ in range(clients)]
    ready()
    reads, buffers, writes = [], [], []
    for handle in handles:
        _connected(handle)
        reads.append(_overlapped())
        writes.append(_overlapped())
        buffers.append(win32file.AllocateReadBuffer(SIZE))
        win32file.ReadFile(handle, buffers[-1], reads[-1])
    events = [read.hEvent for read in reads]
    while True:
        index = win32event.WaitForMultipleObjects(events, False, INFINITE)
        handle, read, buffer = handles[index], reads[index], buffers[index]
        try:
            win32file.GetOverlappedResult(handle, read, False)
            win32file.WriteFile(handle, buffer, writes[index])
            win32file.ReadFile(handle, buffer, read)
        except pywintypes.error:
            return


def serve_port(name: str, clients: int, ready: Callable[[], None]) -> None:
    """One thread, a completion port for all clients."""
    handles = [_instance(name, overlapped=True) for _ in range(clients)]
    ready()
    port = win32file.CreateIoCompletionPort(-1, None, 0, 0)
    state = []
    for number, handle in enumerate(handles):
        _connected(handle)
        win32file.CreateIoCompletionPort(handle, port, number, 0)
        read, write = _overlapped(event=False), _overlapped(event=False)
        read.object, write.object = "read", "write"
        buffer = win32file.AllocateReadBuffer(SIZE)
        state.append((handle, read, write, buffer))
        win32file.ReadFile(handle, buffer, read)
    while True:
        code, _count, key, done = win32file.GetQueuedCompletionStatus(port, INFINITE)
        if code:
            return
        if done is not None and done.object == "read":
            handle, read, write, buffer = state[key]
            try:
                win32file.WriteFile(handle, buffer, write)
                win32file.ReadFile(handle, buffer, read)
            except pywintypes.error:
                return


def serve_threads(name: str, clients: int, ready: Callable[[], None]) -> None:
    """Serve with a thread for each client, and blocking calls."""

    def echo(handle: Any) -> None:
        with contextlib.suppress(pywintypes.error):
            while True:
                win32file.WriteFile(handle, win32file.ReadFile(handle, SIZE)[1])

    handles = [_instance(name, overlapped=False) for _ in range(clients)]
    ready()
    threads = []
    for handle in handles:
        with contextlib.suppress(pywintypes.error):
            win32pipe.ConnectNamedPipe(handle)
        threads.append(threading.Thread(target=echo, args=(handle,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()


def serve_asyncio(name: str, _clients: int, ready: Callable[[], None]) -> None:
    """Asyncio's streams over a Unix socket."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                writer.write(await reader.readexactly(SIZE))

    async def main() -> None:
        server = await asyncio.start_unix_server(echo, name)
        ready()
        await server.serve_forever()

    asyncio.run(main())


SERVERS = {
    "overlapped": serve_overlapped,
    "completion port": serve_port,
    "threads": serve_threads,
    "asyncio, Unix socket": serve_asyncio,
}


# ---- Clients


class Ways(NamedTuple):
    """One connection: what is measured, and a round trip with other bytes, which returns what came back."""

    send: Callable[[], object]
    receive: Callable[[], object]
    ask: Callable[[bytes], bytes]

    def check(self) -> None:
        """Send messages that differ, and compare what comes back."""
        for _ in range(10):
            data = os.urandom(SIZE)
            if self.ask(data) != data:
                raise RuntimeError("what comes back is not what was sent")


def _pipe_connection(name: str) -> Ways:
    handle = win32file.CreateFile(name, -1073741824, 0, None, win32file.OPEN_EXISTING, 0, None)
    win32pipe.SetNamedPipeHandleState(handle, win32pipe.PIPE_READMODE_MESSAGE, None, None)

    def ask(data: bytes) -> bytes:
        win32file.WriteFile(handle, data)
        return win32file.ReadFile(handle, SIZE)[1]

    return Ways(lambda: win32file.WriteFile(handle, MESSAGE), lambda: win32file.ReadFile(handle, SIZE), ask)


def _socket_connection(name: str) -> Ways:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(name)

    def ask(data: bytes) -> bytes:
        connection.sendall(data)
        return connection.recv(SIZE, socket.MSG_WAITALL)

    return Ways(lambda: connection.sendall(MESSAGE), lambda: connection.recv(SIZE), ask)


def _overlapped_connection(name: str) -> Ways:
    handle = win32file.CreateFile(name, -1073741824, 0, None, win32file.OPEN_EXISTING, 0x40000000, None)
    win32pipe.SetNamedPipeHandleState(handle, win32pipe.PIPE_READMODE_MESSAGE, None, None)
    reading, writing, buffer = _overlapped(), _overlapped(), win32file.AllocateReadBuffer(SIZE)

    def receive() -> None:
        if win32file.ReadFile(handle, buffer, reading)[0]:
            win32event.WaitForSingleObject(reading.hEvent, INFINITE)
        win32file.GetOverlappedResult(handle, reading, False)

    def ask(data: bytes) -> bytes:
        win32file.WriteFile(handle, data, writing)
        receive()
        return bytes(buffer)

    return Ways(lambda: win32file.WriteFile(handle, MESSAGE, writing), receive, ask)


CONNECTIONS = {"pipe": _pipe_connection, "socket": _socket_connection, "overlapped": _overlapped_connection}


def _client(orders: Connection, kind: str, name: str, count: int) -> None:
    ways = [CONNECTIONS[kind](name) for _ in range(count)]
    pairs = [(way.send, way.receive) for way in ways]
    orders.send("connected")
    while True:
        seconds = orders.recv()
        for way in ways:
            way.check()
        if seconds is None:
            return
        rounds = 0
        start = time.perf_counter()
        stop = start + seconds
        while (now := time.perf_counter()) < stop:
            for _ in range(8):
                for send, _receive in pairs:
                    send()
                for _send, receive in pairs:
                    receive()
            rounds += 8
        orders.send(rounds * count / (now - start))


def _server(orders: Connection, kind: str, name: str, clients: int) -> None:
    SERVERS[kind](name, clients, lambda: orders.send("listening"))


class Pair:
    """A server process and its client processes."""

    def __init__(self, context: Any, kind: str, client: str, name: str, clients: int) -> None:
        processes = min(2, clients)
        ours, theirs = context.Pipe()
        self.processes = [context.Process(target=_server, args=(theirs, kind, name, clients), daemon=True)]
        self.processes[0].start()
        assert ours.recv() == "listening"
        self.orders = []
        for number in range(processes):
            mine, his = context.Pipe()
            share = clients // processes + (number < clients % processes)
            self.processes.append(context.Process(target=_client, args=(his, client, name, share), daemon=True))
            self.processes[-1].start()
            assert mine.recv() == "connected"
            self.orders.append(mine)

    def window(self, seconds: float) -> float:
        """Return the round trips per second of all clients together."""
        for order in self.orders:
            order.send(seconds)
        return float(sum(order.recv() for order in self.orders))

    def end(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.join()


def measure(clients: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the round trips per second of each window for each way, the ways taking turns."""
    context = multiprocessing.get_context("spawn")
    ways = {
        "overlapped server": ("overlapped", "pipe"),
        "completion port": ("completion port", "pipe"),
        "threads": ("threads", "pipe"),
        "asyncio streams": ("asyncio, Unix socket", "socket"),
    }
    if clients == 1:
        ways["overlapped, both ends"] = ("overlapped", "overlapped")
    folder = tempfile.mkdtemp()
    os.environ["NPIPE_ROOT"] = folder
    pairs = {}
    for number, (way, (server, client)) in enumerate(ways.items()):
        name = f"{folder}/s{number}" if client == "socket" else rf"\\.\pipe\bench-{os.getpid()}-{clients}-{number}"
        pairs[way] = Pair(context, server, client, name, clients)
    try:
        results: dict[str, list[float]] = {way: [] for way in pairs}
        for turn in range(rounds + 1):
            for way, pair in pairs.items():
                rate = pair.window(seconds)
                if turn:  # the first warms up
                    results[way].append(rate)
    finally:
        for pair in pairs.values():
            pair.end()
    return results


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=7, help="windows of each way")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a window")
    parser.add_argument("--quick", action="store_true", help="a short look: 2 windows of 0.1 s, and no page")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 2, 0.1
    windows = {clients: measure(clients, arguments.rounds, arguments.seconds) for clients in (1, 64)}
    one, many = ({way: statistics.median(rates) for way, rates in found.items()} for found in windows.values())
    lines = [
        "# The Win32 face measured",
        "",
        "`make bench` writes this page too (`python -m bench.win32`): round trips of 64 bytes per second, medians of",
        "one run in which the ways took turns. A client is one thread that sends on each of its connections and then",
        "receives on each; 64 clients are two processes.",
        "",
        "| | 1 client | beside asyncio | 64 clients, one server thread (threads: 64) | beside asyncio |",
        "| --- | --- | --- | --- | --- |",
    ]
    for way in one:
        cells = [way, f"{one[way]:,.0f}", f"{one[way] / one['asyncio streams']:.1f}×"]
        cells += [f"{many[way]:,.0f}", f"{many[way] / many['asyncio streams']:.1f}×"] if way in many else ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    blocking = one["threads"] / one["overlapped, both ends"]
    gain = many["overlapped server"] / many["asyncio streams"]
    lines += [
        "",
        f"An overlapped round trip, both ends in waits, takes {blocking:.2f} times the blocking one (to reach: 1.5).",
        f"64 clients on one overlapped thread: {gain:.1f} times the messages of asyncio's streams (to reach: 3).",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if not arguments.quick:
        OUTPUT.write_text(text)
        cases = [
            Case(
                "win32",
                f"{clients} client{'s' if clients > 1 else ''}",
                Quantity.RATE,
                SIZE,
                {way: Outcome(rates) for way, rates in found.items()},
            )
            for clients, found in windows.items()
        ]
        save(FOLDER / "win32.json", [], cases)


if __name__ == "__main__":
    main()
