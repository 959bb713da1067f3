"""kill -9 at random points under load, and in every step of the rendezvous: what was written arrives, nothing stays."""

from __future__ import annotations

import mmap
import os
import random
import signal
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests import helpers as h
from tests import rendezvous
from tests.faults import helpers as f

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child

    Start = Callable[..., Child]
    Figure = Callable[[str], None]

DEADLINE = 20.0
AT_ONCE = 5.0  # what no test may exceed; the aim is 0.1 s, and the figures tell how near it comes
KILLS = f.rounds(30, 250)  # of each of the four kinds

pytestmark = pytest.mark.timeout(60 * f.MINUTES)


def files_below(root: Path) -> list[str]:
    # os.walk passes over what goes meanwhile.
    return sorted(entry for _, folders, files in os.walk(root) for entry in folders + files)


COMMON = """
    import ctypes, mmap, os, random, signal, sys, zlib, npipe

    def message(number, most):
        body = bytes([number % 251]) * (number * 7919 % most)
        return number.to_bytes(8, "little") + zlib.crc32(body).to_bytes(4, "little") + body

    def check(got, number, most):
        assert got == message(number, most), (number, len(got), got[:12])
"""

# Forks a process for each line, which is quicker than to start one; the shared page tells how far it has come for sure.
ZYGOTE = (
    COMMON
    + """
    name = sys.argv[1]
    page = mmap.mmap(os.open(sys.argv[2], os.O_RDWR), 4096)
    def done(number):
        page[:8] = (number + 1).to_bytes(8, "little")

    def write(pipe, most):
        number = 0
        while True:
            pipe.send(message(number, most))
            done(number)
            number += 1

    def read(pipe, most):
        number = 0
        while True:
            check(pipe.recv(), number, most)
            done(number)
            number += 1

    def echo(pipe, most):
        while True:
            pipe.send(pipe.recv())

    def idle(pipe, most):
        pipe.recv()

    def run(role, work, most, quota):
        if role == "client":
            pipe = npipe.connect(name, timeout=20)
        else:
            listener = npipe.listen(name, in_buffer_size=quota, out_buffer_size=quota)
            os.write(1, b"listening\\n")  # in one piece: both processes speak on this stream
            pipe = listener.accept()
        globals()[work](pipe, most)

    print("ready", flush=True)
    for line in sys.stdin:
        role, work, most, quota = line.split()
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it does not outlive a test that fails
            try:
                run(role, work, int(most), int(quota))
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os.write(1, b"%d\\n" % pid)
        os.waitpid(pid, 0)
        print("reaped", flush=True)
    """
)

exec(compile("\n".join(line[4:] for line in COMMON.splitlines()), "common", "exec"), common := dict[str, Any]())


class Killed:
    """A process that does one thing on a pipe until it is killed."""

    def __init__(self, zygote: Child, role: str, work: str, most: int, quota: int, page: mmap.mmap) -> None:
        page[:8] = bytes(8)
        self._zygote, self._page = zygote, page
        zygote.say(f"{role} {work} {most} {quota}")
        said = {zygote.line() for _ in range(2 if role == "server" else 1)}  # the two speak on one stream
        said.discard("listening")
        self.pid = int(said.pop())

    def kill(self) -> float:
        """SIGKILL. The time right before it."""
        moment = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        return moment

    def reaped(self) -> None:
        assert self._zygote.line() == "reaped"

    def done(self) -> int:
        """How many messages it had sent, or received, for sure."""
        return int.from_bytes(self._page[:8], "little")


def survive(pipe: npipe.MessagePipe, work: str, most: int) -> tuple[int, int, float]:
    """The other side of `work`, to the end: messages that came through, the code of the end, and when it came."""
    number = 0
    try:
        while True:
            if work == "write":
                common["check"](pipe.recv(timeout=DEADLINE), number, most)
            elif work == "read":
                pipe.send(common["message"](number, most), timeout=DEADLINE)
            elif work == "echo":
                question = common["message"](number, most)
                assert pipe.transact(question, timeout=DEADLINE) == question
            else:
                pipe.recv(timeout=DEADLINE)
                raise AssertionError("an idle peer has sent something")
            number += 1
    except npipe.PipeError as error:
        return number, error.winerror, time.monotonic()


# What the survivor gets: a read or a pending write 109, a write that begins after the end 232, a transaction 230.
CODES = {"write": {109}, "idle": {109}, "read": {109, 232}, "echo": {109, 230, 232}}


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("busy", [False, True], ids=["alone", "beside busy neighbours"])
def test_kills_at_random_points_under_load(
    child: Start, name: str, root: Path, tmp_path: Path, figure: Figure, role: str, busy: bool
) -> None:
    shared = tmp_path / "page"
    shared.write_bytes(bytes(4096))
    with shared.open("r+b") as opened:
        page = mmap.mmap(opened.fileno(), 4096)
    zygote = child(ZYGOTE, name, str(shared))
    assert zygote.line() == "ready"
    chance = random.Random(role + str(busy))
    waited, ends, through = [], Counter[str](), 0
    baseline = f.Baseline()
    with f.busy_neighbours(2 if busy else 0):
        for turn in range(KILLS):
            work = chance.choice(["write", "write", "read", "echo", "idle"])
            most, quota = chance.choice([200, 20_000, 300_000]), chance.choice([0, 10, 65536, 65536])
            if role == "client":
                listener = npipe.listen(name, in_buffer_size=quota, out_buffer_size=quota)
                peer = Killed(zygote, role, work, most, quota, page)
                pipe = listener.accept(DEADLINE)
            else:
                peer = Killed(zygote, role, work, most, quota, page)
                pipe = npipe.connect(name, timeout=DEADLINE)
            surviving = h.Background(lambda: survive(pipe, work, most))  # noqa: B023
            time.sleep(chance.random() * 0.02)  # a random moment is what is tested
            killed = peer.kill()
            number, code, ended = surviving.result(DEADLINE)
            peer.reaped()
            assert code in CODES[work], (work, code)
            assert ended - killed < AT_ONCE
            if work == "write":
                assert number >= peer.done(), "a message that had been sent has not arrived"
            elif work == "read":
                assert number >= peer.done() - 1
            waited.append(ended - killed)
            ends[f"{work} {code}"] += 1
            through += number
            pipe.close()
            if role == "client":
                listener.close()
            else:
                with npipe.listen(name) as heir:  # the name is free, at the first try
                    client = npipe.connect(name, timeout=DEADLINE)
                    client.close()
                    assert heir.name == name
            h.until(lambda: files_below(root) == [])
            baseline.look(turn)
        baseline.comes_back()
    page.close()
    late = sum(seconds > 0.1 for seconds in waited)
    figure(
        f"{KILLS} kills, {through} messages through, from the kill to the survivor's code: {f.percentiles(waited)},"
        f" {late} later than 100 ms; {dict(sorted(ends.items()))}"
    )


# ---- Each step of the rendezvous, by hand: what a client can have done when it dies


def _nothing(made: socket.socket) -> None:
    assert made.fileno() >= 0


def _half(made: socket.socket) -> None:
    made.send(rendezvous.request(rendezvous.OPEN)[:7])


def _asked(made: socket.socket) -> None:
    made.send(rendezvous.request(rendezvous.OPEN))


def _answered(made: socket.socket) -> None:
    made.send(rendezvous.request(rendezvous.OPEN))
    message, descriptors, _, _ = socket.recv_fds(made, 100, 4)
    for descriptor in descriptors:
        os.close(descriptor)
    assert rendezvous.code_of(message) == 0


def _holding(made: socket.socket) -> None:
    made.send(rendezvous.request(rendezvous.OPEN, flags=rendezvous.HOLD))


def _waiting(made: socket.socket) -> None:
    made.send(rendezvous.request(rendezvous.WAIT))


STEPS = {
    "connected only": _nothing,
    "half a request": _half,
    "asked, not answered yet": _asked,
    "answered, not mapped yet": _answered,
    "held": _holding,
    "waiting": _waiting,
}


@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_dies_in_a_step_of_the_rendezvous_takes_nothing_with_it(name: str, step: str) -> None:
    baseline = f.Baseline()
    with npipe.listen(name, max_instances=2) as listener:
        path = rendezvous.socket_of(name)
        for turn in range(f.rounds(20, 500)):
            taken = [
                (npipe.connect(name), listener.accept(DEADLINE)) for _ in range(2 if step in ("held", "waiting") else 0)
            ]
            made = rendezvous.dial(path)
            STEPS[step](made)
            if taken:
                h.until(lambda: h.requests_held(name) == 1)
            elif turn % 2:
                h.settle(name)
            made.close()
            for client, server in taken:
                client.close()
                server.close()
            h.settle(name)
            with pytest.raises(npipe.PipeTimeoutError):
                listener.accept(0)  # whoever was let in has left nothing: passed over, and his instance listens again
            for _ in range(3):
                client = npipe.connect(name, timeout=DEADLINE)
                client.send(b"x")
                with listener.accept(DEADLINE) as server:
                    assert server.recv(timeout=DEADLINE) == b"x"
                client.close()
            h.until(lambda: h.requests_held(name) == 0)
            baseline.look(turn)
        baseline.comes_back()


# ---- Each system call of an operation, by ptrace

TRACER = """
    import ctypes, os, signal, sys, npipe
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    libc.ptrace.restype = ctypes.c_long
    TRACEME, SYSCALL = 0, 24
    name = sys.argv[1]
    npipe.names.parse_name("x")
    from npipe.transports import local

    OPERATIONS = {
        "listen": lambda: npipe.listen(name),
        "listen for all": lambda: npipe.listen(name, security="everyone"),
        "join": lambda: npipe.listen(name, exclusive=False),
        "listen and close": lambda: npipe.listen(name).close(),
        "join and close": lambda: npipe.listen(name, exclusive=False).close(),
        "connect": lambda: npipe.connect(name, timeout=10),
        "connect, send and close": lambda: connect_and_send(),
        "wait": lambda: npipe.wait(name, timeout=10),
        "list": lambda: npipe.list_pipes(),
    }

    def connect_and_send():
        pipe = npipe.connect(name, timeout=10)
        pipe.send(b"here")
        pipe.close()

    def killed(operation, steps):
        # Runs it up to the entry or the end of its system call number steps / 2. The number of stops if it ends before.
        pid = os.fork()
        if pid == 0:
            if libc.ptrace(TRACEME, 0, 0, 0) != 0:
                os._exit(3)
            os.kill(os.getpid(), signal.SIGSTOP)
            OPERATIONS[operation]()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            return "no ptrace"
        for step in range(steps):
            libc.ptrace(SYSCALL, pid, 0, 0)
            _, status = os.waitpid(pid, 0)
            if os.WIFEXITED(status):
                return step
            if os.WIFSIGNALED(status):
                return f"died of signal {os.WTERMSIG(status)}"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "killed"

    print("ready", flush=True)
    for line in sys.stdin:
        operation, _, steps = line.strip().rpartition(" ")
        print(killed(operation, int(steps)), flush=True)
"""


class Tracer:
    """Kills an operation of another process at any of its system calls."""

    def __init__(self, made: Child, operation: str) -> None:
        self._child, self._operation = made, operation
        assert made.line() == "ready"

    def does(self, steps: int) -> str:
        self._child.say(f"{self._operation} {steps}")
        answer: str = self._child.line()
        if answer == "no ptrace":
            pytest.skip("the kernel does not let a process trace its own child here (PTRACE_TRACEME)")
        return answer

    def kills(self, steps: int) -> None:
        """The same; one that takes a way of fewer steps this time has ended, and its process has too."""
        answer = self.does(steps)
        assert answer == "killed" or int(answer) < steps

    def length(self) -> int:
        """How many stops there are from its beginning to its end."""
        return int(self.does(1_000_000))


def steps_of(tracer: Tracer, seed: str) -> list[int]:
    """Every step in the long form, and every few in the short one, beginning at random."""
    length = tracer.length()
    stride = max(1, length // f.rounds(25, length))
    return list(range(random.Random(seed).randrange(stride) + 1, length + 1, stride))


@pytest.mark.parametrize("operation", ["listen", "listen for all", "listen and close"])
def test_a_server_that_dies_at_any_system_call_leaves_the_name_free(
    child: Start, name: str, root: Path, figure: Figure, operation: str
) -> None:
    tracer = Tracer(child(TRACER, name), operation)
    steps = steps_of(tracer, operation)
    for step in steps:
        tracer.kills(step)
        if step % 2:
            assert h.code_of(lambda: npipe.connect(name, timeout=DEADLINE)) == 2
        with npipe.listen(name) as listener:
            client = npipe.connect(name, timeout=DEADLINE)
            client.send(b"x")
            with listener.accept(DEADLINE) as server:
                assert server.recv(timeout=DEADLINE) == b"x"
            client.close()
        assert files_below(root) == [], step
    figure(f"{len(steps)} deaths at system calls of {operation!r}")


@pytest.mark.parametrize("operation", ["join", "join and close"])
@pytest.mark.parametrize("limit", [None, 3])
def test_the_second_of_two_owners_dies_at_any_system_call(
    child: Start, name: str, root: Path, figure: Figure, operation: str, limit: int | None
) -> None:
    with npipe.listen(name, exclusive=False, max_instances=limit) as listener:
        tracer = Tracer(child(TRACER, name), operation)
        steps = steps_of(tracer, operation)
        for step in steps:
            tracer.kills(step)
            for _ in range(2):
                client = npipe.connect(name, timeout=DEADLINE)
                client.send(b"x")
                with listener.accept(DEADLINE) as server:
                    assert server.recv(timeout=DEADLINE) == b"x"
                client.close()
            assert [pipe.instances for pipe in npipe.list_pipes()] == [1], step
            if step % 3 == 0:  # a third one joins, in this process's own name by another way
                assert tracer.does(1_000_000) != "killed"
    assert files_below(root) == []
    figure(f"{len(steps)} deaths at system calls of {operation!r}")


@pytest.mark.parametrize("operation", ["connect", "connect, send and close", "wait", "list"])
def test_a_client_that_dies_at_any_system_call_costs_the_server_nothing(
    child: Start, name: str, root: Path, figure: Figure, operation: str
) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        tracer = Tracer(child(TRACER, name), operation)

        def clear() -> None:
            """Takes what a dead client may have left, until the instance listens."""
            while True:
                try:
                    with listener.accept(0) as pipe:
                        assert pipe.recv(timeout=DEADLINE) == b"here"
                        with h.fails(109):
                            pipe.recv(timeout=DEADLINE)
                except npipe.PipeTimeoutError:
                    return

        steps = steps_of(tracer, operation)
        clear()
        for step in steps:
            tracer.kills(step)
            clear()
            client = npipe.connect(name, timeout=DEADLINE)
            client.send(b"x")
            with listener.accept(DEADLINE) as server:
                assert server.recv(timeout=DEADLINE) == b"x"
            client.close()
        h.until(lambda: f.holding().mappings == 0)
    assert files_below(root) == []
    figure(f"{len(steps)} deaths at system calls of {operation!r}")


# ---- Several owners at a shared limit, killed while requests are held

OWNER = """
    import ctypes, os, signal, sys, time, npipe
    name, limit = sys.argv[1], int(sys.argv[2])
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it does not outlive a test that fails
            try:
                with npipe.listen(name, exclusive=False, max_instances=limit) as listener:
                    while True:
                        with listener.accept() as pipe:
                            pipe.send(pipe.recv(timeout=20) + b" %d" % os.getpid(), timeout=20)
                            pipe.flush(timeout=20)
            except npipe.PipeBusyError:
                os._exit(0)  # all instances are others' just now
            except npipe.PipeClosedError:
                os._exit(0)
            finally:
                os._exit(1)
        time.sleep(float(line))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        print("killed", flush=True)
"""


def test_calls_at_a_shared_limit_are_served_by_whoever_lives(
    child: Start, name: str, root: Path, figure: Figure
) -> None:
    """Requests are held by one owner and granted by another, all but one are killed; while one serves, nobody hangs."""
    chance = random.Random(8)
    limit = 4
    zygotes = [child(OWNER, name, str(limit)) for _ in range(2)]
    for zygote in zygotes:
        assert zygote.line() == "ready"
    seen = Counter[Any]()
    stop = over = False

    def call(number: int) -> None:
        turn = 0
        while not stop:
            turn += 1
            question = b"%d %d" % (number, turn)
            try:
                answer = npipe.call(name, question, timeout=DEADLINE)
            except npipe.PipeError as error:
                seen[error.winerror] += 1
            else:
                assert answer.startswith(question + b" "), answer
                seen["answered"] += 1

    with npipe.listen(name, exclusive=False, max_instances=limit) as listener:

        def serve() -> None:
            while not over:
                try:
                    with listener.accept(0.2) as pipe:
                        pipe.send(pipe.recv(timeout=DEADLINE) + b" steady", timeout=DEADLINE)
                        pipe.flush(timeout=DEADLINE)
                except (npipe.PipeTimeoutError, npipe.PipeClosedError):
                    continue

        steady = h.Background(serve)
        clients = [h.Background(lambda number=number: call(number)) for number in range(12)]  # type: ignore[misc]
        for _ in range(f.rounds(40, 1500)):
            for zygote in zygotes:
                zygote.say(f"{chance.random() * 0.03}")
            for zygote in zygotes:
                assert zygote.line() == "killed"
        stop = True
        for client in clients:
            client.result(2 * DEADLINE)
        over = True
        steady.result(2 * DEADLINE)
    # Never 121, nor what call makes of it, 231: somebody serves all the time.
    assert set(seen) <= {"answered", 109, 230, 232}, seen
    assert seen["answered"] > 0
    h.until(lambda: files_below(root) == [])
    figure(f"{f.rounds(40, 1500) * 2} owners killed beside a steady one, limit {limit}: {dict(seen)}")


def test_nothing_is_left_of_a_server_whose_clients_go_as_soon_as_they_know(
    child: Start, name: str, root: Path, tmp_path: Path
) -> None:
    """A client that is the only one to come by cleans up, though it has closed before its native thread has looked."""
    shared = tmp_path / "page"
    shared.write_bytes(bytes(4096))
    with shared.open("r+b") as opened, mmap.mmap(opened.fileno(), 4096) as page, f.busy_neighbours(2):
        zygote = child(ZYGOTE, name, str(shared))
        assert zygote.line() == "ready"
        for _ in range(f.rounds(30, 1500)):
            peer = Killed(zygote, "server", "idle", 1, 0, page)
            pipe = npipe.connect(name, timeout=DEADLINE)
            peer.kill()
            with h.fails(109):
                pipe.recv(timeout=DEADLINE)
            pipe.close()
            peer.reaped()
            h.until(lambda: files_below(root) == [])


SLOW_DEATH = """
import os, socket, sys
import npipe

with npipe.listen(sys.argv[1]) as listener, listener.accept() as pipe:
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            one = socket.socket(fileno=os.dup(number))
        except OSError:
            continue
        with one:
            if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                os.close(number)  # as a process at its end closes one thing after the other
    print("half", flush=True)
    sys.stdin.readline()
"""


def test_nothing_is_left_of_a_server_that_takes_its_time_to_die(child: Start, name: str, root: Path) -> None:
    server = child(SLOW_DEATH, name)
    with npipe.connect(name, timeout=DEADLINE, wait_for_server=True) as pipe:
        assert server.line() == "half"
        with h.fails(109):
            pipe.recv(timeout=DEADLINE)
    time.sleep(0.3)  # it does not run for so long: what comes by in that time finds its rendezvous alive
    server.process.kill()
    h.until(lambda: files_below(root) == [])
