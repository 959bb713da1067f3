"""The command ``python -m bench``."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .goals import judge
from .peers import PEERS
from .processes import ROOT, PeerFailedError, Session
from .report import Machine, failed, goal_table, markdown, show, tables
from .scenarios import SCENARIOS, Settings

if TYPE_CHECKING:
    from .measure import Case


def _arguments() -> argparse.Namespace:
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
        "--limit", type=Path, default=ROOT / "build/bench/limit", metavar="PROGRAM", help="the engine in C"
    )
    return parser.parse_args()


def _settings(arguments: argparse.Namespace, peers: list[str]) -> Settings:
    quick = arguments.quick
    return Settings(
        rounds=arguments.rounds or (3 if quick else 9),
        round_seconds=0.025 if quick else 0.07,
        window_rounds=arguments.rounds or (1 if quick else 4),
        window_seconds=0.2 if quick else 0.6,
        idle_seconds=5.0,
        limit=arguments.limit,
        peers=peers,
    )


def _versions(session: Session, wanted: list[str]) -> dict[str, str | None]:
    """Ask a process for each peer's version; a peer that breaks on import counts as present, and fails later."""
    versions: dict[str, str | None] = {}
    for peer in wanted:
        child = session.child()
        try:
            versions[peer] = child.ask("version", peer=peer)
        except PeerFailedError as error:
            versions[peer] = f"(failed: {error})"
        child.kill()
    return versions


def main() -> int:
    arguments = _arguments()
    # A polite end runs the context manager that ends all children.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    cases: list[Case] = []
    began = time.monotonic()
    with Session() as session:
        versions = _versions(session, [peer for peer in PEERS if not arguments.peer or peer in arguments.peer])
        settings = _settings(arguments, [peer for peer, version in versions.items() if version is not None])
        machine = Machine.here(versions)
        for line in machine.lines:
            print(line)
        if not settings.limit.exists():
            print(f"no {settings.limit}: measuring without the engine in C")
        for name in arguments.only or SCENARIOS:
            print(f"{time.monotonic() - began:5.0f} s  {name} …", flush=True)
            cases += SCENARIOS[name](session, settings)
    results = tables(cases, [peer for peer, version in versions.items() if version is None])
    judged = judge(cases)
    shown = [goal for goal in judged if goal.measured]
    show([*results, goal_table(shown)] if shown else results)
    output: Path | None = arguments.output
    if output is None and not (arguments.only or arguments.quick or arguments.peer):
        output = ROOT / "docs" / "benchmarks.md"
    if output is not None:
        output.write_text(markdown(machine, settings, results, judged))
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
