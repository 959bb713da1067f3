"""The door of files: os.open, os.read and their like; selectors and event loops."""

from __future__ import annotations

import asyncio
import io
import os
import select
import selectors
import stat
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe._doors import files
from npipe.win32 import install, win32api, win32file, win32pipe
from tests import helpers as h
from tests.doors.files.helpers import DEADLINE, Peer, fails

if TYPE_CHECKING:
    from pathlib import Path


def test_descriptors_read_and_write(door: Any, peer: Peer) -> None:
    fd = os.open(peer.listener.name, os.O_RDWR | os.O_BINARY | os.O_NOINHERIT)  # type: ignore[attr-defined]
    server = peer.accept()
    assert os.write(fd, b"question") == 8
    assert os.write(fd, b"") == 0
    assert server.read(100) == b"question"
    server.write(b"answer")
    assert os.read(fd, 4) == b"answ"
    assert os.read(fd, 100) == b"er"
    assert stat.S_ISFIFO(os.fstat(fd).st_mode)
    assert stat.S_ISFIFO(os.stat(fd).st_mode)
    assert os.fstat(fd).st_size == 0
    assert not os.isatty(fd)
    assert os.lseek(fd, 0, os.SEEK_SET) == 0
    with pytest.raises(TypeError, match="bytes-like"):
        os.write(fd, "text")  # type: ignore[arg-type]
    fails(22, lambda: os.ftruncate(fd, 10))
    server.close()
    assert os.read(fd, 1) == b""
    fails(22, lambda: os.write(fd, b"x"))
    os.close(fd)
    for call in (lambda: os.read(fd, 1), lambda: os.close(fd), lambda: os.fstat(fd)):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()


def test_a_descriptor_of_one_way(door: Any, peer: Peer) -> None:
    fd = os.open(peer.listener.name, os.O_WRONLY)
    server = peer.accept()
    fails(9, lambda: os.read(fd, 1))
    os.write(fd, b"x")
    assert server.read(9) == b"x"
    os.close(fd)
    server.close()
    fd = os.open(peer.listener.name, os.O_RDONLY)
    server = peer.accept()
    fails(9, lambda: os.write(fd, b"x"))
    fails(9, lambda: os.fsync(fd))
    os.close(fd)


def test_a_descriptor_becomes_a_file(door: Any, upper: str) -> None:
    for make in (os.fdopen, open, io.open):
        with make(os.open(upper, os.O_RDWR), "r+b") as pipe:
            assert isinstance(pipe, io.BufferedRandom)
            pipe.write(b"one")
            pipe.flush()
            assert pipe.read(3) == b"ONE"
            assert pipe.name == pipe.fileno()
    fd = os.open(upper, os.O_RDWR)
    with os.fdopen(fd, "r+b", 0, closefd=False) as raw:
        assert not raw.closefd
    os.write(fd, b"still")
    assert os.read(fd, 9) == b"STILL"
    os.close(fd)


def test_an_opener_may_open_a_pipe(door: Any, upper: str, tmp_path: Path) -> None:
    asked = []

    def opener(path: Any, flags: int) -> int:
        asked.append((path, flags & os.O_ACCMODE))
        return os.open(path, flags)

    with open(upper, "r+", opener=opener) as text:
        assert text.name == upper
        text.write("x")
        text.flush()
        assert text.read(1) == "X"
    with open(tmp_path / "file", "w", opener=opener) as text:
        assert type(text) is io.TextIOWrapper
    with io.FileIO(upper, "r+", opener=opener) as raw:
        raw.write(b"y")
        assert raw.read(1) == b"Y"
        assert raw.name == upper
    assert asked == [(upper, os.O_RDWR), (str(tmp_path / "file"), os.O_WRONLY), (upper, os.O_RDWR)]


def test_a_files_descriptor_is_the_same_pipe(door: Any, upper: str) -> None:
    with open(upper, "r+b") as pipe:
        fd = pipe.fileno()
        assert fd == pipe.fileno()
        os.write(fd, b"by number")
        assert pipe.read(9) == b"BY NUMBER"
        os.close(fd)
        fails(9, lambda: pipe.raw.write(b"x"))
        fails(9, pipe.close)


def test_a_duplicate_is_the_same_pipe(door: Any, peer: Peer) -> None:
    fd = os.open(peer.listener.name, os.O_RDWR)
    server = peer.accept()
    second = os.dup(fd)
    assert second != fd
    os.close(fd)
    os.write(second, b"x")
    assert server.read(9) == b"x"
    spare = os.open("/dev/null", os.O_RDONLY)
    assert os.dup2(second, spare) == spare
    os.close(second)
    server.write(b"y")
    assert select.select([spare], [], [], DEADLINE)[0] == [spare]
    assert os.read(spare, 9) == b"y"
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, spare)
    assert os.read(spare, 9) == b""
    with pytest.raises(npipe.PipeClosedError):
        server.read(1)
    os.close(null)
    os.close(spare)


def test_a_pipe_cannot_be_a_standard_stream(door: Any, upper: str) -> None:
    fd = os.open(upper, os.O_RDWR)
    with pytest.raises(OSError, match="not supported") as caught:
        os.dup2(fd, 1)
    assert "sys.stdout" in caught.value.__notes__[0]
    os.close(fd)


def test_a_number_that_was_closed_behind_the_doors_back_is_anothers(door: Any, peer: Peer, tmp_path: Path) -> None:
    fd = os.open(peer.listener.name, os.O_RDWR)
    server = peer.accept()
    import posix

    posix.close(fd)
    posix.dup2(posix.open(str(tmp_path), os.O_RDONLY), fd)
    assert stat.S_ISDIR(os.fstat(fd).st_mode)
    with pytest.raises(npipe.PipeClosedError):
        server.read(1)
    os.close(fd)


def test_ranges_are_closed(door: Any, peer: Peer) -> None:
    fd = os.open(peer.listener.name, os.O_RDWR)
    server = peer.accept()
    os.closerange(fd, fd + 1)
    with pytest.raises(npipe.PipeClosedError):
        server.read(1)
    fails_as_closed = pytest.raises(OSError, match="Bad file")
    with fails_as_closed:
        os.read(fd, 1)


def test_fsync_waits_for_the_reader(door: Any, peer: Peer) -> None:
    with open(peer.listener.name, "wb", buffering=0) as pipe:
        server = peer.accept()
        pipe.write(b"unread")
        flushing = h.blocked(lambda: os.fsync(pipe.fileno()))
        assert server.read(10) == b"unread"
        flushing.result()


def test_descriptors_that_do_not_block(door: Any, peer: Peer) -> None:
    for mode in (os.O_RDWR, os.O_RDONLY):
        fd = os.open(peer.listener.name, mode)
        server = peer.accept()
        assert os.get_blocking(fd)
        os.set_blocking(fd, False)
        assert not os.get_blocking(fd)
        with pytest.raises(BlockingIOError):
            os.read(fd, 1)
        server.write(b"there")
        assert os.read(fd, 9) == b"there"
        with os.fdopen(fd, "rb", 0, closefd=False) as raw:
            assert raw.read(1) is None
            assert raw.readall() is None
            assert raw.readinto(bytearray(1)) is None
        os.set_blocking(fd, True)
        reading = h.blocked(lambda fd=fd: os.read(fd, 1))  # type: ignore[misc]
        server.write(b"x")
        assert reading.result() == b"x"
        os.close(fd)
        server.close()


def test_a_write_that_does_not_block_says_how_much_it_wrote(door: Any, name: str) -> None:
    peer = Peer(name, in_buffer_size=1000)
    try:
        with open(name, "r+b", 0) as pipe:
            server = peer.accept()
            os.set_blocking(pipe.fileno(), False)
            written = 0
            while (count := pipe.write(bytes(600))) is not None:
                written += count
            assert 0 < written <= 1000
            with pytest.raises(BlockingIOError):
                os.write(pipe.fileno(), bytes(2000))
            assert len(server.read(5000)) == written
    finally:
        peer.close()


# ---- Selectors


def test_a_descriptor_is_readable_when_a_read_would_not_wait(peer: Peer) -> None:
    with install(pywin32=False, files=True):
        pipe = open(peer.listener.name, "r+b", buffering=0)
    server = peer.accept()
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    assert poll.poll(0) == []
    waiting = h.Background(lambda: poll.poll(DEADLINE * 1000))
    server.write(b"first")
    assert waiting.result() == [(pipe.fileno(), select.POLLIN)]
    assert pipe.read(2) == b"fi"
    assert poll.poll(0) == [(pipe.fileno(), select.POLLIN)]
    assert pipe.read(100) == b"rst"
    assert poll.poll(0) == []
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        server.close()
        assert [key.fileobj for key, _ in selector.select(DEADLINE)] == [pipe]
    assert pipe.read(1) == b""
    pipe.close()


def test_a_selector_is_told_of_what_pywin32_has_read(door: Any, peer: Peer) -> None:
    fd = os.open(peer.listener.name, os.O_RDWR)
    server = peer.accept()
    handle = files.get_osfhandle(fd)
    assert handle is not None
    server.write(b"data")
    assert select.select([fd], [], [], DEADLINE)[0] == [fd]
    assert win32pipe.PeekNamedPipe(handle, 2)[:2] == (b"da", 4)
    assert win32file.ReadFile(handle, 100) == (0, b"data")
    assert select.select([fd], [], [], 0)[0] == []
    os.close(fd)


def test_a_handle_becomes_a_descriptor(door: Any, name: str) -> None:
    handle = win32pipe.CreateNamedPipe(name, 3, 0, 1, 4096, 4096, 0, None)
    fd = files.open_osfhandle(handle.Detach(), os.O_RDWR)
    assert files.get_osfhandle(fd) is not None
    client = h.Background(lambda: open(name, "r+b", buffering=0))
    pipe = client.result()
    with os.fdopen(fd, "r+b", buffering=0) as server:
        pipe.write(b"to the server")
        assert select.select([server], [], [], DEADLINE)[0] == [server]
        assert server.read(100) == b"to the server"
        server.write(b"to the client")
        assert pipe.read(100) == b"to the client"
    assert pipe.read(1) == b""
    pipe.close()
    assert files.get_osfhandle(0) is None
    fails(9, lambda: files.open_osfhandle(12345, 0))
    assert win32api.GetLastError() >= 0


def test_an_event_loop_reads_and_writes_it(door: Any, upper: str) -> None:
    async def talk() -> bytes:
        loop = asyncio.get_running_loop()
        pipe = open(upper, "r+b", buffering=0)
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        os.write(pipe.fileno(), b"one\ntwo\n")
        lines = await reader.readline() + await reader.readline()
        transport.close()
        return lines

    async def watch() -> bytes:
        loop = asyncio.get_running_loop()
        with open(upper, "r+b", buffering=0) as pipe:
            told: asyncio.Future[None] = loop.create_future()
            loop.add_reader(pipe, told.set_result, None)
            pipe.write(b"watched")
            await asyncio.wait_for(told, DEADLINE)
            loop.remove_reader(pipe)
            return pipe.read(100)

    assert asyncio.run(talk()) == b"ONE\nTWO\n"
    assert asyncio.run(watch()) == b"WATCHED"
