"""What a trace comes to: of each pipe how much was said, what went wrong, and how long answers took."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from npipe._text import printable
from npipe.tracing.answers import Exchange, from_client
from npipe.tracing.events import Event, Flags, Kind
from npipe.tracing.lines import seconds_text, shown_moment

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Summary", "Times"]

_DIGITS: Final = 3
_SERVER: Final = int(Flags.SERVER)  # as numbers: quicker by far
_WITHDRAWN: Final = int(Flags.WITHDRAWN)
_MOST_CLOSED: Final = 1024  # connections of a pipe of which something may still be told behind their end
_PROPER_ENDS: Final = frozenset({0, 109, 232, 233})


class Times:
    """Times in ns, kept to three digits, however many there are; the longest one is exact."""

    def __init__(self) -> None:
        self._found: Counter[int] = Counter()
        self.longest: int = 0
        self.count: int = 0

    def add(self, nanoseconds: int) -> None:
        """Count one."""
        self._found[round(nanoseconds, min(0, _DIGITS - len(str(nanoseconds))))] += 1
        self.longest = max(self.longest, nanoseconds)
        self.count += 1

    def percentile(self, percent: int) -> int:
        """Return the least time that so many percent of them do not exceed; 0 without any."""
        left = -(-self.count * percent // 100)
        for time in sorted(self._found):
            left -= self._found[time]
            if left <= 0:
                return min(time, self.longest)
        return 0


@dataclass(slots=True)
class _Way:
    messages: int = 0
    size: int = 0

    def __str__(self) -> str:
        return f"{_number(self.size, 'byte')} in {_number(self.messages, 'message')}"


@dataclass(slots=True)
class _Pipe:
    connections: int = 0
    open: set[tuple[int, int]] = field(default_factory=set)
    closed: dict[tuple[int, int], None] = field(default_factory=dict)  # the oldest first
    ways: tuple[_Way, _Way] = field(default_factory=lambda: (_Way(), _Way()))
    errors: Counter[int] = field(default_factory=Counter)
    answers: Times = field(default_factory=Times)
    unanswered: int = 0

    def count_connection(self, key: tuple[int, int], *, ends: bool) -> None:
        """Count a connection, an event of which has come, if it is a new one."""
        if key not in self.open and key not in self.closed:
            self.connections += 1
            self.open.add(key)
        if ends:
            self.open.discard(key)
            self.closed[key] = None
            if len(self.closed) > _MOST_CLOSED:
                del self.closed[next(iter(self.closed))]


class Summary:
    """Adds up the events and exchanges of a trace."""

    def __init__(self) -> None:
        self._pipes: dict[tuple[str, bool], _Pipe] = {}  # of servers' ends, and of clients'
        self._lost: Counter[str] = Counter()  # nobody knows of which end, nor, of a process's own, of which pipe
        self._first: int | None = None
        self._last = 0
        self._count = 0

    def _pipe(self, event: Event) -> _Pipe:
        key = event.pipe, bool(int(event.flags) & _SERVER)
        found = self._pipes.get(key)
        if found is None:
            found = self._pipes[key] = _Pipe()
        return found

    def add(self, event: Event) -> None:
        """Count an event."""
        self._first = event.time if self._first is None else min(self._first, event.time)
        self._last = max(self._last, event.time)
        self._count += 1
        if event.kind is Kind.LOST:
            self._lost[event.pipe] += event.size
            return
        pipe = self._pipe(event)
        pipe.count_connection((event.owner, event.connection), ends=event.kind is Kind.CLOSED)
        if event.kind is not Kind.DATA:
            if event.code not in _PROPER_ENDS:
                pipe.errors[event.code] += 1
        elif int(event.flags) & _WITHDRAWN:
            pipe.errors[event.code] += 1
        else:
            way = pipe.ways[not from_client(event)]
            way.messages += 1
            way.size += event.size

    def owner_ended(self, pipe: str, owner: int) -> None:
        """Take note that a process has ended, and its connections with it."""
        for key, found in self._pipes.items():
            if key[0] == pipe:
                found.open = {one for one in found.open if one[0] != owner}
                found.closed = {one: None for one in found.closed if one[0] != owner}

    def add_exchange(self, exchange: Exchange) -> None:
        """Count a request that is over; its events count apart."""
        pipe = self._pipe(exchange.pieces[-1])
        if exchange.answer is None:
            pipe.unanswered += 1
        else:
            pipe.answers.add(exchange.nanoseconds)

    def lines(self) -> Iterator[str]:
        """Yield lines for people, one for each pipe, without control characters; none if there was nothing."""
        if self._first is None:
            return
        yield f"{_number(self._count, 'event')}, {shown_moment(self._first)} to {shown_moment(self._last)}"
        for (name, server), pipe in self._pipes.items():
            told = "; ".join(_told(pipe, self._lost[name]))
            yield f"{printable(name)}{'' if server else ' (client)'}: {told}"
        elsewhere = sum(self._lost.values()) - sum(self._lost[name] for name in {name for name, _ in self._pipes})
        if elsewhere:
            yield f"{_number(elsewhere, 'record')} lost, of which nothing else is known"


def _told(pipe: _Pipe, lost: int) -> Iterator[str]:
    errors = _number(sum(pipe.errors.values()), "error")
    if pipe.errors:
        errors += f" ({', '.join(map(str, sorted(pipe.errors)))})"
    came, went = pipe.ways
    yield f"{_number(pipe.connections, 'connection')}, in {came}, out {went}, {errors}, {lost} lost"
    if pipe.answers.count:
        median, nearly_all = (seconds_text(pipe.answers.percentile(percent)) for percent in (50, 99))
        times = f"median {median}, p99 {nearly_all}, longest {seconds_text(pipe.answers.longest)}"
        yield f"{_number(pipe.answers.count, 'answer')}: {times}"
    if pipe.unanswered:
        yield f"{pipe.unanswered} not answered"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
