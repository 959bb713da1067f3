"""`npipe serve` as a process of its own, with `npipe client` processes against it, and its end by signals."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.cli.helpers import DEADLINE, INTERRUPTED, NPIPE, Server, run, wide
from tests.helpers import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ME = pwd.getpwuid(os.geteuid()).pw_name

pytestmark = pytest.mark.usefixtures("ctrl_c")


# ---- Answers


def test_the_article_s_client_and_server_have_their_conversation(name: str) -> None:
    with Server(name) as server:
        done = run("client", name)
        assert done.stdout == (
            'Sending 58 byte message: "Default message from client."\n'
            "\n"
            "Message sent to server, receiving reply as follows:\n"
            '"Default answer from server."\n'
            "\n"
            "<End of message, press ENTER to terminate connection and exit>\n"
        )
        assert (done.returncode, done.stderr) == (0, "")
        came, left = server.line(), server.line()
        assert came.startswith("npipe: client 1 came: process ")
        assert came.endswith(f" of {ME}")
        assert left == "npipe: client 1 left after 1 request"
        assert server.end() == (0, "", "npipe: ending, by SIGTERM\n")


def test_the_default_name_is_the_article_s() -> None:
    with Server(r"\\.\pipe\mynamedpipe") as server:
        done = subprocess.run([*NPIPE, "client"], stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)
        assert b'\n"Default answer from server."\n' in done.stdout
        assert server.line().startswith("npipe: client 1 came")


def test_an_answer_is_given_in_the_encoding_and_with_its_nul(name: str) -> None:
    with Server(name, "--answer", "t\xe9xt"):
        assert npipe.call(name, b"?") == wide("t\xe9xt")


def test_another_encoding_is_used_for_the_answer(name: str) -> None:
    with Server(name, "--answer", "t\xe9xt", "--encoding", "utf-8"):
        assert npipe.call(name, b"?") == "t\xe9xt\0".encode()
        assert '\n"t\xe9xt"\n' in run("client", name, "?", "--encoding", "utf-8").stdout


def test_a_long_answer_reaches_the_client_in_pieces(name: str) -> None:
    text = "abcdefgh" * 250
    with Server(name, "--answer", text):
        done = run("client", name)
    pieces = "".join(f'"{text[at : at + 256]}"\n' for at in range(0, 2000, 256))
    assert f"receiving reply as follows:\n{pieces}\n<End of message" in done.stdout
    assert done.returncode == 0


def test_echo_answers_with_the_request(name: str) -> None:
    with Server(name, "--echo"), npipe.connect(name) as pipe:
        for message in (b"", b"\0", bytes(range(256)) * 1000):
            assert pipe.transact(message, timeout=DEADLINE) == message


def test_echo_on_a_byte_pipe_is_a_stream(name: str) -> None:
    with Server(name, "--echo", "--mode", "byte"), npipe.connect(name, mode="byte") as pipe:
        pipe.write(b"abc")
        assert pipe.makefile("rb", buffering=0).read(3) == b"abc"
        assert run("client", name).stdout == "SetNamedPipeHandleState failed. GLE=87\n"


def test_a_command_gets_the_request_and_gives_the_answer(name: str) -> None:
    with Server(name, "--exec", "tr a-z A-Z"):
        assert npipe.call(name, b"shout \xff\0") == b"SHOUT \xff\0"
        assert '\n"HELLO"\n' in run("client", name, "hello").stdout


def test_a_command_need_not_read_its_request(name: str) -> None:
    with Server(name, "--exec", "echo done"):
        assert npipe.call(name, b"x" * 1_000_000) == b"done\n"


def test_a_command_that_fails_is_logged_and_its_output_is_the_answer(name: str) -> None:
    with Server(name, "--exec", "echo partly; echo why >&2; exit 3") as server:
        assert npipe.call(name, b"") == b"partly\n"
        assert server.line().startswith("npipe: client 1 came")
        assert server.line() == "why"
        assert server.line() == "npipe: client 1: the command failed with status 3"
        assert server.line() == "npipe: client 1 left after 1 request"


def test_a_command_that_is_killed_is_logged(name: str) -> None:
    with Server(name, "--exec", "kill -9 $$") as server:
        assert npipe.call(name, b"") == b""
        assert server.line().startswith("npipe: client 1 came")
        assert server.line() == "npipe: client 1: the command was ended by signal 9"


# ---- Clients


def test_clients_are_numbered_and_their_requests_counted(name: str) -> None:
    with Server(name, "--echo") as server:
        with npipe.connect(name) as first:
            assert server.line() == f"npipe: client 1 came: process {os.getpid()} of {ME}"
            with npipe.connect(name) as second:
                assert server.line() == f"npipe: client 2 came: process {os.getpid()} of {ME}"
                for pipe in (first, second, second):
                    pipe.transact(b"x", timeout=DEADLINE)
            assert server.line() == "npipe: client 2 left after 2 requests"
        assert server.line() == "npipe: client 1 left after 1 request"
        npipe.connect(name).close()
        assert server.line().startswith("npipe: client 3 came")
        assert server.line() == "npipe: client 3 left after 0 requests"


def test_a_limit_keeps_further_clients_out_until_one_leaves(name: str) -> None:
    with Server(name, "--max-instances", "1") as server:
        with npipe.connect(name):
            assert server.line().startswith("npipe: client 1 came")
            done = run("client", name, "--wait-seconds", "0.05")
            assert done.stdout == "Could not open pipe: 0.05 second wait timed out.\n"
            assert done.returncode == 4
        assert '\n"Default answer from server."\n' in run("client", name).stdout


def test_255_instances_are_no_limit(name: str) -> None:
    with Server(name, "--max-instances", "255"):
        assert [pipe.max_instances for pipe in npipe.list_pipes()] == [None]


def test_everyone_and_groups_may_be_let_in(name: str) -> None:
    with Server(name, "--security", "everyone"):
        assert npipe.call(name, b"?") == wide("Default answer from server.")


# ---- Failures


def test_a_name_that_is_taken_is_one_line_with_its_owner(name: str) -> None:
    with npipe.listen(name):
        done = subprocess.run(
            [*NPIPE, "serve", name.replace("test", "TEST")], capture_output=True, text=True, timeout=DEADLINE
        )
    shown = name.replace("test", "TEST")
    assert done.stderr == f"npipe: {shown} is taken: process {os.getpid()} of {ME} serves it (WinError 5)\n"
    assert (done.returncode, done.stdout) == (5, "")


def test_a_name_whose_instances_are_all_taken_is_one_line(name: str) -> None:
    with npipe.listen(name, max_instances=1):
        done = subprocess.run([*NPIPE, "serve", name], capture_output=True, text=True, timeout=DEADLINE)
    assert done.stderr == f"npipe: {name} is taken: process {os.getpid()} of {ME} serves it (WinError 231)\n"
    assert (done.returncode, done.stdout) == (4, "")


def test_a_wrong_name_is_one_line() -> None:
    done = subprocess.run([*NPIPE, "serve", "C:\\x"], capture_output=True, text=True, timeout=DEADLINE)
    assert done.stderr.startswith("npipe: [WinError 123] ")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


# ---- The end


def sockets(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(name: str, root: Path, number: signal.Signals) -> None:
    with Server(name) as server:
        assert sockets(root) != []
        assert server.end(number) == (0, "", f"npipe: ending, by {number.name}\n")
        assert sockets(root) == []
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_its_connections(name: str, root: Path, number: signal.Signals) -> None:
    with Server(name) as server, npipe.connect(name) as pipe:
        assert server.line().startswith("npipe: client 1 came")
        assert server.end(number) == (
            0,
            "",
            f"npipe: ending, by {number.name}\nnpipe: client 1 left after 0 requests\n",
        )
        with pytest.raises(npipe.PipeClosedError) as caught:
            pipe.recv(timeout=DEADLINE)
        assert caught.value.winerror == npipe.WinError.BROKEN_PIPE
        assert sockets(root) == []


@pytest.fixture
def gate() -> Iterator[tuple[Callable[[], None], str]]:
    """A function, and a command that answers "go" only after that has been called."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        script = (
            f"import socket; s = socket.create_connection(('127.0.0.1', {port})); print(s.recv(9).decode(), end='')"
        )
        listening.settimeout(DEADLINE)

        def let_go() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"go")

        yield let_go, f'echo begun >&2; exec "{sys.executable}" -c "{script}"'


def test_a_request_that_is_being_answered_gets_its_answer(name: str, gate: tuple[Callable[[], None], str]) -> None:
    let_go, command = gate
    with Server(name, "--exec", command) as server, npipe.connect(name) as pipe:
        pipe.send(b"")
        assert server.line().startswith("npipe: client 1 came")
        assert server.line() == "begun"
        server.process.send_signal(signal.SIGTERM)
        assert server.line() == "npipe: ending, by SIGTERM"
        let_go()
        assert pipe.recv(timeout=DEADLINE) == b"go"
        status, _, err = server.rest()
        assert status == 0
        assert err.endswith("npipe: client 1 left after 1 request\n")


def test_a_second_ctrl_c_ends_it_at_once_and_its_commands_too(name: str, tmp_path: Path) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with (
            Server(name, "--exec", f"exec 3>{held}; echo begun >&2; exec sleep 600") as server,
            npipe.connect(name) as pipe,
        ):
            pipe.send(b"")
            assert server.line().startswith("npipe: client 1 came")
            assert server.line() == "begun"
            server.process.send_signal(signal.SIGINT)
            assert server.line() == "npipe: ending, by SIGINT"
            status, _, err = server.end(signal.SIGINT)
            assert status == INTERRUPTED
            assert "Traceback" not in err
        ready = readable(reader, DEADLINE)
        assert ready
        assert os.read(reader, 1) == b""  # nobody holds its other side any more: sleep is gone
    finally:
        os.close(reader)
