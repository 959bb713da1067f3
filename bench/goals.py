"""What npipe set out to reach, held against what was measured, and against what the machine itself can.

`python -m bench.goals` judges by the numbers in docs/benchmarks, prints the table and writes docs/benchmarks-goals.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import names as s
from .measure import Case
from .processes import ROOT
from .report import Table, amount, listed, markdown_table, show
from .results import FOLDER, all_cases, load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .measure import Case

OUTPUT = ROOT / "docs" / "benchmarks-goals.md"
_TRIP, _WAY = "roundtrip-apart", "oneway-apart"


@dataclass(frozen=True)
class Goal:
    """A line of the table; ``measured`` is empty when a number that it needs is missing."""

    text: str
    measured: str = ""
    bare: str = ""  # what the machine can, with nothing of npipe's
    reached: bool = False


class _Results:
    def __init__(self, cases: Sequence[Case]) -> None:
        self._cases = {(case.scenario, case.label): case for case in cases}

    def median(self, scenario: str, label: str, peer: str = s.NPIPE) -> float | None:
        case = self._cases.get((scenario, label))
        return case.median(peer) if case else None

    def gain(self, scenario: str, label: str, base: str, peer: str = s.NPIPE) -> float | None:
        """How many times better the peer is."""
        case = self._cases.get((scenario, label))
        return case.gain(peer, base) if case else None

    def bare(self, scenario: str, label: str, *peers: str) -> str:
        """Say what the bare machine needs for it: medians of ``peers``, as far as they were measured."""
        case = self._cases.get((scenario, label))
        found = [(peer, case.median(peer)) for peer in peers] if case else []
        assert case or not found
        return ", ".join(f"{peer}: {amount(v, case.quantity)}" for peer, v in found if v is not None and case)


def _goal(
    text: str, value: float | None, reached: Callable[[float], bool], form: str = "{:.2f}", bare: str = ""
) -> Goal:
    return Goal(text) if value is None else Goal(text, form.format(value), bare, reached(value))


def _at_most(text: str, gain: float | None, allowed: float, bare: str = "") -> Goal:
    """So many times as long as something else, at most."""
    return _goal(text, 1 / gain if gain else None, lambda value: value <= allowed, "{:.2f} ×", bare)


def _at_least(text: str, gain: float | None, needed: float, bare: str = "") -> Goal:
    return _goal(text, gain, lambda value: value >= needed, "{:.2f} ×", bare)


def _share(text: str, gain: float | None, needed: float, bare: str = "") -> Goal:
    return _goal(text, gain, lambda value: value >= needed, "{:.0%}", bare)


def _lost(text: str, mine: float | None, pair: float | None) -> Goal:
    if mine is None or pair is None:
        return Goal(text)
    return Goal(text, f"lost {1 - mine:.0%}, with the pair {1 - pair:.0%}", "", 1 - mine <= 1 - pair + 0.02)


def _nothing(text: str, seconds: float | None, bare: str) -> Goal:
    return _goal(text, None if seconds is None else 1000 * seconds, lambda value: value < 1, "{:.2f} ms", bare)


def _memory(text: str, held: float | None) -> Goal:
    return _goal(text, None if held is None else held / 1024, lambda value: value <= 32, "{:.1f} KiB")


def _small_ones(r: _Results) -> list[Goal]:
    line, four = r.bare(_TRIP, "64 B", s.LINE), "4 KiB"
    loaned = r.median("views", "64 B", s.ICEORYX)  # seconds
    rate = r.median(_WAY, "64 B")
    return [
        _at_most(f"round trip, 64 B: at most 1.3 times the {s.LIMIT}", r.gain(_TRIP, "64 B", s.LIMIT), 1.3, line),
        _at_most(
            f"round trip, 64 B: the {s.LIMIT} at most 1.5 times a word there and back",
            r.gain(_TRIP, "64 B", s.LINE, s.LIMIT),
            1.5,
            line,
        ),
        _at_most(
            f"round trip, 4 KiB: the {s.LIMIT} at most 1.5 times 64 lines there and back",
            r.gain(_TRIP, four, s.LINES, s.LIMIT),
            1.5,
            r.bare(_TRIP, four, s.LINES),
        ),
        _at_least(
            f"one-way, 64 B: at least 20 times {s.ICEORYX} in place", rate * loaned if rate and loaned else None, 20
        ),
        _at_most(
            f"p99.9 of round trips, 64 B: at most the p50 of {s.BASE}",
            _quotient(r.median("tail", "p50", s.BASE), r.median("tail", "p99.9")),
            1,
            line,
        ),
    ]


def _quotient(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _large_ones(r: _Results) -> list[Goal]:
    goals = []
    labels = [label for size, label in s.VIEW_SIZES.items() if size > 64]
    for label in labels:
        hand = r.bare("views", label, s.HAND)
        text = f"`reserve` and `recv_view`, {label}"
        taken = r.median("views", label)
        goals += [
            _goal(
                f"{text}: at most 1 µs",
                taken and taken * 1e6,
                lambda value: value <= 1,
                "{:.2f} µs",
                hand,
            ),
            _at_least(f"{text}: at least 4 times {s.ICEORYX} in place", r.gain("views", label, s.ICEORYX), 4, hand),
        ]
    shortest, longest = r.median("views", labels[0]), r.median("views", labels[-1])
    goals.append(
        _at_most(
            f"the same: {labels[-1]} take no longer than {labels[0]} (1.2 times at most)",
            _quotient(shortest, longest),
            1.2,
        )
    )
    for peer, how in ((s.NPIPE, "`recv`"), (s.INTO, "`recv_into`")):
        goals.append(
            _share(
                f"one-way, 64 KiB, {how}: at least 80 % of a bare copy in and out",
                r.gain(_WAY, "64 KiB", s.COPY, peer),
                0.8,
                r.bare(_WAY, "64 KiB", s.COPY),
            )
        )
    copy = r.bare("frames", s.FRAMES, s.COPY)
    goals += [
        _at_least(
            f"frames of 1920×1080×3 by {s.OBJECTS}: at least 5 times {s.BASE}",
            r.gain("frames", s.FRAMES, s.BASE, s.OBJECTS),
            5,
            copy,
        ),
        *(
            _at_least(
                f"64-byte objects, {way}: at least 5 times {s.BASE}",
                r.gain("objects", f"{s.OBJECT_KINDS[0]}, {way}", s.BASE, s.OBJECTS),
                5,
            )
            for way in s.WAYS
        ),
    ]
    return goals


def _neighbours(r: _Results) -> list[Goal]:
    goals = []
    for place, busy in (("", "busy"), (", a core each", "busy-apart")):
        for kind, label in (("round trip", s.ROUND_TRIP), ("one-way", s.ONE_WAY)):
            gain = r.gain(busy, label, s.PAIR)
            goals.append(_at_most(f"busy cores, {kind}{place}: at most 1.2 times as long as the {s.PAIR}", gain, 1.2))
        for kind, kept in (("round trip", s.KEPT_ROUND_TRIP), ("one-way", s.KEPT_ONE_WAY)):
            text = f"busy cores, {kind}{place}: neighbours lose no more than to the {s.PAIR} (within 2 points)"
            goals.append(_lost(text, r.median(busy, kept), r.median(busy, kept, s.PAIR)))
    return goals


def _crowds(r: _Results) -> list[Goal]:
    goals = []
    for clients in ("10 clients", "100 clients"):
        bare = r.bare(s.CROWDS, clients, s.CROWD_LIMIT, s.CROWD_SOCKETS)
        for server, needed in (
            ("npipe.serve, threaded", 1),
            ("npipe.listen, threads", 1),
            ("npipe.serve, overlapped", 3),
            ("npipe.serve, completion", 3),
        ):
            gain = r.gain(s.CROWDS, clients, s.CROWD_BASE, server)
            worse = r.gain(s.CROWDS, f"{clients}: p99", s.CROWD_BASE, server)
            served = r.median(s.CROWDS, f"{clients}: {s.LEAST}", server)
            goals += [
                _at_least(f"{clients}, {server}: at least {needed} times {s.CROWD_BASE}", gain, needed, bare),
                _at_most(f"{clients}, {server}: p99 no longer than {s.CROWD_BASE}", worse, 1),
                _share(f"{clients}, {server}: the least served has 60 % of the mean", served, 0.6),
            ]
        served = r.median(s.CROWDS, f"{clients}: {s.LEAST}", "npipe.aio.serve")
        goals.append(_share(f"{clients}, npipe.aio.serve: the least served has 60 % of the mean", served, 0.6))
    return goals


def _faces(r: _Results) -> list[Goal]:
    goals = []
    for loop in ("asyncio", "uvloop"):
        scenario, text = f"aio, {loop}", f"npipe.aio on {loop}"
        trip = r.gain(scenario, "round trip", s.STREAMS, "npipe.aio")
        goals.append(_at_most(f"{text}, round trip: at most 0.8 times as long as streams", trip, 0.8))
        for label, needed in (("one-way", 5), ("100 clients", 3)):
            gain = r.gain(scenario, label, s.STREAMS, "npipe.aio")
            goals.append(_at_least(f"{text}, {label}: at least {needed} times streams", gain, needed))
    return [
        *goals,
        _at_most(
            "npipe.win32, an overlapped round trip: at most 1.5 times the blocking one",
            r.gain("win32", "1 client", "threads", "overlapped, both ends"),
            1.5,
        ),
        _at_least(
            "npipe.win32, 64 clients on one overlapped thread: at least 3 times asyncio's streams",
            r.gain("win32", "64 clients", s.STREAMS, "overlapped server"),
            3,
        ),
    ]


def _rest(r: _Results) -> list[Goal]:
    return [
        _at_most(f"{s.CYCLE}: no slower than {s.BASE}", r.gain("cycle", s.CYCLE, s.BASE), 1),
        _nothing(
            "a blocked reader uses no CPU (under 1 ms, as measuring is a part)",
            r.median("idle", s.READER),
            r.bare("idle", s.READER, s.NOTHING),
        ),
        _nothing(
            f"{s.CONNECTIONS:,} idle connections use no CPU (likewise)",
            r.median("idle", s.IDLE),
            r.bare("idle", s.IDLE, s.NOTHING),
        ),
        _memory("an idle connection: at most 32 KiB in both processes together", r.median("idle", s.MEMORY)),
        _memory("5 s after 1 GiB of traffic: at most 32 KiB in both processes together", r.median("memory", s.HELD)),
    ]


def judge(cases: Sequence[Case]) -> list[Goal]:
    """Judge the results."""
    r = _Results(cases)
    return [*_small_ones(r), *_large_ones(r), *_crowds(r), *_neighbours(r), *_rest(r), *_faces(r)]


def goal_table(judged: list[Goal]) -> Table:
    """Make the table of goals."""
    rows = []
    for goal in judged:
        verdict = ("yes" if goal.reached else "**no**") if goal.measured else "not measured"
        rows.append([goal.text, goal.measured, goal.bare, verdict])
    return Table("Goals", _TEXT, ["goal", "measured", "bare machine", "reached"], rows)


_TEXT = """
By the medians of one run on cores that are otherwise idle, a core for each side where nothing else is said. Goals are
ratios. Beside those that the machine bounds stands what it does with nothing of npipe's, which no program can better.
"""
_PAGE = """# What was to be reached

`make bench` writes this page by the numbers of [benchmarks.md](benchmarks.md) and of the other pages; `python -m
bench.goals` writes it again without measuring. The main run was on:

"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.goals", description="Judge by numbers that are there.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the numbers (docs/benchmarks)")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE", help="the page")
    arguments = parser.parse_args(argv)
    table = goal_table(judge(all_cases(arguments.folder)))
    show([table])
    main_run = arguments.folder / "main.json"
    machine = load(main_run)["machine"] if main_run.exists() else []
    measured_on = listed(machine) + "\n\n" if machine else ""
    arguments.output.write_text(_PAGE + measured_on + markdown_table(table), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
