"""Every command into a pipe that nobody reads any more (`npipe ls | head`): status 0, and not a word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

import pytest

import npipe
from npipe.cli.app import _PLACES
from npipe.tracing.events import Event, Flags, Kind
from npipe.tracing.files import TraceWriter
from tests.cli.helpers import DEADLINE, NPIPE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,  # each command, some times over
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals, and a clock that gives up"),
]

NAME: Final = "NAME"
FILE: Final = "FILE"
COMMANDS: Final = {
    "bench": ["bench --seconds 0.2", "bench --seconds 0.2 --json"],
    "call": ["call NAME x", "call NAME x --json", "call NAME x --repeat 3 -o lines"],
    "cat": ["cat NAME-news", "cat NAME-news --json", "cat NAME-news -o hex"],
    "client": ["client NAME x --encoding utf-8", "client NAME x --encoding utf-8 --json"],
    "completion": ["completion bash", "completion fish"],
    "demo": ["demo"],
    "doctor": ["doctor", "doctor --json"],
    "export": [],  # needs Samba
    "info": ["info", "info --json", "info NAME", "info NAME --json"],
    "listen": [],  # below
    "ls": ["ls", "ls -l", "ls --tree", "ls --json", "ls -l --json", "ls --watch", "ls --watch --json"],
    "metrics": ["metrics", "metrics NAME", "metrics --json"],
    "relay": [],  # below
    "repl": ["repl NAME", "repl NAME --json"],
    "replay": ["replay FILE NAME --fast", "replay FILE NAME --fast --json"],
    "run": [],  # what it prints is the program's
    "samba": [],  # it says on standard error what it has found
    "send": ["send NAME x --json"],
    "serve": [],  # below
    "top": ["top --batch", "top --json", "top --batch -n 1"],
    "trace": ["trace -r FILE", "trace -r FILE --json", "trace -r FILE -x", "trace -r FILE --pairs",
              "trace -r FILE -w -", "trace --lua", "trace NAME-held -c 2"],
    "wait": ["wait NAME --json"],
}  # fmt: skip
HELPS: Final = ["--help", "--version", *(f"{command} --help" for command in _PLACES)]


@pytest.fixture
def closed() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def service(name: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server that answers, one that sends, one that holds a client, and a recording with other answers."""
    path = tmp_path / "trace.pcapng"
    flags = Flags.SERVER | Flags.MESSAGE | Flags.FIRST | Flags.LAST
    with TraceWriter(path) as writer:
        for number in range(50):
            way = flags | (Flags.OUT if number % 2 else Flags(0))
            writer.write(Event(number, Kind.DATA, way, r"\\.\pipe\x", 1, 2, 3, 0, 5, b"hello"))
    with (
        npipe.serve(name, bytes.upper),
        _News(f"{name}-news"),
        npipe.listen(f"{name}-held") as listener,
        npipe.connect(f"{name}-held"),
        listener.accept(DEADLINE),
    ):
        yield {NAME: name, FILE: str(path)}


class _News:
    """A server that sends to whoever comes, until they go."""

    def __init__(self, name: str) -> None:
        self._listener = npipe.listen(name)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for pipe in self._listener:
            with pipe:
                try:
                    while True:
                        pipe.send(b"news")
                except npipe.PipeError:
                    continue

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(DEADLINE)


def words(line: str, service: dict[str, str]) -> list[str]:
    found = []
    for word in line.split():
        for place, value in service.items():
            word = word.replace(place, value)
        found.append(word)
    return found


def run(arguments: list[str], out: int, err: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NPIPE, *arguments], input="one\ntwo\n", stdout=out, stderr=err, text=True, timeout=2 * DEADLINE
    )


def test_no_command_is_left_out() -> None:
    assert list(COMMANDS) == sorted(_PLACES)


@pytest.mark.parametrize("line", [line for lines in COMMANDS.values() for line in lines])
def test_a_command_whose_output_nobody_reads_ends_well_and_without_a_word(
    line: str, service: dict[str, str], closed: int
) -> None:
    done = run(words(line, service), closed)
    told = [text for text in done.stderr.splitlines() if not text.startswith(("npipe: tracing", "npipe: recording"))]
    assert (done.returncode, told) == (0, [])


@pytest.mark.parametrize("line", ["ls", "trace -r FILE", "trace NAME-held", "replay FILE NAME --fast", "call NAME x"])
def test_so_it_does_with_its_errors_in_the_same_pipe(line: str, service: dict[str, str], closed: int) -> None:
    assert run(words(line, service), closed, closed).returncode == 0


@pytest.mark.parametrize("line", HELPS)
def test_help_that_nobody_reads(line: str, closed: int) -> None:
    done = run(line.split(), closed)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failure_stays_one(name: str, closed: int) -> None:
    done = run(["wait", name], closed)
    assert (done.returncode, done.stderr[:19]) == (3, "npipe: [WinError 2]")
    assert run(["wait", name], closed, closed).returncode == 3
    assert run(["wait"], closed, closed).returncode == 2


def test_a_reader_that_has_seen_enough(service: dict[str, str]) -> None:
    with subprocess.Popen(
        [*NPIPE, "cat", f"{service[NAME]}-news", "-o", "lines"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"news\n"
        process.stdout.close()
        assert (process.wait(DEADLINE), process.stderr.read()) == (0, b"")


def test_a_server_whose_events_nobody_reads_ends(name: str) -> None:
    with subprocess.Popen(
        [*NPIPE, "serve", name, "--echo", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        assert json.loads(server.stdout.readline())["event"] == "listening"
        server.stdout.close()
        with npipe.connect(name):  # it tells of that
            assert (server.wait(DEADLINE), server.stderr.read()) == (0, b"")


def test_a_listener_whose_messages_nobody_reads_ends(name: str) -> None:
    with subprocess.Popen(
        [*NPIPE, "listen", name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        server.stdout.close()
        with npipe.connect(name, wait_for_server=True, timeout=DEADLINE) as client:
            client.send(b"x")
            assert (server.wait(DEADLINE), server.stderr.read()) == (0, b"")
