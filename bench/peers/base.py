"""What every peer has: the few methods that the scenarios call."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from bench.tasks import Channel

CYCLE_MESSAGE = bytes(64)
BACKLOG = 128
COMMON = frozenset({"roundtrip", "oneway", "tail", "cycle", "busy", "clients", "idle", "memory"})
SLOT = 1 << 20  # bytes of a message that fits, in peers that want to know before


class Acceptor(Protocol):
    """A server's side before a client has come."""

    def accept(self) -> Channel:
        """Wait for the next client; for a peer without connections, the next prepared socket."""


class Peer:
    """What every peer does, for those with connections; the others override the cycle."""

    name: str
    module: str  # imported to see whether the peer is installed
    folder: Path  # private to this run, for socket files
    scenarios = COMMON  # those that it takes part in
    slot = SLOT  # bytes of the longest message
    roomy = False  # room for more than one message of this size, where that is an option

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
            ways = channel.ways(len(CYCLE_MESSAGE))
            try:
                ways.send(ways.recv())
                ways.recv()
            except (EOFError, OSError):
                pass  # the client has closed
            channel.close()

    def cycle(self, address: str) -> None:
        """Connect, do one round trip, close."""
        channel = self.connect(address, 0)
        ways = channel.ways(len(CYCLE_MESSAGE))
        ways.send(CYCLE_MESSAGE)
        ways.recv()
        channel.close()
