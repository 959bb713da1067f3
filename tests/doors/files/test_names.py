"""The door of files: which paths name pipes."""

from __future__ import annotations

import os
import pathlib
from pathlib import Path
from typing import Any

import pytest

from tests.doors.files.helpers import fails

FORMS = [
    r"\\.\pipe\{}",
    r"\\?\pipe\{}",
    r"\??\pipe\{}",
    "//./pipe/{}",
    "//?/pipe/{}",
    r"\\.\PIPE\{}",
    "//./Pipe/{}",
    r"\\./pipe\{}",
    r"\\.\pipe/{}",
    r"\\.\pipe\\{}",
    r"\\.\GLOBALROOT\Device\NamedPipe\{}",
    "//pipe/{}",
    "/some/folder/" + r"\\.\pipe\{}",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.PurePosixPath, pathlib.PureWindowsPath])
def test_every_form_of_a_name_opens_the_pipe(door: Any, upper: str, form: str, kind: Any) -> None:
    path = kind(form.format(upper.removeprefix("\\\\.\\pipe\\")))
    if kind is pathlib.PureWindowsPath and form.startswith(("/some", "//pipe")):
        pytest.skip("WindowsPath makes another path of it")
    assert os.path.exists(path)
    with open(path, "r+b", buffering=0) as pipe:
        pipe.write(b"name")
        assert pipe.read(100) == b"NAME"
        assert pipe.name == os.fspath(path)


def test_a_folder_called_pipe_is_one(door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from npipe._doors.files import paths

    assert paths.pipe_path("//pipe/x") is not None
    monkeypatch.setattr(paths, "_lstat", lambda path: {"/pipe": 1}[path])
    assert paths.pipe_path("//pipe/x") is None


def test_names_that_are_none_are_refused_as_on_windows(door: Any) -> None:
    fails(22, lambda: open("\\\\.\\pipe\\" + "x" * 300))
    error = fails(2, lambda: open(r"\\host\pipe\x"))
    assert error.filename == r"\\host\pipe\x"
    fails(13, lambda: open(r"\\.\pipe"))
    with pytest.raises(ValueError, match="null"):
        open("\\\\.\\pipe\\x\0")
    assert not os.listdir()[:0]


def test_no_mode_creates_a_file(door: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for mode in ("r", "w", "a", "x", "r+b", "w+b", "a+b", "x+b"):
        error = fails(2, lambda mode=mode: open(name, mode))  # type: ignore[misc]
        assert str(error) == f"[Errno 2] No such file or directory: {name!r}"
        assert type(error) is FileNotFoundError
    assert os.listdir(tmp_path) == ["npipe-root"] or os.listdir(tmp_path) == []
