"""Overlapped operations of npipe.win32: results, cancelling, closing, ending threads (SEMANTICS §3, §5, §6, §10)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from npipe.win32 import completion, win32api, win32event, win32file, win32pipe
from tests import helpers as h
from tests.win32 import helpers as w

if TYPE_CHECKING:
    from collections.abc import Callable

BOTH_TYPES = pytest.mark.parametrize("mode", [w.BYTE, w.MESSAGE])


def in_a_thread(call: object) -> None:
    thread = threading.Thread(target=call)  # type: ignore[arg-type]
    thread.start()
    thread.join(h.DEADLINE)
    assert not thread.is_alive()


# --- Several operations on one end


@BOTH_TYPES
def test_pending_reads_are_served_in_the_order_in_which_they_began(name: str, mode: int) -> None:
    server, client = w.connected(name, mode=mode)
    reads = [w.read(server) for _ in range(3)]
    for number, (overlapped, _) in enumerate(reads):
        win32file.WriteFile(client, b"%d" % number)
        assert w.signalled(overlapped.hEvent)
    assert [bytes(buffer[:1]) for _, buffer in reads] == [b"0", b"1", b"2"]


def test_one_write_is_split_over_three_pending_byte_reads(name: str) -> None:
    server, client = w.connected(name)
    reads = [w.read(server, 2) for _ in range(3)]
    win32file.WriteFile(client, b"abcde")
    assert [w.result(server, overlapped) for overlapped, _ in reads] == [(0, 2), (0, 2), (0, 1)]
    assert [bytes(buffer) for _, buffer in reads] == [b"ab", b"cd", b"e\0"]


def test_one_message_is_split_over_three_pending_message_reads(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE)
    reads = [w.read(server, 2) for _ in range(3)]
    win32file.WriteFile(client, b"abcde")
    assert [w.result(server, overlapped) for overlapped, _ in reads] == [(234, 2), (234, 2), (0, 1)]


@pytest.mark.parametrize(("mode", "code"), [(w.BYTE, 0), (w.MESSAGE, 234)])
def test_pending_reads_of_size_zero_end_with_the_write_and_take_nothing(name: str, mode: int, code: int) -> None:
    server, client = w.connected(name, mode=mode)
    first, second = w.read(server, 0)[0], w.read(server, 0)[0]
    third, buffer = w.read(server, 9)
    win32file.WriteFile(client, b"abc")
    assert [w.result(server, one) for one in (first, second, third)] == [(code, 0), (code, 0), (0, 3)]
    assert bytes(buffer[:3]) == b"abc"


def test_an_empty_message_ends_one_pending_read(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE)
    (first, _), (second, _) = w.read(server), w.read(server)
    win32file.WriteFile(client, b"")
    assert w.result(server, first) == (0, 0)
    assert w.pending(server, second)


@pytest.mark.parametrize("count", [17, 40])
def test_more_pending_reads_than_the_segment_advertises_are_served_in_order(name: str, count: int) -> None:
    server, client = w.connected(name, mode=w.MESSAGE, quota=0)
    reads = [w.read(server, 4) for _ in range(count)]
    for number, (overlapped, buffer) in enumerate(reads):
        started = w.with_event()
        win32file.WriteFile(client, b"%04d" % number, started)
        assert w.result(server, overlapped) == (0, 4)
        assert bytes(buffer) == b"%04d" % number
        assert w.result(client, started) == (0, 4)


@pytest.mark.parametrize("count", [33, 100])
def test_more_pending_writes_than_the_ring_has_slots_complete_in_order(name: str, count: int) -> None:
    server, client = w.connected(name, mode=w.MESSAGE, quota=0)
    writes = [w.write(client, b"%04d" % number) for number in range(count)]
    for number, overlapped in enumerate(writes):
        assert w.pending(client, overlapped)
        assert win32file.ReadFile(server, 10) == (0, b"%04d" % number)
        assert w.signalled(overlapped.hEvent)
        assert w.result(client, overlapped) == (0, 4)


def test_pending_reads_count_as_room_for_a_write(name: str) -> None:
    server, client = w.connected(name, quota=10)
    w.read(server, 5), w.read(server, 5)
    overlapped = w.with_event()
    assert win32file.WriteFile(client, b"x" * 20, overlapped) == (0, 20)
    assert w.write(client, b"x")


def test_a_small_write_behind_a_deferred_one_is_deferred_too_but_not_an_empty_one(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE, quota=10)
    first, second = w.write(client, b"x" * 25), w.write(client, b"y")
    assert win32file.WriteFile(client, b"", w.with_event()) == (0, 0)
    assert win32pipe.PeekNamedPipe(server, 0)[1] == 26
    assert win32file.ReadFile(server, 15)[0] == 234
    assert w.result(client, first) == (0, 25)
    assert w.pending(client, second)
    assert win32file.ReadFile(server, 1)[0] == 234
    assert w.result(client, second) == (0, 1)


def test_one_client_completes_all_pending_connects(name: str) -> None:
    server = w.create(name)
    pended = [w.with_event() for _ in range(3)]
    assert [win32pipe.ConnectNamedPipe(server, one) for one in pended] == [w.PENDING] * 3
    assert not any(w.signalled(one.hEvent) for one in pended)
    client = w.open_client(name)
    assert all(w.signalled(one.hEvent) for one in pended)
    assert [w.result(server, one) for one in pended] == [(0, 0)] * 3
    assert win32pipe.ConnectNamedPipe(server, w.with_event()) == 535
    client.Close()
    assert w.code_of(win32pipe.ConnectNamedPipe, server, w.with_event()) == 232


def test_a_blocking_connect_and_an_overlapped_one_end_with_the_same_client(name: str) -> None:
    server = w.create(name)
    overlapped = w.with_event()
    win32pipe.ConnectNamedPipe(server, overlapped)
    waiting = h.blocked_in(win32pipe.ConnectNamedPipe, server, None)
    client = w.open_client(name)
    assert waiting.result() == 0
    assert w.signalled(overlapped.hEvent)
    assert client


def test_reads_and_writes_of_both_ends_do_not_disturb_each_other(name: str) -> None:
    server, client = w.connected(name, quota=4)
    reads = [w.read(server), w.read(client)]
    win32file.WriteFile(server, b"s" * 50)
    win32file.WriteFile(client, b"c" * 50)
    assert [w.result(server, reads[0][0]), w.result(client, reads[1][0])] == [(0, 50), (0, 50)]
    writes = [w.write(server, b"s" * 50), w.write(client, b"c" * 50)]
    assert win32file.ReadFile(client, 50) == (0, b"s" * 50)
    assert w.result(server, writes[0]) == (0, 50)
    assert w.pending(client, writes[1])


# --- Results


def test_a_result_can_be_asked_for_again(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE)
    win32file.WriteFile(client, b"abcdef")
    overlapped = w.with_event()
    code, buffer = win32file.ReadFile(server, 4, overlapped)
    assert (code, bytes(buffer)) == (234, b"abcd")
    for _ in range(3):
        assert w.result(server, overlapped) == (234, 4)
    assert overlapped.Internal == 0x80000005


def test_an_immediate_error_leaves_event_and_status_as_at_the_start(name: str) -> None:
    server, client = w.connected(name)
    client.Close()
    overlapped = win32file.OVERLAPPED()
    overlapped.hEvent = w.event(initial=True)
    overlapped.InternalHigh = 77
    assert w.code_of(win32file.ReadFile, server, 5, overlapped) == 109
    assert not w.signalled(overlapped.hEvent)
    assert overlapped.Internal == 0x103


def test_without_waiting_a_pending_result_is_996_and_with_a_time_limit_258(name: str) -> None:
    server, client = w.connected(name)
    overlapped, _ = w.read(server)
    assert w.code_of(win32file.GetOverlappedResult, server, overlapped, False) == 996
    for alertable in (False, True):
        assert w.code_of(completion.GetOverlappedResultEx, server, overlapped, 0, alertable) == 996
        assert w.code_of(completion.GetOverlappedResultEx, server, overlapped, 5, alertable) == 258
    assert not completion.HasOverlappedIoCompleted(overlapped)
    win32file.WriteFile(client, b"x")
    assert completion.HasOverlappedIoCompleted(overlapped)


def test_an_alertable_result_is_192_after_routines_have_run_and_not_without_a_wait(name: str) -> None:
    server, _client = w.connected(name)
    overlapped, _ = w.read(server)
    called: list[int] = []
    completion.QueueUserAPC(called.append, win32api.GetCurrentThread(), 7)
    assert w.code_of(completion.GetOverlappedResultEx, server, overlapped, 0, True) == 996
    assert w.code_of(completion.GetOverlappedResultEx, server, overlapped, 5, False) == 258
    assert called == []
    assert w.code_of(completion.GetOverlappedResultEx, server, overlapped, w.MS, True) == 192
    assert called == [7]


def test_waiting_for_a_result_ends_with_the_peers_write(name: str) -> None:
    server, client = w.connected(name)
    overlapped, buffer = w.read(server)
    waiting = h.blocked_in(win32file.GetOverlappedResult, server, overlapped, True)
    win32file.WriteFile(client, b"late")
    assert waiting.result() == 4
    assert bytes(buffer[:4]) == b"late"


def test_the_handle_is_signalled_by_operations_without_an_event_only(name: str) -> None:
    server, client = w.connected(name)
    assert w.signalled(server)
    assert w.signalled(client)
    with_event, _ = w.read(server)
    assert not w.signalled(server)
    win32file.WriteFile(client, b"x")
    assert w.signalled(with_event.hEvent)
    assert not w.signalled(server)
    without = win32file.OVERLAPPED()
    win32file.ReadFile(server, 5, without)
    assert not w.signalled(server)
    win32file.WriteFile(client, b"x")
    assert w.signalled(server)
    assert w.result(server, without) == (0, 1)


def test_after_disconnect_the_clients_handle_is_not_signalled(name: str) -> None:
    server, client = w.connected(name)
    assert w.signalled(client)
    win32pipe.DisconnectNamedPipe(server)
    assert not w.signalled(client)


@pytest.mark.timeout(60)
def test_results_are_visible_without_a_wait_when_the_peers_call_has_returned(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE, quota=0)
    for number in range(300):
        data = b"%d" % number
        overlapped, buffer = w.read(server)
        assert win32file.WriteFile(client, data) == (0, len(data))
        assert w.signalled(overlapped.hEvent)
        assert bytes(buffer[: len(data)]) == data
        overlapped = w.write(server, data)
        assert win32file.ReadFile(client, 10) == (0, data)
        assert w.signalled(overlapped.hEvent)


# --- Cancelling


def test_a_cancelled_read_leaves_the_order_of_the_others(name: str) -> None:
    server, client = w.connected(name)
    reads = [w.read(server) for _ in range(3)]
    completion.CancelIoEx(server, reads[1][0])
    win32file.WriteFile(client, b"a")
    win32file.WriteFile(client, b"b")
    assert [w.result(server, overlapped) for overlapped, _ in reads] == [(0, 1), (995, 0), (0, 1)]
    assert bytes(reads[2][1][:1]) == b"b"
    assert reads[1][0].Internal == 0xC0000120
    assert w.signalled(reads[1][0].hEvent)


def test_a_cancelled_write_goes_entirely_but_for_what_was_read(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE, quota=10)
    overlapped = w.write(client, b"abcdef" * 5)
    behind = w.write(client, b"behind")
    assert win32file.ReadFile(server, 3) == (234, b"abc")
    completion.CancelIoEx(client, overlapped)
    assert w.result(client, overlapped) == (995, 0)
    assert w.result(client, behind) == (0, 6)
    assert win32file.ReadFile(server, 99) == (0, b"behind")


def test_cancel_io_means_the_calling_threads_operations_through_any_duplicate(name: str) -> None:
    server, client = w.connected(name)
    mine, _ = w.read(server)
    others: list[w.Ov] = []
    done = threading.Event()

    def other() -> None:
        others.append(w.read(server)[0])
        other_started.set()
        assert done.wait(h.DEADLINE)

    other_started = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    assert other_started.wait(h.DEADLINE)
    duplicate = win32api.DuplicateHandle(None, server, None, 0, False, 2)
    win32file.CancelIo(duplicate)
    assert w.result(server, mine) == (995, 0)
    assert w.pending(server, others[0])
    win32file.CancelIo(server)
    assert w.pending(server, others[0])
    win32file.WriteFile(client, b"x")
    assert w.result(server, others[0]) == (0, 1)
    done.set()
    thread.join(h.DEADLINE)


def test_cancel_io_ex_works_from_any_thread_and_says_1168_for_nothing(name: str) -> None:
    server, client = w.connected(name)
    overlapped, _ = w.read(server)
    codes: list[int] = []
    in_a_thread(lambda: codes.extend(w.code_of(completion.CancelIoEx, server, overlapped) for _ in range(2)))
    assert codes == [0, 1168]
    assert w.result(server, overlapped) == (995, 0)
    assert w.code_of(completion.CancelIoEx, server, None) == 1168
    assert w.code_of(completion.CancelIoEx, server, win32file.OVERLAPPED()) == 1168
    on_client, _ = w.read(client)
    assert w.code_of(completion.CancelIoEx, server, None) == 1168
    assert w.code_of(completion.CancelIoEx, server, on_client) == 1168
    assert w.pending(client, on_client)


def test_cancel_io_ex_of_a_completed_operation_is_1168(name: str) -> None:
    server, client = w.connected(name)
    overlapped, _ = w.read(server)
    win32file.WriteFile(client, b"x")
    assert w.code_of(completion.CancelIoEx, server, overlapped) == 1168
    assert w.result(server, overlapped) == (0, 1)


def test_a_cancelled_connect_leaves_the_instance_listening(name: str) -> None:
    server = w.create(name)
    overlapped = w.with_event()
    win32pipe.ConnectNamedPipe(server, overlapped)
    completion.CancelIoEx(server, overlapped)
    assert w.result(server, overlapped) == (995, 0)
    client = w.open_client(name)
    assert win32pipe.ConnectNamedPipe(server, w.with_event()) == 535
    assert client


def test_a_cancelled_transaction_leaves_its_request_with_the_peer(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE)
    overlapped = w.with_event()
    code, _ = win32pipe.TransactNamedPipe(client, b"request", win32file.AllocateReadBuffer(10), overlapped)
    assert code == w.PENDING
    completion.CancelIoEx(client, overlapped)
    assert w.result(client, overlapped) == (995, 0)
    assert win32file.ReadFile(server, 10) == (0, b"request")


BLOCKING: dict[str, Callable[[w.Handle, str], object]] = {
    "ReadFile": lambda end, _name: win32file.ReadFile(end, 5),
    "WriteFile": lambda end, _name: win32file.WriteFile(end, b"x" * 50),
    "FlushFileBuffers": lambda end, _name: win32file.FlushFileBuffers(end),
    "ConnectNamedPipe": lambda _end, name: win32pipe.ConnectNamedPipe(w.create(name + "-more", overlapped=False), None),
}


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize("call", BLOCKING)
def test_cancel_synchronous_io_ends_a_blocked_call_with_995(name: str, call: str, overlapped: bool) -> None:
    server, client = w.connected(name, overlapped=overlapped, quota=4)
    win32file.WriteFile(server, b"full")
    handles: list[w.Handle] = []

    def run() -> object:
        handles.append(w.thread_handle())
        return BLOCKING[call](server, name)

    blocked = h.blocked(run)
    completion.CancelSynchronousIo(handles[0])
    assert w.code_of(blocked.result) == 995
    assert client


def test_cancel_synchronous_io_of_a_thread_that_is_not_blocked_is_1168_and_touches_nothing_overlapped(
    name: str,
) -> None:
    server, _client = w.connected(name)
    overlapped, _ = w.read(server)
    assert w.code_of(completion.CancelSynchronousIo, w.thread_handle()) == 1168
    assert w.pending(server, overlapped)
    handles: list[w.Handle] = []
    handles.append(w.thread_handle())
    waiting = h.blocked_in(win32event.WaitForSingleObject, overlapped.hEvent, w.MS)
    completion.CancelIoEx(server, overlapped)
    assert waiting.result() == 0


def test_cancel_io_ex_without_an_overlapped_also_ends_blocked_calls(name: str) -> None:
    server, client = w.connected(name)
    blocked = h.blocked_in(win32file.ReadFile, server, 5)
    try:
        completion.CancelIoEx(server, None)
        assert w.code_of(blocked.result) == 995
    finally:
        client.Close()


# --- Ends of handles, threads and connections


def test_closing_the_handle_ends_its_pending_reads_with_109(name: str) -> None:
    server, client = w.connected(name)
    overlapped, _ = w.read(server)
    peers, _ = w.read(client)
    server.Close()
    assert w.signalled(overlapped.hEvent)
    assert w.code_of(win32file.GetOverlappedResult, 0, overlapped, False) == 109
    assert w.result(client, peers) == (109, 0)


def test_a_duplicate_keeps_the_operations_of_the_handle_that_was_closed(name: str) -> None:
    server, client = w.connected(name)
    duplicate = win32api.DuplicateHandle(None, server, None, 0, False, 2)
    overlapped, buffer = w.read(server)
    server.Close()
    win32file.WriteFile(client, b"still")
    assert w.result(duplicate, overlapped) == (0, 5)
    assert bytes(buffer[:5]) == b"still"


def test_closing_a_listening_instance_ends_its_pending_connect_with_109(name: str) -> None:
    server = w.create(name)
    overlapped = w.with_event()
    win32pipe.ConnectNamedPipe(server, overlapped)
    server.Close()
    assert w.signalled(overlapped.hEvent)
    assert w.code_of(win32file.GetOverlappedResult, 0, overlapped, False) == 109


def test_a_pending_write_of_the_end_that_closes_stays_readable(name: str) -> None:
    server, client = w.connected(name, quota=2)
    overlapped = w.write(server, b"over the quota")
    server.Close()
    assert win32file.ReadFile(client, 50) == (0, b"over the quota")
    assert w.signalled(overlapped.hEvent)
    assert w.code_of(win32file.ReadFile, client, 50) == 109


def test_disconnect_ends_everything_pending_on_both_ends_with_233(name: str) -> None:
    server, client = w.connected(name, quota=2)
    ends = [(server, w.read(server)[0]), (client, w.read(client)[0])]
    win32pipe.DisconnectNamedPipe(server)
    assert [w.result(*one) for one in ends] == [(233, 0)] * 2
    win32pipe.ConnectNamedPipe(server, w.with_event())
    client = w.open_client(name)
    writes = [(server, w.write(server, b"abc")), (client, w.write(client, b"abc"))]
    behind = [(server, w.write(server, b"d")), (client, w.write(client, b"d"))]
    win32pipe.DisconnectNamedPipe(server)
    # With the client's first write out of the way the second was within the quota: the recorded scenarios have it so.
    assert [w.result(*one) for one in writes + behind] == [(233, 0), (233, 0), (233, 0), (0, 1)]


def test_a_thread_that_ends_cancels_what_it_has_begun(name: str) -> None:
    server, client = w.connected(name)
    mine, _ = w.read(server)
    theirs: list[w.Ov] = []
    in_a_thread(lambda: theirs.append(w.read(server)[0]))
    assert w.result(server, theirs[0]) == (995, 0)
    assert w.pending(server, mine)
    win32file.WriteFile(client, b"x")
    assert w.result(server, mine) == (0, 1)


def test_a_thread_that_ends_cancels_nothing_on_a_handle_that_is_bound_to_a_port(name: str) -> None:
    server, client = w.connected(name)
    port = w.port_for(server)
    theirs: list[w.Ov] = []

    def begin() -> None:
        theirs.append(win32file.OVERLAPPED())
        win32file.ReadFile(server, 10, theirs[0])

    in_a_thread(begin)
    assert w.packet(port, 0)[0] == w.TIMEOUT
    win32file.WriteFile(client, b"x")
    assert w.packet(port) == (0, 1, 1, theirs[0])


def test_a_read_on_a_synchronous_handle_with_an_overlapped_blocks_and_fills_it(name: str) -> None:
    server, client = w.connected(name, overlapped=False)
    overlapped = w.with_event()
    blocked = h.blocked_in(win32file.ReadFile, server, 10, overlapped)
    win32file.WriteFile(client, b"abc")
    code, buffer = blocked.result()
    assert (code, bytes(buffer[:3])) == (0, b"abc")
    assert w.result(server, overlapped) == (0, 3)
    assert w.signalled(overlapped.hEvent)


def test_a_peek_behind_a_read_that_has_taken_everything_is_109(name: str) -> None:
    server, client = w.connected(name)
    overlapped, _ = w.read(server)
    win32file.WriteFile(client, b"x")
    client.Close()
    assert w.code_of(win32pipe.PeekNamedPipe, server, 5) == 109
    assert w.result(server, overlapped) == (0, 1)


# --- What has completed is before what follows, whoever has noticed it


def test_a_completion_that_nobody_has_looked_at_is_before_a_reset_of_its_event(name: str) -> None:
    server, client = w.connected(name)
    overlapped, _ = w.read(server)
    win32file.WriteFile(client, b"x")
    win32event.ResetEvent(overlapped.hEvent)
    assert not w.signalled(overlapped.hEvent)
    assert w.result(server, overlapped) == (0, 1)


def test_a_completion_that_nobody_has_looked_at_is_before_a_pulse_of_its_event(name: str) -> None:
    server, client = w.connected(name)
    overlapped, _ = w.read(server)
    win32file.WriteFile(client, b"x")
    win32event.PulseEvent(overlapped.hEvent)
    assert not w.signalled(overlapped.hEvent)


@pytest.mark.parametrize("same", [True, False], ids=["the same OVERLAPPED", "another with the same event"])
def test_a_completion_that_nobody_has_looked_at_is_before_the_next_start(name: str, same: bool) -> None:
    server, client = w.connected(name)
    overlapped, _ = w.read(server)
    win32file.WriteFile(client, b"x")
    following = overlapped
    if not same:
        following = win32file.OVERLAPPED()
        following.hEvent = overlapped.hEvent
    assert win32file.ReadFile(client, win32file.AllocateReadBuffer(10), following)[0] == w.PENDING
    assert not w.signalled(following.hEvent)
    win32file.WriteFile(server, b"y")
    assert w.signalled(following.hEvent)


def test_a_start_clears_what_a_completion_without_an_event_has_signalled(name: str) -> None:
    server, client = w.connected(name)
    without_event = win32file.OVERLAPPED()
    win32file.ReadFile(server, win32file.AllocateReadBuffer(10), without_event)
    win32file.WriteFile(client, b"x")
    w.read(server)
    assert not w.signalled(server)


# --- A transaction's request in the way


def test_a_write_behind_an_unread_request_fails_when_the_reader_closes(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE, quota=16)
    asking, behind = w.with_event(), w.with_event()
    assert win32pipe.TransactNamedPipe(server, b"r" * 100, 5, asking)[0] == w.PENDING
    assert win32file.WriteFile(server, b"xy", behind)[0] == w.PENDING
    client.Close()
    assert w.result(server, asking) == (109, 0)
    assert w.result(server, behind) == (109, 0)


def test_a_pending_read_keeps_what_a_write_gave_it_that_is_cancelled_then(name: str) -> None:
    server, client = w.connected(name, quota=2)
    reading, buffer = w.read(server, 4)
    writing = w.write(client, b"0123456789")
    win32file.CancelIo(client)
    assert w.result(client, writing) == (995, 0)
    assert w.result(server, reading) == (0, 4)
    assert bytes(buffer[:4]) == b"0123"
    assert win32pipe.PeekNamedPipe(server, 10) == (b"", 0, 0)
