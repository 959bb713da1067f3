"""What a hostile peer has beside the messages of the rendezvous (tests/rendezvous.py): a link, and segments."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from tests.rendezvous import HOLD, IO_PENDING, OK, code_of, dial, request

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def open_link(name: str) -> tuple[socket.socket, int]:
    """An opened pipe: the socket and the descriptor of the segment."""
    raw = dial(name)
    raw.send(request(flags=HOLD))
    while True:
        data, descriptors, _, _ = socket.recv_fds(raw, 4096, 4)
        code = code_of(data)
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
