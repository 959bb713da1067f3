"""Every recorded scenario of a real Win32, replayed on npipe.win32."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KNOWN = {
    scenario: entry["reason"]
    for entry in json.loads((HERE / "known_differences.json").read_text()).values()
    for scenario in entry["scenarios"]
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("corpus", ["systematic", "random"])
@pytest.mark.slow
def test_every_scenario_agrees_but_the_known_differences(corpus: str) -> None:
    replayed = subprocess.run(
        [sys.executable, HERE / "replay.py", HERE / "corpus" / f"{corpus}.jsonl", "--install", "npipe.win32:install"],
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    summary = re.search(r"^(\d+) agree, (\d+) differ", replayed.stdout, re.MULTILINE)
    assert summary, replayed.stdout + replayed.stderr
    lines = {line.split()[1]: line for line in replayed.stdout.splitlines() if line.startswith("DIFF ")}
    assert len(lines) == int(summary[2])
    unknown = [line for scenario, line in lines.items() if scenario not in KNOWN]
    assert not unknown, "\n".join(unknown)
    scenarios = {json.loads(line)["id"] for line in (HERE / "corpus" / f"{corpus}.jsonl").read_text().splitlines()}
    stale = sorted(set(KNOWN) & scenarios - set(lines))
    assert not stale, f"these agree by now: {stale}"
