"""Several processes that serve one name: all are reached, the limit is shared, and each may come and go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.helpers import Background, blocked, fails, held, requests_held, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child

    Start = Callable[..., Child]

OWNER = """
    import os, sys, threading, npipe
    name, limit = sys.argv[1], int(sys.argv[2]) or None
    listener = npipe.listen(name, exclusive=False, max_instances=limit)
    pipes = []
    def serve():
        for pipe in listener:
            threading.Thread(target=echo, args=(pipe,), daemon=True).start()
    def echo(pipe):
        with pipe:
            for message in pipe:
                pipe.send(b"%d" % os.getpid())
    if len(sys.argv) < 4:
        threading.Thread(target=serve, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "end\\n":
            break
        print(eval(line), flush=True)
    listener.close()
"""


def owner(child: Start, name: str, limit: int = 0, *, by_hand: bool = False) -> Child:
    made = child(OWNER, name, str(limit), *(["by hand"] if by_hand else []))
    assert made.line() == "ready"
    return made


def asked(name: str) -> int:
    return int(npipe.call(name, b"who", timeout=10))


def tell(process: Child, expression: str) -> str:
    process.say(expression)
    answer: str = process.line()
    return answer


def test_clients_reach_all_owners(child: Start, name: str, root: Path) -> None:
    owners = [owner(child, name) for _ in range(3)]
    clients = []
    seen: set[int] = set()
    end = time.monotonic() + 10
    while len(seen) < 3:  # each connection keeps an instance, and the owners have one each that listens
        assert time.monotonic() < end
        client = npipe.connect(name, timeout=5)
        clients.append(client)
        seen.add(int(client.transact(b"who", timeout=5)))
        if len(clients) > 50:
            break
    assert seen <= {process.pid for process in owners}
    (listing,) = npipe.list_pipes()
    assert listing.instances == len(clients) + 3
    for client in clients:
        client.close()
    for process in owners:
        process.say("end")
        assert process.wait() == 0
    with fails(2):
        npipe.connect(name)
    assert list(root.iterdir()) == []


def test_every_owners_instance_is_found_when_the_others_are_busy(child: Start, name: str) -> None:
    owners = [owner(child, name, by_hand=True) for _ in range(5)]
    clients = [npipe.connect(name, timeout=5) for _ in range(5)]  # one instance listens in each
    assert {client.peer.pid for client in clients} == {process.pid for process in owners}
    with fails(231):
        npipe.connect(name, timeout=0)
    with fails(121):
        npipe.connect(name, timeout=0.05)
    for client in clients:
        client.close()


def test_limit_is_shared(child: Start, name: str) -> None:
    first = owner(child, name, 3, by_hand=True)
    second = owner(child, name, 200, by_hand=True)  # the first one's limit counts
    third = owner(child, name, by_hand=True)
    with fails(231):
        npipe.listen(name, exclusive=False)
    with fails(231):  # wins over 5 (SEMANTICS §2.3)
        npipe.listen(name)
    clients = [npipe.connect(name, timeout=5) for _ in range(3)]
    for process in (first, second, third):
        assert tell(process, "pipes.append(listener.accept(5))") == "None"
    with fails(231):
        npipe.connect(name, timeout=0)
    assert clients[0].info.max_instances == 3
    assert clients[0].info.instances == 3
    second.say("end")
    assert second.wait() == 0
    npipe.listen(name, exclusive=False).close()
    for client in clients:
        client.close()


def test_accept_at_the_shared_limit_is_woken_by_another_owners_close(child: Start, name: str) -> None:
    first = owner(child, name, 2, by_hand=True)
    with npipe.listen(name, exclusive=False) as listener:
        clients = [npipe.connect(name, timeout=5) for _ in range(2)]
        mine = listener.accept(5)
        accepting = blocked(lambda: listener.accept(20))
        first.say("end")  # one instance less: there is room here
        assert first.wait() == 0
        with npipe.connect(name, timeout=10) as client, accepting.result() as server:
            client.send(b"x")
            assert server.recv(timeout=5) == b"x"
        mine.close()
        for client in clients:
            client.close()


def test_accept_at_the_shared_limit_is_woken_by_another_owners_death(child: Start, name: str) -> None:
    first = owner(child, name, 2, by_hand=True)
    with npipe.listen(name, exclusive=False) as listener:
        clients = [npipe.connect(name, timeout=5) for _ in range(2)]
        mine = listener.accept(5)
        accepting = blocked(lambda: listener.accept(20))
        first.kill()
        with npipe.connect(name, timeout=10) as client, accepting.result() as server:
            client.send(b"x")
            assert server.recv(timeout=5) == b"x"
        mine.close()
        for client in clients:
            client.close()


@pytest.mark.parametrize("kind", ["connect", "wait"])
def test_waiters_are_woken_by_another_process(child: Start, name: str, kind: str) -> None:
    first = owner(child, name, by_hand=True)
    second = owner(child, name, by_hand=True)
    clients = [npipe.connect(name, timeout=5) for _ in range(2)]
    for process in (second, first):
        if kind == "connect":
            waiting: Background[object] = held(name, lambda: npipe.connect(name, timeout=20))
        else:
            waiting = held(name, lambda: npipe.wait(name, timeout=20))
        assert tell(process, "pipes.append(listener.accept(5))") == "None"  # which makes the next instance
        got = waiting.result()
        if isinstance(got, npipe.MessagePipe):
            assert got.peer.pid == process.pid
            clients.append(got)
        else:
            clients.append(npipe.connect(name, timeout=5))
    for client in clients:
        client.close()


@pytest.mark.parametrize("kind", ["connect", "wait"])
def test_waiters_are_woken_by_a_process_that_joins(child: Start, name: str, kind: str) -> None:
    first = owner(child, name, by_hand=True)
    client = npipe.connect(name, timeout=5)
    waits: list[Background[object]] = [
        held(name, lambda: npipe.connect(name, timeout=20) if kind == "connect" else npipe.wait(name, timeout=20))
        for _ in range(2 if kind == "wait" else 1)
    ]
    second = owner(child, name, by_hand=True)
    for waiting in waits:
        got = waiting.result()
        if isinstance(got, npipe.MessagePipe):
            assert got.peer.pid == second.pid
            got.close()
    client.close()
    first.end()


def test_waiters_go_on_when_the_owner_that_holds_them_leaves_or_dies(child: Start, name: str) -> None:
    for death in (False, True):
        owners = [owner(child, name, by_hand=True) for _ in range(3)]
        clients = [npipe.connect(name, timeout=5) for _ in range(3)]
        waits: list[Background[object]] = [held(name, lambda: npipe.wait(name, timeout=20)) for _ in range(3)]
        waits.append(held(name, lambda: npipe.connect(name, timeout=20)))
        for process in owners[:2]:
            if death:
                process.kill()
            else:
                process.say("end")
                process.wait()
        # Only then: a wait that came after the connect has taken the instance would wait for the next one.
        until(lambda: requests_held(name, owners[2].pid) == 4, 20)  # noqa: B023
        assert tell(owners[2], "pipes.append(listener.accept(5))") == "None"
        for wait in waits:
            got = wait.result()
            if isinstance(got, npipe.MessagePipe):
                assert got.peer.pid == owners[2].pid
                got.close()
        for client in clients:
            client.close()
        owners[2].say("end")
        assert owners[2].wait() == 0
        with fails(2):
            npipe.connect(name)


@pytest.mark.parametrize("death", [False, True])
def test_last_owner_leaving_ends_the_waiters(child: Start, name: str, root: Path, death: bool) -> None:
    owners = [owner(child, name, by_hand=True) for _ in range(3)]
    clients = [npipe.connect(name, timeout=5) for _ in range(3)]
    waits: list[Background[object]] = [held(name, lambda: npipe.wait(name, timeout=None)) for _ in range(3)]
    waits += [held(name, lambda: npipe.connect(name, timeout=None)) for _ in range(3)]
    for process in owners:
        if death:
            process.kill()
        else:
            process.say("end")
            assert process.wait() == 0
    for wait in waits:
        assert wait.code() == 2
    for client in clients:
        with fails(109):
            client.recv(timeout=5)
        client.close()
    with fails(2):
        npipe.connect(name)
    assert list(root.iterdir()) == []


def _living(owners: list[Child]) -> int:
    return sum(process.process.poll() is None for process in owners)


def test_others_go_on_when_one_owner_is_killed(child: Start, name: str) -> None:
    owners = [owner(child, name) for _ in range(3)]
    for victim in owners[:2]:
        victim.kill()
        for _ in range(20):
            assert asked(name) in {process.pid for process in owners if process.process.poll() is None}
        # Each connection's instance goes when its owner has noticed that the client has left.
        until(lambda: [pipe.instances for pipe in npipe.list_pipes()] == [_living(owners)])
    newcomer = owner(child, name)
    assert asked(name) in (owners[2].pid, newcomer.pid)
    owners[2].kill()
    assert asked(name) == newcomer.pid


def test_limit_forgets_the_dead(child: Start, name: str) -> None:
    owners = [owner(child, name, 2, by_hand=True) for _ in range(2)]
    with fails(231):
        npipe.listen(name, exclusive=False)
    owners[0].kill()
    with npipe.listen(name, exclusive=False):
        with fails(231):
            npipe.listen(name, exclusive=False)
    owners[1].kill()
    npipe.listen(name).close()


@pytest.mark.slow
def test_clients_under_load_while_owners_come_and_go(child: Start, name: str, root: Path) -> None:
    import threading

    steady = owner(child, name)
    stop = threading.Event()

    def talk() -> int:
        answers = 0
        while not stop.is_set():
            try:
                asked(name)
                answers += 1
            except npipe.PipeClosedError:
                continue  # its owner was killed in the middle
            except npipe.PipeModeError:
                continue  # the same, between the connect and the request
        return answers

    clients = [Background(talk) for _ in range(4)]
    for turn in range(8):
        guest = owner(child, name)
        stop.wait(0.05)
        if turn % 2:
            guest.kill()
        else:
            guest.say("end")
            assert guest.wait() == 0
    stop.set()
    assert sum(client.result(20) for client in clients) > 20
    assert asked(name) == steady.pid
    steady.say("end")
    assert steady.wait() == 0
    assert npipe.list_pipes() == []
    assert list(root.iterdir()) == []


def test_exclusive_owners_race_for_the_name(child: Start, name: str) -> None:
    racers = [
        child(
            """
            import sys, npipe
            sys.stdin.readline()
            try:
                listener = npipe.listen(sys.argv[1])
                print("mine", flush=True)
                sys.stdin.readline()
            except npipe.PipeAccessError as error:
                print(error.winerror, flush=True)
            """,
            name,
        )
        for _ in range(6)
    ]
    for racer in racers:
        racer.say("go")
    assert sorted(racer.line() for racer in racers) == ["5"] * 5 + ["mine"]
