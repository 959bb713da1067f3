"""Other people's programs that tests use: what this machine has, or its package manager gives."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess

import pytest

from tests.helpers import CHECKOUT

_PATIENCE = 300  # seconds for one run of apt-get


@functools.cache
def need(*names: str, package: str | None = None) -> str:
    """Where the program is, by the first name that there is; skips the test if it cannot be installed either.

    It can be as root, on Debian: its package is that of the first name, or `package`.
    """
    package = package or names[0]
    found = _found(names)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        (CHECKOUT / "build").mkdir(exist_ok=True)
        with (CHECKOUT / "build" / f"apt-{package}.log").open("wb") as log:
            fcntl.flock(log, fcntl.LOCK_EX)  # one worker does it, and the others find it there
            if _found(names) is None:
                for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
                    subprocess.run(
                        ["apt-get", *command],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        check=False,
                        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                        timeout=_PATIENCE,
                    )
        found = _found(names)
    if found is None:
        pytest.skip(f"there is no {names[0]}, and none could be installed (Debian: apt-get install {package})")
    return found


def _found(names: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)
