"""Messages in place between processes: forks, signals, and deaths while one is out."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests import helpers as h
from tests.helpers import DEADLINE, fails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child, Ends


class StopError(Exception):
    pass


def in_child(run: Callable[[], None]) -> int:
    """Runs it in a forked child; its exit status, 0 if nothing was raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            run()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ---- Forks


@pytest.mark.parametrize("size", [5, 4097, 60_000, 200_000])
def test_a_forked_child_keeps_what_is_viewed_and_ends_nothing(ends: Callable[..., Ends], size: int) -> None:
    pair = ends()
    data = os.urandom(size)
    sender = threading.Thread(target=pair.client.send, args=(data,))
    sender.start()
    viewed = pair.server.recv_view()
    begun, over = os.pipe(), os.pipe()
    with viewed as view:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert bytes(view) == data
                viewed.__exit__(None, None, None)
                with contextlib.suppress(ValueError):
                    bytes(view)
                os.write(begun[1], b"x")
                os.read(over[0], 1)
                with fails(6):
                    pair.server.recv()
                status = 0
            finally:
                os._exit(status)
        os.read(begun[0], 1)
        assert bytes(view) == data
    sender.join(DEADLINE)
    pair.client.send(b"next")
    assert pair.server.recv() == b"next"
    os.write(over[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for end in (*begun, *over):
        os.close(end)


def test_a_forked_child_goes_on_looking_while_the_parent_reads(ends: Callable[..., Ends]) -> None:
    pair = ends()
    data = os.urandom(50_000)
    pair.client.send(data)
    go = os.pipe()
    with pair.server.recv_view() as view:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.read(go[0], 1)
                assert bytes(view) == data  # of its own, whatever the parent's ring has now
                status = 0
            finally:
                os._exit(status)
    for _ in range(12):
        pair.client.send(b"\xff" * 60_000)
        assert pair.server.recv() == b"\xff" * 60_000
    os.write(go[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for end in go:
        os.close(end)


@pytest.mark.parametrize("size", [5, 60_000, 200_000])
def test_a_forked_child_writes_nothing_into_a_reservation(ends: Callable[..., Ends], size: int) -> None:
    pair = ends()
    reservation = pair.client.reserve(size)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pair.server.recv()))
    with reservation as view:
        view[:] = b"p" * size

        def child() -> None:
            view[:] = b"c" * size
            with fails(6):
                reservation.__exit__(None, None, None)

        assert in_child(child) == 0
        assert bytes(view) == b"p" * size
        reader.start()
    reader.join(DEADLINE)
    assert got == [b"p" * size]


def test_a_forked_child_has_pipes_with_views_of_its_own(ends: Callable[..., Ends], name: str) -> None:
    pair = ends()
    pair.client.send(b"parent's")

    def child() -> None:
        with npipe.listen(f"{name}-child") as listener, npipe.connect(listener.name) as client:
            with listener.accept(DEADLINE) as server:
                with client.reserve(5) as mine:
                    mine[:] = b"child"
                with server.recv_view() as mine:
                    assert bytes(mine) == b"child"

    with pair.server.recv_view() as view, pair.client.reserve(1):
        assert in_child(child) == 0
        assert bytes(view) == b"parent's"


# ---- Signals


@contextlib.contextmanager
def raising(after: float) -> Iterator[None]:
    """A signal's handler raises StopError, in so many seconds."""

    def handler(*_: object) -> None:
        raise StopError

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        with pytest.raises(StopError):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_that_raises_while_one_waits(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=1000)
    for copied in (False, True):
        with raising(0.05), pair.server.recv_view(copy=copied):
            pass
    pair.client.send(bytes(1000))
    with raising(0.05), pair.client.reserve(5):
        pass
    with raising(0.05), pair.client.reserve(5000):  # which waits at its end
        pass
    assert pair.server.recv() == bytes(1000)
    assert pair.server.peek().available == 0
    with pair.client.reserve(1000, timeout=0) as view:
        view[:] = b"x" * 1000
    with pair.server.recv_view(timeout=0) as view:
        assert bytes(view) == b"x" * 1000


def test_a_handler_that_raises_in_the_block(ends: Callable[..., Ends]) -> None:
    pair = ends()
    with raising(0.02), pair.client.reserve(5) as view:
        view[:] = b"hello"
        time.sleep(DEADLINE)
    pair.client.send(b"message")
    with raising(0.02), pair.server.recv_view():
        time.sleep(DEADLINE)
    with pytest.raises(KeyboardInterrupt), pair.server.recv_view():
        signal.raise_signal(signal.SIGINT)
    assert pair.server.recv() == b"message"
    with fails(121):
        pair.server.recv(timeout=0)


# ---- Deaths

CLIENT = """
    import os, signal, sys, npipe

    pipe = npipe.connect(sys.argv[1])
    pipe.send(b"before")
    size = int(sys.argv[2])
    with pipe.reserve(size) as view:
        view[:] = b"x" * size
        print("out", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("size", [5, 60_000, 200_000])
def test_a_writer_that_is_killed_with_a_reservation_out_has_sent_nothing_of_it(
    name: str, child: Callable[..., Child], size: int
) -> None:
    with npipe.listen(name) as listener:
        killed = child(CLIENT, name, str(size))
        with listener.accept(20) as server:
            assert killed.line() == "out"
            assert server.recv(timeout=DEADLINE) == b"before"
            with fails(109):
                server.recv(timeout=DEADLINE)
            with fails(109), server.recv_view(timeout=DEADLINE):
                pass


READER = """
    import os, signal, sys, npipe

    pipe = npipe.connect(sys.argv[1])
    with pipe.recv_view() as view:
        print(len(view), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("size", [5, 60_000, 200_000])
def test_a_reader_that_is_killed_with_a_view_out_ends_its_writers_waits(
    name: str, child: Callable[..., Child], size: int
) -> None:
    with npipe.listen(name) as listener:
        killed = child(READER, name)
        with listener.accept(20) as server:
            server.send(bytes(size), timeout=20)
            assert killed.line() == str(size)
            with pytest.raises(npipe.PipeClosedError) as caught:
                for _ in range(10_000):
                    with server.reserve(60_000, timeout=DEADLINE) as view:
                        view[:5] = b"hello"
            assert caught.value.winerror in (109, 232)


SENDER = """
    import os, signal, sys, npipe

    pipe = npipe.connect(sys.argv[1])
    with pipe.reserve(50_000) as view:
        view[:] = bytes(range(250)) * 200
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_viewed_stays_there_when_its_writer_dies(name: str, child: Callable[..., Child]) -> None:
    with npipe.listen(name) as listener:
        killed = child(SENDER, name)
        with listener.accept(20) as server:
            with server.recv_view(timeout=20) as view:
                killed.say("go")
                killed.process.wait(20)
                with fails(232):
                    while True:
                        server.send(b"x", timeout=DEADLINE)
                assert bytes(view) == bytes(range(250)) * 200
            with fails(109):
                server.recv()


# ---- The end of the interpreter

AT_EXIT = """
    import sys, npipe

    listener = npipe.listen(sys.argv[1])
    client = npipe.connect(sys.argv[1])
    server = listener.accept()
    client.send(b"message" * 1000)
    viewed, reservation = server.recv_view(), client.reserve(5000)
    view, room = viewed.__enter__(), reservation.__enter__()

    class Late:
        def __del__(self, kept=(view, room)):
            assert bytes(kept[0]) == b"message" * 1000
            kept[1][:] = bytes(5000)
            print("looked", flush=True)

    late = Late()
    if sys.argv[2] == "closed":
        server.close()
        client.close()
    sys.modules["late"] = late
"""


@pytest.mark.parametrize("how", ["open", "closed"])
def test_views_at_the_end_of_the_interpreter(name: str, child: Callable[..., Child], how: str) -> None:
    process: Any = child(AT_EXIT, name, how).process
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert output.strip() == "looked"


def said_in_child(look: Callable[[], bytes]) -> bytes:
    """What `look` returns in a forked child, which comes to a good end."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(writes, look())
            status = 0
        finally:
            os._exit(status)
    os.close(writes)
    with os.fdopen(reads, "rb") as stream:
        said = stream.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


def test_a_forked_child_sees_what_has_outlived_its_block(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.server.send(b"message")
    kept = []
    with pytest.raises(npipe.PipeViewError), pair.client.recv_view(timeout=DEADLINE) as view:
        kept.append(view[:])
    pair.server.send(b"another")
    assert pair.client.recv(timeout=DEADLINE) == b"another"
    assert said_in_child(lambda: bytes(kept[0])) == b"message"
    pair.client.close()
    assert said_in_child(lambda: bytes(kept[0])) == b"message"
    assert bytes(kept[0]) == b"message"


def segments() -> int:
    return sum("memfd:npipe-link" in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_a_forked_child_has_nothing_of_the_segment_when_its_view_is_gone(ends: Callable[..., Ends]) -> None:
    def drop() -> bytes:
        return b"%d" % segments()

    others = said_in_child(drop)  # channels that tests before this one have left: a child has these
    pair = ends()
    pair.server.send(b"message")
    before = segments()
    with pair.client.recv_view(timeout=DEADLINE) as view:
        views = [view]

        def look() -> bytes:
            there = bytes(views[0])
            views[0].release()
            return there + b" %d" % segments()

        said, left = said_in_child(look).split(b" ")
        assert said == b"message"
        assert int(left) <= before
    views.clear()
    del view
    assert said_in_child(drop) == others
    pair.server.send(b"still there")
    assert pair.client.recv(timeout=DEADLINE) == b"still there"


def test_what_waits_for_its_place_is_not_written_into_what_another_one_keeps(ends: Callable[..., Ends]) -> None:
    pair = ends()
    kept = []

    def second() -> None:
        with pair.client.reserve(1000, timeout=DEADLINE) as view:
            view[:] = b"B" * 1000

    with pytest.raises(npipe.PipeViewError), pair.client.reserve(1000) as view:
        view[:] = b"A" * 1000
        kept.append(view[:10])
        waiting = h.blocked(second)
    waiting.result()
    assert pair.server.recv(timeout=DEADLINE) == b"B" * 1000
    assert bytes(kept[0]) == b"A" * 10


@pytest.mark.parametrize("data", [b"", b"behind it"])
def test_a_close_waits_for_no_reservation_and_for_nothing_behind_one(ends: Callable[..., Ends], data: bytes) -> None:
    pair = ends()
    pair.client.send(b"before it")
    with pytest.raises(npipe.PipeClosedError), pair.client.reserve(1000):
        behind = h.blocked(lambda: pair.client.send(data))
        closing = h.started(lambda: pair.client.close(timeout=60))
        closing.result(3)
        assert behind.code() == 109
    assert pair.server.recv(timeout=DEADLINE) == b"before it"
    assert h.code_of(lambda: pair.server.recv(timeout=DEADLINE)) == 109
