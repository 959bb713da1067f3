"""A process of the benchmark: server, client or busy neighbour, told what to do by lines of JSON on its stdin.

Each command gets one line of JSON on stdout: its result, or ``{"error": …}``. The process ends with its stdin, and
with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .peers import PEERS, Acceptor, Peer
from .tasks import ECHO, Channel, answer_order, run_order

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_CHUNK_SECONDS = 0.03  # a window is measured in orders of about this length


def _dies_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Worker:
    """The commands, each a method ``do_NAME`` whose result goes back as JSON."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._peers: dict[str, Peer] = {}
        self._channels: list[Channel] = []  # a client's open connections
        self._kept: list[Channel] = []  # a server's, in the mode "keep"
        self._chunks: dict[tuple[int, int, int], int] = {}  # messages in an order, by connection, kind and size

    def _peer(self, name: str) -> Peer:
        if name not in self._peers:
            self._peers[name] = PEERS[name](self._folder)
        return self._peers[name]

    def do_version(self, *, peer: str) -> str | None:
        """Return the peer's version, or None when it is not installed."""
        try:
            return self._peer(peer).version()
        except ModuleNotFoundError as missing:
            if missing.name == PEERS[peer].module:
                return None
            raise

    def do_pin(self, *, core: int) -> None:
        """Stay on one core, with all threads that are started from now on."""
        os.sched_setaffinity(0, {core})

    def do_serve(self, *, peer: str, mode: str, address: str, count: int = 1) -> None:
        """Start to serve in the background; return when clients can connect.

        ``threads`` serves each connection in a thread of its own until the client leaves; ``keep`` serves one order
        on each connection and then holds it, with no thread; ``cycle`` answers one message on each and closes it.
        """
        server = self._peer(peer)
        if mode == "cycle":
            ready = threading.Event()
            _background(lambda: server.answer_cycles(address, ready))
            ready.wait()
            return
        acceptor = server.listen(address, count)
        serve = self._serve_threads if mode == "threads" else self._serve_and_keep
        _background(lambda: serve(acceptor))

    def _serve_threads(self, acceptor: Acceptor) -> None:
        while True:
            channel = acceptor.accept()
            _background(lambda channel=channel: _serve_channel(channel))  # type: ignore[misc]

    def _serve_and_keep(self, acceptor: Acceptor) -> None:
        while True:
            channel = acceptor.accept()
            answer_order(channel)
            self._kept.append(channel)

    def do_connect(self, *, peer: str, address: str, first: int = 0, count: int = 1) -> None:
        """Open connections number ``first`` and following, with one round trip of 64 bytes on each."""
        for index in range(first, first + count):
            channel = self._peer(peer).connect(address, index)
            self._channels.append(channel)
            run_order(channel, ECHO, 64, 1)

    def do_run(self, *, kind: int, size: int, count: int) -> float:
        """Run one order on the first connection; return its seconds."""
        return run_order(self._channels[0], kind, size, count)

    def do_cycles(self, *, peer: str, address: str, count: int) -> float:
        """Connect, do a round trip and close ``count`` times; return the seconds of all."""
        cycle = self._peer(peer).cycle
        start = time.perf_counter()
        for _ in range(count):
            cycle(address)
        return time.perf_counter() - start

    def do_window(self, *, kind: int, size: int, start: float, stop: float) -> list[float]:
        """Keep every connection busy from now until ``stop``; return each one's messages per second after ``start``.

        What an order moved counts for the part of its time that lies in the window, so that connections which do not
        get their turn in it have done little, whatever they do later.

        Times are those of CLOCK_MONOTONIC, which is one clock for all processes.
        """
        rates = [0.0] * len(self._channels)
        failures: list[BaseException] = []

        def work(index: int) -> None:
            try:
                rates[index] = self._window(index, kind, size, start, stop)
            except Exception as error:  # noqa: BLE001 - reported by the command
                failures.append(error)

        if len(self._channels) == 1:
            work(0)
        else:
            threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(rates))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]
        return rates

    def _window(self, index: int, kind: int, size: int, start: float, stop: float) -> float:
        channel = self._channels[index]
        chunk = self._chunks.get((index, kind, size), 8)
        now = time.monotonic()
        moved = 0.0
        while now < stop:
            run_order(channel, kind, size, chunk)
            before, now = now, time.monotonic()
            inside = min(now, stop) - max(before, start)
            if inside > 0:
                moved += (chunk + 1) * inside / (now - before)  # the order itself is a round trip too
            if now - before < _CHUNK_SECONDS:
                chunk *= 2
        self._chunks[index, kind, size] = chunk
        return moved / (stop - start)

    def do_hog(self, *, start: float, stop: float, until: float) -> float:
        """Burn a core until ``until``; return the turns of a loop per second between ``start`` and ``stop``."""
        turns = 0
        clock = time.monotonic
        while clock() < start:
            pass
        begun = clock()
        while (now := clock()) < stop:
            for _ in range(100):
                turns += 1
        while clock() < until:
            pass
        return turns / (now - begun)

    def do_idle(self, *, seconds: float) -> float:
        """Do nothing; return the seconds of CPU that all threads of this process used meanwhile."""
        before = time.process_time_ns()
        time.sleep(seconds)
        return (time.process_time_ns() - before) / 1e9

    def do_memory(self) -> int:
        """Return this process's proportional set size (PSS) in bytes."""
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no Pss in /proc/self/smaps_rollup")


def _background(function: Callable[[], object]) -> None:
    def run() -> None:
        try:
            function()
        except BaseException:  # noqa: BLE001 - a dead server thread would leave its clients waiting for the deadline
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    threading.Thread(target=run, daemon=True).start()


def _serve_channel(channel: Channel) -> None:
    while answer_order(channel):
        pass
    channel.close()


def main() -> None:
    _dies_with_parent()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    worker = Worker(Path(sys.argv[1]))
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        try:
            result = getattr(worker, "do_" + command.pop("do"))(**command)
            reply = {"result": result}
        except Exception as error:  # noqa: BLE001 - whatever went wrong belongs into the report
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    os._exit(0)  # threads of libraries must not hold up the end


if __name__ == "__main__":
    main()
