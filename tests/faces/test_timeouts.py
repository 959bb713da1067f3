"""A time-out is for the whole call, whoever is at the other end, and whoever asked for no wait gets none."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.win32 import completion, pywintypes, win32event, win32file, win32pipe
from tests import rendezvous
from tests.helpers import Background, until
from tests.win32 import helpers as w

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from tests.conftest import Child

GOODWILL = 1.0  # seconds that an open without a wait gives a server (docs/semantics.md, 2.5)
SLACK = 0.6  # seconds, on a machine that is busy

LISTENING = """
    import sys, npipe
    listeners = [npipe.listen(name) for name in sys.argv[1:]]
    print("there", flush=True)
    input()
"""

SHARING = """
    import sys, npipe
    with npipe.listen(sys.argv[1], exclusive=False) as listener:
        print("there", flush=True)
        while True:
            listener.accept().close()
"""


@contextlib.contextmanager
def lasts(least: float, most: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert least - 0.02 <= took <= most + SLACK, f"it took {took:.3f} s, {least} to {most} were due"


def stop(process: Child) -> None:
    os.kill(process.pid, signal.SIGSTOP)
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)  # there is no event for it, but to the parent, whom Popen makes deaf


@pytest.fixture
def stopped(name: str, child: Callable[..., Child]) -> Iterator[str]:
    """A pipe whose server is stopped."""
    server = child(LISTENING, name)
    assert server.line() == "there"
    stop(server)
    yield name
    os.kill(server.pid, signal.SIGCONT)


def winerror(call: Callable[[], object]) -> int:
    with pytest.raises((npipe.PipeError, pywintypes.error)) as caught:
        call()
    return int(caught.value.winerror)  # type: ignore[attr-defined]


def create_file(name: str) -> Any:
    return win32file.CreateFile(name, win32file.GENERIC_READ, 0, None, win32file.OPEN_EXISTING, 0, None)


async def connect_and_leave(name: str) -> None:
    (await npipe.aio.connect(name, timeout=5)).abort()


# ---- A server that is stopped

BOUNDED: dict[str, tuple[Callable[[str], object], float, float, int]] = {
    "connect": (lambda name: npipe.connect(name, timeout=0.3), 0.3, 0.3, 121),
    "connect, 0": (lambda name: npipe.connect(name, timeout=0), 0, GOODWILL, 231),
    "call": (lambda name: npipe.call(name, b"x", timeout=0.3), 0.3, 0.3, 231),
    "wait": (lambda name: npipe.wait(name, timeout=0.3), 0.3, 0.3, 121),
    "wait, 0": (lambda name: npipe.wait(name, timeout=0), 0, GOODWILL, 121),
    "wait, default": (lambda name: npipe.wait(name, timeout="default"), 0, GOODWILL, 121),
    "aio.connect": (lambda name: asyncio.run(npipe.aio.connect(name, timeout=0.2)), 0.2, 0.2, 121),
    "aio.connect, 0": (lambda name: asyncio.run(npipe.aio.connect(name, timeout=0)), 0, GOODWILL, 231),
    "aio.call": (lambda name: asyncio.run(npipe.aio.call(name, b"x", timeout=0.2)), 0.2, 0.2, 231),
    "aio.wait": (lambda name: asyncio.run(npipe.aio.wait(name, timeout=0.2)), 0.2, 0.2, 121),
    "aio.wait, 0": (lambda name: asyncio.run(npipe.aio.wait(name, timeout=0)), 0, GOODWILL, 121),
    "aio.wait, default": (lambda name: asyncio.run(npipe.aio.wait(name, timeout="default")), 0, GOODWILL, 121),
    "CreateFile": (create_file, 0, GOODWILL, 231),
    "WaitNamedPipe": (lambda name: win32pipe.WaitNamedPipe(name, 200), 0.2, 0.2, 121),
    "WaitNamedPipe, default": (lambda name: win32pipe.WaitNamedPipe(name, 0), 0, GOODWILL, 121),
    "CallNamedPipe": (lambda name: win32pipe.CallNamedPipe(name, b"x", 100, 100), 0.1, 0.2, 231),
    "CallNamedPipe, default": (lambda name: win32pipe.CallNamedPipe(name, b"x", 100, 0), 0, 3 * GOODWILL, 231),
}


@pytest.mark.parametrize("way", BOUNDED)
def test_a_stopped_server_holds_nobody_longer_than_was_asked_for(stopped: str, way: str) -> None:
    call, least, most, code = BOUNDED[way]
    with lasts(least, most):
        assert winerror(lambda: call(stopped)) == code


def test_the_error_says_that_the_server_does_not_answer(stopped: str) -> None:
    with pytest.raises(npipe.PipeTimeoutError, match="does not answer"):
        npipe.connect(stopped, timeout=0.1)
    with pytest.raises(npipe.PipeBusyError, match="does not answer"):
        npipe.connect(stopped, timeout=0)


def test_the_command_keeps_its_time_out(stopped: str) -> None:
    with lasts(0, 2):  # most of it is the interpreter's start
        done = subprocess.run([sys.executable, "-m", "npipe", "wait", "--timeout", "0.2", stopped], timeout=20)
    assert done.returncode != 0


def test_a_stopped_servers_pipe_is_listed_as_its_folder_tells(name: str, stopped: str) -> None:
    with npipe.listen(name + "-living"), lasts(0, GOODWILL):
        found = {pipe.name: pipe for pipe in npipe.list_pipes()}
    assert found[stopped].instances == 1
    assert found[stopped].type == "message"
    assert found[stopped].direction == "duplex"
    assert set(found) == {stopped, name + "-living"}


def test_a_listing_has_one_bound_for_any_number_of_silent_pipes(name: str, child: Callable[..., Child]) -> None:
    names = [f"{name}-{number}" for number in range(60)]
    server = child(LISTENING, *names)
    assert server.line() == "there"
    stop(server)
    with npipe.listen(name), lasts(0, GOODWILL):
        assert {pipe.name for pipe in npipe.list_pipes()} == {name, *names}
    os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_one_stopped_owner_does_not_hide_another_who_listens(name: str, child: Callable[..., Child], face: str) -> None:
    first, second = child(SHARING, name), child(SHARING, name)
    assert first.line() == second.line() == "there"
    stop(first)
    for _ in range(4):  # whichever is asked first
        with lasts(0, 0.5):
            if face == "sync":
                npipe.connect(name, timeout=5).abort()
            else:
                asyncio.run(connect_and_leave(name))
    os.kill(first.pid, signal.SIGCONT)


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_a_silent_and_a_dead_socket_do_not_stretch_the_time_out(
    name: str, child: Callable[..., Child], face: str
) -> None:
    first, second = child(SHARING, name), child(SHARING, name)
    assert first.line() == second.line() == "there"
    stop(first)
    second.kill()
    with lasts(0.5, 0.6):
        if face == "sync":
            assert winerror(lambda: npipe.connect(name, timeout=0.5)) == 121
        else:
            assert winerror(lambda: asyncio.run(npipe.aio.connect(name, timeout=0.5))) == 121
    os.kill(first.pid, signal.SIGCONT)


def test_a_server_that_goes_on_in_time_answers(name: str, child: Callable[..., Child]) -> None:
    server = child(LISTENING, name)
    assert server.line() == "there"
    stop(server)
    waiting = Background(lambda: npipe.connect(name, timeout=10))
    os.kill(server.pid, signal.SIGCONT)
    waiting.result(5).abort()


def test_ctrl_c_ends_a_connect_to_a_stopped_server(stopped: str, child: Callable[..., Child]) -> None:
    for call in ("connect(sys.argv[1], timeout=None)", "wait(sys.argv[1])"):
        client = child(f"import sys, npipe\nprint('there', flush=True)\nnpipe.{call}\n", stopped)
        assert client.line() == "there"
        while not _polls(client.pid):
            time.sleep(0.001)
        os.kill(client.pid, signal.SIGINT)
        assert client.wait(5) != 0


def _polls(pid: int) -> bool:
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in {"271", "73"}  # ppoll, on x86-64 and on arm64


@pytest.mark.parametrize(
    "way", ["connect", "connect, 0", "aio.connect", "aio.connect, 0", "CreateFile", "WaitNamedPipe"]
)
def test_a_backlog_that_is_full_holds_nobody_either(name: str, way: str) -> None:
    call, least, most, code = BOUNDED[way]
    with _full_backlog(name):
        with lasts(least, most):
            assert winerror(lambda: call(name)) == code
        with lasts(0, GOODWILL):
            assert npipe.list_pipes() == []


def test_a_wait_before_a_full_backlog_can_be_cancelled(name: str) -> None:
    thread: list[w.Handle] = []

    def wait() -> None:
        thread.append(w.thread_handle())
        win32pipe.WaitNamedPipe(name, 30_000)

    with _full_backlog(name), lasts(0, 10):
        waiting = Background(wait)
        until(lambda: bool(thread) and w.code_of(completion.CancelSynchronousIo, thread[0]) == 0)
        assert w.code_of(waiting.result) == 995


@contextlib.contextmanager
def _full_backlog(name: str) -> Iterator[None]:
    with rendezvous.own(name, backlog=0), rendezvous.dial(name):
        yield


# ---- A server that cannot make segments

NO_MEMORY = """
    import resource, sys, npipe
    with npipe.listen(sys.argv[1]) as listener:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        print("there", flush=True)
        try:
            listener.accept(20)
        except npipe.PipeResourceError as error:
            print(error.winerror, "File too large" in str(error), flush=True)
        input()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        print("again", flush=True)
        listener.accept(20).send(b"hello")
        input()
"""
AIO_NO_MEMORY = """
    import asyncio, resource, sys, npipe, npipe.aio
    async def main():
        listener = npipe.aio.listen(sys.argv[1])
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        print("there", flush=True)
        try:
            await listener.accept(20)
        except npipe.PipeResourceError as error:
            print(error.winerror, "File too large" in str(error), flush=True)
        input()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        print("again", flush=True)
        await (await listener.accept(20)).send(b"hello")
        input()
    asyncio.run(main())
"""
WIN32_NO_MEMORY = """
    import resource, sys, npipe
    from npipe.win32 import completion, pywintypes, win32event, win32file, win32pipe
    handle = win32pipe.CreateNamedPipe(sys.argv[1], 3 | 0x40000000 * int(sys.argv[2]), 4 | 2, 255, 4096, 4096, 0, None)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    def connect():
        if not int(sys.argv[2]):
            return win32pipe.ConnectNamedPipe(handle, None)
        overlapped = pywintypes.OVERLAPPED()
        overlapped.hEvent = win32event.CreateEvent(None, True, False, None)
        if win32pipe.ConnectNamedPipe(handle, overlapped) == 997:
            win32event.WaitForSingleObject(overlapped.hEvent, 20000)
            win32file.GetOverlappedResult(handle, overlapped, False)
    print("there", flush=True)
    try:
        connect()
    except pywintypes.error as error:
        print(error.winerror, True, flush=True)
    input()
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print("again", flush=True)
    connect()
    win32file.WriteFile(handle, b"hello")
    input()
"""


@pytest.mark.parametrize("client", ["sync", "aio", "without a wait", "win32"])
@pytest.mark.parametrize(
    ("script", "argument"),
    [(NO_MEMORY, ""), (AIO_NO_MEMORY, ""), (WIN32_NO_MEMORY, "0"), (WIN32_NO_MEMORY, "1")],
    ids=["sync", "aio", "blocking", "overlapped"],
)
def test_no_memory_for_a_connection_is_told_to_both_ends(
    name: str, child: Callable[..., Child], script: str, argument: str, client: str
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "sync": lambda: npipe.connect(name, timeout=10),
        "aio": lambda: asyncio.run(npipe.aio.connect(name, timeout=10)),
        "without a wait": lambda: npipe.connect(name, timeout=0),
        "win32": lambda: create_file(name),
    }
    server = child(script, name, argument)
    assert server.line() == "there"
    with lasts(0, 1), pytest.raises((npipe.PipeResourceError, pywintypes.error)) as caught:
        calls[client]()
    assert caught.value.winerror == 1450  # type: ignore[attr-defined]
    assert client == "win32" or "File too large" in str(caught.value)
    assert server.line() == "1450 True"
    server.say("")
    assert server.line() == "again"
    with npipe.connect(name, timeout=10) as pipe:
        assert pipe.recv(timeout=5) == b"hello"
        server.say("")
        assert server.wait(10) == 0


def test_the_signal_of_the_file_size_limit_kills_no_server(name: str, child: Callable[..., Child]) -> None:
    usual = "import signal\n    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n    import resource,"
    script = NO_MEMORY.replace("import resource,", usual)
    server = child(script, name)
    assert server.line() == "there"
    assert winerror(lambda: npipe.connect(name, timeout=5)) == 1450
    assert server.line() == "1450 True"


# ---- Without /proc

WITHOUT_PROC = """
    set -e
    mount -t tmpfs none /proc
    test ! -e /proc/self
    exec "$0" -c "$1" "$2"
"""


def test_pipes_work_without_proc(name: str) -> None:
    script = textwrap.dedent(r"""
        import asyncio, os, sys, npipe, npipe.aio
        name = sys.argv[1]
        with npipe.serve(name, bytes.upper):
            assert npipe.call(name, b"abc", timeout=10) == b"ABC"
            assert asyncio.run(npipe.aio.call(name, b"abc", timeout=10)) == b"ABC"
            assert [pipe.name for pipe in npipe.list_pipes()] == [name]
            npipe.wait(name, timeout=5)
            here = os.getcwd()
        assert npipe.list_pipes() == [] and os.getcwd() == here
        print("well")
    """)
    unshare = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/proc"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    done = subprocess.run(
        [*unshare, "sh", "-c", WITHOUT_PROC, sys.executable, script, name], capture_output=True, text=True, timeout=50
    )
    assert done.stdout == "well\n", done.stderr


# ---- Times that are too large to be counted


@pytest.mark.parametrize("due", [-(2**61), -(2**62), -(2**63), 2**63 - 1, -(2**61) + 1, -(10**17)])
def test_a_timer_that_is_due_in_ages_does_not_ring(due: int) -> None:
    timer = win32event.CreateWaitableTimer(None, True, None)
    win32event.SetWaitableTimer(timer, due, 0, None, None, False)
    assert win32event.WaitForSingleObject(timer, 30) == win32event.WAIT_TIMEOUT


def test_a_timer_takes_no_more_than_windows_numbers() -> None:
    timer = win32event.CreateWaitableTimer(None, True, None)
    for due, period in ((2**63, 0), (-(2**63) - 1, 0), (0, 2**31)):
        with pytest.raises(OverflowError):
            win32event.SetWaitableTimer(timer, due, period, None, None, False)
    win32event.SetWaitableTimer(timer, -1, 2**31 - 1, None, None, False)
    assert win32event.WaitForSingleObject(timer, 1000) == win32event.WAIT_OBJECT_0


@pytest.mark.parametrize("timeout", [1e30, 1e300, 9.3e9, 9.2e18, 2**63, 2**64, 10**400, math.inf])
def test_a_time_out_beyond_all_clocks_is_for_ever(name: str, timeout: float) -> None:
    with npipe.listen(name) as listener:
        with npipe.connect(name, timeout=timeout) as client, listener.accept(timeout) as server:
            client.send(b"x", timeout=timeout)
            assert server.recv(timeout=timeout) == b"x"
            npipe.wait(name, timeout=timeout)
        taking = Background(lambda: listener.accept(timeout))
        with npipe.connect(name, timeout=5):  # accept passes over a client that has gone
            taking.result(5).abort()


@pytest.mark.parametrize("timeout", [1e30, 9.3e9, 2**63, 10**400, math.inf])
def test_so_it_is_on_an_event_loop(name: str, timeout: float) -> None:
    async def talk() -> None:
        async with npipe.aio.listen(name) as listener:
            taking = asyncio.create_task(listener.accept(timeout))
            await asyncio.sleep(0)
            async with await npipe.aio.connect(name, timeout=timeout) as client, await taking as server:
                receiving = asyncio.create_task(server.recv(timeout=timeout))
                await asyncio.sleep(0)
                await client.send(b"x", timeout=timeout)
                assert await receiving == b"x"

    asyncio.run(talk())


# ---- Crowds: what a process holds is bounded for all of its pipes together

CROWDED = """
    import os, resource, sys, npipe
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), hard))
    servers = [npipe.serve(name, bytes.upper, model="threaded") for name in sys.argv[2:]]
    print(len(os.listdir("/proc/self/fd")), flush=True)
    while input():
        print(len(os.listdir("/proc/self/fd")), flush=True)
"""


def test_silent_connections_to_five_pipes_leave_the_process_descriptors(name: str, child: Callable[..., Child]) -> None:
    names = [f"{name}-{number}" for number in range(5)]
    server = child(CROWDED, "512", *names)
    before = int(server.line())
    crowd = []
    for number in range(500):
        crowd.append(rendezvous.dial(names[number % 5]))
        if number % 50 == 0:
            assert npipe.call(names[number // 50 % 5], b"hello", timeout=10) == b"HELLO"
    server.say("count")
    assert int(server.line()) - before <= 512 / 8 + 20
    for each in names:
        assert npipe.call(each, b"hello", timeout=10) == b"HELLO"
    for raw in crowd:
        raw.close()


def test_held_requests_to_five_pipes_leave_the_process_descriptors(name: str, child: Callable[..., Child]) -> None:
    names = [f"{name}-{number}" for number in range(5)]
    server = child(
        CROWDED.replace('npipe.serve(name, bytes.upper, model="threaded")', "busy(name)").replace(
            "    servers =", BUSY + "    servers ="
        ),
        "512",
        *names,
    )
    before = int(server.line())
    crowd = [rendezvous.dial(names[number % 5]) for number in range(450)]
    for raw in crowd:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has been dropped for its silence
            raw.send(rendezvous.request(rendezvous.WAIT))
    answered = [_code(raw) for raw in crowd]
    assert set(answered) <= {997, 1450, None}
    server.say("count")
    assert int(server.line()) - before <= 512 / 2 + 2
    for raw in crowd:
        raw.close()
    assert winerror(lambda: npipe.wait(names[0], timeout=0.2)) == 121  # held again


BUSY = """
    def busy(name):
        listener = npipe.listen(name, max_instances=1)
        return listener, npipe.connect(name), listener.accept(5)
"""


def _code(raw: socket.socket) -> int | None:
    with contextlib.suppress(ConnectionResetError):
        data = raw.recv(4096)
        return rendezvous.code_of(data) if data else None
    return None


# ---- A peer that takes its messages back

TAKING_BACK = """
    import sys, npipe
    pipe = npipe.connect(sys.argv[1])
    data = b"x" * (256 << 20)
    print("there", flush=True)
    while True:
        try:
            pipe.send(data, timeout=0.003)
        except npipe.PipeTimeoutError:
            pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a write is there as a whole, or not at all")
def test_a_recv_ends_in_time_though_its_messages_are_taken_back(child: Callable[..., Child], name: str) -> None:
    with npipe.listen(name, in_buffer_size=100, max_message_size=1 << 30) as listener:
        assert child(TAKING_BACK, name).line() == "there"
        with listener.accept(timeout=5) as pipe:
            for timeout in (0.5, 0):
                began = time.monotonic()
                assert winerror(lambda timeout=timeout: pipe.recv(timeout=timeout)) == 121  # type: ignore[misc]
                assert timeout <= time.monotonic() - began < timeout + 0.1 + SLACK


@pytest.mark.skipif(sys.platform == "win32", reason="a write is there as a whole, or not at all")
def test_an_event_loops_recv_ends_in_time_though_its_messages_are_taken_back(
    child: Callable[..., Child], name: str
) -> None:
    async def talk() -> None:
        async with npipe.aio.listen(name, in_buffer_size=100, max_message_size=1 << 30) as listener:
            process = child(TAKING_BACK, name)
            async with await listener.accept(5) as pipe:
                assert process.line() == "there"
                longest = 0.0
                receiving = asyncio.ensure_future(pipe.recv(timeout=0.5))
                began = turn = time.monotonic()
                while not receiving.done():
                    await asyncio.sleep(0)
                    now = time.monotonic()
                    longest, turn = max(longest, now - turn), now
                with pytest.raises(npipe.PipeTimeoutError):
                    receiving.result()
                assert 0.5 <= turn - began < 0.5 + SLACK
                assert longest < SLACK

    asyncio.run(talk())
