"""The rendezvous by hand: a pipe's folder, and what a client and an owner say before there is a link.

docs/protocol.md, sections 2 and 3. What is said, and in which order, is up to the test.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from npipe.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC, VERSION = 0x5250504E, 1
OPEN, WAIT, QUERY, NUDGE, DESCRIBE, STAY = 1, 2, 3, 4, 5, 16
HOLD, KEEP = 1, 2
READ, WRITE = 1, 2
OK, RETRY, IO_PENDING = 0, 0x10003, 997

PAGE_MAGIC = 0x4650504E
PLACES = 128  # for owners, in the page of a pipe

_LONGEST_ADDRESS = 107  # bytes

_REQUEST = struct.Struct("<6IQ")
_ANSWER = struct.Struct("<12I")
_HEAD = struct.Struct("<7I1024s4x")
_PLACE = struct.Struct("<Q4I8x")


# ---- The folder and its page


def folder_of(name: str) -> Path:
    """The folder of a pipe."""
    return Path(os.environ["NPIPE_ROOT"]) / parse_name(name).folder


def sockets_of(name: str) -> list[Path]:
    """The sockets of a pipe's owners."""
    return sorted(folder_of(name).glob("s" + "?" * 16))


def socket_of(name: str) -> Path:
    """The socket of a pipe that one process owns."""
    (found,) = sockets_of(name)
    return found


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """The same folder by a path that fits into a socket's address."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class Place(NamedTuple):
    """An owner in the page of a pipe."""

    number: int  # of its socket; 0 when nobody has the place
    pid: int
    instances: int
    listening: int
    waiters: int

    def packed(self) -> bytes:
        return _PLACE.pack(*self)


def place_at(index: int) -> int:
    """Where a place stands in the page."""
    return _HEAD.size + index * _PLACE.size


def places_of(name: str) -> list[Place]:
    """What the page of a pipe says of its owners."""
    page = (folder_of(name) / "pipe").read_bytes()
    return [Place(*place) for place in _PLACE.iter_unpack(page[place_at(0) : place_at(PLACES)])]


def page(places: list[Place], *, display: bytes = b"x") -> bytes:
    """The page of an inbound pipe of bytes that has one instance at the most."""
    return _HEAD.pack(PAGE_MAGIC, 1, 0, 1, 1, 50, len(display), display) + b"".join(each.packed() for each in places)


# ---- A client


def _socket() -> socket.socket:
    if sys.platform == "win32":
        raise NotImplementedError("there is no rendezvous")
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def dial(where: str | Path, deadline: float | None = 10.0) -> socket.socket:
    """A connection to an owner, which has heard nothing yet: by the name of a pipe, or by the path of a socket.

    `deadline`: for what is sent and received, in seconds.
    """
    path = socket_of(where) if isinstance(where, str) else where
    made = _socket()
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        made.connect(str(path))
    else:
        with _short(path.parent) as folder:
            made.connect(f"{folder}/{path.name}")
    made.settimeout(deadline)
    return made


def request(
    kind: int = OPEN,
    *,
    flags: int = 0,
    access: int = READ | WRITE,
    offer: int = 0,
    magic: int = MAGIC,
    version: int = VERSION,
) -> bytes:
    """What a client says."""
    return _REQUEST.pack(magic, version, kind, flags, access, 0, offer)


# ---- An owner


class Answer(NamedTuple):
    """What an owner says."""

    magic: int
    version: int
    kind: int
    code: int
    default_timeout_ms: int  # QUERY: the pipe's id
    type: int
    direction: int
    max_instances: int
    instances: int
    owner_pid: int
    listening: int  # OPEN: the pipe's id
    last: int  # QUERY: the size of the name, which follows; OPEN: whether the offered segment is used again


def answer(
    code: int = OK,
    *,
    kind: int = OPEN,
    magic: int = MAGIC,
    version: int = VERSION,
    type: int = 4,
    direction: int = 3,
    max_instances: int = 255,
    last: int = 0,
) -> bytes:
    """An owner's answer, of a pipe of messages with one instance that listens."""
    return _ANSWER.pack(
        *Answer(magic, version, kind, code, 50, type, direction, max_instances, 1, os.getpid(), 1, last)
    )


def read_answer(data: bytes) -> Answer:
    """An answer, with or without a name behind it."""
    return Answer(*_ANSWER.unpack_from(data))


def code_of(data: bytes) -> int:
    """The code of an answer of our version."""
    said = read_answer(data)
    assert (said.magic, said.version) == (MAGIC, VERSION)
    return said.code


class Owner:
    """An owner of a pipe that answers what it is told to. Each connection is for one request."""

    def __init__(self, name: str, *, mode: int = 0o700, backlog: int = 100) -> None:
        folder = folder_of(name)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=mode)
        self.path = folder / "s0000000000000001"
        self.socket = _socket()
        with _short(folder) as path:
            self.socket.bind(f"{path}/{self.path.name}")
        self.socket.listen(backlog)

    def next_client(self) -> socket.socket:
        """A client that has said what it wants."""
        client, _ = self.socket.accept()
        client.settimeout(10)
        assert len(client.recv(4096)) == _REQUEST.size
        return client

    def answer(self, message: bytes, descriptors: list[int] | None = None) -> None:
        """Answer the next client; hang up without a word if that is b""."""
        if sys.platform == "win32":
            raise NotImplementedError("there is no rendezvous")
        client, _ = self.socket.accept()
        with client:
            client.settimeout(10)
            client.recv(4096)
            if message:
                socket.send_fds(client, [message], descriptors or [])

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def own(name: str, *, mode: int = 0o700, backlog: int = 100) -> Iterator[Owner]:
    """An owner of a pipe, for as long as the block runs. `mode`: of the pipe's folder."""
    made = Owner(name, mode=mode, backlog=backlog)
    try:
        yield made
    finally:
        made.close()
