"""The command on Windows: the article's client against each of the servers, each a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import npipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 20.0
SEVERAL = 120.0  # for a command that starts other processes of Python: Wine takes seconds for each
TRANSCRIPT = [
    'Sending 58 byte message: "Default message from client."',
    "",
    "Message sent to server, receiving reply as follows:",
    '"Default answer from server."',
    "",
    "<End of message, press ENTER to terminate connection and exit>",
]


@pytest.fixture
def serve(name: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `npipe serve` with options; it listens when this returns."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "npipe", "serve", name, *options]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr is not None
        assert "listening on" in process.stderr.readline()
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(DEADLINE)
        assert process.stderr is not None
        process.stderr.close()


def run(*arguments: str, deadline: float = DEADLINE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "npipe", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline, check=False
    )


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_the_transcript_is_the_same_with_each_server(name: str, serve: Callable[..., object], model: str) -> None:
    serve("--model", model)
    for _ in range(2):
        client = run("client", name)
        assert client.stdout.splitlines() == TRANSCRIPT, client.stderr
        assert client.returncode == 0


def test_an_answer_in_pieces(name: str, serve: Callable[..., object]) -> None:
    serve("--echo")
    message = "x" * 700
    assert run("client", name, message).stdout.count('"') == 2 + 2 * 3  # 1402 bytes in pieces of 512


def test_wait_tells_by_its_status_whether_an_instance_listens(name: str, serve: Callable[..., object]) -> None:
    missing = run("wait", name)
    assert (missing.returncode, "[WinError 2]" in missing.stderr) == (3, True)
    serve()
    assert run("wait", name, "--timeout", "5").returncode == 0


def test_a_client_without_a_server(name: str) -> None:
    client = run("client", name)
    assert client.stdout == "Could not open pipe. GLE=2\n"
    assert client.returncode == 3


def test_a_call_to_the_commands_server(name: str, serve: Callable[..., object]) -> None:
    serve("--answer", "yes", "--encoding", "utf-8")
    assert npipe.call(name, b"question", timeout=DEADLINE) == b"yes\0"


def test_bench_measures_and_whoever_reads_it_sees_its_end() -> None:
    done = run("bench", "--seconds", "1", "--json", deadline=SEVERAL)
    known = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert known["system"].startswith("Windows-")
    assert [each["name"] for each in known["measured"]] == ["npipe", "multiprocessing.connection"]
    assert all(each["bytes"] == each["messages"] * 65536 > 0 for each in known["measured"])


def test_doctor_finds_this_machine_in_order() -> None:
    done = run("doctor", "--json", deadline=SEVERAL)
    known = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, ""), known
    checks = {finding["check"]: finding["found"] for finding in known["findings"]}
    assert checks["npipe"].startswith(npipe.__version__)
    assert {"pywin32", "processors"} <= checks.keys()
    assert checks["round trip"].startswith("two processes have talked, ")


def test_the_demonstration_comes_to_its_end() -> None:
    done = run("demo", deadline=SEVERAL)
    assert (done.returncode, done.stderr) == (0, "")
    said = [line.partition(" | ")[2] for line in done.stdout.splitlines() if line.lstrip().startswith("client |")]
    assert said[: len(TRANSCRIPT) - 1] == TRANSCRIPT[:-1]
    assert "CreateFile: ERROR_PIPE_BUSY (231)" in done.stdout
    assert done.stdout.count("ERROR_MORE_DATA (234)") == 2
    assert done.stdout.count("answered 300 requests of 3 clients in ") == 3
    assert "times as fast (medians of " in done.stdout
    assert "What to try next" in done.stdout
