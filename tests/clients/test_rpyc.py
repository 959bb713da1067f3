"""rpyc's streams over Windows pipes, unmodified: NamedPipeStream and Win32PipeStream, bare and under a connection."""

from __future__ import annotations

import importlib
import sys
import types
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.fetch import importable
from tests.helpers import Background, blocked, started, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("default::DeprecationWarning")]


@pytest.fixture(scope="module")
def foreign(installed: None, rpyc_folder: Path) -> Iterator[SimpleNamespace]:
    """rpyc's modules, and the drop-in modules that the tests use themselves."""
    with importable(rpyc_folder):
        rpyc: Any = importlib.import_module("rpyc")
        # Its constructors import msvcrt, for files that have a descriptor. npipe never has one; no file comes here.
        sys.modules["msvcrt"] = types.ModuleType("msvcrt")
        try:
            yield SimpleNamespace(
                stream=importlib.import_module("rpyc.core.stream"),
                service=rpyc.Service,
                connect_stream=importlib.import_module("rpyc.utils.factory").connect_stream,
                pywintypes=importlib.import_module("pywintypes"),
                win32event=importlib.import_module("win32event"),
            )
        finally:
            del sys.modules["msvcrt"]


def connecting(foreign: SimpleNamespace, server: Any, call: Callable[[], None]) -> Background[None]:
    """Start `call` in a thread, return when its connect_server waits: it misses a client that is already there."""
    calling = started(call)
    event, timed_out = server.write_overlapped.hEvent, foreign.win32event.WAIT_TIMEOUT
    until(lambda: bool(foreign.win32event.WaitForSingleObject(event, 0) == timed_out))
    return calling


@pytest.fixture
def pair(foreign: SimpleNamespace, name: str) -> Iterator[tuple[Any, Any]]:
    """A server's and a client's NamedPipeStream."""
    server = foreign.stream.NamedPipeStream.create_server(name, connect=False)
    waiting = connecting(foreign, server, server.connect_server)
    client = foreign.stream.NamedPipeStream.create_client(name)
    waiting.result()
    yield server, client
    client.close()
    server.close()


@pytest.mark.timeout(300)  # the first test of a session may have to fetch
def test_rpyc_finds_the_modules(foreign: SimpleNamespace) -> None:
    for module in ("win32file", "win32pipe", "win32event"):
        assert getattr(foreign.stream, module) is importlib.import_module(module)


class TestNamedPipeStream:
    def test_bytes_both_ways(self, pair: tuple[Any, Any]) -> None:
        for writer, reader in (pair, pair[::-1]):
            writer.write(b"hello, ")
            writer.write(b"world")
            assert reader.read(3) == b"hel"
            assert reader.read(9) == b"lo, world"

    def test_a_read_waits_for_all_of_it(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        reading = blocked(lambda: server.read(10))
        client.write(b"01234")
        client.write(b"56789")
        assert reading.result() == b"0123456789"

    def test_much_in_both_directions(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        data = bytes(range(250)) * 200  # 50 000 bytes: within the quota, so that no write waits

        def echo() -> None:
            for _ in range(40):
                server.write(server.read(len(data)))

        echoing = started(echo)
        for _ in range(40):
            client.write(data)
            assert client.read(len(data)) == data
        echoing.result(20)

    def test_poll_tells_whether_something_is_there(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        assert not server.poll(0.01)
        client.write(b"abc")
        assert server.poll(5)
        assert server.poll(5)
        assert server.read(3) == b"abc"
        assert not server.poll(0.01)
        polling = blocked(lambda: server.poll(20))
        client.write(b"d")
        assert polling.result()
        assert server.read(1) == b"d"

    def test_the_client_ends_the_stream(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        client.write(b"last")
        client.close()
        assert server.read(4) == b"last"
        with pytest.raises(EOFError):
            server.read(1)
        assert server.closed

    def test_the_client_ends_the_stream_during_a_read(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        reading = blocked(lambda: server.read(1))
        client.close()
        with pytest.raises(EOFError):
            reading.result()

    def test_the_server_flushes_before_it_ends_the_stream(self, pair: tuple[Any, Any]) -> None:
        server, client = pair
        server.write(b"last")
        closing = blocked(server.close)
        assert client.read(4) == b"last"
        closing.result()
        with pytest.raises(EOFError):
            client.read(1)

    def test_without_a_server_it_fails_with_2(self, foreign: SimpleNamespace, name: str) -> None:
        with pytest.raises(foreign.pywintypes.error) as caught:
            foreign.stream.NamedPipeStream.create_client(name)
        assert caught.value.winerror == 2

    def test_one_instance_only(self, foreign: SimpleNamespace, name: str) -> None:
        server = foreign.stream.NamedPipeStream.create_server(name, connect=False)
        with pytest.raises(foreign.pywintypes.error) as caught:
            foreign.stream.NamedPipeStream.create_server(name, connect=False)
        assert caught.value.winerror == 231
        server.incoming.Close()


class TestConnection:
    @pytest.fixture
    def root(self, foreign: SimpleNamespace, name: str) -> Iterator[Any]:
        """The root object of a service in another thread, over a named pipe."""

        class Calculator(foreign.service):  # type: ignore[name-defined, misc]
            def exposed_add(self, one: int, two: int) -> int:
                return one + two

            def exposed_length(self, data: bytes) -> int:
                return len(data)

            def exposed_call(self, function: Any) -> Any:
                return function(21)

            def exposed_fail(self) -> None:
                raise ZeroDivisionError

        stream = foreign.stream.NamedPipeStream.create_server(name, connect=False)

        def serve() -> None:
            stream.connect_server()
            foreign.connect_stream(stream, Calculator).serve_all()

        serving = connecting(foreign, stream, serve)
        connection = foreign.connect_stream(foreign.stream.NamedPipeStream.create_client(name))
        yield connection.root
        connection.close()
        serving.result(20)

    def test_calls_are_answered_in_order(self, root: Any) -> None:
        assert [root.add(number, 1) for number in range(50)] == list(range(1, 51))

    def test_a_large_argument(self, root: Any) -> None:
        assert root.length(bytes(50_000)) == 50_000

    def test_a_call_back(self, root: Any) -> None:
        assert root.call(lambda number: number * 2) == 42

    def test_an_exception_of_the_server_is_raised_at_the_client(self, root: Any) -> None:
        with pytest.raises(ZeroDivisionError):
            root.fail()


class TestAnonymousPipes:
    """Win32PipeStream on win32pipe.CreatePipe."""

    @pytest.fixture
    def streams(self, foreign: SimpleNamespace) -> Iterator[tuple[Any, Any]]:
        streams = foreign.stream.Win32PipeStream.create_pair()
        yield streams
        for stream in streams:
            stream.close()

    def test_bytes_both_ways(self, streams: tuple[Any, Any]) -> None:
        for writer, reader in (streams, streams[::-1]):
            writer.write(b"hello")
            assert reader.poll(0)
            assert reader.read(5) == b"hello"
            assert not reader.poll(0.01)

    def test_more_than_the_buffer(self, streams: tuple[Any, Any]) -> None:
        one, two = streams
        data = bytes(range(250)) * 4000
        writing = started(one.write, data)
        assert two.read(len(data)) == data
        writing.result()

    def test_the_end_of_the_stream(self, streams: tuple[Any, Any]) -> None:
        one, two = streams
        one.write(b"last")
        one.close()
        assert two.read(4) == b"last"
        with pytest.raises(EOFError):
            two.read(1)
