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
_MOST_HELD: Final = 1 << 26  # bytes of all of them together
_ABOUT: Final = 512  # bytes of memory that an event takes beside its data

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
        whole: exchanges have all of the request; else the last piece of it, without its content.
    """

    def __init__(self, asks: Side = "client", *, pipelined: bool = False, whole: bool = True) -> None:
        self._client_asks = asks == "client"
        self._pipelined = pipelined
        self._whole = whole
        # The connection that has waited longest first.
        self._waiting: dict[_Key, deque[deque[Event]]] = {}
        self._held = 0  # bytes of it
        self._let_go: dict[_Key, int] = {}  # requests before these for which there was no memory; answers may come
        self._passed_over: set[_Key] = set()  # connections with a request that the next one has ended
        self.uncertain: bool = False
        """Whether answers may have gone to other requests than theirs: of those that are pipelined some are unknown."""
        self.overlap: bool = False
        """Whether there were answers without a request, where a request was left without an answer before."""

    def take(self, event: Event) -> Iterator[Event | Exchange]:
        """Yield what is known now, in order: an exchange when it is over, and each event that belongs to none."""
        key = event.pipe, event.owner, event.connection, int(event.flags) & _SERVER
        if event.kind is Kind.DATA:
            yield from self._said(key, event)
            return
        if event.kind is Kind.LOST:  # any of them may have been answered
            self.uncertain = self.uncertain or self._pipelined
            for other in [other for other in self._waiting if other[1] == event.owner]:
                yield from self._release(other)
            for other in [other for other in self._let_go if other[1] == event.owner]:
                del self._let_go[other]
        elif event.kind is Kind.PRESENT:  # the first of its messages may have been told before
            self.uncertain = self.uncertain or self._pipelined
        else:
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
            if waiting and not int(event.flags) & _MESSAGE:
                self._hold(waiting[-1], event)
                if len(waiting[-1]) > _MOST_PIECES:
                    yield self._without(waiting[-1].popleft())
            else:
                yield from self._asked(key, event)
            yield from self._make_room(event)
        elif self._let_go.get(key):
            self._let_go[key] -= 1
            yield event
        elif waiting:
            pieces = waiting.popleft()
            if not waiting:
                del self._waiting[key]
            yield self._over(pieces, event, event.time, "answered")
        else:
            self.overlap = self.overlap or key in self._passed_over
            yield event

    def _asked(self, key: _Key, event: Event) -> Iterator[Event | Exchange]:
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = deque()
        if self._pipelined:
            while len(waiting) >= _MOST_WAITING:
                self._let_go[key] = self._let_go.get(key, 0) + 1
                yield from map(self._without, waiting.popleft())
        else:
            self._let_go.pop(key, None)
            while waiting:
                self._passed_over.add(key)
                yield self._over(waiting.popleft(), None, event.time, "next")
        pieces: deque[Event] = deque()
        self._hold(pieces, event)
        waiting.append(pieces)

    def _hold(self, pieces: deque[Event], event: Event) -> None:
        if not self._whole:
            while pieces:
                self._without(pieces.popleft())
            if event.data:
                event = replace(event, data=b"")
        pieces.append(event)
        self._held += _ABOUT + len(event.data)

    def _without(self, event: Event) -> Event:
        self._held -= _ABOUT + len(event.data)
        return event

    def _make_room(self, last: Event) -> Iterator[Event]:
        """Let go of what has waited longest, up to the event that has come last."""
        while self._held > _MOST_HELD:
            key = next(iter(self._waiting))
            waiting = self._waiting[key]
            if waiting[0][0] is last:
                return
            yield self._without(waiting[0].popleft())
            if not waiting[0]:
                waiting.popleft()
                self._let_go[key] = self._let_go.get(key, 0) + 1
                if not waiting:
                    del self._waiting[key]

    def _over(self, pieces: deque[Event], answer: Event | None, time: int, end: End) -> Exchange:
        for piece in pieces:
            self._without(piece)
        return Exchange(tuple(pieces), answer, max(0, time - pieces[-1].time), end)

    def _release(self, key: _Key) -> Iterator[Event]:
        for pieces in self._waiting.pop(key, ()):
            yield from map(self._without, pieces)

    def _end(self, key: _Key, time: int, end: End) -> Iterator[Exchange]:
        self._passed_over.discard(key)
        self._let_go.pop(key, None)
        for pieces in self._waiting.pop(key, ()):
            yield self._over(pieces, None, time, end)

    def owner_ended(self, pipe: str, owner: int, time: int) -> Iterator[Exchange]:
        """Yield the requests that wait for a process that has ended, at that time in ns since 1970."""
        for key in [key for key in {**self._waiting, **self._let_go} if key[:2] == (pipe, owner)]:
            yield from self._end(key, time, "closed")
        self._passed_over = {key for key in self._passed_over if key[:2] != (pipe, owner)}

    def finish(self, time: int) -> Iterator[Exchange]:
        """Yield the requests that wait when the trace ends, at that time in ns since 1970."""
        for key in list(self._waiting):
            yield from self._end(key, time, "end")
