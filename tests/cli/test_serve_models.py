"""`npipe serve --model` of each model as a process, with the article's client, signals and their log."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.cli.helpers import DEADLINE, NPIPE, Server, run
from tests.helpers import asleep, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

ME = pwd.getpwuid(os.geteuid()).pw_name

pytestmark = pytest.mark.usefixtures("ctrl_c")

every_model = pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])


@every_model
def test_the_article_s_client_has_the_same_conversation(name: str, model: str) -> None:
    with Server(name, "--model", model) as server:
        for number in (1, 2, 3):
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
            assert came.startswith(f"npipe: client {number} came: process ")
            assert came.endswith(f" of {ME}")
            assert left == f"npipe: client {number} left after 1 request"
        assert server.end() == (0, "", "npipe: ending, by SIGTERM\n")


@every_model
def test_a_long_answer_reaches_the_article_s_client_in_the_same_pieces(name: str, model: str) -> None:
    text = "abcdefgh" * 250
    with Server(name, "--answer", text, "--model", model):
        done = run("client", name)
    pieces = "".join(f'"{text[at : at + 256]}"\n' for at in range(0, 2000, 256))
    assert f"receiving reply as follows:\n{pieces}\n<End of message" in done.stdout
    assert done.returncode == 0


@every_model
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_connections(name: str, model: str, number: signal.Signals) -> None:
    with Server(name, "--model", model) as server, npipe.connect(name) as pipe:
        assert server.line() == f"npipe: client 1 came: process {os.getpid()} of {ME}"
        assert server.end(number) == (
            0,
            "",
            f"npipe: ending, by {number.name}\nnpipe: client 1 left after 0 requests\n",
        )
        with pytest.raises(npipe.PipeClosedError) as caught:
            pipe.recv(timeout=DEADLINE)
        assert caught.value.winerror == npipe.WinError.BROKEN_PIPE
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)


@every_model
def test_a_command_that_fails_is_logged_with_its_client(name: str, model: str) -> None:
    with Server(name, "--exec", "echo partly; exit 3", "--model", model) as server:
        with npipe.connect(name) as first:
            assert server.line().startswith("npipe: client 1 came")
            with npipe.connect(name) as second:
                assert server.line().startswith("npipe: client 2 came")
                assert second.transact(b"", timeout=DEADLINE) == b"partly\n"
                assert server.line() == "npipe: client 2: the command failed with status 3"
            assert server.line() == "npipe: client 2 left after 1 request"
            assert first.transact(b"", timeout=DEADLINE) == b"partly\n"
            assert server.line() == "npipe: client 1: the command failed with status 3"


@every_model
def test_echo_on_a_byte_pipe(name: str, model: str) -> None:
    with Server(name, "--echo", "--mode", "byte", "--model", model), npipe.connect(name, mode="byte") as pipe:
        pipe.write(b"abc")
        assert pipe.makefile("rb", buffering=0).read(3) == b"abc"


def test_the_overlapped_server_has_as_many_instances_as_it_is_told(name: str) -> None:
    with Server(name, "--model", "overlapped", "--instances", "2"):
        assert [pipe.instances for pipe in npipe.list_pipes()] == [2]
        with npipe.connect(name), npipe.connect(name):
            done = run("client", name, "--wait-seconds", "0.05")
            assert done.stdout == "Could not open pipe: 0.05 second wait timed out.\n"


def test_the_overlapped_server_has_more_instances_than_one_wait_takes_events(name: str) -> None:
    with Server(name, "--model", "overlapped", "--instances", "65", "--echo"):
        assert [pipe.instances for pipe in npipe.list_pipes()] == [65]
        clients = [npipe.connect(name) for _ in range(65)]
        for number, client in enumerate(clients):
            assert client.transact(b"%d" % number, timeout=DEADLINE) == b"%d" % number
            client.close()


@pytest.mark.parametrize("instances", ["0", "65536", "many"])
def test_a_number_of_instances_that_cannot_be_is_one_line(name: str, instances: str) -> None:
    done = run("serve", name, "--model", "overlapped", "--instances", instances)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("npipe: Invalid value for '--instances': ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("model", ["threaded", "completion"])
def test_a_number_of_instances_is_for_the_overlapped_server(name: str, model: str) -> None:
    done = subprocess.run(
        [*NPIPE, "serve", name, "--model", model, "--instances", "2"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 2
    assert "--instances is for --model overlapped." in done.stderr


def test_a_model_that_does_not_exist_is_a_usage_error(name: str) -> None:
    done = subprocess.run([*NPIPE, "serve", name, "--model", "x"], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 2
    assert "threaded" in done.stderr


@every_model
def test_ctrl_c_in_a_close_that_waits_for_a_handler(name: str, model: str, child: Callable[..., Child]) -> None:
    victim = child(
        """
        import signal, sys, threading, npipe
        signal.signal(signal.SIGINT, signal.default_int_handler)
        name, model = sys.argv[1:]
        begun, stuck = threading.Event(), threading.Event()
        def handler(request):
            begun.set()
            stuck.wait(60)
        server = npipe.serve(name, handler, model=model)
        client = npipe.connect(name)
        client.send(b"x")
        begun.wait(20)
        print("closing", flush=True)
        try:
            server.close(timeout=None)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        server.close(timeout=0)
        try:
            client.recv(timeout=20)
        except npipe.PipeClosedError:
            print("closed", flush=True)
        stuck.set()
        print(server.wait(20), flush=True)
        """,
        name,
        model,
    )
    assert victim.line() == "closing"
    until(lambda: asleep(victim.pid))
    began = time.monotonic()
    victim.process.send_signal(signal.SIGINT)
    assert victim.line() == "interrupted"
    assert victim.line() == "closed"
    assert victim.line() == "True"
    assert time.monotonic() - began < 5
    assert victim.wait() == 0
