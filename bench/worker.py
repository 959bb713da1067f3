"""A process of the benchmark: server, client or busy neighbour, told what to do by lines of JSON on its stdin.

Each command gets one line of JSON on stdout: its result, or ``{"error": …}``. The process ends with its stdin, and
with its parent, however that ends.
"""

from __future__ import annotations

import array
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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .objects import answer_objects, run_objects
from .peers import PEERS, Acceptor, Peer
from .tasks import ECHO, Channel, answer_order, compare_all, run_order, sample

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
        self._samples: dict[int, array.array[int]] = {}  # nanoseconds of round trips, by size
        self._chunks: dict[tuple[int, int, int], int] = {}  # messages in an order, by connection, kind and size

    def _peer(self, name: str) -> Peer:
        if name not in self._peers:
            self._peers[name] = PEERS[name](self._folder)
        return self._peers[name]

    def do_version(self, *, peer: str) -> dict[str, str]:
        """Return the peer's ``version``, or what is ``missing``, in words, when it cannot be imported."""
        try:
            return {"version": self._peer(peer).version()}
        except ModuleNotFoundError as missing:
            return {"missing": f"{missing.name} is not installed"}
        except ImportError as error:
            return {"missing": f"it cannot be imported: {' '.join(str(error).split())}"}

    def do_slots(self, *, peer: str, size: int) -> None:
        """Say that messages of ``size`` bytes are to come, and to be roomy for them; before everything else."""
        self._peer(peer).slot = size
        self._peer(peer).roomy = True

    def do_pin(self, *, core: int) -> None:
        """Stay on one core, with all threads that are started from now on."""
        os.sched_setaffinity(0, {core})

    def do_serve(self, *, peer: str, mode: str, address: str, count: int = 1) -> None:
        """Start to serve in the background; return when clients can connect.

        ``threads`` serves each connection in a thread of its own until the client leaves, ``objects`` does so with
        orders of objects; ``keep`` serves one order
        on each connection and then holds it, with no thread; ``cycle`` answers one message on each and closes it.
        """
        server = self._peer(peer)
        if mode == "cycle":
            ready = threading.Event()
            _background(lambda: server.answer_cycles(address, ready))
            ready.wait()
            return
        acceptor = server.listen(address, count)
        if mode == "keep":
            _background(lambda: self._serve_and_keep(acceptor))
        else:
            _background(lambda: _serve_threads(acceptor, answer_objects if mode == "objects" else answer_order))

    def _serve_and_keep(self, acceptor: Acceptor) -> None:
        while True:
            channel = acceptor.accept()
            answer_order(channel)
            self._kept.append(channel)

    def do_connect(self, *, peer: str, address: str, first: int = 0, count: int = 1, greet: bool = True) -> None:
        """Open connections number ``first`` and following, with one round trip of 64 bytes on each if ``greet``."""
        for index in range(first, first + count):
            channel = self._peer(peer).connect(address, index)
            self._channels.append(channel)
            if greet:
                run_order(channel, ECHO, 64, 1)

    def do_run(self, *, kind: int, size: int, count: int) -> float:
        """Run one order on the first connection; return its seconds. What the calls move is compared whole before."""
        compare_all(self._channels[0], kind, size)
        return run_order(self._channels[0], kind, size, count)

    def do_objects(self, *, kind: int, count: int, back: bool) -> float:
        """Move objects on the first connection; return the seconds."""
        return run_objects(self._channels[0], kind, count, back=back)

    def do_traffic(self, *, kind: int, size: int, count: int) -> float:
        """Run one order on the connection that was opened last; return its seconds."""
        return run_order(self._channels[-1], kind, size, count)

    def do_sample(self, *, size: int, seconds: float) -> int:
        """Note the time of each round trip, for some ``seconds``; return how many there are now."""
        noted = self._samples.setdefault(size, array.array("q"))
        compare_all(self._channels[0], ECHO, size)
        sample(self._channels[0], size, seconds, noted)
        return len(noted)

    def do_quantiles(self, *, size: int, shares: list[float]) -> list[float]:
        """Return the seconds that these shares of all round trips took at most."""
        noted = sorted(self._samples[size])
        return [noted[min(len(noted) - 1, int(share * len(noted)))] / 1e9 for share in shares]

    def do_disconnect(self) -> None:
        """Close all connections that this process has opened or holds."""
        for channels in (self._channels, self._kept):
            for channel in channels:
                channel.close()
            channels.clear()

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
        get their turn in it have done little, whatever they do later. One that has no turn at all does one order behind
        it, and its time counts from ``start``: little, but not nothing, of which no latency could be told.

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
        if not moved:  # not scheduled before the window was over: it lasts until the first order has been done
            run_order(channel, kind, size, chunk)
            return (chunk + 1) / (time.monotonic() - start)
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
        return turns / (now - begun) if turns else 0.0

    def do_idle(self, *, seconds: float) -> float:
        """Do nothing; return the seconds of CPU that all threads of this process used meanwhile."""
        before = time.process_time_ns()
        time.sleep(seconds)
        return (time.process_time_ns() - before) / 1e9

    def do_memory(self) -> int:
        """Return this process's proportional set size (PSS) in bytes."""
        return _rollup()["Pss"]

    def do_held(self) -> dict[str, Any]:
        """Return the bytes of this process's own, those of shared memory, and the blocks of the files of these.

        What it maps of programs and libraries is left out: its share of those changes with who else runs them.
        """
        rollup = _rollup()
        return {
            "own": rollup["Pss_Anon"],
            "shared": rollup["Pss_Shmem"],
            "blocks": _blocks_in_memory(),
        }


def _rollup() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines}


def _blocks_in_memory() -> dict[str, int]:
    """Return the bytes in blocks of the open files that are memory (memfd, /dev/shm), by inode."""
    blocks = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target, status = str(entry.readlink()), entry.stat()
        except OSError:
            continue  # the folder's own descriptor
        if target.startswith(("/memfd:", "/dev/shm/")):
            blocks[f"{status.st_dev}:{status.st_ino}"] = status.st_blocks * 512
    return blocks


def _background(function: Callable[[], object]) -> None:
    def run() -> None:
        try:
            function()
        except BaseException:  # noqa: BLE001 - a dead server thread would leave its clients waiting for the deadline
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    threading.Thread(target=run, daemon=True).start()


def _serve_threads(acceptor: Acceptor, answer: Callable[[Channel], bool]) -> None:
    def serve(channel: Channel) -> None:
        while answer(channel):
            pass
        channel.close()

    while True:
        channel = acceptor.accept()
        _background(partial(serve, channel))


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
