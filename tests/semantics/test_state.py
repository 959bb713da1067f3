"""Handle state and information, flushing, process ids: SEMANTICS §9, §10.1 and §11."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests import helpers as h

if TYPE_CHECKING:
    from collections.abc import Callable

# ---- §9.1 SetNamedPipeHandleState


@pytest.mark.parametrize("end", ["server", "client"])
@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_modes_are_set_as_given_and_omitted_bits_are_reset(name: str, end: str, mode: int) -> None:
    server, client = h.connected(name)
    own, other = (server, client) if end == "server" else (client, server)
    own.set_state(3)
    own.set_state(mode)
    assert own.get_state()[0] == mode
    assert other.get_state()[0] == h.READ_MESSAGE


@pytest.mark.parametrize("mode", [4, 8, 7, 0x10, 0x80000000])
def test_other_mode_bits_are_87_and_change_nothing(name: str, mode: int) -> None:
    server, client = h.connected(name)
    for end in (server, client):
        with h.fails(87):
            end.set_state(mode)
        assert end.get_state()[0] == h.READ_MESSAGE


@pytest.mark.parametrize("mode", [2, 3])
def test_message_read_mode_on_a_byte_pipe_is_87_and_changes_nothing(name: str, mode: int) -> None:
    server, client = h.connected(name, type=h.BYTE)
    for end in (server, client):
        with h.fails(87):
            end.set_state(mode)
        assert end.get_state()[0] == 0
        end.set_state(h.NOWAIT)
        with h.fails(87):
            end.set_state(h.READ_MESSAGE)
        assert end.get_state()[0] == h.NOWAIT


def test_setting_modes_needs_the_right_to_write_attributes(name: str) -> None:
    server, _client = h.connected(name, direction=h.INBOUND)
    with h.fails(5):
        server.set_state(0)
    _sender = h.create(name + "o", direction=h.OUTBOUND)
    reader = h.open_client(name + "o", access=h.GENERIC_READ)
    with h.fails(5):
        reader.set_state(0)
    _second = h.create(name + "o", direction=h.OUTBOUND)
    able = h.open_client(name + "o", access=h.GENERIC_READ | 8)
    able.set_state(h.READ_MESSAGE)
    assert able.get_state()[0] == h.READ_MESSAGE


@pytest.mark.parametrize("what", ["read", "write"])
def test_switching_to_nowait_with_something_pending_is_231(name: str, what: str) -> None:
    server, client = h.connected(name, quota=0)
    pending: h.Background[Any]
    pending = h.blocked_in(h.read, client) if what == "read" else h.blocked_in(h.write, client, b"abc")
    with h.fails(231):
        client.set_state(h.READ_MESSAGE | h.NOWAIT)
    assert client.get_state()[0] == h.READ_MESSAGE
    client.set_state(0)
    client.set_state(h.READ_MESSAGE)
    server.set_state(h.READ_MESSAGE | h.NOWAIT)  # the other end has nothing pending
    if what == "read":
        assert server.write_file(b"x") == 1
        assert pending.result() == (0, b"x")
    else:
        assert server.read_file(10) == (0, b"abc")
        assert pending.result() == 3
    client.set_state(h.NOWAIT)


def test_nowait_can_be_set_with_unread_data(name: str) -> None:
    server, client = h.connected(name)
    h.write(server, b"abc")
    client.set_state(h.READ_MESSAGE | h.NOWAIT)
    assert client.read_file(10) == (0, b"abc")
    with h.fails(232):
        client.read_file(10)
    client.set_state(h.READ_MESSAGE)
    with h.fails(121):
        client.read_file(10, 0)


def test_what_is_being_waited_for_can_be_had_after_nowait_is_taken_back(name: str) -> None:
    server, client = h.connected(name)
    client.set_state(h.READ_MESSAGE | h.NOWAIT)
    client.set_state(h.READ_MESSAGE)
    reading = h.blocked(lambda: h.read(client))
    h.write(server, b"x")
    assert reading.result() == (0, b"x")


# ---- §9.2 GetNamedPipeHandleState, §9.3 GetNamedPipeInfo


@pytest.mark.parametrize("type", [h.BYTE, h.MESSAGE])
def test_the_state_is_the_own_ends_modes_without_the_type(name: str, type: int) -> None:
    server = h.create(name, type=type)
    client = h.open_client(name)
    assert server.get_state() == (h.READ_MESSAGE if type == h.MESSAGE else 0, 1)
    assert client.get_state() == (0, 1)


@pytest.mark.parametrize("type", [h.BYTE, h.MESSAGE])
def test_the_information_has_the_end_and_the_type_and_no_modes(name: str, type: int) -> None:
    server, client = h.connected(name, type=type, in_quota=11, out_quota=22, max_instances=3)
    server.set_state(h.NOWAIT)
    client.set_state(h.NOWAIT)
    assert server.get_info() == (1 | type, 22, 11, 3)
    assert client.get_info() == (type, 22, 11, 3)


def test_current_instances_count_those_of_all_processes(name: str, child: Callable[..., Any]) -> None:
    server, client = h.connected(name)
    other = child(
        r"""
        import os, sys
        from npipe import binding
        from npipe.names import parse_name
        n = parse_name(sys.argv[1])
        place = (os.environ["NPIPE_ROOT"], n.folder, n.display, n.path)
        kept = [binding.Handle.create(*place, access=3, first_instance=False, type=4, mode=0, max_instances=255,
                                      out_quota=1, in_quota=1, default_timeout_ms=0) for _ in range(2)]
        print(kept[0].get_state()[1], flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert other.line() == "3"
    assert server.get_state()[1] == 3
    assert client.get_state()[1] == 3
    other.kill()
    h.until(lambda: client.get_state()[1] == 1)
    assert server.get_state()[1] == 1


def test_a_client_of_any_access_may_ask_for_state_and_information(name: str) -> None:
    for access in (h.NOTHING, h.GENERIC_READ, h.GENERIC_WRITE):
        _server = h.create(name)
        client = h.open_client(name, access=access)
        assert client.get_state()[0] == 0
        assert client.get_info()[0] == 4
        _server.close_handle()


# ---- §10.1 FlushFileBuffers


@pytest.mark.parametrize("end", ["server", "client"])
def test_a_flush_with_nothing_unread_returns_at_once(name: str, end: str) -> None:
    server, client = h.connected(name)
    own, peer = (server, client) if end == "server" else (client, server)
    h.write(peer, b"the other direction")
    own.flush_buffers(0)
    h.write(own, b"abc")
    assert h.read(peer) == (0, b"abc")
    own.flush_buffers(0)


@pytest.mark.parametrize("data", [[b"abc"], [b""], [b"abc", b""], [b"", b"abc"]])
def test_a_flush_blocks_until_the_peer_has_read_everything_and_peeking_is_not_enough(
    name: str, data: list[bytes]
) -> None:
    server, client = h.connected(name)
    for message in data:
        h.write(server, message)
    with h.fails(121):
        server.flush_buffers(0.01)
    flushing = h.blocked(lambda: server.flush_buffers(h.DEADLINE))
    client.peek_pipe(100)
    for message in data:
        flushing.blocked()
        assert h.read(client) == (0, message)
    assert flushing.code() == 0


def test_a_flush_waits_for_the_rest_of_a_message(name: str) -> None:
    server, client = h.connected(name)
    h.write(server, b"abc")
    flushing = h.blocked(lambda: server.flush_buffers(h.DEADLINE))
    assert h.read(client, 2) == (234, b"ab")
    flushing.blocked()
    assert h.read(client, 2) == (0, b"c")
    assert flushing.code() == 0


def test_a_flush_does_not_wait_for_what_was_written_after_it_began(name: str) -> None:
    server, client = h.connected(name)
    h.write(server, b"before")
    flushing = h.blocked(lambda: server.flush_buffers(h.DEADLINE))
    h.write(server, b"after")
    assert h.read(client) == (0, b"before")
    assert flushing.code() == 0
    assert client.peek_pipe(10) == (b"after", 5, 0)


def test_a_flush_of_a_byte_pipe_ends_when_its_bytes_are_read(name: str) -> None:
    server, client = h.connected(name, type=h.BYTE)
    h.write(server, b"abc")
    h.write(server, b"def")
    flushing = h.blocked(lambda: server.flush_buffers(h.DEADLINE))
    h.write(server, b"ghi")
    assert h.read(client, 5) == (0, b"abcde")
    flushing.blocked()
    assert h.read(client, 1) == (0, b"f")
    assert flushing.code() == 0


@pytest.mark.parametrize(("what", "code"), [("the peer closes", 109), ("the server disconnects", 233)])
@pytest.mark.parametrize("end", ["server", "client"])
def test_a_flush_ends_when_the_connection_does(name: str, end: str, what: str, code: int) -> None:
    server, client = h.connected(name)
    own, peer = (server, client) if end == "server" else (client, server)
    h.write(own, b"abc")
    flushes = [h.blocked(lambda: own.flush_buffers(h.DEADLINE)) for _ in range(2)]
    if code == 109:
        peer.close_handle()
    else:
        server.disconnect()
    assert [flushing.code() for flushing in flushes] == [code, code]


@pytest.mark.parametrize("size", [20, 100_000])
def test_a_flush_is_over_when_the_pending_write_it_waits_for_is_withdrawn(name: str, size: int) -> None:
    server, _client = h.connected(name, quota=10)
    writing = h.blocked(lambda: h.write(server, b"w" * size, 0.2))
    flushing = h.blocked(lambda: server.flush_buffers(h.DEADLINE))
    assert writing.code() == 121
    assert flushing.code() == 0
    server.flush_buffers(0)


def test_a_flush_waits_for_a_pending_write(name: str) -> None:
    server, client = h.connected(name, quota=10)
    writing = h.blocked(lambda: h.write(server, b"w" * 20))
    flushing = h.blocked(lambda: server.flush_buffers(h.DEADLINE))
    assert h.read(client, 10) == (234, b"w" * 10)
    assert writing.result() == 20
    flushing.blocked()
    assert h.read(client, 10) == (0, b"w" * 10)
    assert flushing.code() == 0


def test_a_flush_without_the_right_to_write_is_5(name: str) -> None:
    server, _client = h.connected(name, direction=h.INBOUND)
    with h.fails(5):
        server.flush_buffers(0)
    _sender = h.create(name + "o", direction=h.OUTBOUND)
    with h.fails(5):
        h.open_client(name + "o", access=h.GENERIC_READ).flush_buffers(0)


def test_a_flush_blocks_in_nowait_mode_too(name: str) -> None:
    server, client = h.connected(name)
    server.set_state(h.READ_MESSAGE | h.NOWAIT)
    server.write_file(b"abc")
    flushing = h.blocked(lambda: server.flush_buffers(h.DEADLINE))
    assert h.read(client) == (0, b"abc")
    assert flushing.code() == 0


def test_flushes_and_writes_of_several_threads_all_end(name: str) -> None:
    server, client = h.connected(name, quota=10)
    for _ in range(100):
        both: list[h.Background[Any]] = [
            h.started(h.write, server, b"x" * 12, 4 * h.DEADLINE),
            h.started(server.flush_buffers, 4 * h.DEADLINE),
            h.started(h.write, server, b"x" * 12, 4 * h.DEADLINE),
            h.started(server.flush_buffers, 4 * h.DEADLINE),
        ]
        for _ in range(2):
            assert h.read(client) == (0, b"x" * 12)
        assert [one.code() for one in both] == [0, 0, 0, 0]


# ---- §11 Process ids


def test_both_ends_know_both_processes(name: str, child: Callable[..., Any]) -> None:
    server = h.create(name)
    other = child(
        r"""
        import os, sys
        from npipe import binding
        from npipe.names import parse_name
        n = parse_name(sys.argv[1])
        place = (os.environ["NPIPE_ROOT"], n.folder, n.display, n.path)
        client = binding.Handle.open(*place, access=15, hold=False, verify_owner=True, timeout=None)
        print(client.client_pid(), client.server_pid(), *client.peer_credentials(), flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert other.line().split() == [str(other.pid), str(os.getpid()), str(os.getpid()), str(os.geteuid())]
    assert server.connect(0) == 535
    assert server.client_pid() == other.pid
    assert server.server_pid() == os.getpid()
    assert server.peer_credentials() == (other.pid, os.geteuid())
    pid = other.pid
    other.kill()
    h.until(lambda: h.code_of(lambda: server.connect(0)) == 232)
    assert server.client_pid() == pid  # also after the client has gone


def test_ids_stay_after_the_peer_has_closed(name: str) -> None:
    server, client = h.connected(name)
    server.close_handle()
    assert client.client_pid() == client.server_pid() == os.getpid()


def test_a_server_without_a_client_knows_no_client_but_itself(name: str) -> None:
    server = h.create(name)
    with h.fails(1168):
        server.client_pid()
    assert server.server_pid() == os.getpid()
    client = h.open_client(name)
    assert server.client_pid() == os.getpid()
    server.disconnect()
    with h.fails(1168):
        server.client_pid()
    assert server.server_pid() == os.getpid()
    for call in (client.client_pid, client.server_pid):
        with h.fails(233):
            call()
    with h.fails(121):
        server.connect(0)
    with h.fails(1168):
        server.client_pid()
