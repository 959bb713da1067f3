"""The three servers: answers, handlers that fail, clients that leave, and a close that lets requests finish."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests.helpers import Background, blocked, fails, held, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child

    Serve = Callable[..., npipe.Server]
    Start = Callable[..., Child]


@pytest.fixture(params=["threaded", "overlapped", "completion"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """npipe.serve of one model, for 16 clients at one time or more."""
    model = request.param

    def start(name: str, handler: Callable[[bytes], Any], **options: Any) -> npipe.Server:
        if model == "overlapped":
            options.setdefault("instances", min(16, options.get("max_instances") or 16))
        return npipe.serve(name, handler, model=model, **options)

    return start


def test_server_listens_when_serve_returns(serve: Serve, name: str) -> None:
    for _ in range(50):
        with serve(name, bytes.upper) as server:
            assert npipe.call(name, b"hello", timeout=5) == b"HELLO"
            assert server.name == name
        with fails(2):
            npipe.connect(name)


def test_requests_in_turn_on_one_connection(serve: Serve, name: str) -> None:
    with serve(name, lambda request: request[::-1]), npipe.connect(name) as client:
        for size in (0, 1, 100, 65_536, 500_000, 3):
            data = bytes(range(256)) * (size // 256 + 1)
            assert client.transact(data[:size], timeout=10) == data[:size][::-1]


def test_an_answer_of_objects_is_an_error_of_the_handler(
    serve: Serve, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    objects: Any = ctypes.py_object * 1
    with serve(name, lambda _request: objects(b"x")), npipe.connect(name) as client:
        with pytest.raises(npipe.PipeClosedError):
            client.transact(b"x", timeout=5)
        assert "a pipe carries bytes and numbers" in caplog.text


def test_a_thread_for_each_client(name: str) -> None:
    meeting = threading.Barrier(8, timeout=10)

    def handler(request: bytes) -> bytes:
        meeting.wait()
        return request

    with npipe.serve(name, handler):
        clients = [Background(lambda n=n: npipe.call(name, b"%d" % n, timeout=15)) for n in range(8)]  # type: ignore[misc]
        assert [client.result(15) for client in clients] == [b"%d" % n for n in range(8)]


def test_handler_without_an_answer(serve: Serve, name: str) -> None:
    seen: list[bytes] = []

    def handler(request: bytes) -> bytes | None:
        seen.append(request)
        return b"done" if request == b"last" else None

    with serve(name, handler), npipe.connect(name) as client:
        for number in range(5):
            client.send(b"%d" % number)
        assert client.transact(b"last", timeout=5) == b"done"
    assert seen == [b"0", b"1", b"2", b"3", b"4", b"last"]


def test_a_request_on_a_byte_pipe_is_what_a_read_returns(serve: Serve, name: str) -> None:
    with serve(name, bytes.upper, mode="byte"), npipe.connect(name, mode="byte") as client:
        client.write(b"stream")
        assert client.read(6, timeout=5) == b"STREAM"


def test_an_inbound_server_hears_its_clients_and_does_not_answer(serve: Serve, name: str) -> None:
    seen: list[bytes] = []
    with serve(name, lambda request: seen.append(request), access="inbound"):
        for number in range(10):
            with npipe.connect(name, access="write") as client:
                client.send(b"%d" % number)
        until(lambda: len(seen) == 10)
    assert sorted(seen) == [b"%d" % number for number in range(10)]


def test_handler_that_raises_ends_its_client_alone(serve: Serve, name: str, caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: bytes) -> bytes:
        if request == b"bad":
            raise ValueError("no good")
        return request

    with caplog.at_level(logging.ERROR, "npipe"), serve(name, handler):
        good = npipe.connect(name)
        assert good.transact(b"a", timeout=5) == b"a"
        for _ in range(3):
            with fails(109):
                npipe.call(name, b"bad", timeout=5)
        assert good.transact(b"b", timeout=5) == b"b"
        good.close()
    assert "no good" in caplog.text


@pytest.mark.parametrize("answer", ["text", 5, [1]])
def test_handler_with_an_answer_that_is_no_bytes(
    serve: Serve, name: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "npipe"), serve(name, lambda _: answer):
        with fails(109):
            npipe.call(name, b"x", timeout=5)
        with fails(109):
            npipe.call(name, b"x", timeout=5)
    assert "TypeError" in caplog.text


def test_clients_that_leave_at_any_point(serve: Serve, name: str, caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def handler(request: bytes) -> bytes:
        if request == b"wait":
            release.wait(10)
        return bytes(200_000)

    with caplog.at_level(logging.ERROR, "npipe"), serve(name, handler) as server:
        npipe.connect(name).close()
        npipe.connect(name).abort()
        with npipe.connect(name) as client:
            client.send(b"x")  # leaves before the answer
        with npipe.connect(name) as client:
            client.send(b"wait")
        release.set()
        assert npipe.call(name, b"x", timeout=5) == bytes(200_000)
        until(lambda: not any(t.name.startswith("npipe-client") for t in threading.enumerate()))
        assert not server.wait(0)
    assert caplog.text == ""


def test_close_lets_a_request_finish(serve: Serve, name: str) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def handler(request: bytes) -> bytes:
        begun.set()
        go_on.wait(10)
        return request.upper()

    server = serve(name, handler)
    calling = Background(lambda: npipe.call(name, b"slow", timeout=20))
    assert begun.wait(10)
    closing = Background(server.close)
    until(lambda: _is_gone_or_busy(name))
    assert closing.running
    go_on.set()
    assert calling.result() == b"SLOW"
    closing.result()
    assert server.wait(0)
    with fails(2):
        npipe.connect(name)


def _is_gone_or_busy(name: str) -> bool:
    try:
        npipe.connect(name, timeout=0).close()
    except (npipe.PipeBusyError, npipe.PipeNotFoundError):
        return True
    return False


def test_close_ends_idle_clients_at_once(serve: Serve, name: str, root: Path) -> None:
    server = serve(name, bytes.upper)
    clients = [npipe.connect(name) for _ in range(10)]
    for client in clients:
        assert client.transact(b"x", timeout=5) == b"X"
    reads = [blocked(lambda client=client: client.recv(timeout=20)) for client in clients]  # type: ignore[misc]
    began = time.monotonic()
    server.close(timeout=60)
    assert time.monotonic() - began < 20
    for read in reads:
        assert read.code() in (109, 233)
    assert list(root.iterdir()) == []
    for client in clients:
        client.close()


def test_close_gives_up_on_a_handler_in_time(serve: Serve, name: str) -> None:
    begun, stuck = threading.Event(), threading.Event()

    def handler(_: bytes) -> bytes:
        begun.set()
        stuck.wait(40)
        return b""

    server = serve(name, handler)
    client = npipe.connect(name)
    client.send(b"x")
    assert begun.wait(10)
    began = time.monotonic()
    server.close(timeout=0.2)
    assert time.monotonic() - began < 10
    with pytest.raises(npipe.PipeClosedError):
        client.recv(timeout=5)
    stuck.set()
    assert server.wait(10)
    client.close()


def test_last_answer_is_read_although_the_server_closes(serve: Serve, name: str) -> None:
    for _ in range(50):
        server = serve(name, bytes.upper)
        client = npipe.connect(name)
        client.send(b"question")
        until(lambda: client.peek().available > 0)  # noqa: B023
        closing = Background(server.close)
        assert client.recv(timeout=5) == b"QUESTION"
        closing.result()
        client.close()


def test_client_that_never_reads_does_not_hold_up_the_close(serve: Serve, name: str) -> None:
    server = serve(name, lambda _: bytes(1 << 20))
    client = npipe.connect(name)
    client.send(b"x")
    until(lambda: client.peek().available > 0)
    began = time.monotonic()
    server.close(timeout=0.3)
    assert time.monotonic() - began < 4.5  # not the usual 5
    client.close()


def test_close_from_a_handler(serve: Serve, name: str) -> None:
    box: list[Any] = []

    def handler(request: bytes) -> bytes:
        box[0].close()
        return request

    box.append(serve(name, handler))
    assert npipe.call(name, b"bye", timeout=10) == b"bye"
    assert box[0].wait(10)
    with fails(2):
        npipe.connect(name)


@pytest.mark.parametrize("hook", ["on_connect", "on_disconnect"])
def test_close_from_a_hook(serve: Serve, name: str, hook: str) -> None:
    box: list[Any] = []
    closed = threading.Event()

    def close(_connection: npipe.Connection) -> None:
        box[0].close()
        closed.set()

    box.append(serve(name, bytes.upper, **{hook: close}))
    with npipe.connect(name) as client, contextlib.suppress(npipe.PipeError):
        client.transact(b"answered, or not", timeout=10)
    assert closed.wait(10)
    assert box[0].wait(10)
    assert not box[0].connections
    with fails(2):
        npipe.connect(name)


@pytest.mark.parametrize("where", ["handler", "on_connect", "on_disconnect"])
def test_what_ends_a_program_ends_no_server(
    serve: Serve, name: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    def leave(_given: object) -> bytes:
        raise SystemExit

    options = {where: leave} if where != "handler" else {}
    with serve(name, bytes.upper if options else leave, **options) as server:
        for _ in range(2):
            with npipe.connect(name) as client:
                if options:
                    assert client.transact(b"on", timeout=10) == b"ON"
                else:
                    with pytest.raises(npipe.PipeClosedError):
                        client.transact(b"on", timeout=10)
        until(lambda: len(caplog.records) == 2)
        assert not server.wait(0)
    assert {record.levelname for record in caplog.records} == {"ERROR"}


def test_a_signal_s_handler_may_ask_and_close_a_server_at_any_moment(child: Start, name: str) -> None:
    program = child(
        """
        import faulthandler, signal, sys
        import npipe

        def interrupt(frame, event, argument):  # of what the server does for stats, in the middle of everything
            signal.raise_signal(signal.SIGINT)
            return interrupt

        def ask(*_):
            told.append(server.stats)
            server.close()

        faulthandler.dump_traceback_later(20, exit=True)
        told = []
        server = npipe.serve(sys.argv[1], bytes.upper)
        with npipe.connect(sys.argv[1]) as client:
            client.transact(b"one")
            signal.signal(signal.SIGINT, ask)
            sys.settrace(interrupt)
            server.stats
            server.close()
            sys.settrace(None)
        print(len(told) > 10, {each.answered for each in told}, server.wait(10))
        """,
        name,
    )
    assert program.line() == "True {1} True"
    assert program.wait() == 0


def test_close_twice_and_from_several_threads(serve: Serve, name: str) -> None:
    for _ in range(30):
        server = serve(name, bytes.upper)
        clients = [npipe.connect(name) for _ in range(3)]
        closing = [Background(server.close) for _ in range(3)]
        for close in closing:
            close.result()
        server.close()
        assert server.wait(0)
        for client in clients:
            client.close()


def test_wait_with_a_time_out(serve: Serve, name: str) -> None:
    with serve(name, bytes.upper) as server:
        began = time.monotonic()
        assert server.wait(0.1) is False
        assert 0.09 < time.monotonic() - began < 5
        waiting = Background(server.wait)
        server.close()
        assert waiting.result() is True


def test_limit_of_instances(serve: Serve, name: str) -> None:
    with serve(name, bytes.upper, max_instances=2):
        first, second = npipe.connect(name), npipe.connect(name)
        assert first.transact(b"a", timeout=5) == b"A"
        assert second.transact(b"a", timeout=5) == b"A"
        with fails(231):
            npipe.connect(name, timeout=0)
        third = held(name, lambda: npipe.call(name, b"third", timeout=20))
        first.close()
        assert third.result() == b"THIRD"
        second.close()


def test_exclusive_names_and_wrong_models(serve: Serve, name: str) -> None:
    with serve(name, bytes.upper):
        with fails(5):
            serve(name, bytes.lower)
        with serve(name, bytes.upper, exclusive=False):
            assert npipe.call(name, b"x", timeout=5) == b"X"
    with pytest.raises(ValueError):
        wrong: Any = "parallel"
        npipe.serve(name, bytes.upper, model=wrong)
    with fails(2):
        npipe.connect(name)


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_nothing_is_left_after_many_servers_and_clients(child: Start, name: str, root: Path, model: str) -> None:
    # In a process of its own: no handle may travel there (tests/doors), so no segment is kept with a descriptor.
    worker = child(
        """
        import os, sys, threading, npipe
        from concurrent.futures import ThreadPoolExecutor
        name, model = sys.argv[1:]
        options = {"instances": 16} if model == "overlapped" else {}
        def look():
            print(len(os.listdir("/proc/self/fd")), threading.active_count(), flush=True)
        with npipe.serve(name, bytes.upper, model=model, **options):
            npipe.call(name, b"x")  # the native thread runs, and a folder may be remembered
        look()
        for _ in range(20):
            with npipe.serve(name, bytes.upper, model=model, **options), ThreadPoolExecutor(5) as clients:
                calls = [clients.submit(npipe.call, name, b"%d-x" % who, timeout=10) for who in range(5)]
                assert [call.result() for call in calls] == [b"%d-X" % who for who in range(5)]
        while sys.stdin.readline():
            look()
        """,
        name,
        model,
    )
    before = worker.line()

    def now() -> str:
        worker.say("look")
        return worker.line()

    until(lambda: now() == before)
    assert list(root.iterdir()) == []


def test_a_direction_without_requests_is_refused(name: str) -> None:
    with pytest.raises(npipe.PipeArgumentError, match='not "outbound"; to write only, use listen'):
        npipe.serve(name, bytes.upper, access="outbound")
    with fails(2):
        npipe.wait(name, timeout=0)
