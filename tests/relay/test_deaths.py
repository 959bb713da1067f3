"""A side that goes at any moment: nothing comes twice, and what is lost is told."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import npipe
from tests.helpers import CHECKOUT
from tests.relay.content import echo, read_all
from tests.relay.helpers import DEADLINE, NPIPE, RelayProcess, free_path, unix_client, unix_server

pytestmark = pytest.mark.slow  # each starts some processes

PROGRAM = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
import npipe
import socket
kind, place = sys.argv[1:]
if kind == "pipe":
    end = npipe.connect(place)
    send = end.send
else:
    end = socket.socket(socket.AF_UNIX)
    end.connect(place)
    send = end.sendall
number = 0
print("ready", flush=True)
while True:
    send(number.to_bytes(4, "little"))
    number += 1
"""


@pytest.mark.parametrize("kind", ["pipe", "unix"])
@pytest.mark.parametrize("after", [1, 5_000, 20_000])
def test_of_a_client_that_is_killed_all_comes_that_it_has_sent_in_order_and_once(
    name: str, tmp_path: Path, kind: str, after: int
) -> None:
    got = bytearray()
    process: list[subprocess.Popen[str]] = []

    def serve(connection: socket.socket) -> None:
        while piece := connection.recv(65536):
            got.extend(piece)
            if len(got) >= 4 * after:
                process[0].kill()

    path, front = free_path(tmp_path), str(tmp_path / "front")
    place = name if kind == "pipe" else front
    with unix_server(path, serve):
        with RelayProcess(name if kind == "pipe" else f"unix:{front}", f"unix:{path}") as relay:
            process.append(
                subprocess.Popen([sys.executable, "-c", PROGRAM, kind, place], stdout=subprocess.PIPE, text=True)
            )
            report = relay.report()
            process[0].communicate(timeout=DEADLINE)
            status, _ = relay.end()
    assert report["forth"]["bytes"] == len(got)
    assert report["forth"]["dropped"] == 0
    assert len(got) >= 4 * after
    numbers = [int.from_bytes(got[at : at + 4], "little") for at in range(0, len(got) - 3, 4)]
    assert numbers == list(range(len(numbers)))
    if kind == "pipe":  # a socket's kill and its close are the same
        assert report["lost"]
        assert status == 6


def test_a_server_that_goes_with_something_unread_is_told(name: str, tmp_path: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1)  # and closes, with the rest unread

    with unix_server(free_path(tmp_path), serve):
        with RelayProcess(name, f"unix:{free_path(tmp_path)}") as relay:
            with npipe.connect(name) as pipe:
                pipe.send(b"x" * 100_000)
                with pytest.raises(npipe.PipeClosedError):
                    pipe.recv(timeout=DEADLINE)
            report = relay.report()
            assert report["lost"]
            assert not report["clean"]
            assert relay.end()[0] == 6


def test_an_answer_of_a_server_that_does_not_read_on_still_comes(name: str, tmp_path: Path) -> None:
    answer = b"413" * 1000

    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(answer)

    with unix_server(free_path(tmp_path), serve):
        with RelayProcess(name, f"unix:{free_path(tmp_path)}"), npipe.connect(name, mode="byte") as pipe:
            pipe.write(b"x")
            got = b""
            while len(got) < len(answer):
                got += pipe.read(65536, timeout=DEADLINE)
            assert got == answer


def test_a_client_that_leaves_lets_the_server_go_even_on_a_pipe_that_cannot_say_half(name: str, tmp_path: Path) -> None:
    front = free_path(tmp_path)
    with npipe.listen(name, mode="byte") as listener, RelayProcess(f"unix:{front}", name) as relay:
        with unix_client(front) as client:
            client.sendall(b"all")
            pipe = listener.accept(DEADLINE)
        with pipe:
            assert pipe.read(timeout=DEADLINE) == b"all"
        assert relay.report()["clean"]


def test_nobody_at_the_other_side_is_told_to_both(name: str, tmp_path: Path) -> None:
    with RelayProcess(name, f"unix:{tmp_path}/nothing") as relay:
        with npipe.connect(name) as pipe, pytest.raises(npipe.PipeClosedError):
            pipe.recv(timeout=DEADLINE)
        assert "No such file" in relay.report()["lost"]
        with unix_server(f"{tmp_path}/nothing", echo), npipe.connect(name) as pipe:  # and it goes on
            pipe.send(b"x")
            assert pipe.recv(timeout=DEADLINE) == b"x"


def test_a_relay_that_served_nobody_of_those_who_came_is_no_success(name: str, tmp_path: Path) -> None:
    with RelayProcess(name, f"unix:{tmp_path}/nothing") as relay:
        for _ in range(2):
            with npipe.connect(name) as pipe, pytest.raises(npipe.PipeClosedError):
                pipe.recv(timeout=DEADLINE)
            assert relay.report()["how"] == "refused"
        status, last = relay.end()
    assert status == 3
    assert "none of 2 clients that came was connected" in last


@pytest.mark.parametrize(
    ("first", "second", "status", "words"),
    [
        ("unix:{}/none/x.sock", "x", 3, "No such file or directory: unix:{}/none/x.sock"),
        ("stdio", "unix:{}/none.sock", 3, "No such file or directory: unix:{}/none.sock"),
        ("tcp:{port}", "x", 1, "Address already in use: tcp:{port}"),
        ("ws:{port}", "x", 1, "already in use: ws:{port}"),
        ("exec:cat", "ws:{port}", 4, "timed out during opening handshake: ws:{port}"),
    ],
)
def test_an_end_that_is_not_there_is_named(tmp_path: Path, first: str, second: str, status: int, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ends = [text.format(tmp_path, port=taken.getsockname()[1]) for text in (first, second, words)]
        done = subprocess.run(
            [*NPIPE, "relay", *ends[:2], "--connect-timeout", "0.2"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, text=True,
        )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("npipe: ")
    assert done.stderr.endswith(f"{ends[2]}\n")


def test_with_poll_a_server_that_comes_later_is_reached(name: str, tmp_path: Path) -> None:
    path = free_path(tmp_path)
    with RelayProcess(name, f"unix:{path}", "-p"), npipe.connect(name) as pipe:
        pipe.send(b"x")
        with unix_server(path, echo):
            assert pipe.recv(timeout=DEADLINE) == b"x"
            pipe.close()


def test_a_stop_lets_connections_end_and_takes_no_new_one(name: str, tmp_path: Path) -> None:
    with unix_server(free_path(tmp_path), echo):
        with RelayProcess(name, f"unix:{free_path(tmp_path)}", "--grace", "20") as relay:
            with npipe.connect(name) as pipe:
                pipe.send(b"before")
                assert pipe.recv(timeout=DEADLINE) == b"before"
                relay.process.send_signal(signal.SIGTERM)
                assert relay.line()["text"] == "ending, by SIGTERM"
                pipe.send(b"after")
                assert pipe.recv(timeout=DEADLINE) == b"after"
                with pytest.raises(npipe.PipeError):
                    npipe.connect(name, timeout=0.2)
            assert relay.rest() == (0, "")


def swallow(connection: socket.socket) -> None:
    read_all(connection)


def test_a_second_signal_cuts_and_tells(name: str, tmp_path: Path) -> None:
    with unix_server(free_path(tmp_path), swallow):
        with RelayProcess(name, f"unix:{free_path(tmp_path)}", "--grace", "inf") as relay:
            with npipe.connect(name) as pipe:
                pipe.send(b"x")
                pipe.flush(timeout=DEADLINE)
                relay.process.send_signal(signal.SIGTERM)
                assert relay.line()["text"] == "ending, by SIGTERM"
                relay.process.send_signal(signal.SIGTERM)
                assert "by SIGTERM" in relay.report()["how"]
            assert relay.rest()[0] == 0


def test_a_socket_that_was_left_over_is_replaced_and_one_in_use_is_not(name: str, tmp_path: Path) -> None:
    path = free_path(tmp_path)
    with RelayProcess(f"unix:{path}", name) as relay:
        assert Path(path).stat().st_mode & 0o777 == 0o600
        second = RelayProcess(f"unix:{path}", name, listens=0)
        with second:
            status, last = second.rest()
        assert status == 1
        assert "in use" in last
        relay.process.kill()
        relay.process.wait(DEADLINE)
    with RelayProcess(f"unix:{path}", name) as relay:
        assert relay.end()[0] == 0
    assert not Path(path).exists()


LEAVER = f"""
import os
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
import npipe
name, how = sys.argv[1:]
pipe = npipe.connect(name)
pipe.send(b"all")
pipe.send(b"")  # the end of this way
assert pipe.recv_into(bytearray(1), timeout=30) == 1  # of a message of 1000
if how == "dies":
    os._exit(0)
pipe.close()
"""


@pytest.mark.parametrize("how", ["closes", "dies"])
def test_what_a_pipe_s_client_leaves_unread_is_counted_also_if_it_has_said_its_end(
    name: str, tmp_path: Path, how: str
) -> None:
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        assert read_all(connection) == b"all"
        connection.sendall(b"x" * 1000)
        assert done.wait(DEADLINE)  # it says no end of its own

    path = free_path(tmp_path)
    with unix_server(path, serve), RelayProcess(name, f"unix:{path}") as relay:
        assert subprocess.run([sys.executable, "-c", LEAVER, name, how], timeout=DEADLINE).returncode == 0
        report = relay.report()
        done.set()
        assert (report["forth"]["bytes"], report["forth"]["dropped"]) == (3, 0)
        assert (report["back"]["bytes"], report["back"]["dropped"]) == (1, 999)
        assert not report["clean"]
        assert ("without closing" in report["lost"]) == (how == "dies")
        assert relay.end()[0] == 6


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket's peer that has gone is not seen")
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_client_that_closes_with_something_unread_behind_its_own_end_is_told(
    name: str, tmp_path: Path, kind: str
) -> None:
    front = free_path(tmp_path)
    with npipe.listen(name) as listener, RelayProcess("tcp:0" if kind == "tcp" else f"unix:{front}", name) as relay:
        if kind == "tcp":
            host, _, port = relay.places[0].removeprefix("tcp:").rpartition(":")
            client = socket.create_connection((host, int(port)), DEADLINE)
        else:
            client = unix_client(front)
        with client:
            client.sendall(b"all")
            client.shutdown(socket.SHUT_WR)
            pipe = listener.accept(DEADLINE)
            assert (pipe.recv(timeout=DEADLINE), pipe.recv(timeout=DEADLINE)) == (b"all", b"")
            pipe.send(b"unread")
            assert client.recv(1, socket.MSG_PEEK) == b"u"  # it has come
        with pipe:
            report = relay.report()
        assert report["lost"] == "the first side: Connection reset by peer"
        assert relay.end()[0] == 6
