"""Crowds: many clients at once against each kind of server; ``python -m bench.crowds``.

The clients are threads of four processes. Each sends 64 bytes, which begin with its number and a count, waits for them
to come back, compares them, and begins again, all through a window of time. The servers take turns, several rounds
over, so that whatever else the machine does hits all of them alike; figures are ratios to the server with sockets and
threads in the same round. What every client got is printed beside the mean, for a crowd in which some starve has a
fine throughput.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import ctypes
import json
import math
import os
import selectors
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Self

import npipe
import npipe.aio

from .names import CROWD_BASE, CROWD_LIMIT, CROWD_SOCKETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["BASE", "KINDS", "SERVERS", "Crowd", "Figures", "measure"]

ROOT = Path(__file__).resolve().parent.parent
SIZE = 64
CROWDS = (10, 100)
PROCESSES = 4
_NUMBER = struct.Struct("<QQ")
_LENGTH = struct.Struct("<I")
_BACKLOG = 1024
_PATIENCE = 30.0  # seconds over what a command should take
_PR_SET_PDEATHSIG = 1
_HEAD = 0.2  # of a window: load before it is measured
_DIGITS = 2  # of a time, in the counts that clients send home

BASE = CROWD_BASE
LIMITS = {CROWD_SOCKETS: "crowd-sockets", CROWD_LIMIT: "crowd"}
"""What the machine can do, without Python: the words of bench/limit.c."""


# ---- Servers: each serves until its process ends, and calls `ready` when clients can connect


def _npipe_serve(
    model: Literal["threaded", "overlapped", "completion"], address: str, clients: int, ready: Callable[[], None]
) -> None:
    options: dict[str, Any] = {"instances": clients} if model == "overlapped" else {}
    with npipe.serve(address, _echo, model=model, **options) as server:
        ready()
        server.wait()


def _echo(request: bytes) -> bytes:
    return request


def _npipe_by_hand(address: str, _clients: int, ready: Callable[[], None]) -> None:
    def answer(pipe: npipe.MessagePipe) -> None:
        with contextlib.suppress(npipe.PipeClosedError), pipe:
            while True:
                pipe.send(pipe.recv())

    with npipe.listen(address) as listener:
        ready()
        while True:
            threading.Thread(target=answer, args=(listener.accept(),), daemon=True).start()


def _npipe_aio(address: str, _clients: int, ready: Callable[[], None]) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(address, _echo):
            ready()
            await asyncio.Event().wait()

    asyncio.run(main())


def _listening(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(address)
    sock.listen(_BACKLOG)
    return sock


def _seqpacket_threads(address: str, _clients: int, ready: Callable[[], None]) -> None:
    def answer(sock: socket.socket) -> None:
        with sock:
            while data := sock.recv(65536):
                sock.send(data)

    listener = _listening(address)
    ready()
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def _seqpacket_selectors(address: str, _clients: int, ready: Callable[[], None]) -> None:
    listener = _listening(address)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        ready()
        while True:
            for key, _events in selector.select():
                if key.fileobj is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                    continue
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if data := sock.recv(65536):
                    sock.send(data)
                else:
                    selector.unregister(sock)
                    sock.close()


def _multiprocessing(address: str, _clients: int, ready: Callable[[], None]) -> None:
    def answer(conn: connection.Connection) -> None:
        with contextlib.suppress(EOFError, OSError), conn:
            while True:
                conn.send_bytes(conn.recv_bytes())

    listener = connection.Listener(address, "AF_UNIX", backlog=_BACKLOG)
    ready()
    while True:
        threading.Thread(target=answer, args=(listener.accept(),), daemon=True).start()


def _asyncio_streams(address: str, _clients: int, ready: Callable[[], None]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = await reader.readexactly(_LENGTH.size)
                writer.write(length + await reader.readexactly(_LENGTH.unpack(length)[0]))
                await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_unix_server(answer, address, backlog=_BACKLOG)
        ready()
        await server.serve_forever()

    asyncio.run(main())


# ---- Clients: what each server's are. A call sends a message and returns the answer


def _pipe_client(address: str) -> Callable[[bytes], bytes]:
    pipe = npipe.connect(address, timeout=_PATIENCE)
    send, recv = pipe.send, pipe.recv

    def ask(message: bytes) -> bytes:
        send(message)
        return recv()

    return ask


def _packet_client(address: str) -> Callable[[bytes], bytes]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(address)
    send, recv = sock.send, sock.recv

    def ask(message: bytes) -> bytes:
        send(message)
        return recv(SIZE)

    return ask


def _connection_client(address: str) -> Callable[[bytes], bytes]:
    conn = connection.Client(address, "AF_UNIX")
    send, recv = conn.send_bytes, conn.recv_bytes

    def ask(message: bytes) -> bytes:
        send(message)
        return recv()

    return ask


def _stream_client(address: str) -> Callable[[bytes], bytes]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(address)
    length = _LENGTH.pack(SIZE)
    send, recv = sock.send, sock.recv

    def ask(message: bytes) -> bytes:
        send(length + message)
        answer = recv(_LENGTH.size + SIZE)
        while len(answer) < _LENGTH.size + SIZE:
            piece = recv(_LENGTH.size + SIZE - len(answer))
            if not piece:
                raise EOFError("the server has left")
            answer += piece
        return answer[_LENGTH.size :]

    return ask


@dataclass(frozen=True)
class Server:
    """One kind of server, and what its clients are."""

    serve: Callable[[str, int, Callable[[], None]], None]
    connect: Callable[[str], Callable[[bytes], bytes]]


SERVERS: Mapping[str, Server] = {
    BASE: Server(_seqpacket_threads, _packet_client),
    "SEQPACKET, selectors": Server(_seqpacket_selectors, _packet_client),
    "multiprocessing.connection, threads": Server(_multiprocessing, _connection_client),
    "asyncio, a Unix server": Server(_asyncio_streams, _stream_client),
    "npipe.serve, threaded": Server(partial(_npipe_serve, "threaded"), _pipe_client),
    "npipe.serve, overlapped": Server(partial(_npipe_serve, "overlapped"), _pipe_client),
    "npipe.serve, completion": Server(partial(_npipe_serve, "completion"), _pipe_client),
    "npipe.listen, threads": Server(_npipe_by_hand, _pipe_client),
    "npipe.aio.serve": Server(_npipe_aio, _pipe_client),
}

KINDS = [*SERVERS, *LIMITS]


# ---- A process of the run: told by lines of JSON on its stdin what to do, it answers each with one


class Worker:
    """A server, or some of the clients."""

    def __init__(self) -> None:
        self._clients: list[tuple[int, Callable[[bytes], bytes]]] = []
        self._serials: dict[int, int] = {}

    def do_serve(self, *, kind: str, address: str, clients: int) -> None:
        """Start to serve; return when clients can connect."""
        ready = threading.Event()
        threading.Thread(target=SERVERS[kind].serve, args=(address, clients, ready.set), daemon=True).start()
        if not ready.wait(_PATIENCE):
            raise TimeoutError("the server did not get ready")

    def do_connect(self, *, kind: str, address: str, first: int, count: int) -> None:
        """Open the connections of the clients number `first` and following, with a round trip on each."""
        for number in range(first, first + count):
            ask = SERVERS[kind].connect(address)
            self._clients.append((number, ask))
            self._trip(number, ask)

    def _trip(self, number: int, ask: Callable[[bytes], bytes]) -> None:
        serial = self._serials.get(number, 0) + 1
        self._serials[number] = serial
        message = _NUMBER.pack(number, serial).ljust(SIZE, b"%d" % (serial % 10))
        answer = ask(message)
        if answer != message:
            raise RuntimeError(f"client {number} sent {message!r}, and {answer!r} came back")

    def do_window(self, *, start: float, stop: float) -> dict[str, Any]:
        """Let all clients work from now until `stop`; return each one's round trips since `start`, and their times.

        A round trip belongs to the window in which it ends. Times are those of CLOCK_MONOTONIC.
        """
        results: list[tuple[int, list[int]]] = []
        failures: list[BaseException] = []

        def work(number: int, ask: Callable[[bytes], bytes]) -> None:
            try:
                results.append((number, self._window(number, ask, int(start * 1e9), int(stop * 1e9))))
            except BaseException as error:  # noqa: BLE001 - raised below
                failures.append(error)

        threads = [threading.Thread(target=work, args=client, daemon=True) for client in self._clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        times: collections.Counter[int] = collections.Counter()
        for _number, taken in results:
            times.update(_coarse(taken))
        used = time.process_time()
        return {"counts": {number: len(taken) for number, taken in results}, "times": times, "cpu": used}

    def _window(self, number: int, ask: Callable[[bytes], bytes], start: int, stop: int) -> list[int]:
        serial, taken = self._serials[number], []
        clock, pack = time.monotonic_ns, _NUMBER.pack
        before = clock()
        while before < stop:
            serial += 1
            message = pack(number, serial).ljust(SIZE, b"%d" % (serial % 10))
            if ask(message) != message:
                raise RuntimeError(f"client {number}: the answer to {serial} is not what was sent")
            now = clock()
            if start <= now < stop:
                taken.append(now - before)
            before = now
        self._serials[number] = serial
        return taken

    def do_cpu(self) -> float:
        """Return the processor time that the process has used, in seconds."""
        return time.process_time()


def _coarse(times: list[int]) -> Iterator[int]:
    """Yield times with so few digits that there are not many different ones."""
    for taken in times:
        scale = 10 ** max(0, len(str(taken)) - _DIGITS - 1)
        yield taken // scale * scale


def _work() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    worker = Worker()
    for line in sys.stdin:
        order = json.loads(line)
        try:
            reply = {"result": getattr(worker, "do_" + order.pop("do"))(**order)}
        except Exception as error:  # noqa: BLE001 - the parent raises it
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
    os._exit(0)  # threads of servers run for ever


# ---- A run


class FailedError(Exception):
    """A process hung, died, or reported an error."""


class Process:
    """A Worker, from outside."""

    def __init__(self, folder: Path, errors: IO[bytes]) -> None:
        self._errors = errors
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.crowds", "--worker"],
            cwd=ROOT,
            env={**os.environ, "NPIPE_ROOT": str(folder / "npipe")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )

    def tell(self, do: str, **arguments: Any) -> None:
        """Send an order, to be answered at `hear`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise FailedError(self._death()) from None

    def hear(self, patience: float = _PATIENCE) -> Any:
        """Return the result of the order; FailedError if there is none after `patience` seconds."""
        assert self._process.stdout is not None
        timer = threading.Timer(patience, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise FailedError(self._death())
        reply = json.loads(line)
        if "error" in reply:
            raise FailedError(reply["error"])
        return reply["result"]

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send an order and return its result."""
        self.tell(do, **arguments)
        return self.hear()

    def end(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _death(self) -> str:
        self.end()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"ended with status {self._process.returncode}" + (f": {lines[-1]}" if lines else "")


@dataclass
class Figures:
    """What one window of one crowd showed."""

    rate: float  # round trips a second, of all clients
    least: float  # what the client with the fewest got, of the mean
    times: dict[str, float]  # seconds: "p50", "p99", "p99.9", "worst"
    cpu: float  # seconds of processor time, of all processes, for each second

    @classmethod
    def of(cls, replies: list[dict[str, Any]], seconds: float, cpu: float) -> Figures:
        """Put together what the client processes have counted."""
        counts = [count for reply in replies for count in reply["counts"].values()]
        times: collections.Counter[int] = collections.Counter()
        for reply in replies:
            times.update({int(taken): count for taken, count in reply["times"].items()})
        mean = sum(counts) / len(counts)
        return cls(sum(counts) / seconds, min(counts) / mean if mean else math.nan, percentiles(times), cpu / seconds)


def percentiles(times: Mapping[int, int]) -> dict[str, float]:
    """Return the seconds that half, 99 % and 99.9 % of the round trips stay within, and the worst one's."""
    wanted = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "worst": 1.0}
    total, found, passed = sum(times.values()), {}, 0
    for taken in sorted(times):
        passed += times[taken]
        for name, share in wanted.items():
            if name not in found and passed >= share * total:
                found[name] = taken / 1e9
    return {name: found.get(name, math.nan) for name in wanted}


class Crowd:
    """One server and its clients; a context manager that ends all of them."""

    def __init__(self, kind: str, clients: int, folder: Path) -> None:
        self._kind, self._clients, self._folder = kind, clients, folder
        self._processes: list[Process] = []
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()
        for file in self._files:
            file.close()

    def _process(self) -> Process:
        self._files.append(tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115 - closed with the crowd
        self._processes.append(Process(self._folder, self._files[-1]))
        return self._processes[-1]

    def _start(self) -> None:
        server = self._process()
        address = f"crowd-{os.getpid()}-{id(self):x}"
        if not self._kind.startswith("npipe"):
            address = str(self._folder / address)
        server.ask("serve", kind=self._kind, address=address, clients=self._clients)
        shares = [self._clients // PROCESSES + (i < self._clients % PROCESSES) for i in range(PROCESSES)]
        first = 0
        for share in filter(None, shares):
            self._process().ask("connect", kind=self._kind, address=address, first=first, count=share)
            first += share

    def window(self, seconds: float) -> Figures:
        """Let all clients work for so many seconds, and a little before."""
        clients = self._processes[1:]
        start = time.monotonic() + _HEAD * seconds
        before = [process.ask("cpu") for process in self._processes]
        for client in clients:
            client.tell("window", start=start, stop=start + seconds)
        replies = [client.hear(seconds * (1 + _HEAD) + _PATIENCE) for client in clients]
        after = [self._processes[0].ask("cpu"), *(reply["cpu"] for reply in replies)]
        return Figures.of(replies, seconds, (sum(after) - sum(before)) / (1 + _HEAD))


@dataclass
class Result:
    """The rounds of one server with one crowd."""

    rounds: list[Figures] = field(default_factory=list)
    failure: str = ""


def _limit(kind: str, clients: int, seconds: float) -> Figures:
    """Let the program in C measure: how many round trips, and the least served."""
    program = ROOT / "build" / "bench" / "limit"
    if not program.exists():
        raise FailedError("not built: make bench")
    command = [str(program), LIMITS[kind], str(clients), str(round(seconds * 1000))]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _PATIENCE, check=True).stdout
    except (subprocess.SubprocessError, OSError) as error:
        raise FailedError(str(error)) from error
    nanoseconds, least = map(float, told.split())
    times = dict.fromkeys(("p50", "p99", "p99.9", "worst"), math.nan)
    return Figures(1e9 / nanoseconds, least, times, math.nan)


def measure(kinds: list[str], clients: int, rounds: int, seconds: float) -> dict[str, Result]:
    """Let each server have `rounds` windows, in turn with the others."""
    results = {kind: Result() for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "npipe").mkdir(mode=0o700)
        with contextlib.ExitStack() as stack:
            crowds = {}
            for kind in SERVERS.keys() & kinds:
                try:
                    crowds[kind] = stack.enter_context(Crowd(kind, clients, folder))
                except FailedError as error:
                    results[kind].failure = str(error)
            for _ in range(rounds):
                for kind in kinds:
                    if not results[kind].failure:
                        try:
                            window = crowds[kind].window if kind in crowds else partial(_limit, kind, clients)
                            results[kind].rounds.append(window(seconds))
                        except FailedError as error:
                            results[kind].failure = str(error)
    return results


def _median(rounds: list[Figures], of: Callable[[Figures], float]) -> float:
    return statistics.median(map(of, rounds)) if rounds else math.nan


def rows(results: Mapping[str, Result]) -> list[list[str]]:
    """Return a table: rate and percentiles, with ratios to BASE, and the least served client."""
    base = results[BASE].rounds if BASE in results else []
    table = [["server", "round trips/s", "×", "p50 µs", "p99 µs", "×", "p99.9 µs", "worst µs", "least/mean", "CPUs"]]
    for kind, result in results.items():
        if result.failure:
            table.append([kind, result.failure, *[""] * 8])
            continue
        pairs = list(zip(result.rounds, base, strict=False))
        faster = statistics.median(mine.rate / its.rate for mine, its in pairs) if pairs else math.nan
        longer = statistics.median(mine.times["p99"] / its.times["p99"] for mine, its in pairs) if pairs else math.nan
        times = [
            f"{_median(result.rounds, lambda one, name=name: one.times[name]) * 1e6:,.0f}"  # type: ignore[misc]
            for name in ("p50", "p99", "p99.9", "worst")
        ]
        table.append(
            [
                kind,
                f"{_median(result.rounds, lambda one: one.rate):,.0f}",
                f"{faster:.2f}",
                *times[:2],
                f"{longer:.2f}",
                *times[2:],
                f"{_median(result.rounds, lambda one: one.least):.2f}",
                f"{_median(result.rounds, lambda one: one.cpu):.2f}",
            ]
        )
    return table


def _show(table: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> int:
    """Measure, and print a table for each size of crowd."""
    parser = argparse.ArgumentParser(prog="python -m bench.crowds", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short window for each")
    parser.add_argument("--clients", type=int, action="append", metavar="N", help="a crowd of so many; may be repeated")
    parser.add_argument("--server", action="append", choices=KINDS, help="this server; may be repeated")
    parser.add_argument("--rounds", type=int, metavar="N", help="windows of each server")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long a window is")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        _work()
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    seconds = arguments.seconds or (0.2 if arguments.quick else 0.6)
    failed = False
    for clients in arguments.clients or CROWDS:
        results = measure(arguments.server or KINDS, clients, rounds, seconds)
        print(f"\n{clients} clients, {rounds} windows of {seconds:g} s; × is the ratio to {BASE}", flush=True)
        _show(rows(results))
        failed = failed or any(result.failure for result in results.values())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
