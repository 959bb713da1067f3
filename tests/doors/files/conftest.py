"""Pipes to open, with the door open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.win32 import install
from tests.doors.files.helpers import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def door() -> Iterator[Any]:
    with install(pywin32=False, files=True) as installation:
        yield installation


@pytest.fixture
def peer(name: str) -> Iterator[Peer]:
    made = Peer(name)
    yield made
    made.close()


@pytest.fixture
def upper(name: str) -> Iterator[str]:
    """A server that sends back in capitals what it is sent."""
    with npipe.serve(name, bytes.upper, mode="byte"):
        yield name
