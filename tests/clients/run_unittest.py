"""Run one test of pywin32's own, unmodified, on npipe.win32: run_unittest.py WHEEL FILE CLASS.TEST.

WHEEL is the folder of pywin32's unpacked wheel, FILE the name of a module in its win32/test. Exit status: 0 passed,
77 skipped by itself (the reason is the last line), 1 failed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import importlib.util
import os
import sys
import types
import unittest
from pathlib import Path
from typing import Any

PATIENCE = 30  # seconds before all stacks are printed and the process ends
SKIPPED = 77


def load(name: str, file: Path) -> types.ModuleType:
    """Import one file under a name, without a search path that leads to its neighbours."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def stand_in(name: str, **attributes: Any) -> None:
    """Put an empty module with these attributes in the place of one that is no part of the face."""
    module = types.ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module


def prepare(wheel: Path) -> None:
    """What the tests import besides the face: pywin32's pure modules, and stand-ins for COM and the registry."""
    pywintypes: Any = importlib.import_module("pywintypes")
    com_error = getattr(pywintypes, "com_error", type("com_error", (Exception,), {}))
    stand_in("pythoncom", _GetInterfaceCount=lambda: 0, _GetGatewayCount=lambda: 0, com_error=com_error)
    stand_in("win32com")
    stand_in("win32com.shell")
    stand_in("win32com.shell.shell", IsUserAnAdmin=lambda: os.geteuid() == 0)
    load("pywin32_testutil", wheel / "win32" / "lib" / "pywin32_testutil.py")


def main(wheel: str, file: str, test: str) -> int:
    """Run it and return the exit status."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    win32: Any = importlib.import_module("npipe.win32")
    with contextlib.ExitStack() as scope:
        scope.enter_context(win32.install())
        prepare(Path(wheel))
        module = load(file, Path(wheel) / "win32" / "test" / f"{file}.py")
        suite = unittest.defaultTestLoader.loadTestsFromName(test, module)
        result = unittest.TextTestRunner(verbosity=2).run(suite)
    assert result.testsRun == 1
    if result.skipped:
        print(result.skipped[0][1])
        return SKIPPED
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
