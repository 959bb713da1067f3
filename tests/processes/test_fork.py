"""fork in the middle of everything, and exec: the child has none of the parent's ends, the parent keeps them all."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

import pytest

import npipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]

COMMON = """
    import gc, os, signal, subprocess, sys, threading, time, npipe
    name = sys.argv[1]

    def code(call):
        try:
            return call()
        except npipe.PipeError as error:
            return type(error).__name__, error.winerror

    def in_child(work):
        # Returns what `work` printed, in a forked child that must come to a good end.
        sys.stdout.flush()
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(r)
            signal.alarm(10)
            status = 1
            try:
                os.write(w, repr(work()).encode())
                status = 0
            except BaseException as error:
                os.write(w, repr(error).encode())
            finally:
                os._exit(status)
        os.close(w)
        with os.fdopen(r) as stream:
            said = stream.read()
        status = os.waitpid(pid, 0)[1]
        return status, said
"""


def run(child: Start, name: str, script: str, *, says: list[str] | None = None) -> None:
    import textwrap

    worker = child(textwrap.dedent(COMMON) + textwrap.dedent(script), name)
    for expected in says or ["fine"]:
        assert worker.line(20) == expected
    assert worker.wait() == 0


def test_inherited_ends_are_closed_in_the_child_and_live_in_the_parent(child: Start, name: str) -> None:
    run(
        child,
        name,
        """
        listener = npipe.listen(name)
        client = npipe.connect(name)
        server = listener.accept()
        server.send(b"before")
        server.fileno(), client.fileno()

        def use():
            calls = {
                "send": lambda: client.send(b"x"), "recv": lambda: client.recv(timeout=5),
                "recv_into": lambda: client.recv_into(bytearray(5), timeout=5),
                "transact": lambda: client.transact(b"x", timeout=5), "peek": client.peek, "flush": client.flush,
                "info": lambda: client.info, "peer": lambda: client.peer, "fileno": client.fileno,
                "server.send": lambda: server.send(b"x"), "server.recv": lambda: server.recv(timeout=5),
                "server.fileno": server.fileno, "accept": lambda: listener.accept(5),
            }
            wrong = {what: got for what, got in ((what, code(call)) for what, call in calls.items())
                     if not isinstance(got, tuple) or got[0] != "PipeClosedError"}
            assert client.closed and server.closed
            assert not client.more_data
            client.close(); server.close(); client.abort(); listener.close()
            return wrong

        status, said = in_child(use)
        assert (status, said) == (0, "{}"), (status, said)
        assert client.recv(timeout=5) == b"before"
        server.send(b"after"); assert client.recv(timeout=5) == b"after"
        client.send(b"back"); assert server.recv(timeout=5) == b"back"
        with npipe.connect(name) as second, listener.accept(5) as accepted:
            second.send(b"x"); assert accepted.recv(timeout=5) == b"x"
        print("fine", flush=True)
        """,
    )


def test_child_has_no_descriptor_and_no_mapping_of_the_parents_pipes(child: Start, name: str) -> None:
    run(
        child,
        name,
        """
        before = len(os.listdir("/proc/self/fd"))
        listener = npipe.listen(name)
        client = npipe.connect(name)
        server = listener.accept()
        client.fileno(), server.fileno()
        def use():
            maps = open("/proc/self/maps").read()
            return len(os.listdir("/proc/self/fd")) - before - 1, maps.count("memfd:npipe")
        status, said = in_child(use)
        assert (status, said) == (0, "(0, 0)"), (status, said)
        print("fine", flush=True)
        """,
    )


def test_peer_notices_the_parents_death_although_the_child_lives(child: Start, name: str) -> None:
    listener = npipe.listen(name)
    worker = child(
        """
        import os, sys, npipe
        pipe = npipe.connect(sys.argv[1])
        own = npipe.listen(sys.argv[1] + "-own")
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            os.read(0, 1)
            os._exit(0)
        os.waitpid(-1, 0)
        """,
        name,
    )
    pipe = listener.accept(20)
    grandchild = int(worker.line())
    other = npipe.connect(name + "-own")
    worker.kill()
    for end in (pipe, other):
        with pytest.raises(npipe.PipeClosedError) as caught:
            end.recv(timeout=5)
        assert caught.value.winerror == 109
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name + "-own")
    os.kill(grandchild, 9)
    pipe.close()
    other.close()
    listener.close()


def test_child_opens_and_serves_pipes_of_its_own(child: Start, name: str) -> None:
    run(
        child,
        name,
        """
        listener = npipe.listen(name)
        client = npipe.connect(name); server = listener.accept()
        def use():
            mine = npipe.connect(name)  # of the parent's listener
            mine.send(b"from the child")
            own = npipe.listen(name + "-child")
            with npipe.connect(name + "-child") as c, own.accept(5) as s:
                c.send(b"x"); assert s.recv(timeout=5) == b"x"
                names = sorted(pipe.name for pipe in npipe.list_pipes())
            own.close()
            try:
                npipe.listen(name)
            except npipe.PipeAccessError:
                pass
            shared = npipe.listen(name, exclusive=False)
            shared.close()
            return len(names)
        status, said = in_child(use)
        assert (status, said) == (0, "2"), (status, said)
        with listener.accept(5) as pipe:
            assert pipe.recv(timeout=5) == b"from the child"
        server.send(b"still"); assert client.recv(timeout=5) == b"still"
        listener.close(); client.close(); server.close()
        assert os.listdir(os.environ["NPIPE_ROOT"]) == []
        print("fine", flush=True)
        """,
    )


def test_child_that_ends_in_the_usual_way_removes_nothing_of_the_parents(child: Start, name: str) -> None:
    run(
        child,
        name,
        """
        listener = npipe.listen(name)
        client = npipe.connect(name); server = listener.accept()
        pid = os.fork()
        if pid == 0:
            gc.collect()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        npipe.connect(name).close()
        server.send(b"x"); assert client.recv(timeout=5) == b"x"
        print("fine", flush=True)
        """,
    )


def test_grandchildren_and_repeated_forks(child: Start, name: str) -> None:
    run(
        child,
        name,
        """
        def generation(depth):
            own = name + str(depth)
            with npipe.listen(own) as listener, npipe.connect(own) as client, listener.accept(5) as server:
                if depth:
                    status, said = in_child(lambda: generation(depth - 1))
                    assert status == 0, said
                client.send(b"x"); assert server.recv(timeout=5) == b"x"
            return "ok"
        for _ in range(5):
            assert generation(4) == "ok"
        print("fine", flush=True)
        """,
    )


def test_fork_while_other_threads_are_at_work(child: Start, name: str) -> None:
    run(
        child,
        name,
        """
        stop = threading.Event()
        listener = npipe.listen(name)
        errors = []

        def serve():
            for pipe in listener:
                threading.Thread(target=echo, args=(pipe,), daemon=True).start()

        def echo(pipe):
            with pipe:
                for message in pipe:
                    pipe.send(message)

        def talk():
            try:
                while not stop.is_set():
                    with npipe.connect(name) as pipe:
                        for size in (0, 10, 1000, 100_000, 400_000):
                            assert pipe.transact(bytes(size), timeout=20) == bytes(size)
            except BaseException as error:
                errors.append(repr(error))

        acceptors = [threading.Thread(target=serve, daemon=True) for _ in range(2)]
        talkers = [threading.Thread(target=talk) for _ in range(4)]
        for thread in acceptors + talkers:
            thread.start()
        for _ in range(40):
            def use():
                with npipe.listen(name + "-child" + str(os.getpid())) as own:
                    with npipe.connect(own.name) as c, own.accept(5) as s:
                        c.send(b"x"); s.recv(timeout=5)
                return "ok"
            status, said = in_child(use)
            assert (status, said) == (0, "'ok'"), (status, said)
        stop.set()
        for thread in talkers:
            thread.join(20)
            assert not thread.is_alive()
        assert errors == [], errors
        print("fine", flush=True)
        """,
    )


def test_child_may_close_what_other_threads_of_the_parent_were_using(child: Start, name: str) -> None:
    run(
        child,
        name,
        """
        listener = npipe.listen(name)
        client = npipe.connect(name); server = listener.accept()
        busy = [threading.Thread(target=lambda: code(lambda: listener.accept()), daemon=True) for _ in range(4)]
        busy += [threading.Thread(target=lambda: code(lambda: client.recv()), daemon=True)]
        busy += [threading.Thread(target=lambda: code(lambda: server.send(bytes(1 << 20))), daemon=True)]
        stop = threading.Event()
        def churn():
            while not stop.is_set():
                npipe.connect(name).close()
        busy += [threading.Thread(target=churn, daemon=True)]
        for thread in busy:
            thread.start()
        for _ in range(60):
            def use():
                listener.close(); client.close(); server.close()
                return "ok"
            status, said = in_child(use)
            assert (status, said) == (0, "'ok'"), (status, said)
        stop.set()
        print("fine", flush=True)
        """,
    )


@pytest.mark.parametrize(
    "call", ["client.recv()", "listener.accept()", "client.send(bytes(1 << 20))", "client.flush()"]
)
def test_fork_in_a_signal_handler_inside_a_blocking_call(child: Start, name: str, call: str) -> None:
    run(
        child,
        name,
        f"""
        listener = npipe.listen(name)
        client = npipe.connect(name); server = listener.accept()
        if "flush" in {call!r}:
            client.send(b"unread")
        first = os.getpid()
        pids = []
        class Done(Exception):
            pass
        def handler(number, frame):
            if pids:
                raise Done
            pids.append(os.fork())
            if not pids[0]:
                threading.Timer(5, os._exit, (9,)).start()
            if pids[0]:
                signal.setitimer(signal.ITIMER_REAL, 0.2)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        watchdog = threading.Timer(8, os._exit, (9,))
        watchdog.daemon = True
        watchdog.start()
        try:
            {call}
            outcome = "returned"
        except Done:
            outcome = "done"
        except npipe.PipeClosedError:
            outcome = "closed"
        if os.getpid() != first:
            os._exit(0 if outcome == "closed" else 1)
        assert outcome == "done", outcome
        assert os.waitpid(pids[0], 0)[1] == 0
        print("fine", flush=True)
        """,
    )


def test_child_of_another_thread_hears_signals_in_blocking_calls(child: Start, name: str) -> None:
    run(
        child,
        name,
        """
        listener = npipe.listen(name)
        client = npipe.connect(name); server = listener.accept()
        class Done(Exception):
            pass
        def handler(number, frame):
            raise Done
        def use():
            # The thread that forked is the first one now, which it was not when it waited last.
            signal.alarm(0)
            signal.signal(signal.SIGALRM, handler)
            with npipe.listen(name + "-child") as own, npipe.connect(name + "-child") as c, own.accept(5) as s:
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                end = time.monotonic() + 8
                try:
                    c.recv(timeout=8)
                except Done:
                    return "heard" if time.monotonic() < end else "heard when it was over"
        def work():
            try:
                client.recv(timeout=0.05)
            except npipe.PipeTimeoutError:
                pass
            said.append(in_child(use))
        said = []
        thread = threading.Thread(target=work)
        thread.start(); thread.join()
        assert said == [(0, "'heard'")], said
        print("fine", flush=True)
        """,
    )


def test_executed_programs_inherit_nothing(child: Start, name: str) -> None:
    run(
        child,
        name,
        """
        show = [sys.executable, "-c", "import os; print(len(os.listdir('/proc/self/fd')))"]
        before = subprocess.check_output(show, close_fds=False)
        listener = npipe.listen(name)
        client = npipe.connect(name); server = listener.accept()
        client.fileno(); server.fileno()
        assert subprocess.check_output(show, close_fds=False) == before
        assert subprocess.check_output(show, close_fds=False, preexec_fn=lambda: None) == before
        server.send(b"x"); assert client.recv(timeout=5) == b"x"
        print("fine", flush=True)
        """,
    )


def _client(name: str) -> None:
    with npipe.connect(name) as pipe:
        assert pipe.transact(b"hello", timeout=20) == b"HELLO"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_multiprocessing_are_clients_however_they_start(name: str, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with npipe.serve(name, bytes.upper):
        workers: list[Any] = [context.Process(target=_client, args=(name,)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
            assert worker.exitcode == 0
        assert npipe.call(name, b"x", timeout=10) == b"X"


def test_a_forked_child_has_a_pool_without_connections_and_makes_its_own(child: Start, name: str) -> None:
    with npipe.serve(name, lambda _, connection: b"%d" % connection.number):
        run(
            child,
            name,
            """
            pool = npipe.Pool(name, size=2)
            with pool.connection() as pipe:
                assert pipe.transact(b"x") == b"1"
                assert pool.call(b"x") == b"2"

                def use():
                    before = pool.stats
                    try:
                        pipe.transact(b"x", timeout=5)
                    except npipe.PipeClosedError:
                        pass
                    with pool.connection() as one, pool.connection() as other:
                        own = one.transact(b"x", timeout=5), other.transact(b"x", timeout=5)
                    return (before.idle, before.in_use, before.connected), own, pool.stats.idle

                status, said = in_child(use)
                assert (status, said) == (0, "((0, 0, 0), (b'3', b'4'), 2)"), (status, said)
                assert pipe.transact(b"x") == b"1"
            assert [pool.call(b"x") for _ in range(3)] == [b"1"] * 3
            assert (pool.stats.connected, pool.stats.dropped) == (2, 0)
            print("fine", flush=True)
            """,
        )


def test_a_block_that_ends_in_a_forked_child_gives_nothing_to_its_pool(child: Start, name: str) -> None:
    with npipe.serve(name, lambda _, connection: b"%d" % connection.number):
        run(
            child,
            name,
            """
            pool = npipe.Pool(name, size=1)
            busy = threading.Thread(target=lambda: [pool.call(b"x", timeout=10) for _ in range(3000)])
            with pool.connection() as pipe:
                busy.start()  # which waits
                while not pool.stats.waiting:
                    time.sleep(0.001)
                r, w = os.pipe()
                pid = os.fork()
            if pid == 0:
                signal.alarm(10)
                os.write(w, repr((pool.stats.idle, pool.stats.in_use, pool.stats.waiting)).encode())
                with pool.connection() as pipe:  # its one
                    too_many = code(lambda: pool.call(b"x", timeout=0.01))
                    told = pipe.transact(b"x", timeout=5), too_many, pool.stats.connected
                os.write(w, repr(told).encode())
                os._exit(0)
            os.close(w)
            with os.fdopen(r) as stream:
                assert stream.read() == "(0, 0, 0)(b'2', ('PipeTimeoutError', 121), 1)"
            assert os.waitpid(pid, 0)[1] == 0
            busy.join()
            assert pool.call(b"x", timeout=5) == b"1"
            print("fine", flush=True)
            """,
        )


def test_forks_in_the_middle_of_a_pool_s_calls_leave_both_sides_a_pool(child: Start, name: str) -> None:
    with npipe.serve(name, bytes.upper):
        run(
            child,
            name,
            """
            pool = npipe.Pool(name, size=2)
            over, wrong = threading.Event(), []
            def call():
                while not over.is_set():
                    if pool.call(b"x", timeout=10) != b"X":
                        wrong.append(1)
            threads = [threading.Thread(target=call) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(20):
                status, said = in_child(lambda: [pool.call(b"child", timeout=5) for _ in range(3)])
                assert (status, said) == (0, "[b'CHILD', b'CHILD', b'CHILD']"), (status, said)
            over.set()
            for thread in threads:
                thread.join()
            assert not wrong and pool.stats.in_use == 0 and pool.stats.dropped == 0
            print("fine", flush=True)
            """,
        )


def test_a_forked_child_uses_the_parent_s_async_pool_on_a_loop_of_its_own(child: Start, name: str) -> None:
    with npipe.serve(name, lambda _, connection: b"%d" % connection.number):
        run(
            child,
            name,
            """
            import asyncio, npipe.aio, warnings
            warnings.simplefilter("error", ResourceWarning)
            pool = npipe.aio.Pool(name, size=2)

            async def use():
                async with pool.connection() as one, pool.connection() as other:
                    return await one.transact(b"x"), await other.transact(b"x"), pool.stats.connected

            with asyncio.Runner() as runner:
                assert runner.run(use()) == (b"1", b"2", 2)

                def work():
                    async def all_of_it():
                        try:
                            return await use()
                        finally:
                            await pool.close()
                    return asyncio.run(all_of_it())

                status, said = in_child(work)
                assert (status, said) == (0, "(b'3', b'4', 2)"), (status, said)
                assert runner.run(use()) == (b"1", b"2", 2)
                runner.run(pool.close())
            print("fine", flush=True)
            """,
        )


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_a_server_s_child_leaves_its_block_at_once_and_the_parent_serves_on(name: str, model: Any) -> None:
    with npipe.serve(name, bytes.upper, model=model) as server:
        assert npipe.call(name, b"before", timeout=10) == b"BEFORE"
        child = os.fork()
        if child == 0:
            try:
                server.close()
                os._exit(0 if server.wait(0) and "closed" in repr(server) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert npipe.call(name, b"after", timeout=10) == b"AFTER"


def test_what_a_child_asks_of_a_pipe_s_attributes_is_said_to_be_the_parent_s(name: str) -> None:
    with npipe.listen(name), npipe.connect(name) as pipe:
        child = os.fork()
        if child == 0:
            try:
                pipe.info  # noqa: B018
            except npipe.PipeClosedError as error:
                os._exit(0 if "forked" in str(error) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
