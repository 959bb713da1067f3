"""Which message answers which: the requests of a trace with their answers, and how long these took."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from npipe.tracing.events import Event, Flags, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Answers", "End", "Exchange", "Side", "from_client"]

Side = Literal["client", "server"]
End = Literal["answered", "next", "closed", "gone", "end"]
"""How a request's wait ended: by its answer; by the next request; the server's or the client's end was closed; the
trace ended."""

_MOST_PIECES: Final = 1024  # of a request on a byte pipe
_MOST_WAITING: Final = 4096  # requests of a connection that wait for their answers

# As numbers, of which a trace wants several for each event: an operation on Flags takes a microsecond.
_OUT: Final = int(Flags.OUT)
_SERVER: Final = int(Flags.SERVER)
_MESSAGE: Final = int(Flags.MESSAGE)
_WITHDRAWN: Final = int(Flags.WITHDRAWN)

_Key = tuple[str, int, int, int]


def from_client(event: Event) -> bool:
    """Whether it is what a client has said."""
    flags = int(event.flags)
    return (flags & _OUT == 0) == (flags & _SERVER != 0)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and its answer if there was one."""

    pieces: tuple[Event, ...]
    """The request; on a byte pipe all reads or writes up to the answer."""
    answer: Event | None
    """None: there was none."""
    nanoseconds: int
    """From the (last piece of the) request to the answer, or to what ended the wait for it."""
    end: End

    @property
    def request(self) -> Event:
        """The request as one event, with the time of its last piece."""
        if len(self.pieces) == 1:
            return self.pieces[0]
        kept = []
        for piece in self.pieces:
            kept.append(piece.data)
            if len(piece.data) < piece.size:  # what follows is not beside it
                break
        return replace(self.pieces[-1], size=sum(piece.size for piece in self.pieces), data=b"".join(kept))

    @property
    def events(self) -> tuple[Event, ...]:
        """All of it, in order."""
        return self.pieces if self.answer is None else (*self.pieces, self.answer)


class Answers:
    """Finds the exchanges in a trace.

    A message is answered by the next one in the other direction of its connection. Of a message to which another one
    was said before any answer came there is none; or, with `pipelined`, it stands in a queue, and answers come in the
    order of requests. On a byte pipe what was said up to an answer is one request.

    Args:
        asks: who asks.
        pipelined: several requests of a connection may be under way.
    """

    def __init__(self, asks: Side = "client", *, pipelined: bool = False) -> None:
        self._client_asks = asks == "client"
        self._pipelined = pipelined
        self._waiting: dict[_Key, deque[list[Event]]] = {}
        self._passed_over: set[_Key] = set()  # connections with a request that the next one has ended
        self.overlap: bool = False
        """Whether there were answers without a request, where a request was left without an answer before."""

    def take(self, event: Event) -> Iterator[Event | Exchange]:
        """Yield what is known now, in order: an exchange when it is over, and each event that belongs to none."""
        key = event.pipe, event.owner, event.connection, int(event.flags) & _SERVER
        if event.kind is Kind.DATA:
            yield from self._said(key, event)
            return
        if event.kind is Kind.LOST:  # any of them may have been answered
            for other in [other for other in self._waiting if other[1] == event.owner]:
                yield from self._release(other)
        else:
            self._passed_over.discard(key)
            yield from self._end(key, event.time, "gone" if event.kind is Kind.GONE else "closed")
        yield event

    def _said(self, key: _Key, event: Event) -> Iterator[Event | Exchange]:
        asks = from_client(event) == self._client_asks
        waiting = self._waiting.get(key)
        if int(event.flags) & _WITHDRAWN:
            if asks:  # it may be the one that was told of before
                yield from self._release(key)
            yield event
        elif asks:
            if waiting is None:
                waiting = self._waiting[key] = deque()
            if waiting and not int(event.flags) & _MESSAGE:
                waiting[-1].append(event)
                if len(waiting[-1]) > _MOST_PIECES:
                    yield waiting[-1].pop(0)
                return
            while waiting and (not self._pipelined or len(waiting) >= _MOST_WAITING):
                self._passed_over.add(key)
                yield _unanswered(waiting.popleft(), event.time, "next")
            waiting.append([event])
        elif waiting:
            pieces = waiting.popleft()
            if not waiting:
                del self._waiting[key]
            yield Exchange(tuple(pieces), event, max(0, event.time - pieces[-1].time), "answered")
        else:
            self.overlap = self.overlap or key in self._passed_over
            yield event

    def _release(self, key: _Key) -> Iterator[Event]:
        for pieces in self._waiting.pop(key, ()):
            yield from pieces

    def _end(self, key: _Key, time: int, end: End) -> Iterator[Exchange]:
        for pieces in self._waiting.pop(key, ()):
            yield _unanswered(pieces, time, end)

    def finish(self, time: int) -> Iterator[Exchange]:
        """Yield the requests that wait when the trace ends, at that time in ns since 1970."""
        for key in list(self._waiting):
            yield from self._end(key, time, "end")


def _unanswered(pieces: list[Event], time: int, end: End) -> Exchange:
    return Exchange(tuple(pieces), None, max(0, time - pieces[-1].time), end)
