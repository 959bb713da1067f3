"""Random streams whose content is compared, and what answers them, wherever a socket of the platform's comes from."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def echo(connection: socket.socket) -> None:
    while piece := connection.recv(65536):
        connection.sendall(piece)


class Stream:
    """A random stream, of a seed: both sides know what it is to be."""

    def __init__(self, seed: object, size: int) -> None:
        self._random = random.Random(str(seed))
        self.data = self._random.randbytes(size)
        self.digest = hashlib.sha256(self.data).hexdigest()

    def send(self, send: Callable[[bytes], object]) -> None:
        """Send it in pieces of random sizes."""
        at = 0
        while at < len(self.data):
            size = self._random.choice([1, 7, 512, 4096, 65536, 200_000])
            send(self.data[at : at + size])
            at += size


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
