"""Makes the sdist and the wheels in dist/, and tries each where nothing else is installed.

wheels.py [--python VERSION]... [--target NAME]... [--no-windows] [--no-trial] [--complete]

The wheels for Linux are built of the sdist, by zig, for each CPython that is here and each of toolchain.TARGETS; what
they ask of a system is checked by auditwheel and by inspection.py. The one for Windows is pure Python. What cannot be
had is skipped, and the table at the end says why.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import inspection
import interpreters
import sdist
import sealing
import trials
import windows_wheel
from common import BUILD, DIST, QUIET, ROOT, NotToBeHadError, project, run
from interpreters import Interpreter
from toolchain import TARGETS, Target, toolchain


@dataclass
class Row:
    """A line of the table."""

    wheel: str
    size: str = ""
    asks: str = ""
    tried: str = ""
    passed: bool = True


def main(arguments: list[str]) -> int:
    """Make and try all of them; say what was not, and why."""
    parser = argparse.ArgumentParser(description="Make the sdist and the wheels, and try each.")
    parser.add_argument("--python", action="append", choices=interpreters.VERSIONS)
    parser.add_argument("--target", action="append", choices=[target.name for target in TARGETS])
    parser.add_argument("--no-windows", action="store_true")
    parser.add_argument("--no-trial", action="store_true")
    parser.add_argument("--complete", action="store_true", help="fail where a CPython is missing")
    asked = parser.parse_args(arguments)
    for folder in (BUILD, DIST):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    made = sdist.make(DIST)
    rows = [Row(made.name, f"{made.stat().st_size / 1000:.0f} kB", "", "the wheels below are built of it")]
    show(rows[-1])
    source = sdist.unpack(made, BUILD / "source")
    outputs: dict[str, str] = {}
    for version in asked.python or interpreters.VERSIONS:
        try:
            interpreter = interpreters.find(version)
            python = environment(interpreter)
        except NotToBeHadError as reason:
            missing = f"not built: {reason}"
            rows.append(Row(f"CPython {version}: none", tried=missing, passed=not asked.complete))
            show(rows[-1])
            continue
        for target in TARGETS:
            if not asked.target or target.name in asked.target:
                rows.append(linux(source, interpreter, python, target, outputs, try_it=not asked.no_trial))
                show(rows[-1])
    if not asked.no_windows:
        rows.append(windows(outputs, try_it=not asked.no_trial))
    print("\nwhat is in dist/, how large it is, the newest of glibc that it asks for, and where it was tried:")
    for row in rows:
        show(row)
    return 0 if all(row.passed for row in rows) else 1


def show(row: Row) -> None:
    """Print a line of the table."""
    mark = " " if row.passed else "!"
    print(f"{mark} {row.wheel:66} {row.size:>8} {row.asks:12} {row.tried}", flush=True)


def environment(interpreter: Interpreter) -> Path:
    """Make an environment that builds npipe for an interpreter, and return its program."""
    folder = BUILD / "environments" / interpreter.version
    run(*interpreter.command, "-m", "venv", folder)
    enter, python = interpreter.command[:-1], folder / "bin" / "python"
    if not enter:
        run(python, ROOT / "scripts" / "install-groups.py", "build", cwd=ROOT)
        return python
    # The tree of another system may have no way to PyPI: what it needs is fetched here.
    packages = BUILD / "packages"
    requirements = windows_wheel.group("build")
    select = ["--only-binary", ":all:", "--python-version", interpreter.version]
    run(sys.executable, "-m", "pip", "download", *QUIET, "-d", packages, *select, *requirements)
    run(*enter, python, "-m", "pip", "install", *QUIET, "--no-index", "--find-links", packages, *requirements)
    return python


# ---- Linux


def linux(
    source: Path, interpreter: Interpreter, python: Path, target: Target, outputs: dict[str, str], *, try_it: bool
) -> Row:
    """Build, check and try one."""
    wheel = build(source, interpreter, python, target, BUILD / "made" / f"{interpreter.version}-{target.name}")
    kept = Path(shutil.copy(wheel, DIST))
    row = Row(kept.name, f"{kept.stat().st_size / 1000:.0f} kB", inspection.newest(kept))
    wrong = inspection.faults(kept, target)
    if wrong:
        return Row(row.wheel, row.size, row.asks, "; ".join(wrong), passed=False)
    if not try_it:
        return row
    try:
        row.tried, output = trials.tried(kept, interpreter, target)
        if target.name == "x86_64-linux-gnu" and "whole" not in outputs and len(interpreter.command) == 1:
            outputs["whole"] = trials.with_the_command(kept, interpreter)
            row.tried += ", and with [cli]"
    except NotToBeHadError as reason:
        row.tried = f"checked, not run: {reason}"
        return row
    row.passed = output == outputs.setdefault("bare", output)
    if not row.passed:
        print(f"{kept.name} prints\n{output}\nand not\n{outputs['bare']}", file=sys.stderr)
    return row


def build(source: Path, interpreter: Interpreter, python: Path, target: Target, folder: Path) -> Path:
    """Build a wheel of an unpacked sdist, and seal it. There is no library that it would have to bring along."""
    shutil.rmtree(folder, ignore_errors=True)
    cross, variables = toolchain(interpreter, target, python, source)
    setup = f"-Csetup-args=--cross-file={cross}"
    # In the folder of the sources, so that the compiler is told the same of them wherever that is.
    where = source / f"build-{interpreter.version}-{target.name}"
    shutil.rmtree(where, ignore_errors=True)
    words = [f"{key}={value}" for key, value in variables.items()]
    run(
        *(*interpreter.command[:-1], "env", f"PATH={python.parent}:/usr/bin:/bin", *words),
        *(python, "-m", "pip", "wheel", *QUIET, "--no-build-isolation", "--no-deps", setup),
        *(f"-Cbuild-dir={where}", "-w", folder / "raw", source),
    )
    (raw,) = (folder / "raw").glob("*.whl")
    shutil.rmtree(where)
    # By the name that systems with musl have for it, and auditwheel asks for.
    libraries = {} if target.glibc else {"libc.so": f"libc.musl-{target.machine}.so.1"}
    return sealing.seal(raw, target.platform, project(source), libraries)


# ---- Windows


def windows(outputs: dict[str, str], *, try_it: bool) -> Row:
    """Make and try the one for Windows."""
    wheel = windows_wheel.make(DIST)
    row = Row(wheel.name, f"{wheel.stat().st_size / 1000:.0f} kB")
    if not try_it:
        return row
    try:
        output = trials.on_windows()
        row.tried = "CPython for Windows under Wine, with [cli]"
    except NotToBeHadError as reason:
        row.tried = f"not tried: {reason}"
        return row
    there, here = output.splitlines(), outputs.get("whole", output).splitlines()
    row.passed = there == here
    if not row.passed:
        print(f"On Windows it prints\n{output}\nand not\n{outputs['whole']}", file=sys.stderr)
    return row


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
