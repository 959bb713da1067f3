"""The recorded scenarios, replayed on pywin32 itself: what npipe.win32 is on Windows."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.helpers import CHECKOUT

FOLDER = CHECKOUT / "tests" / "conformance"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("corpus", ["systematic", "random"])
def test_every_scenario_agrees(corpus: str) -> None:
    replayed = subprocess.run(
        [sys.executable, FOLDER / "replay.py", FOLDER / "corpus" / f"{corpus}.jsonl", "--modules-from", "npipe.win32"],
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    summary = re.search(r"^(\d+) agree, (\d+) differ", replayed.stdout, re.MULTILINE)
    assert summary, replayed.stdout + replayed.stderr
    assert int(summary[1]) > 0
    assert summary[2] == "0", replayed.stdout
