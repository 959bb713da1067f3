"""The door of files: what there is to know of pipes without opening them; glob and pathlib."""

from __future__ import annotations

import glob
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest

import npipe
from tests import helpers as h
from tests.doors.files.helpers import DEADLINE, PROGRAMS, Peer, fails


def test_stat_uses_up_no_instance(door: Any, name: str) -> None:
    with npipe.listen(name, max_instances=1, mode="byte") as listener:
        for _ in range(3):
            assert stat.S_IFMT(os.stat(name).st_mode) == stat.S_IFIFO
            assert stat.S_ISFIFO(os.lstat(name).st_mode)
            assert os.access(name, os.R_OK | os.W_OK)
            assert os.path.exists(name)
            assert os.path.lexists(name)
            assert not os.path.isfile(name)
            assert not os.path.isdir(name)
            assert not os.path.islink(name)
        with open(name, "rb"):
            listener.accept(DEADLINE).close()
            found = os.stat(name)
            assert (found.st_mtime, found.st_mtime_ns, found.st_size) == (0, 0, 0)
            assert found.st_blksize > 1  # as io asks
    assert not os.path.exists(name)
    assert not os.access(name, os.F_OK)
    error = fails(2, lambda: os.stat(name), 2)
    assert str(error) == f"[WinError 2] The system cannot find the file specified: {name!r}"
    assert isinstance(error, FileNotFoundError)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.winerror) == (str(error), 2)


def test_the_root_is_a_folder_of_all_pipes(door: Any, name: str) -> None:
    names = {name, name + "-b", r"\\.\pipe\with\backslash"}
    listeners = [npipe.listen(one) for one in names]
    short = sorted(one.removeprefix("\\\\.\\pipe\\") for one in names)
    try:
        for root in ("\\\\.\\pipe\\", r"\\.\pipe", "//./pipe/", "\\\\?\\pipe\\", Path("//./pipe")):
            assert sorted(os.listdir(root)) == short
            assert stat.S_ISDIR(os.stat(root).st_mode)
            assert os.path.isdir(root)
        assert sorted(os.listdir(b"\\\\.\\pipe\\")) == [os.fsencode(one) for one in short]
        with os.scandir("\\\\.\\pipe\\") as found:
            entries = {entry.name: entry for entry in found}
        assert sorted(entries) == short
        entry = entries[short[0]]
        assert entry.path == os.fspath(entry) == "\\\\.\\pipe\\" + short[0]
        assert (entry.is_file(), entry.is_dir(), entry.is_symlink()) == (True, False, False)
        assert entry.stat().st_size == 1
        assert [sorted(found) for _, _, found in os.walk(r"\\.\pipe")] == [short]
        fails(20, lambda: os.listdir(name), 267)
        fails(2, lambda: os.listdir(name + "-c"), 3)
    finally:
        for listener in listeners:
            listener.close()


def test_glob_finds_pipes(door: Any, name: str) -> None:
    number = name.removeprefix("\\\\.\\pipe\\test-")
    with npipe.listen(name), npipe.listen(name + ".Other"), npipe.listen(r"\\.\pipe\.hidden-" + number):
        assert sorted(glob.glob(rf"\\.\pipe\test-{number}*")) == [name, name + ".Other"]
        assert glob.glob(rf"\\.\pipe\*{number}") == [name]
        assert glob.glob(rf"//./PIPE/TEST-{number}.o[s-u]*") == [f"//./PIPE/test-{number}.Other"]
        assert glob.glob(rf"\\?\pipe\test-{number}?Other") == [rf"\\?\pipe\test-{number}.Other"]
        assert glob.glob(os.fsencode(name)) == [os.fsencode(name)]
        assert glob.glob(name) == [name]
        assert glob.glob(name + "-c") == []
        assert glob.glob(rf"\\.\pipe\.hidden-{number}*") == [rf"\\.\pipe\.hidden-{number}"]
        assert len(glob.glob(r"\\.\pipe\*", include_hidden=True)) == 3
        assert len(list(glob.iglob(r"\\.\pipe\**", recursive=True))) == 2
        assert sorted(glob.glob("test-*", root_dir=r"\\.\pipe")) == [f"test-{number}", f"test-{number}.Other"]
        assert glob.glob(str(PROGRAMS.parent / "files/test_list*.py")) == [__file__]
        assert glob.glob("\\\\.\\pipe\\") == ["\\\\.\\pipe\\"]


def test_pathlib(door: Any, upper: str, tmp_path: Path) -> None:
    short = upper.removeprefix("\\\\.\\pipe\\")
    for path in (Path(upper), Path("//./pipe") / short, Path(r"\\.\pipe") / short, Path(rf"\\?\pipe\{short}")):
        assert path.exists()
        assert path.is_fifo()
        assert not path.is_file()
        assert not path.is_dir()
        assert stat.S_ISFIFO(path.stat().st_mode)
        with path.open("r+b", buffering=0) as pipe:
            pipe.write(b"x")
            assert pipe.read(1) == b"X"
    assert Path("//./pipe").is_dir()
    assert [path.name for path in Path("//./pipe").iterdir()] == [short]
    for root in (Path(r"\\.\pipe"), Path("//./pipe")):
        (found,) = root.glob("test-*")
        assert found.exists()
        assert found.name == short
    assert Path(upper).absolute().exists()
    assert str(Path(upper).resolve()) == upper
    assert not (tmp_path / "nothing").exists()


def test_paths_write_and_read_all(door: Any, peer: Peer) -> None:
    path = Path(peer.listener.name)
    path.write_bytes(b"all of it")
    server = peer.accept()
    assert server.read() == b"all of it"
    server.close()
    path.write_text("text\n")
    server = peer.accept()
    assert server.read() == b"text\r\n"
    server.close()
    reading = h.Background(path.read_bytes)
    server = peer.accept()
    server.write(b"to read")
    server.close()
    assert reading.result() == b"to read"


def test_a_pipes_name_is_absolute(door: Any, upper: str) -> None:
    assert os.path.abspath("//./pipe/x/../y") == r"\\.\pipe\y"
    assert os.path.realpath(upper) == upper
    assert os.path.abspath(os.fsencode(upper)) == os.fsencode(upper)
    assert os.path.abspath("//./pipe") == "\\\\.\\pipe\\"
    assert os.path.abspath("x") == f"{os.getcwd()}/x"
    assert os.path.exists(os.path.join("/some/folder", upper))
    assert os.path.isabs(upper)


def test_a_pipes_name_is_taken_apart_as_on_windows(door: Any) -> None:
    assert os.path.split(r"\\.\pipe\a.b") == ("\\\\.\\pipe\\", "a.b")
    assert os.path.basename("//./pipe/x") == "x"
    assert os.path.basename(rb"\\.\pipe\x") == b"x"
    assert os.path.dirname(r"\\?\pipe\x") == "\\\\?\\pipe\\"
    assert os.path.splitext(r"\\.\pipe\x") == (r"\\.\pipe\x", "")
    assert os.path.normpath("//./pipe/x") == r"\\.\pipe\x"
    assert os.path.split("/a\\b/c") == ("/a\\b", "c")
    assert os.path.exists(os.path.dirname(r"\\.\pipe\x"))


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda name: os.remove(name), 87),
        (lambda name: os.unlink(name), 87),
        (lambda name: os.rmdir(name), 267),
        (lambda name: os.mkdir(name), 267),
        (lambda name: os.chdir(name), 267),
        (lambda name: os.readlink(name), 87),
        (lambda name: os.mkfifo(name), 87),
        (lambda name: os.rename(name, "x"), 87),
        (lambda name: os.rename(__file__, name), 87),
        (lambda name: os.replace(src=name, dst="x"), 87),
        (lambda name: os.chmod(name, 0o600), 87),
        (lambda name: os.utime(name, None), 87),
        (lambda name: os.symlink(__file__, name), 87),
        (lambda name: os.truncate(name, 0), 87),
        (lambda name: Path(name).unlink(), 87),
    ],
)
def test_what_has_nothing_to_do_with_pipes_is_refused(
    door: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    with npipe.listen(name):
        with pytest.raises(OSError) as caught:
            call(name)
        assert caught.value.winerror == code  # type: ignore[attr-defined]
    with pytest.raises(OSError) as caught:
        call(name)
    assert caught.value.winerror in (2, 17)  # type: ignore[attr-defined]
    assert os.path.exists(__file__)
    assert set(os.listdir(tmp_path)) <= {"npipe-root"}
