"""winConnect, unmodified: a daemon and clients with sessions over a message pipe, on synchronous handles."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.fetch import importable
from tests.helpers import Background, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def foreign(installed: None, winconnect_folder: Path) -> Iterator[Any]:
    with importable(winconnect_folder):
        yield importlib.import_module("winConnect")


@pytest.fixture
def short(name: str) -> str:
    """The name without its prefix, which winConnect puts there."""
    return name.removeprefix("\\\\.\\pipe\\")


def serving(foreign: Any, name: str) -> Background[list[object]]:
    """A daemon, listening, that sends back what it gets."""
    daemon = foreign.WinConnectDaemon(name)
    daemon._open_pipe()  # now, so that a client finds it

    def serve() -> list[object]:
        seen: list[object] = []
        for data in daemon.listen():
            if data is None:
                break
            seen.append(data)
            daemon.send_data(data)
        return seen

    return started(serve)


def test_data_of_all_kinds_and_sizes_come_back(foreign: Any, short: str) -> None:
    sent = [b"bytes", "text", {"a": [1, 2.5, None]}, b"x" * 300_000, list(range(1000))]
    daemon = serving(foreign, short)
    with foreign.WinConnectClient(short) as client:
        for data in sent:
            client.send_data(data)
            assert client.read_pipe() == data
    assert daemon.result() == sent


def test_a_client_without_a_daemon_is_told(foreign: Any, short: str) -> None:
    with pytest.raises(foreign.exceptions.WinConnectConnectionNoPipeException):
        foreign.WinConnectClient(short).connect()
