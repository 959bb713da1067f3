"""Pipe objects and instances: SEMANTICS §2."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests import helpers as h

if TYPE_CHECKING:
    from collections.abc import Callable

# ---- §2.1 Parameters


@pytest.mark.parametrize("direction", [0, 4, 7, 0x100])
def test_an_unknown_or_empty_direction_is_refused(name: str, direction: int) -> None:
    with h.fails(87):
        h.create(name, direction=direction)


@pytest.mark.parametrize("mode", [4, 8, 0x10, 0x80000000])
def test_an_unknown_mode_bit_is_refused(name: str, mode: int) -> None:
    with h.fails(87):
        h.create(name, mode=mode)


@pytest.mark.parametrize("type", [1, 2, 8, 5])
def test_an_unknown_type_is_refused(name: str, type: int) -> None:
    with h.fails(87):
        h.create(name, type=type, mode=0)


def test_message_read_mode_on_a_new_byte_pipe_is_refused_and_leaves_no_pipe(name: str) -> None:
    with h.fails(87):
        h.create(name, type=h.BYTE, mode=h.READ_MESSAGE)
    with h.fails(2):
        h.open_client(name)


def test_byte_read_mode_on_a_message_pipe_is_accepted(name: str) -> None:
    server = h.create(name, type=h.MESSAGE, mode=0)
    assert server.get_state() == (0, 1)
    assert server.get_info()[0] == 1 | 4


@pytest.mark.parametrize("maximum", [0, 256, 1000, 0xFFFFFFFF])
def test_an_instance_limit_out_of_range_is_refused(name: str, maximum: int) -> None:
    with h.fails(87):
        h.create(name, max_instances=maximum)


@pytest.mark.parametrize("maximum", [1, 2, 254, 255])
def test_the_instance_limit_is_reported_as_given_on_both_ends(name: str, maximum: int) -> None:
    server, client = h.connected(name, max_instances=maximum)
    assert server.get_info()[3] == maximum
    assert client.get_info()[3] == maximum


@pytest.mark.parametrize(
    ("out_quota", "in_quota"), [(0, 0), (1, 3), (5000, 6000), (65537, 1), (0x7FFFFFFF, 0), (0xFFFFFFFF, 0)]
)
def test_buffer_sizes_are_reported_exactly_as_given_and_not_swapped(name: str, out_quota: int, in_quota: int) -> None:
    server, client = h.connected(name, out_quota=out_quota, in_quota=in_quota)
    assert server.get_info()[1:3] == (out_quota, in_quota)
    assert client.get_info()[1:3] == (out_quota, in_quota)


@pytest.mark.parametrize(("given", "seconds"), [(0, 0.05), (200, 0.2)])
def test_the_default_time_out_is_used_by_waits_and_zero_means_50_ms(name: str, given: int, seconds: float) -> None:
    _ends = h.connected(name, default_timeout_ms=given)
    began = time.monotonic()
    with h.fails(121):
        h.wait_named(name, None, use_default=True)
    assert seconds * 0.9 <= time.monotonic() - began < seconds + 5


def test_an_instance_listens_as_soon_as_it_is_created(name: str) -> None:
    server = h.create(name)
    client = h.open_client(name)
    h.write(client, b"before ConnectNamedPipe")
    assert server.connect(0) == 535
    assert h.read(server) == (0, b"before ConnectNamedPipe")


def test_a_server_of_an_inbound_pipe_may_not_write_nor_set_its_modes(name: str) -> None:
    server, _client = h.connected(name, direction=h.INBOUND)
    for call in (
        lambda: server.write_file(b"x", 0),
        lambda: server.write_file(b"", 0),
        lambda: server.flush_buffers(0),
    ):
        with h.fails(5):
            call()
    with h.fails(5):
        server.set_state(h.READ_MESSAGE)
    assert server.get_state() == (2, 1)
    assert server.get_info()[0] == 5


def test_a_server_of_an_outbound_pipe_may_not_read_nor_ask_for_its_state(name: str) -> None:
    server, _client = h.connected(name, direction=h.OUTBOUND)
    calls: list[Callable[[], Any]] = [
        lambda: server.read_file(1, 0),
        lambda: server.read_file(0, 0),
        lambda: server.peek_pipe(1),
        server.get_state,
        server.get_info,
    ]
    for call in calls:
        with h.fails(5):
            call()
    server.set_state(h.READ_MESSAGE | h.NOWAIT)


# ---- §2.2 What the first instance fixes


@pytest.mark.parametrize(("first", "later"), [(h.MESSAGE, h.BYTE), (h.BYTE, h.MESSAGE)])
def test_a_later_instance_of_the_other_type_is_accepted_and_gets_the_pipes_type(
    name: str, first: int, later: int
) -> None:
    one = h.create(name, type=first, mode=0)
    two = h.create(name, type=later, mode=0)
    assert one.get_info()[0] == two.get_info()[0] == 1 | first
    clients = [h.open_client(name), h.open_client(name)]
    assert [client.get_info()[0] for client in clients] == [first, first]
    h.write(clients[1], b"ab")
    h.write(clients[1], b"cd")
    assert two.peek_pipe(10)[0] == (b"ab" if first == h.MESSAGE else b"abcd")


def test_a_later_instance_with_message_read_mode_on_a_byte_pipe_reads_bytes_or_is_refused(name: str) -> None:
    first = h.create(name, type=h.BYTE)
    try:
        second = h.create(name, type=h.MESSAGE, mode=h.READ_MESSAGE)
    except OSError as error:
        h.has_code(error, 87)
    else:
        assert second.get_state()[0] == 0
        second.close_handle()
    first.close_handle()


@pytest.mark.parametrize("first", [h.INBOUND, h.OUTBOUND, h.DUPLEX])
@pytest.mark.parametrize("later", [h.INBOUND, h.OUTBOUND, h.DUPLEX])
def test_a_later_instance_must_have_the_same_direction(name: str, first: int, later: int) -> None:
    _server = h.create(name, direction=first)
    assert h.code_of(lambda: h.create(name, direction=later)) == (0 if first == later else 5)


def test_a_later_instances_limit_is_ignored(name: str) -> None:
    one = h.create(name, max_instances=2)
    two = h.create(name, max_instances=7)
    assert one.get_info()[3] == two.get_info()[3] == 2
    with h.fails(231):
        h.create(name, max_instances=7)


def test_a_later_instances_default_time_out_is_ignored(name: str) -> None:
    _one = h.create(name, default_timeout_ms=60)
    _two = h.create(name, default_timeout_ms=20_000)
    _clients = h.open_client(name), h.open_client(name)
    began = time.monotonic()
    with h.fails(121):
        h.wait_named(name, None, use_default=True)
    assert time.monotonic() - began < 10


def test_buffer_sizes_are_each_instances_own(name: str) -> None:
    one = h.create(name, quota=3)
    two = h.create(name, quota=7)
    first, second = h.open_client(name), h.open_client(name)
    assert one.get_info()[1:3] == first.get_info()[1:3] == (3, 3)
    assert two.get_info()[1:3] == second.get_info()[1:3] == (7, 7)
    assert h.would_wait(lambda: h.write(first, b"1234", 0))
    assert h.write(second, b"1234", 0) == 4


def test_read_and_wait_modes_are_each_handles_own(name: str) -> None:
    one = h.create(name, mode=h.READ_MESSAGE)
    two = h.create(name, mode=h.NOWAIT)
    first, second = h.open_client(name), h.open_client(name, mode=h.READ_MESSAGE | h.NOWAIT)
    assert [handle.get_state()[0] for handle in (one, two, first, second)] == [2, 1, 0, 3]


# ---- §2.3 Order of checks


def test_the_instance_limit_wins_over_first_instance_and_direction(name: str) -> None:
    _server = h.create(name, max_instances=1)
    with h.fails(231):
        h.create(name, first=True)
    with h.fails(231):
        h.create(name, direction=h.INBOUND)


def test_first_instance_on_an_existing_name_is_refused(name: str) -> None:
    _server = h.create(name)
    with h.fails(5):
        h.create(name, first=True)


def test_first_instance_on_a_new_name_succeeds_and_later_instances_may_follow(name: str) -> None:
    one = h.create(name, first=True, max_instances=2)
    two = h.create(name)
    assert two.get_state()[1] == 2
    with h.fails(231):
        h.create(name)
    one.close_handle()
    two.close_handle()
    assert h.create(name, first=True).get_state()[1] == 1


def test_a_refused_create_takes_no_place(name: str) -> None:
    server = h.create(name, max_instances=3)
    for _ in range(5):
        with h.fails(5):
            h.create(name, first=True)
        with h.fails(5):
            h.create(name, direction=h.OUTBOUND)
    assert server.get_state()[1] == 1
    _others = h.create(name), h.create(name)
    with h.fails(231):
        h.create(name)


def test_another_process_sees_the_limit_the_direction_and_the_first_instance(
    name: str, child: Callable[..., Any]
) -> None:
    _server = h.create(name, max_instances=2)
    other = child(_CREATE, name)
    assert other.line() == "first 5"
    assert other.line() == "direction 5"
    assert other.line() == "second 0"
    assert other.line() == "third 231"
    assert _server.get_state()[1] == 2
    other.kill()
    h.until(lambda: h.code_of(lambda: h.create(name).close_handle()) == 0)


_CREATE = r"""
    import sys
    from npipe import binding
    from npipe.errors import PipeError
    from npipe.names import parse_name
    import os
    n = parse_name(sys.argv[1])
    kept = []
    def create(what, **changes):
        options = dict(access=3, first_instance=False, type=4, mode=0, max_instances=9, out_quota=1, in_quota=1,
                       default_timeout_ms=0)
        try:
            place = (os.environ["NPIPE_ROOT"], n.folder, n.display, n.path)
            kept.append(binding.Handle.create(*place, **{**options, **changes}))
            print(what, 0, flush=True)
        except PipeError as error:
            print(what, error.winerror, flush=True)
    create("first", first_instance=True)
    create("direction", access=1)
    create("second")
    create("third")
    sys.stdin.readline()
"""


# ---- §2.4 Lifetime and counting


def test_a_name_that_was_never_created_is_not_found(name: str) -> None:
    with h.fails(2):
        h.open_client(name)
    for timeout in (0, 1, None):
        with h.fails(2):
            h.wait_named(name, timeout)


def test_the_name_ends_with_the_last_server_handle_though_clients_still_hold_data(name: str) -> None:
    server, client = h.connected(name)
    h.write(server, b"left")
    server.close_handle()
    with h.fails(2):
        h.open_client(name)
    with h.fails(2):
        h.wait_named(name, None)
    assert client.get_state()[1] == 0
    assert h.read(client) == (0, b"left")
    with h.fails(109):
        h.read(client)


def test_the_name_can_be_created_anew_with_another_type_while_an_old_client_lingers(name: str) -> None:
    server, client = h.connected(name, max_instances=1)
    server.close_handle()
    fresh = h.create(name, type=h.BYTE, direction=h.INBOUND, first=True)
    assert fresh.get_info()[0] == 1
    other = h.open_client(name, access=h.GENERIC_WRITE)
    h.write(other, b"new")
    assert h.read(fresh) == (0, b"new")
    with h.fails(109):
        h.read(client)


def test_an_instance_whose_client_has_closed_is_still_counted_and_not_available(name: str) -> None:
    server, client = h.connected(name, max_instances=2)
    client.close_handle()
    assert server.get_state()[1] == 1
    with h.fails(231):
        h.open_client(name)
    server.disconnect()
    with h.fails(231):
        h.open_client(name)
    with h.fails(121):
        server.connect(0.01)
    again = h.open_client(name)
    h.write(again, b"x")
    assert server.connect(0) == 535
    assert h.read(server) == (0, b"x")


@pytest.mark.parametrize("count", [2, 5])
def test_instances_are_counted_by_open_server_handles(name: str, count: int) -> None:
    servers = [h.create(name) for _ in range(count)]
    client = h.open_client(name)
    for closed, server in enumerate(reversed(servers)):
        assert client.get_state()[1] == count - closed
        assert server.get_state()[1] == count - closed
        server.close_handle()
    assert client.get_state()[1] == 0


def test_closing_a_handle_twice_is_no_error_and_using_it_is_6(name: str) -> None:
    server, client = h.connected(name)
    for handle in (server, client):
        handle.close_handle()
        handle.close_handle()
        assert handle.closed
        for call in (
            lambda x=handle: h.read(x),
            lambda x=handle: h.write(x, b"x"),
            handle.peek_pipe,
            handle.get_state,
            handle.get_info,
        ):
            with h.fails(6):
                call()


def test_the_death_of_a_server_process_ends_its_instances(name: str, child: Callable[..., Any]) -> None:
    other = child(_CREATE, name)
    for expected in ("first 0", "direction 5", "second 0", "third 0"):
        assert other.line() == expected
    client = h.open_client(name, mode=h.READ_MESSAGE)
    reading = h.blocked(lambda: h.read(client))
    other.kill()
    assert reading.code() == 109
    with h.fails(2):
        h.open_client(name)
    with h.fails(2):
        h.wait_named(name, None)
    with h.fails(232):
        h.write(client, b"x")
    assert client.get_state()[1] == 0


# ---- §2.5 Opening


@pytest.mark.parametrize(
    ("direction", "access", "code"),
    [
        (h.INBOUND, h.NOTHING, 0),
        (h.INBOUND, h.GENERIC_READ, 5),
        (h.INBOUND, h.GENERIC_WRITE, 0),
        (h.INBOUND, h.READ_WRITE, 5),
        (h.OUTBOUND, h.NOTHING, 0),
        (h.OUTBOUND, h.GENERIC_READ, 0),
        (h.OUTBOUND, h.GENERIC_WRITE, 5),
        (h.OUTBOUND, h.READ_WRITE, 5),
        (h.DUPLEX, h.NOTHING, 0),
        (h.DUPLEX, h.GENERIC_READ, 0),
        (h.DUPLEX, h.GENERIC_WRITE, 0),
        (h.DUPLEX, h.READ_WRITE, 0),
    ],
)
def test_a_client_may_ask_for_what_the_direction_allows(name: str, direction: int, access: int, code: int) -> None:
    server = h.create(name, direction=direction, max_instances=1)
    assert h.code_of(lambda: h.open_client(name, access=access)) == code
    if code:
        # A refused open does not consume the instance.
        rights = {h.INBOUND: h.GENERIC_WRITE, h.OUTBOUND: h.GENERIC_READ, h.DUPLEX: h.READ_WRITE}[direction]
        _client = h.open_client(name, access=rights)
    assert h.code_of(lambda: server.connect(0)) in ((0, 232) if code == 0 else (0,))


def test_an_open_without_any_access_is_a_full_connection(name: str) -> None:
    server = h.create(name, max_instances=1)
    connecting = h.blocked(lambda: server.connect(h.DEADLINE))
    client = h.open_client(name, access=h.NOTHING)
    assert connecting.result() == 0
    with h.fails(231):
        h.open_client(name)
    for call in (
        lambda: h.read(client, 1, 0),
        lambda: h.write(client, b"x", 0),
        lambda: client.peek_pipe(1),
        lambda: client.transact_pipe(b"", 0),
    ):
        with h.fails(5):
            call()
    assert client.get_info()[0] == 4
    client.close_handle()
    with h.fails(109):
        h.read(server)


@pytest.mark.parametrize(("direction", "access"), [(h.INBOUND, h.GENERIC_READ), (h.OUTBOUND, h.READ_WRITE)])
def test_a_wrong_direction_is_told_before_busy(name: str, direction: int, access: int) -> None:
    _server, _client = h.connected(name, direction=direction)
    with h.fails(5):
        h.open_client(name, access=access)


def test_a_pipe_without_a_listening_instance_is_busy(name: str) -> None:
    _server, _client = h.connected(name)
    with h.fails(231):
        h.open_client(name)


def test_clients_get_the_instance_that_has_listened_longest(name: str) -> None:
    servers = [h.create(name) for _ in range(3)]
    clients = [h.open_client(name) for _ in range(3)]
    # The order in which they listen again counts, not the order of creation, nor who waits in ConnectNamedPipe.
    for index in (2, 0, 1):
        servers[index].disconnect()
        with h.fails(121):
            servers[index].connect(0.001)
    waiting = h.blocked(lambda: servers[1].connect(h.DEADLINE))
    for index in (2, 0, 1):
        client = h.open_client(name)
        h.write(client, b"for %d" % index)
        clients.append(client)
        assert servers[index].connect(0) == 535
        assert h.read(servers[index], 100, 0) == (0, b"for %d" % index)
    assert waiting.result() == 0


def test_a_new_client_is_in_byte_read_mode_and_waits(name: str) -> None:
    server = h.create(name, mode=h.READ_MESSAGE | h.NOWAIT)
    client = h.open_client(name)
    assert client.get_state()[0] == 0
    h.write(server, b"ab")
    h.write(server, b"cd")
    assert h.read(client) == (0, b"abcd")


@pytest.mark.parametrize("state", ["connected", "server closed", "disconnected"])
def test_missing_rights_of_a_client_are_told_in_every_state(name: str, state: str) -> None:
    server = h.create(name)
    second = h.create(name)
    reader, writer = h.open_client(name, access=h.GENERIC_READ), h.open_client(name, access=h.GENERIC_WRITE)
    for end in (server, second):
        if state == "server closed":
            end.close_handle()
        elif state == "disconnected":
            end.disconnect()
    for call in (
        lambda: h.write(reader, b"x", 0),
        lambda: h.write(reader, b"", 0),
        lambda: reader.transact_pipe(b"x", 0),
    ):
        with h.fails(5):
            call()
    for other in (
        lambda: h.read(writer, 1, 0),
        lambda: h.read(writer, 0, 0),
        lambda: writer.peek_pipe(0),
        lambda: writer.transact_pipe(b"x", 0),
    ):
        with h.fails(5):
            other()


@pytest.mark.parametrize("state", ["listening", "disconnected"])
def test_missing_rights_of_a_server_are_told_in_every_state(name: str, state: str) -> None:
    inbound, outbound = h.create(name, direction=h.INBOUND), h.create(name + "o", direction=h.OUTBOUND)
    if state == "disconnected":
        for server, suffix in ((inbound, ""), (outbound, "o")):
            _client = h.open_client(name + suffix, access=h.NOTHING)
            server.disconnect()
    with h.fails(5):
        h.write(inbound, b"x", 0)
    with h.fails(5):
        h.read(outbound, 1, 0)
    with h.fails(5):
        outbound.peek_pipe(1)
    with h.fails(5):
        outbound.transact_pipe(b"x", 0)
