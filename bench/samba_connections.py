"""Connections of clients of other machines, many at once: npipe's client beside smbprotocol alone, through one smbd.

    python -m bench.samba_connections [--connections 20,100,500] [--rounds 4] [--calls 1500]

Each client has a connection and a logon of its own, for which smbd makes a process, and one pipe, over which a thread
of its own transacts 64 bytes; the server, an exported pipe, answers each message with itself, and each answer is
compared. The clients are in processes of at most 20. npipe's and smbprotocol's are all connected, and take rounds in
turns. Ratios are npipe's to smbprotocol's: of time the median of the rounds, and of the clients' CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Self

import npipe
from bench.samba import PASSWORD, percentile
from bench.samba_client import HOST, NAME, show

if TYPE_CHECKING:
    from collections.abc import Callable

PER_PROCESS: Final = 20
KINDS: Final = ("npipe", "smbprotocol")
PATIENCE: Final = 170  # seconds
SERVER: Final = """
import resource, sys, npipe
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
with npipe.serve("exported", bytes, remote="samba", allow="authenticated", samba_dir=sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.read()
"""


def user(number: int) -> str:
    """Return a user's name: npipe's clients of one user in one process would share a connection."""
    return f"user{number}"


# ---- A process of clients


def connected(kind: str, port: int, number: int) -> tuple[Callable[[bytes], bytes], Callable[[], object]]:
    """Connect a client: a function that transacts, and one that closes it."""
    if kind == "npipe":
        remote = npipe.Remote(user(number), PASSWORD, port=port, auth="ntlm")
        pipe = npipe.connect(rf"\\{HOST}\pipe\{NAME}", remote=remote, timeout=PATIENCE)
        return pipe.transact, pipe.close
    from tests.samba.clients import Client

    client = Client(port, user(number), password=PASSWORD)
    opened = client.open(NAME)
    return lambda data: client.call(opened, data), client.close


def work(kind: str, port: int, count: int) -> None:
    """Be such a process: say that all are connected; then for each line, of so many calls each, what they took."""
    began = time.monotonic()
    clients = [connected(kind, port, number) for number in range(count)]
    print(json.dumps({"seconds": time.monotonic() - began, "processor": time.process_time()}), flush=True)
    for line in sys.stdin:
        calls, times = int(line), list[float]()

        def talk(call: Callable[[bytes], bytes], calls: int = calls, into: list[float] = times) -> None:
            for _ in range(calls):
                data = os.urandom(64)
                began = time.perf_counter()
                if call(data) != data:
                    raise AssertionError(f"{kind} got something else")
                into.append(time.perf_counter() - began)

        threads = [threading.Thread(target=talk, args=(call,)) for call, _ in clients]
        processor, began = time.process_time(), time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(times) != calls * count:
            raise AssertionError(f"a client of {kind}'s has failed")
        spent = time.process_time() - processor
        print(json.dumps({"began": began, "ended": time.monotonic(), "processor": spent, "times": times}), flush=True)
    for _, close in clients:
        close()


# ---- Their parent


class Crowd:
    """So many clients of one kind, connected."""

    def __init__(self, kind: str, port: int, count: int) -> None:
        self._stack = contextlib.ExitStack()
        self._workers = []
        began = time.monotonic()
        for first in range(0, count, PER_PROCESS):
            number = min(PER_PROCESS, count - first)
            command = [sys.executable, "-m", "bench.samba_connections", "--work", kind, str(port), str(number)]
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._stack.callback(worker.wait)
            self._stack.callback(worker.kill)
            self._workers.append(worker)
        self._answers()
        self.connecting = (time.monotonic() - began) / count

    def _answers(self) -> list[dict[str, Any]]:
        lines = []
        for worker in self._workers:
            assert worker.stdout is not None
            lines.append(worker.stdout.readline())
        if not all(lines):
            raise AssertionError("a process of clients has failed")
        return [json.loads(line) for line in lines]

    def round(self, calls: int) -> tuple[float, list[float], float]:
        """So many calls of each: transactions in a second, the time of each, and the clients' CPU for one."""
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{calls}\n")
            worker.stdin.flush()
        answers = self._answers()
        times = [one for answer in answers for one in answer["times"]]
        taken = max(answer["ended"] for answer in answers) - min(answer["began"] for answer in answers)
        return len(times) / taken, times, sum(answer["processor"] for answer in answers) / len(times)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def row(port: int, count: int, rounds: int, calls: int) -> str:
    """Return a row of the page's table."""
    each = max(2, calls // count)
    with Crowd(KINDS[0], port, count) as mine, Crowd(KINDS[1], port, count) as bare:
        found: dict[str, list[tuple[float, list[float], float]]] = {kind: [] for kind in KINDS}
        for number in range(rounds):
            for kind, crowd in list(zip(KINDS, (mine, bare), strict=True))[:: 1 if number % 2 else -1]:
                found[kind].append(crowd.round(each))
        connecting = mine.connecting / bare.connecting
    cells = []
    for one in found.values():
        every = [spent for _, times, _ in one for spent in times]
        rate = median(rate for rate, _, _ in one)
        cells.append(f"{rate:,.0f}/s, {show(percentile(every, 0.5))} / {show(percentile(every, 0.99))}")
    pairs = list(zip(found["npipe"], found["smbprotocol"], strict=True))
    ratio = median(theirs[0] / own[0] for own, theirs in pairs)
    processor = median(own[2] / theirs[2] for own, theirs in pairs)
    return f"| {count} | {' | '.join(cells)} | {ratio:.2f} | {processor:.2f} | {connecting:.2f} |"


def main() -> int:
    """Run all of it, and print the page's table."""
    from npipe.samba import PrivateSmbd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", default="20,100,500", help="how many at once, of each kind")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--calls", type=int, default=1500, help="of all clients together, in a round")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options.work[0], *map(int, options.work[1:]))
        return 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="npipe-bench-") as folder, PrivateSmbd(f"{folder}/s", port=14457) as smbd:
        os.environ["NPIPE_ROOT"] = f"{folder}/root"
        for number in range(PER_PROCESS):
            smbd.add_user(user(number), PASSWORD, local_user="games")
        smbd.start()
        command = [sys.executable, "-c", SERVER, str(smbd.samba_dir)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            try:
                columns = (*KINDS, "time, npipe / smbprotocol", "CPU", "connecting")
                print(f"| connections | {' | '.join(columns)} |\n" + "| --- " * (len(columns) + 1) + "|", flush=True)
                for count in options.connections.split(","):
                    began = time.monotonic()
                    print(row(smbd.port, int(count), options.rounds, options.calls), flush=True)
                    print(
                        f"{time.monotonic() - began:.0f} s; load {Path('/proc/loadavg').read_text()}", file=sys.stderr
                    )
            finally:
                server.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
