"""`npipe info`: which npipe this is, where its pipes are, and what has decided that."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path

import npipe
from tests.cli.helpers import DEADLINE, NPIPE, run


def lines(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines())


def test_info_has_version_root_and_what_decided_it(name: str, root: Path) -> None:
    with npipe.listen(name):
        done = run("info")
    assert (done.returncode, done.stderr) == (0, "")
    assert lines(done.stdout) == {
        "version": npipe.__version__,
        "root": str(root),
        "decided by": "NPIPE_ROOT",
        "pipes": "1",
        "package": str(Path(npipe.__file__).parent),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def test_a_root_that_is_not_there_yet_is_told_so(root: Path) -> None:
    told = lines(run("info").stdout)
    assert told["root"] == f"{root} (not there yet: the first server makes it)"
    assert told["pipes"] == "0"
    assert not root.exists()


def test_json_has_the_same_for_programs(name: str, root: Path) -> None:
    known = json.loads(run("info", "--json").stdout)
    assert (known["version"], known["root"], known["root_exists"]) == (npipe.__version__, str(root), False)
    with npipe.listen(name):
        known = json.loads(run("info", "--json").stdout)
    assert (known["root_exists"], known["pipes"], known["decided_by"]) == (True, 1, "NPIPE_ROOT")


def test_without_the_variable_it_names_the_rule_that_holds(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key not in ("NPIPE_ROOT", "XDG_RUNTIME_DIR")}
    for more in {"XDG_RUNTIME_DIR": str(tmp_path)}, {}:
        done = subprocess.run(
            [*NPIPE, "info", "--json"], capture_output=True, text=True, timeout=DEADLINE, env=env | more
        )
        known = json.loads(done.stdout)
        expected = {
            "/run/npipe": "/run/npipe is there",
            str(tmp_path / "npipe"): "XDG_RUNTIME_DIR",
        }
        assert known["decided_by"] == expected.get(known["root"], "the folder for temporary files")


def test_a_root_cannot_break_the_lines(tmp_path: Path) -> None:
    env = os.environ | {"NPIPE_ROOT": str(tmp_path / "a\nb\x1b[2Jc")}
    for arguments in ["info"], ["--version"]:
        done = subprocess.run([*NPIPE, *arguments], capture_output=True, text=True, timeout=DEADLINE, env=env)
        assert "a\\nb\\x1b[2Jc" in done.stdout
        assert "\x1b" not in done.stdout


def test_a_root_that_cannot_be_used_is_told_with_the_reason(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    done = run("info")
    assert done.returncode == 5
    assert lines(done.stdout)["root"] == str(root)
    assert "pipes" not in lines(done.stdout)
    assert done.stderr.startswith("npipe: [WinError 5] ")
    assert done.stderr.count("\n") == 1
