"""multiprocessing.connection over pipes: the door's, and the Windows half of the library's own source on `_winapi`."""

from __future__ import annotations

import errno
import importlib
import random
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients import windows_library
from tests.helpers import CHECKOUT, blocked, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child

pytestmark = pytest.mark.timeout(60)

OBJECTS = [None, 17, "text", b"bytes", [1, {"two": (3.0, "four")}], list(range(50_000))]

CHILD = """
    import contextlib, importlib, sys

    sys.path.insert(0, sys.argv[1])
    with importlib.import_module("npipe.win32").install(winapi=True):
        foreign = importlib.import_module("tests.clients.windows_library")
        client = foreign.MODULES[sys.argv[3]]().Client(sys.argv[2], authkey=b"key")
        with client, contextlib.suppress(EOFError):
            while True:
                client.send(["echo", client.recv()])
    print("over", flush=True)
"""


@pytest.fixture(scope="module", params=list(windows_library.MODULES))
def whose(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def connection(whose: str) -> Iterator[Any]:
    """The module: multiprocessing.connection as it is on Windows."""
    win32: Any = importlib.import_module("npipe.win32")
    with win32.install(winapi=True):
        yield windows_library.MODULES[whose]()


@pytest.fixture
def listener(connection: Any, name: str) -> Iterator[Any]:
    with connection.Listener(name, authkey=None) as listener:
        yield listener


@pytest.fixture
def pair(connection: Any, listener: Any) -> Iterator[tuple[Any, Any]]:
    """A server's and a client's PipeConnection."""
    accepting = started(listener.accept)
    client = connection.Client(listener.address)
    server = accepting.result()
    yield server, client
    for end in (server, client):
        end.close()


class TestModule:
    def test_it_is_the_windows_half(self, connection: Any) -> None:
        assert "AF_PIPE" in connection.families
        assert isinstance(connection.Listener, type)
        assert connection.PipeListener
        assert connection.arbitrary_address("AF_PIPE").startswith("\\\\.\\pipe\\pyc-")

    def test_nobody_else_sees_it(self, connection: Any) -> None:
        assert sys.platform != "win32"
        assert "_winapi" not in sys.modules

    def test_an_arbitrary_address(self, connection: Any) -> None:
        with connection.Listener(family="AF_PIPE") as listener, connection.Listener(family="AF_PIPE") as other:
            assert listener.address != other.address
            accepting = started(listener.accept)
            with connection.Client(listener.address) as client, accepting.result() as server:
                client.send("hello")
                assert server.recv() == "hello"


class TestMessages:
    @pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: str(thing)[:12])
    def test_objects_both_ways(self, pair: tuple[Any, Any], thing: object) -> None:
        for sender, receiver in (pair, pair[::-1]):
            sending = started(sender.send, thing)
            assert receiver.recv() == thing
            sending.result()

    @pytest.mark.parametrize("size", [0, 1, 10, 127, 128, 129, 8192, 8193, 1 << 20])
    def test_bytes_of_any_size(self, pair: tuple[Any, Any], size: int) -> None:
        data = random.Random(size).randbytes(size)
        for sender, receiver in (pair, pair[::-1]):
            sending = started(sender.send_bytes, data)
            assert receiver.recv_bytes() == data
            sending.result()

    def test_messages_stay_apart(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        messages = [b"one", b"", b"three" * 100, b"", b"", b"6"]
        for message in messages:
            client.send_bytes(message)
        assert [server.recv_bytes() for _ in messages] == messages

    def test_a_part_of_a_buffer(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        client.send_bytes(b"0123456789", 2, 5)
        buffer = bytearray(10)
        assert server.recv_bytes_into(buffer, 3) == 5
        assert bytes(buffer) == b"\0\0\x0023456\0\0"

    def test_a_buffer_too_short_keeps_the_message(self, connection: Any, pair: tuple[Any, Any]) -> None:
        server, client = pair
        client.send_bytes(b"0123456789" * 20)
        with pytest.raises(connection.BufferTooShort) as caught:
            server.recv_bytes_into(bytearray(150))
        assert caught.value.args == (b"0123456789" * 20,)

    @pytest.mark.parametrize(("size", "most"), [(16, 16), (150, 150), (0, 0)])
    def test_a_message_of_the_most_length(self, pair: tuple[Any, Any], size: int, most: int) -> None:
        server, client = pair
        client.send_bytes(b"x" * size)
        assert server.recv_bytes(most) == b"x" * size

    @pytest.mark.parametrize(("size", "most"), [(17, 16), (1000, 16), (151, 150), (100_000, 8192)])
    def test_a_message_over_the_most_length(self, pair: tuple[Any, Any], size: int, most: int) -> None:
        server, client = pair
        sending = started(client.send_bytes, b"x" * size)
        with pytest.raises(OSError, match="bad message length"):
            server.recv_bytes(most)
        assert not server.readable
        server.close()
        if size > 8192:
            with pytest.raises(OSError):
                sending.result()
        else:
            sending.result()

    def test_a_thousand_round_trips(self, pair: tuple[Any, Any]) -> None:
        server, client = pair

        def echo() -> None:
            for _ in range(1000):
                server.send(server.recv())

        echoing = started(echo)
        for number in range(1000):
            client.send(number)
            assert client.recv() == number
        echoing.result()

    def test_both_send_more_than_the_quota(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        data = bytes(300_000)
        sending = [started(end.send_bytes, data) for end in (server, client)]
        assert server.recv_bytes() == client.recv_bytes() == data
        for one in sending:
            one.result()


class TestPoll:
    def test_it_is_false_when_nothing_is_there(self, pair: tuple[Any, Any]) -> None:
        server, _ = pair
        assert server.poll() is False
        assert server.poll(0.05) is False
        assert server.poll(-1) is False

    def test_a_message_is_there(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        client.send("hello")
        for timeout in (0, 0.05, None):
            assert server.poll(timeout) is True
        assert server.recv() == "hello"
        assert server.poll() is False

    def test_an_empty_message_is_there(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        client.send_bytes(b"")
        assert server.poll(1) is True
        assert server.poll(1) is True
        assert server.recv_bytes() == b""
        assert server.poll(0) is False

    def test_it_waits_for_a_message(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        polling = blocked(lambda: server.poll(20))
        client.send("hello")
        assert polling.result() is True
        assert server.recv() == "hello"

    def test_a_poll_in_vain_loses_nothing(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        for number in range(50):
            assert server.poll(0.001) is False
            client.send_bytes(bytes([number]) * 200)
            assert server.poll(1) is True
            assert server.recv_bytes() == bytes([number]) * 200


class TestWait:
    @pytest.fixture
    def pairs(self, connection: Any, listener: Any) -> Iterator[list[tuple[Any, Any]]]:
        pairs = []
        for _ in range(5):
            accepting = started(listener.accept)
            client = connection.Client(listener.address)
            pairs.append((accepting.result(), client))
        yield pairs
        for end in (end for pair in pairs for end in pair):
            end.close()

    def test_none_is_ready(self, connection: Any, pairs: list[tuple[Any, Any]]) -> None:
        servers = [server for server, _ in pairs]
        assert connection.wait(servers, 0) == []
        assert connection.wait(servers, 0.05) == []
        assert connection.wait([], 0) == []

    def test_all_that_are_ready(self, connection: Any, pairs: list[tuple[Any, Any]]) -> None:
        servers = [server for server, _ in pairs]
        pairs[1][1].send("one")
        pairs[3][1].send("three")
        assert connection.wait(servers, 5) == [servers[1], servers[3]]
        assert connection.wait(servers) == [servers[1], servers[3]]
        assert (servers[1].recv(), servers[3].recv()) == ("one", "three")
        assert connection.wait(servers, 0) == []

    def test_an_empty_message(self, connection: Any, pairs: list[tuple[Any, Any]]) -> None:
        servers = [server for server, _ in pairs]
        pairs[3][1].send_bytes(b"")
        assert connection.wait(servers, 5) == [servers[3]]  # has read it, as it does since Windows 8
        assert servers[3].recv_bytes() == b""
        waiting = blocked(lambda: connection.wait(servers, 20))
        pairs[0][1].send_bytes(b"")
        assert waiting.result() == [servers[0]]
        assert servers[0].recv_bytes() == b""

    def test_it_waits_for_the_first_that_is_ready(self, connection: Any, pairs: list[tuple[Any, Any]]) -> None:
        servers = [server for server, _ in pairs]
        waiting = blocked(lambda: connection.wait(servers, 20))
        pairs[2][1].send("two")
        assert waiting.result() == [servers[2]]
        assert servers[2].recv() == "two"

    def test_one_whose_peer_has_gone_is_ready(self, connection: Any, pairs: list[tuple[Any, Any]]) -> None:
        servers = [server for server, _ in pairs]
        waiting = blocked(lambda: connection.wait(servers, 20))
        pairs[4][1].close()
        assert waiting.result() == [servers[4]]
        assert connection.wait(servers, 5) == [servers[4]]
        with pytest.raises(EOFError):
            servers[4].recv()

    def test_handles_among_connections(self, connection: Any, pairs: list[tuple[Any, Any]]) -> None:
        win32event = importlib.import_module("win32event")
        event = win32event.CreateEvent(None, True, False, None)
        things = [pairs[0][0], int(event), pairs[1][0]]
        assert connection.wait(things, 0.01) == []
        win32event.SetEvent(event)
        pairs[1][1].send("one")
        assert connection.wait(things, 5) == things[1:]


class TestEnd:
    def test_the_end_of_file(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        client.send("last")
        client.close()
        assert server.recv() == "last"
        with pytest.raises(EOFError):
            server.recv()
        with pytest.raises(BrokenPipeError):
            server.poll()

    def test_the_end_while_it_reads(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        reading = blocked(server.recv)
        client.close()
        with pytest.raises(EOFError):
            reading.result()

    def test_a_send_to_nobody(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        client.close()
        with pytest.raises(BrokenPipeError) as caught:
            server.send("hello")
        assert caught.value.winerror == 232  # type: ignore[attr-defined]

    def test_a_close_ends_the_send_of_another_thread(self, connection: Any, pair: tuple[Any, Any]) -> None:
        server, _ = pair
        if "of_windows" in connection.__name__ and not hasattr(connection.PipeConnection, "_send_ov"):
            pytest.skip("this version of multiprocessing.connection has no such close")
        sending = blocked(lambda: server.send_bytes(bytes(1 << 20)))
        server.close()
        with pytest.raises(OSError, match="handle is closed") as caught:
            sending.result()
        assert caught.value.errno == errno.EPIPE

    def test_a_closed_connection(self, pair: tuple[Any, Any]) -> None:
        server, _ = pair
        server.close()
        server.close()
        assert server.closed
        with pytest.raises(OSError, match="handle is closed"):
            server.recv()


class TestClients:
    def test_several_in_turn(self, connection: Any, listener: Any) -> None:
        for number in range(10):
            accepting = started(listener.accept)
            with connection.Client(listener.address) as client, accepting.result() as server:
                client.send(number)
                assert server.recv() == number

    def test_one_that_came_before_accept(self, connection: Any, listener: Any) -> None:
        with connection.Client(listener.address) as client:
            client.send("early")
            with listener.accept() as server:
                assert server.recv() == "early"

    def test_one_that_has_gone_before_accept(self, connection: Any, listener: Any) -> None:
        with connection.Client(listener.address) as client:
            client.send("early")
        with listener.accept() as server:  # ConnectNamedPipe says ERROR_NO_DATA: bpo-14725
            assert server.recv() == "early"
            with pytest.raises(EOFError):
                server.recv()

    def test_one_waits_for_an_instance(self, connection: Any, listener: Any) -> None:
        with connection.Client(listener.address) as first:  # has the only instance until accept makes another
            connecting = started(connection.Client, listener.address)
            with listener.accept() as server, connecting.result() as second:
                first.send(1)
                assert server.recv() == 1
                with listener.accept() as other:
                    second.send(2)
                    assert other.recv() == 2

    def test_without_a_listener_it_is_file_not_found(self, connection: Any, name: str) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            connection.Client(name)
        assert caught.value.winerror == 2  # type: ignore[attr-defined]

    def test_a_second_listener_is_refused(self, connection: Any, listener: Any) -> None:
        with pytest.raises(PermissionError):
            connection.Listener(listener.address)

    def test_a_closed_listener_is_gone(self, connection: Any, name: str) -> None:
        connection.Listener(name).close()
        with pytest.raises(FileNotFoundError):
            connection.Client(name)
        connection.Listener(name).close()

    def test_the_key_is_asked_for(self, connection: Any, name: str) -> None:
        with connection.Listener(name, authkey=b"key") as listener:
            accepting = started(listener.accept)
            with connection.Client(name, authkey=b"key") as client, accepting.result() as server:
                client.send("hello")
                assert server.recv() == "hello"

    def test_a_wrong_key_is_refused(self, connection: Any, name: str) -> None:
        with connection.Listener(name, authkey=b"key") as listener:
            accepting = started(listener.accept)
            with pytest.raises(connection.AuthenticationError):
                connection.Client(name, authkey=b"wrong")
            with pytest.raises(connection.AuthenticationError):
                accepting.result()

    def test_one_in_another_process(self, connection: Any, whose: str, name: str, child: Callable[..., Child]) -> None:
        with connection.Listener(name, authkey=b"key") as listener:
            other = child(CHILD, str(CHECKOUT), name, whose)
            with listener.accept() as server:
                for thing in OBJECTS:
                    server.send(thing)
                    assert server.recv() == ["echo", thing]
            assert other.line() == "over"
            assert other.wait() == 0

    def test_one_in_another_process_is_killed(
        self, connection: Any, whose: str, name: str, child: Callable[..., Child]
    ) -> None:
        with connection.Listener(name, authkey=b"key") as listener:
            other = child(CHILD, str(CHECKOUT), name, whose)
            with listener.accept() as server:
                reading = blocked(server.recv)
                other.kill()
                with pytest.raises(EOFError):
                    reading.result()


class TestPipe:
    def test_both_ends_send_and_receive(self, connection: Any) -> None:
        one, two = connection.Pipe()
        with one, two:
            one.send(1)
            two.send(2)
            assert (two.recv(), one.recv()) == (1, 2)

    def test_one_end_reads_and_the_other_writes(self, connection: Any) -> None:
        reader, writer = connection.Pipe(duplex=False)
        with reader, writer:
            writer.send("hello")
            assert reader.recv() == "hello"
            assert (reader.writable, writer.readable) == (False, False)
            with pytest.raises(OSError, match="read-only"):
                reader.send("no")
