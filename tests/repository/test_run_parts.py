"""scripts/run_parts.py: no failure of a part is lost, nor what it says; what ends it ends the parts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import pytest

from tests.helpers import CHECKOUT, readable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 30
COMMAND = [sys.executable, str(CHECKOUT / "scripts" / "run_parts.py")]

# Takes make's place; what the parts are to have in common is in a folder.
MAKE = r"""#!/bin/sh
case "$2" in
good) echo "said: $3"; echo "7 passed in 1s" ;;
bad) printf '\303\251t\303\251 \342\226\201\n'; exit 3 ;;
long) mkfifo "$PARTS/held"; (echo begun; exec cat "$PARTS/held"); echo "cat: $?" ;;
left) exec 3<"$PARTS/other"; cat <&3 & ;;
esac
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a make of its own."""
    make = tmp_path / "make"
    make.write_text(MAKE)
    make.chmod(0o755)
    return {**os.environ, "MAKE": str(make), "PARTS": str(tmp_path), "PYTHONIOENCODING": "utf-8"}


@pytest.fixture
def usual_signals() -> Iterator[None]:
    """Processes that the test starts begin with the signals' usual effect, also where a shell or nohup ignores some."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGQUIT)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(environment: dict[str, str], *parts: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *parts], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE
    )
    return done.returncode, done.stdout.decode()


def test_parts_run_one_after_the_other_whatever_has_failed(environment: dict[str, str]) -> None:
    status, said = run(environment, "bad", "good ARGS='a b'")
    assert status == 1
    assert "été ▁\n== [1/2] bad: FAILED in 0:00\n== [2/2] good\nsaid: ARGS=a b\n" in said
    assert [line.split()[:2] for line in said.splitlines()[-3:]] == [
        ["bad", "FAILED"],
        ["good", "passed"],
        ["all", "FAILED"],
    ]
    assert run(environment, "good")[0] == 0


def test_what_runs_beside_is_told_apart(environment: dict[str, str]) -> None:
    status, said = run(environment, "good ARGS=1", "--beside", "bad")
    assert status == 1
    assert "good: said: ARGS=1\n" in said
    assert "bad: été ▁\n" in said


def test_what_comes_then_waits_for_all_before_it(environment: dict[str, str]) -> None:
    status, said = run(environment, "good", "--beside", "bad", "good", "--then", "good ARGS=3")
    assert status == 1
    assert said.startswith("== 4 parts: good beside bad, good, then good\n")
    before, _, after = said.partition("== [4/4] good\n")
    assert [before.count(f"== [{number}/4] {how}") for number, how in ((1, ""), (2, ""), (3, ""))] == [2, 2, 2]
    assert after.startswith("said: ARGS=3\n")  # alone, so it does not say which part it is


def test_a_terminal_s_encoding_costs_no_failure(environment: dict[str, str]) -> None:
    status, said = run({**environment, "PYTHONIOENCODING": "ascii"}, "bad")
    assert status == 1
    assert r"\xe9t\xe9 \u2581" in said


def test_a_part_that_cannot_begin_has_failed(environment: dict[str, str]) -> None:
    status, said = run({**environment, "MAKE": "/nothing/make"}, "good")
    assert status == 1
    assert "No such file or directory: '/nothing/make'" in said


@contextmanager
def begun(environment: dict[str, str], *parts: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """What runs "long", which has begun."""
    process = subprocess.Popen(
        [*COMMAND, *parts], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == f"== {len(parts)} parts: {', '.join(parts)}\n"
            assert process.stdout.readline() == f"== [1/{len(parts)}] long\n"
            assert process.stdout.readline() == "begun\n"
            yield process, process.stdout
        finally:
            process.kill()


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_all_processes_of_a_part_and_none_begins(
    environment: dict[str, str], number: signal.Signals, status: int
) -> None:
    with begun(environment, "long", "good") as (process, output):
        process.send_signal(number)
        # It ends when whoever holds the pipe has ended, cat too: nobody has written to its FIFO.
        assert readable(output, DEADLINE)
        said = output.read()
        assert process.wait(DEADLINE) == status
    assert "== [1/2] long: FAILED" in said
    assert "== 1 more not begun" in said
    assert "[2/2]" not in said
    assert "Traceback" not in said


def test_a_process_that_a_part_leaves_behind_holds_nobody_up(environment: dict[str, str], tmp_path: Path) -> None:
    fifo = tmp_path / "other"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)
    process = subprocess.Popen([*COMMAND, "left", "good"], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.wait(DEADLINE) == 0
    finally:
        os.close(held)  # what was left behind ends
        process.kill()
    with process:
        assert process.stdout is not None
        said = process.stdout.read()
    assert "== left has left a process behind, which holds its output\n" in said
    assert said.splitlines()[-1].split()[:2] == ["all", "passed"]
