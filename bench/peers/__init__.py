"""The peers: one class for each way to move messages between two processes, all with the same few methods."""

from __future__ import annotations

from .base import Acceptor, Peer
from .connections import Multiprocessing, MultiprocessingBytes
from .loops import Streams
from .messaging import Pynng, Pyzmq
from .npipes import Npipe, NpipeConnection, NpipeCopying
from .shared import Iceoryx2, Iceoryx2Copying, MomentumX, SharedMemory
from .sockets import Seqpacket

__all__ = ["PEERS", "Acceptor", "Peer", "taking_part"]

_ALL: tuple[type[Peer], ...] = (
    Npipe,
    NpipeCopying,
    NpipeConnection,
    Multiprocessing,
    MultiprocessingBytes,
    Seqpacket,
    Streams,
    Pyzmq,
    Pynng,
    SharedMemory,
    Iceoryx2,
    Iceoryx2Copying,
    MomentumX,
)
PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in _ALL}


def taking_part(scenario: str, peers: list[str]) -> list[str]:
    """Return those of ``peers`` that take part in a scenario; a core each or not is the same scenario."""
    scenario = scenario.removesuffix("-apart")
    return [name for name in peers if scenario in PEERS[name].scenarios]
