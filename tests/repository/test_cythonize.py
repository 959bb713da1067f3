"""scripts/cythonize.py: what it leaves when it is cut off."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path


def test_a_translation_that_was_cut_off_is_done_anew(tmp_path: Path) -> None:
    pytest.importorskip("Cython", reason="there is no Cython")
    binding = tmp_path / "src" / "npipe" / "binding"
    binding.mkdir(parents=True)
    for folder in (binding.parent, binding):
        (folder / "__init__.py").touch()
    (binding / "one.pyx").write_text("def f(): return 1\n")
    output = tmp_path / "output"

    def translate() -> str:
        program = [sys.executable, str(CHECKOUT / "scripts" / "cythonize.py"), str(output), str(tmp_path)]
        subprocess.run([*program, str(binding / "one.pyx")], check=True, timeout=120)
        return (output / "one.c").read_text()

    whole = translate()
    assert not (output / "unfinished").exists()
    for made in (output / "one.c", *(output / "cython").rglob("*.c")):
        made.write_text(whole[:1000])
    (output / "unfinished").touch()  # as a process that is killed leaves it
    assert translate() == whole
