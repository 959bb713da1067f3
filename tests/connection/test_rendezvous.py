"""Client and Listener: addresses, secrets, and who comes and goes."""

from __future__ import annotations

import contextlib
import errno
import gc
import multiprocessing
import os
import resource
import signal
import threading
from multiprocessing import AuthenticationError
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.connection import Client, Listener, _rendezvous
from tests.connection.helpers import Direction, echo, forked, pattern
from tests.helpers import blocked, descriptors, started, until
from tests.steps import Steps, StoppedError, each_step, stopped_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child


def test_client_and_listener_find_each_other_by_name(name: str) -> None:
    with Listener(name, "AF_PIPE", backlog=3) as listener:
        assert listener.address == name
        assert listener.last_accepted is None
        with Client(name.rpartition("\\")[2]) as client, listener.accept() as server:
            client.send(pattern(100_000))
            assert server.recv() == pattern(100_000)
            server.send("back")
            assert client.recv() == "back"
    with pytest.raises(OSError, match="listener is closed"):
        listener.accept()
    with pytest.raises(FileNotFoundError):
        Client(name)


def test_accept_in_a_forked_child_says_so_whatever_the_parent_was_doing(name: str) -> None:
    with Listener(name) as listener:
        instances: Any = listener._instances

        def child() -> None:
            signal.alarm(20)
            with pytest.raises(OSError, match="listener is closed"):
                listener.accept()
            listener.close()

        with instances._lock, forked(child):  # as a thread of the parent's may have it just then
            pass
        with Client(name) as client, listener.accept() as server:
            client.send("x")
            assert server.recv() == "x"


def test_a_handler_that_closes_the_listener_anywhere_in_accept_does_not_wait_for_its_own_thread(name: str) -> None:
    def try_it(step: int) -> bool:
        listener = Listener(name, backlog=3)
        steps = Steps(step, listener.close)

        def accept() -> Any:
            with steps:
                return listener.accept()

        with Client(name) as client:
            accepting = started(accept)
            with contextlib.suppress(OSError), accepting.result() as server:  # closed before it had the client
                client.send("here")
                assert server.recv() == "here"
            assert not accepting.running
        listener.close()
        with pytest.raises(FileNotFoundError):
            Client(name)
        return steps.reached

    each_step(try_it)


def test_a_client_is_the_next_accepts_when_a_handler_raises_while_others_instances_are_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Listener(name, backlog=3) as listener, Client(name) as client:
        instances: Any = listener._instances

        def stop() -> None:
            raise StoppedError

        with monkeypatch.context() as patched:
            patched.setattr(instances, "_fill", stop)
            with pytest.raises(StoppedError):
                listener.accept()
        with listener.accept() as server:
            client.send("first")
            assert server.recv() == "first"
        with Client(name) as second, listener.accept() as server:
            second.send("second")
            assert server.recv() == "second"


@pytest.mark.parametrize("backlog", [1, 2])
def test_clients_are_the_next_accepts_wherever_a_handler_raises_in_accept(name: str, backlog: int) -> None:
    def say(text: str) -> Any:
        client = Client(name)
        client.send(text)
        return client

    before = descriptors()

    def try_it(step: int) -> bool:
        with Listener(name, backlog=backlog) as listener, say("first") as first, contextlib.ExitStack() as connections:
            reached, made = stopped_at(step, listener.accept)
            if made is None:
                made = started(listener.accept).result()
            connections.enter_context(made)
            assert made.recv() == "first"
            made.send("answer")
            assert first.recv() == "answer"
            heard: set[str] = set()
            coming = [started(say, text) for text in ("second", "third")]
            while len(heard) < 2:
                heard.add(connections.enter_context(started(listener.accept).result()).recv())
            assert heard == {"second", "third"}
            for client in coming:
                connections.enter_context(client.result())
        return reached

    each_step(try_it)
    assert descriptors() == before


def test_a_listener_that_is_closed_hangs_up_on_the_client_wherever_a_handler_raised_in_accept(name: str) -> None:
    before = descriptors()

    def try_it(step: int) -> bool:
        with Listener(name) as listener, Client(name) as client:
            reached, made = stopped_at(step, listener.accept)
            listener.close()
            if made is not None:
                made.close()
            with pytest.raises((EOFError, BrokenPipeError, ConnectionResetError)):
                client.recv()
        return reached

    each_step(try_it)
    assert descriptors() == before


@pytest.mark.parametrize("sleepers", [1, 2])
def test_an_accept_that_sleeps_gets_the_client_of_another_one_that_was_interrupted(
    name: str, monkeypatch: pytest.MonkeyPatch, sleepers: int
) -> None:
    with Listener(name) as listener, Client(name) as first:
        first.send("first")
        accepting: Any = []
        connection = _rendezvous._Client.connection

        def interrupted(client: Any) -> Any:
            if accepting:
                return connection(client)
            accepting.extend(blocked(listener.accept) for _ in range(sleepers))  # on the one that listens by now
            raise StoppedError

        with monkeypatch.context() as patched:
            patched.setattr(_rendezvous._Client, "connection", interrupted)
            with pytest.raises(StoppedError):
                listener.accept()
        until(lambda: not all(one.running for one in accepting))
        (got,) = [one for one in accepting if not one.running]
        with got.result() as server:
            assert server.recv() == "first"
        for one in accepting:
            if one is not got:
                with Client(name) as second, one.result() as server:
                    second.send("second")
                    assert server.recv() == "second"


@pytest.mark.parametrize("left", range(6))
def test_a_client_for_whom_there_are_no_descriptors_is_the_next_accepts(name: str, left: int) -> None:
    def child() -> None:
        with Listener(name, backlog=4) as listener, Client(name) as client:
            client.send("here")
            taken: list[int] = []
            most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, most[1]))
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            for _ in range(left):
                os.close(taken.pop())
            made = None
            with contextlib.suppress(OSError):
                made = listener.accept()
            for fd in taken:
                os.close(fd)
            with made or listener.accept() as server:
                assert server.recv() == "here"

    with forked(child):
        pass


def test_a_close_ends_an_accept_and_the_name_wherever_a_handler_raises_in_it(name: str) -> None:
    def try_it(step: int) -> bool:
        listener = Listener(name, backlog=2)
        accepting = blocked(listener.accept)
        reached, _ = stopped_at(step, listener.close)
        if listener._instances is not None and not listener._instances._closed:
            listener.close()  # the handler came before its first step
        with pytest.raises(OSError, match="listener is closed"):
            accepting.result()
        with pytest.raises(FileNotFoundError):
            Client(name)
        return reached

    each_step(try_it)


@pytest.mark.parametrize("size", [2**62 - 1, 2**62 - 1 | 2**63, 2**62, 1 << 50])
@pytest.mark.parametrize("call", ["recv", "recv_bytes", "recv_bytes_into"])
def test_a_length_for_which_there_is_no_memory_does_not_stand_there_for_ever(name: str, size: int, call: str) -> None:
    with Listener(name) as listener, Client(name) as client, listener.accept() as server:
        Direction(server).promise(size)
        arguments = (bytearray(10),) if call == "recv_bytes_into" else ()
        with pytest.raises((MemoryError, OSError)) as raised:
            getattr(server, call)(*arguments)
        assert raised.type is MemoryError or raised.value.errno == errno.EIO  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="got end of file during message"):
            server.recv()
        with pytest.raises(BrokenPipeError):
            client.send("more")
        server.send("the other way")
        assert client.recv() == "the other way"


def test_an_address_of_its_own_is_new() -> None:
    with Listener() as one, Listener() as other:
        assert one.address != other.address
        with pytest.raises(OSError):
            Listener(one.address)


def test_a_client_that_has_left_before_it_is_accepted_has_left_its_messages(name: str) -> None:
    with Listener(name, backlog=3) as listener:
        for number in range(3):
            with Client(name) as client:
                client.send(number)
        for number in range(3):
            with listener.accept() as server:
                assert server.recv() == number
                with pytest.raises(EOFError):
                    server.recv()


def test_the_secret_is_asked_for_both_ways(name: str) -> None:
    def serve() -> None:
        with Listener(name, authkey=b"secret") as listener:
            ready.set()
            with pytest.raises(AuthenticationError):
                listener.accept()
            with listener.accept() as server:
                echo(server)

    ready = threading.Event()
    server = threading.Thread(target=serve)
    server.start()
    assert ready.wait(10)
    with pytest.raises(AuthenticationError):
        Client(name, authkey=b"another")
    with Client(name, authkey=b"secret") as client:
        client.send("in")
        assert client.recv() == "in"
    server.join()


def test_a_client_of_pipes_is_passed_over(name: str) -> None:
    with Listener(name) as listener:
        npipe.connect(name).close()
        with Client(name) as client, listener.accept() as server:
            client.send("ours")
            assert server.recv() == "ours"


def test_other_families_and_addresses_are_refused(name: str) -> None:
    for family in ("AF_UNIX", "AF_INET", "AF_NOTHING"):
        with pytest.raises(ValueError, match=f"Family {family} is not recognized"):
            Listener(name, family)
        with pytest.raises(ValueError, match=f"Family {family} is not recognized"):
            Client(name, family)
    with pytest.raises(ValueError, match="unrecognized"):
        Client(("localhost", 80))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="authkey should be a byte string"):
        Client(name, authkey="text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="authkey should be a byte string"):
        Listener(name, authkey="text")  # type: ignore[arg-type]


def test_many_clients_of_other_processes_are_accepted(name: str) -> None:
    def child(number: int) -> None:
        with Client(name) as client:
            client.send(number)
            assert client.recv() == number * 2

    with Listener(name) as listener:
        with forked(child, 1), forked(child, 2), forked(child, 3), forked(child, 4):
            got = []
            for _ in range(4):
                with listener.accept() as server:
                    got.append(number := server.recv())
                    server.send(number * 2)
                    with pytest.raises(EOFError):
                        server.recv()
        assert sorted(got) == [1, 2, 3, 4]


class _Manager(BaseManager):
    pass


class _Counter:
    def __init__(self) -> None:
        self.total = 0

    def add(self, number: int) -> int:
        self.total += number
        return self.total

    def content(self, size: int) -> bytes:
        return pattern(size)


_Manager.register("Counter", _Counter)
_Manager.register("double", callable=lambda number: number * 2)


def test_a_manager_speaks_through_a_pipe(name: str) -> None:
    with _Manager(address=name, authkey=b"key", serializer="npipe") as manager:
        assert manager.address == name
        counter = manager.Counter()  # type: ignore[attr-defined]
        assert counter.add(5) == 5
        process = multiprocessing.Process(target=_add, args=(counter,))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert counter.add(0) == 12
        assert counter.content(500_000) == pattern(500_000)
        other = _Manager(address=name, authkey=b"key", serializer="npipe")
        other.connect()
        assert other.Counter().add(1) == 1  # type: ignore[attr-defined]
        wrong = _Manager(address=name, authkey=b"wrong", serializer="npipe")
        with pytest.raises(AuthenticationError):
            wrong.connect()
    assert os.getpid()


def _add(counter: Any) -> None:
    counter.add(7)


# Of the socket that it was about to close, and which is closed with the last reference to it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_that_is_interrupted_at_any_step_leaves_no_descriptor(name: str, child: Callable[..., Child]) -> None:
    script = """
    import contextlib, sys
    from npipe.connection import Listener
    listener = Listener(sys.argv[1], backlog=8)
    print("listens", flush=True)
    while True:
        with contextlib.suppress(OSError):
            listener.accept().close()
    """
    assert child(script, name).line() == "listens"
    Client(name).close()
    before = descriptors()

    def try_it(step: int) -> bool:
        reached, made = stopped_at(step, lambda: Client(name))
        if made is not None:
            made.close()
        made = None
        gc.collect()
        assert descriptors() <= before, f"step {step}"
        assert reached or step > 20
        return reached

    each_step(try_it)
