"""npipe.observe and logging: what happens to connections is told once, to whoever wants to know, and to nobody else."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import npipe
import npipe.options
from npipe import aio, observing
from tests.helpers import DEADLINE, held, in_four_threads, started, until_held

Told = list[tuple[str, bool | None]]


def kinds(events: list[npipe.Event], name: str) -> Told:
    assert {event.name for event in events} <= {name}
    return [(event.kind, event.is_server) for event in events]


def test_a_connection_is_told_from_its_beginning_to_its_end(name: str) -> None:
    events: list[npipe.Event] = []
    with npipe.observe(events.append) as observation:
        with npipe.listen(name) as listener, npipe.connect(name) as client:
            with listener.accept(DEADLINE) as server:
                client.send(b"abc")
                server.recv()
                server.send(b"defgh")
                client.recv()
        observation.close()
        npipe.listen(name).close()  # nobody is told of this
    assert kinds(events, name) == [
        ("listening", True),
        ("opened", False),
        ("opened", True),
        ("closed", True),
        ("closed", False),
        ("stopped", True),
    ]
    opened, closed = events[1], events[3:5]
    assert opened.seconds is not None
    assert 0 <= opened.seconds < DEADLINE
    if sys.platform != "win32":
        assert [(event.stats and (event.stats.bytes_received, event.stats.bytes_sent)) for event in closed] == [
            (3, 5),
            (5, 3),
        ]


def test_a_refusal_is_told_with_its_reason_and_its_wait(name: str) -> None:
    events: list[npipe.Event] = []
    with npipe.observe(events.append):
        with pytest.raises(npipe.PipeNotFoundError) as caught:
            npipe.connect(name)
        with pytest.raises(npipe.PipeTimeoutError):
            npipe.connect(name, wait_for_server=True, timeout=0.05)
    assert kinds(events, name) == [("failed", False), ("waited", False), ("failed", False)]
    assert events[0].error is caught.value
    assert events[2].seconds is not None
    assert events[2].seconds >= 0.05


def test_an_event_loop_s_connections_are_told_too(name: str) -> None:
    events: list[npipe.Event] = []

    async def main() -> None:
        async with aio.listen(name) as listener:
            client = await aio.connect(name)
            server = await listener.accept()
            await client.close()
            server.abort()
        with pytest.raises(npipe.PipeNotFoundError):
            await aio.connect(name)

    with npipe.observe(events.append):
        asyncio.run(main())
    told = kinds(events, name)
    assert sorted(told[1:3]) == [("opened", False), ("opened", True)]
    assert [told[0], *told[3:]] == [
        ("listening", True),
        ("closed", False),
        ("closed", True),
        ("stopped", True),
        ("failed", False),
    ]


def test_an_observer_that_fails_changes_nothing(name: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_event: npipe.Event) -> None:
        raise ZeroDivisionError

    events: list[npipe.Event] = []
    with npipe.observe(fail), npipe.observe(events.append), npipe.listen(name):
        npipe.connect(name).close()
    assert len(events) == 4
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 4
    assert {record.name for record in caplog.records} == {"npipe"}


def test_logging_has_levels(name: str, caplog: pytest.LogCaptureFixture) -> None:
    def exchange() -> None:
        with npipe.listen(name) as listener, npipe.connect(name), listener.accept(DEADLINE):
            pass
        with pytest.raises(npipe.PipeNotFoundError):
            npipe.connect(name)

    exchange()
    assert caplog.records == []
    with caplog.at_level(logging.INFO, "npipe"):
        exchange()
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "npipe"):
        exchange()
    assert sorted(record.levelname for record in caplog.records) == ["DEBUG"] * 5 + ["INFO"] * 2
    assert all(name.rpartition("\\")[2] in record.getMessage() for record in caplog.records)


def test_an_import_brings_no_logging_along() -> None:
    script = "import sys, npipe; assert 'logging' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE)


def test_two_observations_of_one_function_end_one_by_one(name: str) -> None:
    events: list[npipe.Event] = []
    first, second = npipe.observe(events.append), npipe.observe(events.append)
    first.close()
    first.close()
    with npipe.listen(name):
        pass
    second.close()
    with npipe.listen(name):
        pass
    assert kinds(events, name) == [("listening", True), ("stopped", True)]


def test_observations_that_begin_and_end_at_the_same_time_are_all_told_and_then_none() -> None:
    untold: list[object] = []

    def come_and_go() -> None:
        for _ in range(5000):
            events: list[npipe.Event] = []
            with npipe.observe(events.append):
                observing.tell(npipe.Event("listening", "x", is_server=True))
            untold.extend([] if events else [events])

    in_four_threads(come_and_go)
    assert untold == []
    assert observing._observers == ()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_an_observation_that_a_signal_s_handler_begins_stays_until_it_is_ended() -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    begun: list[npipe.Observation] = []

    def handler(*_: object) -> None:
        begun.append(npipe.observe(str))

    before = signal.signal(signal.SIGALRM, handler)
    end = time.monotonic() + DEADLINE
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    try:
        while len(begun) < 300 and time.monotonic() < end:
            npipe.observe(repr).close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(begun) >= 300
    assert observing._observers == (str,) * len(begun)
    for observation in begun:
        observation.close()
    assert observing._observers == ()


def test_an_observation_that_several_threads_end_ends_once() -> None:
    observations = [npipe.observe(print) for _ in range(2000)]

    def end_all() -> None:
        for observation in observations:
            observation.close()

    in_four_threads(end_all)
    assert observing._observers == ()


def test_a_client_that_had_to_wait_is_told_with_how_long_and_how_it_ended(name: str) -> None:
    events: list[npipe.Event] = []
    with npipe.listen(name, max_instances=1) as listener, npipe.observe(events.append):
        with npipe.connect(name), listener.accept(DEADLINE) as server:  # nobody waits for this one
            with pytest.raises(npipe.PipeTimeoutError) as caught:
                npipe.connect(name, timeout=0.05)
            with pytest.raises(npipe.PipeTimeoutError) as caught_too:
                npipe.wait(name, timeout=0.05)
            with pytest.raises(npipe.PipeBusyError):
                npipe.connect(name, timeout=0)  # it did not wait
            waiting = held(name, lambda: npipe.connect(name, timeout=DEADLINE))
            server.close()
            with listener.accept(DEADLINE):
                waiting.result().close()
        if sys.platform != "win32":  # there the next instance is made a moment after the last one has gone
            npipe.wait(name, timeout=DEADLINE)  # nobody waits
    told = [event for event in events if event.kind in ("waited", "failed")]
    assert [(event.kind, event.outcome, event.error) for event in told[:4]] == [
        ("waited", "failed", caught.value),
        ("failed", None, caught.value),
        ("waited", "failed", caught_too.value),
        ("failed", None, told[3].error),
    ]
    assert isinstance(told[3].error, npipe.PipeBusyError)
    assert all(event.seconds is not None and 0.03 <= event.seconds < DEADLINE for event in (told[0], told[2]))
    assert [(event.kind, event.outcome, event.error) for event in told[4:]] == [("waited", "ready", None)]
    assert all(event.is_server is False for event in told)


def test_a_wait_for_a_server_is_told_too(name: str) -> None:
    events: list[npipe.Event] = []
    with npipe.observe(events.append):
        with pytest.raises(npipe.PipeTimeoutError):
            npipe.connect(name, wait_for_server=True, timeout=0.1)
        with pytest.raises(npipe.PipeNotFoundError):
            npipe.wait(name, timeout=DEADLINE)  # known at once
        with pytest.raises(npipe.PipeTimeoutError):
            npipe.wait(name, create=True, timeout=0.1)
    assert [(event.kind, event.outcome) for event in events] == [
        ("waited", "failed"),
        ("failed", None),
        ("waited", "failed"),
    ]
    assert all(event.seconds is not None and 0.05 < event.seconds < DEADLINE for event in events)


def test_an_event_loop_s_waits_are_told_too_and_those_that_are_cancelled(name: str) -> None:
    events: list[npipe.Event] = []

    async def main() -> None:
        async with aio.listen(name, max_instances=1) as listener:
            client = await aio.connect(name)
            server = await listener.accept()
            with pytest.raises(npipe.PipeTimeoutError):
                await aio.connect(name, timeout=0.05)
            with pytest.raises(npipe.PipeTimeoutError):
                await aio.wait(name, timeout=0.05)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await aio.connect(name)
            later = asyncio.create_task(aio.connect(name))
            if sys.platform == "win32":
                await asyncio.sleep(0)  # its first step finds all instances busy
            else:
                await asyncio.to_thread(until_held, name, os.getpid())
            await client.close()
            await server.close()
            second = await listener.accept()
            await (await later).close()
            await second.close()
            if sys.platform != "win32":  # there the next instance is made a moment after the last one has gone
                await aio.wait(name)  # nobody waits

    with npipe.observe(events.append):
        asyncio.run(main())
    told = [event for event in events if event.kind in ("waited", "failed")]
    assert [(event.kind, event.outcome) for event in told] == [
        ("waited", "failed"),
        ("failed", None),
        ("waited", "failed"),
        ("waited", "cancelled"),
        ("waited", "ready"),
    ]
    assert [type(event.error) for event in told] == [npipe.PipeTimeoutError] * 3 + [type(None)] * 2
    assert all(event.seconds is not None and 0 <= event.seconds < DEADLINE for event in told)
    assert all(event.seconds is not None and event.seconds >= 0.03 for event in told[:4] if event.error is not None)


# ---- npipe.serve and npipe.aio.serve

MODELS = ("threaded", "overlapped", "completion")
PATIENCE = 4 * DEADLINE  # seconds, of several threads and processors that have other work


def server_kinds(events: list[npipe.Event], name: str) -> list[str]:
    """What the server's side was told of, in its order."""
    assert {event.name for event in events} <= {name}
    return [event.kind for event in events if event.is_server]


@pytest.mark.parametrize("model", MODELS)
def test_a_server_is_told_as_a_listener_is(name: str, model: npipe.options.Model) -> None:
    events: list[npipe.Event] = []
    left = threading.Event()
    with (
        npipe.observe(events.append),
        npipe.serve(name, bytes.upper, model=model, on_disconnect=lambda _: left.set()),
    ):
        with npipe.connect(name) as client:
            assert [client.transact(data) for data in (b"abc", b"", b"defgh")] == [b"ABC", b"", b"DEFGH"]
        assert left.wait(PATIENCE)
    assert server_kinds(events, name) == ["listening", "opened", "closed", "stopped"]
    if sys.platform != "win32":
        told = next(event for event in events if event.is_server and event.kind == "closed").stats
        assert told is not None
        assert (told.bytes_received, told.messages_received, told.unread) == (8, 3, 0)
        assert (told.bytes_sent, told.messages_sent, told.unread_by_peer) == (8, 3, 0)


@pytest.mark.parametrize("model", MODELS)
def test_clients_ends_are_told_before_their_server_s_when_it_closes(name: str, model: npipe.options.Model) -> None:
    events: list[npipe.Event] = []
    with npipe.observe(events.append):
        with npipe.serve(name, bytes.upper, model=model):
            clients = [npipe.connect(name) for _ in range(3)]
            for client in clients:
                client.transact(b"abc")
        assert server_kinds(events, name) == ["listening", *["opened"] * 3, *["closed"] * 3, "stopped"]
        for client in clients:
            client.close()
    if sys.platform != "win32":
        closed = [event.stats for event in events if event.is_server and event.kind == "closed"]
        assert [(one and one.bytes_received, one and one.bytes_sent) for one in closed] == [(3, 3)] * 3


@pytest.mark.parametrize("model", MODELS)
def test_an_instance_that_is_used_again_is_told_anew(name: str, model: npipe.options.Model) -> None:
    events: list[npipe.Event] = []
    left = threading.Semaphore(0)
    options: dict[str, int] = {"instances": 1} if model == "overlapped" else {}
    with (
        npipe.observe(events.append),
        npipe.serve(
            name,
            bytes,
            model=model,
            max_instances=1,
            on_disconnect=lambda _: left.release(),
            **options,  # type: ignore[arg-type]
        ),
    ):
        for size in (5, 0, 70):
            with npipe.connect(name, timeout=PATIENCE) as client:
                client.transact(bytes(size))
            assert left.acquire(timeout=PATIENCE)
    assert server_kinds(events, name) == ["listening", *["opened", "closed"] * 3, "stopped"]
    if sys.platform != "win32":
        closed = [event.stats for event in events if event.is_server and event.kind == "closed"]
        assert [(one and one.bytes_received, one and one.bytes_sent) for one in closed] == [(5, 5), (0, 0), (70, 70)]


@pytest.mark.parametrize("model", MODELS)
def test_a_handler_that_does_not_return_is_told_once_and_before_the_end(name: str, model: npipe.options.Model) -> None:
    events: list[npipe.Event] = []
    begun, goes_on, left = threading.Event(), threading.Event(), threading.Event()

    def handler(_request: bytes) -> bytes:
        begun.set()
        assert goes_on.wait(PATIENCE)
        return b"late"

    with npipe.observe(events.append):
        server = npipe.serve(name, handler, model=model, on_disconnect=lambda _: left.set())
        with npipe.connect(name) as client:
            client.send(b"request")
            assert begun.wait(PATIENCE)
            server.close(timeout=0.05)
            wanted = ["listening", "opened", "closed", "stopped"]
            assert server_kinds(events, name) == wanted
            goes_on.set()
            assert server.wait(PATIENCE)
            assert model == "overlapped" or left.wait(PATIENCE)  # that one tells of nobody any more
        server.close()
    assert server_kinds(events, name) == wanted


@pytest.mark.parametrize("model", MODELS)
def test_a_server_that_its_handler_closes_is_told_after_its_client(name: str, model: npipe.options.Model) -> None:
    events: list[npipe.Event] = []
    stopped = threading.Event()

    def observer(event: npipe.Event) -> None:
        events.append(event)
        if event.kind == "stopped":
            stopped.set()

    def handler(_request: bytes) -> bytes:
        server.close()
        return b"bye"

    with npipe.observe(observer):
        server = npipe.serve(name, handler, model=model)
        with npipe.connect(name) as client:
            assert client.transact(b"end") == b"bye"
            assert stopped.wait(PATIENCE)
        server.close()
    assert server_kinds(events, name) == ["listening", "opened", "closed", "stopped"]


@pytest.mark.parametrize("model", MODELS)
def test_an_observer_may_close_the_server_that_gives_a_handler_up(name: str, model: npipe.options.Model) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    told: list[str] = []

    def observer(event: npipe.Event) -> None:
        if event.is_server:
            told.append(event.kind)
            if event.kind in ("closed", "stopped"):
                closing = threading.Thread(target=server.close, kwargs={"timeout": 0}, daemon=True)
                closing.start()
                closing.join(PATIENCE)
                told.append("waits" if closing.is_alive() else "done")

    def handler(_request: bytes) -> bytes:
        begun.set()
        assert goes_on.wait(PATIENCE)
        return b"late"

    with npipe.serve(name, handler, model=model) as server, npipe.connect(name) as client:
        client.send(b"request")
        assert begun.wait(PATIENCE)
        with npipe.observe(observer):
            server.close(timeout=0.05)
        assert told == ["closed", "done", "stopped", "done"]
        goes_on.set()
        assert server.wait(PATIENCE)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["opened", "closed", "stopped"])
def test_an_observer_that_would_end_the_program_ends_no_server(
    name: str, model: npipe.options.Model, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[npipe.Event] = []
    left = threading.Event()

    def leave(event: npipe.Event) -> None:
        if event.kind == kind and event.is_server:
            raise SystemExit

    with npipe.observe(leave), npipe.observe(events.append):
        with npipe.serve(name, bytes.upper, model=model, on_disconnect=lambda _: left.set()):
            with npipe.connect(name) as client:
                assert client.transact(b"on", timeout=PATIENCE) == b"ON"
            assert left.wait(PATIENCE)
    assert server_kinds(events, name) == ["listening", "opened", "closed", "stopped"]
    assert [record.getMessage() for record in caplog.records] == ["an observer of pipes failed"]


@pytest.mark.parametrize("model", MODELS)
def test_a_server_that_cannot_begin_is_told_of_not_at_all(name: str, model: npipe.options.Model) -> None:
    events: list[npipe.Event] = []
    with npipe.listen(name, max_instances=1), npipe.observe(events.append):
        with pytest.raises(npipe.PipeError):
            npipe.serve(name, bytes, model=model)
    assert events == []


@pytest.mark.parametrize("model", MODELS)
def test_many_clients_of_a_server_are_told_once_each_and_it_last(name: str, model: npipe.options.Model) -> None:
    events: list[npipe.Event] = []

    def call() -> None:
        for _ in range(10):
            with npipe.connect(name, timeout=PATIENCE) as client:
                client.transact(b"x")

    with npipe.observe(events.append), npipe.serve(name, bytes, model=model):
        callers = [started(call) for _ in range(4)]
        for caller in callers:
            caller.result(PATIENCE)
    told = server_kinds(events, name)
    assert (told[0], told[-1]) == ("listening", "stopped")
    assert {kind: told.count(kind) for kind in told} == {"listening": 1, "opened": 40, "closed": 40, "stopped": 1}


def test_a_server_on_an_event_loop_is_told_after_its_clients(name: str) -> None:
    events: list[npipe.Event] = []

    async def main() -> None:
        async with await aio.serve(name, bytes.upper) as server:
            clients = [await aio.connect(name) for _ in range(3)]
            for client in clients:
                await client.send(b"abc")
                assert await client.recv() == b"ABC"
            await clients[0].close()
            limit = asyncio.get_running_loop().time() + PATIENCE
            while server.clients == 3:
                assert asyncio.get_running_loop().time() < limit
                await asyncio.sleep(0)
        assert server_kinds(events, name) == ["listening", *["opened"] * 3, *["closed"] * 3, "stopped"]
        await server.close()
        for client in clients[1:]:
            await client.close()

    with npipe.observe(events.append):
        asyncio.run(main())
    assert server_kinds(events, name) == ["listening", *["opened"] * 3, *["closed"] * 3, "stopped"]


def test_a_server_on_an_event_loop_whose_close_is_cancelled_is_told(name: str) -> None:
    events: list[npipe.Event] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def handler(_request: bytes) -> bytes:
            begun.set()
            await asyncio.Event().wait()
            return b""

        server = await aio.serve(name, handler)
        client = await aio.connect(name)
        await client.send(b"abc")
        await begun.wait()
        closing = asyncio.create_task(server.close(timeout=None))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert server_kinds(events, name) == ["listening", "opened", "closed", "stopped"]
        await client.close()

    with npipe.observe(events.append):
        asyncio.run(main())


@pytest.mark.parametrize("model", MODELS)
def test_logging_tells_of_a_server_too(name: str, model: npipe.options.Model, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "npipe"):
        npipe.serve(name, bytes, model=model).close()
    assert [record.getMessage() for record in caplog.records] == [
        f"listening on {name!r}",
        f"no longer listening on {name!r}",
    ]
