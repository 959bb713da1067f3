"""The command ``python -m bench``."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .fleet import Settings
from .goals import goal_table, judge
from .names import TRAFFIC
from .peers import PEERS
from .processes import ROOT, PeerFailedError, Session
from .report import Machine, failed, markdown, show, tables
from .results import FOLDER, save
from .scenarios import SCENARIOS

if TYPE_CHECKING:
    from .measure import Case


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure npipe beside its peers. Slow is never an error: the exit status is 0 unless npipe failed.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a short look, with few rounds (some 40 s in place of 4 min)"
    )
    parser.add_argument(
        "--only", metavar="SCENARIO", action="append", choices=list(SCENARIOS), help="this scenario; may be repeated"
    )
    parser.add_argument(
        "--peer", metavar="PEER", action="append", choices=list(PEERS), help="this peer; may be repeated"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each peer at each task")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write the page (docs/benchmarks.md for a whole run, else none)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="where to write the numbers (docs/benchmarks/main.json for a whole run, else none)",
    )
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # to see that it works, for tests
    parser.add_argument(
        "--limit", type=Path, default=ROOT / "build/bench/limit", metavar="PROGRAM", help="the engine in C"
    )
    return parser.parse_args(argv)


def _settings(arguments: argparse.Namespace, peers: list[str]) -> Settings:
    quick = arguments.quick
    if arguments.tiny:
        return Settings(1, 0.001, 1, 0.02, 0.02, 0.002, 1 << 20, arguments.limit, peers)
    return Settings(
        rounds=arguments.rounds or (3 if quick else 9),
        round_seconds=0.025 if quick else 0.07,
        window_rounds=arguments.rounds or (1 if quick else 4),
        window_seconds=0.2 if quick else 0.6,
        idle_seconds=5.0,
        tail_seconds=0.1 if quick else 0.6,
        traffic=TRAFFIC // 16 if quick else TRAFFIC,
        limit=arguments.limit,
        peers=peers,
    )


def _versions(session: Session, wanted: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Ask a process for each peer's version; return them, and why others cannot take part."""
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for peer in wanted:
        child = session.child()
        try:
            found = child.ask("version", peer=peer)
        except PeerFailedError as error:
            found = {"missing": f"its import failed: {error}"}
        child.kill()
        if "missing" in found:
            missing[peer] = found["missing"]
        else:
            versions[peer] = found["version"]
    return versions, missing


def main(argv: list[str] | None = None) -> int:
    arguments = _arguments(argv)
    # A polite end runs the context manager that ends all children.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    cases: list[Case] = []
    began = time.monotonic()
    with Session() as session:
        versions, missing = _versions(session, [p for p in PEERS if not arguments.peer or p in arguments.peer])
        settings = _settings(arguments, list(versions))
        machine = Machine.here(versions, missing)
        for line in machine.lines:
            print(line)
        if not settings.limit.exists():
            print(f"no {settings.limit}: measuring without the engine in C")
        for name in arguments.only or SCENARIOS:
            print(f"{time.monotonic() - began:5.0f} s  {name} …", flush=True)
            cases += SCENARIOS[name](session, settings)
    output: Path | None = arguments.output
    numbers: Path | None = arguments.json
    if not (arguments.only or arguments.quick or arguments.tiny or arguments.peer):
        output = output or ROOT / "docs" / "benchmarks.md"
        numbers = numbers or FOLDER / "main.json"
    results = tables(cases, missing)
    judged = judge(cases)
    shown = [goal for goal in judged if goal.measured]
    if numbers is not None:
        save(numbers, machine.lines, cases)
    show([*results, goal_table(shown)] if shown else results)
    if output is not None:
        output.write_text(markdown(machine, settings, results))
        print(f"written: {output}")
    print(f"{time.monotonic() - began:.0f} s in all")
    failures = failed(cases)
    for line in failures:
        print(line, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
