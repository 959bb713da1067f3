"""The newest events of a trace, of which only what is seen is made into text."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from npipe.cli._monitor.messages import KEPT
from npipe.cli._monitor.text import fitted
from npipe.tracing.events import Flags, Kind
from npipe.tracing.lines import head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual import events
    from textual.binding import BindingType

    from npipe.tracing.events import Event

__all__ = ["EventLines"]


class EventLines(ScrollView, can_focus=True):
    """Events, one on each line; it follows the newest, unless somebody has scrolled up."""

    DEFAULT_CSS = """
    EventLines { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", "Up", show=False),
        Binding("j", "scroll_down", "Down", show=False),
        Binding("g", "scroll_home", "First", show=False),
        Binding("G", "scroll_end", "Newest", show=False),
    ]

    def __init__(self, *, id: str) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id)
        self._events: deque[Event] = deque(maxlen=KEPT)
        self.as_hex = False
        self._height = 0

    @property
    def count(self) -> int:
        """How many lines there are."""
        return len(self._events)

    def add(self, new: Iterable[Event]) -> None:
        """Add events at the end."""
        follows = self.follows
        self._events.extend(new)
        self.virtual_size = Size(self.size.width, len(self._events))
        if follows:
            self._to_end()
        self.refresh()

    @property
    def follows(self) -> bool:
        """Whether the newest line is shown."""
        return self.scroll_offset.y >= len(self._events) - self.size.height

    def _to_end(self) -> None:
        self.scroll_to(y=max(0, len(self._events) - self.size.height), animate=False, immediate=True, force=True)

    def on_resize(self, event: events.Resize) -> None:
        """Go on following, if it did with its old size."""
        before = self._height
        self._height = event.size.height
        if self.scroll_offset.y >= len(self._events) - before or before == 0:
            self._to_end()

    def clear(self) -> None:
        """Show none of what has come so far."""
        self._events.clear()
        self.virtual_size = Size(self.size.width, 0)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return an event's line."""
        width, base = self.size.width, self.rich_style
        index = y + self.scroll_offset.y
        if index >= len(self._events):
            return Strip.blank(width, base)
        event = self._events[index]
        style = base
        if event.kind is not Kind.DATA:
            style += Style(color="red" if event.kind is Kind.LOST else "cyan")
        elif event.flags & Flags.OUT:
            style += Style(color="green")
        piece = event.data[:width]
        text = piece.hex(" ") if self.as_hex else piece.decode("utf-8", "backslashreplace")
        return Strip([Segment(fitted(f"{head(event, pipe=False)} {text}", width), style)], width)
