"""Completion routines and alertable waits of npipe.win32 (SEMANTICS §10.5)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from npipe.win32 import completion, win32api, win32event, win32file, win32pipe
from tests import helpers as h
from tests.win32 import helpers as w

if TYPE_CHECKING:
    from collections.abc import Callable

NOW_ALERTABLE: dict[str, Callable[[w.Handle], int]] = {
    "SleepEx": lambda _event: completion.SleepEx(w.MS, True),
    "WaitForSingleObjectEx": lambda event: win32event.WaitForSingleObjectEx(event, w.MS, True),
    "WaitForMultipleObjectsEx": lambda event: win32event.WaitForMultipleObjectsEx([event, event], False, w.MS, True),
}


@pytest.mark.parametrize("wait", NOW_ALERTABLE)
def test_each_alertable_wait_runs_all_queued_routines_and_returns_192(name: str, wait: str) -> None:
    server, client = w.connected(name)
    routine = w.Routine()
    reads = [w.read_ex(server, 5, routine) for _ in range(3)]
    win32file.WriteFile(client, b"a")
    win32file.WriteFile(client, b"bc")
    win32file.WriteFile(client, b"def")
    assert NOW_ALERTABLE[wait](w.event()) == 192
    assert routine.calls == [(0, 1), (0, 2), (0, 3)]
    assert [bytes(buffer) for _, buffer in reads] == [b"a\0\0\0\0", b"bc\0\0\0", b"def\0\0"]
    assert completion.SleepEx(0, True) == 0


def test_a_routine_runs_later_even_when_the_data_was_there(name: str) -> None:
    server, client = w.connected(name)
    win32file.WriteFile(client, b"abc")
    routine = w.Routine()
    overlapped, buffer = w.read_ex(server, 5, routine)
    assert bytes(buffer[:3]) == b"abc"
    assert routine.calls == []
    assert w.result(server, overlapped) == (0, 3)
    assert completion.SleepEx(0, True) == 192
    assert routine.calls == [(0, 3)]


def test_no_other_wait_runs_routines(name: str) -> None:
    server, client = w.connected(name)
    other_server, other_client = w.connected(name + "-other", overlapped=False)
    win32file.WriteFile(client, b"abc")
    win32file.WriteFile(other_client, b"abc")
    routine = w.Routine()
    w.read_ex(server, 5, routine)
    assert win32event.WaitForSingleObject(w.event(), 1) == w.TIMEOUT
    assert win32event.WaitForSingleObjectEx(w.event(), 1, False) == w.TIMEOUT
    assert win32event.WaitForMultipleObjects([w.event()], False, 1) == w.TIMEOUT
    assert completion.SleepEx(1, False) == 0
    assert win32file.ReadFile(other_server, 3) == (0, b"abc")
    assert w.packet(w.port_for(), 1)[0] == w.TIMEOUT
    waiting = h.blocked_in(win32file.ReadFile, other_server, 3)
    win32file.WriteFile(other_client, b"x")
    assert waiting.result() == (0, b"x")
    assert routine.calls == []
    assert completion.SleepEx(0, True) == 192
    assert routine.calls == [(0, 3)]


def test_routines_run_in_the_thread_that_began_only(name: str) -> None:
    server, client = w.connected(name)
    threads: list[int] = []
    began, written = threading.Event(), threading.Event()
    results: list[int] = []

    def other() -> None:
        w.read_ex(server, 5, lambda *_: threads.append(threading.get_ident()))
        began.set()
        assert written.wait(h.DEADLINE)
        results.append(completion.SleepEx(w.MS, True))

    thread = threading.Thread(target=other)
    thread.start()
    assert began.wait(h.DEADLINE)
    win32file.WriteFile(client, b"x")
    assert completion.SleepEx(1, True) == 0
    assert threads == []
    written.set()
    thread.join(h.DEADLINE)
    assert results == [192]
    assert threads == [thread.ident]


def test_an_object_that_is_signalled_already_comes_before_the_routines(name: str) -> None:
    server, client = w.connected(name)
    routine = w.Routine()
    w.read_ex(server, 5, routine)
    win32file.WriteFile(client, b"x")
    assert win32event.WaitForSingleObjectEx(w.event(initial=True), w.MS, True) == 0
    assert win32event.WaitForMultipleObjectsEx([w.event(), w.event(initial=True)], False, w.MS, True) == 1
    assert routine.calls == []
    assert win32event.WaitForSingleObjectEx(w.event(), w.MS, True) == 192
    assert routine.calls == [(0, 1)]


def test_a_blocked_alertable_wait_ends_with_the_peers_write(name: str) -> None:
    server, client = w.connected(name)
    routine = w.Routine()

    def wait() -> int:
        w.read_ex(server, 5, routine)
        return completion.SleepEx(w.MS, True)

    waiting = h.blocked(wait)
    win32file.WriteFile(client, b"now")
    assert waiting.result() == 192
    assert routine.calls == [(0, 3)]


def test_a_partial_message_gives_234_at_once_and_to_the_routine(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE)
    win32file.WriteFile(client, b"abcdef")
    routine = w.Routine()
    assert completion.ReadFileEx(server, bytearray(2), win32file.OVERLAPPED(), routine) == 234
    assert win32api.GetLastError() == 234
    assert completion.SleepEx(0, True) == 192
    assert routine.calls == [(234, 2)]


def test_an_immediate_error_runs_no_routine(name: str) -> None:
    server = w.create(name)
    routine = w.Routine()

    def read(end: w.Handle) -> int:
        return w.code_of(completion.ReadFileEx, end, bytearray(5), win32file.OVERLAPPED(), routine)

    def write(end: w.Handle) -> int:
        return w.code_of(completion.WriteFileEx, end, b"x", win32file.OVERLAPPED(), routine)

    assert (read(server), write(server)) == (536, 536)
    client = w.open_client(name)
    win32pipe.DisconnectNamedPipe(server)
    assert (read(client), write(client), read(server), write(server)) == (233, 233, 233, 233)
    client.Close()
    win32pipe.ConnectNamedPipe(server, w.with_event())
    client = w.open_client(name)
    client.Close()
    assert (read(server), write(server)) == (109, 232)
    assert completion.SleepEx(0, True) == 0
    assert routine.calls == []


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda _server, client: client.Close(), 109),
        (lambda server, _client: win32pipe.DisconnectNamedPipe(server), 233),
        (lambda server, _client: win32file.CancelIo(server), 995),
        (lambda server, _client: server.Close(), 109),
    ],
)
def test_a_later_failure_comes_to_the_routine(name: str, end: object, code: int) -> None:
    server, client = w.connected(name)
    routine = w.Routine()
    kept = w.read_ex(server, 5, routine)
    end(server, client)  # type: ignore[operator]
    assert completion.SleepEx(w.MS, True) == 192
    assert routine.calls == [(code, 0)]
    assert kept


def test_on_a_handle_that_is_bound_to_a_port_routines_are_87(name: str) -> None:
    server, client = w.connected(name)
    w.port_for(server)
    routine = w.Routine()
    assert w.code_of(completion.ReadFileEx, server, bytearray(5), win32file.OVERLAPPED(), routine) == 87
    assert w.code_of(completion.WriteFileEx, server, b"x", win32file.OVERLAPPED(), routine) == 87
    assert win32pipe.PeekNamedPipe(client, 0) == (b"", 0, 0)


def test_a_routine_that_was_begun_before_the_port_still_runs(name: str) -> None:
    server, client = w.connected(name)
    routine = w.Routine()
    w.read_ex(server, 5, routine)
    port = w.port_for(server)
    win32file.WriteFile(client, b"x")
    assert completion.SleepEx(w.MS, True) == 192
    assert routine.calls == [(0, 1)]
    assert w.packet(port, 0)[0] == w.TIMEOUT


def test_the_event_of_the_overlapped_is_not_touched(name: str) -> None:
    server, client = w.connected(name)
    overlapped = win32file.OVERLAPPED()
    overlapped.hEvent = w.event(initial=True)
    routine = w.Routine()
    completion.ReadFileEx(server, bytearray(5), overlapped, routine)
    assert w.signalled(overlapped.hEvent)
    win32event.ResetEvent(overlapped.hEvent)
    win32file.WriteFile(client, b"x")
    assert completion.SleepEx(w.MS, True) == 192
    assert not w.signalled(overlapped.hEvent)


def test_writes_with_routines_complete_in_order_and_report_all_bytes(name: str) -> None:
    server, client = w.connected(name, quota=3)
    routine = w.Routine()
    kept = [win32file.OVERLAPPED() for _ in range(3)]
    for number, overlapped in enumerate(kept):
        completion.WriteFileEx(server, b"x" * (4 + number), overlapped, routine)
    assert completion.SleepEx(0, True) == 0
    assert win32file.ReadFile(client, 100) == (0, b"x" * 15)
    assert completion.SleepEx(w.MS, True) == 192
    assert routine.calls == [(0, 4), (0, 5), (0, 6)]


def test_a_routine_may_begin_the_next_operation_whose_routine_runs_in_the_same_wait_or_the_next(name: str) -> None:
    server, client = w.connected(name)
    for number in range(5):
        win32file.WriteFile(client, b"%d" % number)
    got: list[bytes] = []
    buffer = bytearray(1)
    overlapped = win32file.OVERLAPPED()

    def routine(code: int, count: int, given: w.Ov) -> None:
        assert (code, count) == (0, 1)
        assert given is overlapped
        got.append(bytes(buffer))
        if len(got) == 5:
            return
        completion.ReadFileEx(server, buffer, overlapped, routine)

    completion.ReadFileEx(server, buffer, overlapped, routine)
    until = time.monotonic() + h.DEADLINE
    while completion.SleepEx(0, True) == 192:
        assert time.monotonic() < until
    assert got == [b"0", b"1", b"2", b"3", b"4"]


def test_a_routine_may_wait_alertably_itself(name: str) -> None:
    server, client = w.connected(name)
    order: list[str] = []

    def outer(*_: object) -> None:
        order.append("outer begins")
        completion.SleepEx(w.MS, True)
        order.append("outer ends")

    w.read_ex(server, 1, outer)
    w.read_ex(server, 1, lambda *_: order.append("inner"))
    win32file.WriteFile(client, b"ab")
    assert completion.SleepEx(w.MS, True) == 192
    assert order == ["outer begins", "inner", "outer ends"]


def test_an_exception_of_a_routine_comes_out_of_the_wait_and_the_others_stay_queued(name: str) -> None:
    server, client = w.connected(name)
    routine = w.Routine()

    def bad(*_: object) -> None:
        raise LookupError("the routine's own")

    w.read_ex(server, 1, bad)
    w.read_ex(server, 1, routine)
    win32file.WriteFile(client, b"ab")
    with pytest.raises(LookupError):
        completion.SleepEx(w.MS, True)
    assert routine.calls == []
    assert completion.SleepEx(w.MS, True) == 192
    assert routine.calls == [(0, 1)]


def test_routines_of_the_program_and_of_operations_run_in_the_order_in_which_they_were_queued(name: str) -> None:
    server, client = w.connected(name)
    order: list[object] = []
    win32file.WriteFile(client, b"x")
    completion.QueueUserAPC(order.append, win32api.GetCurrentThread(), 1)
    w.read_ex(server, 1, lambda *_: order.append("read"))
    completion.QueueUserAPC(order.append, win32api.GetCurrentThread(), 2)
    assert completion.SleepEx(w.MS, True) == 192
    assert order == [1, "read", 2]


def test_a_routine_can_be_queued_to_another_thread_and_wakes_it() -> None:
    handles: list[w.Handle] = []
    ran: list[tuple[int, int]] = []

    def wait() -> int:
        handles.append(w.thread_handle())
        return completion.SleepEx(w.MS, True)

    waiting = h.blocked(wait)
    completion.QueueUserAPC(lambda value: ran.append((value, threading.get_ident())), handles[0], 5)
    assert waiting.result() == 192
    assert ran[0][0] == 5
    assert ran[0][1] != threading.get_ident()
    h.until(lambda: w.signalled(handles[0]))  # the thread has ended
    assert w.code_of(completion.QueueUserAPC, ran.append, handles[0], 5) == 31


def test_routines_must_be_callable(name: str) -> None:
    server, _client = w.connected(name)
    with pytest.raises(TypeError):
        completion.ReadFileEx(server, bytearray(1), win32file.OVERLAPPED(), None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        completion.QueueUserAPC("no", win32api.GetCurrentThread())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        completion.ReadFileEx(server, bytearray(1), None, w.Routine())  # type: ignore[arg-type]
    assert w.code_of(completion.QueueUserAPC, print, w.event()) == 6
