"""The peers: one class for each way to move messages between two processes, all with the same few methods."""

from __future__ import annotations

import importlib
import socket
import threading
from functools import partial
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Protocol

from .tasks import Channel, Ways

if TYPE_CHECKING:
    from pathlib import Path

_CYCLE_MESSAGE = bytes(64)
_BACKLOG = 128


class Acceptor(Protocol):
    """A server's side before a client has come."""

    def accept(self) -> Channel:
        """Wait for the next client; for a peer without connections, the next prepared socket."""


class Peer:
    """What every peer does, for those with connections; the others override the cycle."""

    name: str
    module: str  # imported to see whether the peer is installed
    folder: Path  # private to this run, for socket files

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def version(self) -> str:
        """Import the peer and return its version.

        Raises ModuleNotFoundError when it is not installed.
        """
        return str(getattr(importlib.import_module(self.module), "__version__", ""))

    def listen(self, address: str, count: int) -> Acceptor:
        """Start to listen for ``count`` clients."""
        raise NotImplementedError

    def connect(self, address: str, index: int) -> Channel:
        """Connect as client number ``index``."""
        raise NotImplementedError

    def answer_cycles(self, address: str, ready: threading.Event) -> None:
        """Serve for ever: accept, answer one message, wait until the client closes, close."""
        acceptor = self.listen(address, 1)
        ready.set()
        while True:
            channel = acceptor.accept()
            ways = channel.ways(len(_CYCLE_MESSAGE))
            try:
                ways.send(ways.recv())
                ways.recv()
            except (EOFError, OSError):
                pass  # the client has closed
            channel.close()

    def cycle(self, address: str) -> None:
        """Connect, do one round trip, close."""
        channel = self.connect(address, 0)
        ways = channel.ways(len(_CYCLE_MESSAGE))
        ways.send(_CYCLE_MESSAGE)
        ways.recv()
        channel.close()


class _PipeChannel:
    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def ways(self, size: int) -> Ways:
        pipe = self._pipe
        return Ways(pipe.send, pipe.recv, partial(pipe.recv_into, bytearray(size)))

    def close(self) -> None:
        self._pipe.close()


class _PipeAcceptor:
    def __init__(self, listener: Any) -> None:
        self._listener = listener

    def accept(self) -> Channel:
        return _PipeChannel(self._listener.accept())


class Npipe(Peer):
    """The project's own: message pipes over the local engine, every option at its default."""

    name = "npipe"
    module = "npipe"

    def listen(self, address: str, count: int) -> Acceptor:  # noqa: ARG002 - instances are made as clients come
        """Listen on a message pipe."""
        return _PipeAcceptor(importlib.import_module("npipe").listen(address))

    def connect(self, address: str, index: int) -> Channel:  # noqa: ARG002 - all clients use one name
        """Open the pipe by its name."""
        return _PipeChannel(importlib.import_module("npipe").connect(address))


class _ConnectionChannel:
    def __init__(self, conn: connection.Connection) -> None:
        self._conn = conn

    def ways(self, size: int) -> Ways:
        conn = self._conn
        return Ways(conn.send_bytes, conn.recv_bytes, partial(conn.recv_bytes_into, bytearray(size)))

    def close(self) -> None:
        self._conn.close()


class _ConnectionAcceptor:
    def __init__(self, listener: connection.Listener) -> None:
        self._listener = listener

    def accept(self) -> Channel:
        return _ConnectionChannel(self._listener.accept())


class Multiprocessing(Peer):
    """The standard library's Listener and Client over a Unix socket, without authentication; bytes, no pickling."""

    name = "multiprocessing.connection"
    module = "multiprocessing.connection"

    def listen(self, address: str, count: int) -> Acceptor:  # noqa: ARG002
        """Listen on a Unix socket."""
        return _ConnectionAcceptor(connection.Listener(str(self.folder / address), "AF_UNIX", backlog=_BACKLOG))

    def connect(self, address: str, index: int) -> Channel:  # noqa: ARG002
        """Connect to the Unix socket."""
        conn = connection.Client(str(self.folder / address), "AF_UNIX")
        return _ConnectionChannel(conn)


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
            return Ways(sock.send, partial(sock.recv, size), partial(sock.recv_into, buffer))
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

        return Ways(send, recv, recv_into)

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
        sock.listen(_BACKLOG)
        return _SocketAcceptor(sock)

    def connect(self, address: str, index: int) -> Channel:  # noqa: ARG002
        """Connect to the Unix socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(self.folder / address))
        return _SocketChannel(sock)


class _PairChannel:
    """One end of pyzmq's or pynng's exclusive pair: both call it send, recv and close."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def ways(self, size: int) -> Ways:  # noqa: ARG002
        return Ways(self._sock.send, self._sock.recv)

    def close(self) -> None:
        self._sock.close()


class _PairAcceptor:
    """A pair socket belongs to one client, so there is one for each, made beforehand, with an address of its own."""

    def __init__(self, sockets: list[Any]) -> None:
        self._channels = iter([_PairChannel(sock) for sock in sockets])

    def accept(self) -> Channel:
        channel = next(self._channels, None)
        if channel is None:
            threading.Event().wait()  # for ever: no more clients were announced
            raise AssertionError
        return channel


class Pyzmq(Peer):
    """ZeroMQ: PAIR sockets over ipc; REQ and REP for the connect cycle, as a PAIR takes no second client at once."""

    name = "pyzmq"
    module = "zmq"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._context: Any = None

    def _socket(self, kind: str) -> Any:
        zmq = importlib.import_module("zmq")
        if self._context is None:
            self._context = zmq.Context()
            self._context.set(zmq.MAX_SOCKETS, 8192)
        sock = self._context.socket(getattr(zmq, kind))
        sock.setsockopt(zmq.LINGER, 0)
        return sock

    def _url(self, address: str, index: int) -> str:
        return f"ipc://{self.folder / address}-{index}"

    def listen(self, address: str, count: int) -> Acceptor:
        """Bind a PAIR for every client."""
        sockets = []
        for index in range(count):
            sock = self._socket("PAIR")
            sock.bind(self._url(address, index))
            sockets.append(sock)
        return _PairAcceptor(sockets)

    def connect(self, address: str, index: int) -> Channel:
        """Connect a PAIR to that of this index."""
        sock = self._socket("PAIR")
        sock.connect(self._url(address, index))
        return _PairChannel(sock)

    def answer_cycles(self, address: str, ready: threading.Event) -> None:
        """Answer on one REP socket."""
        sock = self._socket("REP")
        sock.bind(self._url(address, 0))
        ready.set()
        while True:
            sock.send(sock.recv())

    def cycle(self, address: str) -> None:
        """Use a REQ socket once."""
        sock = self._socket("REQ")
        sock.connect(self._url(address, 0))
        sock.send(_CYCLE_MESSAGE)
        sock.recv()
        sock.close()


class Pynng(Peer):
    """nanomsg-next-generation: Pair0 sockets over ipc; Req0 and Rep0 for the connect cycle."""

    name = "pynng"
    module = "pynng"

    def _url(self, address: str, index: int) -> str:
        return f"ipc://{self.folder / address}-{index}"

    def listen(self, address: str, count: int) -> Acceptor:
        """Listen with a Pair0 for every client."""
        pynng = importlib.import_module("pynng")
        return _PairAcceptor([pynng.Pair0(listen=self._url(address, index)) for index in range(count)])

    def connect(self, address: str, index: int) -> Channel:
        """Dial the Pair0 of this index."""
        pynng = importlib.import_module("pynng")
        sock = pynng.Pair0()
        sock.dial(self._url(address, index), block=True)
        return _PairChannel(sock)

    def answer_cycles(self, address: str, ready: threading.Event) -> None:
        """Answer on one Rep0 socket."""
        sock = importlib.import_module("pynng").Rep0(listen=self._url(address, 0))
        ready.set()
        while True:
            sock.send(sock.recv())

    def cycle(self, address: str) -> None:
        """Use a Req0 socket once."""
        sock = importlib.import_module("pynng").Req0()
        sock.dial(self._url(address, 0), block=True)
        sock.send(_CYCLE_MESSAGE)
        sock.recv()
        sock.close()


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Npipe, Multiprocessing, Seqpacket, Pyzmq, Pynng)}
