"""The examples and npipe, whichever is server and client: what is sent is what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.protocol.conftest import PAIRS, rejoin
from tests.protocol.driver import content, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.protocol.conftest import End

SIZES = [
    0, 1, 2, 126, 127, 128, 129, 999, 1000, 1001, 16382, 16383, 16384, 16385, 0, 0, 32768, 65529, 65530, 65531, 65535,
    65536, 65537, 100_000, 0, 262_138, 262_139, 262_144, 262_145, 500_000, 1_000_000, 1 << 20, 0, 3,
]  # fmt: skip
# Each write is plain; most are deferred, and longer than the ring; all are deferred.
QUOTAS = [(1 << 21, 1 << 21), (1000, 1000), (0, 65536)]

pytestmark = [pytest.mark.timeout(180), pytest.mark.parametrize(("server_form", "client_form"), PAIRS)]


def test_messages_of_all_sizes_come_as_they_were_sent(
    joined: Callable[..., tuple[End, End]], pipe_name: str, server_form: str, client_form: str
) -> None:
    server, client = joined(server_form, client_form)
    messages = list(enumerate(SIZES))
    for number, quotas in enumerate(QUOTAS):
        rejoin(server, client, f"{pipe_name}-{number}", "message", quotas)
        for sender, receiver in ((client, server), (server, client)):
            receiver.begin("receive_all", len(messages))
            sender("send_all", messages)
            assert receiver.answer() == [digest(content(*each)) for each in messages]


def test_bytes_come_as_they_were_sent(
    joined: Callable[..., tuple[End, End]], pipe_name: str, server_form: str, client_form: str
) -> None:
    server, client = joined(server_form, client_form)
    pieces = list(enumerate(SIZES))
    for number, quotas in enumerate(QUOTAS):
        rejoin(server, client, f"{pipe_name}-{number}", "byte", quotas)
        for sender, receiver in ((client, server), (server, client)):
            receiver.begin("receive_bytes", sum(SIZES))
            sender("send_all", pieces)
            assert receiver.answer() == digest(b"".join(content(*each) for each in pieces))


def test_a_message_is_read_in_parts(joined: Callable[..., tuple[End, End]], server_form: str, client_form: str) -> None:
    server, client = joined(server_form, client_form, "message", (1000, 1000))
    for part in (1, 127, 5000, 70_000):
        sizes = [0, 1, part - 1, part, part + 1, 3 * part, min(20 * part, 300_000) + 1]
        messages = list(enumerate(sizes))
        for sender, receiver in ((client, server), (server, client)):
            sender.begin("send_all", messages)
            for each in messages:
                data = content(*each)
                for at in range(0, max(len(data), 1), part):
                    assert receiver("read", part) == [digest(data[at : at + part]), at + part < len(data)]
            assert sender.answer() is None


def test_many_small_messages_come_in_order(
    joined: Callable[..., tuple[End, End]], server_form: str, client_form: str
) -> None:
    server, client = joined(server_form, client_form, "message", (500, 500))
    messages = [(seed, seed * 7 % 300) for seed in range(2000)]
    for sender, receiver in ((client, server), (server, client)):
        receiver.begin("receive_all", len(messages))
        sender("send_all", messages)
        assert receiver.answer() == [digest(content(*each)) for each in messages]
        sender("flush")


def test_a_write_within_the_quota_waits_for_nobody_and_one_beyond_it_is_withdrawn_in_time(
    joined: Callable[..., tuple[End, End]], server_form: str, client_form: str
) -> None:
    server, client = joined(server_form, client_form, "message", (1000, 1000))
    for sender, receiver in ((client, server), (server, client)):
        sender("send", 1, 600)
        sender("send", 2, 400)
        for seed in range(3, 40):  # more than there are slots
            sender.fails(121 if sender.form != "npipe" else 995, "send", seed, 1 + seed * 1000, 0.001)
        sender("send", 40, 0)  # always complete
        assert receiver("receive_all", 3) == [digest(content(*each)) for each in ((1, 600), (2, 400), (40, 0))]
        sender("send", 41, 1000)  # nothing of the quota was lost
        assert receiver("receive") == digest(content(41, 1000))


def test_numbers_of_deferred_entries_go_on_with_0(
    joined: Callable[..., tuple[End, End]], server_form: str, client_form: str
) -> None:
    server, client = joined(server_form, client_form, "message", (0, 0))
    messages = [(seed, 1 + seed * 200) for seed in range(100)]
    for sender, receiver in ((client, server), (server, client)):
        if sender.form == "npipe":  # it begins with 0
            continue
        sender("number_from", (1 << 29) - 70)
        for seed in range(40):
            sender.fails(121, "send", seed, 1 + seed * 1000, 0.0)
        receiver.begin("receive_all", len(messages))
        sender("send_all", messages)
        assert receiver.answer() == [digest(content(*each)) for each in messages]


def test_wakes_for_nothing_are_none(joined: Callable[..., tuple[End, End]], server_form: str, client_form: str) -> None:
    server, client = joined(server_form, client_form, "message", (1000, 1000))
    for waking, other in ((client, server), (server, client)):
        if waking.form == "npipe":  # it wakes who has to be woken
            continue
        for call, after, answer in (("receive", ("send", 1, 10), digest(content(1, 10))), ("flush", None, None)):
            if call == "flush":
                other("send", 2, 10)
            other.begin(call)
            for _ in range(3):
                other.waits()
                waking("wake_for_nothing")
            if after:
                waking(*after)
            else:
                assert waking("receive") == digest(content(2, 10))
            assert other.answer() == answer


@pytest.mark.parametrize("size", [2, 5])
def test_headers_may_be_longer_than_they_need_be(
    joined: Callable[..., tuple[End, End]], server_form: str, client_form: str, size: int
) -> None:
    server, client = joined(server_form, client_form, "message", (1 << 20, 1 << 20))
    messages = [(seed, length) for seed, length in enumerate(SIZES) if length < 100_000]
    for sender, receiver in ((client, server), (server, client)):
        if sender.form == "npipe":  # it writes the shortest
            continue
        sender("write_headers", size)
        receiver.begin("receive_all", len(messages))
        sender("send_all", messages)
        assert receiver.answer() == [digest(content(*each)) for each in messages]
