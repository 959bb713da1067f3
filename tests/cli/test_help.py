"""--help of every command: examples that name it, and the exit statuses that it has."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("click", reason="the command's extra is not installed")

import click

from npipe.cli import main
from npipe.cli.app import _PLACES, _commands
from npipe.cli.statuses import MEANINGS, STATUSES, statuses
from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command, and every command of one."""
    context = click.Context(group)
    for name in group.list_commands(context):
        yield (*path, name)
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


ALL = list(commands(_commands))


def test_every_command_is_here() -> None:
    assert {path[0] for path in ALL} == set(_PLACES)
    if sys.platform != "win32":
        assert {("samba", "config"), ("samba", "serve"), ("samba", "adduser")} < set(ALL)


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """What `--help` of the command prints on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*request.param, "--help"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


every = pytest.mark.parametrize("help_of", ALL, ids=" ".join, indirect=True)


@pytest.fixture
def path(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The command that help_of is of."""
    found: tuple[str, ...] = request.node.callspec.params["help_of"]
    return found


@every
def test_it_has_examples_with_its_name(help_of: str, path: tuple[str, ...]) -> None:
    blocks = re.findall(r"^  Examples[^\n]*:\n((?:    \S[^\n]*\n)+)", help_of, re.MULTILINE)
    assert len(blocks) == 1
    lines = [line.strip() for line in blocks[0].splitlines()]
    assert any(f"npipe {' '.join(path)}" in line for line in lines), lines
    for line in lines:
        assert "npipe" in line or "curl" in line, line


@every
def test_it_has_its_exit_statuses_in_their_order(help_of: str, path: tuple[str, ...]) -> None:
    blocks = re.findall(r"^  Exit status:\n((?:    \S[^\n]*\n)+)", help_of, re.MULTILINE)
    assert len(blocks) == 1
    found = [line.strip().split(maxsplit=1) for line in blocks[0].splitlines()]
    assert all(len(line) == 2 for line in found)
    told = {int(status): text for status, text in found}
    assert list(told) == sorted(told)
    assert {0, 1, 2, 130} <= set(told) <= set(MEANINGS)
    assert all(len(line) <= 80 for line in blocks[0].splitlines())
    assert (8 in told) == (path == ("replay",))


def test_the_statuses_are_told_from_one_table() -> None:
    assert statuses(4, saying={0: "so"}).splitlines() == [
        "\b",
        "Exit status:",
        "  0    so",
        f"  1    {MEANINGS[1]}",
        f"  2    {MEANINGS[2]}",
        f"  4    {MEANINGS[4]}",
        f"  130  {MEANINGS[130]}",
    ]
    assert [int(line.split()[0]) for line in STATUSES.splitlines()[2:]] == [
        status for status in MEANINGS if status != 8
    ]


def test_the_page_has_the_same_statuses() -> None:
    page = (CHECKOUT / "docs" / "tools-talk.md").read_text(encoding="utf-8")
    rows = {int(status): text for status, text in re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)}
    assert set(rows) == set(MEANINGS)
    for status, text in rows.items():
        assert text.startswith(MEANINGS[status].partition(",")[0].partition(":")[0]), status
