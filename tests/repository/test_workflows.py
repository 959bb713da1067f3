"""The workflows of .github, by those who know what GitHub and an attacker make of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import CHECKOUT

FOLDER = CHECKOUT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))


def program(name: str) -> str:
    """A program of the group workflows, which `make build/stamp-workflows` installs where PyPI has it."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: the group workflows of pyproject.toml has it")
    return found


def said(*command: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=CHECKOUT,
    )
    return "" if done.returncode == 0 else done.stdout or f"status {done.returncode}"


def test_actionlint_has_nothing_to_say() -> None:
    assert len(WORKFLOWS) >= 3
    assert not said(program("actionlint"), "-no-color", *WORKFLOWS)


def test_zizmor_has_nothing_to_say() -> None:
    assert not said(program("zizmor"), "--offline", "--no-progress", "--color=never", FOLDER)


def test_each_action_is_named_by_a_commit_and_says_its_version() -> None:
    for workflow in WORKFLOWS:
        used = re.findall(r"uses: (.*)", workflow.read_text(encoding="utf-8"))
        assert used, workflow
        for one in used:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), f"{workflow.name}: {one}"


def test_no_workflow_has_a_secret_and_one_job_alone_may_more_than_read() -> None:
    for workflow in WORKFLOWS:
        text = workflow.read_text(encoding="utf-8")
        assert "secrets" not in text, workflow
        assert re.search(r"^permissions: \{\}$", text, re.MULTILINE), workflow
        granted = re.findall(r"^ +([\w-]+): write", text, re.MULTILINE)
        assert granted == (["id-token"] if workflow.stem == "release" else []), workflow


def test_what_the_workflows_make_are_targets_of_the_makefile() -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    there = set(re.findall(r"^([\w/-]+):", makefile, re.MULTILINE))
    for workflow in WORKFLOWS:
        if workflow.stem == "docs" and not (CHECKOUT / "docs" / "conf.py").exists():
            continue  # there are no pages to make yet
        for target in re.findall(r"run: make ([\w/-]+)", workflow.read_text(encoding="utf-8")):
            assert target in there, f"{workflow.name}: make {target}"
