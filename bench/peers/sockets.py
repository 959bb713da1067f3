"""Packets of Unix sockets."""

from __future__ import annotations

import socket
from functools import partial

from bench.tasks import Channel, Ways

from .base import BACKLOG, Acceptor, Peer


class _SocketChannel:
    # A packet must fit into the socket's send buffer, 208 KiB unless an administrator made it larger; a longer message
    # goes in pieces, and the receiver, who knows the size here, puts them together.
    _PIECE = 128 * 1024

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def ways(self, size: int) -> Ways:
        sock = self._sock
        buffer = bytearray(size)
        if size <= self._PIECE:
            return Ways(sock.send, partial(sock.recv, size), partial(sock.recv_into, buffer), buffer)
        view = memoryview(buffer)
        pieces = [slice(start, start + self._PIECE) for start in range(0, size, self._PIECE)]

        def send(payload: bytes) -> None:
            source = memoryview(payload)
            for piece in pieces:
                sock.send(source[piece])

        def recv_into() -> None:
            for piece in pieces:
                sock.recv_into(view[piece])

        def recv() -> bytes:
            recv_into()
            return bytes(buffer)

        return Ways(send, recv, recv_into, buffer)

    def close(self) -> None:
        self._sock.close()


class _SocketAcceptor:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def accept(self) -> Channel:
        return _SocketChannel(self._sock.accept()[0])


class Seqpacket(Peer):
    """A connected pair of SOCK_SEQPACKET Unix sockets: the least that Python needs for messages through the kernel."""

    name = "SEQPACKET pair"
    module = "socket"

    def listen(self, address: str, count: int) -> Acceptor:  # noqa: ARG002
        """Listen on a Unix socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.bind(str(self.folder / address))
        sock.listen(BACKLOG)
        return _SocketAcceptor(sock)

    def connect(self, address: str, index: int) -> Channel:  # noqa: ARG002
        """Connect to the Unix socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(self.folder / address))
        return _SocketChannel(sock)
