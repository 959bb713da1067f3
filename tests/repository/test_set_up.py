"""`make` where something is missing: one sentence that says what to do, and no half set-up that stays."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import CHECKOUT, shared_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow  # each is a make

DEADLINE = 60
FILES = ("Makefile", "README.md", "LICENSE", "pyproject.toml", "meson.build", "meson.options", "scripts", "src")
NOBODY = 65534


def copy(to: Path) -> Path:
    """What a fresh clone has, as far as the set-up uses it."""
    to.mkdir()
    for name in FILES:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, to / name)
    return to


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of it, in a path with spaces."""
    return copy(tmp_path / "a copy of npipe")


def environment(**more: str) -> dict[str, str]:
    """Without what a make above this one has said."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))} | more


def make(checkout: Path, *arguments: str, deadline: float = DEADLINE, **more: str) -> tuple[int, str]:
    done = subprocess.run(
        ["make", f"PYTHON={sys.executable}", *arguments],
        cwd=checkout,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=deadline,
    )
    return done.returncode, done.stdout


def sentence(said: tuple[int, str]) -> str:
    """The one line that a make which fails has said, beside make's own."""
    status, text = said
    assert status == 2
    own = [line for line in text.splitlines() if not line.startswith("make")]
    assert len(own) == 1, text
    return own[0]


def stub(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_without_the_python_that_was_named(checkout: Path) -> None:
    said = sentence(make(checkout, "demo", "PYTHON=no-such-python"))
    assert said.startswith("npipe needs Python 3.11 or later, and there is no 'no-such-python': ")
    assert "make PYTHON=" in said


def test_with_python_3_9(checkout: Path, tmp_path: Path) -> None:
    old = stub(tmp_path / "bin" / "python3", 'case "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac')
    # One that would do is named, if it is there.
    stub(tmp_path / "bin" / "python3.14", "exit 1")
    said = sentence(make(checkout, "demo", f"PYTHON={old}", PATH=f"{old.parent}:{os.environ['PATH']}"))
    assert said == (
        f"npipe needs Python 3.11 or later, and '{old}' is Python 3.9.2: python3.14 is here: make PYTHON=python3.14"
    )


def test_without_a_compiler(checkout: Path, tmp_path: Path) -> None:
    for name in ("sh", "make", "mkdir", "uname", "expr", "nproc", "find", "touch"):
        program = shutil.which(name)
        assert program is not None
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(program)
    said = sentence(make(checkout, "demo", PATH=str(tmp_path / "bin"), CC=""))
    assert said == "npipe needs a C compiler, and there is no 'cc' (on Debian: apt-get install gcc libc6-dev)."


def test_with_a_compiler_that_cannot_compile(checkout: Path) -> None:
    said = sentence(make(checkout, "demo", CC="false -g"))
    assert said.startswith("npipe needs a C compiler that works, and 'false -g' cannot use the C library (on Debian: ")


def test_without_python_s_headers(checkout: Path, tmp_path: Path) -> None:
    python = stub(
        tmp_path / "bin" / "python3",
        f'case "$2" in *sysconfig*) echo /nothing ;; *) exec "{sys.executable}" "$@" ;; esac',
    )
    assert sentence(make(checkout, "demo", f"PYTHON={python}")) == (
        "npipe needs Python's C headers, and /nothing/Python.h is missing (on Debian: apt-get install python3-dev)."
    )


def test_without_venv(checkout: Path, tmp_path: Path) -> None:
    python = stub(
        tmp_path / "bin" / "python3",
        f'case "$2" in *ensurepip*) exit 1 ;; *) exec "{sys.executable}" "$@" ;; esac',
    )
    assert sentence(make(checkout, "demo", f"PYTHON={python}")) == (
        "npipe needs Python's venv module with pip to set itself up (on Debian: apt-get install python3-venv)."
    )


@pytest.mark.parametrize("target", ["demo", "test"])
def test_in_a_checkout_that_cannot_be_written_to(target: str) -> None:
    with shared_folder() as folder:
        checkout = copy(folder / "npipe")
        as_root = os.geteuid() == 0  # who may write everywhere
        if not as_root:
            checkout.chmod(0o555)
        try:
            done = subprocess.run(
                ["make", target, f"PYTHON={shutil.which('python3', path='/usr/bin') or 'python3'}"],
                cwd=checkout,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=DEADLINE,
                user=NOBODY if as_root else None,
            )
        finally:
            checkout.chmod(0o755)
        assert sentence((done.returncode, done.stdout)) == (
            f"npipe sets itself up in build/ and .venv/ of its checkout, and {checkout} cannot be written to: copy it "
            "to a folder of your own (cp -r), and run make there."
        )


def ready(checkout: Path, *steps: str) -> None:
    """As if these steps were taken, with the environment that runs the tests."""
    (checkout / "build").mkdir()
    (checkout / ".venv" / "bin").mkdir(parents=True)
    stub(checkout / ".venv" / "bin" / "python", f'exec "{sys.executable}" "$@"')
    for step in steps:
        (checkout / "build" / f"stamp-{step}").touch()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_without_pypi(checkout: Path, closed_port: int, tmp_path: Path) -> None:
    ready(checkout, "venv")
    # What is there already would do, and it is; a version that is not there has to be fetched.
    project = checkout / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    assert '"ninja"]' in text
    project.write_text(text.replace('"ninja"]', '"no-such-npipe-tool"]'))
    status, text = make(
        checkout,
        "demo",
        PIP_INDEX_URL=f"http://127.0.0.1:{closed_port}/simple",
        PIP_RETRIES="0",
        PIP_CACHE_DIR=str(tmp_path / "cache"),
        PIP_CONFIG_FILE=os.devnull,
    )
    assert text.startswith("Fetching what compiles it, from PyPI: meson, ninja, Cython\n")
    said = sentence((status, text.partition("\n")[2]))
    assert said.startswith("npipe: the set-up needs packages from PyPI, and pip could not install them: ")
    assert "no-such-npipe-tool" in said
    assert "PIP_INDEX_URL=..." in said
    assert not (checkout / "build" / "stamp-build").exists()


def test_two_makes_at_once_are_one_after_the_other(checkout: Path) -> None:
    ready(checkout)
    (checkout / "build" / "lock").touch()
    with (checkout / "build" / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # we are the first one
        process = subprocess.Popen(
            ["make", "build/stamp-venv", f"PYTHON={sys.executable}"],
            cwd=checkout,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == "Another make is setting this checkout up: waiting for it.\n"
                before = (checkout / ".venv" / "bin" / "python").stat()
                (checkout / "build" / "stamp-venv").touch()
                fcntl.flock(lock, fcntl.LOCK_UN)
                assert process.stdout.read() == ""
                assert process.wait(DEADLINE) == 0
            finally:
                process.kill()
    assert (checkout / ".venv" / "bin" / "python").stat() == before  # nothing was done again


def test_a_compilation_that_fails_says_why(checkout: Path) -> None:
    ready(checkout, "venv", "build")
    (checkout / "meson.build").write_text("project('npipe', 'c')\nerror('as the test wants it')\n")
    tools = os.path.dirname(sys.executable)  # noqa: PTH120 - not where a link leads
    status, text = make(checkout, "demo", PATH=f"{tools}:{os.environ['PATH']}")
    assert status == 2
    assert "as the test wants it" in text
    assert "npipe: it could not be built; the reason is above, and in build/log-demo.txt.\n" in text
    assert not (checkout / "build" / "stamp-demo").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demonstration_of_a_fresh_clone_in_a_path_with_spaces(checkout: Path) -> None:
    status, text = make(checkout, "demo", deadline=900, CFLAGS="-O0")  # quicker to compile
    assert status == 0, text
    assert "113 of 113 files\n" in text or " files\nInstalled in .venv, after " in text
    assert 'client | "Default answer from server."\n' in text
    installed = {path.name.lower() for path in (checkout / ".venv").glob("lib/python*/site-packages/*.dist-info")}
    assert not [name for name in installed if name.startswith(("pytest", "mypy", "ruff", "click", "rich"))]
    again, text = make(checkout, "demo")
    assert (again, text.splitlines()[0].split()[0]) == (0, "npipe")  # nothing is set up again
