"""Events, semaphores, mutexes, timers of npipe.win32, and waiting for them and for operations together."""

from __future__ import annotations

import datetime as dt
import threading
import time
from typing import TYPE_CHECKING

import pytest

from npipe.win32 import completion, win32api, win32event, win32file, win32pipe
from tests import helpers as h
from tests.win32 import helpers as w

if TYPE_CHECKING:
    from collections.abc import Callable

wait_one, wait_many = win32event.WaitForSingleObject, win32event.WaitForMultipleObjects
ABANDONED = win32event.WAIT_ABANDONED


def in_a_thread(call: object) -> None:
    thread = threading.Thread(target=call)  # type: ignore[arg-type]
    thread.start()
    thread.join(h.DEADLINE)
    assert not thread.is_alive()


# --- Events


def test_a_manual_event_stays_set_and_an_automatic_one_lets_one_wait_through() -> None:
    manual, automatic = w.event(initial=True), w.event(manual=False, initial=True)
    assert [w.signalled(manual), w.signalled(manual)] == [True, True]
    assert [w.signalled(automatic), w.signalled(automatic)] == [True, False]
    win32event.ResetEvent(manual)
    assert not w.signalled(manual)
    win32event.SetEvent(automatic)
    win32event.SetEvent(automatic)
    assert [w.signalled(automatic), w.signalled(automatic)] == [True, False]


def test_an_automatic_event_releases_one_waiter_at_a_time() -> None:
    event = w.event(manual=False)
    waiting = [h.blocked_in(wait_one, event, w.MS) for _ in range(3)]
    for left in (2, 1, 0):
        win32event.SetEvent(event)
        h.until(lambda left=left: sum(one.running for one in waiting) == left)  # type: ignore[misc]
    assert [one.result() for one in waiting] == [0, 0, 0]
    assert not w.signalled(event)


def test_a_manual_event_releases_all_waiters() -> None:
    event = w.event()
    waiting = [h.blocked_in(wait_one, event, w.MS) for _ in range(3)]
    win32event.SetEvent(event)
    assert [one.result() for one in waiting] == [0, 0, 0]


def test_a_named_object_is_one_object_for_its_kind_and_6_for_another() -> None:
    first = win32event.CreateEvent(None, True, False, "Npipe-Test-Event")
    assert win32api.GetLastError() == 0
    second = win32event.CreateEvent(None, True, True, "Npipe-Test-Event")
    assert win32api.GetLastError() == 183  # ERROR_ALREADY_EXISTS
    third = win32event.OpenEvent(win32event.EVENT_ALL_ACCESS, False, r"Local\Npipe-Test-Event")
    assert not w.signalled(second)
    win32event.SetEvent(first)
    assert w.signalled(second)
    assert w.signalled(third)
    assert w.code_of(win32event.CreateMutex, None, False, "Npipe-Test-Event") == 6
    assert w.code_of(win32event.OpenEvent, win32event.EVENT_ALL_ACCESS, False, "npipe-test-event") == 2
    for handle in (first, second, third):
        handle.Close()
    assert w.code_of(win32event.OpenEvent, win32event.EVENT_ALL_ACCESS, False, "Npipe-Test-Event") == 2


def test_a_backslash_in_an_objects_name_is_3_but_for_global_and_local() -> None:
    assert w.code_of(win32event.CreateEvent, None, True, False, r"npipe\test") == 3
    win32event.CreateEvent(None, True, False, r"Global\npipe-test").Close()


# --- Waiting for several


def test_the_first_signalled_handle_wins() -> None:
    events = [w.event(), w.event(initial=True), w.event(initial=True)]
    assert wait_many(events, False, 0) == 1
    win32event.SetEvent(events[0])
    assert wait_many(events, False, 0) == 0


@pytest.mark.parametrize("place", [0, 31, 63])
def test_a_wait_for_64_handles_ends_with_any_of_them(place: int) -> None:
    events = [w.event() for _ in range(64)]
    assert wait_many(events, False, 0) == w.TIMEOUT
    assert wait_many(events, False, 1) == w.TIMEOUT
    waiting = h.blocked_in(wait_many, events, False, w.MS)
    win32event.SetEvent(events[place])
    assert waiting.result() == place


@pytest.mark.parametrize("count", [0, 65])
def test_no_handles_and_more_than_64_are_87(count: int) -> None:
    assert w.code_of(wait_many, [w.event() for _ in range(count)], False, 0) == 87


def test_a_wait_for_all_takes_all_or_none() -> None:
    events = [w.event(manual=False) for _ in range(3)]
    win32event.SetEvent(events[0])
    assert wait_many(events, True, 1) == w.TIMEOUT
    assert w.signalled(events[0])
    waiting = h.blocked_in(wait_many, events, True, w.MS)
    for event in events:
        assert waiting.running
        win32event.SetEvent(event)
    assert waiting.result() == 0
    assert not any(w.signalled(event) for event in events)


def test_a_wait_for_all_with_a_handle_twice_is_87() -> None:
    semaphore = win32event.CreateSemaphore(None, 1, 5, None)
    assert w.code_of(wait_many, [semaphore, semaphore], True, 0) == 87
    assert win32event.ReleaseSemaphore(semaphore, 1) == 1


@pytest.mark.parametrize("number", range(4))
def test_events_of_operations_of_different_ends_and_plain_events_are_waited_for_together(
    name: str, number: int
) -> None:
    pairs = [w.connected(f"{name}-{index}") for index in range(2)]
    listening = w.create(name)
    reads = [w.read(server)[0] for server, _ in pairs]
    connecting = w.with_event()
    win32pipe.ConnectNamedPipe(listening, connecting)
    plain = w.event()
    handles = [reads[0].hEvent, reads[1].hEvent, connecting.hEvent, plain]
    assert wait_many(handles, False, 0) == w.TIMEOUT
    waiting = h.blocked_in(wait_many, handles, False, w.MS)
    kept: list[object] = []
    steps: list[Callable[[], object]] = [
        lambda: win32file.WriteFile(pairs[0][1], b"x"),
        lambda: win32file.WriteFile(pairs[1][1], b"x"),
        lambda: kept.append(w.open_client(name)),
        lambda: win32event.SetEvent(plain),
    ]
    steps[number]()
    assert waiting.result() == number


def test_a_wait_for_all_operations_ends_when_the_last_is_over(name: str) -> None:
    pairs = [w.connected(f"{name}-{index}") for index in range(8)]
    handles = [w.read(server)[0].hEvent for server, _ in pairs]
    waiting = h.blocked_in(wait_many, handles, True, w.MS)
    for _, client in pairs[:-1]:
        win32file.WriteFile(client, b"x")
    assert waiting.running
    win32file.WriteFile(pairs[-1][1], b"x")
    assert waiting.result() == 0


def test_64_pipes_are_served_by_one_wait(name: str) -> None:
    pairs = [w.connected(f"{name}-{index}") for index in range(64)]
    reads = [w.read(server) for server, _ in pairs]
    handles = [overlapped.hEvent for overlapped, _ in reads]
    for index in (63, 0, 17):
        waiting = h.blocked_in(wait_many, handles, False, w.MS)
        win32file.WriteFile(pairs[index][1], b"%d" % index)
        assert waiting.result() == index
        assert bytes(reads[index][1][:2]).rstrip(b"\0") == b"%d" % index
        win32event.ResetEvent(handles[index])


def test_an_automatic_event_of_an_operation_is_taken_by_the_wait(name: str) -> None:
    server, client = w.connected(name)
    overlapped = w.with_event(manual=False)
    win32file.ReadFile(server, 5, overlapped)
    win32file.WriteFile(client, b"x")
    assert wait_one(overlapped.hEvent, 0) == 0
    assert wait_one(overlapped.hEvent, 0) == w.TIMEOUT
    assert w.result(server, overlapped) == (0, 1)


def test_setting_the_event_by_hand_does_not_complete_the_operation(name: str) -> None:
    server, client = w.connected(name)
    overlapped, buffer = w.read(server)
    win32event.SetEvent(overlapped.hEvent)
    assert w.pending(server, overlapped)
    win32file.WriteFile(client, b"abc")
    assert w.result(server, overlapped) == (0, 3)
    assert bytes(buffer[:3]) == b"abc"


def test_time_outs_last_as_long_as_they_say() -> None:
    event = w.event()
    calls: tuple[Callable[[], int], ...] = (
        lambda: wait_one(event, 50),
        lambda: wait_many([event, w.event()], False, 50),
        lambda: wait_many([event, w.event()], True, 50),
        lambda: win32api.Sleep(50) or w.TIMEOUT,
        lambda: w.packet(w.port_for(), 50)[0],
    )
    for call in calls:
        begin = time.monotonic()
        assert call() == w.TIMEOUT
        assert 0.049 <= time.monotonic() - begin < 5


# --- Semaphores


def test_a_semaphore_lets_as_many_through_as_it_counts() -> None:
    semaphore = win32event.CreateSemaphore(None, 2, 3, None)
    assert [w.signalled(semaphore) for _ in range(3)] == [True, True, False]
    assert win32event.ReleaseSemaphore(semaphore, 2) == 0
    assert win32event.ReleaseSemaphore(semaphore, 1) == 2
    assert w.code_of(win32event.ReleaseSemaphore, semaphore, 1) == 298
    assert [w.signalled(semaphore) for _ in range(4)] == [True, True, True, False]
    waiting = [h.blocked_in(wait_one, semaphore, w.MS) for _ in range(2)]
    win32event.ReleaseSemaphore(semaphore, 2)
    assert [one.result() for one in waiting] == [0, 0]


@pytest.mark.parametrize(("initial", "maximum"), [(0, 0), (-1, 1), (2, 1), (0, -1)])
def test_wrong_counts_of_a_semaphore_are_87(initial: int, maximum: int) -> None:
    assert w.code_of(win32event.CreateSemaphore, None, initial, maximum, None) == 87


@pytest.mark.parametrize("count", [0, -1])
def test_releasing_a_semaphore_by_nothing_or_less_fails(count: int) -> None:
    semaphore = win32event.CreateSemaphore(None, 1, 3, None)
    assert w.code_of(win32event.ReleaseSemaphore, semaphore, count) == 87
    assert [w.signalled(semaphore) for _ in range(2)] == [True, False]


# --- Mutexes


def test_a_mutex_belongs_to_a_thread_which_may_take_it_again() -> None:
    mutex = win32event.CreateMutex(None, True, None)
    assert wait_one(mutex, 0) == 0
    others: list[int] = []
    in_a_thread(lambda: others.append(wait_one(mutex, 0)))
    in_a_thread(lambda: others.append(w.code_of(win32event.ReleaseMutex, mutex)))
    win32event.ReleaseMutex(mutex)
    in_a_thread(lambda: others.append(wait_one(mutex, 0)))
    win32event.ReleaseMutex(mutex)
    assert w.code_of(win32event.ReleaseMutex, mutex) == 288
    assert others == [w.TIMEOUT, 288, w.TIMEOUT]
    waiting = h.started(lambda: (wait_one(mutex, w.MS), win32event.ReleaseMutex(mutex)))
    assert waiting.result()[0] == 0


def test_a_mutex_whose_owner_has_ended_is_abandoned_once() -> None:
    first, second = win32event.CreateMutex(None, False, None), win32event.CreateMutex(None, False, None)
    in_a_thread(lambda: (wait_one(first, 0), wait_one(second, 0)))
    assert wait_one(first, w.MS) == ABANDONED
    assert wait_many([w.event(), second], False, w.MS) == ABANDONED + 1
    win32event.ReleaseMutex(first)
    assert wait_one(first, 0) == 0
    for mutex in (first, second, first):
        w.code_of(win32event.ReleaseMutex, mutex)


def test_a_thread_that_waits_for_a_mutex_gets_it_abandoned() -> None:
    mutex = win32event.CreateMutex(None, False, None)
    taken, leave = threading.Event(), threading.Event()

    def own() -> None:
        wait_one(mutex, 0)
        taken.set()
        assert leave.wait(h.DEADLINE)

    owner = threading.Thread(target=own)
    owner.start()
    assert taken.wait(h.DEADLINE)
    waiting = h.blocked_in(wait_one, mutex, w.MS)
    leave.set()
    assert waiting.result() == ABANDONED
    owner.join(h.DEADLINE)


# --- Timers


def test_a_timer_rings_once_and_an_automatic_one_is_taken() -> None:
    for manual in (True, False):
        timer = win32event.CreateWaitableTimer(None, manual, None)
        assert not w.signalled(timer)
        win32event.SetWaitableTimer(timer, -200_000, 0, None, None, False)
        assert not w.signalled(timer)
        assert wait_one(timer, w.MS) == 0
        assert w.signalled(timer) is manual


def test_a_periodic_timer_rings_again_and_again_until_it_is_cancelled() -> None:
    timer = win32event.CreateWaitableTimer(None, False, None)
    begin = time.monotonic()
    win32event.SetWaitableTimer(timer, -100_000, 10, None, None, False)
    for _ in range(5):
        assert wait_one(timer, w.MS) == 0
    assert 0.049 <= time.monotonic() - begin < 5
    win32event.CancelWaitableTimer(timer)
    assert wait_one(timer, 30) == w.TIMEOUT


def test_setting_a_timer_again_moves_it_for_those_who_wait() -> None:
    timer = win32event.CreateWaitableTimer(None, True, None)
    win32event.SetWaitableTimer(timer, -100_000_000, 0, None, None, False)
    waiting = h.blocked_in(wait_many, [w.event(), timer], False, w.MS)
    win32event.SetWaitableTimer(timer, dt.datetime.now(tz=dt.UTC), 0, None, None, False)
    assert waiting.result() == 1


def test_a_timer_ends_an_alertable_wait_and_a_wait_for_operations(name: str) -> None:
    server, _client = w.connected(name)
    overlapped, _ = w.read(server)
    timer = win32event.CreateWaitableTimer(None, True, None)
    win32event.SetWaitableTimer(timer, -200_000, 0, None, None, False)
    assert win32event.WaitForMultipleObjectsEx([overlapped.hEvent, timer], False, w.MS, True) == 1


# --- Threads, signalling and waiting at once, wrong handles


def test_a_threads_handle_is_signalled_when_it_has_ended() -> None:
    handles: list[w.Handle] = []
    leave, began = threading.Event(), threading.Event()

    def run() -> None:
        handles.append(w.thread_handle())
        began.set()
        assert leave.wait(h.DEADLINE)

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(h.DEADLINE)
    assert not w.signalled(handles[0])
    leave.set()
    assert wait_one(handles[0], w.MS) == 0
    thread.join(h.DEADLINE)


def test_signal_object_and_wait() -> None:
    request, answer = w.event(), w.event(manual=False)
    serving = h.blocked(lambda: (wait_one(request, w.MS), win32event.SetEvent(answer)))
    assert win32event.SignalObjectAndWait(request, answer, w.MS, False) == 0
    serving.result()


WRONG = {
    "SetEvent": lambda handle: win32event.SetEvent(handle),
    "ResetEvent": lambda handle: win32event.ResetEvent(handle),
    "ReleaseMutex": lambda handle: win32event.ReleaseMutex(handle),
    "ReleaseSemaphore": lambda handle: win32event.ReleaseSemaphore(handle, 1),
    "CancelWaitableTimer": lambda handle: win32event.CancelWaitableTimer(handle),
    "SetWaitableTimer": lambda handle: win32event.SetWaitableTimer(handle, 0, 0, None, None, False),
    "WaitForSingleObject": lambda handle: wait_one(handle, 0),
    "WaitForMultipleObjects": lambda handle: wait_many([w.event(), handle], False, 0),
    "CancelSynchronousIo": completion.CancelSynchronousIo,
}


@pytest.mark.parametrize("call", WRONG)
def test_closed_handles_and_numbers_that_are_none_are_6(call: str) -> None:
    closed = w.event()
    number = int(closed)
    closed.Close()
    for handle in (closed, number, 0, 0x7FFFFFF4, None):
        assert w.code_of(WRONG[call], handle) == 6, handle


@pytest.mark.parametrize("call", [call for call in WRONG if not call.startswith("Wait")])
def test_handles_of_another_kind_are_6(name: str, call: str) -> None:
    assert w.code_of(WRONG[call], w.create(name)) == 6
    if "Event" not in call:
        assert w.code_of(WRONG[call], w.event()) == 6


def test_what_is_no_handle_at_all_is_a_type_error() -> None:
    for value in ("no", b"", object()):
        with pytest.raises(TypeError):
            win32event.SetEvent(value)  # type: ignore[arg-type]


def test_closing_a_handle_that_another_thread_waits_for_does_no_harm() -> None:
    event = w.event()
    waiting = h.blocked_in(wait_many, [event, w.event()], False, 300)
    event.Close()
    assert waiting.result() in (0, w.TIMEOUT)
