"""The door of files: open, in every mode, with every buffer; its errors."""

from __future__ import annotations

import gc
import io
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests import helpers as h
from tests.doors.files.helpers import DEADLINE, Peer, fails

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("mode", ["r+b", "w+b", "a+b", "x+b"])
@pytest.mark.parametrize("buffering", [0, -1, 16])
def test_a_request_and_its_answer(door: Any, upper: str, mode: str, buffering: int) -> None:
    with open(upper, mode, buffering) as pipe:
        assert isinstance(pipe, io.FileIO if buffering == 0 else io.BufferedRandom)
        for number in range(3):
            text = f"request {number}".encode() * (number + 1)
            assert pipe.write(text) == len(text)
            pipe.flush()
            assert pipe.read(len(text)) == text.upper()


@pytest.mark.parametrize(
    "read",
    [
        lambda pipe: pipe.read(3),
        lambda pipe: pipe.read1(3),
        lambda pipe: pipe.readline(3),
        lambda pipe: pipe.peek(3)[:3],
        lambda pipe: (pipe.readinto(buffer := bytearray(3)), bytes(buffer))[1],
        lambda pipe: (pipe.readinto1(buffer := bytearray(3)), bytes(buffer))[1],
    ],
)
def test_what_was_written_goes_out_before_a_read(door: Any, upper: str, read: Callable[[Any], bytes]) -> None:
    with open(upper, "r+b") as pipe:
        pipe.write(b"abc")
        assert read(pipe) == b"ABC"
    with open(upper, "r+") as text:
        text.write("abc")
        assert text.read(3) == "ABC"


def test_with_a_buffer_too_one_thread_reads_while_another_writes(door: Any, peer: Peer) -> None:
    with open(peer.listener.name, "r+b") as pipe:
        server = peer.accept()
        reading = h.blocked(lambda: pipe.read(6))
        for word in (b"one", b"two"):
            pipe.write(word)
            pipe.flush()
            assert server.read(10) == word
        assert reading.running
        server.write(b"answer")
        assert reading.result() == b"answer"
        reading = h.blocked(lambda: pipe.read(1))
        pipe.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            reading.result()


def test_text_that_was_read_ahead_is_not_lost_by_a_write(door: Any, peer: Peer) -> None:
    with open(peer.listener.name, "r+", newline="\n") as text:
        server = peer.accept()
        server.write(b"one\ntwo\nthree\n")
        assert text.readline() == "one\n"
        text.write("1\n")
        text.flush()
        assert server.read(10) == b"1\n"
        assert next(text) == "two\n"
        assert text.seekable()
        assert text.seek(0) == 0
        assert text.tell() == 0
        assert next(text) == "three\n"


def test_the_position_of_a_buffer_counts_what_went_through(door: Any, peer: Peer) -> None:
    pipe = open(peer.listener.name, "w+b")
    server = peer.accept()
    server.write(b"abcdef")
    assert pipe.tell() == 0
    assert pipe.read(2) == b"ab"
    assert pipe.tell() == 2
    assert pipe.write(b"xyz") == 3
    assert pipe.tell() == 5
    assert pipe.seek(-1, os.SEEK_CUR) == 4
    assert server.read(10) == b"xyz"
    assert pipe.seek(0) == pipe.tell() == 0
    assert pipe.read(2) == b"cd"
    assert pipe.truncate(0) == 0
    fails(22, lambda: pipe.seek(-1))
    pipe.writelines([b"1", b"2"])
    raw = pipe.detach()
    assert server.read(10) == b"12"
    assert raw.write(b"raw") == 3
    assert server.read(10) == b"raw"
    raw.close()


def test_a_buffer_of_the_programs_own_loses_nothing_either(door: Any, peer: Peer) -> None:
    with io.BufferedRandom(io.FileIO(peer.listener.name, "r+")) as pipe:
        server = peer.accept()
        server.write(b"one two")
        assert pipe.read(3) == b"one"
        pipe.write(b"1")
        pipe.flush()
        assert server.read(10) == b"1"
        assert pipe.read(4) == b" two"


def test_what_was_read_ahead_is_not_lost_by_a_write(door: Any, peer: Peer) -> None:
    with open(peer.listener.name, "r+b") as pipe:
        server = peer.accept()
        server.write(b"one two three")
        assert pipe.read(3) == b"one"
        pipe.write(b"1")
        pipe.flush()
        assert server.read(10) == b"1"
        assert pipe.read(4) == b" two"
        pipe.write(b"2")
        pipe.flush()
        assert server.read(10) == b"2"
        assert pipe.read(6) == b" three"


@pytest.mark.parametrize(
    ("mode", "access", "kind"),
    [("rb", "outbound", io.BufferedReader), ("wb", "inbound", io.BufferedWriter), ("ab", "inbound", io.BufferedWriter)],
)
def test_one_way_pipes(door: Any, name: str, mode: str, access: str, kind: Any) -> None:
    peer = Peer(name, access)
    try:
        fails(13, lambda: open(name, "r+b"))
        with open(name, mode) as opened:
            pipe: Any = opened
            server = peer.accept()
            assert isinstance(pipe, kind)
            assert pipe.raw.mode == mode
            if mode == "rb":
                server.write(b"data")
                assert pipe.read(4) == b"data"
                with pytest.raises(io.UnsupportedOperation):
                    pipe.raw.write(b"x")
            else:
                pipe.write(b"data")
                pipe.flush()
                assert server.read(10) == b"data"
                with pytest.raises(io.UnsupportedOperation):
                    pipe.raw.read(1)
    finally:
        peer.close()


def test_attributes_are_a_files(door: Any, upper: str) -> None:
    pipe = open(upper, "w+b", buffering=0)
    assert (pipe.name, pipe.mode, pipe.closed, pipe.closefd) == (upper, "rb+", False, True)
    assert (pipe.readable(), pipe.writable(), pipe.seekable(), pipe.isatty()) == (True, True, True, False)
    assert repr(pipe) == f"<_io.FileIO name={upper!r} mode='rb+' closefd=True>"
    assert isinstance(pipe, io.FileIO)
    assert isinstance(pipe, io.RawIOBase)
    with pytest.raises(TypeError):
        pickle.dumps(pipe)
    pipe.close()
    pipe.close()
    assert pipe.closed
    for call in (lambda: pipe.read(1), lambda: pipe.write(b"x"), pipe.fileno, pipe.seekable, pipe.tell, pipe.isatty):
        with pytest.raises(ValueError, match="closed file"):
            call()


@pytest.mark.parametrize("mode", ["r+b", "rb", "wb", "r+", "r", "w"])
def test_types_go_by_their_names(door: Any, upper: str, tmp_path: Path, mode: str) -> None:
    (tmp_path / "file").touch()
    with open(upper, mode) as pipe, open(tmp_path / "file", mode) as file:
        below = "raw" if "b" in mode else "buffer"
        for one, other in ((pipe, file), (getattr(pipe, below), getattr(file, below))):
            assert (type(one).__module__, type(one).__qualname__) == (type(other).__module__, type(other).__qualname__)
            assert repr(one)[:15] == repr(other)[:15]


def test_seeking_has_no_effect_but_on_the_number(door: Any, peer: Peer) -> None:
    with open(peer.listener.name, "r+b", buffering=0) as pipe:
        server = peer.accept()
        assert pipe.tell() == 0
        server.write(b"abcdef")
        assert pipe.read(2) == b"ab"
        assert pipe.seek(0) == 0
        assert pipe.read(2) == b"cd"
        assert pipe.seek(100) == 100
        assert pipe.read(2) == b"ef"
        assert pipe.tell() == 102
        pipe.seek(0)
        fails(22, lambda: pipe.seek(-5))
        fails(22, lambda: pipe.seek(0, 9))
        assert pipe.truncate(0) == 0
        fails(22, lambda: pipe.truncate(10))


def test_a_raw_read_returns_what_is_there_and_nothing_at_the_end(door: Any, peer: Peer) -> None:
    with open(peer.listener.name, "r+b", buffering=0) as pipe:
        server = peer.accept()
        server.write(b"what is there")
        assert pipe.read(1000) == b"what is there"
        server.write(b"12345")
        buffer = bytearray(3)
        assert pipe.readinto(buffer) == 3
        assert buffer == b"123"
        assert pipe.read(0) == b""
        server.write(b"6")
        server.close()
        assert pipe.readall() == b"456"
        assert pipe.read(10) == b""
        assert pipe.read() == b""
        assert pipe.readinto(buffer) == 0


def test_read_to_the_end_and_lines(door: Any, peer: Peer) -> None:
    with open(peer.listener.name) as text:
        server = peer.accept()
        server.write("eins\nzwei\r\ndrei\rvier ü".encode())
        server.close()
        assert text.readline() == "eins\n"
        assert list(text) == ["zwei\n", "drei\n", "vier ü"]
        assert text.read() == ""


@pytest.mark.parametrize(
    ("newline", "sent"),
    [
        (None, b"one\r\ntwo\r\n\r\n"),
        ("", b"one\ntwo\n\r\n"),
        ("\n", b"one\ntwo\n\r\n"),
        ("\r\n", b"one\r\ntwo\r\n\r\r\n"),
    ],
)
def test_text_ends_its_lines_as_on_windows(door: Any, peer: Peer, newline: str | None, sent: bytes) -> None:
    with open(peer.listener.name, "w", newline=newline) as text:
        server = peer.accept()
        assert text.write("one\n") == 4
        text.writelines(["two\n"])
        text.write("\r\n" if newline is not None else "\n")
        text.flush()
        assert server.read(100) == sent
        assert text.mode == "w"


def test_text_that_is_reconfigured_ends_its_lines_as_told(door: Any, peer: Peer) -> None:
    with open(peer.listener.name, "w", 1, encoding="ascii", errors="replace") as text:
        server = peer.accept()
        print("ü", file=text)
        assert server.read(100) == b"?\r\n"
        text.reconfigure(newline="\n")
        print("x", file=text)
        assert server.read(100) == b"x\n"
        assert text.line_buffering
        assert (text.encoding, text.errors) == ("ascii", "replace")


def test_text_both_ways(door: Any, upper: str) -> None:
    for buffering in (-1, 1):
        with open(upper, "r+", buffering, encoding="utf-16-le") as text:
            for word in ("one", "two"):
                text.write(f"{word}\n")
                text.flush()
                assert text.readline() == f"{word}\n".upper()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("rw",), ValueError, "exactly one"),
        (("q",), ValueError, "invalid mode"),
        (("rr",), ValueError, "invalid mode"),
        (("rbt",), ValueError, "text and binary"),
        (("r", 0), ValueError, "unbuffered text"),
        (("rb", -1, "utf-8"), ValueError, "encoding"),
        (("rb", -1, None, "strict"), ValueError, "errors"),
        (("rb", -1, None, None, "\n"), ValueError, "newline"),
        (("r", -1, None, None, "x"), ValueError, "newline"),
        (("r", -1, None, None, None, False), ValueError, "closefd"),
        (("r", -1, "no-such-code"), LookupError, "no-such-code"),
        ((None,), TypeError, "'mode' must be str, not None"),
        (("r", -1, 5), TypeError, "'encoding' must be str or None, not int"),
        (("r", -1, None, b"strict"), TypeError, "'errors' must be str or None, not bytes"),
        (("r", -1, None, None, 5), TypeError, "'newline' must be str or None, not int"),
        (("rb", "1"), TypeError, "integer"),
    ],
)
def test_wrong_arguments_are_refused_as_open_does(
    door: Any, upper: str, tmp_path: Path, arguments: Any, error: type[Exception], text: str
) -> None:
    before = h.descriptors()
    with pytest.raises(error, match=text):
        open(upper, *arguments)
    (tmp_path / "file").touch()
    if "closefd" not in text:
        with pytest.raises(error):
            open(tmp_path / "file", *arguments)
    gc.collect()
    h.until(lambda: h.descriptors() <= before)


def test_line_buffering_of_bytes_is_warned_of(door: Any, upper: str) -> None:
    with pytest.warns(RuntimeWarning, match="line buffering") as caught:
        open(upper, "rb", 1).close()
    assert caught[0].filename == __file__


def test_messages_are_read_as_bytes(door: Any, name: str) -> None:
    peer = Peer(name, mode="message")
    try:
        with open(name, "r+b", buffering=0) as pipe:
            server = peer.accept()
            server.send(b"a long message")
            server.send(b"another")
            assert pipe.read(6) == b"a long"
            assert pipe.read(100) == b" messageanother"
            pipe.write(b"one")
            pipe.write(b"")
            pipe.write(b"two")
            assert [server.recv(timeout=DEADLINE), server.recv(timeout=DEADLINE)] == [b"one", b"two"]
            with open(name, "wb") as buffered:
                second = peer.listener.accept(DEADLINE)
                buffered.write(b"in ")
                buffered.write(b"one message")
                buffered.flush()
                assert second.recv(timeout=DEADLINE) == b"in one message"
                second.close()
    finally:
        peer.close()


def read_exactly(pipe: npipe.StreamPipe, size: int) -> bytes:
    """The next `size` bytes: of a byte pipe a read may bring the end of one write and the whole of the next."""
    received = bytearray()
    while len(received) < size:
        piece = pipe.read(min(100_000, size - len(received)))
        assert piece, f"the end came after {len(received)} bytes"
        received += piece
    return bytes(received)


def test_much_data_both_ways(door: Any, peer: Peer) -> None:
    data = os.urandom(1 << 22)
    with open(peer.listener.name, "r+b") as pipe:
        server = peer.accept()
        writing = h.Background(lambda: (server.write(data), server.flush()))
        assert pipe.read(len(data)) == data
        writing.result()
        reading = h.Background(lambda: read_exactly(server, len(data) + len(b"end")))
        pipe.write(data)
        pipe.flush()
        pipe.write(b"end")
        pipe.flush()
        assert reading.result() == data + b"end"


# ---- Errors


def test_a_busy_pipe_is_an_invalid_argument(door: Any, name: str) -> None:
    with npipe.listen(name, max_instances=1, mode="byte") as listener, open(name, "r+b", 0):
        server = listener.accept(DEADLINE)
        error = fails(22, lambda: open(name, "r+b"))
        assert str(error) == f"[Errno 22] Invalid argument: {name!r}"
        assert error.__cause__ is not None
        assert error.__cause__.winerror == 231  # type: ignore[attr-defined]
        fails(22, lambda: os.open(name, os.O_RDWR))
        assert os.path.exists(name)
        server.close()


def test_a_write_to_who_has_gone_is_an_invalid_argument(door: Any, peer: Peer) -> None:
    pipe = open(peer.listener.name, "r+b", buffering=0)
    peer.accept().close()
    fails(22, lambda: pipe.write(b"x"))
    assert pipe.read(1) == b""
    pipe.close()
    with_buffer = open(peer.listener.name, "wb")
    peer.accept().close()
    with_buffer.write(b"x")
    fails(22, with_buffer.close)
    assert with_buffer.closed


def test_a_disconnected_pipe_is_an_invalid_argument(door: Any, peer: Peer) -> None:
    with open(peer.listener.name, "r+b", buffering=0) as pipe:
        peer.accept().abort()
        fails(22, lambda: pipe.read(1))
        fails(22, lambda: pipe.write(b"x"))


def test_a_close_ends_what_other_threads_wait_for(door: Any, peer: Peer) -> None:
    for mode, buffering in (("r+b", 0), ("r+b", -1), ("rb", 0), ("rb", -1), ("r+", -1), ("r", -1)):
        pipe = open(peer.listener.name, mode, buffering)
        server = peer.accept()
        reading = h.blocked_in(pipe.read, 1)
        h.Background(pipe.close).result()
        with pytest.raises(OSError, match="Bad file descriptor"):
            reading.result()
        assert pipe.closed
        server.close()


def test_one_thread_reads_while_another_writes(door: Any, peer: Peer) -> None:
    with open(peer.listener.name, "r+b", buffering=0) as pipe:
        server = peer.accept()
        reading = h.blocked(lambda: pipe.read(10))
        pipe.write(b"question")
        assert server.read(10) == b"question"
        assert reading.running
        server.write(b"answer")
        assert reading.result() == b"answer"


def test_a_file_that_is_dropped_is_closed_with_a_warning(door: Any, peer: Peer) -> None:
    for mode in ("r+b 0", "r+b", "rb 0", "rb", "wb", "r+", "r", "w"):
        pipe = open(peer.listener.name, mode.removesuffix(" 0"), 0 if " 0" in mode else -1)
        server = peer.accept()
        text = repr(pipe)
        with pytest.warns(ResourceWarning) as caught:
            del pipe
        assert [str(one.message) for one in caught] == [f"unclosed file {text}"]
        with pytest.raises(npipe.PipeClosedError):
            server.read(1)
        server.close()


def test_no_descriptor_is_left(door: Any, peer: Peer) -> None:
    before = 0
    for _ in range(20):
        with open(peer.listener.name, "r+b") as pipe, peer.accept() as server:
            pipe.write(b"x")
            pipe.flush()
            assert server.read(1) == b"x"
            pipe.fileno()
        fd = os.open(peer.listener.name, os.O_RDWR)
        with peer.accept():
            os.close(fd)
        before = before or h.descriptors()  # with what the process has from the first pipe on
    h.until(lambda: h.descriptors() <= before)
