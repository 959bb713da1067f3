"""mypy's ipc for Windows, unmodified, on `_winapi` and kernel32: its own tests, by the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from npipe import win32

pytestmark = pytest.mark.timeout(120)

SCRIPT = Path(__file__).with_name("run_mypy_ipc.py")


def _has_kernel32() -> bool:
    with win32.install(ctypes=True):
        import ctypes

        return hasattr(ctypes, "WinDLL")


@pytest.mark.skipif(not _has_kernel32(), reason="mypy's ipc needs the door of ctypes too")
def test_its_own_tests_pass(mypy_folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", "--as-windows", "--also", "mypy", str(SCRIPT)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(mypy_folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "OK" in done.stdout
