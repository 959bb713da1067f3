"""What is measured: a function for each scenario, which returns the columns of its table."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from .fleet import Fleet, Settings, bare, inverse, knows, limit, run, start_one
from .measure import Case, Outcome, Quantity, timed
from .memory import memory
from .names import (
    CLIENTS,
    CONNECTIONS,
    COPIED,
    COPY,
    CORES,
    CYCLE,
    IDLE,
    INTO,
    KEPT_ONE_WAY,
    KEPT_ROUND_TRIP,
    LINE,
    LINES,
    MEMORY,
    NOTHING,
    NPIPE,
    ONE_WAY,
    PERCENTILES,
    READER,
    ROUND_TRIP,
    SIZES,
    TAIL,
)
from .objects import objects
from .peers import PEERS
from .places import frames, views
from .processes import Child, Ends, PeerFailedError, Session
from .start_up import start_up
from .tasks import ECHO, SINK, SINK_INTO

if TYPE_CHECKING:
    from collections.abc import Callable

_CLIENT_PROCESSES = 4
_HEAD = 0.3  # of a window: load before it is measured, and the neighbours' load after it
_SMALL = 64
_PAGE = 4096
# A round beside busy neighbours is fast or slow with the cores on which the scheduler has put the two processes, so
# there are more and shorter ones.
_BUSY_ROUNDS = 3


def round_trip(session: Session, settings: Settings, *, apart: bool = False) -> list[Case]:
    """One client sends a message and waits until it is back."""
    name = "roundtrip-apart" if apart else "roundtrip"
    cases = []
    with Fleet(name, settings.peers, partial(start_one, session, apart=apart)) as fleet:
        for size, label in SIZES.items():
            task = partial(run, ECHO, size, settings.round_seconds)
            others = limit(settings, "rtt", size)
            if others and size == min(SIZES):
                others[LINE] = bare(settings, "line", 0)
            if size == _PAGE and knows(settings, "lines"):
                others[LINES] = bare(settings, "lines", size)
            cases.append(fleet.measure(label, Quantity.LATENCY, settings.rounds, task, size=size, others=others))
    return cases


def one_way(session: Session, settings: Settings, *, apart: bool = False) -> list[Case]:
    """One client sends messages as fast as it can; the time ends when the server has acknowledged the last."""
    name = "oneway-apart" if apart else "oneway"
    cases = []
    with Fleet(name, settings.peers, partial(start_one, session, apart=apart)) as fleet:
        for size, label in SIZES.items():

            def task(peer: str, ends: Ends, kind: int = SINK, size: int = size) -> Callable[[], float]:
                return inverse(run(kind, size, settings.round_seconds, peer, ends))

            others = limit(settings, "oneway", size)
            if others and size >= COPIED:
                others[COPY] = inverse(bare(settings, "copy", size))
            if size >= COPIED and NPIPE in fleet.running:
                others[INTO] = task(NPIPE, fleet.running[NPIPE], SINK_INTO)
            cases.append(fleet.measure(label, Quantity.RATE, settings.rounds, task, size=size, others=others))
    return cases


def cycle(session: Session, settings: Settings) -> list[Case]:
    """Connect, one round trip of 64 bytes, close; the server does the same, one client after the other."""

    def task(peer: str, ends: Ends) -> Callable[[], float]:
        def run(count: int) -> float:
            return float(ends.client.ask("cycles", peer=peer, address=ends.address, count=count))

        return timed(run, 2 * settings.round_seconds)

    with Fleet("cycle", settings.peers, lambda peer: session.start(peer, "cycle")) as fleet:
        return [fleet.measure(CYCLE, Quantity.LATENCY, settings.rounds, task)]


class _Neighbours:
    """As many processes as there are cores, each counting as fast as it can, and what they counted beside each peer."""

    ALONE = "neighbours alone"

    def __init__(self, session: Session, seconds: float) -> None:
        self._children = [session.child() for _ in range(CORES)]
        self._seconds = seconds
        self._rates: dict[str, list[float]] = {}

    def load(self, name: str, work: Callable[[float, float], float]) -> float:
        """Call ``work(start, stop)`` under load, and note what the neighbours reached between these two times."""
        head = _HEAD * self._seconds
        start = time.monotonic() + head
        stop = start + self._seconds
        for child in self._children:
            child.tell("hog", start=start, stop=stop, until=stop + head)
        try:
            return work(start, stop)
        finally:
            self._rates.setdefault(name, []).append(sum(child.hear() for child in self._children))

    def kept(self) -> dict[str, Outcome]:
        """Return which share of their rate they kept beside each peer since the last call, the first turn left out."""
        rates, self._rates = self._rates, {}
        alone = Outcome(rates.pop(self.ALONE, [])[1:]).median
        if not alone:
            return {}
        return {name: Outcome([rate / alone for rate in values[1:]]) for name, values in rates.items()}


def busy(session: Session, settings: Settings, *, apart: bool = False) -> list[Case]:
    """Move 64 bytes, both ways, while as many processes as there are cores count as fast as they can."""
    neighbours = _Neighbours(session, settings.window_seconds / 2)
    cases = []
    with Fleet("busy-apart" if apart else "busy", settings.peers, partial(start_one, session, apart=apart)) as fleet:
        for kind, label, kept in ((ECHO, ROUND_TRIP, KEPT_ROUND_TRIP), (SINK, ONE_WAY, KEPT_ONE_WAY)):

            def task(peer: str, ends: Ends, kind: int = kind) -> Callable[[], float]:
                def work(start: float, stop: float) -> float:
                    return float(ends.client.ask("window", kind=kind, size=_SMALL, start=start, stop=stop)[0])

                run = partial(neighbours.load, peer, work)
                return inverse(run) if kind == ECHO else run

            quantity = Quantity.LATENCY if kind == ECHO else Quantity.RATE
            alone = {neighbours.ALONE: partial(neighbours.load, neighbours.ALONE, lambda _start, _stop: 1.0)}
            case = fleet.measure(label, quantity, _BUSY_ROUNDS * settings.window_rounds, task, others=alone)
            del case.outcomes[neighbours.ALONE]
            cases += [case, fleet.case(kept, Quantity.SHARE, neighbours.kept())]
    return cases


def _spread(number: int) -> tuple[int, ...]:
    """Return how many connections each client process has."""
    processes = min(number, _CLIENT_PROCESSES)
    return tuple(number // processes + (process < number % processes) for process in range(processes))


def clients(session: Session, settings: Settings) -> list[Case]:
    """Let many clients do round trips of 64 bytes with one server process, which has a thread for each."""
    cases = []
    for number in CLIENTS:
        label = f"{number} client{'s' if number > 1 else ''}"
        least: dict[str, list[float]] = {}

        def task(peer: str, ends: Ends, least: dict[str, list[float]] = least) -> Callable[[], float]:
            def run() -> float:
                start = time.monotonic() + _HEAD * settings.window_seconds
                stop = start + settings.window_seconds
                for client in ends.clients:
                    client.tell("window", kind=ECHO, size=_SMALL, start=start, stop=stop)
                rates = [float(rate) for client in ends.clients for rate in client.hear()]
                least.setdefault(peer, []).append(min(rates) * len(rates) / sum(rates))
                return sum(rates)

            return run

        def start(peer: str, number: int = number) -> Ends:
            return session.start(peer, "threads", connections=_spread(number))

        with Fleet("clients", settings.peers, start) as fleet:
            cases.append(fleet.measure(label, Quantity.RATE, settings.window_rounds, task))
            if number == max(CLIENTS):
                outcomes = {peer: Outcome(least[peer][1:]) for peer in fleet.running}
                cases.append(fleet.case(f"{label}: least served / mean", Quantity.SHARE, outcomes))
    return cases


def _memory(ends: Ends) -> int:
    return sum(int(child.ask("memory")) for child in (ends.server, *ends.clients))


def idle(session: Session, settings: Settings) -> list[Case]:
    """Hold connections that nobody uses, after one round trip on each, and a server blocked in a read."""
    nothing = session.child()

    def start_many(peer: str) -> Ends:  # no server yet: its memory is counted too
        ends = Ends(f"idle-{list(PEERS).index(peer)}", session.child(), [session.child()])
        ends.server.ask("version", peer=peer)
        ends.client.ask("version", peer=peer)
        return ends

    with (
        Fleet("idle", settings.peers, start_many) as many,
        Fleet("idle", settings.peers, partial(start_one, session)) as readers,
    ):
        before = {peer: _memory(ends) for peer, ends in many.running.items()}
        memory = {}
        for peer, ends in list(many.running.items()):
            try:
                ends.server.ask("serve", peer=peer, mode="keep", address=ends.address, count=CONNECTIONS, timeout=60)
                ends.client.ask("connect", peer=peer, address=ends.address, count=CONNECTIONS, timeout=60)
                memory[peer] = Outcome([(_memory(ends) - before[peer]) / CONNECTIONS])
            except PeerFailedError as error:
                many.fail(peer, str(error))
        cases = [many.case(MEMORY, Quantity.MEMORY, memory)]
        used = _idle_cpu(settings.idle_seconds, nothing, many, readers)
        for fleet, label in ((readers, READER), (many, IDLE)):
            outcomes = {peer: _sum(used, ends.server, *ends.clients) for peer, ends in fleet.running.items()}
            outcomes[NOTHING] = _sum(used, nothing)
            cases.append(fleet.case(label, Quantity.CPU, outcomes))
    return cases


def _idle_cpu(seconds: float, single: Child, *fleets: Fleet) -> dict[Child, Outcome]:
    """Let all processes be idle at the same time; return the seconds of CPU that each used."""
    children = [single]
    for fleet in fleets:
        for ends in fleet.running.values():
            children += [ends.server, *ends.clients]
    outcomes = {}
    for child in children:
        child.tell("idle", seconds=seconds)
    for child in children:
        try:
            outcomes[child] = Outcome([float(child.hear(seconds + 15))])
        except PeerFailedError as error:
            outcomes[child] = Outcome(failure=str(error))
    return outcomes


def _sum(used: dict[Child, Outcome], *children: Child) -> Outcome:
    outcomes = [used[child] for child in children]
    failure = next((outcome.failure for outcome in outcomes if outcome.failure), "")
    return Outcome([sum(value for outcome in outcomes for value in outcome.values)], failure)


def tail(session: Session, settings: Settings) -> list[Case]:
    """Note every round trip of 64 bytes, a core each: how long the slow ones take."""
    cases = [Case("tail", label, Quantity.LATENCY, _SMALL) for label in PERCENTILES]
    curve = Case("tail-curve", "", Quantity.LATENCY, _SMALL)
    with Fleet("tail", settings.peers, partial(start_one, session, apart=True)) as fleet:

        def task(_peer: str, ends: Ends) -> Callable[[], float]:
            return lambda: float(ends.client.ask("sample", size=_SMALL, seconds=settings.tail_seconds))

        noted = fleet.measure("", Quantity.RATE, settings.window_rounds, task)
        for peer, outcome in noted.outcomes.items():
            shares = [*PERCENTILES.values(), *TAIL]
            found: list[float] = []
            if not outcome.failure:
                try:
                    found = fleet.running[peer].client.ask("quantiles", size=_SMALL, shares=shares)
                except PeerFailedError as error:
                    outcome.failure = str(error)
            for case, value in zip(cases, found or [0.0] * len(cases), strict=False):
                case.outcomes[peer] = Outcome([] if outcome.failure else [value], outcome.failure)
            curve.outcomes[peer] = Outcome(found[len(cases) :], outcome.failure)
    return [*cases, curve]


SCENARIOS: dict[str, Callable[[Session, Settings], list[Case]]] = {
    "roundtrip": round_trip,
    "roundtrip-apart": partial(round_trip, apart=True),
    "oneway": one_way,
    "oneway-apart": partial(one_way, apart=True),
    "tail": tail,
    "views": views,
    "frames": frames,
    "objects": objects,
    "cycle": cycle,
    "busy": busy,
    "busy-apart": partial(busy, apart=True),
    "clients": clients,
    "idle": idle,
    "memory": memory,
    "import": start_up,
}
