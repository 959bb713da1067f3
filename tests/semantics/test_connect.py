"""The instance state machine and WaitNamedPipe: SEMANTICS §3 and §4."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests import helpers as h

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# ---- §3.1 Transitions


def test_a_client_completes_all_pending_connects(name: str) -> None:
    server = h.create(name)
    pending = [h.blocked(lambda: server.connect(h.DEADLINE)) for _ in range(4)]
    _client = h.open_client(name)
    assert [connect.result() for connect in pending] == [0, 0, 0, 0]


def test_disconnecting_a_listening_instance_ends_pending_connects_with_233(name: str) -> None:
    server = h.create(name)
    pending = [h.blocked(lambda: server.connect(h.DEADLINE)) for _ in range(2)]
    server.disconnect()
    assert [connect.code() for connect in pending] == [233, 233]
    with h.fails(231):
        h.open_client(name)
    with h.fails(233):
        server.disconnect()


def test_closing_a_listening_instance_ends_pending_connects_with_109(name: str) -> None:
    server = h.create(name)
    pending = [h.blocked(lambda: server.connect(h.DEADLINE)) for _ in range(2)]
    server.close_handle()
    assert [connect.code() for connect in pending] == [109, 109]


def _pend(server: h.Handle, client: h.Handle, what: str) -> h.Background[Any]:
    reader = server if what.endswith("server") else client
    calls: dict[str, Callable[[], Any]] = {
        "read": lambda: h.read(reader),
        "write": lambda: h.write(reader, b"x" * 100),
        "flush": lambda: reader.flush_buffers(h.DEADLINE),
        "transact": lambda: reader.transact_pipe(b"q", h.DEADLINE),
    }
    kind = what.split()[0]
    if kind == "flush":
        h.write(reader, b"within")
    return h.blocked(calls[kind])


PENDING = [f"{kind} by the {side}" for kind in ("read", "write", "flush", "transact") for side in ("server", "client")]


@pytest.mark.parametrize("what", PENDING)
def test_a_disconnect_ends_what_is_pending_on_either_end_with_233(name: str, what: str) -> None:
    server, client = h.connected(name, quota=10)
    pending = _pend(server, client, what)
    server.disconnect()
    assert pending.code() == 233


@pytest.mark.parametrize("what", PENDING)
def test_a_close_of_the_peer_ends_what_is_pending_with_109(name: str, what: str) -> None:
    server, client = h.connected(name, quota=10)
    pending = _pend(server, client, what)
    (client if what.endswith("server") else server).close_handle()
    assert pending.code() == 109


@pytest.mark.parametrize("what", PENDING)
def test_a_close_of_the_own_handle_in_another_thread_ends_what_is_pending_with_109(name: str, what: str) -> None:
    server, client = h.connected(name, quota=10)
    pending = _pend(server, client, what)
    (server if what.endswith("server") else client).close_handle()
    assert pending.code() == 109


def test_a_disconnect_discards_what_was_unread_in_both_directions(name: str) -> None:
    server, client = h.connected(name)
    h.write(server, b"to the client")
    h.write(client, b"to the server")
    server.disconnect()
    for handle in (server, client):
        with h.fails(233):
            h.read(handle, 100, 0)
    with h.fails(121):
        server.connect(0.001)
    fresh = h.open_client(name)
    assert server.connect(0) == 535
    assert server.peek_pipe(100) == (b"", 0, 0)
    assert fresh.peek_pipe(100) == (b"", 0, 0)


def test_disconnecting_after_the_client_closed_discards_what_it_left(name: str) -> None:
    server, client = h.connected(name)
    h.write(client, b"left")
    client.close_handle()
    server.disconnect()
    with h.fails(233):
        h.read(server)


def test_a_disconnected_client_never_revives_and_its_close_harms_nobody(name: str) -> None:
    server, old = h.connected(name)
    server.disconnect()
    connecting = h.blocked(lambda: server.connect(h.DEADLINE))
    with h.fails(233):
        h.write(old, b"x")
    new = h.open_client(name)
    assert connecting.result() == 0
    with h.fails(233):
        h.read(old)
    h.write(new, b"new")
    old.close_handle()
    assert h.read(server) == (0, b"new")
    h.write(server, b"still there")
    assert h.read(new) == (0, b"still there")


def test_a_server_keeps_its_modes_over_disconnect_and_connect_and_the_client_starts_fresh(name: str) -> None:
    server, client = h.connected(name, mode=h.READ_MESSAGE)
    server.set_state(h.READ_MESSAGE | h.NOWAIT)
    client.set_state(h.READ_MESSAGE | h.NOWAIT)
    server.disconnect()
    with h.fails(536):
        server.connect(0)
    fresh = h.open_client(name)
    assert server.get_state()[0] == h.READ_MESSAGE | h.NOWAIT
    assert fresh.get_state()[0] == 0


def test_an_instance_can_be_connected_and_disconnected_many_times(name: str) -> None:
    server = h.create(name, max_instances=1)
    for turn in range(200):
        client = h.open_client(name, mode=h.READ_MESSAGE)
        h.write(client, b"%d" % turn)
        assert server.connect(0) == 535
        assert h.read(server, 100, 0) == (0, b"%d" % turn)
        h.write(server, b"reply")
        if turn % 2:
            client.close_handle()
        server.disconnect()
        assert h.would_wait(lambda: server.connect(0))
        client.close_handle()


# ---- §3.2 ConnectNamedPipe


def test_connect_blocks_until_a_client_comes(name: str) -> None:
    server = h.create(name)
    connecting = h.blocked(lambda: server.connect(h.DEADLINE))
    _client = h.open_client(name)
    assert connecting.result() == 0


def test_connect_on_a_disconnected_instance_makes_it_listen_and_blocks(name: str) -> None:
    server, _old = h.connected(name)
    server.disconnect()
    connecting = h.blocked(lambda: server.connect(h.DEADLINE))
    _client = h.open_client(name)
    assert connecting.result() == 0


@pytest.mark.parametrize("mode", [0, h.NOWAIT])
def test_connect_with_a_client_there_is_535_as_often_as_one_asks(name: str, mode: int) -> None:
    server = h.create(name, mode=mode)
    _client = h.open_client(name)
    assert [server.connect(0) for _ in range(3)] == [535, 535, 535]


@pytest.mark.parametrize("mode", [0, h.NOWAIT])
@pytest.mark.parametrize("data", [None, b"", b"left"])
def test_connect_after_the_client_came_and_went_is_232_and_what_it_left_can_be_read(
    name: str, mode: int, data: bytes | None
) -> None:
    server = h.create(name, mode=h.READ_MESSAGE | mode)
    client = h.open_client(name)
    if data is not None:
        h.write(client, data)
    client.close_handle()
    for _ in range(2):
        with h.fails(232):
            server.connect(0)
    if data is not None:
        assert h.read(server) == (0, data)
    with h.fails(109):
        h.read(server)
    with h.fails(232):
        server.connect(0)
    with h.fails(231):
        h.open_client(name)
    server.disconnect()


def test_connect_on_a_client_handle_is_1(name: str) -> None:
    server, client = h.connected(name)
    with h.fails(1):
        client.connect(0)
    server.disconnect()
    with h.fails(1):
        client.connect(0)
    server.close_handle()
    with h.fails(1):
        client.connect(0)


def test_a_nowait_server_polls_536_then_535_then_232(name: str) -> None:
    server = h.create(name, mode=h.NOWAIT)
    for _ in range(2):
        for _ in range(2):
            with h.fails(536):
                server.connect()
        client = h.open_client(name)
        assert server.connect() == 535
        client.close_handle()
        with h.fails(232):
            server.connect()
        server.disconnect()
        with h.fails(536):
            server.connect()
    h.open_client(name).close_handle()


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_a_connect_that_timed_out_leaves_the_instance_listening(name: str, timeout: float) -> None:
    server = h.create(name)
    with h.fails(121):
        server.connect(timeout)
    _client = h.open_client(name)
    assert server.connect(0) == 535


def test_setting_nowait_leaves_a_pending_connect_pending(name: str) -> None:
    server = h.create(name)
    connecting = h.blocked(lambda: server.connect(h.DEADLINE))
    server.set_state(h.NOWAIT)
    assert connecting.running
    _client = h.open_client(name)
    assert connecting.result() == 0


# ---- §3.3 DisconnectNamedPipe


def test_disconnect_on_a_client_handle_is_1(name: str) -> None:
    server, client = h.connected(name)
    with h.fails(1):
        client.disconnect()
    h.write(client, b"alive")
    assert h.read(server) == (0, b"alive")
    server.disconnect()
    with h.fails(1):
        client.disconnect()


def test_disconnect_twice_is_233(name: str) -> None:
    server, _client = h.connected(name)
    server.disconnect()
    for _ in range(2):
        with h.fails(233):
            server.disconnect()


def test_disconnect_of_a_listening_instance_takes_it_out_of_the_line(name: str) -> None:
    one, two = h.create(name), h.create(name)
    one.disconnect()
    client = h.open_client(name)
    assert two.connect(0) == 535
    h.write(client, b"for two")
    assert h.read(two) == (0, b"for two")
    with h.fails(231):
        h.open_client(name)


def test_disconnect_needs_no_right(name: str) -> None:
    for direction in (h.INBOUND, h.OUTBOUND):
        server, _client = h.connected(f"{name}-{direction}", direction=direction)
        server.disconnect()


# ---- §3.4 What a close does


@pytest.mark.parametrize("closer", ["server", "client"])
@pytest.mark.parametrize("type", [h.BYTE, h.MESSAGE])
def test_what_the_closing_end_wrote_stays_readable_and_what_it_had_not_read_is_gone(
    name: str, closer: str, type: int
) -> None:
    server, client = h.connected(name, type=type)
    closing, staying = (server, client) if closer == "server" else (client, server)
    h.write(closing, b"one")
    h.write(closing, b"two")
    h.write(staying, b"never read")
    closing.close_handle()
    if type == h.MESSAGE:
        assert h.read(staying) == (0, b"one")
        assert h.read(staying, 2) == (234, b"tw")
        assert h.read(staying) == (0, b"o")
    else:
        assert h.read(staying) == (0, b"onetwo")
    for _ in range(2):
        with h.fails(109):
            h.read(staying)
        with h.fails(232):
            h.write(staying, b"x")


@pytest.mark.parametrize("closer", ["server", "client"])
@pytest.mark.parametrize("size", [11, 100, 60_000, 300_000])
def test_an_over_quota_write_of_the_end_that_closes_stays_readable(name: str, closer: str, size: int) -> None:
    server, client = h.connected(name, quota=10)
    closing, staying = (server, client) if closer == "server" else (client, server)
    writing = h.blocked(lambda: h.write(closing, b"w" * size))
    closing_call = h.Background(closing.close_handle)
    assert h.read(staying) == (0, b"w" * size)
    closing_call.result()
    assert writing.code() in (0, 109)
    with h.fails(109):
        h.read(staying)


def test_a_dead_process_leaves_its_completed_messages_and_takes_the_pending_one_along(
    name: str, child: Callable[..., Any]
) -> None:
    server = h.create(name, quota=10)
    other = child(
        r"""
        import sys, threading
        import os
        from npipe import binding
        from npipe.names import parse_name
        n = parse_name(sys.argv[1])
        place = (os.environ["NPIPE_ROOT"], n.folder, n.display, n.path)
        client = binding.Handle.open(*place, access=15, hold=False, verify_owner=True, timeout=None)
        client.write_file(b"complete", 5)
        threading.Thread(target=client.write_file, args=(b"never complete", 30), daemon=True).start()
        print("on", flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert other.line() == "on"
    h.until(lambda: server.peek_pipe()[1] == len(b"complete" + b"never complete"))
    other.kill()
    h.until(lambda: h.code_of(lambda: server.connect(0)) == 232)
    assert h.read(server) == (0, b"complete")
    with h.fails(109):
        h.read(server)


def test_a_process_that_dies_while_its_write_is_partly_read_takes_the_rest_along(
    name: str, child: Callable[..., Any]
) -> None:
    server = h.create(name, quota=10)
    other = child(
        r"""
        import sys, os
        from npipe import binding
        from npipe.names import parse_name
        n = parse_name(sys.argv[1])
        place = (os.environ["NPIPE_ROOT"], n.folder, n.display, n.path)
        client = binding.Handle.open(*place, access=15, hold=False, verify_owner=True, timeout=None)
        client.write_file(b"a" * 100, 30)
        """,
        name,
    )
    h.until(lambda: h.code_of(lambda: server.connect(0)) == 0)
    assert h.read(server, 20) == (234, b"a" * 20)
    other.kill()
    h.until(lambda: h.code_of(lambda: server.connect(0)) == 232)
    with h.fails(109):
        h.read(server)


# ---- §3.5 Every operation in every state


def _state(name: str, state: str, type: int) -> h.Handle:
    if state == "S listening":
        return h.create(name, type=type)
    server, client = h.connected(name, type=type)
    if state in ("S disconnected", "C disconnected"):
        h.write(server, b"lost")
        h.write(client, b"lost")
        server.disconnect()
        KEPT.append(server)
        KEPT.append(client)
        return server if state[0] == "S" else client
    handle, peer = (server, client) if state[0] == "S" else (client, server)
    if state.endswith("data left"):
        h.write(peer, b"data")
    peer.close_handle()
    return handle


KEPT: list[h.Handle] = []  # peers that must stay open until the test is over


@pytest.fixture(autouse=True)
def _peers_go_with_the_test() -> Iterator[None]:
    yield
    KEPT.clear()


STATES = [
    "S listening",
    "S disconnected",
    "C disconnected",
    "S closing",
    "C closing",
    "S closing, data left",
    "C closing, data left",
]

_OPERATIONS: dict[str, tuple[Callable[[h.Handle], Any], list[Any]]] = {
    # A number is a code of failure; anything else is what the call returns, byte type first.
    "read": (lambda x: x.read_file(10, 0), [536, 233, 233, 109, 109, (0, b"data"), (0, b"data")]),
    "read nothing": (lambda x: x.read_file(0, 0), [536, 233, 233, 109, 109, "empty", "empty"]),
    "write": (lambda x: x.write_file(b"x", 0), [536, 233, 233, 232, 232, 232, 232]),
    "write nothing": (lambda x: x.write_file(b"", 0), [536, 233, 233, 232, 232, 232, 232]),
    "peek": (lambda x: x.peek_pipe(10)[:2], [230, 230, 233, 109, 109, (b"data", 4), (b"data", 4)]),
    "transact": (lambda x: x.transact_pipe(b"x", 0), [230, 230, 233, 230, 230, 230, 230]),
    "flush": (lambda x: x.flush_buffers(0), [None, None, 233, None, None, None, None]),
    "set state": (lambda x: x.set_state(0), [None, None, 233, None, None, None, None]),
    "get state": (lambda x: x.get_state()[0] & 1, [0, 0, 233, 0, 0, 0, 0]),
    "get info": (lambda x: x.get_info()[3], [255, 255, 233, 255, 255, 255, 255]),
    "connect": (lambda x: x.connect(0), [121, 121, 1, 232, 1, 232, 1]),
    "disconnect": (lambda x: x.disconnect(), [None, 233, 1, None, 1, None, 1]),
}


@pytest.mark.parametrize("type", [h.BYTE, h.MESSAGE])
@pytest.mark.parametrize("operation", _OPERATIONS)
@pytest.mark.parametrize("state", STATES)
def test_every_operation_gives_what_the_table_says_in_every_state(
    name: str, state: str, operation: str, type: int
) -> None:
    handle = _state(name, state, type)
    call, results = _OPERATIONS[operation]
    expected = results[STATES.index(state)]
    if expected == "empty":
        expected = (234, b"") if type == h.MESSAGE else (0, b"")
    succeeds = not isinstance(expected, int) or (operation.startswith("get") and expected in (0, 255))
    if succeeds:
        assert call(handle) == expected
    else:
        with h.fails(expected):
            call(handle)


@pytest.mark.parametrize("what", ["listens again", "closes"])
def test_a_disconnected_client_stays_so_whatever_the_server_does(name: str, what: str) -> None:
    server, client = h.connected(name)
    server.disconnect()
    if what == "listens again":
        with h.fails(121):
            server.connect(0.001)
    else:
        server.close_handle()
    for call in (
        lambda: h.read(client, 1, 0),
        lambda: h.write(client, b"x", 0),
        client.peek_pipe,
        client.get_state,
        client.get_info,
        lambda: client.set_state(0),
        lambda: client.flush_buffers(0),
        client.client_pid,
        client.server_pid,
        lambda: client.transact_pipe(b"x", 0),
    ):
        with h.fails(233):
            call()


# ---- §4 WaitNamedPipe


@pytest.mark.parametrize("timeout", [0, 0.001, 10, None])
def test_waiting_for_a_missing_pipe_is_2_at_once(name: str, timeout: float | None) -> None:
    began = time.monotonic()
    with h.fails(2):
        h.wait_named(name, timeout)
    with h.fails(2):
        h.wait_named(name, timeout, use_default=True)
    assert time.monotonic() - began < 5


def test_waiting_with_a_listening_instance_returns_at_once_and_reserves_nothing(name: str) -> None:
    _server = h.create(name)
    for _ in range(3):
        h.wait_named(name, 0)
        h.wait_named(name, None)
        h.wait_named(name, None, use_default=True)
    _client = h.open_client(name)


@pytest.mark.parametrize("timeout", [0, 0.001, 0.05])
def test_waiting_while_all_are_busy_times_out_with_121(name: str, timeout: float) -> None:
    _ends = h.connected(name)
    began = time.monotonic()
    with h.fails(121):
        h.wait_named(name, timeout)
    assert timeout * 0.9 <= time.monotonic() - began < timeout + 5


def test_a_created_instance_wakes_all_waiters(name: str) -> None:
    _ends = h.connected(name)
    waiters = [h.held(name, lambda: h.wait_named(name, h.DEADLINE)) for _ in range(4)]
    _another = h.create(name)
    assert [waiter.code() for waiter in waiters] == [0, 0, 0, 0]


@pytest.mark.parametrize("mode", [0, h.NOWAIT])
def test_a_connect_after_a_disconnect_wakes_all_waiters(name: str, mode: int) -> None:
    server, _client = h.connected(name, mode=mode)
    waiters = [h.held(name, lambda: h.wait_named(name, h.DEADLINE)) for _ in range(3)]
    server.disconnect()
    assert all(waiter.running for waiter in waiters)
    with h.fails(536 if mode else 121):
        server.connect(0.5)
    assert [waiter.code() for waiter in waiters] == [0, 0, 0]


@pytest.mark.parametrize("what", ["the server disconnects", "the client closes"])
def test_a_disconnect_or_a_clients_close_alone_wakes_no_waiter(name: str, what: str) -> None:
    server, client = h.connected(name)
    waiter = h.held(name, lambda: h.wait_named(name, h.DEADLINE))
    if what == "the server disconnects":
        server.disconnect()
    else:
        client.close_handle()
        h.until(lambda: h.code_of(lambda: server.connect(0)) == 232)  # the server has noticed
    h.settle(name)
    assert (h.requests_held(name), waiter.running) == (1, True)
    server.close_handle()
    assert waiter.code() == 2


@pytest.mark.parametrize("timeout", [h.DEADLINE, None])
def test_the_last_server_closing_ends_waits_with_2_though_a_client_stays(name: str, timeout: float | None) -> None:
    server, _client = h.connected(name)
    waiters = [h.held(name, lambda: h.wait_named(name, timeout)) for _ in range(2)]
    server.close_handle()
    assert [waiter.code() for waiter in waiters] == [2, 2]


def test_the_death_of_the_last_server_process_ends_waits_with_2(name: str, child: Callable[..., Any]) -> None:
    other = child(
        r"""
        import sys, os
        from npipe import binding
        from npipe.names import parse_name
        n = parse_name(sys.argv[1])
        place = (os.environ["NPIPE_ROOT"], n.folder, n.display, n.path)
        server = binding.Handle.create(*place, access=3, first_instance=True, type=4, mode=0, max_instances=1,
                                       out_quota=1, in_quota=1, default_timeout_ms=0)
        print("on", flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert other.line() == "on"
    _client = h.open_client(name)
    waiter = h.held(name, lambda: h.wait_named(name, h.DEADLINE))
    other.kill()
    assert waiter.code() == 2


@pytest.mark.parametrize("direction", [h.INBOUND, h.OUTBOUND, h.DUPLEX])
def test_a_wait_works_whatever_the_direction(name: str, direction: int) -> None:
    _server = h.create(name, direction=direction)
    h.wait_named(name, h.DEADLINE)


def test_a_held_open_gets_the_instance_that_comes_free(name: str) -> None:
    server, _client = h.connected(name)
    opening = h.held(
        name,
        lambda: h.Handle.open(*h.place(name), access=h.READ_WRITE, hold=True, verify_owner=True, timeout=h.DEADLINE),
    )
    server.disconnect()
    assert h.code_of(lambda: server.connect(h.DEADLINE)) == 0
    second = opening.result()
    h.write(second, b"in")
    assert h.read(server) == (0, b"in")


def test_held_opens_are_served_in_the_order_in_which_they_came(name: str) -> None:
    _ends = h.connected(name)
    openings = [
        h.held(name, lambda: h.Handle.open(*h.place(name), access=15, hold=True, verify_owner=True, timeout=h.DEADLINE))
        for _ in range(3)
    ]
    for opening in openings:
        server = h.create(name)
        client = opening.result()
        h.write(client, b"mine")
        assert h.read(server) == (0, b"mine")
        client.close_handle()
