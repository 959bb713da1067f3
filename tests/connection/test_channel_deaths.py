"""Deaths of one of several holders while somebody sleeps: nobody hangs, and nothing torn is delivered."""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import os
import select
import signal
import tempfile
from typing import TYPE_CHECKING

import pytest

from npipe.connection import Client, Listener, Pipe, wait
from tests.connection.helpers import READERS, WRITERS, Direction, asleep, birth, forked, kill, pattern
from tests.helpers import blocked, started, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 3_000_000  # bytes, many times what a channel holds
DEADLINE = 20.0  # seconds


def ended(pid: int) -> bool:
    """Whether a child ends in time."""
    life = os.pidfd_open(pid)
    try:
        return bool(select.select([life], [], [], DEADLINE)[0])
    finally:
        os.close(life)


def test_a_writer_hears_that_its_reader_has_died_within_a_message() -> None:
    reads, writes = Pipe(duplex=False)  # this process goes on to hold both, and reads nothing

    def write() -> None:
        with pytest.raises(BrokenPipeError):
            writes.send_bytes(pattern(LONG))

    with forked(write) as writer:
        assert reads.poll(DEADLINE)
        asleep(writer)  # for want of room
        stop(writer)
        with forked(reads.recv_bytes) as reader:
            # It has taken all that there was, and waits for the rest.
            while select.select([reads], [], [], 0)[0]:
                os.sched_yield()
            kill(reader)
        os.kill(writer, signal.SIGCONT)
        assert ended(writer)
    with pytest.raises(BrokenPipeError):
        writes.send("more")
    with pytest.raises(OSError, match="got end of file during message"):
        reads.recv()


def test_a_writer_that_sleeps_already_hears_of_its_readers_death() -> None:
    reads, writes = Pipe(duplex=False)

    def write() -> None:
        with pytest.raises(BrokenPipeError):
            writes.send_bytes(pattern(LONG))

    def read() -> None:
        before = signal.signal(signal.SIGALRM, raise_alarm)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        try:
            with pytest.raises(AlarmError):
                reads.recv_bytes()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        os.write(told, b"x")
        signal.pause()  # in the middle of the message

    class AlarmError(Exception):
        pass

    def raise_alarm(*_: object) -> None:
        raise AlarmError

    tells, told = os.pipe()
    with forked(write) as writer:
        assert reads.poll(DEADLINE)
        asleep(writer)
        stop(writer)
        with forked(read) as reader:
            assert os.read(tells, 1) == b"x"
            os.kill(writer, signal.SIGCONT)
            asleep(writer)  # once more
            kill(reader)
        assert ended(writer)
    os.close(tells)
    os.close(told)


@pytest.mark.parametrize("waits", [False, True], ids=["recv", "wait"])
def test_a_reader_hears_of_a_writer_that_died_before_it_told_anybody(waits: bool) -> None:
    reads, writes = Pipe(duplex=False)

    def read() -> None:
        if waits:
            assert wait([reads]) == [reads]
        with pytest.raises(OSError, match="got end of file during message"):
            reads.recv_bytes()

    def write() -> None:
        faulthandler.disable()
        with tempfile.TemporaryFile() as file:
            file.truncate(100 << 10)
            memory = mmap.mmap(file.fileno(), 100 << 10)
            file.truncate(40 << 10)  # so the copy of what is behind ends the process
            writes.send_bytes(memory)

    with forked(read) as reader:
        asleep(reader)
        with forked(write) as writer:
            _, status = os.waitpid(writer, 0)
            assert os.WTERMSIG(status) == signal.SIGBUS
        assert ended(reader)
    with pytest.raises(BrokenPipeError):
        writes.send("more")


def test_a_handler_that_forks_while_a_send_waits_leaves_the_send_to_the_parent() -> None:
    reads, writes = Pipe(duplex=False)

    def fork_and_ask(*_: object) -> None:
        child = os.fork()
        if child:
            children.append(child)
            os.write(told, b"x")

    def send_one() -> None:
        signal.signal(signal.SIGUSR1, fork_and_ask)
        own = os.getpid()
        os.write(told, b"x")
        try:
            writes.send_bytes(b"one")
        except InterruptedError:
            os._exit(0 if os.getpid() != own else 3)
        assert os.getpid() == own
        assert [os.waitpid(child, 0)[1] for child in children] == [0]

    tells, told = os.pipe()
    children: list[int] = []
    with forked(writes.send_bytes, pattern(LONG)) as holder:
        assert reads.poll(DEADLINE)
        asleep(holder)  # for want of room, with the lock
        with forked(send_one) as sender:
            assert os.read(tells, 1) == b"x"
            asleep(sender)
            os.kill(sender, signal.SIGUSR1)
            assert os.read(tells, 1) == b"x"  # the handler has forked
            assert reads.recv_bytes() == pattern(LONG)
            assert reads.recv_bytes() == b"one"
            assert ended(sender)
        assert not reads.poll(0)
        writes.send_bytes(b"two")  # nobody has kept the lock
        assert reads.recv_bytes() == b"two"
    os.close(tells)
    os.close(told)


@contextlib.contextmanager
def born_before_others() -> Iterator[int]:
    """A process that was born at another time than all that are born in the `with`."""
    with forked(signal.pause) as pid:
        now = birth(pid)
        while birth(pid) == now:
            with forked(lambda: None) as another:
                now = birth(another)
        try:
            yield pid
        finally:
            kill(pid)


@pytest.mark.parametrize("who", ["reader", "writer"])
def test_a_number_that_another_process_has_got_is_not_the_dead_readers(who: str) -> None:
    reads, writes = Pipe(duplex=False)
    direction = Direction(reads)

    def write() -> None:
        with pytest.raises(BrokenPipeError):
            writes.send_bytes(pattern(LONG))

    with born_before_others() as another, forked(write) as writer:
        direction.wait_until_full()
        asleep(writer)
        stop(writer)
        with forked(reads.recv_bytes) as reader:
            direction.wait_until_drained()
            asleep(reader)
            stop(reader)
            if who == "reader":  # then there is something for which the lock is wanted
                os.kill(writer, signal.SIGCONT)
                direction.wait_until_full()
                asleep(writer)
                stop(writer)
            kill(reader)
        direction.give_holders_number_to(another, READERS)
        if who == "reader":
            with pytest.raises(OSError, match="got end of file during message"):
                started(reads.recv_bytes).result()
        os.kill(writer, signal.SIGCONT)
        assert ended(writer)
        with pytest.raises(OSError, match="got end of file during message"):
            reads.recv_bytes()


@pytest.mark.parametrize("who", ["reader", "writer"])
def test_a_number_that_another_process_has_got_is_not_the_dead_writers(who: str) -> None:
    reads, writes = Pipe(duplex=False)
    direction = Direction(reads)
    with born_before_others() as another:
        with forked(lambda: writes.send_bytes(pattern(LONG))) as writer:
            direction.wait_until_full()
            asleep(writer)
            kill(writer)
        direction.give_holders_number_to(another, WRITERS)
        if who == "writer":
            with pytest.raises(BrokenPipeError):
                started(lambda: writes.send_bytes(b"more")).result()
        with pytest.raises(OSError, match="got end of file during message"):
            started(reads.recv_bytes).result()
        with pytest.raises(BrokenPipeError):
            writes.send_bytes(b"more")


@pytest.mark.parametrize("strange", [False, True], ids=["Pipe", "Client"])
def test_a_reader_waits_for_a_stopped_one_although_the_writer_has_left(name: str, strange: bool) -> None:
    size = 400_000  # more than a channel holds, but not twice as much

    def read() -> None:
        assert reads.recv_bytes() == pattern(size)

    def write() -> None:
        reads.close()
        writes.send_bytes(pattern(size))
        writes.send_bytes(b"next")

    with contextlib.ExitStack() as stack:
        if strange:
            listener = stack.enter_context(Listener(name))
            writes = Client(name)
            reads = listener.accept()
        else:
            reads, writes = Pipe()
        stack.enter_context(reads)
        direction = Direction(reads)
        writer = stack.enter_context(forked(write))
        writes.close()
        direction.wait_until_full()
        asleep(writer)
        stop(writer)

        reader = stack.enter_context(forked(read))
        direction.wait_until_drained()
        asleep(reader)
        stop(reader)
        os.kill(writer, signal.SIGCONT)
        assert ended(writer)
        got = blocked(reads.recv_bytes)
        with pytest.raises(AssertionError, match="still blocked"):
            got.result(3.0)  # longer than one waits for what a stranger has left
        os.kill(reader, signal.SIGCONT)
        assert ended(reader)
        assert got.result() == b"next"
        with pytest.raises(EOFError):
            reads.recv_bytes()
