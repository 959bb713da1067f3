"""Peers that speak the rendezvous by hand: what they say is up to the test (docs/protocol.md)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from npipe.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC, VERSION = 0x5250504E, 1
OPEN, WAIT, QUERY, NUDGE, STAY = 1, 2, 3, 4, 16
HOLD = 1
READ, WRITE = 1, 2
OK, RETRY, IO_PENDING = 0, 0x10003, 997
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def folder_of(name: str) -> Path:
    """The folder of a pipe."""
    return Path(os.environ["NPIPE_ROOT"]) / parse_name(name).folder


def socket_of(name: str) -> Path:
    """The socket of a pipe that one process owns."""
    (found,) = folder_of(name).glob("s" + "?" * 16)
    return found


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """The same folder by a path that fits into a socket's address."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def dial(name: str) -> socket.socket:
    """A connection to the owner, who has heard nothing yet."""
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    raw.settimeout(10)
    with _short(folder_of(name)) as path:
        raw.connect(f"{path}/{socket_of(name).name}")
    return raw


def request(
    kind: int, *, flags: int = 0, access: int = READ | WRITE, magic: int = MAGIC, version: int = VERSION
) -> bytes:
    return struct.pack("<8I", magic, version, kind, flags, access, 0, 0, 0)


def answer(code: int, *, kind: int = OPEN, magic: int = MAGIC, version: int = VERSION, reused: int = 0) -> bytes:
    return struct.pack("<12I", magic, version, kind, code, 50, 4, 3, 255, 1, os.getpid(), 1, reused)


def open_link(name: str) -> tuple[socket.socket, int]:
    """An opened pipe: the socket and the descriptor of the segment."""
    raw = dial(name)
    raw.send(request(OPEN, flags=HOLD))
    while True:
        data, descriptors, _, _ = socket.recv_fds(raw, 4096, 4)
        code = struct.unpack_from("<I", data, 12)[0]
        if code != IO_PENDING:
            break
    assert code == OK
    return raw, descriptors[0]


def segment(size: int = 4096 + 2 * 65536, *, header: bytes = b"", seals: int = SEALS, flags: int = 0) -> int:
    """A memory file as a server would send it, or nearly."""
    made = os.memfd_create("hostile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    os.ftruncate(made, size)
    os.pwrite(made, header, 0)
    if seals:
        fcntl.fcntl(made, fcntl.F_ADD_SEALS, seals)
    return made


def good_header(size: int = 4096 + 2 * 65536) -> bytes:
    """Of a duplex message pipe with buffers of 4096 bytes."""
    return struct.pack(
        "<2I5Q6IQ", 0x4B4C504E, 1, size, 4096, 4096 + 65536, 65536, 65536, 4096, 4096, 4, 3, os.getpid(), 0, 7
    )


class Server:
    """An owner of a pipe of whom nobody knows what it will answer."""

    def __init__(self, name: str) -> None:
        folder = folder_of(name)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with _short(folder) as path:
            self.socket.bind(path + "/s" + "0" * 15 + "1")
        self.socket.listen(100)

    def next_client(self) -> socket.socket:
        """Somebody who has said what he wants."""
        client, _ = self.socket.accept()
        client.settimeout(10)
        assert len(client.recv(4096)) == 32
        return client

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def own(name: str) -> Iterator[Server]:
    server = Server(name)
    try:
        yield server
    finally:
        server.close()


def descriptors(pid: int | None = None) -> int:
    """How many a process has open."""
    return sum(1 for _ in Path(f"/proc/{os.getpid() if pid is None else pid}/fd").iterdir())
