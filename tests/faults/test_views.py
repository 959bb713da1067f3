"""Messages in place against peers that break the rules, and killed at random points."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests.faults import helpers as f
from tests.faults import hostile
from tests.helpers import DEADLINE, fails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child

INBOUND, OUTBOUND = 640, 640 + 768  # what docs/protocol.md says of the segment
TAIL, ANNOUNCED, HEAD, CONSUMED, TAKEN = 0, 8, 128, 136, 144
RING = 4096
CAPACITY = 65536


class Peer:
    """A client that writes into the segment what it likes."""

    def __init__(self, name: str) -> None:
        self.socket, segment = hostile.open_link(name)
        self.memory = mmap.mmap(segment, 0)
        os.close(segment)

    def put(self, place: int, value: int) -> None:
        self.memory[place : place + 8] = struct.pack("<Q", value)

    def send(self, data: bytes) -> None:
        """A plain entry at the ring's beginning."""
        entry = bytes([0xC0]) + struct.pack("<I", len(data)) + data
        self.memory[RING : RING + len(entry)] = entry
        self.put(INBOUND + ANNOUNCED, len(data))
        self.put(INBOUND + TAIL, len(entry))

    def close(self) -> None:
        self.socket.close()
        self.memory.close()


@pytest.fixture
def ends(name: str) -> Iterator[Callable[[], tuple[Peer, Any]]]:
    made: list[Any] = []

    def make() -> tuple[Peer, Any]:
        listener = npipe.listen(f"{name}-{len(made)}", in_buffer_size=4096, out_buffer_size=4096)
        peer = Peer(listener.name)
        server = listener.accept(DEADLINE)
        made.extend((peer, server, listener))
        return peer, server

    yield make
    for one in made:
        one.close()


def test_a_peer_that_changes_bytes_changes_what_is_looked_at_in_place_but_no_copy(
    ends: Callable[[], tuple[Peer, Any]],
) -> None:
    peer, server = ends()
    peer.send(b"a" * 100)
    with server.recv_view() as view:
        peer.memory[RING + 5] = ord("b")
        assert bytes(view) == b"b" + b"a" * 99
    peer, server = ends()
    peer.send(b"a" * 100)
    with server.recv_view(copy=True) as view:
        peer.memory[RING + 5] = ord("b")
        assert bytes(view) == b"a" * 100


def test_a_length_that_is_changed_under_a_view_changes_nothing(ends: Callable[[], tuple[Peer, Any]]) -> None:
    peer, server = ends()
    peer.send(b"a" * 100)
    with server.recv_view() as view:
        peer.memory[RING + 1 : RING + 5] = struct.pack("<I", 0xFFFFFFFF)
        assert bytes(view) == b"a" * 100
    assert struct.unpack_from("<Q", peer.memory, INBOUND + HEAD)[0] == 105


@pytest.mark.parametrize("tail", [0, 1, 104, CAPACITY + 106, 1 << 40, (1 << 64) - 1])
def test_a_tail_that_moves_under_a_view(ends: Callable[[], tuple[Peer, Any]], tail: int) -> None:
    peer, server = ends()
    peer.send(b"a" * 100)
    with server.recv_view() as view:
        peer.put(INBOUND + TAIL, tail)
        assert bytes(view) == b"a" * 100
    with pytest.raises((npipe.PipeProtocolError, npipe.PipeTimeoutError, npipe.PipeClosedError)):
        server.recv(timeout=0.1)


@pytest.mark.parametrize("tail", [4, 5 + 101, CAPACITY + 1, 1 << 40])
@pytest.mark.parametrize("size", [101, 70_000, 0xFFFFFFFF])
def test_a_length_beyond_the_tail_gives_no_view(ends: Callable[[], tuple[Peer, Any]], tail: int, size: int) -> None:
    peer, server = ends()
    peer.memory[RING : RING + 5] = bytes([0xC0]) + struct.pack("<I", size)
    peer.put(INBOUND + ANNOUNCED, size)
    peer.put(INBOUND + TAIL, tail)
    if (tail, size) == (5 + 101, 101):
        with server.recv_view() as view:
            assert len(view) == 101
        return
    for copied in (False, True):
        with pytest.raises((npipe.PipeProtocolError, npipe.PipeClosedError)), server.recv_view(copy=copied, timeout=1):
            pass


def test_a_view_whose_peer_breaks_the_rules_meanwhile(ends: Callable[[], tuple[Peer, Any]]) -> None:
    peer, server = ends()
    peer.send(b"a" * 100)
    with fails(13), server.recv_view() as view:
        peer.put(OUTBOUND + HEAD, 1 << 40)
        with fails(13):
            server.send(b"x" * 5000, timeout=1)
        assert bytes(view) == b"a" * 100


@pytest.mark.parametrize("place", [HEAD, CONSUMED, TAKEN])
@pytest.mark.parametrize("value", [1, 5000, 1 << 40, (1 << 64) - 1])
def test_a_reader_that_lies_about_what_it_has_read(
    ends: Callable[[], tuple[Peer, Any]], place: int, value: int
) -> None:
    peer, server = ends()
    with server.reserve(100) as view:
        view[:] = b"a" * 100
        peer.put(OUTBOUND + place, value)
    with pytest.raises((npipe.PipeProtocolError, npipe.PipeTimeoutError, npipe.PipeClosedError)):
        for _ in range(200):
            with server.reserve(4000, timeout=0.1) as view:
                view[:] = b"b" * 4000


def test_a_peer_that_scribbles_everywhere_while_views_are_out(ends: Callable[[], tuple[Peer, Any]]) -> None:
    for seed in range(f.rounds(30, 1000)):
        rng = random.Random(seed)
        peer, server = ends()
        peer.send(b"a" * 100)
        over = threading.Event()

        def scribble(peer: Peer = peer, rng: random.Random = rng, over: threading.Event = over) -> None:
            while not over.is_set():
                place = rng.choice((INBOUND, OUTBOUND)) + 8 * rng.randrange(96)
                peer.put(place, rng.choice((0, 1, 105, 106, 200, 65536, 1 << 33, rng.getrandbits(64))))

        scribbler = threading.Thread(target=scribble)
        scribbler.start()
        try:
            for _ in range(50):
                with server.recv_view(timeout=0.002) as view:
                    assert len(bytes(view)) == len(view)
                with server.reserve(rng.randrange(1, 4000), timeout=0.002) as view:
                    view[:] = bytes(len(view))
        except npipe.PipeError:
            pass
        finally:
            over.set()
            scribbler.join(DEADLINE)


# ---- Killed at random points

WRITER = """
    import sys, zlib, npipe

    pipe = npipe.connect(sys.argv[1])
    print("begun", flush=True)
    number = 0
    while True:
        size = 8 + number * 7919 % 60_000
        with pipe.reserve(size + 100) as view:
            view[4:8] = number.to_bytes(4, "little")
            view[8:size] = bytes([number % 251]) * (size - 8)
            view[:4] = zlib.crc32(view[4:size]).to_bytes(4, "little")
            view.obj.shrink(size)
        number += 1
"""

READER = """
    import sys, npipe

    pipe = npipe.connect(sys.argv[1])
    print("begun", flush=True)
    number = 0
    while True:
        with pipe.recv_view() as view:
            assert bytes(view[:4]) == number.to_bytes(4, "little")
        number += 1
"""


def test_what_a_killed_writer_has_sent_is_whole(name: str, child: Callable[..., Child]) -> None:
    import zlib

    for seed in range(f.rounds(8, 100)):
        rng = random.Random(seed)
        with npipe.listen(name, in_buffer_size=200_000) as listener:
            process = child(WRITER, name)
            with listener.accept(20) as server:
                assert process.line() == "begun"
                last, number = rng.randrange(200), 0
                with fails(109):
                    while True:
                        with server.recv_view(timeout=20, copy=rng.random() < 0.2) as view:
                            assert int.from_bytes(view[4:8], "little") == number
                            assert len(view) == 8 + number * 7919 % 60_000
                            assert zlib.crc32(view[4:]) == int.from_bytes(view[:4], "little")
                        if number == last:
                            os.kill(process.pid, signal.SIGKILL)
                        number += 1
                assert number > last


def test_a_killed_reader_ends_its_writer(name: str, child: Callable[..., Child]) -> None:
    for seed in range(f.rounds(8, 100)):
        rng = random.Random(seed)
        with npipe.listen(name, out_buffer_size=200_000) as listener:
            process = child(READER, name)
            with listener.accept(20) as server:
                assert process.line() == "begun"
                last, number = rng.randrange(200), 0
                with pytest.raises(npipe.PipeClosedError):
                    while True:
                        with server.reserve(rng.randrange(4, 60_000), timeout=20) as view:
                            view[:4] = number.to_bytes(4, "little")
                        if number == last:
                            os.kill(process.pid, signal.SIGKILL)
                        number += 1
