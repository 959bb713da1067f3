"""Completion ports of npipe.win32 (SEMANTICS §10.6)."""

from __future__ import annotations

import threading

import pytest

from npipe.win32 import completion, win32api, win32file, win32pipe
from tests import helpers as h
from tests.win32 import helpers as w


def plain_read(handle: w.Handle, size: int = 10) -> tuple[int, w.Ov]:
    overlapped = win32file.OVERLAPPED()
    return win32file.ReadFile(handle, size, overlapped)[0], overlapped


def empty(port: w.Handle) -> bool:
    return w.packet(port, 0) == (w.TIMEOUT, 0, 0, None)


def test_a_port_starts_empty_and_times_out() -> None:
    port = w.port_for()
    assert empty(port)
    assert w.packet(port, 5) == (w.TIMEOUT, 0, 0, None)


def test_posted_packets_come_out_in_order() -> None:
    port = w.port_for()
    overlapped = win32file.OVERLAPPED()
    win32file.PostQueuedCompletionStatus(port, 1, 2, overlapped)
    win32file.PostQueuedCompletionStatus(port, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, None)
    win32file.PostQueuedCompletionStatus(port)
    assert w.packet(port) == (0, 1, 2, overlapped)
    assert w.packet(port) == (0, -1, -1, None)  # as pywin32 has it
    assert w.packet(port) == (0, 0, 0, None)
    assert empty(port)


def test_a_blocked_wait_for_a_packet_ends_with_a_post() -> None:
    port = w.port_for()
    waiting = h.blocked_in(w.packet, port)
    win32file.PostQueuedCompletionStatus(port, 3, 4, None)
    assert waiting.result() == (0, 3, 4, None)


def test_each_packet_goes_to_one_thread() -> None:
    port = w.port_for()
    waiting = [h.blocked_in(w.packet, port) for _ in range(4)]
    for number in range(4):
        win32file.PostQueuedCompletionStatus(port, number, 0, None)
    assert sorted(one.result()[1] for one in waiting) == [0, 1, 2, 3]


def test_a_pending_operation_gives_a_packet_with_its_key(name: str) -> None:
    server, client = w.connected(name)
    port = w.port_for(server, client)
    code, overlapped = plain_read(server)
    assert code == w.PENDING
    assert empty(port)
    writing = win32file.OVERLAPPED()
    assert win32file.WriteFile(client, b"abc", writing) == (0, 3)
    packets = [w.packet(port), w.packet(port)]
    assert (0, 3, 1, overlapped) in packets
    assert (0, 3, 2, writing) in packets
    assert empty(port)


def test_packets_of_several_pipes_come_in_the_order_of_the_peers_calls(name: str) -> None:
    pipes = [w.connected(f"{name}-{i}", mode=w.MESSAGE, quota=10) for i in range(4)]
    port = w.port_for(*(server for server, _ in pipes))
    reads = {(i, j): plain_read(server)[1] for j in range(2) for i, (server, _) in enumerate(pipes)}
    turns = [(2, 0), (0, 0), (3, 0), (1, 0), (3, 1), (2, 1), (0, 1), (1, 1)]
    for i, _ in turns:
        win32file.WriteFile(pipes[i][1], b"x" * (i + 1))
    assert [w.packet(port) for _ in turns] == [(0, i + 1, i + 1, reads[i, j]) for i, j in turns]
    writes = {}
    for i, (server, _) in enumerate(pipes):
        writes[i] = win32file.OVERLAPPED()
        assert win32file.WriteFile(server, b"1234567890", writes[i]) == (0, 10)  # the quota is full
        assert w.packet(port) == (0, 10, i + 1, writes[i])
        writes[i] = win32file.OVERLAPPED()
        assert win32file.WriteFile(server, b"y", writes[i])[0] == w.PENDING
    for i in (1, 3, 0, 2):
        win32file.ReadFile(pipes[i][1], 10)
    assert [w.packet(port) for _ in range(4)] == [(0, 1, i + 1, writes[i]) for i in (1, 3, 0, 2)]
    reads = {(i, 0): plain_read(server)[1] for i, (server, _) in enumerate(pipes)}
    for i in (3, 1, 2, 0):
        pipes[i][1].Close()
    assert [w.packet(port) for _ in range(4)] == [(109, 0, i + 1, reads[i, 0]) for i in (3, 1, 2, 0)]
    assert empty(port)


def test_a_read_is_told_before_the_write_that_ends_it(name: str) -> None:
    server, client = w.connected(name)
    port = w.port_for(server, client)
    reading, writing = plain_read(server)[1], win32file.OVERLAPPED()
    assert win32file.WriteFile(client, b"abc", writing) == (0, 3)
    assert [w.packet(port), w.packet(port)] == [(0, 3, 1, reading), (0, 3, 2, writing)]


def test_immediate_success_and_a_partial_message_give_packets(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE)
    port = w.port_for(server)
    win32file.WriteFile(client, b"abcdef")
    code, overlapped = plain_read(server, 4)
    assert code == 234
    assert w.packet(port) == (234, 4, 1, overlapped)
    code, overlapped = plain_read(server, 4)
    assert code == 0
    assert w.packet(port) == (0, 2, 1, overlapped)


def test_immediate_errors_give_none(name: str) -> None:
    server = w.create(name)
    port = w.port_for(server)
    assert w.code_of(plain_read, server) == 536
    client = w.open_client(name)
    assert win32pipe.ConnectNamedPipe(server, win32file.OVERLAPPED()) == 535
    client.Close()
    assert w.code_of(plain_read, server) == 109
    assert w.code_of(win32pipe.ConnectNamedPipe, server, win32file.OVERLAPPED()) == 232
    assert w.code_of(win32file.WriteFile, server, b"x", win32file.OVERLAPPED()) == 232
    assert empty(port)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda _server, client: client.Close(), 109),
        (lambda server, _client: server.Close(), 109),
        (lambda server, _client: win32pipe.DisconnectNamedPipe(server), 233),
        (lambda server, _client: completion.CancelIoEx(server, None), 995),
        (lambda server, _client: win32file.CancelIo(server), 995),
    ],
)
def test_a_later_failure_gives_a_packet(name: str, end: object, code: int) -> None:
    server, client = w.connected(name)
    port = w.port_for(server)
    reads = [plain_read(server)[1] for _ in range(2)]
    end(server, client)  # type: ignore[operator]
    packets = [w.packet(port), w.packet(port)]
    assert packets == [(code, 0, 1, reads[0]), (code, 0, 1, reads[1])]
    assert empty(port)


def test_a_pending_connect_gives_a_packet_for_the_client_and_for_a_close(name: str) -> None:
    server = w.create(name)
    port = w.port_for(server)
    overlapped = win32file.OVERLAPPED()
    assert win32pipe.ConnectNamedPipe(server, overlapped) == w.PENDING
    client = w.open_client(name)
    assert w.packet(port) == (0, 0, 1, overlapped)
    client.Close()
    win32pipe.DisconnectNamedPipe(server)
    again = win32file.OVERLAPPED()
    assert win32pipe.ConnectNamedPipe(server, again) == w.PENDING
    server.Close()
    assert w.packet(port) == (109, 0, 1, again)


def test_an_event_with_its_lowest_bit_set_is_signalled_without_a_packet(name: str) -> None:
    server, client = w.connected(name)
    port = w.port_for(server)
    event = w.event()
    overlapped = win32file.OVERLAPPED()
    overlapped.hEvent = int(event) | 1
    assert win32file.ReadFile(server, 10, overlapped)[0] == w.PENDING
    win32file.WriteFile(client, b"abc")
    assert w.signalled(event)
    assert empty(port)
    assert w.result(server, overlapped) == (0, 3)


def test_an_event_and_a_packet_together(name: str) -> None:
    server, client = w.connected(name)
    port = w.port_for(server)
    overlapped = w.with_event()
    win32file.ReadFile(server, 10, overlapped)
    win32file.WriteFile(client, b"abc")
    assert w.signalled(overlapped.hEvent)
    assert w.packet(port, 0) == (0, 3, 1, overlapped)


def test_results_are_visible_to_a_wait_of_zero_when_the_peers_call_has_returned(name: str) -> None:
    server, client = w.connected(name)
    port = w.port_for(server)
    for number in range(200):
        _, overlapped = plain_read(server)
        win32file.WriteFile(client, b"%d" % number)
        assert w.packet(port, 0) == (0, len(str(number)), 1, overlapped)


def test_a_blocked_wait_for_a_packet_ends_with_the_peers_write(name: str) -> None:
    server, client = w.connected(name)
    port = w.port_for(server)
    _, overlapped = plain_read(server)
    waiting = h.blocked_in(w.packet, port)
    win32file.WriteFile(client, b"abc")
    assert waiting.result() == (0, 3, 1, overlapped)


def test_an_operation_that_began_before_the_binding(name: str) -> None:
    server, client = w.connected(name)
    _, overlapped = plain_read(server)
    port = w.port_for(server)
    win32file.WriteFile(client, b"abc")
    assert w.packet(port) == (0, 3, 1, overlapped)


def test_binding_refuses_synchronous_handles_twice_bound_ones_and_what_is_no_file(name: str) -> None:
    server, client = w.connected(name, client_overlapped=False)
    port = w.port_for()
    assert w.code_of(win32file.CreateIoCompletionPort, client, port, 1, 0) == 87
    win32file.CreateIoCompletionPort(server, port, 1, 0)
    assert w.code_of(win32file.CreateIoCompletionPort, server, port, 1, 0) == 87
    assert w.code_of(win32file.CreateIoCompletionPort, server, w.port_for(), 1, 0) == 87
    duplicate = win32api.DuplicateHandle(None, server, None, 0, False, 2)
    assert w.code_of(win32file.CreateIoCompletionPort, duplicate, port, 1, 0) == 87
    assert w.code_of(win32file.CreateIoCompletionPort, w.event(), port, 1, 0) == 6
    assert w.code_of(win32file.CreateIoCompletionPort, 0x7FFFFFF0, port, 1, 0) == 6
    other, _ = w.connected(name + "-other")
    assert w.code_of(win32file.CreateIoCompletionPort, other, w.event(), 1, 0) == 6


def test_a_handle_that_is_given_without_a_port_makes_one_for_it(name: str) -> None:
    server, client = w.connected(name)
    port = win32file.CreateIoCompletionPort(server, None, 42, 0)
    _, overlapped = plain_read(server)
    win32file.WriteFile(client, b"x")
    assert w.packet(port) == (0, 1, 42, overlapped)


def test_a_key_that_is_none_does_not_bind(name: str) -> None:
    server, client = w.connected(name)
    port = w.port_for()
    with pytest.raises(TypeError, match="Unable to convert str to pointer-sized value"):
        win32file.CreateIoCompletionPort(server, port, "key", 0)  # type: ignore[arg-type]
    win32file.ReadFile(server, 5, win32file.OVERLAPPED())
    win32file.WriteFile(client, b"x")
    assert empty(port)


def test_wrong_handles_are_6() -> None:
    port = w.port_for()
    assert win32file.GetQueuedCompletionStatus(w.event(), 0) == (6, 0, 0, None)
    assert w.code_of(win32file.PostQueuedCompletionStatus, w.event(), 0, 0, None) == 6
    port.Close()
    assert win32file.GetQueuedCompletionStatus(port, 0) == (6, 0, 0, None)
    with pytest.raises(TypeError):
        win32file.PostQueuedCompletionStatus(w.port_for(), 0, 0, object())  # type: ignore[arg-type]


def test_closing_a_port_that_is_waited_for_ends_the_wait_with_735() -> None:
    port = w.port_for()
    waiting = h.blocked_in(win32file.GetQueuedCompletionStatus, port, 2000)
    port.Close()
    assert waiting.result() == (735, 0, 0, None)


def test_a_port_that_is_closed_with_packets_and_pending_operations_lets_go_of_them(name: str) -> None:
    server, client = w.connected(name)
    port = w.port_for(server)
    buffer, other = bytearray(10), bytearray(10)
    overlapped, pended = win32file.OVERLAPPED(), win32file.OVERLAPPED()
    win32file.ReadFile(server, buffer, overlapped)
    win32file.ReadFile(server, other, pended)
    win32file.WriteFile(client, b"abc")
    port.Close()
    buffer.extend(b"!")
    with pytest.raises(BufferError):
        other.extend(b"!")
    win32file.WriteFile(client, b"def")
    assert w.result(server, pended) == (0, 3)
    assert bytes(other[:3]) == b"def"
    server.Close()


def test_an_overlapped_that_was_not_kept_is_a_runtime_error_as_in_pywin32(name: str) -> None:
    server, client = w.connected(name)
    port = w.port_for(server)
    win32file.ReadFile(server, 10, win32file.OVERLAPPED())
    win32file.WriteFile(client, b"abc")
    with pytest.raises(RuntimeError, match="lost all its references"):
        win32file.GetQueuedCompletionStatus(port, w.MS)
    assert empty(port)


def test_one_port_serves_many_ends_and_threads(name: str) -> None:
    pairs = [w.connected(f"{name}-{number}", mode=w.MESSAGE) for number in range(20)]
    port = w.port_for(*(server for server, _ in pairs))
    buffers = [bytearray(10) for _ in pairs]
    kept = [win32file.OVERLAPPED() for _ in pairs]

    def serve() -> None:
        while True:
            code, count, key, overlapped = w.packet(port)
            if key == 0:
                return
            assert code == 0
            assert overlapped is kept[key - 1]
            win32file.WriteFile(pairs[key - 1][0], b"<" + bytes(buffers[key - 1][:count]) + b">")
            win32file.ReadFile(pairs[key - 1][0], buffers[key - 1], kept[key - 1])

    for (server, _), buffer, overlapped in zip(pairs, buffers, kept, strict=True):
        win32file.ReadFile(server, buffer, overlapped)
    # Writes give packets of their own: they carry no OVERLAPPED here, so there are none.
    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        for number, (_, client) in enumerate(pairs):
            win32file.WriteFile(client, b"%d.%d" % (turn, number))
        for number, (_, client) in enumerate(pairs):
            assert win32file.ReadFile(client, 20) == (0, b"<%d.%d>" % (turn, number))
    for _ in threads:
        win32file.PostQueuedCompletionStatus(port, 0, 0, None)
    for thread in threads:
        thread.join(h.DEADLINE)
        assert not thread.is_alive()
