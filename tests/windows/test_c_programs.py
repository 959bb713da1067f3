"""Programs in C, built for Windows, at the other end: tests/windows/client.c and server.c."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

import npipe
from tests.helpers import CHECKOUT

PROGRAMS = CHECKOUT / "build" / "windows" / "c"
DEADLINE = 20.0
MODELS = ["threaded", "overlapped", "completion"]


def run_client(name: str, message: str) -> list[str]:
    client = subprocess.run(
        [PROGRAMS / "client.exe", name, message], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert client.returncode == 0, client.stdout
    return client.stdout.splitlines()


@pytest.mark.parametrize("model", MODELS)
def test_a_client_in_c_gets_its_answer(name: str, model: Any) -> None:
    with npipe.serve(name, bytes.upper, model=model):
        assert run_client(name, "hello") == ["sent 5", "received 5 whole: HELLO"]
        assert run_client(name, "again") == ["sent 5", "received 5 whole: AGAIN"]


@pytest.mark.parametrize("model", MODELS)
def test_a_client_in_c_reads_a_long_answer_in_pieces(name: str, model: Any) -> None:
    with npipe.serve(name, lambda _: b"x" * 1100, model=model):
        lines = run_client(name, "?")
    assert [line[: line.index(":")] for line in lines[1:]] == [
        "received 512 part",
        "received 512 part",
        "received 76 whole",
    ]


@pytest.mark.parametrize("model", MODELS)
def test_several_clients_in_c_at_once(name: str, model: Any) -> None:
    with npipe.serve(name, bytes.upper, model=model):
        clients = [
            subprocess.Popen([PROGRAMS / "client.exe", name, f"client {n}"], stdout=subprocess.PIPE, text=True)
            for n in range(8)
        ]
        for number, client in enumerate(clients):
            out = client.communicate(timeout=DEADLINE)[0]
            assert f"CLIENT {number}" in out
            assert client.returncode == 0


def test_a_listener_answers_a_client_in_c(name: str) -> None:
    with npipe.listen(name) as listener:
        client = subprocess.Popen([PROGRAMS / "client.exe", name, "hello"], stdout=subprocess.PIPE, text=True)
        with listener.accept(DEADLINE) as pipe:
            assert pipe.recv(timeout=DEADLINE) == b"hello"
            pipe.send(b"there")
        assert "received 5 whole: there" in client.communicate(timeout=DEADLINE)[0]


def test_a_server_in_c_answers_our_client(name: str) -> None:
    with subprocess.Popen([PROGRAMS / "server.exe", name], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        with npipe.connect(name, timeout=DEADLINE) as pipe:
            pipe.send(b"abc")
            assert pipe.recv(timeout=DEADLINE) == b"cba"
            assert pipe.transact(bytes(range(256)) * 16, timeout=DEADLINE) == bytes(reversed(range(256))) * 16
            assert pipe.peer.pid == server.pid
        assert server.communicate(timeout=DEADLINE)[0] == "answered 2\n"
