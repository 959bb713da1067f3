"""Events as lines for people: `npipe trace`, and the reports of tests that have failed."""

from __future__ import annotations

from npipe._text import printable
from npipe.tracing.events import Event, Flags, Kind
from npipe.tracing.files import shown_time

__all__ = ["head", "text_line"]


def head(event: Event, *, pipe: bool = True) -> str:
    """Return a line for an event, without its content; `pipe`: with its pipe's name."""
    clock = shown_time(event.time)[11:26]
    named = f"{clock} {printable(event.pipe)}" if pipe else clock
    if event.kind is Kind.LOST:
        return f"{named} LOST {event.size} records: read faster, or give more --buffer"
    where = f"{named} #{event.connection}"
    peer = event.peer or "?"
    if event.kind is not Kind.DATA:
        said = {
            Kind.OPENED: f"opened by {peer}",
            Kind.PRESENT: f"there already, with {peer}",
            Kind.CLOSED: f"closed ({event.code})",
            Kind.GONE: f"{peer} has gone",
        }
        return f"{where} {said[event.kind]}"
    arrow = f"{peer} <-" if event.flags & Flags.OUT else f"{peer} ->"
    notes = []
    if event.flags & Flags.WITHDRAWN:
        notes.append(f" withdrawn ({event.code})")
    elif event.flags & Flags.MESSAGE and not event.is_whole:
        notes.append(" part")
    if len(event.data) < event.size:
        notes.append(f" (first {len(event.data)})" if event.data else " (no content)")
    return f"{where} {arrow} {event.size}{''.join(notes)}"


def text_line(event: Event) -> str:
    """Return a line for an event, with its content as text. No control characters are in it."""
    line = head(event)
    if event.data:
        line += " " + printable(event.data.decode("utf-8", "backslashreplace"))
    return line
