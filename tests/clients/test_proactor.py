"""asyncio's own proactor and pipe server, the library's source for Windows, on the door's `_overlapped`."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients import windows_library

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def events() -> Iterator[Any]:
    """The module asyncio.windows_events."""
    win32: Any = importlib.import_module("npipe.win32")
    with win32.install(winapi=True):
        yield windows_library.asyncio_events()


@pytest.fixture
def proactor(events: Any) -> Iterator[Any]:
    """A proactor; its futures are of a loop that never runs."""
    loop = asyncio.new_event_loop()
    made = events.IocpProactor()
    made.set_loop(loop)
    yield made
    made.close()
    loop.close()


def result(proactor: Any, future: Any) -> Any:
    """What a future gives, once the proactor has had its turns."""
    while not future.done():
        proactor.select(5)
    return future.result()


def test_a_client_is_accepted_and_bytes_go_both_ways(events: Any, proactor: Any, name: str) -> None:
    server = events.PipeServer(name)
    accepting = proactor.accept_pipe(server._get_unconnected_pipe())
    client = events.windows_utils.PipeHandle(importlib.import_module("_overlapped").ConnectPipe(name))
    accepted = result(proactor, accepting)
    reading = proactor.recv(client, 100)
    assert result(proactor, proactor.send(accepted, b"hello")) == 5
    assert result(proactor, reading) == b"hello"
    buffer = bytearray(10)
    into = proactor.recv_into(accepted, buffer)
    assert result(proactor, proactor.send(client, b"back")) == 4
    assert (result(proactor, into), bytes(buffer[:4])) == (4, b"back")
    client.close()
    assert result(proactor, proactor.recv(accepted, 100)) == b""
    accepted.close()
    server.close()


def test_a_read_that_is_cancelled_leaves_what_comes_later(events: Any, proactor: Any, name: str) -> None:
    server = events.PipeServer(name)
    accepting = proactor.accept_pipe(server._get_unconnected_pipe())
    client = events.windows_utils.PipeHandle(importlib.import_module("_overlapped").ConnectPipe(name))
    accepted = result(proactor, accepting)
    reading = proactor.recv(accepted, 100)
    reading.cancel()
    proactor.select(0)
    result(proactor, proactor.send(client, b"later"))
    assert result(proactor, proactor.recv(accepted, 100)) == b"later"
    accepted.close()
    client.close()
    server.close()


def test_a_name_is_bound_once(events: Any, name: str) -> None:
    server = events.PipeServer(name)
    with pytest.raises(PermissionError):
        events.PipeServer(name)
    server.close()
    with pytest.raises(FileNotFoundError):
        importlib.import_module("_overlapped").ConnectPipe(name)
