"""What the parts of a release share: where things are, and how a command is run."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
BUILD = ROOT / "build" / "wheels"
SMOKE = ROOT / "scripts" / "smoke.py"
STAMP = 1704067200  # 2024-01-01: the time of everything in an archive, so that the same content makes the same bytes
QUIET = ["--quiet", "--disable-pip-version-check"]


class NotToBeHadError(Exception):
    """Something that this machine has not got, with the reason in one sentence; the rest is done all the same."""


def project(root: Path = ROOT) -> dict[str, Any]:
    """Return the table [project] of a pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None, timeout: float = 900) -> str:
    """Run a command and return its output; what goes wrong ends this program, with what the command has printed."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(STAMP)} | (env or {})
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=environment,
        cwd=cwd,
        timeout=timeout,
    )
    if done.returncode:
        print(done.stdout)
        sys.exit(f"This failed with status {done.returncode}: {' '.join(str(word) for word in command)}")
    return done.stdout
