"""The processes of all peers of a scenario, and what most scenarios do with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .measure import Case, Outcome, Quantity, interleave, timed
from .names import LIMIT
from .peers import taking_part
from .processes import Ends, PeerFailedError, Session, limit_usage, run_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """How long to measure, and what."""

    rounds: int  # of a simple loop
    round_seconds: float
    window_rounds: int  # where many processes are at work
    window_seconds: float
    idle_seconds: float
    tail_seconds: float  # of a round in which each round trip is noted
    traffic: int  # bytes through a connection whose memory is looked at then
    limit: Path  # the engine's program in C; it need not exist
    peers: list[str]  # those that are installed


class Fleet:
    """A context manager: one set of processes for every peer; one that fails sits out the rest of the scenario."""

    def __init__(self, scenario: str, peers: list[str], start: Callable[[str], Ends]) -> None:
        self._scenario = scenario
        self._peers = taking_part(scenario, peers)
        self._start = start
        self._failures: dict[str, str] = {}
        self.running: dict[str, Ends] = {}

    def __enter__(self) -> Self:
        for peer in self._peers:
            try:
                self.running[peer] = self._start(peer)
            except PeerFailedError as error:
                self._failures[peer] = str(error)
        return self

    def __exit__(self, *_: object) -> None:
        for ends in self.running.values():
            ends.kill()

    def fail(self, peer: str, reason: str) -> None:
        """Take a peer out."""
        self._failures[peer] = reason
        self.running.pop(peer).kill()

    def measure(
        self,
        label: str,
        quantity: Quantity,
        rounds: int,
        task: Callable[[str, Ends], Callable[[], float]],
        *,
        size: int = 0,
        others: Mapping[str, Callable[[], float]] | None = None,
    ) -> Case:
        """Let every peer, and ``others``, do its task in turn."""
        tasks = {peer: task(peer, ends) for peer, ends in self.running.items()}
        outcomes = interleave(rounds, tasks | dict(others or {}))
        for peer in list(self.running):
            if outcomes[peer].failure:
                self.fail(peer, outcomes[peer].failure)
        return self.case(label, quantity, outcomes, size=size)

    def case(self, label: str, quantity: Quantity, outcomes: dict[str, Outcome], *, size: int = 0) -> Case:
        """Make a column of outcomes, with a place for each peer that has failed."""
        failed = {peer: Outcome(failure=reason) for peer, reason in self._failures.items()}
        order = [*self._peers, *(name for name in outcomes if name not in self._peers)]
        merged = outcomes | failed
        return Case(self._scenario, label, quantity, size, {name: merged[name] for name in order if name in merged})


def start_one(session: Session, peer: str, *, apart: bool = False) -> Ends:
    """Start a server with a thread for its one client."""
    return session.start(peer, "threads", connections=(1,), apart=apart)


def inverse(task: Callable[[], float]) -> Callable[[], float]:
    """Make a rate of a time."""
    return lambda: 1 / task()


def run(kind: int, size: int, seconds: float, _peer: str, ends: Ends) -> Callable[[], float]:
    return timed(lambda count: float(ends.client.ask("run", kind=kind, size=size, count=count)), seconds)


def limit(settings: Settings, what: str, size: int) -> dict[str, Callable[[], float]]:
    if not settings.limit.exists():
        return {}
    task = bare(settings, what, size)
    return {LIMIT: task if what == "rtt" else inverse(task)}


def knows(settings: Settings, what: str) -> bool:
    """Whether the program in C is there, and measures this."""
    return settings.limit.exists() and what in limit_usage(settings.limit)


def bare(settings: Settings, what: str, size: int) -> Callable[[], float]:
    return timed(lambda count: run_limit(settings.limit, what, size, count) * count, settings.round_seconds)
