"""CPython's own tests of connections, queues, pools and managers, with npipe.connection in the place of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("test._test_multiprocessing") is None, reason="this Python comes without its tests"
    ),
]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_cpythons_tests_pass(method: str, tmp_path: Path) -> None:
    program = CHECKOUT / "tests" / "clients" / "cpython" / "run.py"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", program, method],
        env={**os.environ, "NPIPE_ROOT": str(tmp_path / "root")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-10_000:]
    count = re.search(r"^Ran (\d+) tests", ran.stderr, re.MULTILINE)
    assert count is not None, ran.stderr[-10_000:]
    assert int(count[1]) > 90, ran.stderr[-10_000:]
