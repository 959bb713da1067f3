"""Ends that several processes hold: by a fork, in arguments of processes, sent; and what is left when one dies."""

from __future__ import annotations

import contextlib
import errno
import gc
import multiprocessing
import multiprocessing.connection
import os
import pickle
import select
import signal
import socket
import threading
import time
from multiprocessing import reduction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from npipe.connection import Pipe, context, wait
from tests.connection.helpers import METHODS, asleep, echo, forked, kill, pattern, thread_asleep
from tests.helpers import until

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 3_000_000  # bytes, many times what a channel holds
SEGMENT = 536_576  # bytes (docs/protocol.md, section 8)


def test_a_forked_child_has_both_ends() -> None:
    first, second = Pipe()

    def child() -> None:
        first.close()
        echo(second)

    with forked(child):
        second.close()
        for size in (0, 5000, LONG):
            first.send(pattern(size))
            assert first.recv() == pattern(size)
        first.close()


def test_the_end_comes_when_the_last_holder_has_closed() -> None:
    first, second = Pipe()
    go, waits = os.pipe()

    def child() -> None:
        first.close()
        os.read(go, 1)
        second.send("the child's")

    with forked(child):
        second.close()
        assert not first.poll(0.05)
        os.write(waits, b"x")
        assert first.recv() == "the child's"
        with pytest.raises(EOFError):
            first.recv()
    first.close()
    os.close(go)
    os.close(waits)


@pytest.mark.parametrize("method", METHODS)
def test_a_connection_goes_to_a_process_and_over_a_connection(method: str) -> None:
    ctx: Any = context(method)
    first, second = ctx.Pipe()
    process = ctx.Process(target=_travel, args=(second,))
    process.start()
    second.close()
    reads, writes = Pipe(duplex=False)
    first.send(["take", writes])
    writes.close()
    assert reads.recv() == pattern(LONG)
    with pytest.raises(EOFError):
        reads.recv()
    process.join()
    assert process.exitcode == 0
    with pytest.raises(EOFError):
        first.recv()


def _travel(connection: Any) -> None:
    _, writes = connection.recv()
    writes.send(pattern(LONG))


def test_multiprocessings_own_connections_carry_ours() -> None:
    theirs, child = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_over_theirs, args=(child,))
    process.start()
    child.close()
    first, second = Pipe()
    theirs.send(second)
    second.close()
    first.send("hello")
    assert first.recv() == ["hello"]
    process.join()


def _over_theirs(theirs: Any) -> None:
    ours = theirs.recv()
    ours.send([ours.recv()])


def test_a_connection_is_not_pickled_for_nobody() -> None:
    first, second = Pipe()
    with first, second:
        with pytest.raises(TypeError, match="send it over a connection"):
            pickle.dumps(first)
        again = pickle.loads(bytes(reduction.ForkingPickler.dumps(first)))
        first.close()
        again.send("by another hold")
        assert second.recv() == "by another hold"
        again.close()
        with pytest.raises(EOFError):
            second.recv()


def test_four_writers_and_two_readers_share_two_ends() -> None:
    reads, writes = Pipe(duplex=False)
    results_in, results = Pipe(duplex=False)
    each = 150

    def write(number: int) -> None:
        for at in range(each):
            writes.send((number, at, pattern(at * 997, number)))

    def read() -> None:
        got = []
        while (one := reads.recv()) is not None:
            number, at, content = one
            assert content == pattern(at * 997, number)
            got.append((number, at))
        results.send(got)

    with forked(read), forked(read):
        with forked(write, 0), forked(write, 1), forked(write, 2), forked(write, 3):
            pass
        writes.send(None)
        writes.send(None)
        got = sorted(results_in.recv() + results_in.recv())
    assert got == [(number, at) for number in range(4) for at in range(each)]


def test_a_writer_that_dies_in_a_message_does_not_leave_its_reader_waiting() -> None:
    reads, writes = Pipe(duplex=False)  # this process goes on to hold both

    with forked(writes.send, pattern(LONG)) as pid:
        assert reads.poll(10)
        asleep(pid)  # for want of room
        os.kill(pid, signal.SIGSTOP)
        timer = threading.Timer(0.1, kill, [pid])
        timer.start()
        with pytest.raises(OSError, match="got end of file during message"):
            reads.recv()  # waits for the rest when the writer is killed
        timer.join()
    with pytest.raises(BrokenPipeError):
        writes.send("more")
    reads.close()
    writes.close()


def test_a_reader_that_dies_in_a_message_takes_no_more_along_than_the_connection() -> None:
    reads, writes = Pipe(duplex=False)
    errors: list[BaseException] = []

    def send() -> None:
        try:
            writes.send(pattern(LONG))
        except BrokenPipeError as error:
            errors.append(error)

    with forked(writes.send_bytes, pattern(LONG)) as writer:
        assert reads.poll(10)
        asleep(writer)  # for want of room
        os.kill(writer, signal.SIGSTOP)
        with forked(reads.recv_bytes) as reader:
            # It has taken all that there was, and waits for the rest.
            while select.select([reads], [], [], 0)[0]:
                os.sched_yield()
            kill(reader)
        os.kill(writer, signal.SIGCONT)
        with pytest.raises(OSError, match="got end of file during message"):
            reads.recv()
        _, status = os.waitpid(writer, 0)
        assert status != 0  # BrokenPipeError
    send()
    assert [type(error) for error in errors] == [BrokenPipeError]


def test_a_writer_that_dies_between_messages_leaves_all_of_them() -> None:
    reads, writes = Pipe(duplex=False)

    def child() -> None:
        for number in range(5):
            writes.send((number, pattern(1000)))
        os.kill(os.getpid(), signal.SIGKILL)

    with forked(child) as pid:
        os.waitpid(pid, 0)
    writes.close()
    assert [reads.recv() for _ in range(5)] == [(number, pattern(1000)) for number in range(5)]
    with pytest.raises(EOFError):
        reads.recv()


def test_a_killed_peer_is_the_end() -> None:
    first, second = Pipe()

    def child() -> None:
        first.close()
        second.send("up")
        signal.pause()

    with forked(child) as pid:
        second.close()
        assert first.recv() == "up"
        kill(pid)
        with pytest.raises(BrokenPipeError):
            first.send("anybody?")
        with pytest.raises(EOFError):
            first.recv()
        assert wait([first], 0) == [first]


def test_wait_knows_what_multiprocessings_does() -> None:
    one, other = Pipe()
    theirs, their_other = multiprocessing.Pipe()
    plain, plain_other = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.Process(target=signal.pause)
    process.start()
    objects: list[Any] = [one, theirs, plain, listener, process.sentinel]
    assert wait(objects, 0) == []
    began = time.monotonic()
    assert wait(objects, 0.05) == []
    assert time.monotonic() - began >= 0.05
    threading.Timer(0.05, other.send, ["hello"]).start()
    assert wait(objects) == [one]
    their_other.send(1)
    plain_other.send(b"x")
    assert wait(objects, 5) == [one, theirs, plain]
    assert (one.recv(), theirs.recv(), plain.recv(1)) == ("hello", 1, b"x")
    assert wait(objects, 0) == []
    process.kill()
    assert wait(objects, 20) == [process.sentinel]
    process.join()
    other.close()
    assert wait(objects[:-1], 0) == [one]
    one.close()
    with pytest.raises(OSError, match="handle is closed"):
        wait(objects[:1], 0)
    assert wait([], 0.01) == []
    for thing in (theirs, their_other, plain, plain_other, listener):
        thing.close()


@pytest.mark.parametrize("ours", [True, False])
def test_wait_tells_of_an_end_that_only_writes_when_nobody_reads_any_more(ours: bool) -> None:
    pipe: Any = Pipe if ours else multiprocessing.Pipe
    waits: Any = wait if ours else multiprocessing.connection.wait
    reads, writes = pipe(duplex=False)
    other_reads, other_writes = pipe(duplex=False)
    assert waits([writes, other_reads], 0.05) == []
    writes.send("x")
    assert waits([writes, other_reads], 0.05) == []
    assert reads.recv() == "x"
    other_writes.send("y")
    assert waits([writes, other_reads], 20) == [other_reads]
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(waits([writes], 20)))
    thread.start()
    thread_asleep(thread)
    reads.close()
    thread.join()
    assert found == [writes]
    assert waits([writes, other_reads], 20) == [writes, other_reads]
    writes.close()
    with pytest.raises(OSError, match="handle is closed"):
        waits([writes], 0)
    other_reads.close()
    other_writes.close()


def test_a_wait_for_nothing_sleeps() -> None:
    assert wait([], 0) == []
    assert wait([], 0.01) == []
    with forked(wait, []) as child:
        asleep(child)  # one that looks again and again never is
        kill(child)


def test_a_wait_for_an_end_that_only_writes_survives_its_close() -> None:
    reads, writes = Pipe(duplex=False)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(wait([writes], 20)))
    thread.start()
    thread_asleep(thread)
    writes.close()  # the descriptors stay until the wait is over
    reads.close()
    thread.join()
    assert found == [writes]


def test_the_descriptors_of_a_connection_that_has_travelled_are_not_inherited() -> None:
    carrier, receives = Pipe()
    one, other = Pipe()
    carrier.send(other)
    came: Any = receives.recv()
    other.close()
    fds, _ = came._descriptors()
    assert [os.get_inheritable(fd) for fd in fds] == [False] * 4
    one.send("hello")
    assert came.recv() == "hello"
    for end in (carrier, receives, one, came):
        end.close()


def _inheritable(connection: Any) -> None:
    _, carried = connection.recv()
    ends = (connection, carried)
    connection.send([os.get_inheritable(fd) for end in ends for fd in end._descriptors()[0]])


@pytest.mark.parametrize("method", METHODS)
def test_the_descriptors_that_a_child_has_got_are_not_inherited(method: str) -> None:
    ctx: Any = context(method)
    first, second = ctx.Pipe()
    one, other = Pipe()
    process = ctx.Process(target=_inheritable, args=(second,))
    process.start()
    first.send(["take", one])
    assert first.recv() == [False] * 8
    process.join()
    assert process.exitcode == 0
    for end in (first, second, one, other):
        end.close()


def test_descriptors_for_which_there_is_no_place_leave_none_behind(monkeypatch: Any) -> None:
    one, other = Pipe()
    made: list[int] = []
    dup = os.dup

    def none_after_two(fd: int) -> int:
        if len(made) == 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        made.append(dup(fd))
        return made[-1]

    with one, other:
        monkeypatch.setattr(os, "dup", none_after_two)
        with pytest.raises(OSError, match="Too many open files"):
            one.send(other)
        monkeypatch.undo()
        for fd in made:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
        one.send("nothing of it was sent")
        assert other.recv() == "nothing of it was sent"


def test_a_selector_sees_a_message_until_it_is_read_and_no_longer() -> None:
    first, second = Pipe()
    second.send("before anybody asks for the descriptor")
    with first, second:
        for turn in range(50):
            assert select.select([first], [], [], 10)[0] == [first]
            assert first.recv()
            assert select.select([first], [], [], 0)[0] == []
            assert multiprocessing.connection.wait([first], 0) == []  # type: ignore[list-item]
            second.send(turn + 1)
        assert first.recv() == 50
        second.close()
        assert select.select([first], [], [], 10)[0] == [first]
        with pytest.raises(EOFError):
            first.recv()


def test_a_selector_is_exact_while_another_process_writes() -> None:
    reads, writes = Pipe(duplex=False)
    count = 3000

    def child() -> None:
        reads.close()
        for number in range(count):
            writes.send(number)

    with forked(child):
        writes.close()
        got = []
        for _ in range(count):
            assert select.select([reads], [], [], 20)[0]
            assert reads.poll(0)
            got.append(reads.recv())
        assert got == list(range(count))
        assert select.select([reads], [], [], 20)[0]
        with pytest.raises(EOFError):
            reads.recv()


def test_a_signals_handler_that_raises_loses_nothing_of_a_message() -> None:
    reads, writes = Pipe(duplex=False)

    class AlarmError(Exception):
        pass

    def ring(*_: object) -> None:
        raise AlarmError

    def child() -> None:
        writes.send(pattern(LONG))
        writes.send("next")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with forked(child) as pid:
            assert reads.poll(10)
            asleep(pid)  # for want of room
            os.kill(pid, signal.SIGSTOP)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(AlarmError):
                reads.recv()
            os.kill(pid, signal.SIGCONT)
            assert reads.recv() == pattern(LONG)
            assert reads.recv() == "next"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_message_that_waits_for_room_is_withdrawn_as_a_whole() -> None:
    first, second = Pipe()

    class AlarmError(Exception):
        pass

    def ring(*_: object) -> None:
        raise AlarmError

    sent = 0
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(AlarmError):
            while True:
                first.send_bytes(pattern(5000, sent))
                sent += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    for number in range(sent):
        assert second.recv_bytes() == pattern(5000, number)
    assert not second.poll()
    first.send("whole")
    assert second.recv() == "whole"


def test_closing_gives_every_descriptor_back() -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    Pipe()[0].close()
    gc.collect()
    before = count()
    ends = [Pipe() for _ in range(20)]
    for first, second in ends:
        first.fileno()
        second.send(1)
        first.recv()
        first.close()
        second.close()
    assert count() == before
    del ends
    Pipe()
    assert count() == before


# ---- Memory


def segments() -> dict[int, int]:
    """By inode, how many KiB of the machine's memory each segment has of which this process has a descriptor."""
    found = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            if "memfd:" in str(descriptor.readlink()):
                status = descriptor.stat()
                if status.st_size == SEGMENT:
                    found[status.st_ino] = status.st_blocks // 2
    return found


def pipe_and_memory() -> tuple[Any, Any, Callable[[], int]]:
    """Two ends, and what says how many KiB their segment has."""
    before = set(segments())
    first, second = Pipe()
    (inode,) = set(segments()) - before
    return first, second, lambda: segments()[inode]


def test_the_memory_is_given_back_while_somebody_waits_at_either_end() -> None:
    first, second, held = pipe_and_memory()

    def child() -> None:
        first.close()
        echo(second)

    with forked(child):
        second.close()
        for round_ in range(2):
            for size in (LONG, 100_000, 7):
                first.send(pattern(size + round_))
                assert first.recv() == pattern(size + round_)
            until(lambda: held() <= 24, 20)  # the child waits: 3 pages of words, and what the next ones use
        first.close()


def test_what_nobody_has_read_stays_while_the_other_end_waits() -> None:
    first, second, held = pipe_and_memory()
    first.send_bytes(pattern(200_000))
    waiting = threading.Thread(target=lambda: first.poll(1.7))
    waiting.start()
    waiting.join()
    assert held() > 190
    assert second.recv_bytes() == pattern(200_000)
    second.send_bytes(b"and on")
    assert first.recv_bytes() == b"and on"
    first.close()
    second.close()
