"""The command lines in the pages: each command of npipe's that one names is there, and takes the options it gives."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

pytest.importorskip("click", reason="the extra `cli` is not installed")

import click

import npipe
from npipe.cli.app import _commands
from tests.docs import helpers as h
from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.docs.helpers import Block

_SHELLS: Final = ("", "sh", "bash", "console", "shell")
_ENDS: Final = ("|", "||", "&", "&&", ";", ">", "<", ">>", "2>", "2>&1", ")")
_PREFIX: Final = re.compile(
    r"(?:^|[|&;(]\s*|\$\(|\bsudo (?:-\S+ )*|^\$ |^# )(?:\w+=\S* )*(?:python3? -m )?npipe (?=\S)"
)


def lines() -> Iterator[tuple[Block, str]]:
    """Each line of a block that stands in a shell's place."""
    for page in h.pages():
        if page.name == "CHANGELOG.md":
            continue  # what earlier versions had
        for block in [*h.blocks(page), *h.indented(page)]:
            if block.language in _SHELLS:
                text = re.sub(r"\\\n\s*", " ", block.text)
                yield from ((block, line) for line in text.splitlines())


def commands() -> Iterator[tuple[str, list[str]]]:
    """The words behind each `npipe` in those lines."""
    for block, line in lines():
        for found in _PREFIX.finditer(line):
            lexer = shlex.shlex(line[found.end() :], posix=True, punctuation_chars="|&;()<>")
            lexer.whitespace_split = True
            lexer.escape = ""
            try:
                words = list(lexer)
            except ValueError:  # a quote of prose
                words = line[found.end() :].split()
            end = next((at for at, word in enumerate(words) if word in _ENDS), len(words))
            yield f"{block}: {line.strip()}", words[:end]


def runnable() -> Iterator[tuple[str, list[str]]]:
    """Of the command lines those that take no more than a server that sends back what it gets, and come to an end."""
    for where, words in commands():
        asks = words[:1] == ["call"] and "-" not in words
        looks = words[:1] in (["ls"], ["info"], ["doctor"], ["metrics"], ["completion"])
        if (asks or looks) and not {"--watch", "-w", "--listen"} & set(words) and not re.search(r"[\[<…]", where):
            yield where, words


@pytest.mark.slow
@pytest.mark.parametrize("line", [pytest.param(words, id=where) for where, words in runnable()])
def test_a_command_line_that_can_be_run_here_is_right(line: list[str], tmp_path: Path) -> None:
    name = next((word for word in line[1:] if not word.startswith("-")), "nobody")
    with npipe.serve(name, bytes):
        run = subprocess.run(
            [sys.executable, "-m", "npipe", *line],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    finds = line[0] == "doctor"  # something about this machine, perhaps, which is its answer
    assert (run.returncode in ((0, 1) if finds else (0,)), bool(run.stdout)) == (True, True), run.stderr
    assert finds or not run.stderr


def wrong_in(words: list[str]) -> str | None:
    """What is wrong with a command line, if anything: a command or an option that is not there."""
    command: click.Command = _commands
    context = click.Context(_commands, info_name="npipe")
    words = [word for word in re.split(r"[\s\[\]|]+", " ".join(words)) if word]  # [--like | --this]
    while isinstance(command, click.Group):
        word = next((one for one in words if not one.startswith("-")), None)
        if word is None:
            return None if {"--version", "--help", "-h"} & set(words) else "it has no command"
        inner = command.get_command(context, word)
        if inner is None:
            return f"there is no command {word!r}"
        words = words[words.index(word) + 1 :]
        command, context = inner, click.Context(inner, info_name=word, parent=context)
    known = {one for parameter in command.get_params(context) for one in (*parameter.opts, *parameter.secondary_opts)}
    takes = {
        one
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count
        for one in parameter.opts
    }
    skip = False
    for word in words:
        if skip or word in ("-", "--"):
            skip = False
            if word == "--":
                return None
            continue
        if command.name == "run" and not word.startswith("-"):
            return None  # the script, and what is its own
        if not word.startswith("-"):
            continue
        name = word.partition("=")[0]
        if name in known:
            skip = name in takes and "=" not in word
        elif word.startswith("--"):
            return f"{command.name} has no {name}"
        elif not all(f"-{letter}" in known for letter in _letters(word, takes)):
            return f"{command.name} has no {word}"
        else:
            skip = f"-{word[-1]}" in takes
    return None


def _letters(word: str, takes: set[str]) -> str:
    """The letters of several short options in one word, without what the last one takes."""
    for at, letter in enumerate(word[1:], 1):
        if f"-{letter}" in takes:
            return word[1 : at + 1]
    return word[1:]


def test_every_command_line_of_the_pages_names_commands_and_options_that_are_there() -> None:
    found = list(commands())
    assert len(found) > 50
    wrong = [f"{where}: {why}" for where, words in found if (why := wrong_in(words))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    ["npipe nothing", "npipe ls --nothing", "npipe serve x --echo --eccho", "npipe trace x -Z", "npipe samba nothing"],
)
def test_a_command_line_that_is_wrong_is_seen(line: str) -> None:
    assert wrong_in(shlex.split(line)[1:])


def test_every_target_of_make_that_the_pages_name_is_there() -> None:
    text = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w/-]+):", text, re.MULTILINE))
    wrong = [
        f"{block}: {line.strip()}"
        for block, line in lines()
        for target in re.findall(r"^make ((?:[a-z][\w/-]* ?)+)", line.split("#")[0])
        for one in target.split()
        if one not in targets
    ]
    assert not wrong, "\n".join(wrong)
