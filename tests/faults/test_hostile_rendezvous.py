"""Whatever is said over a pipe's socket, or not said: the process at the other end goes on as if it had not been."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import random
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.win32 import pywintypes, win32file
from tests import rendezvous
from tests.faults import hostile
from tests.helpers import CHECKOUT, Background, descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child

LONG = bool(os.environ.get("NPIPE_LONG"))
ROUNDS = 20_000 if LONG else 1_000
IN_TIME = 10.0  # seconds: what is to happen within a second or two, on a machine that is busy


@pytest.fixture
def served(name: str) -> Iterator[str]:
    """A pipe whose server answers, and a client that checks it all the time."""
    with npipe.serve(name, bytes.upper, model="threaded"):
        yield name


def still_served(name: str) -> None:
    """A client is let in and answered at once."""
    began = time.monotonic()
    assert npipe.call(name, b"hello", timeout=IN_TIME) == b"HELLO"
    assert time.monotonic() - began < IN_TIME


@contextlib.contextmanager
def nothing_left_open(slack: int = 4) -> Iterator[None]:
    """The number of descriptors comes back to what it was."""
    before = descriptors()
    yield
    deadline = time.monotonic() + 15
    while descriptors() > before + slack:
        assert time.monotonic() < deadline, f"{descriptors()} descriptors are open, {before} were"
        time.sleep(0.02)  # the native thread closes them: there is no event for that here


# ---- A server and strangers


def test_requests_of_every_length_and_nonsense(served: str) -> None:
    chance = random.Random(1)
    with nothing_left_open():
        for number in range(ROUNDS):
            with rendezvous.dial(served) as raw:
                whole = bytearray(
                    rendezvous.request(
                        chance.choice([1, 2, 3, 4, 5, 16, 17, 2**32 - 1]), flags=chance.choice([0, 1, 2, 3])
                    )
                )
                for _ in range(chance.randrange(3)):
                    whole[chance.randrange(len(whole))] = chance.randrange(256)
                data = (
                    bytes(whole[: chance.randrange(33)])
                    if number % 2
                    else bytes(whole) + os.urandom(chance.randrange(40))
                )
                raw.send(data)
                if number % 3 == 0:
                    with contextlib.suppress(BrokenPipeError):  # he has hung up
                        raw.send(os.urandom(chance.randrange(100)))
        still_served(served)


def test_half_a_request_is_refused_as_another_version(served: str) -> None:
    with rendezvous.dial(served) as raw:
        raw.send(rendezvous.request(rendezvous.OPEN)[:16])
        data = raw.recv(4096)
        assert rendezvous.code_of(data) == 1306
        assert raw.recv(4096) == b""
    still_served(served)


def test_foreign_descriptors_are_closed(served: str) -> None:
    with nothing_left_open(), Path(os.devnull).open("rb") as null:
        for count in (1, 2, 4, 5, 60, 253):
            with rendezvous.dial(served) as raw:
                socket.send_fds(raw, [rendezvous.request(rendezvous.QUERY)], [null.fileno()] * count)
            with rendezvous.dial(served) as raw:
                socket.send_fds(raw, [b"nonsense"], [null.fileno()] * count)
        still_served(served)


SILENT = """
    import os, resource, sys
    sys.path.insert(0, sys.argv[1])
    from tests import rendezvous
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    name, count = sys.argv[2], int(sys.argv[3])
    open_ones = []
    for number in range(count):
        open_ones.append(rendezvous.dial(name))
        if number % 2 and len(sys.argv) > 4:
            open_ones[-1].send(rendezvous.request(rendezvous.QUERY))  # and never reads the answer
    print("there", flush=True)
    input()
"""


@pytest.mark.parametrize("asks", [False, True])
def test_thousands_who_connect_and_say_nothing(served: str, child: Callable[..., Child], asks: bool) -> None:
    count = 10_000 if LONG else 3_000
    before = descriptors()
    with nothing_left_open():
        crowd = child(SILENT, str(CHECKOUT), served, str(count), *["asks"][:asks])
        all_there = Background(lambda: crowd.line(50))
        while all_there.running:
            still_served(served)
            assert descriptors() - before < 300  # 256 are kept (owner.c), whoever comes
        assert all_there.result() == "there"
        for _ in range(20):
            still_served(served)
        crowd.kill()


def test_requests_that_are_held_and_given_up(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener, nothing_left_open():
        with npipe.connect(name) as client, listener.accept(5) as server:  # nobody listens now
            crowd = []
            for number in range(200):
                raw = rendezvous.dial(name)
                raw.send(rendezvous.request(rendezvous.OPEN if number % 2 else rendezvous.WAIT, flags=rendezvous.HOLD))
                if number % 5 == 0:
                    raw.send(rendezvous.request(rendezvous.OPEN))  # a second request while the first is held: out
                crowd.append(raw)
            client.send(b"x")
            assert server.recv(timeout=5) == b"x"
            for raw in crowd:
                raw.close()


# ---- A client's link: all but the ring, of which tests/c/test_hostile_peer.c is


def test_a_client_that_floods_the_wake_descriptor(served: str) -> None:
    with nothing_left_open(), npipe.connect(served) as friend, Path(os.devnull).open("rb") as null:
        raw, segment = hostile.open_link(served)
        raw.setblocking(False)
        for number in range(20 * ROUNDS):
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                if number % 50:
                    raw.send(bytes(number % 30))
                else:
                    socket.send_fds(raw, [b"f"], [null.fileno()] * 3)
            if number % 1000 == 0:
                assert friend.transact(b"abc", timeout=IN_TIME) == b"ABC"
        raw.close()
        os.close(segment)


def test_the_segment_can_be_neither_cut_nor_grown_nor_unsealed(served: str) -> None:
    raw, segment = hostile.open_link(served)
    for size in (0, 100, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(segment, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(segment, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(segment)
    raw.close()
    still_served(served)


def test_holes_punched_into_the_segment_harm_nobody(name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with npipe.listen(name) as listener:
        waiting = Background(listener.accept)
        raw, segment = hostile.open_link(name)
        server = waiting.result(5)
        size = os.fstat(segment).st_size
        assert libc.fallocate(segment, 3, ctypes.c_long(0), ctypes.c_long(size)) == 0  # all of it is zero now
        with server:
            with pytest.raises(npipe.PipeError):
                server.recv(timeout=0.2)
            with contextlib.suppress(npipe.PipeError):
                server.send(b"x", timeout=0.2)
        os.close(segment)
        raw.close()


# ---- A client and an owner who is none


def answers() -> dict[str, Callable[[socket.socket], None]]:
    def say(*messages: bytes, repeat: int = 1) -> Callable[[socket.socket], None]:
        def act(client: socket.socket) -> None:
            for _ in range(repeat):
                for message in messages:
                    client.send(message)

        return act

    def give(
        *made: Callable[[], int], code: int = rendezvous.OK, repeat: int = 1, reused: int = 0
    ) -> Callable[[socket.socket], None]:
        def act(client: socket.socket) -> None:
            for _ in range(repeat):
                mine = [one() for one in made]
                try:
                    socket.send_fds(client, [rendezvous.answer(code, last=reused)], mine)
                finally:
                    for one in mine:
                        os.close(one)

        return act

    def null() -> int:
        return os.open(os.devnull, os.O_RDWR)

    def regular() -> int:
        path = Path(os.environ["NPIPE_ROOT"]) / "file"
        made = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(made, 4096 + 2 * 65536)
        return made

    header = hostile.good_header()
    return {
        "nothing": say(),
        "an empty message": say(b""),
        "half an answer": say(rendezvous.answer(rendezvous.OK)[:20]),
        "a longer one": say(rendezvous.answer(rendezvous.OK) + b"more"),
        "another magic": say(rendezvous.answer(rendezvous.OK, magic=1)),
        "another version": say(rendezvous.answer(rendezvous.OK, version=7)),
        "a code that nobody knows": say(rendezvous.answer(0xDEADBEEF)),
        "the engine's own words": say(*[rendezvous.answer(code) for code in range(0x10000, 0x10010)]),
        "wait, without end": say(rendezvous.answer(0x10001), repeat=100),
        "no segment": say(rendezvous.answer(rendezvous.OK)),
        "an offer that was not made": say(rendezvous.answer(rendezvous.OK, last=1)),
        "both": give(hostile.segment, reused=1),
        "held for ever, again and again": say(*[rendezvous.answer(rendezvous.IO_PENDING)] * 50, repeat=2),
        "descriptors with every word": give(null, code=rendezvous.IO_PENDING, repeat=50),
        "no memory file": give(null),
        "a file": give(regular),
        "many": give(*[hostile.segment] * 10),
        "not sealed": give(lambda: hostile.segment(header=header, seals=0)),
        "sealed against growing alone": give(lambda: hostile.segment(header=header, seals=fcntl.F_SEAL_GROW)),
        "not to be written": give(lambda: hostile.segment(header=header, seals=hostile.SEALS | fcntl.F_SEAL_WRITE)),
        "not to be written in future": give(lambda: hostile.segment(header=header, seals=hostile.SEALS | 0x10)),
        "no header": give(hostile.segment),
        "a header of another size": give(lambda: hostile.segment(header=hostile.good_header(1 << 20))),
        "a page": give(lambda: hostile.segment(4096, header=hostile.good_header(4096))),
        "one byte": give(lambda: hostile.segment(1)),
        "a terabyte": give(lambda: hostile.segment(1 << 40, header=hostile.good_header(1 << 40))),
    }


@pytest.mark.parametrize("what", answers())
def test_an_owner_who_answers_nonsense(name: str, what: str) -> None:
    with rendezvous.own(name) as server, nothing_left_open():
        made: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client = server.next_client()
                    made.append(client)
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
                        answers()[what](client)
                    if what == "nothing":
                        client.close()

        serving = Background(serve)
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(npipe.PipeError):
                npipe.connect(name, timeout=0.3)
        with pytest.raises(npipe.PipeError):
            asyncio.run(npipe.aio.connect(name, timeout=0.3))
        with contextlib.suppress(npipe.PipeError):  # "one listens" is a hint, and this owner may give it
            npipe.wait(name, timeout=0.3)
        assert time.monotonic() - began < IN_TIME
        server.socket.shutdown(socket.SHUT_RDWR)
        serving.result(10)
        for client in made:
            client.close()


def test_an_owner_who_always_says_try_again(name: str) -> None:
    with rendezvous.own(name) as server, nothing_left_open():

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with server.next_client() as client:
                        client.send(rendezvous.answer(rendezvous.RETRY))

        serving = Background(serve)
        with pytest.raises(npipe.PipeTimeoutError):
            npipe.connect(name, timeout=0.3)
        server.socket.shutdown(socket.SHUT_RDWR)
        serving.result(10)


@pytest.mark.parametrize("face", ["sync", "aio", "win32"])
def test_held_is_no_answer_to_who_did_not_ask_for_it(name: str, face: str) -> None:
    opens: dict[str, Callable[[], Any]] = {
        "sync": lambda: npipe.connect(name, timeout=0),
        "aio": lambda: asyncio.run(npipe.aio.connect(name, timeout=0)),
        "win32": lambda: win32file.CreateFile(name, win32file.GENERIC_READ, 0, None, win32file.OPEN_EXISTING, 0, None),
    }
    with rendezvous.own(name) as server, nothing_left_open():

        def hold() -> socket.socket:
            client = server.next_client()
            client.send(rendezvous.answer(rendezvous.IO_PENDING))
            return client

        holding = Background(hold)
        began = time.monotonic()
        with pytest.raises((npipe.PipeError, pywintypes.error)) as caught:
            opens[face]()
        assert caught.value.winerror == 13  # type: ignore[attr-defined]
        assert time.monotonic() - began < IN_TIME
        holding.result(5).close()


def test_a_thousand_links_to_a_silent_socket_do_not_stretch_a_listing(served: str) -> None:
    with rendezvous.own(served + "-silent"):
        silent = rendezvous.socket_of(served + "-silent")
        for number in range(128):
            folder = rendezvous.folder_of(f"{served}-{number}")
            folder.mkdir(mode=0o700)
            for link in range(8):
                (folder / f"s{link:016x}").symlink_to(silent)
        began = time.monotonic()
        assert [pipe.name for pipe in npipe.list_pipes()] == [served]
        assert time.monotonic() - began < 3


def test_an_owner_who_never_answers_a_listing(name: str, served: str) -> None:
    other = name + "-silent"
    with rendezvous.own(other):
        began = time.monotonic()
        assert [pipe.name for pipe in npipe.list_pipes()] == [npipe.list_pipes()[0].name]
        assert time.monotonic() - began < IN_TIME


# ---- Those who are stopped for ever


STOPPED_CLIENT = """
    import os, signal, sys
    import npipe
    pipe = npipe.connect(sys.argv[1])
    print("here", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.parametrize("quota", [0, 65536])
def test_a_client_that_is_stopped_for_ever(name: str, child: Callable[..., Child], quota: int) -> None:
    with npipe.listen(name, in_buffer_size=quota, out_buffer_size=quota) as listener:
        stopped = child(STOPPED_CLIENT, name)
        with listener.accept(20) as server, npipe.connect(name) as friend, listener.accept(5) as its_server:
            assert stopped.line() == "here"
            os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
            calls: list[Callable[[], Any]] = [
                lambda: server.recv(timeout=0.2),
                lambda: server.send(bytes(100_000), timeout=0.2),
                lambda: server.transact(bytes(10), timeout=0.2),
            ]
            for call in calls:
                began = time.monotonic()
                with pytest.raises(npipe.PipeTimeoutError):
                    call()
                assert time.monotonic() - began < IN_TIME
                friend.send(b"x", timeout=5) if quota else None
                if quota:
                    assert its_server.recv(timeout=5) == b"x"
            server.peek()
            began = time.monotonic()
            server.abort()
            assert time.monotonic() - began < IN_TIME
        stopped.kill()


STOPPED_SERVER = """
    import os, signal, sys
    import npipe
    listener = npipe.listen(sys.argv[1])
    print("here", flush=True)
    server = listener.accept() if sys.argv[2:] else None
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_server_that_is_stopped_for_ever(name: str, child: Callable[..., Child]) -> None:
    stopped = child(STOPPED_SERVER, name)
    stopped.line()
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
    for call in (lambda: npipe.connect(name, timeout=0.3), lambda: npipe.call(name, b"x", timeout=0.3)):
        began = time.monotonic()
        with pytest.raises(npipe.PipeError):
            call()
        assert time.monotonic() - began < IN_TIME
    stopped.kill()


def test_a_server_that_is_stopped_with_a_client(name: str, child: Callable[..., Child]) -> None:
    stopped = child(STOPPED_SERVER, name, "accept")
    stopped.line()
    with npipe.connect(name) as client:
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
        for call in (
            lambda: client.recv(timeout=0.2),
            lambda: client.transact(b"x", timeout=0.2),
            lambda: client.send(bytes(1 << 20), timeout=0.2),
        ):
            began = time.monotonic()
            with pytest.raises(npipe.PipeTimeoutError):
                call()
            assert time.monotonic() - began < IN_TIME
        stopped.kill()
        with pytest.raises(npipe.PipeClosedError):
            client.recv(timeout=5)
