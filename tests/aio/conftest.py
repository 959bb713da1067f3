"""Fixtures of the tests for event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.aio.transports import KINDS, Place

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Place:
    return Place(request.param, name if request.param.startswith("npipe") else str(tmp_path / "socket"))
