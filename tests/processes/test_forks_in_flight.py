"""A fork while other threads connect, wait, close and clean up: what was in their hands ends as if there had been none.

The children live until the test's end, so whatever they kept would stay as long.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import npipe
from tests import rendezvous
from tests.helpers import CHECKOUT, requests_held, settle, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]

COMMON = """
    import asyncio, contextlib, ctypes, multiprocessing, os, pty, signal, socket, struct, sys, threading, time, npipe
    from pathlib import Path

    name = sys.argv[1]
    children = []

    def live():
        # What a child does: nothing, for as long as its parent lives, and without its parent's standard output.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        signal.alarm(60)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0), os.dup2(null, 1), os.close(null)
        while True:
            signal.pause()

    def fork(how="os.fork"):
        if how == "multiprocessing":
            process = multiprocessing.get_context("fork").Process(target=live, daemon=True)
            process.start()
            children.append(process.pid)
            return
        pid = os.fork() if how == "os.fork" else pty.fork()[0]
        if pid == 0:
            live()
        children.append(pid)

    def end():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        print("ended", flush=True)
        os._exit(0)
"""


def program(child: Start, script: str, *arguments: str) -> Child:
    return child(textwrap.dedent(COMMON) + textwrap.dedent(script), *arguments)


CALLS = {
    "connect": "npipe.connect(name, timeout=2)",
    "wait": "npipe.wait(name, timeout=2)",
    "aio.connect": "asyncio.run(npipe.aio.connect(name, timeout=2))",
    "aio.wait": "asyncio.run(npipe.aio.wait(name, timeout=2))",
    "WaitNamedPipe": "npipe.win32.win32pipe.WaitNamedPipe(name, 2000)",
    "CallNamedPipe": "npipe.win32.win32pipe.CallNamedPipe(name, b'x', 100, 2000)",
}


WAYS = ["os.fork", "multiprocessing", "pty.fork"]  # they run the same handlers, so two calls will do for each


@pytest.mark.parametrize(
    ("call", "how"),
    [(call, how) for call in CALLS for how in WAYS if how == "os.fork" or call in ("connect", "aio.connect")],
)
def test_request_that_is_withdrawn_is_not_granted_later_whoever_forked_meanwhile(
    child: Start, name: str, call: str, how: str
) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        busy = npipe.connect(name)
        served = listener.accept(5)
        worker = program(
            child,
            f"""
            import npipe.aio, npipe.win32
            def call():
                try:
                    {CALLS[call]}
                    print("done", flush=True)
                except BaseException as error:
                    print(getattr(error, "winerror", repr(error)), flush=True)
            thread = threading.Thread(target=call)
            thread.start()
            sys.stdin.readline()
            fork({how!r})
            print("forked", flush=True)
            thread.join()
            sys.stdin.readline()
            end()
            """,
            name,
        )
        until(lambda: requests_held(name) == 1, 20)
        worker.say("fork")
        assert worker.line() == "forked"
        assert worker.line() == ("231" if call == "CallNamedPipe" else "121")
        until(lambda: requests_held(name) == 0)  # it was told, though the child lives
        served.close()
        busy.close()
        with pytest.raises(npipe.PipeTimeoutError):
            listener.accept(0.3)
        with npipe.connect(name, timeout=5) as mine, listener.accept(5) as server:
            mine.send(b"x")
            assert server.recv(timeout=5) == b"x"
        worker.say("end")
        assert worker.line() == "ended"


def test_request_of_a_call_whose_signal_handler_forked_is_made_anew_in_the_child(child: Start, name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        busy = npipe.connect(name)
        served = listener.accept(5)
        worker = program(
            child,
            """
            first = os.getpid()
            forked = []
            def handler(number, frame):
                forked.append(os.fork())
            signal.signal(signal.SIGUSR1, handler)
            with npipe.connect(name, timeout=20) as pipe:
                who = "parent" if os.getpid() == first else "child"
                pipe.send(who.encode())
                assert pipe.recv(timeout=20) == who.encode()
                print(who, flush=True)
            if os.getpid() != first:
                os._exit(0)
            assert os.waitpid(forked[0], 0)[1] == 0
            """,
            name,
        )
        until(lambda: requests_held(name) == 1, 20)
        os.kill(worker.pid, signal.SIGUSR1)
        until(lambda: requests_held(name) == 2, 20)
        served.close()
        busy.close()
        found = set()
        for _ in range(2):
            with listener.accept(10) as pipe:
                who = pipe.recv(timeout=10)
                pipe.send(who)
                found.add(who)
                with pytest.raises(npipe.PipeClosedError):
                    pipe.recv(timeout=10)
        assert found == {b"parent", b"child"}
        assert worker.wait() == 0


STORM = """
    stop = threading.Event()
    wrong = []
    def again_and_again(work):
        def run():
            try:
                while not stop.is_set():
                    work()
            except BaseException as error:
                wrong.append(repr(error))
        thread = threading.Thread(target=run, daemon=True)  # should this script fail, it ends all the same
        thread.start()
        return thread

    def storm(forks, pause=0.002):
        for _ in range(forks):
            fork()
            time.sleep(pause)  # or the threads would do nothing but wait for the forks

    def all_over(threads):
        stop.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert wrong == [], wrong
"""


SERVERS = {
    "recv": """
        def until_closed(pipe):
            with contextlib.suppress(npipe.PipeClosedError):
                while True:
                    pipe.recv(timeout=5)
    """,
    "selectors": """
        def until_closed(pipe):
            with contextlib.suppress(npipe.PipeClosedError):
                while True:
                    assert select.select([pipe], [], [], 5)[0], "not told"
                    pipe.recv(timeout=0)
    """,
    "aio": """
        async def serve_async():
            async def serve(pipe):
                async with pipe:
                    if await pipe.recv(timeout=5) == b"mine":
                        with contextlib.suppress(npipe.PipeClosedError):
                            await pipe.recv(timeout=5)
            async with asyncio.TaskGroup() as group, npipe.aio.listen(name) as listener:
                while not stop.is_set():
                    with contextlib.suppress(npipe.PipeTimeoutError):
                        group.create_task(serve(await listener.accept(0.2)))
    """,
}


@pytest.mark.parametrize("way", SERVERS)
def test_peers_are_told_of_each_close_at_once_whatever_forks_meanwhile(child: Start, name: str, way: str) -> None:
    """The client and the server close in turn, and the other one is told; each message arrives."""
    server = program(
        child,
        textwrap.dedent(STORM)
        + textwrap.dedent(SERVERS[way])
        + textwrap.dedent("""
        import select, npipe.aio
        def serve():
            try:
                pipe = listener.accept(0.2)
            except npipe.PipeTimeoutError:
                return
            with pipe:
                if pipe.recv(timeout=5) == b"mine":
                    until_closed(pipe)
        if "serve_async" in globals():
            threads = [again_and_again(lambda: asyncio.run(serve_async()))]
        else:
            listener = npipe.listen(name)
            threads = [again_and_again(serve) for _ in range(2)]
        while not npipe.list_pipes():
            time.sleep(0.01)
        print("ready", flush=True)
        storm(100)
        print("stormed", flush=True)
        sys.stdin.readline()
        all_over(threads)
        print("fine", flush=True)
        sys.stdin.readline()
        end()
        """),
        name,
    )
    assert server.line() == "ready"
    client = program(
        child,
        textwrap.dedent(STORM)
        + textwrap.dedent("""
        import select
        turns = 0
        def call():
            global turns
            turns += 1
            with npipe.connect(name, timeout=10) as pipe:
                pipe.send(b"mine")
            with npipe.connect(name, timeout=10) as pipe:
                pipe.send(b"your turn")
                assert select.select([pipe], [], [], 5)[0], "not told"
                try:
                    pipe.recv(timeout=0)
                except npipe.PipeClosedError as error:
                    assert error.winerror == 109
        threads = [again_and_again(call) for _ in range(2)]
        storm(100)
        all_over(threads)
        assert turns > 20, turns
        print("fine", flush=True)
        sys.stdin.readline()
        end()
        """),
        name,
    )
    assert server.line(60) == "stormed"
    assert client.line(60) == "fine"
    server.say("over")
    assert server.line(60) == "fine"
    for worker in (client, server):
        worker.say("end")
        assert worker.line() == "ended"


def test_child_has_nothing_of_what_other_threads_were_doing(child: Start, name: str) -> None:
    worker = program(
        child,
        textwrap.dedent(STORM)
        + textwrap.dedent("""
        root = os.environ["NPIPE_ROOT"]
        before = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd != "3"}
        listener = npipe.listen(name)
        def serve():
            try:
                listener.accept(0.2).close()
            except npipe.PipeTimeoutError:
                pass
        done = threading.Event()
        def serve_on():
            while not done.is_set():
                serve()
        server = threading.Thread(target=serve_on)
        server.start()
        def call():
            npipe.connect(name, timeout=10).close()
        def others():
            npipe.listen(name + "-more").close()
            npipe.list_pipes()
            npipe.exists(name) if hasattr(npipe, "exists") else npipe.wait(name, timeout=5)
            asyncio.run(dial())
        async def dial():
            with contextlib.suppress(npipe.PipeError):
                async with await npipe.aio.connect(name, timeout=10):
                    pass
        import npipe.aio
        threads = [again_and_again(work) for work in (call, call, others)]
        found = []
        for _ in range(40):
            r, w = os.pipe()
            pid = os.fork()
            if pid == 0:
                mine = []
                for fd in os.listdir("/proc/self/fd"):
                    with contextlib.suppress(FileNotFoundError):
                        target = os.readlink(f"/proc/self/fd/{fd}")
                        if target.startswith(root) or target.startswith("/memfd:npipe"):
                            mine.append(target)
                        if target.startswith("socket:"):
                            with socket.socket(fileno=os.dup(int(fd))) as it:
                                if it.type == socket.SOCK_SEQPACKET:
                                    mine.append(f"{target} {it!r}")
                mapped = Path("/proc/self/maps").read_text()
                mine += [line for line in mapped.splitlines() if "memfd:npipe" in line or root in line]
                os.write(w, repr(mine).encode())
                os._exit(0)
            os.close(w)
            with os.fdopen(r) as stream:
                found.append(stream.read())
            assert os.waitpid(pid, 0)[1] == 0
        all_over(threads)
        done.set()
        server.join()
        assert set(found) == {"[]"}, set(found)
        print("fine", flush=True)
        """),
        name,
    )
    assert worker.line(60) == "fine"
    assert worker.wait() == 0


def test_process_that_only_asks_forks_well_too(child: Start, name: str) -> None:
    """It has no pipe, and its questions take descriptors and locks of the engine's all the same."""
    with npipe.listen(name):
        worker = program(
            child,
            textwrap.dedent(STORM)
            + textwrap.dedent("""
            threads = [again_and_again(npipe.list_pipes), again_and_again(lambda: npipe.wait(name, timeout=5))]
            for _ in range(40):
                pid = os.fork()
                if pid == 0:
                    signal.alarm(10)
                    for fd in os.listdir("/proc/self/fd"):
                        with contextlib.suppress(FileNotFoundError):
                            target = os.readlink(f"/proc/self/fd/{fd}")
                            assert not target.startswith(("socket:", os.environ["NPIPE_ROOT"])), target
                    # Not list_pipes, which asks libc for users' names: its own locks may be another thread's here.
                    assert npipe.binding.list_named_pipes(os.environ["NPIPE_ROOT"])
                    npipe.wait(name, timeout=5)
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            all_over(threads)
            print("fine", flush=True)
            """),
            name,
        )
        assert worker.line(60) == "fine"
        assert worker.wait() == 0


def bring_the_dead(name: str) -> None:
    """Puts 127 owners who were killed beside the living one: to bury them takes time, with the lock."""
    folder = rendezvous.folder_of(name)
    with (folder / "pipe").open("r+b") as page:
        for number in range(1, 128):
            page.seek(rendezvous.place_at(number))
            page.write(rendezvous.Place(number, pid=1, instances=1, listening=1, waiters=0).packed())
            (folder / f"s{number:016x}").touch()  # which refuses, as a dead one's does


def test_fork_in_the_middle_of_a_sweep_leaves_no_lock_behind(child: Start, name: str) -> None:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(npipe.listen(f"{name}-{number}", max_instances=4)) for number in range(20)]
        for listener in listeners:
            bring_the_dead(listener.name)
        worker = program(
            child,
            """
            root = Path(os.environ["NPIPE_ROOT"])
            swept = False
            def sweep():
                global swept
                while len(list(root.glob("*/s*"))) > len(list(root.iterdir())):
                    npipe.list_pipes()
                swept = True
            thread = threading.Thread(target=sweep)
            thread.start()
            while not swept:
                fork()
                time.sleep(0.002)
            thread.join()
            print("swept", flush=True)
            sys.stdin.readline()
            end()
            """,
            name,
        )
        assert worker.line(60) == "swept"
        began = time.monotonic()
        for listener in listeners:  # with a limit, so that the lock is needed
            npipe.listen(listener.name, max_instances=4, exclusive=False).close()
        assert time.monotonic() - began < 2
        worker.say("end")
        assert worker.line() == "ended"


def test_listener_that_is_closed_refuses_at_once_and_its_backlog_is_told(child: Start, name: str) -> None:
    """The socket is closed in the middle of forks; its name is found no more, and who had come gets an answer."""
    worker = program(
        child,
        textwrap.dedent(STORM)
        + textwrap.dedent("""
        def open_and_close():
            with npipe.listen(name, exclusive=False):
                pass
        threads = [again_and_again(open_and_close)]
        print("ready", flush=True)
        storm(200, 0.001)
        all_over(threads)
        print("fine", flush=True)
        sys.stdin.readline()
        end()
        """),
        name,
    )
    assert worker.line() == "ready"
    longest, done = 0.0, False
    lines: list[str] = []
    while not done:
        began = time.monotonic()
        with contextlib.suppress(npipe.PipeNotFoundError, npipe.PipeClosedError, npipe.PipeBusyError):
            npipe.connect(name, timeout=5).abort()
        longest = max(longest, time.monotonic() - began)
        done = _has_line(worker, lines)
    assert lines == ["fine"]
    assert longest < 2, longest
    with npipe.listen(name):
        settle(name)
    worker.say("end")
    assert worker.line() == "ended"


def _has_line(worker: Child, lines: list[str]) -> bool:
    """Whether the worker has said something, which is taken then."""
    stream = worker.process.stdout
    assert stream is not None
    if not select.select([stream], [], [], 0)[0]:
        return False
    lines.append(worker.line())
    return True


def test_owner_who_waits_for_room_forks_and_the_other_one_does_not_keep_his_connection(child: Start, name: str) -> None:
    """STAY: a process that waits at the limit holds a connection to each other owner, until it waits no more."""
    with npipe.listen(name, max_instances=1) as listener:
        before = len(list(Path("/proc/self/fd").iterdir()))
        worker = program(
            child,
            """
            def accept():
                try:
                    npipe.listen(name, max_instances=1, exclusive=False)
                except npipe.PipeBusyError:
                    pass
            from npipe import binding
            from npipe.names import parse_name
            parsed = parse_name(name)
            place = os.environ["NPIPE_ROOT"], parsed.folder, parsed.display
            def wait():
                with contextlib.suppress(npipe.PipeTimeoutError):
                    binding.wait_closed(*place, binding.closed_instances(), 0.001)
            accept()
            threads = [threading.Thread(target=lambda: [wait() for _ in range(400)]) for _ in range(2)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                fork()
                time.sleep(0.01)
            print("fine", flush=True)
            sys.stdin.readline()
            end()
            """,
            name,
        )
        assert worker.line(60) == "fine"
        extra = 3  # the child's standard input and output, and what is open for a moment
        until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before + extra)
        worker.say("end")
        assert worker.line() == "ended"
        with npipe.connect(name) as pipe, listener.accept(5) as server:
            pipe.send(b"x")
            assert server.recv(timeout=5) == b"x"


SOURCES = CHECKOUT / "src" / "npipe" / "engine"


def test_every_descriptor_of_the_engine_is_made_and_closed_where_a_fork_can_see_it() -> None:
    """One that is closed otherwise would be closed once more in a child, where its number is another file's."""
    calls = re.compile(
        r"(?<![\w.>])(close|closedir|socket|socketpair|accept|accept4|memfd_create|open|openat|eventfd|timerfd_create|"
        r"epoll_create1|dup|dup2|dup3|pipe2|signalfd|inotify_init1|fopen|opendir)\("
    )
    made = re.compile(r"np_fd_made\((?:\w+)\(")
    wrong = []
    for source in sorted(SOURCES.rglob("*.c")):
        if source.name == "fds.c":
            continue
        for number, line in enumerate(source.read_text().splitlines(), 1):
            code = re.sub(r'"[^"]*"', '""', line).split("/*")[0].strip()
            if code.startswith("*") or not calls.search(code) or made.search(code):
                continue
            if code == "close(received);":  # by np_receive_message, which has np_fds_hold
                continue
            wrong.append(f"{source.name}:{number}: {code}")
    assert wrong == []
