"""mypy's own tests of its ipc, in the pure Python of its wheel: run_mypy_ipc.py, by `npipe run --as-windows`.

Exit status: 0 passed, 1 failed.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import unittest
from typing import Any

if __name__ == "__main__":
    ipc: Any = importlib.import_module("mypy.ipc")
    tests: Any = importlib.import_module("mypy.test.testipc")
    assert ipc.__file__.endswith(".py")
    assert hasattr(ipc, "_winapi"), "mypy has not taken its branch for Windows"
    # The tests ask for "spawn" on Windows; a forked child has the same doors, whatever travels in the environment.
    tests.get_context = lambda _: multiprocessing.get_context("fork")
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromModule(tests))
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
