"""Who closes a connection while somebody is in a call of it: Python code in the call, a thread, a handler, a child."""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from npipe.binding import make_segment
from npipe.connection import Client, Listener, Pipe, _rendezvous, wait
from tests.connection.helpers import Direction, asleep, ended, forked, pattern, thread_asleep
from tests.helpers import stop

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 3_000_000  # bytes, many times what a channel holds


class Closer:
    """What a call asks for a number, or for its pickle: it closes the connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __float__(self) -> float:
        self._connection.close()
        return 0.0

    def __index__(self) -> int:
        self._connection.close()
        return 0

    def __reduce__(self) -> tuple[Any, ...]:
        self._connection.close()
        return bytes, (70_000,)

    def __lt__(self, size: int) -> bool:
        if size > 0:
            self._connection.close()
        return False

    def __gt__(self, size: int) -> bool:
        return True


CLOSING: dict[str, Callable[[Any], Any]] = {
    "poll": lambda one: one.poll(Closer(one)),
    "send": lambda one: one.send(Closer(one)),
    "send_array": lambda one: one.send([bytearray(pattern(100_000)), Closer(one)]),
    "send_bytes": lambda one: one.send_bytes(b"abc", Closer(one)),
    "recv_bytes_into": lambda one: one.recv_bytes_into(bytearray(200_000), Closer(one)),
}


@pytest.mark.parametrize("call", CLOSING)
def test_what_a_call_asks_for_may_close_the_connection(call: str) -> None:
    def child() -> None:
        first, second = Pipe()
        second.send_bytes(pattern(100_000))
        with pytest.raises(OSError, match="handle is closed"):
            CLOSING[call](first)
        with pytest.raises(EOFError):
            second.recv()

    with forked(child):
        pass


def test_a_message_is_whole_if_the_connection_is_closed_in_the_midst_of_it() -> None:
    def by_the_length() -> None:
        first, second = Pipe()
        second.send_bytes(pattern(100_000))
        assert first.recv_bytes(Closer(first)) == pattern(100_000)  # type: ignore[arg-type]
        assert first.closed
        with pytest.raises(BrokenPipeError):
            second.send("more")

    def by_a_collection() -> None:
        class Cycle:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                first.close()

        first, second = Pipe()
        second.send_bytes(pattern(100_000))
        Cycle()
        gc.set_threshold(1)  # so the next object that may be in a cycle brings it about
        try:
            got = first.recv_bytes()
        except OSError as error:
            assert "handle is closed" in str(error)  # noqa: PT017
        else:
            assert got == pattern(100_000)

    for child in (by_the_length, by_a_collection):
        with forked(child):
            pass


def test_a_close_by_another_thread_leaves_the_message_to_others() -> None:
    first, second = Pipe()
    other = os.pipe()
    errors: list[BaseException] = []

    def child() -> None:
        os.read(other[0], 1)
        assert first.recv() == "whoever reads it"

    def receive() -> None:
        try:
            first.recv()
        except OSError as error:
            errors.append(error)

    with forked(child):
        thread = threading.Thread(target=receive)
        thread.start()
        thread_asleep(thread)
        first.close()
        second.send("whoever reads it")
        thread.join(20)
        assert [str(error) for error in errors] == ["handle is closed"]
        os.write(other[1], b"x")
    second.close()
    for fd in other:
        os.close(fd)


def test_a_reader_that_closes_in_the_midst_of_a_message_wakes_its_writer() -> None:
    reads, writes = Pipe(duplex=False)  # this process goes on to hold the reading end
    direction = Direction(reads)
    told, tell = os.pipe()
    go, let = os.pipe()

    def write() -> None:
        reads.close()
        with pytest.raises(BrokenPipeError):
            writes.send_bytes(pattern(LONG))

    def read() -> None:
        def handler(*_: object) -> None:
            raise KeyError

        writes.close()
        signal.signal(signal.SIGUSR1, handler)
        with pytest.raises(KeyError):
            reads.recv_bytes()
        os.write(tell, b"x")
        os.read(go, 1)
        reads.close()

    with forked(write) as writer:
        direction.wait_until_full()
        asleep(writer)
        stop(writer)
        with forked(read) as reader:
            direction.wait_until_drained()
            os.kill(reader, signal.SIGUSR1)
            assert os.read(told, 1) == b"x"
            os.kill(writer, signal.SIGCONT)
            direction.wait_until_full()
            asleep(writer)
            os.write(let, b"x")
        assert ended(writer)
    reads.close()
    for fd in (told, tell, go, let):
        os.close(fd)


def test_a_child_that_is_forked_while_a_thread_waits_closes_its_hold() -> None:
    first, second = Pipe()
    told, tell = os.pipe()
    go, let = os.pipe()
    got: list[Any] = []

    def child() -> None:
        second.close()
        first.close()
        os.write(tell, b"x")
        os.read(go, 1)

    thread = threading.Thread(target=lambda: got.append(second.recv()))
    thread.start()
    thread_asleep(thread)
    with forked(child):
        assert os.read(told, 1) == b"x"
        first.send("for the thread")
        thread.join(20)
        assert got == ["for the thread"]
        second.close()
        assert first.poll(20)  # although the child lives
        with pytest.raises(EOFError):
            first.recv()
        os.write(let, b"x")
    first.close()
    for fd in (told, tell, go, let):
        os.close(fd)


@pytest.mark.parametrize("call", ["recv", "recv_bytes_into", "poll", "send"])
def test_a_child_that_a_handler_forks_may_close_in_it(call: str) -> None:
    first, second = Pipe()
    told, tell = os.pipe()

    def wait_for_something() -> None:
        second.close()
        parent = os.getpid()

        def handler(*_: object) -> None:
            pid = os.fork()
            if pid == 0:
                first.close()
                first.close()
            else:
                assert os.waitpid(pid, 0)[1] == 0
                os.write(tell, b"x")

        signal.signal(signal.SIGUSR1, handler)
        result: Any = None
        try:
            if call == "recv":
                result = first.recv_bytes()
            elif call == "recv_bytes_into":
                block = bytearray(LONG)
                assert first.recv_bytes_into(block) == LONG
                result = bytes(block)
            elif call == "poll":
                assert first.poll(60)
                result = first.recv_bytes()
            else:
                first.send_bytes(pattern(LONG, 2))
                result = first.recv_bytes()
        except OSError as error:
            assert error.errno == errno.EINTR or str(error) == "handle is closed"  # noqa: PT017
            assert os.getpid() != parent
        if os.getpid() != parent:
            assert result is None
            assert first.closed
            with pytest.raises(OSError, match="handle is closed"):
                first.recv()
            os._exit(0)
        assert result == pattern(LONG)

    with forked(wait_for_something) as pid:
        if call == "send":
            Direction(second).wait_until_full()
        else:
            while Direction(first).sleepers != 1:
                os.sched_yield()
        first.close()
        asleep(pid)
        os.kill(pid, signal.SIGUSR1)
        assert os.read(told, 1) == b"x"
        if call == "send":
            assert second.recv_bytes() == pattern(LONG, 2)
        second.send_bytes(pattern(LONG))
        assert ended(pid)
    second.close()
    os.close(told)
    os.close(tell)


@pytest.mark.parametrize("call", ["recv", "poll"])
def test_a_handler_that_closes_ends_the_wait_for_a_message(call: str) -> None:
    first, second = Pipe()

    def receive() -> None:
        second.close()
        signal.signal(signal.SIGUSR1, lambda *_: first.close())
        with pytest.raises(OSError, match="handle is closed"):
            first.recv() if call == "recv" else first.poll(None)

    with forked(receive) as pid:
        while Direction(first).sleepers != 1:
            os.sched_yield()
        asleep(pid)
        os.kill(pid, signal.SIGUSR1)
        assert ended(pid, 20)
    first.close()
    second.close()


def test_a_child_that_leaves_a_wait_does_not_take_its_parent_s_wish_back() -> None:
    reads, writes = Pipe(duplex=False)
    direction = Direction(reads)
    told, tell = os.pipe()

    class ChildError(Exception):
        pass

    def wait_for_it() -> None:
        def handler(*_: object) -> None:
            pid = os.fork()
            if pid == 0:
                raise ChildError
            assert os.waitpid(pid, 0)[1] == 0
            os.write(tell, b"x")

        signal.signal(signal.SIGUSR1, handler)
        writes.close()
        try:
            assert wait([reads], 60) == [reads]
        except ChildError:
            os._exit(0)
        assert reads.recv() == "woken"

    with forked(wait_for_it) as pid:
        while direction.sleepers != 1:
            os.sched_yield()
        asleep(pid)
        os.kill(pid, signal.SIGUSR1)
        assert os.read(told, 1) == b"x"
        assert direction.sleepers == 1
        writes.send("woken")
        assert ended(pid, 20)
    os.close(told)
    os.close(tell)


def test_a_wait_that_a_handler_ends_anywhere_leaves_nothing_behind() -> None:
    class HandlerError(Exception):
        pass

    step = 0
    over = False
    while not over:
        step += 1
        ends = [Pipe(duplex=False) for _ in range(3)]
        reads = [one for one, _ in ends]
        descriptors = [fd for one in reads for fd in one._descriptors()[0]]
        directions = [Direction(one) for one in reads]
        left = step

        def trace(frame: Any, event: str, _: object) -> Any:
            nonlocal left
            if frame.f_globals.get("__name__") != "npipe.connection._connections":
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left -= 1
                if left == 0:
                    raise HandlerError
            return trace

        sys.settrace(trace)
        try:
            assert wait(reads, 0) == []
            over = True
        except HandlerError:
            pass
        finally:
            sys.settrace(None)
        assert [one.sleepers for one in directions] == [0, 0, 0], step
        for one in reads:
            one.close()
        for fd in descriptors:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
        for _, other in ends:
            other.close()
    assert step > 50


def test_the_rest_of_a_message_that_another_thread_takes_is_waited_for() -> None:
    reads, writes = Pipe(duplex=False)
    direction = Direction(reads)

    class AlarmError(Exception):
        pass

    def ring(*_: object) -> None:
        raise AlarmError

    def write() -> None:
        writes.send(pattern(LONG))
        writes.send("next")

    got: list[Any] = []
    main = threading.main_thread()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with forked(write) as writer:
            direction.wait_until_full()
            asleep(writer)
            stop(writer)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(AlarmError):
                reads.recv()
            second = threading.Thread(target=lambda: got.append(reads.recv()))
            second.start()
            thread_asleep(second)

            def go_on() -> None:
                thread_asleep(main)
                os.kill(writer, signal.SIGCONT)

            third = threading.Thread(target=go_on)
            third.start()
            assert reads.recv() == "next"
            second.join()
            third.join()
            assert got == [pattern(LONG)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("call", ["recv_bytes", "recv_bytes_into", "poll", "recv"])
def test_a_thread_that_waits_already_gets_the_rest_of_what_another_one_s_handler_interrupted(call: str) -> None:
    reads, writes = Pipe(duplex=False)
    direction = Direction(reads)
    threads: list[threading.Thread] = []

    class AlarmError(Exception):
        pass

    def ring(*_: object) -> None:
        # The message is begun: whoever wants one waits for the lock, or for more of it.
        for thread in threads:
            thread.start()
            thread_asleep(thread)
        raise AlarmError

    def write() -> None:
        for message in (pattern(LONG), b"next", b"last"):
            if call == "recv":
                writes.send(message)
            else:
                writes.send_bytes(message)

    got: list[Any] = []

    def receive() -> None:
        if call == "recv_bytes_into":
            place = bytearray(LONG)
            got.append(place[: reads.recv_bytes_into(place)])
        elif call == "poll":
            got.append(reads.recv_bytes() if reads.poll(None) else b"")
        else:
            got.append(getattr(reads, call)())

    threads += [threading.Thread(target=receive, daemon=True) for _ in range(3)]
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with forked(write) as writer:
            direction.wait_until_full()
            asleep(writer)
            stop(writer)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(AlarmError):
                reads.recv() if call == "recv" else reads.recv_bytes()
            os.kill(writer, signal.SIGCONT)
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()
            assert sorted(got, key=len) in ([b"next", b"last", pattern(LONG)], [b"last", b"next", pattern(LONG)])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _blocked_in(fd: int, thread: threading.Thread) -> bool:
    try:
        words = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was seen
        return False
    return len(words) > 1 and words[1] == hex(fd)


@pytest.mark.parametrize("way", ["recv", "send"])
def test_a_hostile_client_s_event_does_not_stop_the_process(name: str, way: str) -> None:
    told, tell = os.pipe()
    ready, prepared = os.pipe()

    def serve(listener: Any) -> None:
        made = listener.accept()
        made.fileno()
        event = made._descriptors()[0][3 if way == "recv" else 2]
        made.send("go on")
        os.read(ready, 1)
        thread = threading.Thread(
            target=made.recv if way == "recv" else made.send, args=() if way == "recv" else ("x",), daemon=True
        )
        thread.start()
        # It waits in the system, as the client wants; or it does not wait at all.
        while thread.is_alive() and not _blocked_in(event, thread):
            os.sched_yield()
        os.write(tell, b"x")
        os._exit(0)

    listener = Listener(name)
    pid = os.fork()
    if pid == 0:
        try:
            # A listener belongs to its process.
            serve(Listener(name + "-of-the-child"))
        finally:
            os._exit(1)
    listener.close()
    made: Any = None
    while made is None:
        try:
            made = Client(name + "-of-the-child")
        except FileNotFoundError:
            os.sched_yield()
    try:
        assert made.recv() == "go on"
        events = made._descriptors()[0][2:]
        if way == "recv":
            os.set_blocking(events[1], True)
            made.send("x")
            assert os.read(events[1], 8)  # so the server's read waits
        else:
            made.fileno()
            os.set_blocking(events[0], True)
            os.eventfd_write(events[0], 2**64 - 2)  # so the server's write waits
        os.write(prepared, b"x")
        assert select.select([told], [], [], 20)[0]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        made.close()
        for fd in (told, tell, ready, prepared):
            os.close(fd)


@pytest.mark.parametrize("call", ["recv", "poll", "wait"])
def test_a_client_s_semaphore_for_an_event_keeps_nobody_busy(name: str, call: str, monkeypatch: Any) -> None:
    def with_semaphores(fds: list[int]) -> tuple[int, int, int]:
        fds.append(segment := make_segment())
        fds.extend(os.eventfd(2**31, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE) for _ in range(2))
        return segment, fds[-2], fds[-1]

    monkeypatch.setattr(_rendezvous, "new_channel", with_semaphores)
    with Listener(name) as listener, Client(name) as client, listener.accept() as made:

        def serve() -> None:
            if call == "wait":
                assert wait([made]) == [made]
            elif call == "poll":
                assert made.poll(None)
            assert made.recv() == pattern(LONG)

        with forked(serve) as server:
            asleep(server)  # which one that is told of nothing again and again is not
            client.send(pattern(LONG))
