"""What is delivered is what was written: each byte between two processes, through every pair of faces."""

from __future__ import annotations

import os
import time

import pytest

from tests.integrity.crew import LONG, Crew
from tests.integrity.plans import KINDS, copied, draw, reported

pytestmark = pytest.mark.timeout(3600 if LONG else 240)

SEEDS = [int(seed) for seed in os.environ.get("NPIPE_SEED", "").split(",") if seed]
REPEATS = int(os.environ.get("NPIPE_REPEAT", "20"))
FIRST = int(time.time()) % 100_000 * len(KINDS) if LONG else 0  # the short form is always the same
PLANS = {"stream": 25 if LONG else 6}  # of each pair
CASES = reported(10 if LONG else 1)

whole = pytest.mark.skipif(bool(SEEDS), reason="NPIPE_SEED asks for single plans")


@whole
@pytest.mark.parametrize("case", CASES)
def test_a_reported_case_loses_nothing(crew: Crew, case: str) -> None:
    crew.run(CASES[case])


@whole
@pytest.mark.parametrize("server_writes", [True, False])
@pytest.mark.parametrize(
    "length", [0, 1 << 18, 1 << 20]
)  # the defaults of Pythons up to 3.13, of later ones, on Windows
def test_a_copied_file_comes_as_a_whole(crew: Crew, length: int, server_writes: bool) -> None:
    crew.run(copied(500_000_000 if LONG else 100_000_000, length, server_writes=server_writes))


@whole
@pytest.mark.parametrize("index", range(len(KINDS)), ids=["-".join(kind) for kind in KINDS])
def test_what_is_read_is_what_was_written(crew: Crew, index: int) -> None:
    for number in range(PLANS.get(KINDS[index][0], 10 if LONG else 2)):
        crew.run(draw(FIRST + index + number * len(KINDS), long=LONG))


if SEEDS:

    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_plan_of_a_seed(crew: Crew, seed: int) -> None:
        for _ in range(REPEATS):
            crew.run(draw(seed, long=LONG))
