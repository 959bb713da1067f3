"""Reading: SEMANTICS §5, and the pending reads of §0.3."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from tests import helpers as h

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = 300_000

# ---- §5.1 Connected, data queued

KINDS = [("byte read", h.BYTE, 0), ("byte read", h.MESSAGE, 0), ("message read", h.MESSAGE, h.READ_MESSAGE)]


def _filled(name: str, kind: tuple[str, int, int], entries: list[bytes], to: str = "client") -> h.Handle:
    """The reading end of a pipe with these entries unread; the other end stays open."""
    server, client = h.connected(name, type=kind[1], mode=kind[2])
    writer, reader = (server, client) if to == "client" else (client, server)
    for entry in entries:
        h.write(writer, entry, 0)
    KEPT.append(writer)
    return reader


KEPT: list[h.Handle] = []  # until the test is over


@pytest.fixture(autouse=True)
def _writers_go_with_the_test() -> Iterator[None]:
    yield
    KEPT.clear()


@pytest.mark.parametrize("to", ["client", "server"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("entries", "size", "bytes_result", "message_result"),
    [
        ([b"abcdef"], 4, (0, b"abcd"), (234, b"abcd")),
        ([b"abcdef"], 6, (0, b"abcdef"), (0, b"abcdef")),
        ([b"abcdef"], 7, (0, b"abcdef"), (0, b"abcdef")),
        ([b"abc", b"def"], 2, (0, b"ab"), (234, b"ab")),
        ([b"abc", b"def"], 3, (0, b"abc"), (0, b"abc")),
        ([b"abc", b"def"], 4, (0, b"abcd"), (0, b"abc")),
        ([b"abc", b"def"], 6, (0, b"abcdef"), (0, b"abc")),
        ([b"abc", b"def"], 100, (0, b"abcdef"), (0, b"abc")),
        ([b"a", b"b", b"c", b"d"], 3, (0, b"abc"), (0, b"a")),
        ([b"x" * 127, b"y" * 128, b"z" * 16384], 40000, (0, b"x" * 127 + b"y" * 128 + b"z" * 16384), (0, b"x" * 127)),
    ],
)
def test_a_read_takes_what_the_mode_and_the_buffer_allow(
    name: str,
    kind: tuple[str, int, int],
    to: str,
    entries: list[bytes],
    size: int,
    bytes_result: tuple[int, bytes],
    message_result: tuple[int, bytes],
) -> None:
    reader = _filled(name, kind, entries, to)
    expected = message_result if kind[0] == "message read" else bytes_result
    assert h.read(reader, size, 0) == expected
    assert reader.peek_pipe()[1] == len(b"".join(entries)) - len(expected[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[1], [3, 1], [2, 7, 5]])
def test_reads_of_any_size_give_all_bytes_in_order(name: str, kind: tuple[str, int, int], sizes: list[int]) -> None:
    entries = [bytes([65 + i]) * i for i in range(1, 12)]
    reader = _filled(name, kind, entries)
    got = b""
    for size in itertools.cycle(sizes):
        if got == b"".join(entries):
            break
        code, data = h.read(reader, size, 0)
        assert len(data) <= size
        assert code == 0 or kind[0] == "message read"
        got += data
    assert h.would_wait(lambda: h.read(reader, 1, 0))


@pytest.mark.parametrize("size", [1, 126, 127, 128, 129, 16382, 16383, 16384, 16385, 65535, 65536])
def test_a_message_of_any_length_comes_whole(name: str, size: int) -> None:
    data = bytes(i * 7 & 255 for i in range(size))
    reader = _filled(name, KINDS[2], [data])
    assert h.read(reader, size, 0) == (0, data)


def test_the_rest_of_a_message_comes_with_the_next_reads_and_again_as_234(name: str) -> None:
    reader = _filled(name, KINDS[2], [b"abcdef", b"next"])
    assert h.read(reader, 2, 0) == (234, b"ab")
    assert reader.rest_of_message() == 4
    assert h.read(reader, 3, 0) == (234, b"cde")
    assert h.read(reader, 3, 0) == (0, b"f")
    assert reader.rest_of_message() == 0
    assert h.read(reader, 4, 0) == (0, b"next")


def test_the_rest_of_a_message_can_be_read_from_another_thread(name: str) -> None:
    reader = _filled(name, KINDS[2], [b"abcdef"])
    assert h.read(reader, 2, 0) == (234, b"ab")
    assert h.Background(lambda: h.read(reader, 10, 0)).result() == (0, b"cdef")


def test_switching_to_byte_mode_in_mid_message_keeps_the_rest_and_joins_what_follows(name: str) -> None:
    server, client = h.connected(name)
    h.write(server, b"abcdef")
    assert h.read(client, 2) == (234, b"ab")
    client.set_state(0)
    h.write(server, b"GHI")
    assert h.read(client, 100) == (0, b"cdefGHI")


def test_switching_to_message_mode_in_mid_message_yields_the_rest_then_the_next_message(name: str) -> None:
    server, client = h.connected(name, mode=0)
    h.write(server, b"abcdef")
    h.write(server, b"GHI")
    assert h.read(client, 4) == (0, b"abcd")
    client.set_state(h.READ_MESSAGE)
    assert h.read(client, 100) == (0, b"ef")
    assert h.read(client, 100) == (0, b"GHI")


def test_the_read_modes_of_the_two_ends_do_not_touch_each_other(name: str) -> None:
    server, client = h.connected(name)
    client.set_state(0)
    for writer in (server, client):
        h.write(writer, b"ab")
        h.write(writer, b"cd")
    assert h.read(client) == (0, b"abcd")
    assert h.read(server) == (0, b"ab")


def test_a_message_split_over_two_pending_reads_gives_234_and_then_the_rest(name: str) -> None:
    server, client = h.connected(name)
    first = h.blocked(lambda: h.read(client, 2))
    second = h.blocked(lambda: h.read(client, 10))
    h.write(server, b"abcde")
    assert first.result() == (234, b"ab")
    assert second.result() == (0, b"cde")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pending_read_completes_with_the_first_write_and_does_not_wait_to_be_full(
    name: str, kind: tuple[str, int, int]
) -> None:
    server, client = h.connected(name, type=kind[1], mode=kind[2])
    reading = h.blocked(lambda: h.read(client, 100))
    h.write(server, b"abc")
    assert reading.result() == (0, b"abc")
    assert client.peek_pipe()[1] == 0


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (KINDS[0], [(0, b"ab"), (0, b"cd"), (0, b"e")]),
        (KINDS[1], [(0, b"ab"), (0, b"cd"), (0, b"e")]),
        (KINDS[2], [(234, b"ab"), (234, b"cd"), (0, b"e")]),
    ],
)
@pytest.mark.parametrize("quota", [0, 4, 65536])
def test_pending_reads_are_served_in_order(
    name: str, kind: tuple[str, int, int], expected: list[tuple[int, bytes]], quota: int
) -> None:
    server, client = h.connected(name, type=kind[1], mode=kind[2], quota=quota)
    reads = [h.blocked(lambda: h.read(client, 2)) for _ in range(3)]
    assert h.write(server, b"abcde", 0) == 5
    assert [reading.result() for reading in reads] == expected


def test_many_pending_reads_are_served_in_order(name: str) -> None:
    server, client = h.connected(name)
    reads = [h.blocked(lambda: h.read(client)) for _ in range(24)]
    for i in range(24):
        h.write(server, b"%d" % i, 0)
    assert [reading.result() for reading in reads] == [(0, b"%d" % i) for i in range(24)]


def test_a_pending_read_that_timed_out_leaves_the_order_of_the_others(name: str) -> None:
    server, client = h.connected(name)
    first = h.blocked(lambda: h.read(client, 1))
    short = h.blocked(lambda: h.read(client, 1, 0.2))
    last = h.blocked(lambda: h.read(client, 1))
    assert short.code() == 121
    h.write(server, b"1")
    h.write(server, b"2")
    assert first.result() == (0, b"1")
    assert last.result() == (0, b"2")


# ---- §5.2 Zero-length messages and reads


@pytest.mark.parametrize("quota", [0, 10])
def test_an_empty_write_on_a_byte_pipe_has_no_effect_and_readers_stay_blocked(name: str, quota: int) -> None:
    server, client = h.connected(name, type=h.BYTE, quota=quota)
    reading = h.blocked(lambda: h.read(client, 10))
    for _ in range(3):
        assert h.write(server, b"", 0) == 0
    assert client.peek_pipe(10)[1] == 0
    assert reading.running
    assert h.write(server, b"x", 0) == 1
    assert reading.result() == (0, b"x")
    assert h.would_wait(lambda: h.read(client, 10, 0))


@pytest.mark.parametrize("mode", [0, h.READ_MESSAGE])
@pytest.mark.parametrize("size", [0, 10])
def test_an_empty_message_completes_one_pending_read_with_nothing(name: str, mode: int, size: int) -> None:
    server, client = h.connected(name, mode=mode, quota=0)
    reads = [h.blocked(lambda: h.read(client, size)) for _ in range(2)]
    assert h.write(server, b"", 0) == 0
    assert reads[0].result() == (0, b"")
    assert reads[1].running
    assert h.write(server, b"", 0) == 0
    assert reads[1].result() == (0, b"")
    assert h.would_wait(lambda: h.read(client, 10, 0))


@pytest.mark.parametrize(
    ("entries", "size", "byte_reads", "message_reads"),
    [
        ([b"", b"abc"], 100, [(0, b"abc")], [(0, b""), (0, b"abc")]),
        ([b"abc", b""], 100, [(0, b"abc")], [(0, b"abc"), (0, b"")]),
        ([b"abc", b""], 3, [(0, b"abc"), (0, b"")], [(0, b"abc"), (0, b"")]),
        ([b"abc", b"", b"def"], 100, [(0, b"abcdef")], [(0, b"abc"), (0, b""), (0, b"def")]),
        ([b"", b""], 100, [(0, b"")], [(0, b""), (0, b"")]),
        ([b"", b"", b"a", b"", b""], 100, [(0, b"a")], [(0, b""), (0, b""), (0, b"a"), (0, b""), (0, b"")]),
        ([b"", b"abc"], 2, [(0, b"ab"), (0, b"c")], [(0, b""), (234, b"ab"), (0, b"c")]),
    ],
)
@pytest.mark.parametrize("mode", [0, h.READ_MESSAGE])
def test_empty_messages_are_read_as_the_mode_says(
    name: str,
    mode: int,
    entries: list[bytes],
    size: int,
    byte_reads: list[tuple[int, bytes]],
    message_reads: list[tuple[int, bytes]],
) -> None:
    client = _filled(name, ("", h.MESSAGE, mode), entries)
    for expected in message_reads if mode else byte_reads:
        assert h.read(client, size, 0) == expected
    assert h.would_wait(lambda: h.read(client, size, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_of_nothing_waits_on_an_empty_pipe_and_takes_nothing(name: str, kind: tuple[str, int, int]) -> None:
    server, client = h.connected(name, type=kind[1], mode=kind[2])
    assert h.would_wait(lambda: h.read(client, 0, 0))
    reading = h.blocked(lambda: h.read(client, 0))
    h.write(server, b"abc")
    assert reading.result() == ((234 if kind[0] == "message read" else 0), b"")
    assert h.read(client, 10, 0) == (0, b"abc")


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_of_nothing_with_data_there_takes_nothing(name: str, kind: tuple[str, int, int]) -> None:
    client = _filled(name, kind, [b"abc"])
    for _ in range(3):
        assert h.read(client, 0, 0) == ((234 if kind[0] == "message read" else 0), b"")
    assert h.read(client, 10, 0) == (0, b"abc")


@pytest.mark.parametrize("mode", [0, h.READ_MESSAGE])
def test_a_read_of_nothing_consumes_an_empty_message(name: str, mode: int) -> None:
    client = _filled(name, ("", h.MESSAGE, mode), [b"", b"abc"])
    assert h.read(client, 0, 0) == (0, b"")
    assert h.read(client, 10, 0) == (0, b"abc")


def test_a_pending_read_of_nothing_is_no_room_for_a_writer(name: str) -> None:
    server, client = h.connected(name, quota=0)
    reading = h.blocked(lambda: h.read(client, 0))
    writing = h.blocked(lambda: h.write(server, b"abc"))
    assert reading.result() == (234, b"")
    assert h.read(client, 10) == (0, b"abc")
    assert writing.result() == 3


# ---- §5.3 Nothing queued


@pytest.mark.parametrize("size", [0, 1, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_a_nowait_read_of_an_empty_pipe_is_232(name: str, kind: tuple[str, int, int], size: int) -> None:
    server, client = h.connected(name, type=kind[1], mode=kind[2])
    client.set_state(kind[2] | h.NOWAIT)
    for timeout in (None, 0, 1):
        with h.fails(232):
            client.read_file(size, timeout)
    h.write(server, b"a")
    assert client.read_file(1) == (0, b"a")
    server.close_handle()
    with h.fails(109):
        client.read_file(size)


@pytest.mark.parametrize("size", [0, 1])
def test_a_nowait_read_tells_the_state_before_emptiness(name: str, size: int) -> None:
    server = h.create(name, mode=h.NOWAIT)
    with h.fails(536):
        server.read_file(size)
    client = h.open_client(name, mode=h.NOWAIT)
    with h.fails(232):
        server.read_file(size)
    server.disconnect()
    for handle in (server, client):
        with h.fails(233):
            handle.read_file(size)


@pytest.mark.parametrize("timeout", [0, 0.001, 0.05])
@pytest.mark.parametrize("kind", KINDS)
def test_a_read_that_times_out_is_121_and_consumes_nothing(
    name: str, kind: tuple[str, int, int], timeout: float
) -> None:
    server, client = h.connected(name, type=kind[1], mode=kind[2])
    for _ in range(3):
        with h.fails(121):
            h.read(client, 10, timeout)
    h.write(server, b"abc")
    assert h.read(client, 10, timeout) == (0, b"abc")


def test_a_time_out_that_is_negative_or_nan_is_a_value_error(name: str) -> None:
    _server, client = h.connected(name)
    for timeout in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=r"time-?out"):
            client.read_file(1, timeout)


# ---- §5.5 End of life


@pytest.mark.parametrize("to", ["client", "server"])
def test_after_the_peer_closed_its_messages_come_with_their_boundaries_then_109_for_ever(name: str, to: str) -> None:
    server, client = h.connected(name)
    writer, reader = (server, client) if to == "client" else (client, server)
    for data in (b"abc", b"", b"defgh"):
        h.write(writer, data)
    writer.close_handle()
    assert h.read(reader, 2) == (234, b"ab")
    assert h.read(reader, 2) == (0, b"c")
    assert h.read(reader) == (0, b"")
    assert h.read(reader) == (0, b"defgh")
    for size in (0, 1, 100):
        with h.fails(109):
            h.read(reader, size)


def test_an_empty_message_and_a_close_read_as_nothing_then_109(name: str) -> None:
    server, client = h.connected(name)
    h.write(server, b"")
    server.close_handle()
    assert h.read(client) == (0, b"")
    with h.fails(109):
        h.read(client)


@pytest.mark.parametrize("reader", ["server", "client"])
def test_after_a_disconnect_reads_are_233_at_once_and_the_data_is_lost(name: str, reader: str) -> None:
    server, client = h.connected(name)
    h.write(server, b"x")
    h.write(client, b"x")
    server.disconnect()
    for _ in range(2):
        with h.fails(233):
            h.read(server if reader == "server" else client)


# ---- More than stands in the ring (§0.3: an over-quota entry is visible at once)


@pytest.mark.parametrize("quota", [0, 10, 4096, 65536])
@pytest.mark.parametrize("size", [70_000, BIG, 3_000_000])
def test_a_message_far_over_the_quota_is_read_whole_while_its_writer_is_pending(
    name: str, quota: int, size: int
) -> None:
    server, client = h.connected(name, quota=quota)
    data = bytes(range(256)) * (size // 256)
    writing = h.blocked(lambda: h.write(server, data))
    assert client.peek_pipe()[1] == len(data)
    assert h.read(client, size) == (0, data)
    assert writing.result() == len(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_zero_time_out_read_takes_a_visible_entry_that_is_larger_than_the_quota(
    name: str, kind: tuple[str, int, int]
) -> None:
    server, client = h.connected(name, type=kind[1], mode=kind[2], quota=10)
    writing = h.blocked(lambda: h.write(server, b"a" * BIG))
    assert h.read(client, 1000, 0)[1] == b"a" * 1000
    assert h.read(client, BIG, 0) == (0, b"a" * (BIG - 1000))
    assert writing.result() == BIG


@pytest.mark.parametrize("kind", KINDS)
def test_a_nowait_read_takes_a_visible_entry_that_is_larger_than_the_ring(
    name: str, kind: tuple[str, int, int]
) -> None:
    server, client = h.connected(name, type=kind[1], mode=kind[2], quota=10)
    client.set_state(kind[2] | h.NOWAIT)
    writing = h.blocked(lambda: h.write(server, b"a" * BIG))
    assert client.read_file(BIG) == (0, b"a" * BIG)
    assert writing.result() == BIG
    with h.fails(232):
        client.read_file(1)


@pytest.mark.parametrize("type", [h.BYTE, h.MESSAGE])
def test_a_byte_read_joins_the_entries_of_several_blocked_writers(name: str, type: int) -> None:
    server, client = h.connected(name, type=type, mode=0, quota=10)
    writers = [h.blocked_in(h.write, server, x * 100_000) for x in (b"a", b"b", b"c")]
    assert client.peek_pipe()[1] == 300_000
    assert h.read(client, 300_000) == (0, b"a" * 100_000 + b"b" * 100_000 + b"c" * 100_000)
    assert [writer.result() for writer in writers] == [100_000] * 3


def test_parts_of_a_long_message_are_234_until_its_end(name: str) -> None:
    server, client = h.connected(name, quota=0)
    data = bytes(i % 251 for i in range(BIG))
    writing = h.blocked(lambda: h.write(server, data))
    got = b""
    while len(got) < BIG:
        code, part = h.read(client, 70_001)
        got += part
        assert code == (0 if len(got) == BIG else 234)
    assert got == data
    assert writing.result() == BIG


def test_messages_of_more_blocked_writers_than_there_are_slots_all_arrive_in_order(name: str) -> None:
    server, client = h.connected(name, quota=3)
    writers = [h.blocked_in(h.write, server, b"message %d" % i) for i in range(70)]
    assert client.peek_pipe()[1] == sum(len(b"message %d" % i) for i in range(70))
    assert [h.read(client) for _ in range(70)] == [(0, b"message %d" % i) for i in range(70)]
    for writer in writers:
        writer.result()
    assert client.peek_pipe() == (b"", 0, 0)


@pytest.mark.parametrize("type", [h.BYTE, h.MESSAGE])
@pytest.mark.parametrize("size", [50, 100_000, BIG])
def test_a_byte_read_loses_nothing_when_a_complete_entry_stands_before_a_pending_one(
    name: str, type: int, size: int
) -> None:
    server, client = h.connected(name, type=type, mode=0, quota=10)
    h.write(server, b"first", 0)
    writing = h.blocked(lambda: h.write(server, b"x" * size))
    got = b""
    while len(got) < 5 + size:
        got += h.read(client, BIG + 5)[1]
    assert got == b"first" + b"x" * size
    assert writing.result() == size


def test_a_byte_read_loses_nothing_with_more_blocked_writers_than_there_are_slots(name: str) -> None:
    server, client = h.connected(name, type=h.BYTE, quota=3)
    writers = [h.blocked_in(h.write, server, b"message %02d" % i) for i in range(70)]
    everything = b"".join(b"message %02d" % i for i in range(70))
    got = b""
    while len(got) < len(everything):
        got += h.read(client, 10_000)[1]
    assert got == everything
    for writer in writers:
        writer.result()


# ---- recv: a whole message


def _message_ends(name: str, quota: int = 65536) -> tuple[h.MessageHandle, h.MessageHandle]:
    ends = []
    for handle in h.connected(name, quota=quota):
        end = h.MessageHandle()
        end.adopt(handle)
        ends.append(end)
    return ends[0], ends[1]


@pytest.mark.parametrize("size", [0, 1, 65536, BIG, 20_000_000])
def test_recv_returns_a_message_of_any_length(name: str, size: int) -> None:
    server, client = _message_ends(name)
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    sending = h.Background(lambda: server.send(data, timeout=h.DEADLINE))
    assert client.recv(timeout=h.DEADLINE) == data
    sending.result()


def test_recv_of_a_message_over_the_limit_is_234_and_the_message_stays(name: str) -> None:
    server, client = _message_ends(name)
    client.max_message_size = 5
    server.send(b"123456")
    for _ in range(2):
        with h.fails(234):
            client.recv(timeout=h.DEADLINE)
    client.max_message_size = 6
    assert client.recv(timeout=0) == b"123456"


@pytest.mark.parametrize("limit", [5, 100_000])
def test_recv_of_a_long_message_over_the_limit_is_234_and_the_message_stays(name: str, limit: int) -> None:
    server, client = _message_ends(name, quota=10)
    client.max_message_size = limit
    sending = h.blocked(lambda: server.send(b"a" * BIG, timeout=h.DEADLINE))
    for _ in range(3):
        with h.fails(234):
            client.recv(timeout=h.DEADLINE)
    client.max_message_size = BIG
    assert client.recv(timeout=h.DEADLINE) == b"a" * BIG
    sending.result()


def test_recv_after_a_part_returns_the_rest_of_that_message(name: str) -> None:
    server, client = _message_ends(name)
    server.send(b"abcdef")
    server.send(b"next")
    part = bytearray(2)
    assert client.recv_into(part, timeout=0) == 2
    assert client.rest_of_message() == 4
    assert client.recv(timeout=0) == b"cdef"
    assert client.recv(timeout=0) == b"next"


def test_pending_recvs_of_several_threads_are_served_in_order(name: str) -> None:
    server, client = _message_ends(name)
    receiving = [h.blocked(lambda: client.recv(timeout=h.DEADLINE)) for _ in range(5)]
    for i in range(5):
        server.send(b"%d" % i)
    assert [one.result() for one in receiving] == [b"%d" % i for i in range(5)]


@pytest.mark.parametrize("size", [20, 100_000, BIG])
def test_a_recv_gets_the_next_message_when_the_one_under_way_is_withdrawn(name: str, size: int) -> None:
    server, client = _message_ends(name, quota=10)
    with h.fails(121):
        server.send(b"w" * size, timeout=0.02)
    receiving = h.blocked(lambda: client.recv(timeout=h.DEADLINE))
    server.send(b"next", timeout=0)
    assert receiving.result() == b"next"


def test_a_wait_on_a_message_that_comes_while_others_read_is_over_with_the_close(name: str) -> None:
    server, client = _message_ends(name)
    receiving = [h.blocked(lambda: client.recv(timeout=h.DEADLINE)) for _ in range(4)]
    server.send(b"one")
    server.close_handle()
    codes = sorted(one.code() for one in receiving)
    assert codes == [0, 109, 109, 109]


def test_two_directions_do_not_wait_for_each_other(name: str) -> None:
    server, client = _message_ends(name, quota=0)
    go = threading.Barrier(2)

    def swap(end: h.MessageHandle) -> bytes:
        go.wait(h.DEADLINE)
        receiving = h.Background(lambda: end.recv(timeout=h.DEADLINE))
        end.send(b"x" * BIG, timeout=h.DEADLINE)
        return receiving.result()

    both = [h.started(swap, end) for end in (server, client)]
    assert [one.result() for one in both] == [b"x" * BIG] * 2
