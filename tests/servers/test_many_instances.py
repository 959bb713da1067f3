"""The overlapped server with more instances than one wait takes events: several share one."""

from __future__ import annotations

import collections
import itertools
import logging
import threading
from typing import TYPE_CHECKING

import pytest

import npipe
from npipe.servers.overlapped import OverlappedServer
from tests.helpers import Background, fails, held, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

DEADLINE = 30.0
PROCESSES = 4

_CLIENTS = """
import hashlib, sys, threading, npipe

name, process, count, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
pipes = [npipe.connect(name, timeout=30) for _ in range(count)]


def message(number, serial):
    seed = b"%d.%d.%d" % (process, number, serial)
    return (hashlib.sha256(seed).digest() * 400)[: 1 + (serial * 37 + number * 211) % 12_000]


def ask(number, serial):
    sent = message(number, serial)
    answer = pipes[number].transact(sent, timeout=30)
    if answer != sent[::-1]:
        raise SystemExit(f"client {number} of {process}: {len(sent)} bytes came back as {len(answer)} others")


def threads():
    def work(number):
        try:
            for serial in range(rounds):
                ask(number, serial)
        except BaseException as error:
            failures.append(error)

    failures = []
    running = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    if failures:
        raise failures[0]


def lockstep():
    for serial in range(rounds):
        for number, pipe in enumerate(pipes):
            pipe.send(message(number, serial), timeout=30)
        for number, pipe in enumerate(pipes):
            if pipe.recv(timeout=30) != message(number, serial)[::-1]:
                raise SystemExit(f"client {number} of {process}: not what was sent")


def alone():
    for serial in range(rounds):
        ask(serial * 7 % count, serial)


print("here", flush=True)
for line in sys.stdin:
    {"threads": threads, "lockstep": lockstep, "alone": alone}[line.strip()]()
    print("done", flush=True)
"""


def backwards(request: bytes) -> bytes:
    return request[::-1]


def crowd(child: Callable[..., Child], name: str, clients: int, rounds: int) -> list[Child]:
    """As many clients, of four processes, all of them connected."""
    shares = [clients // PROCESSES + (process < clients % PROCESSES) for process in range(PROCESSES)]
    processes = [child(_CLIENTS, name, str(process), str(share), str(rounds)) for process, share in enumerate(shares)]
    for process in processes:
        assert process.line(DEADLINE) == "here"
    return processes


def work(processes: list[Child], *ways: str) -> None:
    """Let all of them work at the same time."""
    for process, way in zip(processes, ways * len(processes), strict=False):
        process.say(way)
    for process in processes:
        assert process.line(DEADLINE) == "done"


# ---- Many at one time


@pytest.mark.parametrize("clients", [63, 64, 65, 100])
def test_clients_of_processes_at_one_time(name: str, clients: int, child: Callable[..., Child]) -> None:
    with npipe.serve(name, backwards, model="overlapped", instances=clients) as server:
        processes = crowd(child, name, clients, 20)
        until(lambda: server.clients == clients)
        with fails(231):
            npipe.connect(name, timeout=0)
        for ways in (("threads",), ("lockstep",), ("alone",), ("threads", "alone", "lockstep", "alone")):
            work(processes, *ways)
        assert server.clients == clients
        for process in processes:
            assert process.process.stdin is not None
            process.process.stdin.close()
            assert process.wait() == 0
        until(lambda: server.clients == 0)
        assert npipe.call(name, b"abc", timeout=10) == b"cba"


@pytest.mark.parametrize("instances", [64, 65])
def test_one_client_more_waits_until_another_leaves(name: str, instances: int) -> None:
    with npipe.serve(name, bytes.upper, model="overlapped", instances=instances):
        clients = [npipe.connect(name) for _ in range(instances)]
        for number, client in enumerate(clients):
            assert client.transact(b"client %d" % number, timeout=10) == b"CLIENT %d" % number
        for leaving in (0, 62, 63 % instances, -1):  # one of each event, the last included
            further = held(name, lambda: npipe.connect(name, timeout=20))
            clients[leaving].close()
            clients[leaving] = further.result()
            for number, client in enumerate(clients):
                assert client.transact(b"still %d" % number, timeout=10) == b"STILL %d" % number
        for client in clients:
            client.close()


def test_all_requests_of_a_crowd_are_handled_in_one_thread(name: str) -> None:
    threads: set[int] = set()
    before = threading.active_count()

    def handler(request: bytes) -> bytes:
        threads.add(threading.get_ident())
        return request

    with npipe.serve(name, handler, model="overlapped", instances=100):
        assert threading.active_count() <= before + 1
        clients = [npipe.connect(name) for _ in range(100)]
        for client in clients:
            assert client.transact(b"x", timeout=10) == b"x"
            client.close()
    assert len(threads) == 1


@pytest.mark.parametrize("clients", [10, 63, 64, 100])
def test_nobody_is_passed_over(name: str, clients: int) -> None:
    requests = 15
    order: list[int] = []
    all_are_there = threading.Event()

    def handler(_: bytes, connection: npipe.Connection) -> bytes:
        assert all_are_there.wait(DEADLINE)
        order.append(connection.number)
        return b"%d" % connection.number

    with npipe.serve(name, handler, model="overlapped", instances=clients) as server:
        pipes = [npipe.connect(name) for _ in range(clients)]
        until(lambda: server.clients == clients)
        for pipe in pipes:
            for _ in range(requests):
                pipe.send(b"x", timeout=10)
        all_are_there.set()  # and from now on each of them has a request waiting until all of its own are answered
        answers = [{pipe.recv(timeout=DEADLINE) for _ in range(requests)} for pipe in pipes]
        for pipe in pipes:
            pipe.close()
    assert sorted(answer for each in answers for answer in each) == sorted(b"%d" % (n + 1) for n in range(clients))
    places: dict[int, list[int]] = collections.defaultdict(list)
    for place, number in enumerate(order):
        places[number].append(place)
    assert {len(each) for each in places.values()} == {requests}
    for number, each in places.items():
        for last, this in itertools.pairwise(each):
            between = collections.Counter(order[last + 1 : this])
            assert max(between.values()) <= 2, (number, between.most_common(3))


@pytest.mark.parametrize("clients", [1, 9, 64])
def test_those_who_are_there_before_the_server_s_thread_are_served(
    name: str, clients: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OverlappedServer._run
    begins = threading.Event()

    def late(self: OverlappedServer) -> None:
        assert begins.wait(DEADLINE)
        run(self)

    monkeypatch.setattr(OverlappedServer, "_run", late)
    with npipe.serve(name, bytes.upper, model="overlapped", instances=64):
        pipes = [npipe.connect(name) for _ in range(clients)]
        for number, pipe in enumerate(pipes):
            pipe.send(b"client %d" % number)
        begins.set()
        for number, pipe in enumerate(pipes):
            assert pipe.recv(timeout=10) == b"CLIENT %d" % number
            pipe.close()


# ---- Those that fail, and those that die


def test_a_handler_that_fails_ends_one_of_100(name: str, caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: bytes) -> bytes:
        if request == b"bad":
            raise ValueError("no good")
        return request.upper()

    with (
        caplog.at_level(logging.ERROR, "npipe"),
        npipe.serve(name, handler, model="overlapped", instances=100) as server,
    ):
        clients = [npipe.connect(name) for _ in range(100)]
        for place in (3, 64, 99):
            clients[place].send(b"good")
            clients[place].send(b"bad")
            assert clients[place].recv(timeout=10) == b"GOOD"
            with fails(109):
                clients[place].recv(timeout=10)
            clients[place].close()
            clients[place] = npipe.connect(name, timeout=10)
        for number, client in enumerate(clients):
            assert client.transact(b"client %d" % number, timeout=10) == b"CLIENT %d" % number
            client.close()
        assert server.stats.failed == 3


def test_a_killed_process_makes_room_for_as_many(name: str, child: Callable[..., Child]) -> None:
    with npipe.serve(name, backwards, model="overlapped", instances=100) as server:
        processes = crowd(child, name, 100, 20)
        victim = processes.pop()
        for process in processes:
            process.say("threads")
        victim.say("threads")
        victim.kill()
        for process in processes:
            assert process.line(DEADLINE) == "done"
        until(lambda: server.clients == 75)
        processes += [child(_CLIENTS, name, "9", "25", "20")]
        assert processes[-1].line(DEADLINE) == "here"
        work(processes, "lockstep", "threads")


# ---- The end


def test_a_stop_while_100_are_connected_lets_answers_be_read(name: str) -> None:
    long = bytes(range(256)) * 1024  # more than the pipe takes: its write is over once it is read

    server = npipe.serve(name, lambda request: request + long, model="overlapped", instances=100)
    clients = [npipe.connect(name) for _ in range(100)]
    asking = clients[::2]
    for number, client in enumerate(asking):
        client.send(b"%d" % number)
    for client in asking:
        until(lambda client=client: client.peek().available > 0)  # type: ignore[misc]
    closing = Background(lambda: server.close(timeout=DEADLINE))
    for client in clients[1::2]:
        with fails(109):
            client.recv(timeout=10)
    assert closing.running
    for number, client in enumerate(asking):
        assert client.recv(timeout=10) == b"%d" % number + long
        with fails(109):
            client.recv(timeout=10)
    closing.result(DEADLINE)
    assert (server.stats.answered, server.stats.failed, server.stats.clients) == (50, 0, 100)
    for client in clients:
        client.close()
    with fails(2):
        npipe.connect(name)


def test_a_stop_waits_no_longer_than_it_may_for_100_that_do_not_read(name: str) -> None:
    server = npipe.serve(name, lambda _: bytes(1 << 20), model="overlapped", instances=100)
    clients = [npipe.connect(name) for _ in range(100)]
    for client in clients:
        client.send(b"x")
    for client in clients:
        until(lambda client=client: client.peek().available > 0)  # type: ignore[misc]
    server.close(timeout=0)
    assert server.wait(10)
    assert server.clients == 0
    for client in clients:
        client.close()
    with fails(2):
        npipe.connect(name)


def test_a_stop_from_the_handler_of_one_of_100(name: str) -> None:
    def handler(request: bytes) -> bytes:
        if request == b"stop":
            server.close()
        return request

    server = npipe.serve(name, handler, model="overlapped", instances=100)
    clients = [npipe.connect(name) for _ in range(100)]
    for client in clients:
        assert client.transact(b"x", timeout=10) == b"x"
    assert clients[70].transact(b"stop", timeout=10) == b"stop"
    assert server.wait(10)
    for client in clients:
        with fails(109):
            client.recv(timeout=10)
        client.close()
    with fails(2):
        npipe.connect(name)
