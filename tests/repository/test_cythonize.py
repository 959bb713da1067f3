"""scripts/cythonize.py: what it translates, and what it leaves."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("Cython", reason="there is no Cython")

PARTS = ("one", "two")


class Binding:
    """A binding of two parts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "src" / "npipe" / "binding"
        self.folder.mkdir(parents=True)
        for each in (self.folder.parent, self.folder):
            (each / "__init__.py").touch()
        for part in PARTS:
            self.write(part, "def f(): return 1\n")
        self.output = folder / "output"
        self._root = folder

    def write(self, part: str, text: str) -> None:
        (self.folder / f"{part}.pyx").write_text(text)

    def translate(self) -> int:
        """The exit status."""
        program = [sys.executable, str(CHECKOUT / "scripts" / "cythonize.py"), str(self.output), str(self._root)]
        parts = [str(self.folder / f"{part}.pyx") for part in PARTS]
        return subprocess.run([*program, *parts], check=False, capture_output=True, timeout=120).returncode

    def made(self, part: str) -> tuple[str, int]:
        """A C file, and its time stamp."""
        path = self.output / f"{part}.c"
        return path.read_text(), path.stat().st_mtime_ns


@pytest.fixture
def binding(tmp_path: Path) -> Binding:
    return Binding(tmp_path)


def test_what_has_not_changed_keeps_its_time_stamp(binding: Binding) -> None:
    assert binding.translate() == 0
    one, two = binding.made("one"), binding.made("two")
    assert "PyInit_one" in one[0]
    assert sorted(path.name for path in binding.output.iterdir()) == ["one.c", "two.c"]
    binding.write("one", "def f(): return 2\n")
    binding.write("two", "def f(): return 1\n")  # newer, and the same
    assert binding.translate() == 0
    assert binding.made("one")[0] != one[0]
    assert binding.made("one")[1] > one[1]
    assert binding.made("two") == two


def test_a_declaration_that_has_changed_is_heeded(binding: Binding) -> None:
    (binding.folder / "one.pxd").write_text("cdef int number(int of)\n")
    binding.write("one", "cdef int number(int of): return of\n")
    binding.write("two", "from npipe.binding.one cimport number\ndef f(): return number(1)\n")
    assert binding.translate() == 0
    two = binding.made("two")
    (binding.folder / "one.pxd").write_text("cdef long number(long of)\n")
    binding.write("one", "cdef long number(long of): return of\n")
    assert binding.translate() == 0
    assert binding.made("two")[0] != two[0]


def test_a_part_that_cannot_be_translated_fails_and_is_translated_the_next_time(binding: Binding) -> None:
    binding.write("one", "def f(: return 1\n")
    assert binding.translate() == 1
    assert not (binding.output / "one.c").exists()
    assert "PyInit_two" in binding.made("two")[0]
    binding.write("one", "def f(): return 1\n")
    assert binding.translate() == 0
    assert "PyInit_one" in binding.made("one")[0]
