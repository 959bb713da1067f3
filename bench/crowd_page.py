"""The page of bench.crowds: `python -m bench.crowd_page` measures, writes docs/benchmarks-crowds.md and its numbers."""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import crowds
from .measure import Case, Outcome, Quantity
from .names import CROWD_BASE, CROWDS, LEAST, PERCENTILES
from .processes import ROOT
from .report import Table, amount, markdown_table, show, three
from .results import FOLDER, save

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTPUT = ROOT / "docs" / "benchmarks-crowds.md"
_SIZES = (10, 100)
_TEXT = """
Round trips of all clients together, in brackets how many times those of the SEQPACKET server with threads; how long
half of them, 99 % and 99.9 % took at most, and the longest; and what the least served client got, of the mean, which
the plot calls *least*. The two in C (`limit crowd`) are what the machine can do: the same threads and processes, with
npipe's engine and with sockets, without Python.
"""
_PAGE = """# Crowds

`make bench` writes this page too (`python -m bench.crowd_page`; `python -m bench.crowds` is a shorter look). Clients
are threads of four processes; each sends 64 bytes that nobody else sends, waits until they are back, compares them, and
begins again, all through a window of time. The servers take turns, {rounds} windows of {seconds:g} s each, and the
cells are medians. [servers.md](servers.md) has the three models.

"""


def cases_of(clients: int, found: Mapping[str, Any]) -> list[Case]:
    """Return what `bench.crowds.measure` found as columns."""

    def column(label: str, quantity: Quantity, value: Any) -> Case:
        outcomes = {}
        for server, result in found.items():
            values = [float(value(window)) for window in result.rounds]
            outcomes[server] = Outcome([one for one in values if not math.isnan(one)], result.failure)
        return Case(CROWDS, f"{clients} clients{label}", quantity, 64, outcomes)

    times = [
        column(f": {name}", Quantity.LATENCY, lambda window, name=name: window.times[name]) for name in PERCENTILES
    ]
    return [
        column("", Quantity.RATE, lambda window: window.rate),
        *times,
        column(f": {LEAST}", Quantity.SHARE, lambda window: window.least),
    ]


def table_of(clients: int, cases: list[Case]) -> Table:
    """Write the columns of one crowd; a server that failed says so in place of numbers."""
    rate, rest = cases[0], cases[1:]
    rows = []
    for server, outcome in rate.outcomes.items():
        median = outcome.median
        if median is None:
            rows.append([server, outcome.failure or "nothing", *([""] * len(rest))])
            continue
        gain = rate.gain(server, CROWD_BASE)
        cells = ["" if (value := case.median(server)) is None else amount(value, case.quantity) for case in rest]
        rows.append([server, amount(median, rate.quantity) + (f" ({three(gain)}×)" if gain else ""), *cells])
    header = ["", "round trips", *PERCENTILES, LEAST]
    return Table(f"{clients} clients", _TEXT.strip(), header, rows, plot=f"crowds-{clients}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.crowd_page", description="Measure crowds, write the page.")
    parser.add_argument("--quick", action="store_true", help="one window of 0.2 s, and no page")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each server")
    parser.add_argument("--seconds", type=float, default=0.6, help="length of a window")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE", help="the page")
    parser.add_argument("--json", type=Path, default=FOLDER / "crowds.json", metavar="FILE", help="the numbers")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.2
    began, load = time.monotonic(), os.getloadavg()[0]
    cases: list[Case] = []
    tables = []
    for clients in _SIZES:
        found = crowds.measure(crowds.KINDS, clients, arguments.rounds, arguments.seconds)
        columns = cases_of(clients, found)
        cases += columns
        tables.append(table_of(clients, columns))
    show(tables)
    print(f"{time.monotonic() - began:.0f} s in all")
    if not arguments.quick:
        cores = len(os.sched_getaffinity(0))
        machine = f"{cores} cores, load {load:.1f} when the run began; Python {platform.python_version()}"
        save(arguments.json, [machine], cases)
        page = _PAGE.format(rounds=arguments.rounds, seconds=arguments.seconds) + f"{machine}.\n\n"
        arguments.output.write_text(page + "\n".join(map(markdown_table, tables)), encoding="utf-8")
    failures = [
        f"{server}: {result.failure}"
        for server, result in cases[0].outcomes.items()
        if server.startswith("npipe") and result.failure
    ]
    print("\n".join(failures), end="\n" if failures else "", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
