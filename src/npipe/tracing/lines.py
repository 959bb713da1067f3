"""Events as lines for people: `npipe trace`, and the reports of tests that have failed."""

from __future__ import annotations

import time

from npipe._text import printable
from npipe.tracing.events import Event, Flags, Kind

__all__ = ["clock", "content_of", "head", "said", "seconds_text", "shown_moment", "text_line"]

_SECOND = 1_000_000_000
_OUT, _WITHDRAWN, _MESSAGE = int(Flags.OUT), int(Flags.WITHDRAWN), int(Flags.MESSAGE)  # as numbers: quicker by far
_WHOLE = int(Flags.FIRST | Flags.LAST)


def seconds_text(nanoseconds: int) -> str:
    """Return how long something took, in the unit in which it is asked for."""
    return f"{nanoseconds / _SECOND:.6f} s"


def _local(nanoseconds: int, form: str) -> str | None:
    try:
        return time.strftime(form, time.localtime(nanoseconds // _SECOND))
    except (ValueError, OverflowError, OSError):  # an owner's or a file's word
        return None


def clock(nanoseconds: int) -> str:
    """Return a time of the day, in this place's time, to the microsecond."""
    shown = _local(nanoseconds, "%H:%M:%S")
    return f"{nanoseconds} ns" if shown is None else f"{shown}.{nanoseconds % _SECOND // 1000:06}"


def shown_moment(nanoseconds: int) -> str:
    """Return a date and time, in this place's time, with what that is off UTC."""
    return _local(nanoseconds, "%Y-%m-%d %H:%M:%S %z") or f"{nanoseconds} ns"


def head(event: Event, *, pipe: bool = True, took: int | None = None, peer: str | None = None) -> str:
    """Return a line for an event, without its content.

    `pipe`: with its pipe's name; `took`: the ns after which it has answered; `peer`: who that is, and not the number
    alone.
    """
    named = f"{clock(event.time)} {printable(event.pipe)}" if pipe else clock(event.time)
    if event.kind is Kind.LOST:
        return f"{named} LOST {event.size} records: read faster, or give more --buffer"
    where = f"{named} #{event.connection}"
    who = peer or str(event.peer or "?")
    if event.kind is not Kind.DATA:
        words = {
            Kind.OPENED: f"opened by {who}",
            Kind.PRESENT: f"there already, with {who}",
            Kind.CLOSED: f"closed ({event.code})",
            Kind.GONE: f"{who} has gone",
        }
        return f"{where} {words[event.kind]}"
    return f"{where} {who} {said(event, took)}"


def said(event: Event, took: int | None = None) -> str:
    """Return a message's direction and size, and what is to be told of it; `took`: ns from its request to it."""
    flags, notes = int(event.flags), []
    if flags & _WITHDRAWN:
        notes.append(f" withdrawn ({event.code})")
    elif flags & _MESSAGE and flags & _WHOLE != _WHOLE:
        notes.append(" part")
    if len(event.data) < event.size:
        notes.append(f" (first {len(event.data)})" if event.data else " (no content)")
    if took is not None:
        notes.append(f" after {seconds_text(took)}")
    return f"{'<-' if flags & _OUT else '->'} {event.size}{''.join(notes)}"


def content_of(event: Event) -> str:
    """Return a message's content as text, with a blank before it, or nothing. No control characters are in it."""
    return " " + printable(event.data.decode("utf-8", "backslashreplace")) if event.data else ""


def text_line(event: Event, *, took: int | None = None, peer: str | None = None) -> str:
    """Return a line for an event, with its content as text. No control characters are in it."""
    return head(event, took=took, peer=peer) + content_of(event)
