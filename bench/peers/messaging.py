"""ZeroMQ and nanomsg."""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

from bench.tasks import Channel, Ways

from .base import CYCLE_MESSAGE, Acceptor, Peer

if TYPE_CHECKING:
    from pathlib import Path


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
        sock.send(CYCLE_MESSAGE)
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
        sock.send(CYCLE_MESSAGE)
        sock.recv()
        sock.close()
