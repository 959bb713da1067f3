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
from typing import TYPE_CHECKING

import pytest

import npipe
from npipe import aio, observing
from tests.helpers import DEADLINE, held, until_held

if TYPE_CHECKING:
    from collections.abc import Callable

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


def come_and_go_in_threads(work: Callable[[], None]) -> None:
    """Call `work` in four threads that take turns as often as can be; raise what it raises."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=guarded) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    finally:
        sys.setswitchinterval(before)
    assert failures == []


def test_observations_that_begin_and_end_at_the_same_time_are_all_told_and_then_none() -> None:
    untold: list[object] = []

    def come_and_go() -> None:
        for _ in range(5000):
            events: list[npipe.Event] = []
            with npipe.observe(events.append):
                observing.tell(npipe.Event("listening", "x", is_server=True))
            untold.extend([] if events else [events])

    come_and_go_in_threads(come_and_go)
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

    come_and_go_in_threads(end_all)
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
