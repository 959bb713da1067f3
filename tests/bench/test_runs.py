"""The benchmark runs, whole, with as little as it can do: how long anything takes decides nothing here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bench import results
from bench.processes import Session
from bench.scenarios import SCENARIOS
from bench.tasks import ECHO
from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

# Those that need nothing but Python and npipe.
PEERS = (
    "npipe",
    "npipe.connection",
    "multiprocessing.connection",
    "SEQPACKET pair",
    "asyncio streams",
    "shared_memory",
)


def bench(*arguments: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run(
        [sys.executable, "-m", "bench", "--tiny", *map(str, arguments)],
        cwd=CHECKOUT,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name not in {"idle", "objects", "frames"}])
@pytest.mark.slow
def test_a_scenario_gives_a_number_for_each_peer(scenario: str, tmp_path: Path) -> None:
    check(scenario, tmp_path)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scenario", ["objects", "frames"])
@pytest.mark.slow
def test_a_scenario_of_arrays_gives_a_number_for_each_peer(scenario: str, tmp_path: Path) -> None:
    pytest.importorskip("numpy", reason="numpy is not installed (`make lint` and `make bench` install it)")
    check(scenario, tmp_path)


def test_a_client_that_ran_only_when_its_window_was_over_has_a_rate() -> None:
    with Session() as session:
        ends = session.start("SEQPACKET pair", "threads", connections=(1,))
        over = time.monotonic()
        (rate,) = ends.client.ask("window", kind=ECHO, size=64, start=over - 1, stop=over - 0.5)
    assert rate > 0


def check(scenario: str, tmp_path: Path) -> None:
    peers = [argument for peer in PEERS for argument in ("--peer", peer)]
    numbers, page = tmp_path / "main.json", tmp_path / "page.md"
    done = bench("--only", scenario, *peers, "--json", numbers, "--output", page, "--limit", tmp_path / "none")
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout, done.stdout
    cases = results.load(numbers)["cases"]
    assert cases
    for case in cases:
        assert case.outcomes, case
        assert all(outcome.values and not outcome.failure for outcome in case.outcomes.values()), case
    assert "npipe" in page.read_text(encoding="utf-8")


@pytest.mark.timeout(120)
def test_a_peer_that_cannot_be_imported_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "iceoryx2.py").write_text("raise ImportError('built for\\nanother machine')\n", encoding="utf-8")
    done = bench("--only", "views", "--peer", "npipe", "--peer", "iceoryx2", path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "left out: iceoryx2, as it cannot be imported: built for another machine" in done.stdout
    assert "not installed" in done.stdout
