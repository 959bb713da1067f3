"""Listening: names and limits, accepting in threads, closing, clients that have come and gone."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.transports import default
from tests.helpers import DEADLINE, Background, HeldTransport, NotedLock, blocked, fails, held, started, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child

    Start = Callable[..., Child]


def test_full_listen_connect_read_write(name: str) -> None:
    with npipe.listen(name) as listener:
        assert listener.name == name
        assert not listener.closed
        with npipe.connect(name) as client, listener.accept(5) as server:
            client.send(b"request")
            assert server.recv(timeout=5) == b"request"
            server.send(b"answer")
            assert client.recv(timeout=5) == b"answer"
            assert server.peer == client.peer
            assert server.info.is_server
            assert not client.info.is_server
    assert listener.closed


def test_clients_connect_before_anybody_accepts(name: str) -> None:
    with npipe.listen(name) as listener:
        client = npipe.connect(name)
        client.send(b"early")
        with listener.accept(0) as server:
            assert server.recv(timeout=0) == b"early"
        client.close()


def test_longest_waiting_client_comes_first(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        first = npipe.connect(name)
        server = listener.accept(5)
        clients = []
        for _ in range(5):  # one after the other, each when the one before it is asleep
            clients += [held(name, lambda: npipe.connect(name, timeout=20))]
        first.close()
        for waiting in clients:
            server.close()
            pipe = waiting.result()
            server = listener.accept(5)
            pipe.send(b"me")
            assert server.recv(timeout=5) == b"me"
            pipe.close()
        server.close()


# ---- Names


def test_exclusive_name_is_taken_in_this_process_and_in_others(child: Start, name: str) -> None:
    with npipe.listen(name):
        with fails(5):
            npipe.listen(name)
        with fails(5):
            npipe.listen(name.upper())
        other = child(
            """
            import sys, npipe
            try:
                npipe.listen(sys.argv[1])
            except npipe.PipeAccessError as error:
                print(error.winerror, flush=True)
            """,
            name,
        )
        assert other.line() == "5"
        shared = npipe.listen(name, exclusive=False)
        shared.close()
    npipe.listen(name).close()


def test_exclusive_listen_while_only_connected_instances_are_left(name: str) -> None:
    listener = npipe.listen(name)
    client = npipe.connect(name)
    server = listener.accept(5)
    listener.close()
    with fails(5):
        npipe.listen(name)
    server.close()
    npipe.listen(name).close()
    client.close()


def test_later_listener_with_another_direction_is_refused(name: str) -> None:
    with npipe.listen(name, access="inbound"):
        with fails(5):
            npipe.listen(name, access="outbound", exclusive=False)
        npipe.listen(name, access="inbound", exclusive=False).close()


def test_names_that_are_wrong() -> None:
    for wrong, code in (("", 3), (r"\\server\pipe\x", 123), ("C:\\foo", 123), ("\\\\.\\pipe\\" + "x" * 300, 123)):
        with fails(code):
            npipe.listen(wrong)


def test_options_that_are_wrong(name: str, root: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"mode": "lines"}, {"access": "sideways"}, {"max_instances": 0}, {"max_instances": 256},
        {"in_buffer_size": -1}, {"out_buffer_size": 1 << 32}, {"default_timeout": -1}, {"security": "nobody knows"},
        {"security": "group:there is no such group"},
    ]  # fmt: skip
    for options in wrong:
        with fails(87):
            npipe.listen(name, **options)
    assert not root.exists()


# ---- The limit


def test_accept_at_the_limit_waits_for_a_close(name: str) -> None:
    with npipe.listen(name, max_instances=2) as listener:
        clients = [npipe.connect(name) for _ in range(1)]
        servers = [listener.accept(5)]
        clients.append(npipe.connect(name))
        servers.append(listener.accept(5))
        with fails(121):
            listener.accept(0.05)
        with fails(231):
            npipe.connect(name, timeout=0)
        with fails(121):
            npipe.connect(name, timeout=0.05)
        accepting = blocked(lambda: listener.accept(20))
        connecting = held(name, lambda: npipe.connect(name, timeout=20))
        servers[0].close()
        third = connecting.result()
        with accepting.result() as server:
            third.send(b"x")
            assert server.recv(timeout=5) == b"x"
        for pipe in (*clients, third, servers[1]):
            pipe.close()


def test_name_at_the_limit_never_vanishes(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        stop = threading.Event()

        def look() -> int:
            looks = 0
            while not stop.is_set():
                npipe.wait(name, timeout=10)
                assert len(npipe.list_pipes()) == 1
                looks += 1
            return looks

        def use() -> None:
            while not stop.is_set():
                try:
                    npipe.connect(name, timeout=10).close()
                except npipe.PipeNotFoundError:
                    if not stop.is_set():
                        raise

        def serve() -> None:
            for pipe in listener:
                pipe.close()

        workers: list[Background[Any]] = [Background(look), Background(use), Background(use)]
        server = Background(serve)
        stop.wait(1.0)
        assert all(worker.running for worker in workers), [worker.code(0) for worker in workers if not worker.running]
        stop.set()
        for worker in workers:
            worker.result()
        listener.close()
        server.result()


def test_limit_holds_over_listeners_of_one_name(name: str) -> None:
    with npipe.listen(name, max_instances=2), npipe.listen(name, exclusive=False):
        with fails(231):
            npipe.listen(name, exclusive=False)


# ---- Clients that have come and gone


def test_message_of_a_client_that_has_left_is_delivered(name: str) -> None:
    with npipe.listen(name) as listener:
        for number in range(20):
            with npipe.connect(name) as client:
                client.send(b"fire %d" % number)
            with listener.accept(5) as server:
                assert server.recv(timeout=5) == b"fire %d" % number
                with fails(109):
                    server.recv(timeout=5)


@pytest.mark.parametrize("mode", ["message", "byte"])
@pytest.mark.parametrize(("access", "opens"), [("duplex", "duplex"), ("inbound", "write"), ("outbound", "read")])
def test_client_that_has_left_nothing_is_passed_over(name: str, mode: Any, access: Any, opens: Any) -> None:
    with npipe.listen(name, mode=mode, access=access) as listener:
        for _ in range(5):
            npipe.connect(name, mode="byte", access=opens).close()
            with fails(121):
                listener.accept(0.02)
        client = npipe.connect(name, mode="byte", access=opens)
        with listener.accept(5) as server:
            assert server.peer.pid == client.peer.pid
        client.close()


def test_client_that_has_left_an_empty_message_is_handed_out(name: str) -> None:
    with npipe.listen(name) as listener:
        with npipe.connect(name) as client:
            client.send(b"")
        with listener.accept(5) as server:
            assert server.recv(timeout=5) == b""


def test_client_that_aborted_is_passed_over(name: str) -> None:
    with npipe.listen(name) as listener:
        client = npipe.connect(name)
        client.send(b"never mind")
        client.abort()
        with fails(121):
            listener.accept(0.05)


def test_client_of_a_server_that_closes_at_once_gets_its_pipe(name: str) -> None:
    with npipe.listen(name) as listener:

        def hang_up() -> None:
            for pipe in listener:
                pipe.close()

        servers = [Background(hang_up) for _ in range(2)]
        for _ in range(3000):
            client = npipe.connect(name, timeout=10)
            with fails(109):
                client.recv(timeout=10)
            client.close()
        listener.close()
        for server in servers:
            server.result()


# ---- Threads


def test_accept_from_several_threads(name: str) -> None:
    total = 600
    with npipe.listen(name) as listener:
        seen: list[bytes] = []
        lock = threading.Lock()

        def serve() -> None:
            for pipe in listener:
                with pipe:
                    message = pipe.recv(timeout=10)
                    with lock:
                        seen.append(message)
                    pipe.send(message)
                    pipe.flush(timeout=10)

        def ask(begin: int) -> None:
            for number in range(begin, begin + total // 4):
                assert npipe.call(name, b"%d" % number, timeout=20) == b"%d" % number

        servers = [Background(serve) for _ in range(6)]
        clients = [Background(lambda begin=begin: ask(begin)) for begin in range(0, total, total // 4)]  # type: ignore[misc]
        for client in clients:
            client.result(30)
        assert sorted(seen, key=int) == [b"%d" % number for number in range(total)]
        listener.close()
        for server in servers:
            server.result()


class LateToLearn:
    """An instance whose client a second thread is told of when `told` is set."""

    def __init__(self, instance: Any) -> None:
        self._instance = instance
        self._first = threading.Lock()
        self.told = threading.Event()

    def connect(self, timeout: float | None, recalls: Any = None) -> None:
        self._instance.connect(timeout, recalls)
        if not self._first.acquire(blocking=False):
            assert self.told.wait(20)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)


def test_an_accept_that_ends_with_the_listener_leaves_the_pipe_that_another_one_got(name: str) -> None:
    with npipe.listen(name) as listener:
        instance = LateToLearn(listener._listening.end)
        listener._listening.end = instance  # type: ignore[assignment]
        accepts = [blocked(listener.accept) for _ in range(2)]
        with npipe.connect(name) as client:
            until(lambda: sum(accept.running for accept in accepts) == 1)
            listener.close()
            instance.told.set()
            late, first = sorted(accepts, key=lambda accept: not accept.running)
            with pytest.raises(npipe.PipeClosedError):
                late.result()
            with first.result() as pipe:
                client.send(b"request")
                assert pipe.recv(timeout=10) == b"request"
                pipe.send(b"answer")
                assert client.recv(timeout=10) == b"answer"


def test_a_client_of_an_instance_that_is_just_being_made_is_not_lost_to_a_pipes_close(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = HeldTransport()
    monkeypatch.setattr("npipe.listener.select", lambda _: transport)
    with npipe.listen(name) as listener, npipe.connect(name):
        first = listener.accept(DEADLINE)
        place = listener._listening
        place._maker = maker = NotedLock()  # type: ignore[assignment]
        spare, place.end = place.end, None  # as if it could not be made when the client came
        assert spare is not None
        spare.close_handle()
        accepting = started(listener.accept)
        assert transport.created.wait(DEADLINE)
        with npipe.connect(name, timeout=DEADLINE) as client:  # it comes to the instance that is being made
            client.send(b"here")
            closing = started(first.close)  # leaves its place to a new instance, if none listens
            until(lambda: not closing.running or maker.wanted.is_set())
            transport.go.set()
            with accepting.result() as server:
                assert server.recv(timeout=DEADLINE) == b"here"
        closing.result()


def test_a_client_whose_accept_a_signal_ends_is_the_next_accept_s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedError(BaseException):
        pass

    with npipe.listen(name) as listener, npipe.connect(name) as client:
        client.send(b"here")
        ends: Any = type(listener._listening.end)

        def interrupted(_end: Any) -> Any:
            raise StoppedError

        with monkeypatch.context() as patched:
            patched.setattr(ends, "another", interrupted)
            with pytest.raises(StoppedError):
                listener.accept(DEADLINE)
        with listener.accept(DEADLINE) as server:
            assert server.recv(timeout=DEADLINE) == b"here"
            with npipe.connect(name), listener.accept(DEADLINE):
                pass


@pytest.mark.skipif(sys.platform == "win32", reason="timers that send signals: POSIX")
def test_signals_whose_handlers_raise_in_accept_leave_the_listener_whole(name: str) -> None:
    class StoppedError(BaseException):
        pass

    ended = threading.Event()
    rng = random.Random(3)

    def connect() -> None:
        while not ended.is_set():
            with contextlib.suppress(npipe.PipeError), npipe.connect(name, timeout=0.1) as client:
                client.send(b"here")
                client.recv(timeout=0.2)

    def stop(*_: object) -> None:
        raise StoppedError

    before = signal.signal(signal.SIGALRM, stop)
    with npipe.listen(name) as listener:
        connecting = started(connect)
        try:
            stopped = 0
            for _ in range(300):
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00002, 0.0005))
                    while True:
                        with listener.accept(DEADLINE):
                            pass
                except StoppedError:
                    stopped += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            assert stopped == 300
        finally:
            signal.signal(signal.SIGALRM, before)
            ended.set()
        connecting.result()

        def send_whole() -> None:
            with npipe.connect(name, timeout=DEADLINE) as client:
                client.send(b"whole")

        sending = started(send_whole)
        while True:  # a client that an accept had taken when it was stopped may be there
            with listener.accept(DEADLINE) as server, contextlib.suppress(npipe.PipeError):
                if server.recv(timeout=DEADLINE) == b"whole":
                    break
        sending.result()


def test_a_handler_that_closes_a_pipe_while_an_instance_is_made_does_not_wait_for_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with npipe.listen(name) as listener, npipe.connect(name):
        first = listener.accept(DEADLINE)
        ends: Any = type(listener._listening.end)
        another = ends.another

        def interrupted(end: Any) -> Any:
            first.close()  # as a signal's handler would
            return another(end)

        with monkeypatch.context() as patched:
            patched.setattr(ends, "another", interrupted)
            with npipe.connect(name) as client, started(listener.accept).result() as second:
                client.send(b"second")
                assert second.recv(timeout=DEADLINE) == b"second"
        with npipe.connect(name), listener.accept(DEADLINE):
            pass


def test_the_name_stays_when_no_instance_can_take_the_place_of_one_whose_client_has_left(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with npipe.listen(name) as listener:
        npipe.connect(name).close()
        ends: Any = type(listener._listening.end)

        def failing(_end: Any, _discard: bool = False) -> Any:
            raise npipe.PipeResourceError(1450, name, "creating an instance")

        with monkeypatch.context() as patched:
            patched.setattr(ends, "replace", failing)
            with fails(1450):
                listener.accept(DEADLINE)
            with fails(231):
                npipe.connect(name, timeout=0)
            if sys.platform != "win32":  # Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE (SEMANTICS §12, 4)
                with fails(5):
                    npipe.listen(name)
        connecting = started(lambda: npipe.connect(name, timeout=DEADLINE))
        with listener.accept(DEADLINE) as server, connecting.result() as client:
            client.send(b"here")
            assert server.recv(timeout=DEADLINE) == b"here"


def test_several_accepts_try_a_locked_folder_no_more_often_than_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    class Locked:
        """This machine's transport, when another process has the folder's lock."""

        def __getattr__(self, attribute: str) -> Any:
            return getattr(default(), attribute)

        def create(self, *arguments: Any, first_instance: bool, **options: Any) -> Any:
            if first_instance:
                return default().create(*arguments, first_instance=True, **options)
            tries.append(arguments)
            raise npipe.PipeTimeoutError(121, name, "creating an instance")

    monkeypatch.setattr("npipe.listener.select", lambda _: Locked())
    with npipe.listen(name) as listener:
        spare, listener._listening.end = listener._listening.end, None
        assert spare is not None
        spare.close_handle()
        accepts = [started(lambda: listener.accept(0.5)) for _ in range(3)]
        for accept in accepts:
            with fails(121):
                accept.result()
    assert len(tries) < 3000  # a pause of 10 ms for each; without one it would be some 50,000


def test_a_close_does_not_wait_for_an_instance_that_is_being_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replacing, go = threading.Event(), threading.Event()
    listener = npipe.listen(name, max_instances=1)
    ends: Any = type(listener._listening.end)
    replace = ends.replace

    def held_replace(end: Any, discard: bool = False) -> Any:
        replacing.set()
        assert go.wait(2 * DEADLINE)
        return replace(end, discard)

    monkeypatch.setattr(ends, "replace", held_replace)
    with npipe.connect(name):
        server = listener.accept(DEADLINE)
        closing = started(server.close)
        assert replacing.wait(DEADLINE)
        started(listener.close).result()
        with fails(109):
            listener.accept(0)
        go.set()
        closing.result()
        with fails(2):  # what was made is closed
            npipe.connect(name, timeout=0)


def test_one_client_wakes_one_of_several_accepts(name: str) -> None:
    with npipe.listen(name) as listener:
        accepts = [blocked(lambda: listener.accept(20)) for _ in range(5)]
        for left in range(5, 0, -1):
            client = npipe.connect(name)
            until(lambda left=left: sum(accept.running for accept in accepts) == left - 1)  # type: ignore[misc]
            client.close()
        for accept in accepts:
            accept.result().close()


def test_accept_in_threads_survives_pipes_that_are_dropped_at_once(name: str) -> None:
    """What the others wait on must not be freed with the pipe that one of them got."""
    with npipe.listen(name) as listener:

        def serve() -> None:
            for _ in listener:
                pass

        servers = [Background(serve) for _ in range(8)]
        for _ in range(2000):
            npipe.connect(name, timeout=10).close()
        listener.close()
        for server in servers:
            server.result()


# ---- Closing


def test_close_aborts_a_blocked_accept(name: str) -> None:
    for _ in range(500):
        listener = npipe.listen(name)
        accept = Background(lambda listener=listener: listener.accept(20))  # type: ignore[misc]
        listener.close()
        assert accept.code() == 109


def test_close_ends_accepts_that_are_asleep(name: str) -> None:
    for limit in (None, 1):
        listener = npipe.listen(name, max_instances=limit)
        held = None
        if limit:
            held = npipe.connect(name), listener.accept(5)
        accepts = [blocked(lambda: listener.accept(None)) for _ in range(3)]  # noqa: B023
        listener.close()
        for accept in accepts:
            assert accept.code() == 109
        for pipe in held or ():
            pipe.close()


def test_close_ends_connects_that_wait(name: str) -> None:
    listener = npipe.listen(name, max_instances=1)
    client = npipe.connect(name)
    server = listener.accept(5)
    waits: list[Background[Any]] = [
        held(name, lambda: npipe.connect(name, timeout=None)),
        held(name, lambda: npipe.wait(name)),
    ]
    listener.close()  # the instance lives on in the pipe
    assert all(wait.running for wait in waits)
    server.close()
    for wait in waits:
        assert wait.code() == 2
    client.close()


def test_accept_after_close_fails(name: str) -> None:
    listener = npipe.listen(name)
    listener.close()
    listener.close()
    with fails(109):
        listener.accept(5)
    assert list(listener) == []
    with fails(2):
        npipe.connect(name)


def test_pipes_outlive_their_listener(name: str, root: Path) -> None:
    listener = npipe.listen(name)
    client = npipe.connect(name)
    server = listener.accept(5)
    listener.close()
    with fails(231):
        npipe.connect(name, timeout=0)  # it exists, and nobody will listen
    client.send(b"still")
    assert server.recv(timeout=5) == b"still"
    server.close()
    with fails(2):
        npipe.connect(name)
    assert list(root.iterdir()) == []
    client.close()


def test_closing_the_listener_with_a_client_that_was_not_accepted(name: str) -> None:
    listener = npipe.listen(name)
    client = npipe.connect(name)
    client.send(b"x")
    listener.close()
    with fails(109):
        client.recv(timeout=5)
    with fails(232):
        client.send(b"y")
    client.close()


def test_iteration_ends_with_close_in_the_loop(name: str) -> None:
    listener = npipe.listen(name)
    client = npipe.connect(name)
    count = 0
    for pipe in listener:
        count += 1
        pipe.close()
        listener.close()
    assert count == 1
    client.close()


def test_abandoned_listener_leaves_nothing(name: str, root: Path) -> None:
    import gc

    listener = npipe.listen(name)
    assert listener.name
    del listener
    gc.collect()
    assert list(root.iterdir()) == []


def test_listen_connect_race(name: str) -> None:
    """Clients that connect while listeners come and go: a pipe, or a clear no, and never anything else."""
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            with npipe.listen(name) as listener:
                with contextlib.suppress(npipe.PipeTimeoutError):
                    listener.accept(0.005).close()

    def connect() -> int:
        connected = 0
        while not stop.is_set():
            try:
                npipe.connect(name, timeout=5).close()
                connected += 1
            except (npipe.PipeNotFoundError, npipe.PipeClosedError):
                pass
        return connected

    server = Background(listen)
    clients = [Background(connect) for _ in range(3)]
    stop.wait(1.5)
    stop.set()
    server.result()
    assert sum(client.result() for client in clients) > 0
