"""Programs that import what was fetched, as `npipe run` runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["as_windows", "environment", "run"]


def as_windows(*packages: str) -> tuple[str, ...]:
    """The switches that tell the program, and packages, that this is Windows."""
    return ("--as-windows", *(switch for package in packages for switch in ("--also", package)))


def environment(*folders: Path) -> dict[str, str]:
    """This process' environment, with folders to import from."""
    given = filter(None, [os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, folders), *given])}


def run(folder: Path, place: Path, program: str, *switches: str, arguments: tuple[str, ...] = ()) -> list[str]:
    """The lines that a script prints whose exit status is 0. It lies and runs in `place`, and imports from `folder`."""
    place.mkdir(exist_ok=True)
    (place / "script.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", *switches, "script.py", *arguments],
        cwd=place,
        env=environment(folder),
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()
