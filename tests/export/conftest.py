"""Where smbd would look for pipes, in a folder of the test's own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def samba_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose path leaves room for the sockets' names."""
    with tempfile.TemporaryDirectory(prefix="npipe-smb-") as folder:
        monkeypatch.setenv("NPIPE_SAMBA_DIR", folder)
        yield Path(folder)
