"""What `npipe top` knows of pipes: rates and their history, from one answer of the owners to the next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from npipe.figures import ConnectionReport, OwnerReport, PipeReport, PipeStats, Totals

__all__ = ["HISTORY", "Board", "ConnectionRow", "PipeRow", "PipeState", "Rates", "Sample", "matches"]

HISTORY: Final = 120
"""How many rates are kept."""
_FORGOTTEN: Final = 5.0  # seconds for which a pipe that has gone is shown


class Rates(NamedTuple):
    """What is moved in a second: in is from client to server."""

    bytes_in: float = 0.0
    bytes_out: float = 0.0
    messages_in: float = 0.0
    messages_out: float = 0.0

    @property
    def bytes(self) -> float:
        """Bytes, both ways."""
        return self.bytes_in + self.bytes_out

    @property
    def messages(self) -> float:
        """Messages, both ways."""
        return self.messages_in + self.messages_out


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer, or that there is none."""

    name: str
    r"""The full name, `\\.\pipe\NAME`."""
    at: float
    """When, in seconds of the monotonic clock."""
    wall: float
    """The same, in seconds since 1970."""
    report: PipeReport | None
    """None: there is no such pipe, or nobody could be asked."""
    problem: str | None = None
    """Why nobody could be asked; None without a report: there is no such pipe."""


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """A connection, as it is shown."""

    owner: int
    number: int
    """Among the owner's."""
    pid: int | None
    user: str
    program: str
    remote: bool
    left: bool
    """It has ended, and the server has not released it."""
    since: float
    rates: Rates
    history: Sequence[Rates]
    bytes: int
    messages: int
    unread_in: int
    unread_out: int
    quota_in: int
    quota_out: int
    depth: float
    """The fuller one of its two ways: 1 is its quota."""
    readers: int
    """Who waits for data, at both ends."""
    writers: int
    """Who waits for room."""
    idle: float
    """For how many seconds its counts had not changed, when they were told last."""
    idle_exactly: bool
    """False: for longer than that, for nobody had looked before."""

    @property
    def key(self) -> tuple[int, int]:
        """What no other connection of the pipe has."""
        return self.owner, self.number


@dataclass(frozen=True, slots=True)
class PipeRow:
    """A pipe, as it is shown."""

    name: str
    type: str
    direction: str
    instances: int
    limit: int | None
    clients: int | None
    """None: nobody tells."""
    ended: int
    """Of these, how many have gone without that the server has released them."""
    waiting: int
    """Clients that wait for an instance."""
    pids: tuple[int, ...]
    users: tuple[str, ...]
    programs: tuple[str, ...]
    rates: Rates | None
    """None: nobody tells, or there was only one answer yet."""
    history: Sequence[Rates]
    bytes: int
    messages: int
    unread: int
    depth: float | None
    """The fullest way of any connection: 1 is its quota."""
    readers: int
    writers: int
    answer: float | None
    """How long the slowest owner took to answer, in seconds."""
    problem: str | None
    gone: bool

    @property
    def key(self) -> str:
        """What no other pipe has."""
        return self.name


class _Meter:
    """Counters that only grow, and how fast. One that goes back was rough: it does not count until it has caught up."""

    __slots__ = ("_at", "_counts", "rates")

    def __init__(self, counts: tuple[int, int, int, int], at: float) -> None:
        self._counts, self._at = counts, at
        self.rates = Rates()

    def feed(self, counts: tuple[int, int, int, int], at: float) -> Rates:
        spent = at - self._at
        if spent > 0:
            before = self._counts
            self._counts = now = (
                max(before[0], counts[0]),
                max(before[1], counts[1]),
                max(before[2], counts[2]),
                max(before[3], counts[3]),
            )
            self._at = at
            self.rates = Rates(*[(new - old) / spent for new, old in zip(now, before, strict=True)])
        return self.rates


class _Gauge:
    """A connection's meter, what it has shown, and for how long nothing has changed."""

    __slots__ = ("_seen", "_told", "history", "idle", "idle_exactly", "meter")

    def __init__(self, meter: _Meter, stats: PipeStats, wall: float, *, is_new: bool) -> None:
        self.meter = meter
        self.history: deque[Rates] = deque(maxlen=HISTORY)
        told = _whole_counts(stats)
        untouched = not any(told)  # since it is connected
        self._told = told
        self._seen = min(stats.since, wall) if untouched else wall
        self.idle = wall - self._seen
        self.idle_exactly = untouched or is_new

    def feed(self, stats: PipeStats, at: float, wall: float) -> None:
        """Take what a connection tells."""
        self.history.append(self.meter.feed(_counts(stats), at))
        told = _whole_counts(stats)
        if told != self._told:
            self._told, self._seen, self.idle_exactly = told, wall, True
        self.idle = max(0.0, wall - self._seen)


def _counts(stats: PipeStats | Totals) -> tuple[int, int, int, int]:
    return stats.bytes_received, stats.bytes_sent, stats.messages_received, stats.messages_sent


def _whole_counts(stats: PipeStats) -> tuple[int, ...]:
    return (*_counts(stats), stats.unread, stats.unread_by_peer, stats.unread_messages_by_peer)


_ZERO: Final = (0, 0, 0, 0)


class PipeState:
    """What is known of one pipe."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.report: PipeReport | None = None
        """The last one that there was."""
        self.problem: str | None = None
        self.gone_at: float | None = None
        """Since when it is not there, by the monotonic clock; None: it is there."""
        self.history: deque[Rates] = deque(maxlen=HISTORY)
        self.rates: Rates | None = None
        self._owners: dict[tuple[int, float], _Meter] = {}
        self._connections: dict[tuple[int, int], _Gauge] = {}
        self._last: Sample | None = None

    def feed(self, sample: Sample) -> None:
        """Take an answer. One that is older than the last does not count."""
        last = self._last
        if last is not None and sample.at <= last.at:
            return
        self._last = sample
        self.problem = sample.problem
        if sample.report is None:
            if sample.problem is None:
                self.gone_at = sample.at if self.gone_at is None else self.gone_at
                self._owners.clear()
                self._connections.clear()
            self.rates = None
            return
        self.gone_at = None
        self.report = sample.report
        told = [owner for owner in sample.report.owners if owner.since is not None]
        moved = [self._feed_owner(owner, sample, last) for owner in told]
        there = {owner.pid for owner in sample.report.owners}
        for key in [key for key in self._owners if key[0] not in there]:
            del self._owners[key]
        for one in [one for one in self._connections if one[0] not in there]:
            del self._connections[one]
        if told and last is not None and last.report is not None:
            self.rates = Rates(*map(sum, zip(*moved, strict=True)))
            self.history.append(self.rates)
        else:
            self.rates = None

    def _feed_owner(self, owner: OwnerReport, sample: Sample, last: Sample | None) -> Rates:
        assert owner.since is not None  # noqa: S101 - who calls has looked
        key = owner.pid, owner.since
        meter = self._owners.get(key)
        known = meter is not None
        if meter is None:
            # Since the last answer it has begun from zero; what it has moved before nobody saw.
            new = last is not None and owner.since >= last.wall
            meter = _Meter(_ZERO, last.at) if new and last is not None else _Meter(_counts(owner.totals), sample.at)
            self._owners[key] = meter
        began = meter._at  # noqa: SLF001 - its own
        rates = meter.feed(_counts(owner.totals), sample.at)
        if owner.code == 0:  # else the list is not whole
            self._feed_connections(owner, sample, began if known else None)
        return rates

    def _feed_connections(self, owner: OwnerReport, sample: Sample, began: float | None) -> None:
        gauges, at = self._connections, sample.at
        for one in owner.connections:
            key = owner.pid, one.number
            gauge = gauges.get(key)
            if gauge is None:
                meter = _Meter(_counts(one.stats), at) if began is None else _Meter(_ZERO, began)
                gauges[key] = gauge = _Gauge(meter, one.stats, sample.wall, is_new=began is not None)
            gauge.feed(one.stats, at, sample.wall)
        if len(gauges) > len(owner.connections):
            live = {one.number for one in owner.connections}
            for key in [key for key in gauges if key[0] == owner.pid and key[1] not in live]:
                del gauges[key]

    def row(self) -> PipeRow:
        """Return the pipe's line."""
        report = self.report
        owners = () if report is None else report.owners
        told = [owner for owner in owners if owner.since is not None]
        live = [one for owner in told for one in owner.connections]
        answers = [owner.answered_in for owner in owners if owner.answered_in is not None]
        problems = [owner.problem for owner in owners if owner.problem is not None]
        gone = self.gone_at is not None
        return PipeRow(
            name=self.name,
            type="" if report is None else report.type or "",
            direction="" if report is None else report.direction or "",
            instances=0 if report is None or gone else max(report.instances, sum(owner.instances for owner in told)),
            limit=None if report is None else report.max_instances,
            clients=sum(owner.totals.connected for owner in told) if told and not gone else None,
            ended=0 if gone else sum(owner.ended for owner in told),
            waiting=sum(owner.waiting for owner in told),
            pids=tuple(owner.pid for owner in owners),
            users=tuple(dict.fromkeys(owner.user for owner in owners)),
            programs=tuple(owner.program or "" for owner in owners),
            rates=self.rates,
            history=tuple(self.history),
            bytes=sum(owner.totals.bytes_received + owner.totals.bytes_sent for owner in told),
            messages=sum(owner.totals.messages_received + owner.totals.messages_sent for owner in told),
            unread=sum(one.stats.unread + one.stats.unread_by_peer for one in live),
            depth=max(map(_depth, live), default=0.0) if told else None,
            readers=sum(map(_readers, live)),
            writers=sum(map(_writers, live)),
            answer=max(answers, default=None) if not gone else None,
            problem="there is no such pipe" if gone else self.problem or (problems[0] if problems else None),
            gone=gone,
        )

    def connections(self) -> list[ConnectionRow]:
        """Return the lines of its connections; none if it has gone."""
        if self.report is None or self.gone_at is not None:
            return []
        return [self._connection(owner.pid, one) for owner in self.report.owners for one in owner.connections]

    def _connection(self, owner: int, one: ConnectionReport) -> ConnectionRow:
        gauge = self._connections.get((owner, one.number))
        stats = one.stats
        return ConnectionRow(
            owner=owner,
            number=one.number,
            pid=one.pid,
            user=one.user or "",
            program=one.program or "",
            remote=one.remote,
            left=one.left,
            since=stats.since,
            rates=Rates() if gauge is None else gauge.meter.rates,
            history=() if gauge is None else gauge.history,
            bytes=stats.bytes_received + stats.bytes_sent,
            messages=stats.messages_received + stats.messages_sent,
            unread_in=stats.unread,
            unread_out=stats.unread_by_peer,
            quota_in=one.in_buffer_size,
            quota_out=one.out_buffer_size,
            depth=_depth(one),
            readers=_readers(one),
            writers=_writers(one),
            idle=0.0 if gauge is None else gauge.idle,
            idle_exactly=gauge is not None and gauge.idle_exactly,
        )


def _depth(one: ConnectionReport) -> float:
    # A quota of nothing holds nothing: whatever is there waits with its writer.
    return max(one.stats.unread / max(1, one.in_buffer_size), one.stats.unread_by_peer / max(1, one.out_buffer_size))


def _readers(one: ConnectionReport) -> int:
    return max(one.stats.pending_reads, one.stats.reading_for is not None) + one.stats.peer_waits_to_read


def _writers(one: ConnectionReport) -> int:
    return max(one.stats.pending_writes, one.stats.writing_for is not None) + one.stats.peer_waits_to_write


class Board:
    """All pipes that are known. One that has gone stays for a moment, and as long as it is `kept`."""

    def __init__(self) -> None:
        self.pipes: dict[str, PipeState] = {}
        self.kept: set[str] = set()

    def feed(self, sample: Sample) -> None:
        """Take an answer."""
        state = self.pipes.get(sample.name)
        if state is None:
            if sample.report is None and sample.problem is None and sample.name not in self.kept:
                return
            state = self.pipes[sample.name] = PipeState(sample.name)
        state.feed(sample)

    def forget(self, now: float) -> None:
        """Forget what has gone a moment ago."""
        for name, state in list(self.pipes.items()):
            if state.gone_at is not None and now - state.gone_at > _FORGOTTEN and name not in self.kept:
                del self.pipes[name]

    def rows(self) -> list[PipeRow]:
        """Return the lines of all pipes."""
        return [state.row() for state in self.pipes.values()]


def matches(wanted: str, fields: Iterable[str]) -> bool:
    """Return whether each word of `wanted` is in one of the fields, whatever its case."""
    text = "\n".join(fields).casefold()
    return all(word in text for word in wanted.casefold().split())
