"""Threads of one process that talk through pipes, with the interpreter's lock and without: python -m bench.threads.

    python -m bench.threads              each case, once with PYTHON_GIL=1 and once with 0, in turns; the ratio
    python -m bench.threads --one        each case in this process: JSON

Needs a free-threaded CPython (scripts/nogil-python.sh): any other has its lock on always, and gets one column.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from typing import TYPE_CHECKING

import npipe

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = float(os.environ.get("BENCH_SECONDS", "0.5"))  # of each case
TURNS = int(os.environ.get("BENCH_TURNS", "3"))  # how often each is measured
FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class _Pair:
    def __init__(self, number: int) -> None:
        self.listener = npipe.listen(f"bench-threads-{os.getpid()}-{number}")
        self.client = npipe.connect(self.listener.name)
        self.server = self.listener.accept(5)

    def close(self) -> None:
        self.client.abort()
        self.server.abort()
        self.listener.close()


def _run(bodies: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def one_way(size: int, pairs: int) -> float:
    """Messages of `size` bytes a second, from one thread to another, over all of the pairs at once."""
    ends = [_Pair(number) for number in range(pairs)]
    message = bytes(size)
    counts = [0] * pairs
    until = time.perf_counter() + SECONDS

    def send(index: int) -> None:
        pipe = ends[index].client
        while time.perf_counter() < until:
            for _ in range(20):
                pipe.send(message)
        pipe.send(b"end")

    def receive(index: int) -> None:
        pipe = ends[index].server
        count = 0
        while (got := pipe.recv()) != b"end":
            count += 1
            if len(got) != size:
                raise AssertionError(len(got))
        counts[index] = count

    begin = time.perf_counter()
    _run([lambda i=i, call=call: call(i) for i in range(pairs) for call in (send, receive)])  # type: ignore[misc]
    took = time.perf_counter() - begin
    for pair in ends:
        pair.close()
    return sum(counts) / took


def round_trips(size: int, pairs: int) -> float:
    """Questions of `size` bytes a second that are answered with as many, by one thread to another."""
    ends = [_Pair(number) for number in range(pairs)]
    message = bytes(size)
    counts = [0] * pairs
    until = time.perf_counter() + SECONDS

    def ask(index: int) -> None:
        pipe = ends[index].client
        count = 0
        while time.perf_counter() < until:
            pipe.send(message)
            pipe.recv()
            count += 1
        pipe.send(b"end")
        counts[index] = count

    def answer(index: int) -> None:
        pipe = ends[index].server
        while (got := pipe.recv()) != b"end":
            pipe.send(got)

    begin = time.perf_counter()
    _run([lambda i=i, call=call: call(i) for i in range(pairs) for call in (ask, answer)])  # type: ignore[misc]
    took = time.perf_counter() - begin
    for pair in ends:
        pair.close()
    return sum(counts) / took


CASES: dict[str, Callable[[], float]] = {
    f"{word}, {size} B, {pairs} pair{'s' * (pairs > 1)}": (lambda call=call, size=size, pairs=pairs: call(size, pairs))  # type: ignore[misc]
    for call, word in ((one_way, "one way"), (round_trips, "there and back"))
    for size in (64, 65536)
    for pairs in (1, 2)
}


def _run_case(case: Callable[[], float]) -> tuple[float, float]:
    """Its rate, and how many processors it had: on a busy machine, or behind a lock, not all that it wants."""
    began, used = time.perf_counter(), time.process_time()
    rate = case()
    return rate, (time.process_time() - used) / (time.perf_counter() - began)


def _measure(lock: str) -> dict[str, tuple[float, float]]:
    environment = {**os.environ, "PYTHON_GIL": lock} if FREE else dict(os.environ)
    command = [sys.executable, "-m", "bench.threads", "--one"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main(arguments: list[str]) -> int:
    """Measure, and print a table."""
    if arguments == ["--one"]:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["NPIPE_ROOT"] = folder
            print(json.dumps({name: _run_case(case) for name, case in CASES.items()}))
        return 0
    locks = ("1", "0") if FREE else ("1",)
    runs: dict[str, list[dict[str, tuple[float, float]]]] = {lock: [] for lock in locks}
    for _ in range(TURNS):
        for lock in locks:
            runs[lock].append(_measure(lock))
    print(
        f"{sys.version.split()[0]}{' free-threaded' * FREE}, {os.cpu_count()} processors; a second, median of {TURNS};"
        " in brackets: processors that it had"
    )
    print(f"{'':36}{'with the lock':>20}" + f"{'without':>20}{'ratio':>8}" * FREE)
    for name in CASES:
        rates, line = [], f"{name:36}"
        for lock in locks:
            rates.append(statistics.median(run[name][0] for run in runs[lock]))
            line += f"{rates[-1]:>13,.0f} ({statistics.median(run[name][1] for run in runs[lock]):4.2f})"
        print(line + (f"{rates[1] / rates[0]:>8.1f}" if FREE else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
