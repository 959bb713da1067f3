"""What another process is told of a pipe: counts that are what was sent, to whom they are told, and by whom not."""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest

import npipe
from tests import rendezvous as r
from tests.helpers import AS_ROOT, stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child

    Start = Callable[..., Child]

DESCRIBE = 5
OTHER = 12345  # a user that is nobody's

SERVER = """
    import sys, npipe
    name = sys.argv[1]
    listener = npipe.listen(name, max_instances=9, in_buffer_size=5000, out_buffer_size=7000)
    print("up", flush=True)
    pipes = []
    for line in sys.stdin:
        what, *numbers = line.split()
        if what == "accept":
            pipes.append(listener.accept(10))
        elif what == "recv":
            for _ in range(int(numbers[1])):
                pipes[int(numbers[0])].recv(timeout=10)
        elif what == "send":
            pipes[int(numbers[0])].send(bytes(int(numbers[1])))
        elif what == "close":
            pipes[int(numbers[0])].close()
        print("done", flush=True)
"""


class Server:
    def __init__(self, child: Start, name: str, security: str = "owner") -> None:
        self.process: Child = child(SERVER.replace("max_instances=9", f"max_instances=9, security={security!r}"), name)
        assert self.process.line() == "up"

    def do(self, what: str) -> None:
        self.process.say(what)
        assert self.process.line() == "done"


def connections(name: str) -> tuple[npipe.ConnectionReport, ...]:
    (owner,) = npipe.inspect(name).owners
    assert (owner.code, owner.problem) == (0, None)
    return owner.connections


def test_another_process_is_told_all_of_a_connection(child: Start, name: str) -> None:
    before = time.time()
    server = Server(child, name)
    with npipe.connect(name, timeout=10) as pipe:
        server.do("accept")
        for size in (100, 0, 1000):
            pipe.send(bytes(size))
        server.do("recv 0 2")
        server.do("send 0 77")
        report = npipe.inspect(name)
        assert (report.name, report.type, report.direction) == (pipe.name, "message", "duplex")
        assert (report.instances, report.max_instances) == (2, 9)
        (owner,) = report.owners
        assert (owner.pid, owner.uid, owner.code, owner.problem) == (server.process.pid, os.geteuid(), 0, None)
        assert (owner.instances, owner.listening, owner.waiting) == (2, 1, 0)
        assert (owner.in_buffer_size, owner.out_buffer_size) == (5000, 7000)
        assert owner.program is not None
        assert "-X faulthandler" in owner.program
        assert owner.since is not None
        assert before - 1 <= owner.since <= time.time()
        (one,) = owner.connections
        assert (one.pid, one.uid, one.remote, one.left) == (os.getpid(), os.geteuid(), False, False)
        assert one.program is not None
        assert (one.in_buffer_size, one.out_buffer_size) == (5000, 7000)
        told = one.stats
        assert (told.bytes_received, told.messages_received, told.unread) == (100, 2, 1000)
        assert (told.bytes_sent, told.messages_sent) == (77, 1)
        assert (told.unread_by_peer, told.unread_messages_by_peer) == (77, 1)
        assert (told.pending_reads, told.reading_for) == (0, None)
        assert before - 1 <= told.since <= time.time()
        assert pipe.recv(timeout=10) == bytes(77)
        assert connections(name)[0].stats.unread_by_peer == 0
        own = pipe.stats
        assert (own.bytes_sent, own.messages_sent, own.bytes_received, own.messages_received) == (1100, 3, 77, 1)


def test_who_waits_is_told_and_for_how_long(child: Start, name: str) -> None:
    server = Server(child, name)
    with npipe.connect(name, timeout=10) as pipe:
        server.do("accept")
        server.process.say("recv 0 1")
        until = time.monotonic() + 20
        while (told := connections(name)[0].stats).reading_for is None:
            assert time.monotonic() < until
        assert told.pending_reads == 1
        later = connections(name)[0].stats.reading_for
        assert later is not None
        assert later >= told.reading_for
        pipe.send(b"x")
        assert server.process.line() == "done"
        told = connections(name)[0].stats
        assert (told.pending_reads, told.reading_for, told.waits >= 1) == (0, None, True)


def test_what_has_ended_is_counted_for_the_owner(child: Start, name: str) -> None:
    server = Server(child, name)
    for number in range(3):
        with npipe.connect(name, timeout=10) as pipe:
            server.do("accept")
            pipe.send(b"abc")
            server.do(f"recv {number} 1")
        server.do(f"close {number}")
    (owner,) = npipe.inspect(name).owners
    assert owner.connections == ()
    totals = owner.totals
    assert (totals.connected, totals.connections) == (0, 3)
    assert (totals.bytes_received, totals.messages_received, totals.bytes_sent) == (9, 3, 0)


def test_a_client_that_has_left_is_told_as_such(child: Start, name: str) -> None:
    server = Server(child, name)
    with npipe.connect(name, timeout=10) as pipe:
        server.do("accept")
        pipe.send(b"what it leaves")
    (one,) = connections(name)
    assert (one.left, one.stats.unread) == (True, len(b"what it leaves"))


def test_each_of_several_owners_tells_its_own(child: Start, name: str) -> None:
    with npipe.listen(name, exclusive=False, max_instances=9) as listener:
        other = child(
            """
            import sys, npipe
            listener = npipe.listen(sys.argv[1], exclusive=False)
            print("up", flush=True)
            sys.stdin.readline()
            """,
            name,
        )
        assert other.line() == "up"
        report = npipe.inspect(name)
        assert {owner.pid for owner in report.owners} == {os.getpid(), other.pid}
        assert report.instances == 2
        assert [owner.instances for owner in report.owners] == [1, 1]
        assert listener.stats.instances == 1


def test_hundreds_of_connections_are_told_each_once(name: str) -> None:
    count = 300  # more than one answer holds
    with npipe.listen(name) as listener:
        pairs = []
        for number in range(count):
            client = npipe.connect(name)
            pairs.append((client, listener.accept(10)))
            client.send(bytes(number))
        told = connections(name)
        assert [one.stats.unread for one in told] == list(range(count))
        assert len({one.number for one in told}) == count
        for client, server in pairs:
            client.close()
            server.close()
        assert listener.stats.connections == count
        assert listener.stats.connected == 0


def test_it_is_told_while_the_connection_is_busy(name: str) -> None:
    total = 3000
    with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept(10) as server:
        writer = threading.Thread(target=lambda: [client.send(bytes(100)) for _ in range(total)])
        reader = threading.Thread(target=lambda: [server.recv(timeout=30) for _ in range(total)])
        writer.start()
        reader.start()
        seen = 0
        while reader.is_alive():
            (one,) = connections(name)
            assert seen <= one.stats.bytes_received <= 100 * total
            seen = one.stats.bytes_received
        writer.join()
        reader.join()
        (one,) = connections(name)
        assert (one.stats.bytes_received, one.stats.messages_received, one.stats.unread) == (100 * total, total, 0)
        assert not one.rough


def test_a_pipe_that_is_not_there_is_not_found(name: str) -> None:
    with pytest.raises(npipe.PipeNotFoundError) as caught:
        npipe.inspect(name)
    assert caught.value.winerror == 2


def test_another_machine_s_pipe_cannot_be_inspected() -> None:
    with pytest.raises(npipe.PipeStateError) as caught:
        npipe.inspect(r"\\elsewhere\pipe\x")
    assert caught.value.winerror == 50


@AS_ROOT
def test_another_user_is_not_told(child: Start, name: str, shared_root: Path) -> None:
    assert shared_root.is_dir()
    with npipe.listen(name, security="everyone"), npipe.connect(name):
        stranger = child(
            """
            import os, sys, npipe
            import encodings.utf_16_le, npipe.transports.local, pwd, traceback  # while they may still be read
            npipe.names.parse_name("x")
            os.setgroups([])
            os.setgid(int(sys.argv[2]))
            os.setuid(int(sys.argv[2]))
            report = npipe.inspect(sys.argv[1])
            (owner,) = report.owners
            print(owner.code, owner.connections, owner.totals.connections, report.type, flush=True)
            """,
            name,
            str(OTHER),
        )
        assert stranger.line() == "5 () 0 None"


# ---- Owners that are old, silent or hostile


def details(**changed: int) -> bytes:
    fields = {
        "size": 104,
        "connection": 128,
        "count": 1,
        "uid": 0,
        "in_quota": 1,
        "out_quota": 2,
        "instances": 3,
        "connected": 4,
        "held": 5,
        "reserved": 0,
    }
    numbers = {"next": 0, "since": 0, "ended": 6, "a": 7, "b": 8, "c": 9, "d": 10, "e": 11}
    for key, value in changed.items():
        (fields if key in fields else numbers)[key] = value
    return struct.pack("<10I8q", *fields.values(), *numbers.values())


def connection(number: int = 1, fill: int = 0) -> bytes:
    return struct.pack("<Q", number) + bytes([fill]) * 120


def ask_of(name: str, said: bytes) -> npipe.OwnerReport:
    with r.own(name) as owner:
        thread = threading.Thread(target=owner.answer, args=(said,))
        thread.start()
        (told,) = npipe.inspect(name).owners
        thread.join()
    return told


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (r.answer(1, kind=DESCRIBE), 1),  # npipe before this question was
        (r.answer(0, kind=DESCRIBE, version=2), 1306),
        (r.answer(5, kind=DESCRIBE), 5),
        (r.answer(kind=DESCRIBE), 13),
        (r.answer(kind=DESCRIBE) + details(), 13),
        (r.answer(kind=DESCRIBE) + details(count=0) + b"x", 13),
        (r.answer(kind=DESCRIBE) + details(connection=0) + connection(), 13),
        (r.answer(kind=DESCRIBE) + details(next=2) + connection(), 13),
        (r.answer(kind=DESCRIBE, type=7) + details() + connection(), 13),
        (r.answer(kind=DESCRIBE) + details() + connection(0), 13),
        (b"\xff" * 48, 13),
    ],
    ids=[
        "unknown-question",
        "other-version",
        "denied",
        "no-details",
        "no-connection",
        "a-byte-too-many",
        "connection-of-no-bytes",
        "next-behind",
        "no-type",
        "connection-0",
        "nonsense",
    ],
)
def test_an_owner_that_tells_nothing_or_nonsense_is_told_as_such(name: str, said: bytes, code: int) -> None:
    told = ask_of(name, said)
    assert told.code == code
    assert told.problem is not None
    assert told.connections == ()
    assert (told.instances, told.totals, told.since) == (0, npipe.Totals(0, 0, 0, 0, 0, 0, 0), None)


def test_an_owner_that_hangs_up_is_none(name: str) -> None:
    with pytest.raises(npipe.PipeNotFoundError):
        ask_of(name, b"")


@pytest.mark.parametrize(
    ("then", "code"),
    [(b"", 109), (r.answer(65539, kind=DESCRIBE), 109), (r.answer(5, kind=DESCRIBE), 5), (b"\xff" * 48, 13)],
    ids=["hangs up", "closes its last instance", "refuses", "talks nonsense"],
)
def test_what_an_owner_has_told_before_it_goes_stays_told(name: str, then: bytes, code: int) -> None:
    with r.own(name) as owner:

        def answer() -> None:
            owner.answer(r.answer(kind=DESCRIBE, type=4) + details(count=2, next=8) + connection(9) + connection(8))
            owner.answer(then)

        thread = threading.Thread(target=answer)
        thread.start()
        report = npipe.inspect(name)
        thread.join()
    (told,) = report.owners
    assert (told.code, [one.number for one in told.connections]) == (code, [8, 9])
    assert (told.instances, told.in_buffer_size, report.type) == (3, 1, "message")
    assert told.problem is not None


def test_numbers_that_cannot_be_are_only_told(name: str) -> None:
    told = ask_of(name, r.answer(kind=DESCRIBE) + details(since=-(2**63)) + connection(2**64 - 1 - 2**63, 0xFF))
    assert told.code == 0
    (one,) = told.connections
    assert one.pid is None
    assert one.stats.bytes_received == 2**64 - 1
    assert one.stats.since < 0


def test_a_server_that_is_stopped_is_told_as_silent(child: Start, name: str) -> None:
    server = Server(child, name)
    stop(server.process.pid)
    try:
        began = time.monotonic()
        (owner,) = npipe.inspect(name).owners
        assert time.monotonic() - began < 5
        assert (owner.code, owner.pid, owner.answered_in) == (121, server.process.pid, None)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


@pytest.mark.parametrize("junk", [b"", b"\0" * 31, b"\xff" * 40])
def test_a_question_that_is_none_harms_nobody(name: str, junk: bytes) -> None:
    with npipe.listen(name):
        client = r.dial(name)
        client.send(r.request(DESCRIBE, offer=2**64 - 1) + junk)
        said = client.recv(65536)
        assert r.code_of(said) == (1306 if junk else 0)
        client.close()
        assert connections(name) == ()


def test_an_owner_s_report_says_how_long_its_answer_took(name: str) -> None:
    with npipe.listen(name):
        [one] = npipe.inspect(name).owners
    assert one.answered_in is not None
    assert 0 < one.answered_in < 5
