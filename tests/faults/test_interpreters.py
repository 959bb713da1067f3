"""fork, threads, signals and ends of the interpreter at any moment: each message once, each call with an end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests import helpers as h
from tests.faults import helpers as f

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]
    Figure = Callable[[str], None]

pytestmark = pytest.mark.timeout(60 * f.MINUTES)


def script(*parts: str) -> str:
    return "\n".join(textwrap.dedent(part) for part in parts)


# Numbered messages in both directions at once, as fast as they go, until the side that is told says it is enough.
STREAMS = """
    import contextlib, json, multiprocessing, os, random, signal, sys, threading, time, zlib, npipe
    name = sys.argv[1]
    END = b""

    def message(number, seed):
        size = (number * 7919 + seed) % (300_000 if number % 50 == 0 else 3_000)
        body = bytes([(number + seed) % 251]) * size
        return number.to_bytes(8, "little") + zlib.crc32(body).to_bytes(4, "little") + body

    class Stream:
        def __init__(self, pipe, out_seed, in_seed):
            self.sent = self.received = 0
            self.errors, self.enough = [], threading.Event()
            self.pipe, self.out_seed, self.in_seed = pipe, out_seed, in_seed
            self.threads = [threading.Thread(target=work) for work in (self.send, self.receive)]
            for thread in self.threads:
                thread.start()
        def send(self):
            try:
                while not self.enough.is_set():
                    self.pipe.send(message(self.sent, self.out_seed), timeout=60)
                    self.sent += 1
                self.pipe.send(END, timeout=60)
            except BaseException as error:
                self.errors.append(repr(error))
        def receive(self):
            try:
                while (got := self.pipe.recv(timeout=60)) != END:
                    assert got == message(self.received, self.in_seed), (self.received, got[:12], len(got))
                    self.received += 1
            except BaseException as error:
                self.errors.append(repr(error))
            self.enough.set()  # the other side has had enough too
        def end(self):
            self.enough.set()
            for thread in self.threads:
                thread.join()
            print(json.dumps([self.sent, self.received, self.errors]), flush=True)

    def join(pid):
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, status
"""


def streams(child: Start, name: str, work: str, figure: Figure, *arguments: str) -> None:
    """Two processes that stream to each other, while both do `work` again and again; nothing may be lost."""
    server = child(
        script(STREAMS, "listener = npipe.listen(name)\nprint('on', flush=True)\npipe = listener.accept(20)", work),
        name,
        "server",
        *arguments,
    )
    assert server.line() == "on"
    client = child(script(STREAMS, "pipe = npipe.connect(name)", work), name, "client", *arguments)
    (sent, received, errors), (answered, got, wrong) = (
        json.loads(one.line(60 * f.MINUTES)) for one in (server, client)
    )
    assert (errors, wrong) == ([], [])
    assert (received, got) == (answered, sent)
    for one in (server, client):
        assert one.wait() == 0
    figure(f"{sent:,} and {answered:,} messages, all accounted for")


# ---- fork


def test_forks_with_traffic_in_both_directions(child: Start, name: str, figure: Figure) -> None:
    """Children that end at once, that try the parent's ends, and that have pipes of their own."""
    work = """
    stream = Stream(pipe, *((1, 2) if sys.argv[2] == "server" else (2, 1)))
    for turn in range(int(sys.argv[3])):
        pid = os.fork()
        if pid == 0:
            status = 1
            signal.alarm(20)
            try:
                if turn % 3 == 1:
                    for call in (lambda: pipe.send(b"x"), lambda: pipe.recv(timeout=5), lambda: pipe.flush(timeout=5)):
                        try:
                            call()
                        except npipe.PipeClosedError:
                            continue
                        os._exit(2)
                    pipe.close()
                elif turn % 3 == 2:
                    with npipe.listen(f"{name}-{os.getpid()}") as own, npipe.connect(own.name) as c, own.accept(5) as s:
                        c.send(b"own")
                        assert s.recv(timeout=5) == b"own"
                status = 0
            finally:
                os._exit(status)
        join(pid)
    stream.end()
    """
    streams(child, name, work, figure, str(f.rounds(60, 1500)))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_with_traffic_in_both_directions(child: Start, name: str, figure: Figure, method: str) -> None:
    """Pools whose workers connect to their parent, who goes on streaming meanwhile."""
    work = """
    open(sys.argv[4] + f"/asker_{sys.argv[2]}.py", "w").write(  # what spawned workers run, they import
        "import os, npipe\\ndef ask(number): return npipe.call(os.environ['ASK'], b'%d' % number, timeout=30)\\n")
    sys.path.insert(0, sys.argv[4])
    asker = __import__(f"asker_{sys.argv[2]}")
    os.environ["ASK"] = f"{name}-{sys.argv[2]}"
    with npipe.serve(os.environ["ASK"], lambda request: request[::-1]):
        stream = Stream(pipe, *((1, 2) if sys.argv[2] == "server" else (2, 1)))
        for _ in range(int(sys.argv[3])):
            with multiprocessing.get_context(sys.argv[5]).Pool(2) as pool:
                assert pool.map(asker.ask, range(20)) == [str(number)[::-1].encode() for number in range(20)]
        stream.end()
    """
    rounds = f.rounds(1, 20)
    streams(child, name, work, figure, str(rounds), os.environ["NPIPE_ROOT"] + "/..", method)


# ---- Signals


def test_signals_during_transfers_of_two_processes(child: Start, name: str, figure: Figure) -> None:
    """A signal twice a millisecond in each, with handlers that return; and both are stopped and go on again."""
    work = """
    count = 0
    def handler(number, frame):
        global count
        count += 1
    signal.signal(signal.SIGALRM, handler)
    stream = Stream(pipe, *((1, 2) if sys.argv[2] == "server" else (2, 1)))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    stopper = os.fork()
    if stopper == 0:
        for _ in range(int(float(sys.argv[3]) * 20)):
            time.sleep(0.03)
            os.kill(os.getppid(), signal.SIGSTOP)
            time.sleep(0.005)
            os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    while True:
        with contextlib.suppress(InterruptedError):
            join(stopper)
            break
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert count > 20
    stream.end()
    """
    streams(child, name, work, figure, str(f.rounds(2, 60)))


INTERRUPTED = """
    import os, random, signal, sys, threading, time, npipe
    from npipe.win32 import completion, pywintypes, win32api, win32event, win32file, win32pipe
    from collections import Counter
    name, kind, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    class Stop(Exception):
        pass
    def handler(*_):
        raise Stop
    signal.signal(signal.SIGALRM, handler)

    def pair(name, **options):
        listener = npipe.listen(name, **options)
        client = npipe.connect(name)
        return listener, client, listener.accept(5)

    listener, client, server = pair(name)
    full_listener, full, full_server = pair(name + "-full", in_buffer_size=5)
    busy_listener, busy, busy_server = pair(name + "-busy", max_instances=1)
    idle = npipe.listen(name + "-idle")
    unread_listener, unread, unread_server = pair(name + "-unread")
    unread.send(b"unread")
    full.send(b"12345")
    ov_server = win32pipe.CreateNamedPipe(name + "-ov", 3 | 0x40000000, 4, 255, 4, 4, 0, None)
    ov_client = win32file.CreateFile(name + "-ov", 0xC0000000, 0, None, 3, 0x40000000, None)
    listening = win32pipe.CreateNamedPipe(name + "-ov", 3, 4, 255, 4, 4, 0, None)
    event = win32event.CreateEvent(None, 1, 0, None)
    port = win32file.CreateIoCompletionPort(-1, None, 0, 1)
    pended = win32file.OVERLAPPED()
    pended.hEvent = win32event.CreateEvent(None, 1, 0, None)
    win32file.ReadFile(ov_server, 5, pended)

    CALLS = {
        "recv": lambda: client.recv(timeout=0.01),
        "recv_into": lambda: client.recv_into(bytearray(9), timeout=0.01),
        "send": lambda: full.send(b"more", timeout=0.01),
        "send of a long one": lambda: full.send(bytes(300_000), timeout=0.01),
        "transact": lambda: client.transact(b"q", timeout=0.01),
        "flush": lambda: unread.flush(timeout=0.01),
        "accept": lambda: idle.accept(0.01),
        "connect": lambda: npipe.connect(name + "-busy", timeout=0.01),
        "call": lambda: npipe.call(name + "-busy", b"x", timeout=0.01),
        "wait": lambda: npipe.wait(name + "-busy", timeout=0.01),
        "WaitForSingleObject": lambda: win32event.WaitForSingleObject(event, 10),
        "WaitForMultipleObjects": lambda: win32event.WaitForMultipleObjects([event, pended.hEvent], False, 10),
        "SleepEx": lambda: completion.SleepEx(10, True),
        "Sleep": lambda: win32api.Sleep(10),
        "GetQueuedCompletionStatus": lambda: win32file.GetQueuedCompletionStatus(port, 10),
        "WaitNamedPipe": lambda: win32pipe.WaitNamedPipe(name + "-busy", 10),
    }
    call, chance, seen = CALLS[kind], random.Random(kind), Counter()
    longest = 0
    for _ in range(rounds):
        began = time.monotonic()
        try:
            moment = chance.choice([0.00002, 0.0001, 0.0005, 0.003])
            signal.setitimer(signal.ITIMER_REAL, moment * (0.5 + chance.random()))
            try:
                call()
                seen["returned"] += 1
            except npipe.PipeError as error:
                seen[error.winerror] += 1
            except pywintypes.error as error:
                seen[error.winerror] += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Stop:
            seen["stopped"] += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        longest = max(longest, time.monotonic() - began)
        while kind == "transact":  # the questions stay sent
            try:
                assert server.recv(timeout=0) == b"q"
            except npipe.PipeTimeoutError:
                break
            server.send(b"late")
            client.discard_reply(timeout=5)
    # All is as it was: what had been sent is there, and nothing of what was not.
    client.send(b"after"); assert server.recv(timeout=5) == b"after"
    server.send(b"back"); assert client.recv(timeout=5) == b"back"
    assert full_server.recv(timeout=5) == b"12345"
    try:
        full_server.recv(timeout=0.05)
        assert False, "a send that was withdrawn has arrived"
    except npipe.PipeTimeoutError:
        pass
    assert unread_server.recv(timeout=5) == b"unread"
    unread.flush(timeout=5)
    busy.close(); busy_server.close()
    with npipe.connect(name + "-busy", timeout=5) as c, busy_listener.accept(5) as s:
        c.send(b"x"); assert s.recv(timeout=5) == b"x"
    with npipe.connect(name + "-idle", timeout=5) as c, idle.accept(5) as s:
        c.send(b"x"); assert s.recv(timeout=5) == b"x"
    win32file.WriteFile(ov_client, b"ended")
    assert win32file.GetOverlappedResult(ov_server, pended, True) == 5
    print(dict(seen), flush=True)
    print(longest < 5, flush=True)
"""

BLOCKING = [
    *("recv", "recv_into", "send", "send of a long one", "transact", "flush", "accept", "connect", "call", "wait"),
    *(
        "WaitForSingleObject",
        "WaitForMultipleObjects",
        "SleepEx",
        "Sleep",
        "GetQueuedCompletionStatus",
        "WaitNamedPipe",
    ),
]


@pytest.mark.parametrize("call", BLOCKING)
def test_exceptions_from_handlers_at_any_moment_of_a_call(child: Start, name: str, figure: Figure, call: str) -> None:
    """Not only while it sleeps: before, behind and between its steps too. The pipe is as if it had not been called."""
    victim = child(script(INTERRUPTED), name, call, str(f.rounds(150, 5000)))
    found = victim.line(60 * f.MINUTES)
    assert found.startswith("{"), found
    assert victim.line() == "True"
    assert victim.wait() == 0
    figure(f"{call}: {found}")


# ---- The end of an interpreter

PENDING = """
    import atexit, os, sys, threading, time, npipe
    from npipe.win32 import completion, pywintypes, win32event, win32file, win32pipe
    name, how = sys.argv[1], sys.argv[2]
    listener = npipe.listen(name)
    client = npipe.connect(name)
    server = listener.accept(5)
    busy = npipe.listen(name + "-busy", max_instances=1)
    held = npipe.connect(name + "-busy")
    taken = busy.accept(5)
    ov_server = win32pipe.CreateNamedPipe(name + "-ov", 3 | 0x40000000, 4, 255, 4, 4, 0, None)
    ov_client = win32file.CreateFile(name + "-ov", 0xC0000000, 0, None, 3, 0x40000000, None)
    event = win32event.CreateEvent(None, 1, 0, None)
    port_server = win32pipe.CreateNamedPipe(name + "-port", 3 | 0x40000000, 4, 255, 4, 4, 0, None)
    port = win32file.CreateIoCompletionPort(port_server, None, 7, 1)
    packet = win32file.OVERLAPPED()
    win32pipe.ConnectNamedPipe(port_server, packet)
    pended = [win32file.OVERLAPPED() for _ in range(4)]
    buffers = [win32file.ReadFile(ov_server, 5, one) for one in pended]
    served = npipe.serve(name + "-served", bytes.upper)
    calls = [
        lambda: client.recv(), lambda: server.send(bytes(10 << 20)), lambda: listener.accept(),
        lambda: npipe.connect(name + "-busy", timeout=None), lambda: npipe.wait(name + "-busy"),
        lambda: held.recv_into(bytearray(10)), lambda: taken.transact(b"q"), lambda: held.flush(),
        lambda: win32event.WaitForSingleObject(event, -1), lambda: completion.SleepEx(-1, True),
        lambda: win32file.GetQueuedCompletionStatus(port, -1),
        lambda: win32file.GetOverlappedResult(ov_server, pended[0], True), lambda: served.wait(),
        lambda: [npipe.call(name + "-served", b"x") for _ in range(10**9)],
        lambda: (completion.ReadFileEx(ov_client, bytearray(10), win32file.OVERLAPPED(), lambda *_: None),
                 completion.SleepEx(-1, True)),
    ]
    early, ending = [], False
    def pend(call):
        try:
            call()
        except (npipe.PipeError, pywintypes.error, RuntimeError) as error:  # the last: OVERLAPPED collected
            if not ending:
                early.append(repr(error))
    for call in calls:
        threading.Thread(target=pend, args=(call,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.readline()
    ending = True
    assert not early, early
    if how == "exit":
        sys.exit(0)
    elif how == "os._exit":
        os._exit(0)
    elif how == "atexit":
        atexit.register(lambda: (client.close(), npipe.list_pipes(), listener.close()))
    elif how == "error":
        raise SystemExit(0)
    elif how == "collected":
        del client, server, listener, busy, held, taken, ov_server, ov_client, event, port, pended, buffers, calls, call
        del port_server, packet
        import gc
        gc.collect()
"""


@pytest.mark.parametrize("how", ["exit", "end", "os._exit", "atexit", "collected"])
def test_an_interpreter_ends_with_every_kind_of_operation_pending(name: str, figure: Figure, how: str) -> None:
    rounds = f.rounds(4, 60)
    took = []
    for number in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", script(PENDING), f"{name}-{number}", how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            peer = npipe.connect(f"{name}-{number}", timeout=20)
            began = time.monotonic()
            out, err = process.communicate("end\n", timeout=30)
            took.append(time.monotonic() - began)
            assert (process.returncode, out, err) == (0, "", "")
            with h.fails(109):
                peer.recv(timeout=20)
            peer.close()
        finally:
            process.kill()
            process.wait()
    assert npipe.list_pipes() == []
    figure(f"{how}: {rounds} ends with 15 calls blocked and 5 operations pended, {f.percentiles(took)}")


def test_a_sub_interpreter_is_refused_or_works() -> None:
    """It must not crash: one that the binding cannot serve is told so by ImportError."""
    name = "outside"  # it goes through two levels of quotes
    program = f"""
    import sys
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        import _interpreters as interpreters
    import npipe
    with npipe.listen({name!r}) as listener:
        made = interpreters.create()
        try:
            interpreters.run_string(made, '''
    try:
        import npipe
        with npipe.connect({name!r}) as pipe:
            pipe.send(b"from inside")
    except ImportError as error:
        pass
    ''')
        finally:
            interpreters.destroy(made)
        with npipe.connect({name!r}, timeout=20) as pipe:
            pipe.send(b"from outside")
            while True:
                with listener.accept(20) as server:
                    if server.recv(timeout=20) == b"from outside":
                        break
    print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script(program)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


# ---- Many threads on one pipe

CROWD = """
    import random, sys, threading, zlib, npipe
    name, senders, each = sys.argv[1], int(sys.argv[3]), int(sys.argv[4])
    if sys.argv[2] == "server":
        listener = npipe.listen(name, in_buffer_size=2000, out_buffer_size=2000)
        print("on", flush=True)
        pipe = listener.accept(20)
    else:
        pipe = npipe.connect(name)
    errors, lock = [], threading.Lock()
    seen = {number: [] for number in range(senders)}

    def guarded(work):
        def run(*arguments):
            try:
                work(*arguments)
            except BaseException as error:
                errors.append(repr(error))
        return run

    @guarded
    def send(me):
        chance = random.Random(me)
        for number in range(each):
            body = bytes([me]) * chance.choice([0, 5, 100, 100, 3000, 100_000 if number % 40 == 0 else 10])
            data = me.to_bytes(2, "little") + number.to_bytes(4, "little")
            data += zlib.crc32(body).to_bytes(4, "little") + body
            while True:
                try:
                    pipe.send(data, timeout=chance.choice([0.002, 60, 60]))
                    break
                except npipe.PipeTimeoutError:
                    pass  # nothing of it was sent

    @guarded
    def receive(me):
        chance = random.Random(-me)
        buffer = bytearray(200_000)
        while sum(map(len, seen.values())) < senders * each:
            try:
                if me % 3 == 0:
                    got = bytes(buffer[:pipe.recv_into(buffer, timeout=0.05)])
                elif me % 3 == 1:
                    pipe.peek()
                    got = pipe.recv(timeout=0.001)
                else:
                    got = pipe.recv(timeout=0.05)
            except npipe.PipeTimeoutError:
                continue
            sender, number = int.from_bytes(got[:2], "little"), int.from_bytes(got[2:6], "little")
            assert zlib.crc32(got[10:]) == int.from_bytes(got[6:10], "little"), (sender, number)
            with lock:
                seen[sender].append(number)

    threads = [threading.Thread(target=send, args=(me,)) for me in range(senders)]
    threads += [threading.Thread(target=receive, args=(me,)) for me in range(1, senders + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = {me: len(numbers) for me, numbers in seen.items() if sorted(numbers) != list(range(each))}
    print(errors, wrong, flush=True)
    sys.stdin.readline()  # nobody leaves before the other has got everything
"""


def test_many_threads_on_one_pipe_in_both_directions(child: Start, name: str, figure: Figure) -> None:
    senders, each = 16, f.rounds(150, 4000)
    server = child(script(CROWD), name, "server", str(senders), str(each))
    assert server.line() == "on"
    client = child(script(CROWD), name, "client", str(senders), str(each))
    for one in (server, client):
        assert one.line(60 * f.MINUTES) == "[] {}"
    for one in (server, client):
        one.say("end")
        assert one.wait() == 0
    figure(
        f"{2 * senders * each:,} messages of {2 * senders} threads, each received once by one of {2 * senders} others"
    )


@pytest.mark.parametrize("how", ["close", "abort", "close by the peer", "abort by the peer"])
def test_the_end_of_a_pipe_ends_the_calls_of_all_its_threads(name: str, how: str) -> None:
    with npipe.listen(name, in_buffer_size=10, out_buffer_size=10) as listener:
        for _ in range(f.rounds(10, 300)):
            client = npipe.connect(name)
            server = listener.accept(5)
            calls: list[h.Background[Any]] = [h.blocked(lambda: client.recv(timeout=30)) for _ in range(8)]  # noqa: B023
            calls += [h.blocked(lambda: client.recv_into(bytearray(5), timeout=30)) for _ in range(8)]  # noqa: B023
            client.send(b"0123456789", timeout=5)
            calls += [h.blocked(lambda: client.send(bytes(200_000), timeout=30)) for _ in range(8)]  # noqa: B023
            calls += [h.blocked(lambda: client.flush(timeout=30)) for _ in range(8)]  # noqa: B023
            end = {"close": lambda: client.close(timeout=0), "abort": client.abort}.get(  # noqa: B023
                how,
                lambda: server.close(timeout=0) if how == "close by the peer" else server.abort(),  # noqa: B023
            )
            end()
            for call in calls:
                assert call.code() in (6, 109, 233)
            client.close()
            server.close()


def test_a_stopped_peer_holds_up_nobody_else(child: Start, name: str) -> None:
    """SIGSTOP is not death: calls on that pipe time out, and everything else goes on."""
    with npipe.listen(name) as listener:
        stopped = child("import sys, npipe; p = npipe.connect(sys.argv[1]); print('on', flush=True); p.recv()", name)
        assert stopped.line() == "on"
        frozen = listener.accept(5)
        os.kill(stopped.pid, signal.SIGSTOP)
        with h.fails(121):
            frozen.recv(timeout=0.1)
        for _ in range(20):
            with npipe.connect(name) as client, listener.accept(5) as server:
                client.send(b"x")
                assert server.recv(timeout=5) == b"x"
        frozen.close(timeout=0.1)
        os.kill(stopped.pid, signal.SIGCONT)
