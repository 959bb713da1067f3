"""The door of files: what it changes, and for how long."""

from __future__ import annotations

import asyncio
import builtins
import glob
import io
import os
import select
import threading
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.win32 import install
from tests import helpers as h
from tests.doors.files.helpers import Peer, changed, everything

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_of_the_standard_library_stays_changed() -> None:
    before = everything()
    supports = {name: set(getattr(os, name)) for name in ("supports_fd", "supports_dir_fd", "supports_follow_symlinks")}
    with install(pywin32=False, files=True):
        assert {("builtins", "open"), ("io", "open"), ("io", "FileIO"), ("os", "stat")} <= set(changed(before))
        assert os.stat in os.supports_fd
        assert os.open in os.supports_dir_fd
    assert changed(before) == []
    assert supports == {name: set(getattr(os, name)) for name in supports}


def test_scopes_that_end_out_of_order_undo_it_once() -> None:
    before = everything()
    first = install(pywin32=False, files=True)
    inside = everything()
    second = install(pywin32=False, files=True)
    assert changed(inside) == []
    first.uninstall()
    assert changed(inside) == []
    second.uninstall()
    assert changed(before) == []


def test_what_others_put_above_it_is_left_alone(upper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything()
    calls = []
    with monkeypatch.context() as patch:
        with install(pywin32=False, files=True):
            ours = os.stat

            def theirs(path: Any, **keywords: Any) -> Any:
                calls.append(path)
                return ours(path, **keywords)

            patch.setattr(os, "stat", theirs)
            assert os.path.exists(upper)
        assert os.stat is theirs
        assert not os.path.exists(upper)
        assert os.path.exists(__file__)
    assert os.path.exists(__file__)  # by the door's, which has been put back after its end
    with install(pywin32=False, files=True):
        assert os.path.exists(upper)
    assert changed(before) == []
    assert calls == [upper, upper, __file__]


def test_what_others_put_above_two_doors_may_end_in_any_order() -> None:
    before = everything()
    for first, second in ((0, 1), (1, 0)):
        doors = [install(pywin32=False, files=True), install(pywin32=False, children=True, asyncio=True, winapi=True)]
        import_, opens = builtins.__import__, builtins.open
        builtins.__import__ = lambda *given, ours=import_, **named: ours(*given, **named)
        builtins.open = len  # type: ignore[assignment]
        doors[first].uninstall()
        builtins.open = opens
        doors[second].uninstall()
        builtins.__import__ = import_
        install(pywin32=False, platform=True).uninstall()
        assert changed(before) == []


def test_a_door_that_opens_again_below_what_others_keep_has_all_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        with install(pywin32=False, asyncio=True):
            patch.setattr(asyncio, "ProactorEventLoop", None)
        with install(pywin32=False, asyncio=True), install(pywin32=False, files=True):
            assert asyncio.ProactorEventLoop is not None  # type: ignore[attr-defined]
        assert asyncio.ProactorEventLoop is None  # type: ignore[attr-defined]
    install(pywin32=False, files=True).uninstall()
    assert not hasattr(asyncio, "ProactorEventLoop")


def test_what_was_imported_meanwhile_does_outside_what_it_does_without_npipe(upper: str, tmp_path: Path) -> None:
    with install(pywin32=False, files=True):
        kept: Any = (open, os.open, os.stat, os.listdir, glob.iglob, io.FileIO, os.path.abspath)
    a_file = tmp_path / "file"
    with kept[0](a_file, "w") as file:
        file.write("a\n")
    assert a_file.read_bytes() == b"a\n"
    with kept[5](a_file) as raw:
        assert type(raw) is io.FileIO
    for function, arguments in zip(kept, [("rb",), (os.O_RDONLY,), ()], strict=False):
        with pytest.raises(FileNotFoundError):
            function(upper, *arguments)
    with pytest.raises(FileNotFoundError):
        kept[3](r"\\.\pipe")
    assert list(kept[4](r"\\.\pipe\*")) == []
    assert kept[6](upper) == f"{os.getcwd()}/{upper}"


def test_files_stay_open_when_the_scope_ends(peer: Peer) -> None:
    with install(pywin32=False, files=True):
        raw = open(peer.listener.name, "r+b", buffering=0)
        with_buffer = None
    server = peer.accept()
    assert raw.write(b"to the server") == 13
    assert server.read(100) == b"to the server"
    server.write(b"one\ntwo\n")
    with_buffer = io.BufferedReader(raw)
    assert with_buffer.readline() == b"one\n"
    assert select.select([raw], [], [], 0)[0] == []  # the buffer has the rest
    assert with_buffer.readline() == b"two\n"
    with_buffer.close()
    assert raw.closed
    with pytest.raises(npipe.PipeClosedError):
        server.read(1)


def test_threads_use_files_while_scopes_begin_and_end(upper: str, tmp_path: Path) -> None:
    stop = threading.Event()

    def use() -> int:
        rounds = 0
        while not stop.is_set() or not rounds:
            path = tmp_path / str(threading.get_ident())
            path.write_text("text")
            assert path.read_text() == "text"
            assert os.listdir(tmp_path)
            rounds += 1
        return rounds

    users = [h.Background(use) for _ in range(2)]
    for _ in range(50):
        with install(pywin32=False, files=True), open(upper, "r+b", 0) as pipe:
            pipe.write(b"a")
            assert pipe.read(1) == b"A"
    stop.set()
    assert all(user.result() for user in users)


def test_ordinary_files_are_the_originals_own(door: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with open(path, "w+b") as binary:
        assert type(binary) is io.BufferedRandom
    with open(path, "rb", buffering=0) as raw:
        assert type(raw).__mro__[1:] == io.RawIOBase.__mro__[:1] + type(raw).__mro__[2:] or raw.readable()
        assert isinstance(raw, io.FileIO)
        assert issubclass(type(raw), io.FileIO)
    with io.FileIO(path) as direct:
        assert type(direct) is type(raw)

    class Mine(io.FileIO):
        pass

    with Mine(path, "r+") as mine:
        mine.write(b"abc")
        mine.seek(0)
        assert mine.read() == b"abc"
        assert mine.seekable()
        assert mine.truncate(1) == 1
    assert path.read_bytes() == b"a"
    assert not isinstance(io.BytesIO(), io.FileIO)
    with pytest.raises(TypeError):
        io.FileIO()  # type: ignore[call-arg]


def test_what_stands_in_their_place_goes_by_their_names(door: Any) -> None:
    replaced: list[Any] = [open, os.remove, os.lstat, glob.iglob]
    for function in replaced:
        original = function.__self__
        for attribute in ("__name__", "__module__", "__doc__"):
            assert getattr(function, attribute) == getattr(original, attribute)
    assert io.open is open


def test_functions_in_a_class_are_no_methods_of_it(door: Any, tmp_path: Path) -> None:
    class Holder:
        opener: Any = open
        remove: Any = os.remove

    path = tmp_path / "file"
    Holder().opener(path, "w").close()
    Holder().remove(path)
    assert not path.exists()


@pytest.mark.parametrize(
    "path",
    [
        "/dev/null",
        b"/dev/null",
        "\\x",
        "//tmp",
        "//localhost/pipe/x",
        "a\\.\\pipe\\x",
        r"\\.\pip\x",
        r"\\.\COM1",
        r"\\host\share\x",
        "/pipe/x",
        "",
    ],
)
def test_paths_that_name_no_pipe_are_left_alone(door: Any, path: Any) -> None:
    from npipe._doors.files.paths import pipe_path

    assert pipe_path(path) is None
