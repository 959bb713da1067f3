"""Other people's programs for the ends of relays: what this machine has, or its package manager gives."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess

import pytest

from tests.helpers import CHECKOUT

_PATIENCE = 240  # seconds for one run of apt-get


@functools.cache
def need(program: str, package: str | None = None) -> str:
    """Where the program is; skips the test if it is not there, and cannot be installed (as root, on Debian)."""
    found = shutil.which(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        (CHECKOUT / "build").mkdir(exist_ok=True)
        with (CHECKOUT / "build" / f"apt-{program}.log").open("wb") as log:
            fcntl.flock(log, fcntl.LOCK_EX)  # one worker does it, and the others find it there
            if shutil.which(program) is None:
                for command in (["update", "-qq"], ["install", "-y", "-qq", package or program]):
                    subprocess.run(
                        ["apt-get", *command],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        check=False,
                        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                        timeout=_PATIENCE,
                    )
        found = shutil.which(program)
    if found is None:
        pytest.skip(
            f"there is no {program}, and none could be installed (Debian: apt-get install {package or program})"
        )
    return found
