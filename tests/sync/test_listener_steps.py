"""A listener's calls, and signals' handlers that come between any two of their steps."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

import pytest

import npipe
from tests.helpers import DEADLINE, blocked, fails, held, started, until
from tests.steps import Steps, StoppedError, each_step, stopped_at

POSIX = pytest.mark.skipif(
    sys.platform == "win32", reason="what a call of Win32 has done cannot be noted before a handler comes"
)


def talk(server: Any, client: Any, request: bytes) -> None:
    assert server.recv(timeout=DEADLINE) == request
    server.send(b"answer to " + request)
    assert client.recv(timeout=DEADLINE) == b"answer to " + request


@POSIX
def test_a_client_is_the_next_accepts_wherever_a_handler_raises_in_accept(name: str) -> None:
    def try_it(step: int) -> bool:
        with npipe.listen(name) as listener, npipe.connect(name) as first:
            first.send(b"first")
            connecting = held(name, lambda: npipe.connect(name, timeout=DEADLINE))  # gets the instance that is made
            reached, server = stopped_at(step, lambda: listener.accept(DEADLINE))
            with server or listener.accept(DEADLINE) as server:
                talk(server, first, b"first")
            with listener.accept(DEADLINE) as server, connecting.result() as second:
                second.send(b"second")
                talk(server, second, b"second")
        return reached

    each_step(try_it)


@POSIX
def test_the_next_client_is_accepted_wherever_a_handler_raises_while_one_that_has_left_is_passed_over(
    name: str,
) -> None:
    def try_it(step: int) -> bool:
        with npipe.listen(name) as listener:
            npipe.connect(name).abort()
            connecting = held(name, lambda: npipe.connect(name, timeout=DEADLINE))
            reached, server = stopped_at(step, lambda: listener.accept(DEADLINE))
            with server or listener.accept(DEADLINE) as server, connecting.result() as client:
                client.send(b"here")
                talk(server, client, b"here")
        return reached

    each_step(try_it)


@pytest.mark.parametrize("at_the_limit", [False, True])
def test_a_close_ends_accepts_and_the_name_wherever_a_handler_raises_in_it(name: str, at_the_limit: bool) -> None:
    def try_it(step: int) -> bool:
        listener = npipe.listen(name, max_instances=1 if at_the_limit else None)
        with contextlib.ExitStack() as connected:
            if at_the_limit:
                connected.enter_context(npipe.connect(name))
                connected.enter_context(listener.accept(DEADLINE))
            accepting = blocked(listener.accept)
            reached, _ = stopped_at(step, listener.close)
            if not listener.closed:
                listener.close()  # the handler came before its first step
            with fails(109):
                accepting.result()
        with fails(2):
            npipe.connect(name, timeout=0)
        return reached

    each_step(try_it)


@POSIX
def test_the_name_stays_and_accepts_at_the_limit_go_on_wherever_a_handler_raises_in_a_pipes_close(
    name: str,
) -> None:
    def try_it(step: int) -> bool:
        with npipe.listen(name, max_instances=1) as listener, npipe.connect(name):
            server = listener.accept(DEADLINE)
            accepting = blocked(listener.accept)
            reached, _ = stopped_at(step, lambda: server.close(timeout=0))
            server.close(timeout=0)
            with npipe.connect(name, timeout=DEADLINE) as client, accepting.result() as second:
                client.send(b"second")
                talk(second, client, b"second")
        return reached

    each_step(try_it)


def test_a_handler_that_closes_a_pipe_anywhere_in_accept_does_not_wait_for_its_own_thread(name: str) -> None:
    def accept(listener: Any, steps: Steps) -> Any:
        with steps:
            return listener.accept(DEADLINE)

    def try_it(step: int) -> bool:
        with npipe.listen(name) as listener, npipe.connect(name):
            first = listener.accept(DEADLINE)  # so it is this thread that has made an instance last
            steps = Steps(step, lambda: first.close(timeout=0))
            with npipe.connect(name) as client, started(accept, listener, steps).result() as second:
                client.send(b"second")
                talk(second, client, b"second")
            with npipe.connect(name), listener.accept(DEADLINE):
                pass
        return steps.reached

    each_step(try_it)


def test_a_handler_that_accepts_while_an_instance_is_made_does_not_wait_for_its_own_thread(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as client:
        client.send(b"here")
        ends: Any = type(listener._listening.end)
        another = ends.another

        def interrupted(end: Any) -> Any:
            with fails(121):
                listener.accept(0)  # as a signal's handler would
            return another(end)

        with monkeypatch.context() as patched:
            patched.setattr(ends, "another", interrupted)
            with started(listener.accept, DEADLINE).result() as server:
                talk(server, client, b"here")
        with npipe.connect(name), listener.accept(DEADLINE):
            pass


def test_an_accept_listens_anew_when_a_replacement_has_failed_behind_the_close(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with npipe.listen(name) as listener:
        npipe.connect(name).close()
        ends: Any = type(listener._listening.end)

        def failing(end: Any, _discard: bool = False) -> Any:
            end.close_handle()
            raise npipe.PipeResourceError(1450, name, "creating an instance")

        with monkeypatch.context() as patched:
            patched.setattr(ends, "replace", failing)
            with fails(1450):
                listener.accept(DEADLINE)
        accepting = started(lambda: listener.accept(DEADLINE))
        with npipe.connect(name, timeout=DEADLINE, wait_for_server=True) as client, accepting.result() as server:
            client.send(b"here")
            talk(server, client, b"here")


def test_a_client_whose_accept_ends_behind_another_threads_instance_is_the_next_accepts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as first:
        first.send(b"first")
        ends: Any = type(listener._listening.end)
        another = ends.another

        def interrupted(end: Any) -> Any:
            listener._listening.end = another(end)  # as another thread would have made it meanwhile
            raise StoppedError

        with monkeypatch.context() as patched:
            patched.setattr(ends, "another", interrupted)
            with pytest.raises(StoppedError):
                listener.accept(DEADLINE)
        with npipe.connect(name) as second:
            second.send(b"second")
            with listener.accept(DEADLINE) as server:
                talk(server, first, b"first")
            with listener.accept(DEADLINE) as server:
                talk(server, second, b"second")


def test_an_accept_that_sleeps_at_the_limit_gets_the_client_whose_accept_was_interrupted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with npipe.listen(name, max_instances=1) as listener, npipe.connect(name) as client:
        client.send(b"here")
        accepting: Any = []

        def hand_out(end: Any, on_close: Any) -> Any:
            if accepting:
                return pipe(end, on_close)
            accepting.append(blocked(listener.accept))
            raise StoppedError

        ends: Any = type(listener._listening.end)
        pipe = ends.pipe
        with monkeypatch.context() as patched:
            patched.setattr(ends, "pipe", hand_out)
            with pytest.raises(StoppedError):
                listener.accept(DEADLINE)
            with accepting[0].result() as server:
                talk(server, client, b"here")


@pytest.mark.parametrize("sleepers", [1, 2])
def test_an_accept_that_sleeps_on_the_next_instance_gets_the_client_whose_accept_was_interrupted(
    name: str, monkeypatch: pytest.MonkeyPatch, sleepers: int
) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as first:
        first.send(b"first")
        accepting: Any = []

        def hand_out(end: Any, on_close: Any) -> Any:
            if accepting:
                return pipe(end, on_close)
            accepting.extend(blocked(listener.accept) for _ in range(sleepers))  # on the one that listens by now
            raise StoppedError

        ends: Any = type(listener._listening.end)
        pipe = ends.pipe
        with monkeypatch.context() as patched:
            patched.setattr(ends, "pipe", hand_out)
            with pytest.raises(StoppedError):
                listener.accept(DEADLINE)
            until(lambda: not all(one.running for one in accepting))
            (got,) = [one for one in accepting if not one.running]
            with got.result() as server:
                talk(server, first, b"first")
            for one in accepting:
                if one is not got:
                    with npipe.connect(name) as second, one.result() as server:
                        second.send(b"second")
                        talk(server, second, b"second")


def test_an_instance_that_another_thread_has_handed_out_is_not_what_an_interrupted_making_left(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with npipe.listen(name, max_instances=2) as listener, npipe.connect(name) as first:
        first.send(b"first")
        accepting: Any = []

        def hand_out(end: Any, on_close: Any) -> Any:
            if accepting:
                return pipe(end, on_close)
            accepting.append(blocked(listener.accept))  # on the instance that this accept has made
            raise StoppedError

        def stop(_end: Any) -> Any:
            raise StoppedError

        ends: Any = type(listener._listening.end)
        pipe = ends.pipe
        with monkeypatch.context() as patched:
            patched.setattr(ends, "pipe", hand_out)
            # As if its client had come to the other thread just before it would be called back for the one left here.
            patched.setattr(ends, "recall", lambda _end: None)
            with pytest.raises(StoppedError):
                listener.accept(DEADLINE)
            with npipe.connect(name) as second, accepting[0].result() as server:
                patched.setattr(ends, "another", stop)
                with pytest.raises(StoppedError):
                    listener.accept(DEADLINE)
                patched.undo()
                with listener.accept(DEADLINE) as others:
                    talk(others, first, b"first")
                    with fails(121):
                        listener.accept(0)
                second.send(b"second")
                talk(server, second, b"second")


def test_a_pipe_of_a_closed_listener_closes_while_another_ones_instance_is_being_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replacing, go = threading.Event(), threading.Event()
    listener = npipe.listen(name, max_instances=2)
    ends: Any = type(listener._listening.end)
    replace = ends.replace

    def held_replace(end: Any, discard: bool = False) -> Any:
        replacing.set()
        assert go.wait(4 * DEADLINE)
        return replace(end, discard)

    monkeypatch.setattr(ends, "replace", held_replace)
    with contextlib.ExitStack() as clients:
        clients.enter_context(npipe.connect(name))
        first = listener.accept(DEADLINE)
        clients.enter_context(npipe.connect(name))
        second = listener.accept(DEADLINE)
        closing = started(first.close)
        try:
            assert replacing.wait(DEADLINE)
            listener.close()
            started(second.close).result()
        finally:
            go.set()
        closing.result()
