"""A table of which only what is seen is drawn: 1,000 lines cost what 20 cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from npipe.cli._monitor.model import ConnectionRow, PipeRow
from npipe.cli._monitor.tables import Look, fit, sorted_rows
from npipe.cli._monitor.text import fitted

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from textual import events
    from textual.binding import BindingType

    from npipe.cli._monitor.tables import Column

__all__ = ["Rows"]

Row = TypeVar("Row", bound=PipeRow | ConnectionRow)


class Rows(ScrollView, Generic[Row], can_focus=True):
    """Rows under the heads of their columns, with a cursor that stays with its row."""

    DEFAULT_CSS = """
    Rows { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "first", "First", show=False),
        Binding("end,G", "last", "Last", show=False),
        Binding("enter", "choose", "Select"),
    ]

    class Chosen(Message):
        """Enter was pressed, or the row was clicked a second time."""

        def __init__(self, key: Hashable) -> None:
            super().__init__()
            self.key = key

    class HeadClicked(Message):
        """A column's head was clicked."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(
        self,
        columns: Sequence[Column[Row]],
        *,
        sort: str,
        id: str,  # noqa: A002 - textual's name
        empty: str = "",
    ) -> None:
        super().__init__(id=id)
        self.columns = columns
        self.sort_key = sort
        self.backwards = False
        self.empty = empty
        """What is shown when there are no rows."""
        self._rows: list[Row] = []
        self._look = Look()
        self._cursor = 0
        self._cursor_key: Hashable | None = None

    # ---- What is shown

    @property
    def shown(self) -> list[Row]:
        """The rows, in their order."""
        return self._rows

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self._cursor] if 0 <= self._cursor < len(self._rows) else None

    def show(self, rows: Sequence[Row], look: Look) -> None:
        """Show these rows, sorted."""
        self._look = look
        self._rows = sorted_rows(rows, self.columns, self.sort_key, look, backwards=self.backwards)
        if self._cursor_key is not None:
            found = next((i for i, row in enumerate(self._rows) if row.key == self._cursor_key), None)
            self._cursor = self._cursor if found is None else found
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1))
        if self._cursor_key is not None:
            self._cursor_key = self._key_of_cursor()
        self.virtual_size = Size(self.size.width, len(self._rows) + 1)
        self.refresh()

    def sort_by(self, key: str, *, turn: bool = False) -> None:
        """Sort by a column; with `turn` from the other end, if it is sorted by that already."""
        self.backwards = turn and key == self.sort_key and not self.backwards
        self.sort_key = key
        self.show(self._rows, self._look)

    def next_sort(self, step: int) -> None:
        """Sort by the next column, or with -1 by the one before."""
        keys = [column.key for column in self.columns]
        self.sort_by(keys[(keys.index(self.sort_key) + step) % len(keys)])

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self.virtual_size = Size(self.size.width, len(self._rows) + 1)
        self._follow()

    def render_line(self, y: int) -> Strip:
        """Return a line: the heads, and below them the rows that are seen."""
        width = self.size.width
        base = self.rich_style
        columns = fit(self.columns, width, self.sort_key)
        if y == 0:
            return self._heads(columns, base, width)
        index = y - 1 + self.scroll_offset.y
        if index >= len(self._rows):
            text = self.empty if y == 1 and not self._rows else ""
            return Strip([Segment(fitted(text, width), base)], width)
        row = self._rows[index]
        here = index == self._cursor and self._cursor_key is not None
        style = base + Style(reverse=True, bold=True) if here and self.has_focus else base
        if here and not self.has_focus:
            style = base + Style(bold=True)
        segments: list[Segment] = []
        for column, cells in columns:
            text, colour = column.cell(row, cells, self._look)
            painted = style if here or not colour else style + Style(color=colour)
            if segments:
                segments.append(Segment(" ", style))
            segments.append(Segment(fitted(text, cells, right=column.right), painted))
        return Strip(segments).adjust_cell_length(width, style)

    def _heads(self, columns: list[tuple[Column[Row], int]], base: Style, width: int) -> Strip:
        segments: list[Segment] = []
        for column, cells in columns:
            style = base + Style(bold=True)
            title = column.title
            if column.key == self.sort_key:
                style += Style(underline=True)
                down = column.down != self.backwards
                mark = ("v" if down else "^") if self._look.plain else ("▾" if down else "▴")
                title = f"{title[: cells - 1]}{mark}"
            if segments:
                segments.append(Segment(" ", base))
            segments.append(Segment(fitted(title, cells, right=column.right), style))
        return Strip(segments).adjust_cell_length(width, base)

    # ---- The cursor

    def _key_of_cursor(self) -> Hashable | None:
        row = self.current
        return None if row is None else row.key

    def _put(self, index: int) -> None:
        self._cursor = max(0, min(index, len(self._rows) - 1))
        self._cursor_key = self._key_of_cursor()
        self._follow()
        self.refresh()

    def _follow(self) -> None:
        room = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, immediate=True, force=True)
        elif self._cursor >= top + room:
            self.scroll_to(y=self._cursor - room + 1, animate=False, immediate=True, force=True)

    def action_move(self, step: int) -> None:
        """Move the cursor by lines; the first key only shows it."""
        self._put(self._cursor + step if self._cursor_key is not None else self._cursor)

    def action_page(self, step: int) -> None:
        """Move the cursor by what is seen at once."""
        self._put(self._cursor + step * max(1, self.size.height - 2))

    def action_first(self) -> None:
        """Move the cursor to the first row."""
        self._put(0)

    def action_last(self) -> None:
        """Move the cursor to the last row."""
        self._put(len(self._rows) - 1)

    def action_choose(self) -> None:
        """Select the row under the cursor."""
        key = self._key_of_cursor()
        if key is not None:
            self._put(self._cursor)
            self.post_message(self.Chosen(key))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the row, or select it; sort by a head."""
        if event.y == 0:
            left = 0
            for column, cells in fit(self.columns, self.size.width, self.sort_key):
                if left <= event.x < left + cells:
                    self.post_message(self.HeadClicked(column.key))
                left += cells + 1
            return
        index = event.y - 1 + self.scroll_offset.y
        if index < len(self._rows):
            again = index == self._cursor and self._cursor_key is not None
            self._put(index)
            if again:
                self.action_choose()
