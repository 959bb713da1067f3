"""Asking the owners of pipes, in threads: nobody who looks waits for an owner that does not answer.

Three threads and no more, however many pipes there are. One lists names; one asks those that answer; and one asks those
that did not the last time, one after the other, for each of them may take seconds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import npipe
from npipe.cli._monitor.model import Sample
from npipe.cli.reports import inspect_listed
from npipe.errors import WinError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Sampler", "Source"]

_SHARE: Final = 2.0  # asking takes at most this part of the time, as 1/x
_LIST: Final = 1.0  # seconds between two listings, at least
_SILENT: Final = 2.0  # and between two questions to who does not answer: they wait in its backlog
_HUNG: Final = WinError.SEM_TIMEOUT


class Source(Protocol):
    """Where samples come from."""

    interval: float
    """Seconds between two questions."""

    def start(self, tell: Callable[[], object]) -> None:
        """Begin; `tell` is called, by any thread, when there is something new."""

    def stop(self) -> None:
        """End, without waiting for anybody."""

    def take(self) -> list[Sample]:
        """Return the samples that have come since the last call."""

    @property
    def problem(self) -> str | None:
        """Why pipes cannot be listed; None if they can."""


class Sampler:
    """Asks the owners of the pipes `names`, or of all that there are (None), every `interval` seconds."""

    def __init__(self, names: Iterable[str] | None, interval: float) -> None:
        self.interval = interval
        self.problem: str | None = None
        self._names = None if names is None else list(names)
        self._known: dict[str, None] = dict.fromkeys(self._names or ())
        self._silent: set[str] = set()
        self._samples: deque[Sample] = deque()
        self._lock = threading.Lock()
        self._listed = threading.Event()
        self._stopped = threading.Event()
        self._tell: Callable[[], object] = lambda: None

    def start(self, tell: Callable[[], object]) -> None:
        """See Source.start."""
        self._tell = tell
        tasks = [self._ask_prompt, self._ask_silent]
        if self._names is None:
            tasks.append(self._list)
        else:
            self._listed.set()
        for task in tasks:
            # A daemon: an owner that does not answer holds up nobody's end.
            threading.Thread(target=task, name=f"npipe-top{task.__name__}", daemon=True).start()

    def stop(self) -> None:
        """See Source.stop."""
        self._stopped.set()
        self._listed.set()

    def take(self) -> list[Sample]:
        """See Source.take."""
        samples = []
        while self._samples:
            samples.append(self._samples.popleft())
        return samples

    def _pause(self, began: float, least: float = 0.0) -> None:
        """Wait for the next turn; a turn that took long is followed by a pause as long."""
        spent = time.monotonic() - began
        self._stopped.wait(max(max(self.interval, least) - spent, (_SHARE - 1) * spent))

    def _list(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                names = dict.fromkeys(pipe.name for pipe in npipe.list_pipes())
                problem = None
            except npipe.PipeError as error:
                names, problem = {}, str(error)
            with self._lock:
                self._known.update(names)
            changed = problem != self.problem
            self.problem = problem
            first = not self._listed.is_set()
            self._listed.set()
            if changed or (first and not names):
                self._tell()
            self._pause(began, _LIST)

    def _ask_prompt(self) -> None:
        self._listed.wait()
        while not self._stopped.is_set():
            began = time.monotonic()
            with self._lock:
                names = [name for name in self._known if name not in self._silent]
            self._ask_all(names, each=False)
            self._tell()
            self._pause(began)

    def _ask_silent(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            with self._lock:
                names = list(self._silent)
            self._ask_all(names, each=True)
            self._pause(began, _SILENT)

    def _ask_all(self, names: list[str], *, each: bool) -> None:
        for name in names:
            if self._stopped.is_set():
                return
            sample = self._ask(name)
            hung = sample.report is not None and any(owner.code == _HUNG for owner in sample.report.owners)
            with self._lock:
                (self._silent.add if hung else self._silent.discard)(name)
                if sample.report is None and sample.problem is None and self._names is None:
                    self._known.pop(name, None)
            self._samples.append(sample)
            if each or hung:
                self._tell()

    def _ask(self, name: str) -> Sample:
        report, problem = None, None
        try:
            report = inspect_listed(name)
        except npipe.PipeNotFoundError:
            pass
        except npipe.PipeError as error:
            problem = str(error)
        return Sample(name, time.monotonic(), time.time(), report, problem)
