"""The tests in this folder are for Python on Windows (scripts/windows/python)."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    collect_ignore_glob = ["test_*.py"]
