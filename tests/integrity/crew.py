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
from typing import TYPE_CHECKING, Any

from tests.helpers import CHECKOUT
from tests.integrity.plans import WINDOWS, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = bool(os.environ.get("NPIPE_LONG"))
DEADLINE = 60.0  # seconds for a plan, whose work takes some tenths of one
FRESH = 50  # plans after which the processes are started anew

_numbers = itertools.count()


class Finding(AssertionError):  # noqa: N818 - it is what is looked for
    """A plan did not end as it has to."""


class Process:
    """A worker, its answers and its last words."""

    def __init__(self, root: Path) -> None:
        self._stderr = tempfile.TemporaryFile("w+", prefix="npipe-integrity-")  # noqa: SIM115 - closed by end()
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.integrity.worker"],
            cwd=CHECKOUT,
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
        self._answers(plan, [server], end, "listening")
        client.order("run", plan=plan.as_json(), name=name, serves=False)
        of_server, of_client = self._answers(plan, [server, client], end, "done")
        server.order("account", outcomes=of_client["outcomes"])
        client.order("account", outcomes=of_server["outcomes"])
        self._answers(plan, [server, client], end, "done")
        self.figures["plans"] += 1
        for done in (of_client, of_server):
            self.figures.update(done["figures"])

    def _answers(self, plan: Plan, processes: list[Process], end: float, what: str) -> list[dict[str, Any]]:
        """Every process's next answer, which has to be `what`. Raises Finding."""
        answers: dict[Process, dict[str, Any]] = {}
        while len(answers) < len(processes):
            for process in processes:
                with contextlib.suppress(queue.Empty):
                    if process not in answers:
                        answers[process] = process.answers.get(timeout=0.02)
            if any(answer["is"] != what for answer in answers.values()):
                end = min(end, time.monotonic() + 1)  # where it comes from may be the other one's to say
            if time.monotonic() > end:
                break
        # Bytes that are wrong end the plan for both, so that is what it is about.
        bad = sorted(
            (answer for answer in answers.values() if answer["is"] != what), key=lambda answer: answer["is"] != "wrong"
        )
        text = "\n".join(answer["text"] for answer in bad)
        if not bad and len(answers) < len(processes):
            stacks = "\n\n".join(f"pid {one.process.pid}:\n{one.stacks()}" for one in processes)
            text = f"no end within {DEADLINE:g} s\n{stacks}"
        if text:
            form = "NPIPE_LONG=1 " if LONG else ""
            again = f"\nagain: {form}NPIPE_SEED={plan.seed} make test-integrity" if plan.seed >= 0 else ""
            raise Finding(f"{text}{again}\n{plan}")
        return [answers[process] for process in processes]

    def end(self) -> None:
        """End the processes; the next plan gets new ones."""
        for process in self._pair or ():
            process.end()
        self._pair = None


_TURN = """
import sys, threading
reading = threading.Thread(target=sys.stdin.read)  # ends with this process
reading.start()
while reading.is_alive():
    pass
"""


@contextlib.contextmanager
def _neighbours(count: int) -> Iterator[None]:
    neighbours = [subprocess.Popen([sys.executable, "-c", _TURN], stdin=subprocess.PIPE) for _ in range(count)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait(20)
            assert neighbour.stdin is not None
            neighbour.stdin.close()
