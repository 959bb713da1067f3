"""Deaths of one of several holders while somebody sleeps: nobody hangs, and nothing torn is delivered."""

from __future__ import annotations

import faulthandler
import mmap
import os
import select
import signal
import tempfile

import pytest

from npipe.connection import Pipe, wait
from tests.connection.helpers import asleep, forked, kill, pattern

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
        os.kill(writer, signal.SIGSTOP)
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
        os.kill(writer, signal.SIGSTOP)
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
