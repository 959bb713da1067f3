"""What `npipe info` and `npipe ls --tree` say is wrong: of counts that are made up, and of real pipes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("click", reason="the command's extra is not installed")

import npipe
from npipe.cli import main
from npipe.cli.verdicts import warnings_of
from tests.cli.figures import connection, owner, pipe, stats
from tests.cli.helpers import DEADLINE
from tests.helpers import held

if TYPE_CHECKING:
    from npipe.figures import PipeReport

ENDED_CURE = "it has to close or disconnect a pipe whose client has gone"


@pytest.mark.parametrize(
    "report",
    [
        pipe(),  # Windows: nobody tells
        pipe(owner(listening=1)),
        pipe(owner(listening=1, waiting=1)),  # it has just come
        pipe(owner(connection(1)), owner(pid=6, listening=1)),
        pipe(owner(connection(1), connection(2)), limit=2),  # in use, and nobody waits
        pipe(owner(connection(1, stats(unread=99, by_peer=99)), listening=1)),
        pipe(owner(connection(1, stats(unread=100, reads=1)), listening=1)),  # the read is just taking it
        pipe(owner(connection(1, stats(unread=100, reading_for=0.1)), listening=1)),
        pipe(owner(connection(1, stats(by_peer=100, peer_reads=True)), listening=1)),
        pipe(owner(connection(1, stats(unread=30, by_peer=30), quota=0), listening=1)),
        pipe(owner(connection(1, stats(by_peer=50, writing_for=4.9)), listening=1)),
        pipe(owner(connection(1), code=109)),  # it has not told of all
        pipe(owner(connection(1)), owner(pid=6, since=None, code=5)),
    ],
)
def test_what_the_counts_do_not_prove_is_not_said(report: PipeReport) -> None:
    assert warnings_of(report) == []


def test_all_instances_in_use_while_clients_wait() -> None:
    full = pipe(owner(connection(1), connection(2), waiting=3), limit=2)
    assert warnings_of(full) == [
        (
            "all 2 instances are in use, and 3 clients wait for one: "
            "allow more (max_instances), or let the server end connections sooner"
        )
    ]
    one = pipe(owner(connection(1), waiting=1), limit=1)
    assert warnings_of(one) == [
        (
            "the one instance is in use, and 1 client waits for one: "
            "allow more (max_instances), or let the server end connections sooner"
        )
    ]


def test_a_leak_is_the_cause_of_a_full_pipe() -> None:
    leak = pipe(owner(connection(1, left=True, pid=8), connection(2), waiting=1), limit=2)
    assert warnings_of(leak) == [
        (
            "all 2 instances are in use, and 1 client waits for one: "
            "the server has to close the connections that have ended"
        ),
        f"the connection of client 8 has ended, and the server holds its instance: {ENDED_CURE}",
    ]


def test_nobody_listens_although_there_may_be_more() -> None:
    assert warnings_of(pipe(owner(connection(1), waiting=2))) == [
        (
            "no instance listens, although there may be more, and 2 clients wait for one: "
            "the server has to accept, or create another instance"
        )
    ]
    assert warnings_of(pipe(owner(connection(1)), limit=5)) == [
        (
            "no instance listens, although there may be 5: "
            "who connects now waits until the server accepts, or creates another instance"
        )
    ]


def test_connections_that_have_ended_are_told_together() -> None:
    ended = [connection(number, stats(unread=100), left=True, pid=900 + number) for number in range(1, 6)]
    assert warnings_of(pipe(owner(*ended, listening=1))) == [
        "the connections of 5 clients (901, 902, 903, …) have ended, and the server holds their instances: "
        + ENDED_CURE
    ]
    remote = connection(1, left=True, remote=True)
    assert warnings_of(pipe(owner(remote, listening=1))) == [
        f"the connection of a client on another machine has ended, and the server holds its instance: {ENDED_CURE}"
    ]


def test_a_reader_that_does_not_read() -> None:
    assert warnings_of(pipe(owner(connection(1, stats(unread=100), pid=9), listening=1))) == [
        (
            "the server is not reading from client 9, and its quota is full (100 B unread): "
            "it can write no more until the server reads"
        )
    ]
    assert warnings_of(pipe(owner(connection(1, stats(by_peer=150, writing_for=12.0), pid=9), listening=1))) == [
        (
            "client 9 is not reading, and its quota is full (150 B unread): "
            "the server can write no more to it until it reads (a write has waited for 12 s)"
        )
    ]
    several = [connection(number, stats(unread=100, by_peer=100), pid=number) for number in (3, 4)]
    assert warnings_of(pipe(owner(*several, listening=1))) == [
        (
            "the server is not reading from 2 clients (3, 4), and their quotas are full: "
            "they can write no more until it reads"
        ),
        (
            "2 clients (3, 4) are not reading, and their quotas are full: "
            "the server can write no more to them until they read"
        ),
    ]


def test_a_write_that_has_waited_long() -> None:
    assert warnings_of(pipe(owner(connection(1, stats(by_peer=10, writing_for=61.0), pid=9), listening=1))) == [
        "a write or flush of the server has waited for 1:01 min until client 9 reads: it has to read"
    ]
    several = [connection(number, stats(writing_for=5.0 * number), pid=number) for number in (1, 2)]
    assert warnings_of(pipe(owner(*several, listening=1))) == [
        "writes or flushes of the server have waited for up to 10 s until 2 clients (1, 2) read: they have to"
    ]


def test_of_several_owners_it_is_said_whose_it_is() -> None:
    ended = owner(connection(1, left=True, pid=8), pid=6)
    assert warnings_of(pipe(ended, owner(pid=7, since=None, code=121))) == [
        f"process 6: the connection of client 8 has ended, and the server holds its instance: {ENDED_CURE}",
        (
            "process 7 does not answer: who connects to it waits until it runs again, or has time "
            "(see whether it is stopped)"
        ),
    ]


# ---- Of real pipes

local = pytest.mark.skipif(sys.platform == "win32", reason="the system tells of no connections there")


Say = Callable[..., str]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """A command, in this process; gives what it prints."""

    def run(*words: str) -> str:
        assert main(words) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run


def told(say: Say, name: str) -> list[str]:
    """What is wrong, as each of the commands says it."""
    lines = [line.removeprefix("! ") for line in say("info", name).splitlines() if line.startswith("! ")]
    assert [line[4:] for line in say("ls", "--tree").splitlines() if line.startswith("  ! ")] == lines
    assert json.loads(say("info", name, "--json"))["warnings"] == lines
    (report,) = json.loads(say("ls", "-l", "--json"))
    assert report["warnings"] == lines
    return lines


@local
def test_a_server_that_leaks_instances_is_seen_everywhere(say: Say, name: str) -> None:
    me = os.getpid()
    with npipe.listen(name, max_instances=2) as listener:
        pipes = []
        for _ in range(2):
            with npipe.connect(name):
                pipes.append(listener.accept(DEADLINE))
        waits = held(name, lambda: npipe.connect(name, timeout=8 * DEADLINE))
        (owner_report,) = npipe.inspect(name).owners
        assert owner_report.ended == 2
        assert told(say, name) == [
            (
                "all 2 instances are in use, and 1 client waits for one: "
                "the server has to close the connections that have ended"
            ),
            f"the connections of 2 clients ({me}) have ended, and the server holds their instances: {ENDED_CURE}",
        ]
        header, line = (text.split("\t") for text in say("ls", "-l").splitlines())
        fields = dict(zip(header, line, strict=True))
        assert (fields["clients"], fields["ended"], fields["waiting"]) == ("2", "2", "1")
        (report,) = json.loads(say("ls", "-l", "--json"))
        assert report["owners"][0]["ended"] == 2
        assert "  instances: 2, 0 listening, 2 connected, 2 of them ended" in say("info", name).splitlines()
        assert f'npipe_ended_connections{{pipe="{name}"'.replace("\\", "\\\\") in say("metrics", name)
        for pipe_ in pipes:
            pipe_.close()
        with waits.result(), listener.accept(DEADLINE):
            pass
        assert told(say, name) == []
        assert npipe.inspect(name).owners[0].ended == 0


@local
def test_a_server_that_does_not_read_and_does_not_accept(say: Say, name: str) -> None:
    me = os.getpid()
    with npipe.listen(name, in_buffer_size=1000) as listener, npipe.connect(name) as client:
        assert told(say, name) == [
            (
                "no instance listens, although there may be more: "
                "who connects now waits until the server accepts, or creates another instance"
            )
        ]
        with listener.accept(DEADLINE) as server:
            assert told(say, name) == []
            client.send(bytes(1000))
            assert told(say, name) == [
                (
                    f"the server is not reading from client {me}, and its quota is full (1000 B unread): "
                    "it can write no more until the server reads"
                )
            ]
            server.recv()
            assert told(say, name) == []
