"""Programs for Windows, as the command runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, program: str, *switches: str, arguments: tuple[str, ...] = (), **environment: str) -> str:
    """What `npipe run` of a script prints, whose exit status is 0."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(program), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", *switches, str(script), *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout
