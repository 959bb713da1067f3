"""Peers that speak another version, or nonsense, or nothing: hand-written clients and servers against ours."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.helpers import Background, descriptors, until
from tests.rendezvous import (
    HOLD,
    IO_PENDING,
    MAGIC,
    NUDGE,
    OPEN,
    QUERY,
    VERSION,
    WAIT,
    Answer,
    Owner,
    answer,
    dial,
    own,
    read_answer,
    request,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def answer_to(name: str, message: bytes, descriptors: list[int] | None = None) -> Answer | None:
    """The first answer to `message`; None when the server hangs up."""
    with dial(name) as made:
        socket.send_fds(made, [message], descriptors or [])
        try:
            data, fds, _, _ = socket.recv_fds(made, 2000, 4)
        except ConnectionResetError:
            return None
        for fd in fds:
            os.close(fd)
        return read_answer(data) if data else None


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


def test_hand_written_client_of_our_version_is_served(name: str, listener: npipe.Listener[npipe.MessagePipe]) -> None:
    answer = answer_to(name, request(QUERY))
    assert answer is not None
    assert (answer.magic, answer.version, answer.kind, answer.code) == (MAGIC, VERSION, QUERY, 0)
    assert (answer.type, answer.direction, answer.max_instances) == (4, 3, 255)
    assert answer.instances == 1
    assert answer.owner_pid == os.getpid()
    works(listener)


@pytest.mark.parametrize("version", [0, 2, 999, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", [OPEN, WAIT, QUERY, NUDGE, 77])
def test_client_of_another_version_is_told_so(
    name: str, listener: npipe.Listener[npipe.MessagePipe], version: int, kind: int
) -> None:
    answer = answer_to(name, request(kind, version=version))
    assert answer is not None
    assert (answer.magic, answer.version) == (MAGIC, VERSION)
    assert answer.code == 1306
    works(listener)


@pytest.mark.parametrize("size", [8, 9, 31, 33, 100, 2000, 60_000])
def test_request_of_another_length(name: str, listener: npipe.Listener[npipe.MessagePipe], size: int) -> None:
    answer = answer_to(name, request().ljust(size, b"\1")[:size])
    assert answer is None or answer.code == 1306
    works(listener)


@pytest.mark.parametrize("message", [b"", b"x", b"NPPR", b"GET / HTTP/1.1\r\n\r\n", bytes(32), b"\xff" * 32])
def test_nonsense_is_hung_up_on(name: str, listener: npipe.Listener[npipe.MessagePipe], message: bytes) -> None:
    with dial(name) as made:
        if message:
            made.send(message)
        else:
            made.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert made.recv(2000) == b"" or message[:4] == b"NPPR"
    works(listener)


@pytest.mark.parametrize("kind", [0, 99, 0xFFFFFFFF])
def test_unknown_kind_gets_an_error(name: str, listener: npipe.Listener[npipe.MessagePipe], kind: int) -> None:
    answer = answer_to(name, request(kind))
    assert answer is not None
    assert answer.code == 1
    works(listener)


def test_odd_flags_and_access(name: str, listener: npipe.Listener[npipe.MessagePipe]) -> None:
    for flags in (0xFFFFFFFE, 2):
        answer = answer_to(name, request(QUERY, flags=flags))
        assert answer is not None
        assert answer.code == 0
    answer = answer_to(name, request(OPEN, access=0xFFFFFFFF))
    assert answer is not None
    assert answer.code in (0, 5, 87)
    works(listener)


@pytest.mark.parametrize("kind", [OPEN, QUERY, WAIT, 99])
@pytest.mark.parametrize("count", [1, 2, 20, 253])
def test_descriptors_in_a_request_do_not_stay(
    name: str, listener: npipe.Listener[npipe.MessagePipe], kind: int, count: int
) -> None:
    works(listener)
    before = descriptors()
    with Path("/dev/null").open() as null:
        for version in (VERSION, 2):
            answer_to(name, request(kind, version=version), [null.fileno()] * count)
    works(listener)
    until(lambda: descriptors() <= before)


def test_second_request_on_a_held_socket_is_hung_up_on(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        client = npipe.connect(name)
        server = listener.accept(10)
        with dial(name) as made:
            made.send(request(OPEN, flags=HOLD))
            assert read_answer(made.recv(2000)).code == IO_PENDING
            made.send(request(OPEN, flags=HOLD))
            assert made.recv(2000) == b""
        server.close()
        client.close()
        works(listener)


def test_request_in_pieces_is_no_request(name: str, listener: npipe.Listener[npipe.MessagePipe]) -> None:
    with dial(name) as made:
        made.send(request()[:16])
        try:
            made.send(request()[16:])
            data = made.recv(2000)
        except (BrokenPipeError, ConnectionResetError):
            data = b""
        assert data == b"" or read_answer(data).code == 1306
    works(listener)


def test_client_that_says_nothing_keeps_nobody_waiting(name: str, listener: npipe.Listener[npipe.MessagePipe]) -> None:
    silent = [dial(name) for _ in range(20)]
    began = time.monotonic()
    works(listener)
    assert time.monotonic() - began < 5
    for made in silent:
        made.close()
    works(listener)


def test_client_that_gets_an_instance_and_does_nothing_with_it(name: str) -> None:
    with npipe.listen(name, max_instances=2) as listener:
        with dial(name) as made:
            made.send(request(OPEN))
            server = listener.accept(10)
            works(listener)
        with pytest.raises(npipe.PipeClosedError) as caught:
            server.recv(timeout=10)
        assert caught.value.winerror == 109
        server.close()
        works(listener)


@pytest.mark.alone
def test_thousands_of_half_open_connects(name: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 12_000:
        pytest.skip(f"needs 12,000 descriptors, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (12_000, hard))
    try:
        with npipe.listen(name) as listener:
            before = descriptors()
            open_ones = []
            for number in range(3000):
                made = dial(name)
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


@pytest.fixture
def fake(name: str) -> Iterator[Owner]:
    with own(name) as made:
        made.socket.settimeout(10)
        yield made


def code_against(fake: Owner, name: str, message: bytes, fds: list[int] | None = None, verb: str = "connect") -> int:
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
def test_server_of_another_version(fake: Owner, name: str, verb: str, version: int) -> None:
    client = Background(lambda: npipe.connect(name, timeout=5) if verb == "connect" else npipe.wait(name, timeout=5))
    fake.answer(answer(1306, version=version))
    with pytest.raises(npipe.PipeVersionError) as caught:
        client.result()
    assert caught.value.winerror == 1306
    assert str(version) in str(caught.value)


def test_server_that_finds_our_version_wrong(fake: Owner, name: str) -> None:
    assert code_against(fake, name, answer(1306)) == 1306


def test_longer_answer_of_another_version(fake: Owner, name: str) -> None:
    assert code_against(fake, name, answer(1306, version=7).ljust(300, b"\0")) == 1306
    assert code_against(fake, name, answer(1306, version=7)[:8]) == 1306


@pytest.mark.parametrize(
    "message", [b"x", answer()[:47], answer() + b"x", bytes(48), answer(magic=1), b"\xff" * 3000], ids=range(6)
)
def test_answers_that_make_no_sense(fake: Owner, name: str, message: bytes) -> None:
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
def test_wrong_segments_are_refused(fake: Owner, name: str, kind: str) -> None:
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


def test_server_that_hangs_up_without_an_answer_is_no_pipe(fake: Owner, name: str) -> None:
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


def test_listing_passes_over_servers_that_make_no_sense(fake: Owner, name: str, root: Path) -> None:
    with npipe.listen(name + "-good") as good:
        for message in (b"x", answer(version=9, kind=QUERY), answer(kind=QUERY, last=5000), answer(5), b""):
            listing = Background(npipe.list_pipes)
            fake.answer(message)
            assert [pipe.name for pipe in listing.result()] == [good.name]
    assert root.is_dir()


def test_server_that_never_answers_does_not_hold_up_the_listing(fake: Owner, name: str) -> None:
    assert fake.socket.fileno() >= 0
    with npipe.listen(name + "-good") as good:
        began = time.monotonic()
        assert [pipe.name for pipe in npipe.list_pipes()] == [good.name]
        assert time.monotonic() - began < 5


def test_time_out_holds_against_a_server_that_never_answers(fake: Owner, name: str) -> None:
    assert fake.socket.fileno() >= 0
    began = time.monotonic()
    with pytest.raises(npipe.PipeTimeoutError):
        npipe.connect(name, timeout=0.3)
    assert 0.25 < time.monotonic() - began < 5
