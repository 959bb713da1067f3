"""Tries a wheel where nothing else is installed; what the smoke test prints has to be the same everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from common import BUILD, DIST, QUIET, ROOT, SMOKE, NotToBeHadError, run
from interpreters import trees

if TYPE_CHECKING:
    from pathlib import Path

    from interpreters import Interpreter
    from toolchain import Target

# The CPythons for arm64 that Debian has, by its name for a system.
_ARM64 = {"3.11": "bookworm", "3.13": "trixie", "3.14": "sid"}


def tried(wheel: Path, interpreter: Interpreter, target: Target) -> tuple[str, str]:
    """Try a wheel; return where that was, and what the smoke test has printed."""
    if target.name == "x86_64-linux-gnu":
        return f"CPython {interpreter.full}, bare", _in_an_environment(wheel, interpreter)
    if target.name == "aarch64-linux-gnu":
        suite = _ARM64.get(interpreter.version)
        if suite is None:
            raise NotToBeHadError(f"no CPython {interpreter.version} for arm64 is to be had")
        python = _said(ROOT / "scripts" / "arm64-python.sh", trees(), suite, interpreter.version)
        return f"Debian's CPython {interpreter.version} ({suite}) by qemu", _beside(interpreter, target, python)
    if target.name == "x86_64-linux-musl":
        python = _said(ROOT / "scripts" / "musl-python.sh", ROOT / "build" / "musl", interpreter.version)
        return f"CPython {interpreter.version} built with musl", _beside(interpreter, target, python)
    raise NotToBeHadError("no CPython for arm64 with musl is to be had")


def _said(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotToBeHadError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{command[0]} failed")
    return done.stdout.strip()


def _in_an_environment(wheel: Path, interpreter: Interpreter) -> str:
    """In a virtual environment of its own that has npipe and nothing else."""
    folder = BUILD / "bare" / interpreter.version
    shutil.rmtree(folder, ignore_errors=True)
    run(*interpreter.command, "-m", "venv", folder)
    python = [*interpreter.command[:-1], folder / "bin" / "python"]
    run(*python, "-m", "pip", "install", *QUIET, "--no-index", wheel)
    return _smoke(*python, "-I", SMOKE, "--bare")


def _beside(interpreter: Interpreter, target: Target, python: str) -> str:
    """With the wheel's files in a folder of their own: pip takes it for that system, by its tags, or not at all."""
    folder = BUILD / "bare" / f"{interpreter.version}-{target.name}"
    shutil.rmtree(folder, ignore_errors=True)
    select = ["--platform", target.platform, "--python-version", interpreter.version, "--only-binary", ":all:"]
    run(
        *(sys.executable, "-m", "pip", "install", *QUIET, "--no-index", "--no-deps", "--find-links", DIST),
        *("--target", folder, *select, "npipe"),
    )
    return _smoke(python, "-s", SMOKE, "--bare", env={"PYTHONPATH": str(folder)})


def with_the_command(wheel: Path, interpreter: Interpreter) -> str:
    """In an environment with the extra cli, whose packages come from PyPI: the whole smoke test."""
    folder = BUILD / "bare" / f"{interpreter.version}-cli"
    shutil.rmtree(folder, ignore_errors=True)
    run(*interpreter.command, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", *QUIET, f"npipe[cli] @ {wheel.as_uri()}")
    return _smoke(python, "-I", SMOKE)


def _smoke(*command: str | Path, env: dict[str, str] | None = None) -> str:
    return run(*command, env={"NPIPE_ROOT": str(BUILD / "root")} | (env or {}), cwd=BUILD, timeout=300)


def on_windows() -> str:
    """In a fresh CPython for Windows in a fresh Wine prefix: the whole smoke test."""
    setup = ROOT / "scripts" / "windows" / "setup.py"
    said = subprocess.run([sys.executable, setup], capture_output=True, text=True, check=False)
    if said.returncode:
        words = (said.stderr.strip() or said.stdout.strip() or "setup.py failed").splitlines()
        raise NotToBeHadError(words[-1])
    home = ROOT / "build" / "windows"
    python = BUILD / "windows-python"
    run(sys.executable, setup, python)
    environment = {"WINEPREFIX": str(BUILD / "prefix"), "NPIPE_WINDOWS_PYTHON": str(python)}
    program = ROOT / "scripts" / "windows" / "python"
    downloads = home / "download" / "wheels"
    try:
        run(
            *(program, "-m", "pip", "install", *QUIET, "--no-index", "--find-links", downloads, "--find-links", DIST),
            *("--no-compile", "--no-warn-script-location", "npipe[cli]"),
            env=environment,
        )
        done = subprocess.run(
            [program, "-I", SMOKE],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=os.environ | environment,
            timeout=300,
        )
        return done.stdout
    finally:
        subprocess.run(["wineserver", "-k"], env=os.environ | environment, check=False)
