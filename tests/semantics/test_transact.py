"""Transacting and calling: SEMANTICS §8, as far as transact_pipe and npipe.call go."""

from __future__ import annotations

import time

import pytest

import npipe
from tests import helpers as h

BIG = 300_000

# ---- §8.1 Preconditions


@pytest.mark.parametrize("access", [h.NOTHING, h.GENERIC_READ, h.GENERIC_WRITE])
def test_transacting_without_both_rights_is_5(name: str, access: int) -> None:
    _server = h.create(name)
    client = h.open_client(name, access=access)
    with h.fails(5):
        client.transact_pipe(b"x", 0)


@pytest.mark.parametrize("direction", [h.INBOUND, h.OUTBOUND])
def test_transacting_on_a_one_way_pipe_is_5(name: str, direction: int) -> None:
    server, client = h.connected(name, direction=direction)
    for end in (server, client):
        with h.fails(5):
            end.transact_pipe(b"x", 0)


def test_a_disconnected_client_gets_233_before_anything_about_modes(name: str) -> None:
    server, client = h.connected(name, mode=0)
    server.disconnect()
    with h.fails(233):
        client.transact_pipe(b"x", 0)
    with h.fails(230):
        server.transact_pipe(b"x", 0)


@pytest.mark.parametrize("end", ["server", "client"])
@pytest.mark.parametrize("type", [h.BYTE, h.MESSAGE])
def test_transacting_in_byte_read_mode_is_230_and_sends_nothing(name: str, end: str, type: int) -> None:
    server, client = h.connected(name, type=type, mode=0)
    own, peer = (server, client) if end == "server" else (client, server)
    with h.fails(230):
        own.transact_pipe(b"x", 0)
    assert peer.peek_pipe(10)[1] == 0


@pytest.mark.parametrize("data", [b"", b"abc"])
@pytest.mark.parametrize("end", ["server", "client"])
def test_transacting_with_anything_unread_is_231_and_sends_nothing(name: str, end: str, data: bytes) -> None:
    server, client = h.connected(name)
    own, peer = (server, client) if end == "server" else (client, server)
    h.write(peer, data)
    with h.fails(231):
        own.transact_pipe(b"x", 0)
    assert peer.peek_pipe(10)[1] == 0
    with h.fails(121):
        h.read(peer, 10, 0)
    assert h.read(own, 10, 0) == (0, data)


def test_transacting_with_the_rest_of_a_message_unread_is_231(name: str) -> None:
    server, client = h.connected(name)
    h.write(server, b"abc")
    assert h.read(client, 2) == (234, b"ab")
    with h.fails(231):
        client.transact_pipe(b"x", 0)
    assert h.read(client) == (0, b"c")


def test_transacting_while_a_read_of_the_same_handle_is_pending_is_231(name: str) -> None:
    server, client = h.connected(name)
    reading = h.blocked(lambda: h.read(client))
    with h.fails(231):
        client.transact_pipe(b"x", 0)
    h.write(server, b"y")
    assert reading.result() == (0, b"y")


def test_transacting_while_another_transaction_waits_is_231(name: str) -> None:
    server, client = h.connected(name)
    first = h.blocked(lambda: client.transact_pipe(b"one", h.DEADLINE))
    with h.fails(231):
        client.transact_pipe(b"two", h.DEADLINE)
    assert h.read(server) == (0, b"one")
    h.write(server, b"answer")
    assert first.result() == b"answer"


# ---- §8.2 Behaviour


@pytest.mark.parametrize("end", ["server", "client"])
@pytest.mark.parametrize("request_", [b"", b"q", b"q" * 1000])
@pytest.mark.parametrize("reply", [b"", b"r", b"r" * 1000])
def test_a_transaction_works_from_either_end_with_empty_messages_too(
    name: str, end: str, request_: bytes, reply: bytes
) -> None:
    server, client = h.connected(name)
    own, peer = (server, client) if end == "server" else (client, server)
    transaction = h.blocked(lambda: own.transact_pipe(request_, h.DEADLINE))
    assert h.read(peer) == (0, request_)
    h.write(peer, reply)
    assert transaction.result() == reply


@pytest.mark.parametrize("quota", [0, 10])
@pytest.mark.parametrize("size", [11, 1000, 60_000, BIG, 3_000_000])
def test_a_request_over_the_quota_is_sent_whole_and_the_reply_may_be_as_long(name: str, quota: int, size: int) -> None:
    server, client = h.connected(name, quota=quota)
    transaction = h.Background(lambda: client.transact_pipe(b"q" * size, h.DEADLINE))
    assert h.read(server, size) == (0, b"q" * size)
    h.write(server, b"r" * size)
    assert transaction.result() == b"r" * size


def test_the_write_half_never_waits_and_later_writes_see_it_in_the_quota(name: str) -> None:
    server, client = h.connected(name, quota=10)
    with h.fails(121):
        client.transact_pipe(b"q" * 25, 0.02)
    # The request stays queued at the peer.
    assert server.peek_pipe(100) == (b"q" * 25, 25, 0)
    with h.fails(121):
        h.write(client, b"x", 0)
    assert h.read(server, 15) == (234, b"q" * 15)
    with h.fails(121):
        h.write(client, b"x", 0)
    assert h.read(server, 1) == (234, b"q")
    assert h.write(client, b"x", 0) == 1
    assert h.read(server) == (0, b"q" * 9)
    assert h.read(server) == (0, b"x")


def test_a_transaction_is_over_with_the_reply_though_the_request_is_unread(name: str) -> None:
    server, client = h.connected(name, quota=10)
    transaction = h.blocked(lambda: client.transact_pipe(b"q" * 25, h.DEADLINE))
    h.write(server, b"unasked")
    assert transaction.result() == b"unasked"
    assert h.read(server) == (0, b"q" * 25)


def test_a_request_satisfies_the_peers_pending_read(name: str) -> None:
    server, client = h.connected(name, quota=0)
    reading = h.blocked(lambda: h.read(server))
    transaction = h.Background(lambda: client.transact_pipe(b"q", h.DEADLINE))
    assert reading.result() == (0, b"q")
    transaction.blocked()
    assert h.write(server, b"r", 0) == 1  # the waiting transaction is a pending read
    assert transaction.result() == b"r"


def test_transactions_of_both_ends_answer_each_other(name: str) -> None:
    server, client = h.connected(name)
    first = h.blocked(lambda: client.transact_pipe(b"from the client", h.DEADLINE))
    assert h.read(server) == (0, b"from the client")
    second = h.blocked(lambda: server.transact_pipe(b"from the server", h.DEADLINE))
    assert first.result() == b"from the server"
    h.write(client, b"end")
    assert second.result() == b"end"


def test_a_transaction_on_a_nowait_handle_still_waits_for_the_reply(name: str) -> None:
    server, client = h.connected(name)
    client.set_state(h.READ_MESSAGE | h.NOWAIT)
    transaction = h.blocked(lambda: client.transact_pipe(b"q", h.DEADLINE))
    assert h.read(server) == (0, b"q")
    h.write(server, b"r")
    assert transaction.result() == b"r"


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_a_transaction_that_times_out_leaves_the_request_sent_and_the_reply_readable(name: str, timeout: float) -> None:
    server, client = h.connected(name)
    with h.fails(121):
        client.transact_pipe(b"q", timeout)
    assert h.read(server, 10, 0) == (0, b"q")
    h.write(server, b"late")
    assert h.read(client, 10, 0) == (0, b"late")


def test_a_reply_over_the_limit_is_234_and_stays_readable(name: str) -> None:
    server, client = h.connected(name)
    client.max_message_size = 3
    transaction = h.blocked(lambda: client.transact_pipe(b"q", h.DEADLINE))
    h.write(server, b"reply")
    assert transaction.code() == 234
    assert client.peek_pipe(10) == (b"reply", 5, 0)
    assert h.read(client, 10, 0) == (0, b"reply")


@pytest.mark.parametrize(("what", "code"), [("close", 109), ("disconnect", 233)])
def test_a_peer_that_goes_meanwhile_ends_the_transaction(name: str, what: str, code: int) -> None:
    server, client = h.connected(name)
    transaction = h.blocked(lambda: client.transact_pipe(b"q", h.DEADLINE))
    if what == "close":
        server.close_handle()
    else:
        server.disconnect()
    assert transaction.code() == code


def test_a_peer_that_answers_and_closes_is_heard(name: str) -> None:
    server, client = h.connected(name)
    transaction = h.blocked(lambda: client.transact_pipe(b"q", h.DEADLINE))
    h.write(server, b"last words")
    server.close_handle()
    assert transaction.result() == b"last words"


# ---- §8.3 Calling


def _serve_one(server: h.Handle, reply: bytes | None) -> bytes:
    server.connect(h.DEADLINE)
    _code, request = h.read(server)
    if reply is not None:
        h.write(server, reply)
        server.flush_buffers(h.DEADLINE)
    return request


@pytest.mark.parametrize("reply", [b"", b"reply", b"r" * BIG])
@pytest.mark.parametrize("request_", [b"", b"request", b"q" * BIG])
def test_a_call_sends_and_returns_one_message_and_closes(name: str, request_: bytes, reply: bytes) -> None:
    server = h.create(name)
    serving = h.Background(lambda: _serve_one(server, reply))
    assert npipe.call(name, request_, timeout=h.DEADLINE) == reply
    assert serving.result() == request_
    with h.fails(109):
        h.read(server)


@pytest.mark.parametrize("timeout", [0, 20, None])
def test_a_call_to_a_missing_pipe_is_2_at_once(name: str, timeout: float | None) -> None:
    began = time.monotonic()
    with h.fails(2):
        npipe.call(name, b"x", timeout=timeout)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_call_to_a_busy_pipe_is_231_when_the_time_is_over(name: str, timeout: float) -> None:
    _ends = h.connected(name)
    with h.fails(231):
        npipe.call(name, b"x", timeout=timeout)


def test_a_call_waits_for_an_instance(name: str) -> None:
    first = h.connected(name)
    calling = h.held(name, lambda: npipe.call(name, b"x", timeout=h.DEADLINE))
    second = h.create(name)
    assert _serve_one(second, b"y") == b"x"
    assert calling.result() == b"y"
    assert first[0].peek_pipe() == (b"", 0, 0)


@pytest.mark.parametrize("direction", [h.INBOUND, h.OUTBOUND])
def test_a_call_to_a_one_way_pipe_is_5(name: str, direction: int) -> None:
    _server = h.create(name, direction=direction)
    with h.fails(5):
        npipe.call(name, b"x", timeout=h.DEADLINE)


def test_a_call_to_a_byte_pipe_is_87_and_the_server_sees_a_connect_and_a_close(name: str) -> None:
    server = h.create(name, type=h.BYTE)
    with h.fails(87):
        npipe.call(name, b"x", timeout=h.DEADLINE)
    with h.fails(232):
        server.connect(0)


@pytest.mark.parametrize(("what", "code"), [("close", 109), ("disconnect", 233)])
def test_a_call_to_a_server_that_goes_without_a_reply_fails(name: str, what: str, code: int) -> None:
    server = h.create(name)
    calling = h.started(lambda: npipe.call(name, b"x", timeout=h.DEADLINE))
    assert server.connect(h.DEADLINE) in (0, 535)
    assert h.read(server) == (0, b"x")
    if what == "close":
        server.close_handle()
    else:
        server.disconnect()
    assert calling.code() == code
