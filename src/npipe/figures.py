"""What is counted of pipes, and what their owners tell of them: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from npipe.options import Direction, Mode

__all__ = ["ConnectionReport", "ListenerStats", "OwnerReport", "PipeReport", "PipeStats", "ProcessStats", "Totals"]


@dataclass(frozen=True)
class PipeStats:
    """What one end of a connection has moved, and who waits: a pipe's `stats`.

    A message is a write: on a byte pipe, too. One that was withdrawn (it timed out, or was cancelled) does not count;
    the bytes that were read of it do. What is unread in the other end's direction is by that end's own word.
    """

    since: float
    """When it was connected, in seconds since 1970 (`time.time`)."""
    bytes_received: int
    """Bytes that reads here have returned."""
    messages_received: int
    """Messages of which the last byte was read here."""
    unread: int
    """Bytes that the other end has written and nobody here has read."""
    bytes_sent: int
    """Bytes that were written here."""
    messages_sent: int
    """Messages that were written here."""
    unread_by_peer: int
    """Of these, bytes that the other end has not read."""
    unread_messages_by_peer: int
    """And messages: one that is read in part counts."""
    pending_reads: int
    """Reads here that wait."""
    pending_writes: int
    """Writes here that wait."""
    reading_for: float | None
    """For how many seconds a thread here has slept in a read; None: none does."""
    writing_for: float | None
    """The same of a write or a flush."""
    peer_waits_to_read: bool
    """Whether the other end waits for something to read, by its own word."""
    peer_waits_to_write: bool
    """Whether it waits for room."""
    waits: int
    """How often a thread here slept in a read, a write or a flush."""


@dataclass(frozen=True)
class Totals:
    """What several connections have moved, those that live and those that have ended."""

    connected: int
    """Connections that live."""
    connections: int
    """All connections."""
    bytes_received: int
    """Bytes that reads in this process have returned."""
    messages_received: int
    """Messages that were read."""
    bytes_sent: int
    """Bytes that were written."""
    messages_sent: int
    """Messages that were written."""
    waits: int
    """How often a thread slept in a read, a write or a flush."""


@dataclass(frozen=True)
class ListenerStats(Totals):
    """What the connections of a pipe that this process has accepted have moved: a listener's `stats`."""

    name: str
    r"""The full name, `\\.\pipe\NAME`."""
    since: float
    """Since when this process has the pipe, in seconds since 1970."""
    instances: int
    """Instances that it has, connected or listening."""
    waiting: int
    """Clients that wait here for an instance."""


@dataclass(frozen=True)
class ProcessStats:
    """What all pipes of this process have moved: `npipe.stats()`."""

    server: Totals
    """Of servers' ends."""
    client: Totals
    """Of clients' ends."""
    connections: Totals
    """Of ends of connections of npipe.connection: messages are those that calls of this process have moved, and waits
    are calls that could not be done at once, as those of long messages are not."""


@dataclass(frozen=True)
class ConnectionReport:
    """One connection, as its server's process tells of it."""

    number: int
    """The instance's, which no other one of the process has."""
    pid: int | None
    """The client's process, by the kernel's word; None of a client of another machine."""
    uid: int | None
    """Its user's number, likewise."""
    user: str | None
    """Its user: the name, or the number where it has none."""
    program: str | None
    """What that process runs; None if it has ended, or cannot be looked at."""
    remote: bool
    """Whether it is a client of another machine."""
    left: bool
    """Whether the client has closed its end."""
    in_buffer_size: int
    """Quota from client to server in bytes."""
    out_buffer_size: int
    """Quota from server to client in bytes."""
    stats: PipeStats
    """What the server's end has moved."""
    rough: bool
    """Whether the counts were on the move when they were taken: messages_sent are then those that were read."""


@dataclass(frozen=True)
class OwnerReport:
    """One process that has instances of a pipe."""

    pid: int
    """Its process, by the kernel's word."""
    uid: int
    """Its user's number."""
    user: str
    """Its user: the name, or the number where it has none."""
    program: str | None
    """What it runs; None where that cannot be looked at."""
    code: int
    """Why it tells nothing, or not all, as a Win32 code: 5 this user is not told, 121 it does not answer, 1 or 1306
    its npipe is of another version, 13 it talks nonsense, 109 it has ended while it was asked; 0: it has told all."""
    problem: str | None
    """Why it tells nothing, or not all; None: it has told all."""
    instances: int
    """Instances that it has."""
    listening: int
    """Of these, how many listen."""
    waiting: int
    """Clients that wait here for an instance."""
    in_buffer_size: int
    """Quota from client to server in bytes, of its newest instance."""
    out_buffer_size: int
    """Quota from server to client in bytes."""
    since: float | None
    """Since when it has the pipe, in seconds since 1970."""
    totals: Totals
    """What all its connections have moved, those that have ended included."""
    connections: tuple[ConnectionReport, ...]
    """Those that live, the oldest instance first."""
    answered_in: float | None
    """How long its first answer took, in seconds: how soon this process gets to serve who connects. None: there was
    none."""

    @property
    def ended(self) -> int:
        """How many of `connections` have ended: the client has gone, and the server has not released the instance.

        That is, it has neither closed nor disconnected its end. They are counted as connected.
        """
        return sum(one.left for one in self.connections)


@dataclass(frozen=True)
class PipeReport:
    """All that the owners of a pipe tell of it: `npipe.inspect`."""

    name: str
    r"""The full name, `\\.\pipe\NAME`."""
    type: Mode | None
    """How it is written; None where nobody tells."""
    direction: Direction | None
    """Which way it carries data, as the server sees it; None where nobody tells."""
    instances: int
    """How many instances exist now."""
    max_instances: int | None
    """How many there may be; None for no limit."""
    owners: tuple[OwnerReport, ...]
    """Who has them. Empty where the system does not tell (Windows)."""
