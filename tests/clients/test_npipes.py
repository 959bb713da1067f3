"""npipes, unmodified: a message from a process that creates the pipe to one that opens it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.fetch import importable
from tests.helpers import started, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def foreign(installed: None, npipes_folder: Path) -> Iterator[Any]:
    with importable(npipes_folder):
        yield importlib.import_module("npipes.pipes")


def test_what_is_written_and_closed_is_read(foreign: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    writer, reader = foreign.Pipes(), foreign.Pipes()
    writer.pipe = reader.pipe = name.removeprefix("\\\\.\\pipe\\")
    writing = started(lambda: writer.write(b"a message"))
    until(lambda: pipe_exists(name))  # a reader that is first creates the pipe itself, and waits for a client
    assert reader.read() == b"a message"
    writing.result()
    assert "Message sent successfully" in capsys.readouterr().out
    assert not pipe_exists(name)


def pipe_exists(name: str) -> bool:
    win32pipe: Any = importlib.import_module("win32pipe")
    try:
        win32pipe.WaitNamedPipe(name, 1)
    except win32pipe.error:
        return False
    return True
