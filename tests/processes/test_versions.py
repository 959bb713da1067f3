"""Peers that speak another version, or nonsense, or nothing: hand-written clients and servers against ours."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import npipe
from npipe.names import parse_name
from tests.helpers import Background, until

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = 0x5250504E
VERSION = 1
OPEN, WAIT, QUERY, NUDGE = 1, 2, 3, 4
HOLD = 1
REQUEST = struct.Struct("<8I")  # magic, version, kind, flags, access, three reserved
ANSWER = struct.Struct("<12I")  # magic, version, kind, code, time-out, type, direction, limit, instances, pid, ...


def request(kind: int = OPEN, *, version: int = VERSION, magic: int = MAGIC, flags: int = 0, access: int = 3) -> bytes:
    return REQUEST.pack(magic, version, kind, flags, access, 0, 0, 0)


def socket_of(root: Path, name: str) -> Path:
    (found,) = (root / parse_name(name).folder).glob("s*")
    return found


def dial(root: Path, name: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(10)
    folder = os.open(root / parse_name(name).folder, os.O_RDONLY)
    try:
        made.connect(f"/proc/self/fd/{folder}/{socket_of(root, name).name}")
    finally:
        os.close(folder)
    return made


def answer_to(root: Path, name: str, message: bytes, descriptors: list[int] | None = None) -> tuple[int, ...] | None:
    """The first answer to `message`; None when the server hangs up."""
    with dial(root, name) as made:
        socket.send_fds(made, [message], descriptors or [])
        try:
            data, fds, _, _ = socket.recv_fds(made, 2000, 4)
        except ConnectionResetError:
            return None
        for fd in fds:
            os.close(fd)
        return ANSWER.unpack(data[: ANSWER.size]) if data else None


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def listener(name: str) -> Iterator[npipe.Listener[npipe.MessagePipe]]:
    with npipe.listen(name) as made:
        yield made


def works(listener: npipe.Listener[npipe.MessagePipe]) -> None:
    def talk() -> None:
        with npipe.connect(listener.name, timeout=10) as client:
            assert client.transact(b"in spite of all", timeout=10) == b"fine"

    client = Background(talk)
    while True:  # others may have come and gone
        with listener.accept(10) as server:
            try:
                if server.recv(timeout=5) == b"in spite of all":
                    server.send(b"fine")
                    server.flush(timeout=5)
                    break
            except npipe.PipeClosedError:
                continue
    client.result()


# ---- Clients


def test_hand_written_client_of_our_version_is_served(
    root: Path, name: str, listener: npipe.Listener[npipe.MessagePipe]
) -> None:
    answer = answer_to(root, name, request(QUERY))
    assert answer is not None
    assert answer[:4] == (MAGIC, VERSION, QUERY, 0)
    assert answer[5:8] == (4, 3, 255)
    assert answer[8] == 1
    assert answer[9] == os.getpid()
    works(listener)


@pytest.mark.parametrize("version", [0, 2, 999, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", [OPEN, WAIT, QUERY, NUDGE, 77])
def test_client_of_another_version_is_told_so(
    root: Path, name: str, listener: npipe.Listener[npipe.MessagePipe], version: int, kind: int
) -> None:
    answer = answer_to(root, name, request(kind, version=version))
    assert answer is not None
    assert answer[:2] == (MAGIC, VERSION)
    assert answer[3] == 1306
    works(listener)


@pytest.mark.parametrize("size", [8, 9, 31, 33, 100, 2000, 60_000])
def test_request_of_another_length(
    root: Path, name: str, listener: npipe.Listener[npipe.MessagePipe], size: int
) -> None:
    answer = answer_to(root, name, request().ljust(size, b"\1")[:size])
    assert answer is None or answer[3] == 1306
    works(listener)


@pytest.mark.parametrize("message", [b"", b"x", b"NPPR", b"GET / HTTP/1.1\r\n\r\n", bytes(32), b"\xff" * 32])
def test_nonsense_is_hung_up_on(
    root: Path, name: str, listener: npipe.Listener[npipe.MessagePipe], message: bytes
) -> None:
    with dial(root, name) as made:
        if message:
            made.send(message)
        else:
            made.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert made.recv(2000) == b"" or message[:4] == b"NPPR"
    works(listener)


@pytest.mark.parametrize("kind", [0, 5, 0xFFFFFFFF])
def test_unknown_kind_gets_an_error(
    root: Path, name: str, listener: npipe.Listener[npipe.MessagePipe], kind: int
) -> None:
    answer = answer_to(root, name, request(kind))
    assert answer is not None
    assert answer[3] == 1
    works(listener)


def test_odd_flags_and_access(root: Path, name: str, listener: npipe.Listener[npipe.MessagePipe]) -> None:
    for flags in (0xFFFFFFFE, 2):
        answer = answer_to(root, name, request(QUERY, flags=flags))
        assert answer is not None
        assert answer[3] == 0
    answer = answer_to(root, name, request(OPEN, access=0xFFFFFFFF))
    assert answer is not None
    assert answer[3] in (0, 5, 87)
    works(listener)


@pytest.mark.parametrize("kind", [OPEN, QUERY, WAIT, 99])
@pytest.mark.parametrize("count", [1, 2, 20, 253])
def test_descriptors_in_a_request_do_not_stay(
    root: Path, name: str, listener: npipe.Listener[npipe.MessagePipe], kind: int, count: int
) -> None:
    works(listener)
    before = descriptors()
    with Path("/dev/null").open() as null:
        for version in (VERSION, 2):
            answer_to(root, name, request(kind, version=version), [null.fileno()] * count)
    works(listener)
    until(lambda: descriptors() <= before)


def test_second_request_on_a_held_socket_is_hung_up_on(root: Path, name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        client = npipe.connect(name)
        server = listener.accept(10)
        with dial(root, name) as made:
            made.send(request(OPEN, flags=HOLD))
            assert ANSWER.unpack(made.recv(2000))[3] == 997
            made.send(request(OPEN, flags=HOLD))
            assert made.recv(2000) == b""
        server.close()
        client.close()
        works(listener)


def test_request_in_pieces_is_no_request(root: Path, name: str, listener: npipe.Listener[npipe.MessagePipe]) -> None:
    with dial(root, name) as made:
        made.send(request()[:16])
        try:
            made.send(request()[16:])
            data = made.recv(2000)
        except (BrokenPipeError, ConnectionResetError):
            data = b""
        assert data == b"" or ANSWER.unpack(data)[3] == 1306
    works(listener)


def test_client_that_says_nothing_keeps_nobody_waiting(
    root: Path, name: str, listener: npipe.Listener[npipe.MessagePipe]
) -> None:
    silent = [dial(root, name) for _ in range(20)]
    began = time.monotonic()
    works(listener)
    assert time.monotonic() - began < 5
    for made in silent:
        made.close()
    works(listener)


def test_client_that_gets_an_instance_and_does_nothing_with_it(root: Path, name: str) -> None:
    with npipe.listen(name, max_instances=2) as listener:
        with dial(root, name) as made:
            made.send(request(OPEN))
            server = listener.accept(10)
            works(listener)
        with pytest.raises(npipe.PipeClosedError) as caught:
            server.recv(timeout=10)
        assert caught.value.winerror == 109
        server.close()
        works(listener)


def test_thousands_of_half_open_connects(root: Path, name: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 12_000:
        pytest.skip(f"needs 12,000 descriptors, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (12_000, hard))
    try:
        with npipe.listen(name) as listener:
            before = descriptors()
            open_ones = []
            for number in range(3000):
                made = dial(root, name)
                if number % 3 == 1:
                    made.send(request()[:4])
                open_ones.append(made)
            works(listener)
            for made in open_ones:
                made.close()
            until(lambda: descriptors() <= before + 2)
            works(listener)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- Servers


class FakeServer:
    """A socket in the right place that answers what it is told to."""

    def __init__(self, root: Path, name: str) -> None:
        root.mkdir(mode=0o700, exist_ok=True)
        folder = root / parse_name(name).folder
        folder.mkdir(mode=0o700)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        here = os.open(folder, os.O_RDONLY)
        try:
            self.socket.bind(f"/proc/self/fd/{here}/s0123456789abcdef")
        finally:
            os.close(here)
        self.socket.listen(100)

    def answer(self, message: bytes, descriptors: list[int] | None = None) -> bytes:
        visitor, _ = self.socket.accept()
        with visitor:
            visitor.settimeout(10)
            asked = visitor.recv(2000)
            if message:
                socket.send_fds(visitor, [message], descriptors or [])
            else:
                visitor.close()
        return asked


@pytest.fixture
def fake(root: Path, name: str) -> Iterator[FakeServer]:
    made = FakeServer(root, name)
    yield made
    made.socket.close()


def answer(code: int = 0, *, version: int = VERSION, magic: int = MAGIC, kind: int = OPEN, name_size: int = 0) -> bytes:
    return ANSWER.pack(magic, version, kind, code, 50, 4, 3, 255, 1, 1, 1, name_size)


def code_against(
    fake: FakeServer, name: str, message: bytes, fds: list[int] | None = None, verb: str = "connect"
) -> int:
    def call() -> None:
        if verb == "connect":
            npipe.connect(name, timeout=2).close()
        else:
            npipe.wait(name, timeout=2)

    client = Background(call)
    fake.answer(message, fds)
    return client.code()


@pytest.mark.parametrize("verb", ["connect", "wait"])
@pytest.mark.parametrize("version", [0, 2, 0xFFFFFFFF])
def test_server_of_another_version(fake: FakeServer, name: str, verb: str, version: int) -> None:
    client = Background(lambda: npipe.connect(name, timeout=5) if verb == "connect" else npipe.wait(name, timeout=5))
    fake.answer(answer(1306, version=version))
    with pytest.raises(npipe.PipeVersionError) as caught:
        client.result()
    assert caught.value.winerror == 1306
    assert str(version) in str(caught.value)


def test_server_that_finds_our_version_wrong(fake: FakeServer, name: str) -> None:
    assert code_against(fake, name, answer(1306)) == 1306


def test_longer_answer_of_another_version(fake: FakeServer, name: str) -> None:
    assert code_against(fake, name, answer(1306, version=7).ljust(300, b"\0")) == 1306
    assert code_against(fake, name, answer(1306, version=7)[:8]) == 1306


@pytest.mark.parametrize(
    "message", [b"x", answer()[:47], answer() + b"x", bytes(48), answer(magic=1), b"\xff" * 3000], ids=range(6)
)
def test_answers_that_make_no_sense(fake: FakeServer, name: str, message: bytes) -> None:
    before = descriptors()
    assert code_against(fake, name, message) in (13, 1306)
    assert descriptors() <= before + 2


def memory(size: int, *, seal: bool) -> int:
    import fcntl

    made = os.memfd_create("fake", os.MFD_ALLOW_SEALING)
    os.ftruncate(made, size)
    if seal:
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return made


@pytest.mark.parametrize("kind", ["none", "null", "unsealed", "empty", "zeros", "small", "two", "folder", "pipe"])
def test_wrong_segments_are_refused(fake: FakeServer, name: str, kind: str) -> None:
    fds: list[int] = []
    if kind == "null":
        fds = [os.open("/dev/null", os.O_RDWR)]
    elif kind == "folder":
        fds = [os.open("/", os.O_RDONLY)]
    elif kind == "pipe":
        fds = list(os.pipe())
    elif kind == "unsealed":
        fds = [memory(4096 + 2 * 131072, seal=False)]
    elif kind == "empty":
        fds = [memory(0, seal=True)]
    elif kind == "small":
        fds = [memory(100, seal=True)]
    elif kind == "zeros":
        fds = [memory(4096 + 2 * 131072, seal=True)]
    elif kind == "two":
        fds = [memory(4096, seal=True), memory(4096, seal=True)]
    before = descriptors()
    try:
        assert code_against(fake, name, answer(), fds) in (13, 4)
        assert descriptors() <= before + 2
    finally:
        for fd in fds:
            os.close(fd)


def test_server_that_hangs_up_without_an_answer_is_no_pipe(fake: FakeServer, name: str) -> None:
    client = Background(lambda: npipe.connect(name, timeout=1))
    visits = 0
    fake.socket.settimeout(0.2)
    began = time.monotonic()
    while client.running and time.monotonic() - began < 10:
        try:
            fake.answer(b"")
            visits += 1
        except TimeoutError:
            continue
    assert client.code() in (2, 121)
    assert visits < 1000, "the client asks again and again without a pause"


def test_listing_passes_over_servers_that_make_no_sense(fake: FakeServer, name: str, root: Path) -> None:
    with npipe.listen(name + "-good") as good:
        for message in (b"x", answer(version=9, kind=QUERY), answer(kind=QUERY, name_size=5000), answer(5), b""):
            listing = Background(npipe.list_pipes)
            fake.answer(message)
            assert [pipe.name for pipe in listing.result()] == [good.name]
    assert root.is_dir()


def test_server_that_never_answers_does_not_hold_up_the_listing(fake: FakeServer, name: str) -> None:
    assert fake.socket.fileno() >= 0
    with npipe.listen(name + "-good") as good:
        began = time.monotonic()
        assert [pipe.name for pipe in npipe.list_pipes()] == [good.name]
        assert time.monotonic() - began < 5


def test_time_out_holds_against_a_server_that_never_answers(fake: FakeServer, name: str) -> None:
    assert fake.socket.fileno() >= 0
    began = time.monotonic()
    with pytest.raises(npipe.PipeTimeoutError):
        npipe.connect(name, timeout=0.3)
    assert 0.25 < time.monotonic() - began < 5
