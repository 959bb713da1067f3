"""Two processes that carry plans out, and whoever else is there: started, watched, and ended whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.integrity.plans import WINDOWS, Plan
else:
    from plans import WINDOWS, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = bool(os.environ.get("NPIPE_LONG"))
DEADLINE = 60.0  # seconds for a plan, whose work takes some tenths of one
FRESH = 50  # plans after which the processes are started anew

_WORKER = Path(__file__).with_name("worker.py")
_numbers = itertools.count()


class Finding(AssertionError):
    """A plan did not end as it has to."""


class Process:
    """A worker, its answers and its last words."""

    def __init__(self, root: Path) -> None:
        self._stderr = tempfile.TemporaryFile("w+", prefix="npipe-integrity-")  # noqa: SIM115 - closed by end()
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            bufsize=1,
            env={**os.environ, "NPIPE_ROOT": str(root)},
        )
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):  # closed
            for line in self.process.stdout:
                self.answers.put(json.loads(line))
        self.answers.put({"is": "failed", "text": "the process has ended"})

    def order(self, what: str, **more: Any) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, as its answers say
            self.process.stdin.write(json.dumps({"do": what, **more}) + "\n")
            self.process.stdin.flush()

    def stacks(self) -> str:
        """What its threads are doing, and what else it has written to its standard error."""
        if not WINDOWS and self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)  # it does not say when it has written them
        self._stderr.seek(0)
        return self._stderr.read()[-6000:]

    def end(self) -> None:
        self.process.kill()
        self.process.wait(20)
        self._reader.join(20)
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class Crew:
    """A process that serves and one that connects, for plan after plan."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pair: tuple[Process, Process] | None = None
        self._plans = 0
        self.figures: Counter[str] = Counter()

    def run(self, plan: Plan) -> None:
        """Carry a plan out. Raises Finding."""
        if self._plans % FRESH == 0:
            self.end()
        if self._pair is None:
            self._pair = Process(self._root), Process(self._root)
        self._plans += 1
        try:
            with _neighbours(plan.neighbours):
                self._run(plan, *self._pair)
        except BaseException:
            self.end()
            raise

    def _run(self, plan: Plan, server: Process, client: Process) -> None:
        end = time.monotonic() + DEADLINE * (4 if LONG else 1)
        name = rf"\\.\pipe\integrity-{os.getpid()}-{next(_numbers)}"
        server.order("run", plan=plan.as_json(), name=name, serves=True)
        self._next(plan, server, [server], end, "listening")
        client.order("run", plan=plan.as_json(), name=name, serves=False)
        both = [client, server]
        of_client, of_server = (self._next(plan, process, both, end, "done") for process in both)
        server.order("account", outcomes=of_client["outcomes"])
        client.order("account", outcomes=of_server["outcomes"])
        for process in both:
            self._next(plan, process, both, end, "done")
        self.figures["plans"] += 1
        for done in (of_client, of_server):
            self.figures.update(done["figures"])

    def _next(self, plan: Plan, process: Process, all_of_them: list[Process], end: float, what: str) -> dict[str, Any]:
        """The next answer of a process, unless another one has failed."""
        while True:
            try:
                answer = process.answers.get(timeout=0.1)
            except queue.Empty:
                for other in all_of_them:
                    if other is not process and any(one["is"] != "done" for one in list(other.answers.queue)):
                        answer = next(one for one in list(other.answers.queue) if one["is"] != "done")
                        break
                else:
                    if time.monotonic() < end:
                        continue
                    stacks = "\n\n".join(f"pid {one.process.pid}:\n{one.stacks()}" for one in all_of_them)
                    raise Finding(f"no end within {DEADLINE:g} s\n{_how_again(plan)}\n{stacks}") from None
            if answer["is"] == what:
                return answer
            raise Finding(f"{answer['text']}\n{_how_again(plan)}")

    def end(self) -> None:
        """End the processes; the next plan gets new ones."""
        for process in self._pair or ():
            process.end()
        self._pair = None


def _how_again(plan: Plan) -> str:
    again = f"again: NPIPE_SEED={plan.seed} make test-integrity\n" if plan.seed >= 0 else ""
    return f"{again}{plan}"


@contextlib.contextmanager
def _neighbours(count: int) -> Iterator[None]:
    # They end with this process, too: each has to be told to go on.
    turn = "import sys, threading\nthreading.Thread(target=sys.stdin.read, daemon=True).start()\nwhile threading.active_count() > 1: pass"
    neighbours = [subprocess.Popen([sys.executable, "-c", turn], stdin=subprocess.PIPE) for _ in range(count)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait(20)
            assert neighbour.stdin is not None
            neighbour.stdin.close()
