"""A process that has the lock of a pipe's folder, and is stopped: nobody hangs, and each call says what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.win32 import pywintypes, win32pipe
from tests import helpers as h
from tests.rendezvous import folder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child

    Start = Callable[..., Child]

pytestmark = pytest.mark.alone  # most measure how long a call takes

BOUND = 3.0  # seconds, after which a call gives up (docs/semantics.md)
LATE = BOUND + 3.0  # on a machine that is busy

HOLDER = """
    import fcntl, os, signal, sys
    lock = os.open(sys.argv[1], os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("locked", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    os.close(lock)
    print("free", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def stopped(child: Start) -> Callable[[str], Child]:
    """Starts a process that locks a pipe's folder and stops; continued, it says "free"."""

    def start(name: str) -> Child:
        holder = child(HOLDER, str(folder_of(name) / "lock"))
        assert holder.line() == "locked"
        h.until(lambda: Path(f"/proc/{holder.pid}/stat").read_text().split()[2] == "T")
        return holder

    return start


@contextlib.contextmanager
def within(longest: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < longest, f"{took:.2f} s"


@contextlib.contextmanager
def ticking() -> Iterator[None]:
    """Another thread runs all the time: never is it kept from that for long."""
    stop, gaps = threading.Event(), [0.0]

    def tick() -> None:
        last = time.monotonic()
        while not stop.wait(0.001):
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert max(gaps) < 1, f"no thread ran for {max(gaps):.2f} s"


@pytest.fixture
def owner(child: Start, name: str) -> Child:
    """Another process that owns the pipe, with a limit."""
    worker = child(
        """
        import sys, npipe
        listener = npipe.listen(sys.argv[1], max_instances=10)
        print("listening", flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert worker.line() == "listening"
    return worker


def test_listen_says_after_its_bound_that_the_folder_is_locked(
    name: str, owner: Child, stopped: Callable[[str], Child]
) -> None:
    holder = stopped(name)
    began = time.monotonic()
    with ticking(), within(LATE), pytest.raises(npipe.PipeResourceError) as caught:
        npipe.listen(name, max_instances=10, exclusive=False)
    assert time.monotonic() - began >= BOUND
    assert caught.value.winerror == 1450
    assert "lock of the pipe's folder" in str(caught.value)
    with ticking(), within(LATE), pytest.raises(pywintypes.error) as raised:
        win32pipe.CreateNamedPipe(name, 3, 4, 10, 0, 0, 0, None)
    assert raised.value.winerror == 1450
    os.kill(holder.pid, signal.SIGCONT)
    assert holder.line() == "free"
    npipe.listen(name, max_instances=10, exclusive=False).close()
    assert owner.process.poll() is None


def test_listen_waits_for_a_lock_that_is_let_go_of_in_time(
    name: str, owner: Child, stopped: Callable[[str], Child]
) -> None:
    holder = stopped(name)
    call = h.blocked(lambda: npipe.listen(name, max_instances=10, exclusive=False))
    os.kill(holder.pid, signal.SIGCONT)
    call.result().close()
    assert owner.process.poll() is None


def test_listen_hears_signals_while_it_waits_for_the_lock(
    child: Start, name: str, stopped: Callable[[str], Child]
) -> None:
    with npipe.listen(name, max_instances=10):
        stopped(name)
        worker = child(
            """
            import sys, npipe
            print("begin", flush=True)
            try:
                npipe.listen(sys.argv[1], max_instances=10, exclusive=False)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            """,
            name,
        )
        assert worker.line() == "begin"
        h.until(lambda: h.asleep(worker.pid))
        with within(2):
            os.kill(worker.pid, signal.SIGINT)
            assert worker.line() == "interrupted"


def test_other_pipes_other_threads_and_forks_do_not_wait_for_one_who_waits_for_the_lock(
    name: str, owner: Child, stopped: Callable[[str], Child]
) -> None:
    stopped(name)
    call = h.blocked(lambda: npipe.listen(name, max_instances=10, exclusive=False))
    with ticking(), within(BOUND / 2):
        with npipe.listen(name + "-other", max_instances=2) as other:
            with npipe.connect(other.name) as client, other.accept(5) as server:
                client.send(b"x")
                assert server.recv(timeout=5) == b"x"
        with npipe.connect(name):  # of the locked one, too
            pass
        npipe.list_pipes()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    assert call.code(LATE) == 1450
    assert owner.process.poll() is None


@pytest.mark.parametrize("how", ["close", "drop", "collect", "CloseHandle", "PyHANDLE", "aio"])
def test_close_of_the_last_instance_does_not_wait_and_the_pipe_has_gone(
    name: str, stopped: Callable[[str], Child], how: str
) -> None:
    made: list[Any] = []
    if how in ("close", "drop", "collect"):
        made.append(npipe.listen(name))
    elif how == "aio":
        pass
    else:
        made.append(win32pipe.CreateNamedPipe(name, 3, 4, 10, 0, 0, 0, None))
    if how == "aio":
        holders: list[Child] = []

        async def listen_and_close() -> None:
            async with npipe.aio.listen(name):
                holders.append(stopped(name))

        with ticking():
            asyncio.run(listen_and_close())
        holder = holders[0]
    else:
        holder = stopped(name)
        with ticking(), within(1):
            if how == "close":
                made[0].close()
            elif how == "CloseHandle":
                made[0].Close()
            elif how == "collect":
                made[0].cycle = made[0]
                made.clear()
                gc.collect()
            made.clear()
    with within(1), pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)
    assert folder_of(name).exists()
    os.kill(holder.pid, signal.SIGCONT)
    assert holder.line() == "free"
    h.until(lambda: not folder_of(name).exists())  # the native thread has come back to it
    npipe.listen(name).close()


def test_name_can_be_taken_again_by_whoever_gets_the_lock_after_a_close_in_vain(
    name: str, stopped: Callable[[str], Child]
) -> None:
    first = npipe.listen(name)
    holder = stopped(name)
    first.close()
    call = h.blocked(lambda: npipe.listen(name))
    os.kill(holder.pid, signal.SIGCONT)
    with call.result() as again, npipe.connect(name) as client, again.accept(5) as server:
        client.send(b"x")
        assert server.recv(timeout=5) == b"x"
    h.until(lambda: not folder_of(name).exists())


def test_accept_that_has_to_create_keeps_its_time_out_and_close_does_not_wait_for_it(
    name: str, owner: Child, stopped: Callable[[str], Child]
) -> None:
    with npipe.listen(name, max_instances=10, exclusive=False) as listener:
        place = listener._listening
        instance, place.end = place.end, None  # as after a client at the limit
        assert instance is not None
        stopped(name)
        with ticking(), within(1.5), pytest.raises(npipe.PipeTimeoutError):
            listener.accept(0.3)
        with within(1), pytest.raises(npipe.PipeTimeoutError):
            listener.accept(0)
        call = h.started(lambda: listener.accept())
        h.until(lambda: bool(place._changed._waiters))  # type: ignore[attr-defined]
        with within(1):
            listener.close()
            instance.close_handle()
        assert call.code(1) == 109
    assert owner.process.poll() is None


def test_aio_accept_keeps_its_time_out_and_lets_the_loop_run(
    name: str, owner: Child, stopped: Callable[[str], Child]
) -> None:
    async def accept() -> float:
        longest = 0.0
        stopping = asyncio.Event()

        async def tick() -> None:
            nonlocal longest
            while not stopping.is_set():
                began = time.monotonic()
                await asyncio.sleep(0.001)
                longest = max(longest, time.monotonic() - began)

        async with npipe.aio.listen(name, max_instances=10, exclusive=False) as listener:
            instances: Any = listener._instances
            instance, instances._listening = instances._listening, None
            assert instance is not None
            stopped(name)
            ticks = asyncio.create_task(tick())
            with within(1.5), pytest.raises(npipe.PipeTimeoutError):
                await listener.accept(0.3)
            with within(LATE), pytest.raises(npipe.PipeResourceError) as caught:
                await listener.accept()
            assert caught.value.winerror == 1450
            instance.close_handle()
            stopping.set()
            await ticks
        return longest

    assert asyncio.run(accept()) < 1
    assert owner.process.poll() is None


def test_process_ends_although_the_lock_is_held(child: Start, name: str, stopped: Callable[[str], Child]) -> None:
    worker = child(
        """
        import sys, npipe
        listeners = [npipe.listen(sys.argv[1]), npipe.listen(sys.argv[1] + "-2")]
        print("listening", flush=True)
        sys.stdin.readline()
        import os
        if sys.argv[2] == "unclosed":
            globals()["kept"] = listeners  # till the interpreter's end, and the process's
        else:
            for listener in listeners:
                listener.close()
        """,
        name,
        "unclosed",
    )
    assert worker.line() == "listening"
    holders = [stopped(name), stopped(name + "-2")]
    worker.say("end")
    with within(3):
        assert worker.wait() == 0
    with within(1), pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)
    for holder in holders:
        os.kill(holder.pid, signal.SIGCONT)
        assert holder.line() == "free"
    npipe.listen(name).close()
    npipe.listen(name + "-2").close()


def test_connect_to_a_dead_owners_pipe_does_not_wait_for_the_lock(
    child: Start, name: str, stopped: Callable[[str], Child]
) -> None:
    worker = child(
        "import sys, npipe; kept = npipe.listen(sys.argv[1]); print('listening', flush=True); sys.stdin.read()", name
    )
    assert worker.line() == "listening"
    stopped(name)
    worker.kill()
    with within(1), pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)
    with within(1):
        assert npipe.list_pipes() == []
