"""What the three servers have in common beyond their answers, and what each architecture promises."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests.helpers import Background, fails, held, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.servers.base import Connection
    from tests.conftest import Child

ME = os.geteuid() if sys.platform != "win32" else None
MODELS = ["threaded", "overlapped", "completion"]
every_model = pytest.mark.parametrize("model", MODELS)
one_thread = pytest.mark.parametrize("model", ["overlapped", "completion"])


def listed(name: str) -> int:
    """How many instances there are."""
    return sum(pipe.instances for pipe in npipe.list_pipes() if pipe.name == name)


# ---- Clients in turn


@every_model
def test_many_clients_in_turn(name: str, model: Any) -> None:
    with npipe.serve(name, bytes.upper, model=model):
        for number in range(300):
            assert npipe.call(name, b"client %d" % number, timeout=10) == b"CLIENT %d" % number


@every_model
def test_the_name_never_goes_while_clients_take_turns_at_the_limit(name: str, model: Any) -> None:
    def client() -> None:
        for number in range(40):
            with npipe.connect(name, timeout=20) as pipe:  # 2 would mean that the pipe was gone
                assert pipe.transact(b"%d" % number, timeout=10) == b"%d" % number

    with npipe.serve(name, bytes, model=model, max_instances=1):
        clients = [Background(client) for _ in range(4)]
        for one in clients:
            one.result(30)
        assert listed(name) == 1


@every_model
def test_messages_are_joined_from_their_pieces_both_ways(name: str, model: Any) -> None:
    sizes = (0, 1, 65_535, 65_536, 65_537, 131_072, 1_000_000)
    with (
        npipe.serve(name, bytes, model=model, in_buffer_size=100, out_buffer_size=0),
        npipe.connect(name) as client,
    ):
        for size in sizes:
            message = os.urandom(size)
            assert client.transact(message, timeout=20) == message


@every_model
def test_a_client_that_is_killed_makes_room_for_the_next(name: str, model: Any, child: Callable[..., Child]) -> None:
    with npipe.serve(name, bytes.upper, model=model, max_instances=1):
        for _ in range(3):
            victim = child(
                """
                import sys, npipe
                pipe = npipe.connect(sys.argv[1], timeout=20)
                print(pipe.transact(b"alive"), flush=True)
                sys.stdin.readline()
                """,
                name,
            )
            assert victim.line() == "b'ALIVE'"
            with fails(231):
                npipe.connect(name, timeout=0)
            victim.kill()
        assert npipe.call(name, b"x", timeout=10) == b"X"


@every_model
def test_answers_that_were_not_read_yet_outlive_a_handler_that_fails(
    name: str, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(request: bytes) -> bytes:
        if request == b"bad":
            raise ValueError("no good")
        return request.upper()

    with caplog.at_level(logging.ERROR, "npipe"), npipe.serve(name, handler, model=model):
        for _ in range(10):
            with npipe.connect(name, timeout=10) as client:
                client.send(b"good")
                client.send(b"bad")
                assert client.recv(timeout=5) == b"GOOD"
                with fails(109):
                    client.recv(timeout=5)
    assert caplog.text.count("no good") >= 10


@every_model
def test_a_handler_that_fails_at_the_limit_frees_its_instance(
    name: str, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(request: bytes) -> bytes:
        raise ValueError("no good")

    with caplog.at_level(logging.ERROR, "npipe"), npipe.serve(name, handler, model=model, max_instances=1):
        for _ in range(5):
            with npipe.connect(name, timeout=10) as client:
                client.send(b"x")
                with pytest.raises(npipe.PipeClosedError):
                    client.recv(timeout=5)


@every_model
def test_two_servers_share_a_name_and_its_limit(name: str, model: Any) -> None:
    options: dict[str, Any] = {"model": model, "max_instances": 2, "exclusive": False}
    if model == "overlapped":
        options["instances"] = 1
    with npipe.serve(name, lambda _: b"one", **options), npipe.serve(name, lambda _: b"two", **options):
        with npipe.connect(name) as first, npipe.connect(name) as second:
            answers = {first.transact(b"", timeout=5), second.transact(b"", timeout=5)}
            with fails(231):
                npipe.connect(name, timeout=0)
        assert answers == {b"one", b"two"}
        for _ in range(20):
            assert npipe.call(name, b"", timeout=10) in answers


# ---- Hooks and access


@every_model
def test_hooks_are_told_who_comes_and_goes(name: str, model: Any) -> None:
    came: list[tuple[int, int, int | None]] = []
    left: list[tuple[int, int]] = []

    def on_connect(connection: Connection) -> None:
        came.append((connection.number, connection.peer.pid, connection.peer.uid))

    def on_disconnect(connection: Connection) -> None:
        left.append((connection.number, connection.requests))

    with npipe.serve(name, bytes, model=model, on_connect=on_connect, on_disconnect=on_disconnect):
        for requests in range(3):
            with npipe.connect(name) as client:
                for _ in range(requests):
                    client.transact(b"x", timeout=5)
            until(lambda: len(left) == requests + 1)  # noqa: B023
        client = npipe.connect(name)
        client.transact(b"x", timeout=5)
    until(lambda: len(left) == 4)
    client.close()
    assert came == [(number, os.getpid(), ME) for number in (1, 2, 3, 4)]
    assert left == [(1, 0), (2, 1), (3, 2), (4, 1)]


@every_model
def test_a_hook_that_fails_is_logged_and_nothing_else(name: str, model: Any, caplog: pytest.LogCaptureFixture) -> None:
    def hook(_: object) -> None:
        raise RuntimeError("hook's own")

    with (
        caplog.at_level(logging.ERROR, "npipe"),
        npipe.serve(name, bytes.upper, model=model, on_connect=hook, on_disconnect=hook),
    ):
        for _ in range(3):
            assert npipe.call(name, b"x", timeout=5) == b"X"
    assert "hook's own" in caplog.text


@every_model
def test_a_security_that_lets_clients_only_write(name: str, model: Any) -> None:
    seen: list[bytes] = []
    with npipe.serve(name, lambda request: seen.append(request), model=model, security=npipe.Security(read=False)):
        with fails(5):
            npipe.connect(name)
        with npipe.connect(name, access="write") as client:
            client.send(b"x")
        until(lambda: seen == [b"x"])


@every_model
@pytest.mark.parametrize(
    ("option", "value"),
    [("max_instances", 0), ("mode", "packet"), ("access", "some"), ("security", "mine"), ("in_buffer_size", -1)],
)
def test_wrong_options_are_refused_and_leave_nothing(name: str, model: Any, option: str, value: Any) -> None:
    with pytest.raises(npipe.PipeArgumentError):
        npipe.serve(name, bytes, model=model, **{option: value})
    with fails(2):
        npipe.connect(name)


# ---- The overlapped server


def test_the_overlapped_server_keeps_its_number_of_instances(name: str) -> None:
    with npipe.serve(name, bytes, model="overlapped"):
        assert listed(name) == 4
        clients = [npipe.connect(name) for _ in range(4)]
        assert listed(name) == 4
        fifth = held(name, lambda: npipe.call(name, b"fifth", timeout=20))
        clients.pop().close()
        assert fifth.result() == b"fifth"
        for client in clients:
            assert client.transact(b"x", timeout=5) == b"x"
            client.close()
        assert listed(name) == 4


@pytest.mark.parametrize(("instances", "limit"), [(0, None), (65536, None), (-1, None), (5, 4), (101, 100)])
def test_a_number_of_instances_that_cannot_be(name: str, instances: int, limit: int | None) -> None:
    most = 65535 if limit is None else limit
    with pytest.raises(npipe.PipeArgumentError, match=f"instances is 1 to {most}, not {instances}"):
        npipe.serve(name, bytes, model="overlapped", instances=instances, max_instances=limit)
    with fails(2):
        npipe.connect(name)


def test_as_many_instances_as_one_wait_takes(name: str) -> None:
    with npipe.serve(name, bytes, model="overlapped", instances=63):
        clients = [npipe.connect(name) for _ in range(63)]
        for number, client in enumerate(clients):
            client.send(b"%d" % number)
        for number, client in enumerate(clients):
            assert client.recv(timeout=5) == b"%d" % number
            client.close()


def test_the_limit_bounds_the_default_number_of_instances(name: str) -> None:
    with npipe.serve(name, bytes, model="overlapped", max_instances=2):
        assert listed(name) == 2


# ---- One thread


@one_thread
def test_all_requests_are_handled_in_one_thread(name: str, model: Any) -> None:
    threads: set[int] = set()

    def handler(request: bytes) -> bytes:
        threads.add(threading.get_ident())
        return request

    with npipe.serve(name, handler, model=model):
        clients = [npipe.connect(name) for _ in range(4)]
        for client in clients:
            client.transact(b"x", timeout=5)
            client.close()
    assert len(threads) == 1


def test_the_completion_server_has_an_instance_for_each_client(name: str) -> None:
    with npipe.serve(name, bytes, model="completion"):
        before = threading.active_count()
        clients = [npipe.connect(name) for _ in range(100)]
        for number, client in enumerate(clients):
            assert client.transact(b"%d" % number, timeout=5) == b"%d" % number
        assert threading.active_count() == before
        assert listed(name) == 101
        for client in clients:
            client.close()
        until(lambda: listed(name) == 1)


@one_thread
def test_busy_clients_do_not_keep_new_ones_out(name: str, model: Any) -> None:
    busy = threading.Event()
    over = threading.Event()

    def client() -> None:
        with npipe.connect(name) as pipe:
            while not over.is_set():
                for _ in range(20):  # there is always a request waiting
                    pipe.send(b"x")
                for _ in range(20):
                    pipe.recv(timeout=10)
                busy.set()

    with npipe.serve(name, bytes, model=model):
        clients = [Background(client) for _ in range(3)]
        assert busy.wait(10)
        for _ in range(20):
            assert npipe.call(name, b"new", timeout=10) == b"new"
        over.set()
        for one in clients:
            one.result(15)


@one_thread
def test_a_client_that_does_not_read_holds_nobody_up(name: str, model: Any) -> None:
    with npipe.serve(name, lambda _: bytes(1 << 20), model=model) as server:
        with npipe.connect(name) as silent:
            silent.send(b"x")
            until(lambda: silent.peek().available > 0)
            for _ in range(5):
                assert len(npipe.call(name, b"x", timeout=10)) == 1 << 20
            server.close(timeout=0.2)
            assert server.wait(0)


# ---- Under everything at once


@every_model
def test_clients_that_do_anything_at_once(name: str, model: Any, caplog: pytest.LogCaptureFixture) -> None:
    def client(seed: int) -> None:
        for number in range(60):
            pipe = npipe.connect(name, timeout=20)
            kind = (seed * 7 + number) % 5
            if kind == 0:
                pipe.abort()
            elif kind == 1:
                pipe.send(b"and gone")
                pipe.abort()
            elif kind == 2:
                pipe.send(bytes(200_000))
                pipe.close()
            else:
                data = b"%d" % number * 30_000
                assert pipe.transact(data, timeout=10) == data
                pipe.close()

    with caplog.at_level(logging.WARNING, "npipe"), npipe.serve(name, bytes, model=model):
        clients = [Background(lambda seed=seed: client(seed)) for seed in range(5)]  # type: ignore[misc]
        for one in clients:
            one.result(40)
        assert npipe.call(name, b"still", timeout=10) == b"still"
    assert caplog.text == ""
    with fails(2):
        npipe.connect(name)


# ---- Crowds


@one_thread
def test_no_client_is_ahead_of_another_that_has_asked_too(name: str, model: Any) -> None:
    clients, each = 10, 30
    served: list[int] = []
    all_have_asked = threading.Event()

    def answer(request: bytes) -> bytes:
        assert all_have_asked.wait(30)
        served.append(int(request))
        return request

    options: dict[str, Any] = {"instances": clients} if model == "overlapped" else {}
    with npipe.serve(name, answer, model=model, **options) as server:
        pipes = [npipe.connect(name, timeout=20) for _ in range(clients)]
        all_have_asked.set()
        for pipe in pipes:
            assert pipe.transact(b"0", timeout=20) == b"0"  # its instance has been found
        all_have_asked.clear()
        served.clear()
        for number, pipe in enumerate(pipes):
            for _ in range(each):
                pipe.send(b"%d" % number)
        all_have_asked.set()
        for number, pipe in enumerate(pipes):
            for _ in range(each):
                assert pipe.recv(timeout=20) == b"%d" % number
            pipe.close()
        assert server.stats.answered == clients * (1 + each)
    counts = [0] * clients
    for number in served:
        counts[number] += 1
        assert max(counts) - min(counts) <= 2
