"""The CPythons that wheels are built for: those of this machine, with their headers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from common import BUILD, ROOT, NotToBeHadError

VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t")
"""`t`: without the interpreter's lock."""

_ASK = """
import json, sys, sysconfig
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2] + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""),
    "full": sys.version.split()[0], "include": sysconfig.get_path("include"),
    "pyconfig": sysconfig.get_config_h_filename(), "data": sysconfig.get_config_vars()}))
"""


@dataclass
class Interpreter:
    """A CPython: how it is called, and what it says of itself."""

    version: str
    command: list[str]
    full: str
    include: Path
    pyconfig: Path
    variables: dict[str, object] = field(repr=False)
    tree: Path | None = None  # the root of another system's files, where it is in one

    @property
    def tag(self) -> str:
        """Return the tag of its ABI: cp313, cp313t."""
        return f"cp{self.version.replace('.', '')}"

    def seen(self, path: Path) -> Path:
        """Return where a file of the interpreter's is for us."""
        return self.tree / path.relative_to("/") if self.tree else path


def find(version: str) -> Interpreter:
    """Return a CPython of that version, or say in one sentence why there is none."""
    places = [shutil.which(f"python{version}"), str(ROOT / ".venv" / "bin" / "python")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places += [str(path) for path in sorted(pyenv.glob(f"{version.rstrip('t')}*/bin/python3"))]
    if version.endswith("t"):
        found = subprocess.run(
            [ROOT / "scripts" / "nogil-python.sh", ROOT / "build" / "nogil"],
            capture_output=True,
            text=True,
            check=False,
        )
        places.append(found.stdout.strip())
    for place in places:
        interpreter = _asked([place]) if place else None
        if interpreter and interpreter.version == version and interpreter.pyconfig.exists():
            return interpreter
    if version == "3.14":
        return _of_debian("sid", version)
    raise NotToBeHadError(f"no CPython {version} with its headers is on this machine")


def _asked(command: list[str], tree: Path | None = None) -> Interpreter | None:
    done = subprocess.run([*command, "-c", _ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    said = json.loads(done.stdout)
    include, pyconfig = Path(said["include"]), Path(said["pyconfig"])
    return Interpreter(said["version"], command, said["full"], include, pyconfig, said["data"], tree)


def _of_debian(suite: str, version: str) -> Interpreter:
    program = BUILD / f"enter-{suite}"
    program.parent.mkdir(parents=True, exist_ok=True)
    script = ROOT / "scripts" / "debian-python.sh"
    made = subprocess.run([script, trees(), suite, version, program, ROOT], capture_output=True, text=True, check=False)
    if made.returncode:
        raise NotToBeHadError(
            made.stderr.strip().splitlines()[-1] if made.stderr.strip() else "debian-python.sh failed"
        )
    enter = made.stdout.strip()
    interpreter = _asked([enter, f"python{version}"], trees() / suite)
    if interpreter is None:
        raise NotToBeHadError(f"Debian's CPython {version} ({suite}) does not start here")
    return interpreter


def trees() -> Path:
    """Return where there are trees of another Debian: NPIPE_DEBIANS, for several checkouts, or build/debian."""
    return Path(os.environ.get("NPIPE_DEBIANS", ROOT / "build" / "debian"))


def headers(interpreter: Interpreter) -> Path:
    """Return a folder with its headers alone: Debian's pyconfig.h takes another one from among the system's headers."""
    folder = BUILD / "headers" / interpreter.version
    if not folder.exists():
        shutil.copytree(interpreter.seen(interpreter.include), folder)
        pyconfig = interpreter.seen(interpreter.pyconfig)
        named = f"{interpreter.variables.get('MULTIARCH')}/{interpreter.include.name}/pyconfig.h"
        if f"<{named}>" in pyconfig.read_text(encoding="utf-8"):
            pyconfig = interpreter.seen(interpreter.include).parent / named
        (folder / "pyconfig.h").unlink()
        shutil.copy(pyconfig, folder / "pyconfig.h")
    return folder
