"""Descriptors run out, descriptors by the thousand, and what idle connections cost."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

import pytest

import npipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]

HOARD = """
    import os, resource, sys, threading, time, npipe
    name = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    hoard = []
    def fill(leave=0):
        try:
            while True:
                hoard.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for _ in range(leave):
            os.close(hoard.pop())
    def free():
        while hoard:
            os.close(hoard.pop())
"""


def script(text: str) -> str:
    import textwrap

    return textwrap.dedent(HOARD) + textwrap.dedent(text)


def test_server_without_descriptors_does_not_spin_and_its_clients_wait(child: Start, name: str) -> None:
    server = child(
        script(
            """
            listener = npipe.listen(name)
            fill()
            print("full", flush=True)
            sys.stdin.readline()
            before = time.process_time()
            time.sleep(1)
            print(time.process_time() - before, flush=True)
            sys.stdin.readline()
            free()
            for number in range(3):
                with listener.accept(10) as pipe:
                    pipe.send(pipe.recv(timeout=10))
                    pipe.flush(timeout=10)
            print("served", flush=True)
            """
        ),
        name,
    )
    assert server.line() == "full"
    clients = [
        child("import sys, npipe; print(npipe.call(sys.argv[1], b'x', timeout=20), flush=True)", name) for _ in range(3)
    ]
    server.say("measure")
    assert float(server.line()) < 0.2
    server.say("go on")
    for client in clients:
        assert client.line() == "b'x'"
    assert server.line() == "served"


def test_threaded_server_outlives_a_shortage_of_descriptors(child: Start, name: str) -> None:
    server = child(
        script(
            """
            import logging
            logging.disable(logging.CRITICAL)
            server = npipe.serve(name, bytes.upper)
            first = npipe.connect(name)
            assert first.transact(b"a", timeout=10) == b"A"
            fill()
            print("full", flush=True)
            sys.stdin.readline()
            before = time.process_time()
            time.sleep(1)
            used = time.process_time() - before
            assert first.transact(b"b", timeout=10) == b"B"  # what is connected works
            print(used, flush=True)
            free()
            sys.stdin.readline()
            """
        ),
        name,
    )
    assert server.line() == "full"
    clients = [
        child("import sys, npipe; print(npipe.call(sys.argv[1], b'x', timeout=20), flush=True)", name) for _ in range(3)
    ]
    server.say("measure")
    assert float(server.line()) < 0.2
    for client in clients:
        assert client.line() == "b'X'"


@pytest.mark.parametrize("left", range(8))
def test_calls_without_descriptors_fail_clearly_and_lose_none(child: Start, name: str, left: int) -> None:
    with npipe.serve(name, bytes.upper):
        worker = child(
            script(
                f"""
                assert npipe.call(name, b"warm") == b"WARM"
                npipe.listen(name + "-own").close()
                npipe.list_pipes()
                fill()
                for _ in range({left}):
                    os.close(hoard.pop())
                before = len(hoard)
                for call in (
                    lambda: npipe.connect(name, timeout=5).close(), lambda: npipe.listen(name + "-own").close(),
                    lambda: npipe.wait(name, timeout=5), npipe.list_pipes,
                ):
                    for _ in range(3):
                        try:
                            call()
                        except npipe.PipeResourceError as error:
                            assert error.winerror in (4, 8, 1450), error
                fill()
                print(len(hoard) - before, flush=True)
                free()
                print(npipe.call(name, b"again", timeout=10), flush=True)
                """
            ),
            name,
        )
        assert worker.line() == str(left)
        assert worker.line() == "b'AGAIN'"
        assert worker.wait() == 0


def test_connect_without_any_descriptor(child: Start, name: str) -> None:
    with npipe.listen(name):
        worker = child(
            script(
                """
                npipe.names.parse_name(name)
                npipe.listen(name + "-warm").close()
                fill()
                try:
                    npipe.connect(name)
                    print("connected", flush=True)
                except npipe.PipeResourceError as error:
                    print(error.winerror, flush=True)
                """
            ),
            name,
        )
        assert worker.line() == "4"


def test_closing_at_the_limit_without_descriptors_still_closes(child: Start, name: str) -> None:
    worker = child(
        script(
            """
            listener = npipe.listen(name, max_instances=1)
            client = npipe.connect(name)
            server = listener.accept(10)
            fill()
            try:
                server.close()
                outcome = "closed"
            except npipe.PipeError as error:
                outcome = repr(error)
            try:
                client.recv(timeout=5)
            except npipe.PipeError as error:
                print(outcome, server.closed, error.winerror, flush=True)
            free()
            client.close()
            with npipe.connect(name, timeout=5) as again, listener.accept(5) as pipe:
                again.send(b"x")
                print(pipe.recv(timeout=5), flush=True)
            """
        ),
        name,
    )
    assert worker.line() == "closed True 109"
    assert worker.line() == "b'x'"


def test_accept_without_descriptors_says_so_and_goes_on_afterwards(child: Start, name: str) -> None:
    worker = child(
        script(
            """
            listener = npipe.listen(name)
            clients = [npipe.connect(name)]
            fill()
            first = listener.accept(5)  # this client is there already
            try:
                listener.accept(0.2)
                print("accepted", flush=True)
            except (npipe.PipeResourceError, npipe.PipeTimeoutError) as error:
                print(type(error).__name__, flush=True)
            free()
            thread = threading.Thread(target=lambda: clients.append(npipe.connect(name, timeout=5)))
            thread.start()
            second = listener.accept(5)
            thread.join()
            for client, server in zip(clients, (first, second)):
                client.send(b"x")
                assert server.recv(timeout=5) == b"x"
            print("fine", flush=True)
            """
        ),
        name,
    )
    assert worker.line() in ("PipeResourceError", "PipeTimeoutError")
    assert worker.line() == "fine"


def test_descriptors_of_closed_abandoned_and_misused_pipes(child: Start, name: str) -> None:
    worker = child(
        """
        import gc, os, sys, npipe
        name = sys.argv[1]
        count = lambda: len(os.listdir("/proc/self/fd"))
        with npipe.listen(name):
            npipe.connect(name).close()  # the native thread runs, and a folder may be remembered
        before = count()
        for _ in range(20):
            listener = npipe.listen(name)
            client = npipe.connect(name); server = listener.accept()
            client.close(); server.abort(); listener.close()
        print("closed", count() - before, flush=True)
        for _ in range(20):
            listener = npipe.listen(name)
            client = npipe.connect(name); server = listener.accept()
            client.fileno(); server.fileno()
            client.close(); server.close(); listener.close()
        print("with fileno", count() - before, flush=True)
        for _ in range(20):
            listener = npipe.listen(name)
            client = npipe.connect(name); server = listener.accept()
            del client, server, listener
            gc.collect()
        print("abandoned", count() - before, flush=True)
        listener = npipe.listen(name)
        here = count()
        for _ in range(20):
            client = npipe.connect(name); server = listener.accept()
            client.fileno(); server.fileno()
            del client, server
            gc.collect()
        print("abandoned with fileno", count() - here, flush=True)
        client = npipe.connect(name); client.close()
        here = count()
        for _ in range(20):
            try:
                client.fileno()
            except npipe.PipeClosedError:
                pass
        gc.collect()
        print("fileno of a closed pipe", count() - here, flush=True)
        listener.close()
        """,
        name,
    )
    for what in ("closed", "with fileno", "abandoned", "abandoned with fileno", "fileno of a closed pipe"):
        assert worker.line() == f"{what} 0"


@pytest.mark.parametrize("left", [0, 1])
def test_fileno_without_descriptors_says_so_and_leaves_none(child: Start, name: str, left: int) -> None:
    worker = child(
        script(
            f"""
            import gc
            listener = npipe.listen(name)
            client = npipe.connect(name); server = listener.accept()
            before = len(os.listdir("/proc/self/fd"))
            fill({left})
            try:
                client.fileno()
            except npipe.PipeResourceError as error:
                print(error.winerror, flush=True)
            free()
            gc.collect()
            print(len(os.listdir("/proc/self/fd")) - before, flush=True)
            server.send(b"x")
            import select
            print(select.select([client], [], [], 20)[0] == [client], flush=True)
            """
        ),
        name,
    )
    assert [worker.line() for _ in range(3)] == ["4", "0", "True"]


def test_waits_between_connections_keep_no_segment(child: Start, name: str) -> None:
    worker = child(
        """
        import sys, time, npipe
        name = sys.argv[1]
        with npipe.listen(name) as listener:
            for _ in range(200):
                npipe.wait(name, timeout=20)
                with npipe.connect(name) as client, listener.accept(20) as server:
                    client.send(b"x")
                    server.recv(timeout=20)
        until = time.monotonic() + 10
        while open("/proc/self/maps").read().count("memfd:npipe-link") and time.monotonic() < until:
            time.sleep(0.01)  # what is kept for the next connection is kept for a moment
        print(open("/proc/self/maps").read().count("memfd:npipe-link"), flush=True)
        """,
        name,
    )
    assert worker.line() == "0"


@pytest.mark.slow
def test_ten_thousand_connections_of_one_server(child: Start, name: str) -> None:
    total, each = 10_000, 5_000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < total + 200:
        pytest.skip(f"needs {total + 200} descriptors in one process, the hard limit is {hard}")
    server = child(
        f"""
        import os, resource, sys, npipe
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        before = len(os.listdir("/proc/self/fd"))
        listener = npipe.listen(sys.argv[1])
        print("listening", flush=True)
        pipes = [listener.accept(30) for _ in range({total})]
        print("accepted", flush=True)
        for pipe in pipes:
            pipe.send(pipe.recv(timeout=30).upper())
        print("answered", flush=True)
        for pipe in pipes[::2]:
            pipe.close()
        for pipe in pipes[1::2]:
            try:
                pipe.recv(timeout=30)
            except npipe.PipeClosedError as error:
                assert error.winerror == 109
            pipe.close()
        listener.close()
        maps = open("/proc/self/maps").read().count("memfd:npipe")
        print(len(os.listdir("/proc/self/fd")) - before - 2, maps, flush=True)
        """,
        name,
    )
    assert server.line() == "listening"
    clients = [
        child(
            f"""
            import os, resource, sys, npipe
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            pipes = [npipe.connect(sys.argv[1], timeout=30)]
            before = len(os.listdir("/proc/self/fd")) - 1
            pipes += [npipe.connect(sys.argv[1], timeout=30) for _ in range({each} - 1)]
            print("connected", flush=True)
            for number, pipe in enumerate(pipes):
                pipe.send(b"client %d" % number)
            for number, pipe in enumerate(pipes):
                assert pipe.recv(timeout=30) == b"CLIENT %d" % number
            for pipe in pipes:
                pipe.close()
            print(len(os.listdir("/proc/self/fd")) - before, flush=True)
            """,
            name,
        )
        for _ in range(2)
    ]
    for client in clients:
        assert client.line(40) == "connected"
    assert server.line(40) == "accepted"
    assert server.line(40) == "answered"
    for client in clients:
        assert client.line(40) == "0"
    assert server.line(40) == "0 0"


def test_idle_connections_and_a_blocked_reader_use_no_cpu(child: Start, name: str) -> None:
    server = child(
        """
        import sys, threading, time, npipe
        listener = npipe.listen(sys.argv[1])
        print("listening", flush=True)
        pipes = [listener.accept(20) for _ in range(300)]
        threads = [threading.Thread(target=lambda p=p: p.recv(), daemon=True) for p in pipes[:20]]
        threads.append(threading.Thread(target=listener.accept, daemon=True))
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        sys.stdin.readline()
        before = time.process_time()
        time.sleep(2)
        print(time.process_time() - before, flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert server.line() == "listening"
    client = child(
        """
        import sys, threading, time, npipe
        pipes = [npipe.connect(sys.argv[1]) for _ in range(300)]
        for pipe in pipes[-5:]:
            pipe.fileno()
        threading.Thread(target=pipes[50].recv, daemon=True).start()
        print("ready", flush=True)
        sys.stdin.readline()
        before = time.process_time()
        time.sleep(2)
        print(time.process_time() - before, flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert server.line() == "ready"
    assert client.line() == "ready"
    time.sleep(0.3)  # spinning, if there is any, may take that long to die down
    server.say("measure")
    client.say("measure")
    assert float(server.line()) < 0.02
    assert float(client.line()) < 0.02
