"""Two things at the same moment, again and again: each call comes to an end that it may have, and none hangs."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests import helpers as h
from tests.faults import helpers as f

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]
    Figure = Callable[[str], None]

ROUNDS = f.rounds(300, 5000)
DEADLINE = 20.0

pytestmark = pytest.mark.timeout(60 * f.MINUTES)


class Pace:
    """Random moments: not at all, some turns of a loop, or when the other thread is asleep for sure."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def before(self, call: h.Background[Any]) -> str:
        """Lets a moment go by, and says which kind it was."""
        kind = self._chance.choice(["at once", "soon", "asleep"])
        if kind == "asleep":
            call.blocked()
        elif kind == "soon":
            until = time.perf_counter() + self._chance.random() * 0.0003
            while time.perf_counter() < until:
                pass
        return kind


def outcome(call: h.Background[Any]) -> Any:
    """A code, or what was returned."""
    try:
        return call.result(DEADLINE)
    except npipe.PipeError as error:
        return error.winerror


def close_all(*pipes: Any) -> None:
    for pipe in pipes:
        pipe.close()


# ---- Close


@pytest.mark.parametrize("limit", [None, 1])
def test_close_against_a_blocked_accept(name: str, figure: Figure, limit: int | None) -> None:
    pace, seen = Pace(1), Counter[str]()
    before = f.holding()
    for _ in range(ROUNDS):
        listener = npipe.listen(name, max_instances=limit)
        held = (npipe.connect(name), listener.accept(DEADLINE)) if limit else ()
        accept = h.Background(lambda listener=listener: listener.accept(DEADLINE))  # type: ignore[misc]
        kind = pace.before(accept)
        listener.close()
        assert outcome(accept) == 109
        seen[kind] += 1
        close_all(*held)
    h.until(lambda: f.holding() <= before._replace(descriptors=before.descriptors + 3, threads=before.threads + 1))
    figure(f"{ROUNDS} rounds: {dict(seen)}")


def test_close_against_an_accept_that_a_client_is_about_to_end(name: str, figure: Figure) -> None:
    pace, seen = Pace(2), Counter[Any]()
    for _ in range(ROUNDS):
        listener = npipe.listen(name)
        accept = h.Background(lambda listener=listener: listener.accept(DEADLINE))  # type: ignore[misc]
        pace.before(accept)
        client = h.Background(lambda: npipe.connect(name, timeout=DEADLINE))
        listener.close()
        served, dialled = outcome(accept), outcome(client)
        if isinstance(served, int):
            assert served == 109
            # Let in and then closed with the listener, or never let in.
            assert not isinstance(dialled, int) or dialled == 2
        else:
            assert isinstance(dialled, npipe.MessagePipe)
            dialled.send(b"x")
            assert served.recv(timeout=DEADLINE) == b"x"
        seen["refused" if isinstance(dialled, int) else "served" if not isinstance(served, int) else "let in"] += 1
        close_all(*(end for end in (served, dialled) if not isinstance(end, int)))
    figure(f"{ROUNDS} rounds: {dict(seen)}")


ENDS: dict[str, tuple[Callable[[Any, Any], object], set[int]]] = {
    "closed here": (lambda client, _server: client.close(), {6, 109}),
    "closed by the peer": (lambda _client, server: server.close(), {109}),
    "disconnected by the server": (lambda _client, server: server.abort(), {233}),
    "aborted here": (lambda client, _server: client.abort(), {6, 109}),
}


@pytest.mark.parametrize("how", ENDS)
def test_close_against_a_blocked_read(name: str, figure: Figure, how: str) -> None:
    end, codes = ENDS[how]
    pace, seen = Pace(3), Counter[str]()
    rounds = ROUNDS if how == "closed here" else max(200, ROUNDS // 2)
    with npipe.listen(name) as listener:
        for number in range(rounds):
            client = npipe.connect(name)
            server = listener.accept(DEADLINE)
            if number % 2:  # also when the link is not fresh any more: it sleeps in another way then
                for _ in range(3):
                    server.send(b"warm")
                    assert client.recv(timeout=DEADLINE) == b"warm"
            read = h.Background(lambda client=client: client.recv(timeout=DEADLINE))  # type: ignore[misc]
            seen[pace.before(read)] += 1
            end(client, server)
            assert outcome(read) in codes
            close_all(client, server)
    figure(f"{rounds} rounds: {dict(seen)}")


def test_close_against_a_read_that_data_is_about_to_end(name: str, figure: Figure) -> None:
    """The reader gets the message or the end of its own handle; a peer's close after a send never costs the message."""
    pace, seen = Pace(4), Counter[str]()
    with npipe.listen(name) as listener:
        for number in range(ROUNDS):
            client = npipe.connect(name)
            server = listener.accept(DEADLINE)
            read = h.Background(lambda client=client: client.recv(timeout=DEADLINE))  # type: ignore[misc]
            pace.before(read)
            server.send(b"last")
            if number % 2:
                server.close()
                assert outcome(read) == b"last"
                seen["sent and closed"] += 1
            else:
                client.close()
                got = outcome(read)
                assert got in (b"last", 6, 109)
                seen["read" if got == b"last" else "closed"] += 1
            close_all(client, server)
    figure(f"{ROUNDS} rounds: {dict(seen)}")


# ---- Dial against listen


def test_dial_against_listen(name: str, figure: Figure) -> None:
    """Both begin at once: the client is served, or the pipe was not there yet; nothing else, and nothing stays."""
    seen = Counter[str]()
    ready = threading.Barrier(2)
    stop = False
    results: list[Any] = []

    def dial() -> None:
        while True:
            ready.wait(DEADLINE)
            if stop:
                return
            try:
                results.append(npipe.connect(name, timeout=DEADLINE))
            except npipe.PipeError as error:
                results.append(error.winerror)
            ready.wait(DEADLINE)

    dialler = h.Background(dial)
    chance = random.Random(5)
    for _ in range(ROUNDS):
        ready.wait(DEADLINE)
        for _ in range(chance.choice([0, 0, chance.randrange(300)])):
            pass
        with npipe.listen(name) as listener:
            ready.wait(DEADLINE)
            (got,) = results
            results.clear()
            if isinstance(got, int):
                assert got == 2
                seen["not there yet"] += 1
            else:
                seen["connected"] += 1
                got.send(b"x")
                with listener.accept(DEADLINE) as server:
                    assert server.recv(timeout=DEADLINE) == b"x"
                got.close()
    stop = True
    ready.wait(DEADLINE)
    dialler.result()
    figure(f"{ROUNDS} rounds: {dict(seen)}")


DIALLER = """
    import sys, threading, npipe
    from collections import Counter
    name, threads = sys.argv[1], int(sys.argv[2])
    seen, wrong, stop = Counter(), [], threading.Event()
    def work(number):
        turn = 0
        while not stop.is_set():
            turn += 1
            question = b"%d %d" % (number, turn) * (1 + turn % 50)
            try:
                answer = npipe.call(name, question, timeout=20)
            except npipe.PipeError as error:
                seen[error.winerror] += 1
            else:
                seen[0] += 1
                if answer != question[::-1]:
                    wrong.append((question, answer))
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    print("dialling", flush=True)
    sys.stdin.readline()
    stop.set()
    for worker in workers:
        worker.join()
    print(dict(seen), flush=True)
    print(wrong[:3], flush=True)
"""


def test_server_restart_under_dialling_clients(child: Start, name: str, root: Any, figure: Figure) -> None:
    """Each call gets its own answer, or the server's end as a code; the name is free at once each time."""
    diallers = [child(DIALLER, name, "3") for _ in range(2)]
    for dialler in diallers:
        assert dialler.line() == "dialling"
    chance = random.Random(6)
    served = 0
    for number in range(ROUNDS):
        with npipe.listen(name, max_instances=chance.choice([1, 2, None])) as listener:
            for _ in range(chance.randrange(4)):
                with contextlib.suppress(npipe.PipeError), listener.accept(0.05) as pipe:
                    pipe.send(pipe.recv(timeout=DEADLINE)[::-1])
                    served += 1
            if number % 3 == 0:  # one that is let in and never answered
                with contextlib.suppress(npipe.PipeTimeoutError):
                    listener.accept(0.05).close()
    for dialler in diallers:
        dialler.say("stop")
    codes = Counter[int]()
    for dialler in diallers:
        codes += Counter(eval(dialler.line(60)))
        assert dialler.line() == "[]"
        assert dialler.wait() == 0
    assert set(codes) <= {0, 2, 109, 230, 231, 232, 233}, codes
    assert codes[0] > 0
    assert list(root.iterdir()) == []
    figure(f"{ROUNDS} restarts, {served} served, the clients' codes {dict(sorted(codes.items()))}")


# ---- Herds

HERD = """
    import sys, threading, npipe
    from collections import Counter
    name, size, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    begin, end = threading.Barrier(size + 1), threading.Barrier(size + 1)
    seen = Counter()
    lock = threading.Lock()
    def work():
        while True:
            begin.wait()
            try:
                if what == "wait":
                    npipe.wait(name, timeout=60)
                else:
                    with npipe.connect(name, timeout=60) as pipe:
                        pipe.send(b"mine")
                        pipe.recv(timeout=60)
                code = 0
            except npipe.PipeError as error:
                code = error.winerror
            with lock:
                seen[code] += 1
            end.wait()
    for _ in range(size):
        threading.Thread(target=work, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        begin.wait()
        end.wait()
        print(dict(seen), flush=True)
        seen.clear()
"""


def test_herds_of_a_hundred_waits_are_all_woken(child: Start, name: str, figure: Figure) -> None:
    herds = [child(HERD, name, "50", "wait") for _ in range(2)]
    for herd in herds:
        assert herd.line() == "ready"
    took = []
    for number in range(ROUNDS):
        server, client = h.connected(name, max_instances=1)
        for herd in herds:
            herd.say("go")
        h.until(lambda: h.requests_held(name) == 100, DEADLINE)
        began = time.monotonic()
        if number % 2:
            client.close_handle()
            server.disconnect()
            with h.fails(121):
                server.connect(0)  # it listens
            code = 0
        else:
            server.close_handle()
            code = 2
        for herd in herds:
            assert herd.line() == repr({code: 50})
        took.append(time.monotonic() - began)
        server.close_handle()
        client.close_handle()
    figure(f"{ROUNDS} herds of 100 in two processes, all woken and told after: {f.percentiles(took)}")


def test_herds_of_a_hundred_connects_are_served_one_by_one(child: Start, name: str, figure: Figure) -> None:
    rounds = max(3, ROUNDS // 20)
    herds = [child(HERD, name, "50", "connect") for _ in range(2)]
    for herd in herds:
        assert herd.line() == "ready"
    for _ in range(rounds):
        with npipe.listen(name, max_instances=1) as listener:
            first = npipe.connect(name)
            served = listener.accept(DEADLINE)
            for herd in herds:
                herd.say("go")
            h.until(lambda: h.requests_held(name) == 100, DEADLINE)
            close_all(first, served)
            for _ in range(100):
                with listener.accept(DEADLINE) as pipe:
                    assert pipe.recv(timeout=DEADLINE) == b"mine"
                    pipe.send(b"yours")
            for herd in herds:
                assert herd.line() == "{0: 50}"
    figure(f"{rounds} herds of 100, each served once")
