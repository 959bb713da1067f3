"""`npipe demo`: it tells its story to the end, needs no library, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from npipe.cli.demonstration.sides import BUFFER, LONG_ANSWER
from npipe.cli.demonstration.stage import Stage, StageError
from tests.cli.helpers import INTERRUPTED, NPIPE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # each starts all the processes of the demo

DEADLINE = 50  # seconds; a test's own time-out is 60

# As with a bare `pip install npipe`.
BARE = """
import sys
sys.modules["click"] = sys.modules["rich"] = None
from npipe.cli import main
sys.exit(main(["demo"]))
"""


def said_by(label: str, text: str) -> list[str]:
    """What one side says."""
    return re.findall(rf"^ +{label} \|(?: (.*))?$", text, re.MULTILINE)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, in which nothing should stay; its path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="npipe-test-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.mark.parametrize("libraries", [True, False])
def test_it_shows_all_its_scenes_with_the_libraries_of_the_command_and_without(
    libraries: bool, temporary: Path
) -> None:
    command = [*NPIPE, "demo"] if libraries else [sys.executable, "-c", BARE]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")
    scenes = re.split(r"\n(?=\d\. |What to try next)", done.stdout)
    assert [scene.split(" ", 1)[0] for scene in scenes] == ["npipe", "1.", "2.", "3.", "4.", "5.", "What"]
    _, article, busy, pieces, models, speed, after = scenes

    assert said_by("client", article) == [
        'Sending 58 byte message: "Default message from client."',
        "",
        "Message sent to server, receiving reply as follows:",
        '"Default answer from server."',
        "",
        "<End of message>",
    ]
    listens, came, left = said_by("server", article)
    assert re.fullmatch(r"process \d+ listens on \\\\\.\\pipe\\mynamedpipe", listens)
    assert re.fullmatch(r"client 1 came: process \d+", came)
    assert left == "client 1 left"

    told = re.findall(r"client (\d \| \w+)", busy)
    assert told == ["1 | CreateFile", "2 | CreateFile", "1 | CloseHandle", "2 | CreateFile", "2 | ReadFile"]
    assert "ERROR_PIPE_BUSY (231)" in said_by("client 2", busy)[0]

    read = [re.fullmatch(r'ReadFile, (\d+) bytes, (.*): "(.*)"', line) for line in said_by("client", pieces)]
    assert "".join(each[3] for each in read if each) == LONG_ANSWER.decode()
    assert [int(each[1]) for each in read if each] == [BUFFER, BUFFER, len(LONG_ANSWER) - 2 * BUFFER]
    assert [each[2] for each in read if each] == ["ERROR_MORE_DATA (234)", "ERROR_MORE_DATA (234)", "the rest"]

    assert re.findall(r'model="(\w+)"', models) == ["threaded", "overlapped", "completion"]
    counts = [line.partition(" in ")[2] for line in said_by("server", models) if line.startswith("answered 300 ")]
    assert counts == ["3 threads", "1 thread", "1 thread"]

    assert re.search(r"npipe \S+ \ws, multiprocessing\.connection \S+ \ws: [\d.]+ times as fast", speed)
    assert ("pip install click rich" in after) == (not libraries)
    assert list(temporary.iterdir()) == []


def test_a_folder_whose_path_is_too_long_for_a_socket_costs_the_comparison_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    done = subprocess.run([*NPIPE, "demo"], capture_output=True, encoding="utf-8", timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"npipe \S+ \ws, without multiprocessing\.connection: the path of the folder .* too long", done.stdout
    )


def test_what_it_says_to_try_next_works(temporary: Path) -> None:
    said = subprocess.run([*NPIPE, "demo"], capture_output=True, encoding="utf-8", timeout=DEADLINE).stdout
    first, second = re.findall(r"^ +(\S*python\S* -c .*)$", said, re.MULTILINE)
    environment = {**os.environ, "NPIPE_ROOT": str(temporary)}
    server = subprocess.Popen(f"exec {first}", shell=True, env=environment)
    try:
        # Not before it serves: as somebody who types it is later, too.
        waiting = "import npipe; npipe.wait('shout', timeout=30, create=True)"
        subprocess.run([sys.executable, "-c", waiting], env=environment, check=True, timeout=DEADLINE)
        done = subprocess.run(second, shell=True, env=environment, capture_output=True, text=True, timeout=DEADLINE)
        assert (done.stdout, done.stderr) == ("b'HELLO'\n", "")
    finally:
        server.kill()
        server.wait(DEADLINE)


def test_ctrl_c_ends_it_and_all_its_sides(temporary: Path) -> None:
    process = subprocess.Popen([*NPIPE, "demo"], stdout=subprocess.PIPE, text=True, process_group=0)
    with process:
        assert process.stdout is not None
        try:
            assert any("listens" in line for line in process.stdout)
            os.killpg(process.pid, signal.SIGINT)  # as the terminal does
            process.stdout.read()
            assert process.wait(DEADLINE) == INTERRUPTED
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, 0)
        finally:
            process.kill()
    assert list(temporary.iterdir()) == []


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    process = subprocess.Popen([*NPIPE, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("npipe ")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(DEADLINE) == 0


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*NPIPE, "demo"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (1, "npipe: [Errno 28] No space left on device\n")


def test_a_side_that_fails_ends_the_story_and_its_words_are_shown(name: str) -> None:
    shown: list[tuple[str, str]] = []
    with (
        Stage(lambda label, line: shown.append((label, line))) as stage,
        pytest.raises(StageError, match="the client has failed, with status 1"),
    ):
        stage.until(stage.start("client", "reader", name), "ReadFile")
    assert ["[WinError 2]" in line for label, line in shown if label == ""] == [True]


def test_a_side_that_ends_too_early_is_told(name: str) -> None:
    with Stage(lambda _label, _line: None) as stage:
        server = stage.start("server", "model-server", name, "threaded")
        stage.until(server, "listens")
        server.go_on()
        with pytest.raises(StageError, match="the server has ended, with status 0"):
            stage.until(server, "something else")


def test_a_side_that_is_dead_when_it_is_to_go_on_is_told(name: str) -> None:
    with Stage(lambda _label, _line: None) as stage:
        server = stage.start("server", "model-server", name, "threaded")
        stage.until(server, "listens")
        server.process.kill()
        server.process.wait(DEADLINE)
        with pytest.raises(StageError, match="the server has ended where it was to go on"):
            server.go_on()
