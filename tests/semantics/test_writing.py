"""Writing: SEMANTICS §6, exact quotas, rendezvous, NOWAIT, and what pending reads count for."""

from __future__ import annotations

import pytest

from tests import helpers as h

TYPES = [h.BYTE, h.MESSAGE]


def _ends(name: str, *, type: int, quota: int, to: str = "client") -> tuple[h.Handle, h.Handle]:
    """(writer, reader); the other direction's quota is another one."""
    other = 77
    if to == "client":
        return h.connected(name, type=type, out_quota=quota, in_quota=other)
    server, client = h.connected(name, type=type, out_quota=other, in_quota=quota)
    return client, server


# ---- §6.1 Completion and quota


@pytest.mark.parametrize("to", ["client", "server"])
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("quota", [1, 10, 4095, 4096, 65535, 65536, 65537, 1_000_000])
def test_writes_up_to_the_quota_complete_at_once_and_one_byte_more_does_not(
    name: str, type: int, quota: int, to: str
) -> None:
    writer, reader = _ends(name, type=type, quota=quota, to=to)
    assert h.write(writer, b"a" * quota, 0) == quota
    with h.fails(121):
        h.write(writer, b"b", 0)
    assert reader.peek_pipe()[1] == quota
    assert h.read(reader, 1, 0)[1] == b"a"
    assert h.write(writer, b"b", 0) == 1
    with h.fails(121):
        h.write(writer, b"b", 0)
    assert reader.peek_pipe()[1] == quota


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("quota", [1, 10, 1000, 65536, 131072])
def test_the_quota_holds_as_many_writes_of_one_byte(name: str, type: int, quota: int) -> None:
    writer, reader = _ends(name, type=type, quota=quota)
    for _ in range(quota):
        assert h.write(writer, b"x", 0) == 1
    with h.fails(121):
        h.write(writer, b"x", 0)
    assert reader.peek_pipe()[1] == quota


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("size", [11, 12, 100, 1_000_000])
def test_a_write_over_the_quota_that_may_not_wait_is_121_and_queues_nothing(name: str, type: int, size: int) -> None:
    writer, reader = _ends(name, type=type, quota=10)
    for _ in range(3):
        with h.fails(121):
            h.write(writer, b"x" * size, 0)
        assert reader.peek_pipe(10)[1] == 0
    assert h.write(writer, b"x" * 10, 0) == 10


@pytest.mark.parametrize("type", TYPES)
def test_of_25_bytes_into_a_quota_of_10_the_write_completes_after_15_were_read(name: str, type: int) -> None:
    writer, reader = _ends(name, type=type, quota=10)
    writing = h.blocked(lambda: h.write(writer, bytes(range(25))))
    assert reader.peek_pipe()[1] == 25
    assert h.read(reader, 14)[1] == bytes(range(14))
    writing.blocked()
    assert h.read(reader, 1)[1] == bytes([14])
    assert writing.result() == 25
    assert reader.peek_pipe()[1] == 10
    assert h.read(reader, 100, 0) == (0, bytes(range(15, 25)))


@pytest.mark.parametrize("type", TYPES)
def test_with_8_unread_of_10_a_write_of_5_completes_after_3_were_read(name: str, type: int) -> None:
    writer, reader = _ends(name, type=type, quota=10)
    h.write(writer, b"12345678")
    writing = h.blocked(lambda: h.write(writer, b"abcde"))
    assert reader.peek_pipe()[1] == 13
    assert h.read(reader, 2)[1] == b"12"
    writing.blocked()
    assert h.read(reader, 1)[1] == b"3"
    assert writing.result() == 5
    assert reader.peek_pipe()[1] == 10


@pytest.mark.parametrize("type", TYPES)
def test_peeking_is_no_reading_for_a_blocked_writer(name: str, type: int) -> None:
    writer, reader = _ends(name, type=type, quota=0)
    writing = h.blocked(lambda: h.write(writer, b"abc"))
    for _ in range(3):
        assert reader.peek_pipe(10)[:2] == (b"abc", 3)
    writing.blocked()
    assert h.read(reader, 3)[1] == b"abc"
    assert writing.result() == 3


@pytest.mark.parametrize("type", TYPES)
def test_with_no_quota_a_write_blocks_until_it_is_fully_read(name: str, type: int) -> None:
    writer, reader = _ends(name, type=type, quota=0)
    with h.fails(121):
        h.write(writer, b"a", 0)
    writing = h.blocked(lambda: h.write(writer, b"abc"))
    assert h.read(reader, 2)[1] == b"ab"
    writing.blocked()
    assert h.read(reader, 2) == (0, b"c")
    assert writing.result() == 3


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("asked", [3, 4, 100])
def test_with_no_quota_a_blocked_reader_of_enough_is_room(name: str, type: int, asked: int) -> None:
    writer, reader = _ends(name, type=type, quota=0)
    reading = h.blocked(lambda: h.read(reader, asked))
    assert h.write(writer, b"abc", 0) == 3
    assert reading.result() == (0, b"abc")
    with h.fails(121):
        h.write(writer, b"d", 0)


@pytest.mark.parametrize(
    ("quota", "asked", "size", "completes"), [(0, 2, 3, False), (1, 2, 3, True), (10, 5, 15, True), (10, 5, 16, False)]
)
@pytest.mark.parametrize("type", TYPES)
def test_what_a_pending_read_asks_for_is_room_for_a_write(
    name: str, type: int, quota: int, asked: int, size: int, completes: bool
) -> None:
    writer, reader = _ends(name, type=type, quota=quota)
    reading = h.blocked(lambda: h.read(reader, asked))
    data = bytes(range(size))
    if completes:
        assert h.write(writer, data, 0) == size
        writing = None
    else:
        with h.fails(121):
            h.write(writer, data, 0)
        assert reading.running
        writing = h.blocked(lambda: h.write(writer, data))
    assert reading.result() == (0 if type == h.BYTE else 234, data[:asked])
    if writing is not None:
        assert h.read(reader, size - asked - quota)[1] == data[asked : size - quota]
        assert writing.result() == size
    with h.fails(121):
        h.write(writer, b"x", 0)
    if quota:
        assert h.read(reader, 100, 0) == (0, data[size - quota :])


@pytest.mark.parametrize("type", TYPES)
def test_several_pending_reads_are_room_together(name: str, type: int) -> None:
    writer, reader = _ends(name, type=type, quota=0)
    reads = [h.blocked(lambda: h.read(reader, 4)) for _ in range(3)]
    with h.fails(121):
        h.write(writer, b"x" * 13, 0)
    assert h.write(writer, b"abcdefghij", 0) == 10
    assert [one.result()[1] for one in reads] == [b"abcd", b"efgh", b"ij"]
    with h.fails(121):
        h.write(writer, b"x", 0)


@pytest.mark.parametrize("type", TYPES)
def test_each_of_several_pending_reads_is_room_for_a_write_of_its_own(name: str, type: int) -> None:
    writer, reader = _ends(name, type=type, quota=0)
    reads = [h.blocked(lambda: h.read(reader, 100)) for _ in range(3)]
    for i in range(3):
        assert h.write(writer, b"%d" % i, 0) == 1
    with h.fails(121):
        h.write(writer, b"x", 0)
    assert [one.result() for one in reads] == [(0, b"0"), (0, b"1"), (0, b"2")]


@pytest.mark.parametrize("type", TYPES)
def test_a_pending_read_that_timed_out_is_no_room_any_more(name: str, type: int) -> None:
    writer, reader = _ends(name, type=type, quota=0)
    for _ in range(3):
        assert h.blocked(lambda: h.read(reader, 100, 0.05)).code() == 121
        with h.fails(121):
            h.write(writer, b"x", 0)
    reading = h.blocked(lambda: h.read(reader, 100))
    assert h.write(writer, b"y", 0) == 1
    assert reading.result() == (0, b"y")


@pytest.mark.parametrize("quota", [0, 1, 10])
def test_an_empty_message_never_waits_and_queues_behind_what_is_blocked(name: str, quota: int) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=quota)
    writing = h.blocked(lambda: h.write(writer, b"x" * 20))
    for _ in range(3):
        assert h.write(writer, b"", 0) == 0
    writing.blocked()
    assert reader.peek_pipe(100) == (b"x" * 20, 20, 0)
    assert h.read(reader) == (0, b"x" * 20)
    for _ in range(3):
        assert h.read(reader, 10, 0) == (0, b"")
    assert writing.result() == 20
    with h.fails(121):
        h.read(reader, 10, 0)


def test_empty_messages_do_not_count_against_the_quota_however_many(name: str) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=10)
    for _ in range(70_000):
        h.write(writer, b"", 0)
    assert h.write(writer, b"x" * 10, 0) == 10
    with h.fails(121):
        h.write(writer, b"y", 0)
    for _ in range(70_000):
        assert h.read(reader, 10, 1) == (0, b"")
    assert h.read(reader, 10, 1) == (0, b"x" * 10)


def test_an_empty_message_waits_for_nothing_also_behind_a_write_longer_than_the_ring(name: str) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=10)
    data = bytes(range(256)) * 4096
    writing = h.blocked(lambda: h.write(writer, data))
    for _ in range(2):
        assert h.write(writer, b"", 0) == 0
    with h.fails(121):
        h.write(writer, b"x", 0)
    assert h.read(reader, len(data)) == (0, data)
    assert writing.result() == len(data)
    assert h.write(writer, b"behind") == 6
    for expected in (b"", b"", b"behind"):
        assert h.read(reader, 10, 1) == (0, expected)


def test_what_stands_in_no_ring_yet_is_delivered_after_a_close(name: str) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=10)
    for _ in range(66_000):
        h.write(writer, b"", 0)
    h.write(writer, b"last", 0)
    closing = h.Background(writer.close_handle)
    for _ in range(66_000):
        assert h.read(reader, 10, 1) == (0, b"")
    assert h.read(reader, 10, 1) == (0, b"last")
    closing.result()
    with h.fails(109):
        h.read(reader, 10, 1)


def test_an_empty_write_on_a_full_byte_pipe_does_nothing(name: str) -> None:
    writer, reader = _ends(name, type=h.BYTE, quota=0)
    writing = h.blocked(lambda: h.write(writer, b"abc"))
    assert h.write(writer, b"", 0) == 0
    assert h.read(reader, 10) == (0, b"abc")
    assert writing.result() == 3


@pytest.mark.parametrize("type", TYPES)
def test_deferred_writes_complete_in_order_and_a_small_one_waits_behind_a_large_one(name: str, type: int) -> None:
    writer, reader = _ends(name, type=type, quota=10)
    large = h.blocked(lambda: h.write(writer, b"a" * 12))
    small = h.blocked(lambda: h.write(writer, b"b"))
    with h.fails(121):
        h.write(writer, b"c", 0)
    assert reader.peek_pipe()[1] == 13
    assert h.read(reader, 2)[1] == b"aa"
    assert large.result() == 12
    small.blocked()
    assert h.read(reader, 1)[1] == b"a"
    assert small.result() == 1
    assert reader.peek_pipe()[1] == 10


def test_the_quotas_of_the_two_directions_are_independent(name: str) -> None:
    server, client = h.connected(name, in_quota=3, out_quota=5)
    assert h.write(server, b"12345", 0) == 5
    assert h.write(client, b"123", 0) == 3
    for end in (server, client):
        with h.fails(121):
            h.write(end, b"x", 0)
    assert h.read(client, 10, 0) == (0, b"12345")
    with h.fails(121):
        h.write(client, b"x", 0)
    assert h.write(server, b"x", 0) == 1


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc"), memoryview(b"xabcx")[1:4]])
def test_any_bytes_like_object_can_be_written(name: str, data: bytearray | memoryview) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=10)
    assert writer.write_file(data, 0) == 3
    assert h.read(reader, 10, 0) == (0, b"abc")


def test_a_pending_write_sends_what_its_buffer_held_when_it_began_or_holds_it_fast(name: str) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=0)
    data = bytearray(b"a" * 10)
    writing = h.blocked(lambda: writer.write_file(data, h.DEADLINE))
    with pytest.raises(BufferError):
        data.extend(b"x")
    assert h.read(reader) == (0, b"a" * 10)
    assert writing.result() == 10


# ---- Time-outs of writes: withdrawn as a whole


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("size", [11, 1000, 100_000, 1_000_000])
def test_a_write_that_timed_out_is_withdrawn_whole(name: str, type: int, size: int) -> None:
    writer, reader = _ends(name, type=type, quota=10)
    assert h.write(writer, b"before", 0) == 6
    with h.fails(121):
        h.write(writer, b"w" * size, 0.02)
    assert reader.peek_pipe(100)[:2] == (b"before", 6)
    assert h.read(reader, 100, 0) == (0, b"before")
    with h.fails(121):
        h.read(reader, 100, 0)
    assert h.write(writer, b"after", 0) == 5
    assert h.read(reader, 100, 0) == (0, b"after")


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(("size", "times"), [(11, 100), (1000, 100), (65_000, 3), (1_000_000, 3)])
def test_withdrawn_writes_take_no_room_from_those_within_the_quota(name: str, type: int, size: int, times: int) -> None:
    writer, reader = _ends(name, type=type, quota=10)
    for _ in range(times):
        with h.fails(121):
            h.write(writer, b"w" * size, 0.001)
    assert h.write(writer, b"0123456789", 0) == 10
    assert reader.peek_pipe(100)[:2] == (b"0123456789", 10)
    with h.fails(121):
        h.write(writer, b"x", 0)
    assert h.read(reader, 100, 0) == (0, b"0123456789")


@pytest.mark.parametrize("times", [31, 32, 33, 40, 100])
def test_an_over_quota_write_after_many_withdrawn_ones_is_visible_at_once(name: str, times: int) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=3)
    for _ in range(times):
        with h.fails(121):
            h.write(writer, b"wwww", 0.001)
    writing = h.blocked(lambda: h.write(writer, b"data"))
    assert reader.peek_pipe(10) == (b"data", 4, 0)
    assert h.read(reader, 10, 0) == (0, b"data")
    assert writing.result() == 4


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("times", [30, 31, 32, 33, 63, 64, 100])
def test_many_withdrawn_writes_behind_an_unread_one_do_it_no_harm(name: str, type: int, times: int) -> None:
    """The unread one keeps its place among the pending writes, however many others come and go."""
    writer, reader = _ends(name, type=type, quota=10)
    first = h.blocked(lambda: h.write(writer, b"the first, unread"))
    for _ in range(times):
        with h.fails(121):
            h.write(writer, b"withdrawn", 0.001)
    second = h.blocked(lambda: h.write(writer, b"the second one"))
    for _ in range(3):
        with h.fails(121):
            h.write(writer, b"withdrawn", 0.001)
    assert reader.peek_pipe()[1] == 17 + 14
    assert h.read(reader, 17) == (0, b"the first, unread")
    assert h.read(reader, 14) == (0, b"the second one")
    assert (first.result(), second.result()) == (17, 14)
    assert h.write(writer, b"after", 0) == 5
    assert h.read(reader, 5) == (0, b"after")


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("read", [1, 5, 9, 10])
def test_bytes_that_were_read_stay_read_when_the_rest_of_a_write_is_withdrawn(name: str, type: int, read: int) -> None:
    writer, reader = _ends(name, type=type, quota=10)
    writing = h.blocked(lambda: h.write(writer, bytes(range(30)), 0.2))
    assert h.read(reader, read)[1] == bytes(range(read))
    assert writing.code() == 121
    assert reader.peek_pipe() == (b"", 0, 0)
    with h.fails(121):
        h.read(reader, 100, 0)
    assert h.write(writer, b"z" * 10, 0) == 10
    assert h.read(reader, 100, 0) == (0, b"z" * 10)


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("size", [11, 100_000])
def test_a_write_behind_a_withdrawn_one_completes(name: str, type: int, size: int) -> None:
    writer, reader = _ends(name, type=type, quota=10)
    first = h.blocked(lambda: h.write(writer, b"w" * size, 0.2))
    second = h.blocked(lambda: h.write(writer, b"stays"))
    assert first.code() == 121
    assert second.result() == 5
    assert reader.peek_pipe(10)[:2] == (b"stays", 5)
    assert h.read(reader, 10, 0) == (0, b"stays")


@pytest.mark.parametrize("size", [11, 100_000])
def test_a_write_before_a_withdrawn_one_is_not_touched(name: str, size: int) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=10)
    first = h.blocked(lambda: h.write(writer, b"stays" * 4))
    second = h.blocked(lambda: h.write(writer, b"w" * size, 0.1))
    third = h.blocked(lambda: h.write(writer, b"third" * 4))
    assert second.code() == 121
    assert h.read(reader) == (0, b"stays" * 4)
    assert first.result() == 20
    assert h.read(reader) == (0, b"third" * 4)
    assert third.result() == 20


@pytest.mark.parametrize("quota", [0, 10])
def test_a_blocked_reader_gets_nothing_of_a_withdrawn_rest(name: str, quota: int) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=quota)
    data = bytes(range(100))
    writing = h.blocked(lambda: h.write(writer, data, 0.1))
    assert h.read(reader, 10) == (234, data[:10])
    assert writing.code() == 121
    reading = h.blocked(lambda: h.read(reader))
    assert h.write(writer, b"new", 0) == 3
    assert reading.result() == (0, b"new")


# ---- §6.2 NOWAIT


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("quota", [0, 10])
def test_a_nowait_write_within_the_quota_is_done_and_over_it_writes_nothing(name: str, type: int, quota: int) -> None:
    writer, reader = _ends(name, type=type, quota=quota)
    writer.set_state(h.NOWAIT)
    assert writer.write_file(b"x" * (quota + 1)) == 0
    assert reader.peek_pipe()[1] == 0
    if quota:
        assert writer.write_file(b"123456") == 6
        assert writer.write_file(b"abcdef") == 0  # no partial write into the four bytes that are left
        assert reader.peek_pipe()[1] == 6
        assert writer.write_file(b"abcd") == 4
        assert writer.write_file(b"z") == 0
    assert reader.peek_pipe()[1] == quota


def test_a_nowait_write_of_nothing_queues_an_empty_message_even_when_full(name: str) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=3)
    writer.set_state(h.NOWAIT)
    assert writer.write_file(b"abc") == 3
    assert writer.write_file(b"") == 0
    assert h.read(reader) == (0, b"abc")
    assert h.read(reader, 10, 0) == (0, b"")


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(("quota", "asked", "size"), [(0, 5, 5), (0, 10, 5), (10, 5, 15), (10, 5, 12)])
def test_a_nowait_write_that_pending_reads_make_room_for_is_done(
    name: str, type: int, quota: int, asked: int, size: int
) -> None:
    writer, reader = _ends(name, type=type, quota=quota)
    writer.set_state(h.NOWAIT)
    reading = h.blocked(lambda: h.read(reader, asked))
    assert writer.write_file(b"x" * size) == size
    assert reading.result()[1] == b"x" * min(asked, size)
    assert reader.peek_pipe()[1] == max(0, size - asked)


@pytest.mark.parametrize(("quota", "asked", "size"), [(0, 5, 6), (10, 5, 16), (3, 1, 100_000)])
def test_a_nowait_byte_write_that_is_too_long_gives_the_pending_reads_their_bytes_alone(
    name: str, quota: int, asked: int, size: int
) -> None:
    writer, reader = _ends(name, type=h.BYTE, quota=quota)
    writer.set_state(h.NOWAIT)
    reading = h.blocked(lambda: h.read(reader, asked))
    assert writer.write_file(b"x" * size) == asked
    assert reading.result() == (0, b"x" * asked)
    assert reader.peek_pipe()[1] == 0


@pytest.mark.parametrize(("quota", "asked", "size"), [(0, 5, 6), (10, 5, 16), (3, 1, 100_000)])
def test_a_nowait_message_write_that_is_too_long_leaves_the_readers_pending(
    name: str, quota: int, asked: int, size: int
) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=quota)
    writer.set_state(h.NOWAIT)
    reading = h.blocked(lambda: h.read(reader, asked))
    assert writer.write_file(b"x" * size) == 0
    reading.blocked()
    assert writer.write_file(b"y") == 1
    assert reading.result() == (0, b"y")


def test_a_nowait_byte_write_gives_several_pending_reads_their_bytes(name: str) -> None:
    writer, reader = _ends(name, type=h.BYTE, quota=0)
    writer.set_state(h.NOWAIT)
    reads = [h.blocked(lambda: h.read(reader, 3)) for _ in range(2)]
    assert writer.write_file(b"abcdefgh") == 6
    assert [one.result() for one in reads] == [(0, b"abc"), (0, b"def")]


@pytest.mark.parametrize("sizes", [[0], [0, 0], [3, 0], [3, 0, 0], [0, 3], [0, 3, 0]])
def test_a_nowait_byte_write_that_is_too_long_ends_reads_of_nothing(name: str, sizes: list[int]) -> None:
    writer, reader = _ends(name, type=h.BYTE, quota=1)
    writer.set_state(h.NOWAIT)
    for _ in range(2):
        reads = [h.blocked_in(h.read, reader, size) for size in sizes]
        given = b"abcdefgh"[: sum(sizes)]
        assert writer.write_file(b"abcdefgh") == len(given)
        assert [one.result() for one in reads] == [(0, given if size else b"") for size in sizes]
        assert reader.peek_pipe(10) == (b"", 0, 0)


def test_what_ends_a_read_of_nothing_is_for_no_other_read(name: str) -> None:
    writer, reader = _ends(name, type=h.BYTE, quota=1)
    writer.set_state(h.NOWAIT)
    ending = h.blocked_in(h.read, reader, 0)
    reading = h.blocked_in(h.read, reader, 3)
    assert writer.write_file(b"abcdefgh") == 3
    assert (ending.result(), reading.result()) == ((0, b""), (0, b"abc"))
    reading = h.blocked_in(h.read, reader, 3)
    assert writer.write_file(b"x") == 1
    assert reading.result() == (0, b"x")


# ---- §6.3 Broken or absent peer


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("to", ["client", "server"])
@pytest.mark.parametrize("data", [b"", b"x", b"x" * 100])
def test_a_write_after_the_peer_closed_is_232_even_if_it_left_data(name: str, type: int, to: str, data: bytes) -> None:
    writer, reader = _ends(name, type=type, quota=10, to=to)
    h.write(reader, b"left")
    reader.close_handle()
    for _ in range(2):
        with h.fails(232):
            h.write(writer, data)


@pytest.mark.parametrize("to", ["client", "server"])
def test_all_pending_writes_end_when_the_peer_closes(name: str, to: str) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=10, to=to)
    writes = [h.blocked_in(h.write, writer, b"x" * size) for size in (20, 5, 300_000)]
    reader.close_handle()
    assert [one.code() for one in writes] == [109, 109, 109]


@pytest.mark.parametrize("end", ["server", "client"])
def test_all_pending_writes_end_with_233_on_a_disconnect(name: str, end: str) -> None:
    server, client = h.connected(name, quota=10)
    writer = server if end == "server" else client
    writes = [h.blocked_in(h.write, writer, b"x" * size) for size in (20, 5, 300_000)]
    server.disconnect()
    assert [one.code() for one in writes] == [233, 233, 233]
    with h.fails(233):
        h.write(writer, b"x")


def test_a_write_while_listening_is_536(name: str) -> None:
    server = h.create(name)
    for data in (b"", b"x"):
        with h.fails(536):
            h.write(server, data)


def test_a_write_in_the_wrong_direction_is_5(name: str) -> None:
    _server, reading_client = h.connected(name, direction=h.OUTBOUND)
    with h.fails(5):
        h.write(reading_client, b"x")


# ---- §6.4 (!!: not serialised) and threads of one end


def test_a_write_and_a_peek_go_through_while_a_read_of_the_same_handle_blocks(name: str) -> None:
    server, client = h.connected(name)
    reading = h.blocked(lambda: h.read(client))
    assert h.write(client, b"x", 0) == 1
    assert client.peek_pipe() == (b"", 0, 0)
    assert client.get_state()[0] == h.READ_MESSAGE
    assert h.read(server, 10, 0) == (0, b"x")
    h.write(server, b"y")
    assert reading.result() == (0, b"y")


@pytest.mark.parametrize("writers", [2, 8])
@pytest.mark.parametrize("quota", [0, 10])
def test_blocked_writers_of_one_end_all_learn_that_theirs_is_complete(name: str, writers: int, quota: int) -> None:
    writer, reader = _ends(name, type=h.MESSAGE, quota=quota)
    for _ in range(100):
        writes = [h.started(h.write, writer, b"x" * 11, 4 * h.DEADLINE) for _ in range(writers)]
        for _ in range(writers):
            assert h.read(reader) == (0, b"x" * 11)
        assert [one.result() for one in writes] == [11] * writers
