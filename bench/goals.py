"""What npipe set out to reach, held against what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import names as s

if TYPE_CHECKING:
    from collections.abc import Callable

    from .measure import Case


@dataclass(frozen=True)
class Goal:
    """A line of the table of goals; ``measured`` is empty when a number that it needs is missing."""

    text: str
    measured: str = ""
    reached: bool = False


class _Results:
    def __init__(self, cases: list[Case]) -> None:
        self._cases = {(case.scenario, case.label): case for case in cases}

    def median(self, scenario: str, label: str, peer: str) -> float | None:
        case = self._cases.get((scenario, label))
        return case.median(peer) if case else None

    def gain(self, scenario: str, label: str, base: str, peer: str = s.NPIPE) -> float | None:
        """How many times better npipe is."""
        case = self._cases.get((scenario, label))
        return case.gain(peer, base) if case else None

    def bound(self, scenario: str, label: str, base: str, peer: str) -> float | None:
        """How many times better the best round of ``peer`` is."""
        case, gain = self._cases.get((scenario, label)), self.gain(scenario, label, base, peer)
        if not case or not gain:
            return None
        share = case.best(peer) / (case.median(peer) or 1)
        return gain * (share if case.quantity.more_is_better else 1 / share)


def _goal(text: str, value: float | None, reached: Callable[[float], bool], form: str) -> Goal:
    if value is None:
        return Goal(text)
    return Goal(text, form.format(value), reached(value))


def _times(text: str, gain: float | None, needed: float, bare: float | None = None, name: str = "") -> Goal:
    """So many times; beside it what ``bare``, which no program can better, reaches on this machine."""
    goal = _goal(text, gain, lambda value: value >= needed, "{:.2f} times")
    return Goal(goal.text, f"{goal.measured} ({name}, at best: {bare:.1f})", goal.reached) if gain and bare else goal


def _slower(text: str, gain: float | None, allowed: float) -> Goal:
    return _goal(text, 1 / gain if gain else None, lambda value: value <= allowed, "{:.2f} times as long")


def _lost(text: str, mine: float | None, pair: float | None) -> Goal:
    if mine is None or pair is None:
        return Goal(text)
    return Goal(text, f"lost {1 - mine:.0%}, with the pair {1 - pair:.0%}", 1 - mine <= 1 - pair + 0.02)


def _share(text: str, gain: float | None, needed: float) -> Goal:
    return _goal(text, gain, lambda value: value >= needed, "{:.0%}")


def _nothing(text: str, seconds: float | None) -> Goal:
    return _goal(text, None if seconds is None else 1000 * seconds, lambda value: value < 1, "{:.2f} ms")


def judge(cases: list[Case]) -> list[Goal]:
    """Judge the results."""
    r = _Results(cases)
    connection = r.median("idle", s.MEMORY, s.NPIPE)
    goals: list[Goal] = []
    for place, apart in (("", ""), (", a core each", "-apart")):
        trip, way = f"roundtrip{apart}", f"oneway{apart}"
        goals += [
            _times(
                f"round trip, 64 B{place}: at least 50 times faster than {s.BASE}",
                r.gain(trip, "64 B", s.BASE),
                50,
                r.bound(trip, "64 B", s.BASE, s.LINE),
                s.LINE,
            ),
            _slower(
                f"round trip, 64 B{place}: at most twice as long as the {s.LIMIT}", r.gain(trip, "64 B", s.LIMIT), 2
            ),
            _times(f"one-way, 64 B{place}: at least 15 times {s.BASE}", r.gain(way, "64 B", s.BASE), 15),
            _times(
                f"one-way, 64 KiB{place}: at least 4 times {s.BASE}",
                r.gain(way, "64 KiB", s.BASE),
                4,
                r.bound(way, "64 KiB", s.BASE, s.COPY),
                s.COPY,
            ),
            _share(f"one-way, 1 MiB{place}: at least 60 % of the {s.LIMIT}", r.gain(way, "1 MiB", s.LIMIT), 0.6),
            _share(f"the same{place}, with recv_into", r.gain(way, "1 MiB", s.LIMIT, s.INTO), 0.6),
        ]
    for place, busy in (("", "busy"), (", a core each", "busy-apart")):
        for kind, label in (("round trip", s.ROUND_TRIP), ("one-way", s.ONE_WAY)):
            gain = r.gain(busy, label, s.PAIR)
            goals.append(_slower(f"busy cores, {kind}{place}: at most 1.2 times as long as the {s.PAIR}", gain, 1.2))
        for kind, kept in (("round trip", s.KEPT_ROUND_TRIP), ("one-way", s.KEPT_ONE_WAY)):
            text = f"busy cores, {kind}{place}: neighbours lose no more than to the {s.PAIR} (within 2 points)"
            goals.append(_lost(text, r.median(busy, kept, s.NPIPE), r.median(busy, kept, s.PAIR)))
    return [
        *goals,
        _slower(f"{s.CYCLE}: no slower than {s.BASE}", r.gain("cycle", s.CYCLE, s.BASE), 1),
        _nothing(
            "a blocked reader uses no CPU (under 1 ms, as measuring is a part)", r.median("idle", s.READER, s.NPIPE)
        ),
        _nothing(f"{s.CONNECTIONS:,} idle connections use no CPU (likewise)", r.median("idle", s.IDLE, s.NPIPE)),
        _goal(
            "an idle connection: at most 32 KiB of memory in both processes together",
            connection and connection / 1024,
            lambda value: value <= 32,
            "{:.1f} KiB",
        ),
    ]
