"""What every end of a relay offers, whatever carries it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from npipe.options import Mode, Security
    from npipe.remote import Remote

__all__ = [
    "PIECE",
    "Acceptor",
    "Arrival",
    "Channel",
    "CutOffError",
    "Framing",
    "PeerLostError",
    "RelayOptions",
    "UncarriableError",
]

PIECE: Final = 65536
"""Bytes that are carried at a time, where there are no messages."""

Framing = Literal["auto", "raw", "length", "length-be", "lines"]
"""How messages lie in a stream of bytes; see RelayOptions.framing."""


class PeerLostError(Exception):
    """A peer has gone without a proper end, so what it had not read yet is lost, and perhaps some of what it sent."""


@dataclass(frozen=True)
class RelayOptions:
    """How a relay behaves. Times are seconds, None is no limit; sizes are bytes."""

    framing: Framing = "auto"
    """How messages lie in the stream, where one side has messages and the other is a stream. "raw": not at all;
    "length": each after its length, a little-endian number of 4 bytes ("length-be": big-endian); "lines": each on a
    line. "auto": messages stay messages if both sides have them, else "raw"."""
    mode: Mode = "message"
    """The type of a pipe that listens."""
    security: Security | str = "owner"
    """Who may connect to a pipe that listens."""
    verify_owner: bool = True
    """Dial only pipes whose server is this user's, or root's."""
    remote: Remote | None = None
    """Who to be for pipes of other machines."""
    close_message: bool | None = None
    """Whether the end of what comes from the other side becomes an empty message in a pipe of message type; None: if it
    is read as a stream."""
    end_with_first: bool = False
    """End a connection with the end of what comes from the first side, though the second may have more to say."""
    end_with_second: bool = False
    wait_for_server: bool = False
    """Wait for what is dialled to be there, within connect_timeout."""
    connect_timeout: float | None = 20.0
    """For reaching the other side, and for handshakes."""
    idle_timeout: float | None = None
    """How long nothing may be carried, either way."""
    half_close_timeout: float | None = None
    """The same, once one of the two ways has ended."""
    untold_timeout: float | None = 30.0
    """The same, if the side that goes on cannot be told of that end (a pipe of bytes, a websocket)."""
    linger: float = 2.0
    """How long the last words of who is told to end are waited for (and dropped)."""
    max_connections: int | None = None
    """Connections at one time: who comes then waits."""
    max_message_size: int = 64 * 1024 * 1024
    socket_mode: int = 0o600
    """The permissions of a Unix socket that listens."""
    reconnect: bool = False
    """Dial again after a connection has ended, if nobody listens; not with standard input and output."""
    tls_server: ssl.SSLContext | None = None
    tls_client: ssl.SSLContext | None = None
    tls_name: str | None = None
    """The name that the certificate of who is dialled has to have, if it is not the host's."""
    origins: tuple[str, ...] = ()
    """The web pages that may open a websocket: others are refused, and programs never."""


class UncarriableError(PeerLostError):
    """A message for which the other side has no form."""


class CutOffError(PeerLostError):
    """What a peer says has ended without its proper end, and it may read yet."""


class Channel(ABC):
    """One connected end. One task reads, and one writes."""

    label: str = ""
    """Who is at its other end."""
    messages: bool = False
    """Whether a piece is a message, which may be empty."""
    read_ended: bool = False
    """Whether read has told the end."""
    peer_closed: bool = False
    """Whether that was the end of both ways."""
    parting: str = ""
    """What there is to say of how the peer ended."""
    drained: int = 0
    """Bytes that drain and gone have read, which nobody gets."""

    @abstractmethod
    async def read(self) -> bytes | None:
        """Return the next piece, None at the end; PeerLostError if the peer has gone otherwise.

        Cancelled, it has consumed nothing that a later read, or `close`, does not see.
        """

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Write all of `data`; it is out of this process then. PeerLostError if the peer takes no more."""

    @abstractmethod
    async def finish(self) -> bool:
        """Tell the peer that nothing more will come, while reading goes on; False where it cannot be told."""

    async def gone(self) -> None:
        """After the end was read: wait until the peer has gone altogether; PeerLostError if that was no proper end.

        For ever where this cannot be seen. What it sent yet is counted in `drained`, also if this is cancelled.
        """
        await asyncio.get_running_loop().create_future()

    def unread(self) -> int:
        """Return how many bytes were written that a peer that has gone did not read, if that is known; before close."""
        return 0

    def count_drained(self, size: int) -> None:
        """Count bytes that were read and that nobody gets."""
        self.drained += size

    async def drain(self) -> None:
        """Read up to the end, and count in `drained`, also if it is cancelled."""
        try:
            while not self.read_ended and (data := await self.read()) is not None:
                self.count_drained(len(data))
        except PeerLostError:
            pass

    async def close(self, linger: float) -> int:
        """Let the peer have all that was written, and close; return how many bytes it sent that nobody gets.

        `linger` is how long the peer may take to end its own way, in seconds.
        """
        left = 0
        try:
            if not self.read_ended:
                async with asyncio.timeout(linger):
                    await self.finish()
                    await self.drain()
        except (TimeoutError, PeerLostError):
            pass
        finally:
            left = await self.shut()
        return self.drained + left

    @abstractmethod
    async def shut(self) -> int:
        """Close now; return how many bytes were read ahead, and were not handed out."""


@dataclass(frozen=True)
class Arrival:
    """A client that has come, before any handshake."""

    label: str
    open: Callable[[], Awaitable[Channel]]
    """Make the handshake; PeerLostError when it fails."""
    refuse: Callable[[], Any]
    """Close it without."""


class Acceptor(ABC):
    """A place where clients come."""

    label: str
    """Where it is, with the port that was found."""

    @abstractmethod
    async def accept(self) -> Arrival:
        """Wait for a client. Cancelled, none is lost while the acceptor is open."""

    @abstractmethod
    async def close(self) -> None:
        """Stop listening."""
