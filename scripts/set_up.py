"""Sets this checkout up, a step at a time, in plain words; what the tools say is in build/log-STEP.txt.

set_up.py STEP STAMP [PREREQUISITE...], for the Makefile. One make does it, another one that comes meanwhile waits.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import IO, Self

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path("build")
VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"
PIP = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
STEP = 0.25  # share of the compilation between two words on it, where there is no terminal


class SetUpError(Exception):
    """What failed, and what to do, in a sentence."""


def main(arguments: list[str]) -> int:
    """Take the step, unless another make has taken it; say in one sentence if that fails."""
    name, stamp, prerequisites = arguments[0], Path(arguments[1]), [Path(each) for each in arguments[2:]]
    os.chdir(ROOT)
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        _take(lock)
        if _is_done(stamp, prerequisites):
            return 0
        try:
            with (BUILD / f"log-{name}.txt").open("w+", encoding="utf-8", errors="replace") as log:
                STEPS[name](log)
        except SetUpError as error:
            print(f"npipe: {error}", file=sys.stderr)
            return 1
        stamp.touch()
    return 0


def _take(lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say("Another make is setting this checkout up: waiting for it.")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_done(stamp: Path, prerequisites: list[Path]) -> bool:
    """Whether the step was taken since make looked."""
    try:
        made = stamp.stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return all(made >= each.stat().st_mtime_ns for each in prerequisites)


def _say(text: str) -> None:
    print(text, flush=True)


# ---- The steps


def _make_environment(log: IO[str]) -> None:
    _say("Setting up, the first time only: an environment for Python in .venv")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    if _run(command, log):
        raise SetUpError(f"Python could not make an environment in {ROOT / VENV}: {_last(log)} (see {log.name}).")


def _fetch_build(log: IO[str]) -> None:
    _say("Fetching what compiles it, from PyPI: meson, ninja, Cython")
    _install(["--no-compile", *_group("build")], log)  # much of it is never imported


def _fetch_tools(log: IO[str]) -> None:
    _say("Fetching what checks and tests it, from PyPI: pytest, mypy, ruff and others, 200 MB, the first time only")
    _install([*_group("build"), *_group("test"), *_group("lint"), *_extra("cli"), *_extra("monitor")], log)


def _build_quickly(log: IO[str]) -> None:
    _build(log, "demo", ["-Csetup-args=-Dbinding_optimization=1"])


def _build(log: IO[str], folder: str = "package", more: list[str] | None = None) -> None:
    start = time.monotonic()
    # Not isolated: the environment has what it needs. -v: what ninja says comes as it says it.
    options = ["--no-build-isolation", "--no-deps", "--force-reinstall", f"-Cbuild-dir={BUILD / folder}"]
    command = [*PIP, "-v", *options, "-Csetup-args=-Dwerror=true", *(more or []), "."]
    path = os.pathsep.join([str(ROOT / PYTHON.parent), os.environ.get("PATH", os.defpath)])
    _say("Compiling, with all processors; later only what has changed")
    with Progress() as progress:
        status = _run(command, log, progress.look, {**os.environ, "PATH": path})
    if status:
        log.seek(0)
        sys.stderr.write(log.read())
        raise SetUpError(f"it could not be built; the reason is above, and in {log.name}.")
    _say(f"Installed in .venv, after {time.monotonic() - start:.0f} seconds")


STEPS = {
    "venv": _make_environment,
    "build": _fetch_build,
    "tools": _fetch_tools,
    "demo": _build_quickly,
    "npipe": _build,
}


def _group(name: str) -> list[str]:
    return list(_project()["dependency-groups"][name])


def _extra(name: str) -> list[str]:
    return list(_project()["project"]["optional-dependencies"][name])


def _project() -> dict[str, dict[str, dict[str, list[str]]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _install(wanted: list[str], log: IO[str]) -> None:
    # It tries five times, and longer each time; here who waits should soon be told.
    retries = [] if "PIP_RETRIES" in os.environ else ["--retries", "2"]
    if _run([*PIP, *retries, *wanted], log):
        raise SetUpError(
            f"the set-up needs packages from PyPI, and pip could not install them: {_last(log)} Connect this machine, "
            f"or name a mirror (PIP_INDEX_URL=...) or a folder of wheels (PIP_NO_INDEX=1 PIP_FIND_LINKS=...), and run "
            f"make again; {log.name} has all that pip said."
        )


def _last(log: IO[str]) -> str:
    """Return the last line of what a tool has said of its error, as a sentence."""
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR:", "Error:"))]
    text = (errors or lines or ["no reason was given"])[-1]
    return text.removeprefix("ERROR: ").removeprefix("Error: ").rstrip(".") + "."


def _run(command: list[str], log: IO[str], look: object = None, environment: dict[str, str] | None = None) -> int:
    """Run it, with what it says in the log and shown to `look` line by line; its exit status."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if callable(look):
                look(line)
        log.flush()
    return process.returncode


class Progress:
    """How far ninja is: a line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._shown = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal and self._shown:
            sys.stdout.write(f"\r{'':<40}\r")
            sys.stdout.flush()

    def look(self, line: str) -> None:
        """Take a line of what pip says."""
        found = re.match(r"\s*\[(\d+)/(\d+)\] ", line)
        if found is None:
            return
        done, count = int(found[1]), int(found[2])
        share = done / count
        if self._terminal:
            sys.stdout.write(f"\r  {done} of {count} files")
            sys.stdout.flush()
            self._shown = share
        elif share >= self._shown + STEP:
            self._shown = share - share % STEP
            _say(f"  {done} of {count} files")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
