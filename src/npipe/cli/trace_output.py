"""What `npipe trace` shows: events, each for itself or as requests with their answers, and the sum of it at the end."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import click

from npipe._text import printable
from npipe.tracing.answers import Exchange
from npipe.tracing.events import Event, Flags, Kind
from npipe.tracing.files import as_object, shown_time
from npipe.tracing.lines import clock, content_of, head, said, seconds_text
from npipe.tracing.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from npipe.tracing.answers import Answers

__all__ = ["JsonView", "Peer", "Session", "TextView", "View"]

_COLOURS: Final = {Kind.OPENED: "cyan", Kind.PRESENT: "cyan", Kind.CLOSED: "cyan", Kind.GONE: "cyan", Kind.LOST: "red"}
_ENDS: Final = {
    "next": "when the next request came",
    "closed": "when the connection was closed",
    "gone": "when the other side had gone",
    "end": "when the trace ended",
}


class Peer(NamedTuple):
    """Who is at the other end of a connection."""

    user: str | None
    program: str | None


class View(Protocol):
    """How events are shown."""

    def event(self, event: Event, took: int | None, peer: Peer | None) -> None:
        """Show an event; `took`: the ns after which it has answered."""

    def exchange(self, exchange: Exchange) -> None:
        """Show a request and its answer together."""


class JsonView:
    """Lines of JSON."""

    def event(self, event: Event, took: int | None, peer: Peer | None) -> None:
        """See View.event."""
        line = as_object(event)
        if took is not None:
            line["answer_seconds"] = _seconds(took)
        if peer is not None:
            line |= peer._asdict()
        click.echo(json.dumps(line))

    def exchange(self, exchange: Exchange) -> None:
        """See View.exchange."""
        request, answer = as_object(exchange.request), exchange.answer
        begins = exchange.pieces[0].time
        line: dict[str, Any] = {
            "time": shown_time(begins),
            "ns": begins,
            "event": "exchange",
            **{key: request[key] for key in ("pipe", "owner", "connection", "peer", "side")},
            "end": exchange.end,
            "answer_seconds": None if answer is None else _seconds(exchange.nanoseconds),
            "unanswered_seconds": _seconds(exchange.nanoseconds) if answer is None else None,
            "request": request,
            "answer": None if answer is None else as_object(answer),
        }
        click.echo(json.dumps(line))


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e9, 9)


class TextView:
    """Lines for people; `as_hex`: content in lines of its own."""

    def __init__(self, *, as_hex: bool) -> None:
        self._as_hex = as_hex
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def event(self, event: Event, took: int | None, peer: Peer | None) -> None:
        """See View.event."""
        self._put(head(event, took=took, peer=None if peer is None else _who(event, peer)), event)

    def exchange(self, exchange: Exchange) -> None:
        """See View.exchange."""
        request, answer = exchange.request, exchange.answer
        self._put(head(request), request)
        if answer is None:
            waited = f"  no answer in {seconds_text(exchange.nanoseconds)}, {_ENDS[exchange.end]}"
            click.echo(click.style(waited, fg="red") if self._coloured else waited)
        else:
            self._put(f"  {clock(answer.time)} {said(answer, exchange.nanoseconds)}", answer)

    def _put(self, line: str, event: Event) -> None:
        if not self._as_hex:
            line += content_of(event)
        if self._coloured:
            line = click.style(line, fg=_COLOURS.get(event.kind, "green" if event.flags & Flags.OUT else None))
        click.echo(line)
        if not self._as_hex:
            return
        for begin in range(0, len(event.data), 16):
            piece = event.data[begin : begin + 16]
            text = "".join(chr(c) if 32 <= c < 127 else "." for c in piece)
            click.echo(f"  {begin:08x}  {piece.hex(' '):<47}  {text}")


def _who(event: Event, peer: Peer) -> str:
    who = str(event.peer or "?")
    if peer.user is not None:
        who += f" of {printable(peer.user)}"
    return who if peer.program is None else f"{who}: {printable(peer.program)}"


class Session:
    """One run of `npipe trace`: what it shows and writes of the events that it takes.

    Args:
        answers: what finds answers.
        view: how it is shown; None: not at all.
        write: called with each event that is to be recorded; None: none is.
        chosen: which events are looked at; all others are as if they had not been.
        wants: which of these are shown and recorded; of a request and its answer one will do, if `pairs`.
        pairs: show a request and its answer together.
        slower: only answers, and what was not answered, that took more ns; None: all.
        count: how many events, or pairs, are shown; None: all.
        who: who is at the other end, of a connection that was there before.
    """

    def __init__(
        self,
        answers: Answers,
        view: View | None,
        write: Callable[[Event], object] | None,
        *,
        chosen: Callable[[Event], bool],
        wants: Callable[[Event], bool],
        pairs: bool,
        slower: int | None,
        count: int | None,
        who: Callable[[Event], Peer | None],
    ) -> None:
        self.answers: Answers = answers
        self._view, self._write = view, write
        self._chosen, self._wants, self._who = chosen, wants, who
        self._pairs, self._slower, self._left = pairs, slower, count
        self.summary: Summary = Summary()
        self.last: int = 0
        """The time of the last event."""

    @property
    def done(self) -> bool:
        """Whether as much was shown as was to be."""
        return self._left == 0

    def take(self, event: Event) -> None:
        """Take an event."""
        if not self._chosen(event):
            return
        self.last = max(self.last, event.time)
        self.summary.add(event)
        took = None
        for item in self.answers.take(event):
            self._over(item)
            if isinstance(item, Exchange) and item.answer is event:
                took = item.nanoseconds
        if not self._pairs:
            self._show(event, took)

    def owner_ended(self, pipe: str, owner: int, time: int) -> None:
        """Take note that a process has ended, at that time in ns since 1970, and what it was asked with it."""
        for exchange in self.answers.owner_ended(pipe, owner, time):
            self._over(exchange)
        self.summary.owner_ended(pipe, owner)

    def finish(self, time: int) -> None:
        """End, at that time in ns since 1970: what waits for an answer has none."""
        for exchange in self.answers.finish(time):
            self._over(exchange)

    def _over(self, item: Event | Exchange) -> None:
        if isinstance(item, Event):
            if self._pairs and (self._slower is None or item.kind is Kind.LOST):
                self._show(item, None)
            return
        self.summary.add_exchange(item)
        if not self._pairs or self.done or (self._slower is not None and item.nanoseconds <= self._slower):
            return
        if any(map(self._wants, item.events)):
            self._record(item.events)
            if self._view is not None:
                self._view.exchange(item)

    def _show(self, event: Event, took: int | None) -> None:
        if self.done or not self._wants(event):
            return
        self._record((event,))
        if self._view is not None:
            self._view.event(event, took, self._who(event) if event.kind is Kind.PRESENT else None)

    def _record(self, events: Iterable[Event]) -> None:
        if self._left is not None:
            self._left -= 1
        if self._write is not None:
            for event in events:
                self._write(event)
