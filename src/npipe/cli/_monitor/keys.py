"""What the keys of `npipe top` do: its screen, which `?` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

__all__ = ["KEYS", "Keys"]

KEYS: Final = """\
enter esc  one pipe, and back
arrows     move (and j k g G, pages)
/          only what has these words
s S        sort by the next, the last
r          turn the order
b          rates: bytes or messages
+ -        ask less often, more often
space      stand still, go on
?          the keys, and back
q ctrl-c   end

One pipe:
enter      messages of one process
e          hide who has ended, or show
tab        to the messages, and back
m          messages: off, on
p          messages: hold, go on
x          messages: hex, text

Columns:
in/s       from client to server
out/s      and back
ended      gone, and not released
depth      of a quota, at the fullest
rd/wr      wait for data, for room
idle       since nothing has changed
           (> : nobody had looked)
answer     how soon the server answers
queue      wait for an instance
inst       instances, and the limit
"""
"""No line is wider than the narrowest terminal that it is for, 40 columns with a scroll bar."""


class Keys(Screen[None]):
    """The keys and columns, until a key is pressed."""

    CSS = """
    #keys { height: 1fr; scrollbar-size-vertical: 1; }
    #keys Static { width: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,escape,enter,left,backspace", "back", "Back", key_display="esc"),
    ]

    def compose(self) -> ComposeResult:
        """Make the parts."""
        with VerticalScroll(id="keys"):
            yield Static(KEYS, markup=False)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin in the text, which the arrows move."""
        self.query_one("#keys").focus()

    def action_back(self) -> None:
        """Go back to where `?` was pressed."""
        self.dismiss()
