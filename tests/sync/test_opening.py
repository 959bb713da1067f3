"""A client's functions: where pipes are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import npipe


def test_root_is_the_folder_that_a_server_makes_its_pipes_in(root: Path, name: str) -> None:
    assert npipe.root() == str(root)
    assert not root.exists()
    with npipe.listen(name) as listener:
        (folder,) = root.iterdir()
        assert listener.name.endswith(folder.name.lower())


def test_root_follows_the_environment_in_the_order_that_is_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/run/npipe").is_dir():
        pytest.skip("this machine has /run/npipe, which goes before the others")
    monkeypatch.delenv("NPIPE_ROOT")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert npipe.root() == str(tmp_path / "npipe")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "not-there"))
    assert Path(str(npipe.root())).name == f"npipe-{os.geteuid()}"
    monkeypatch.setenv("NPIPE_ROOT", "somewhere")
    assert npipe.root() == "somewhere"


def test_a_call_that_times_out_says_that_its_answer_comes_to_nobody(name: str) -> None:
    with (
        npipe.listen(name),
        pytest.raises(npipe.PipeTimeoutError, match="so it comes to nobody; wait longer") as caught,
    ):
        npipe.call(name, b"x", timeout=0.05)
    assert caught.value.sent is True
    assert "recv()" not in str(caught.value)
