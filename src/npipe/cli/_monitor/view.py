"""The screens of `npipe top`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from npipe._text import printable
from npipe.cli._monitor.keys import Keys
from npipe.cli._monitor.lines import EventLines
from npipe.cli._monitor.messages import watch_messages
from npipe.cli._monitor.model import Board, ConnectionRow, PipeRow, matches
from npipe.cli._monitor.rows import Rows
from npipe.cli._monitor.tables import CONNECTION_COLUMNS, PIPE_COLUMNS, Look, connection_fields, pipe_fields
from npipe.cli._monitor.text import answer_text, compact, fitted, spark
from npipe.cli.common import whereabouts
from npipe.cli.reports import moment
from npipe.cli.statuses import INTERRUPTED
from npipe.cli.units import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual import events
    from textual.binding import BindingType

    from npipe.cli._monitor.messages import Messages
    from npipe.cli._monitor.sampling import Source

__all__ = ["Monitor"]

_INTERVALS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class _Text(Static):
    """Lines of text: never markup, and never more than fits."""

    def __init__(self, id: str) -> None:  # noqa: A002 - textual's name
        super().__init__("", id=id, markup=False)

    def say(self, lines: Sequence[str]) -> None:
        """Show these lines."""
        width = self.size.width or self.app.size.width
        self.update("\n".join(fitted(line, width).rstrip() for line in lines))


class _Table(Screen[None]):
    """A screen with a table that is sorted and filtered."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("s", "sort(1)", "Sort"),
        Binding("S", "sort(-1)", "Sort by the one before", show=False),
        Binding("r", "turn", "Reverse", show=False),
        Binding("question_mark", "keys", "Keys", key_display="?"),
    ]
    wanted = ""
    """What the filter says."""
    PARTS: ClassVar[tuple[str, ...]] = ("#filter",)
    """What has to be there, that something can be shown."""

    @property
    def is_ready(self) -> bool:
        """Whether its parts are there: not yet at its beginning, and one after the other no more at its end."""
        return self.is_mounted and all(self.query(part) for part in self.PARTS)

    def filter_box(self) -> Input:
        """Return the input line, which is hidden."""
        box = Input(placeholder="words of a name, user, program, pid", id="filter", compact=True)
        box.display = False
        return box

    @property
    def table(self) -> Rows[PipeRow] | Rows[ConnectionRow]:
        """The table."""
        raise NotImplementedError

    def refill(self) -> None:
        """Show what is known now."""
        raise NotImplementedError

    def action_filter(self) -> None:
        """Ask for the filter's words."""
        box = self.query_one("#filter", Input)
        box.display = True
        self.set_focus(box)  # at once: what is typed next is for it

    def action_sort(self, step: int) -> None:
        """Sort by the next column, or the one before."""
        self.table.next_sort(step)
        self.refill()

    def action_turn(self) -> None:
        """Turn the order round."""
        self.table.sort_by(self.table.sort_key, turn=True)

    def action_keys(self) -> None:
        """Show what the keys do."""
        self.app.push_screen(Keys())

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self.wanted = event.value
        self.refill()

    def on_input_submitted(self) -> None:
        """Keep the filter; an empty one needs no line."""
        box = self.query_one("#filter", Input)
        box.display = bool(box.value)
        self.set_focus(self.table)

    def unfilter(self) -> bool:
        """End the filter; False: there was none."""
        box = self.query_one("#filter", Input)
        if not box.display:
            return False
        box.value = ""
        box.display = False
        self.set_focus(self.table)
        return True

    def on_rows_head_clicked(self, event: Rows.HeadClicked) -> None:
        """Sort by that column."""
        self.table.sort_by(event.column, turn=True)


class _Pipes(_Table):
    """All pipes."""

    CSS = """
    #where, #sums { height: 1; }
    #pipes { height: 1fr; }
    #filter { dock: bottom; }
    """
    PARTS = ("#where", "#sums", "#pipes", "#filter")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "unfilter", "No filter", show=False)]

    def __init__(self, monitor: Monitor) -> None:
        super().__init__()
        self._monitor = monitor

    def compose(self) -> ComposeResult:
        """Make the parts."""
        yield _Text("where")
        yield _Text("sums")
        yield Rows[PipeRow](PIPE_COLUMNS, sort="rate", id="pipes", empty="no pipes")
        yield self.filter_box()
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin in the table."""
        self.set_focus(self.table)
        self.refill()

    @property
    def table(self) -> Rows[PipeRow]:
        """The pipes."""
        return self.query_one("#pipes", Rows)

    def action_unfilter(self) -> None:
        """End the filter."""
        self.unfilter()

    def refill(self) -> None:
        """Show what is known now."""
        monitor = self._monitor
        rows = monitor.board.rows()
        shown = [row for row in rows if matches(self.wanted, pipe_fields(row))]
        if not monitor.asked:
            self.table.empty = "asking"
        elif self.wanted:
            self.table.empty = "no pipe has these words"
        else:
            self.table.empty = f"no pipes {monitor.where}"
        self.table.show(shown, monitor.look())
        self.query_one("#where", _Text).say([monitor.title_line()])
        self.query_one("#sums", _Text).say([monitor.source.problem or _sums(rows, len(shown))])

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        """Show one."""
        self._monitor.select(str(event.key))

    def on_resize(self) -> None:
        """Cut the lines anew."""
        if self.is_ready:
            self.refill()


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _sums(rows: Sequence[PipeRow], shown: int) -> str:
    there = [row for row in rows if not row.gone]
    told = [row.rates for row in there if row.rates is not None]
    clients = sum(row.clients or 0 for row in there)
    count = _number(len(there), "pipe") if shown == len(rows) else f"{shown} of {_number(len(there), 'pipe')}"
    return (
        f"{count}, {_number(clients, 'client')}; in {compact(sum(rates.bytes_in for rates in told))}B/s "
        f"out {compact(sum(rates.bytes_out for rates in told))}B/s; "
        f"{compact(sum(rates.messages for rates in told))} messages/s; "
        f"{sum(row.writers for row in there)} wait for room"
        + (f"; {ended} ended and not released" if (ended := sum(row.ended for row in there)) else "")
    )


class _Pipe(_Table):
    """One pipe: its owners, its connections, its messages."""

    CSS = """
    #head { height: auto; max-height: 6; }
    #connections { height: 1fr; min-height: 4; }
    #about { height: 1; background: $surface; }
    #messages { height: 1fr; min-height: 3; }
    #filter { dock: bottom; }
    """
    PARTS = ("#head", "#connections", "#about", "#messages", "#filter")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,left,backspace", "back", "Back", key_display="esc"),
        Binding("m", "messages", "Messages"),
        Binding("p", "hold", "Hold"),
        Binding("x", "hex", "Hex"),
        Binding("e", "ended", "Ended", show=False),
    ]

    class Come(Message):
        """There are messages."""

    def __init__(self, monitor: Monitor, name: str) -> None:
        super().__init__()
        self.name_of_pipe = name
        self._monitor = monitor
        self._messages: Messages | None = None
        self._told = False
        self._wants = True
        self._hides = False
        self._holds = False
        self._unseen = 0
        self._peer: tuple[int, int] | None = None
        """The owner and client whose messages alone are shown."""
        self._asked_pids: tuple[int, ...] = ()

    def compose(self) -> ComposeResult:
        """Make the parts."""
        yield _Text("head")
        yield Rows[ConnectionRow](CONNECTION_COLUMNS, sort="rate", id="connections", empty="no connections")
        yield _Text("about")
        yield EventLines(id="messages")
        yield self.filter_box()
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to look on."""
        self.set_focus(self.table)
        self._look_on()
        self.refill()

    def on_unmount(self) -> None:
        """Look on no longer."""
        self._look_away()

    @property
    def table(self) -> Rows[ConnectionRow]:
        """The connections."""
        return self.query_one("#connections", Rows)

    @property
    def lines(self) -> EventLines:
        """The messages."""
        return self.query_one("#messages", EventLines)

    # ---- Messages

    def _look_on(self) -> None:
        state = self._monitor.board.pipes.get(self.name_of_pipe)
        row = None if state is None else state.row()
        self._asked_pids = () if row is None else row.pids
        self._messages = self._monitor.look_on(self.name_of_pipe, self._tell)

    def _look_away(self) -> None:
        if self._messages is not None:
            self._messages.stop()
            self._messages = None

    def _tell(self) -> None:
        # By another thread. One notice is enough for all that has come until it is taken.
        if not self._told:
            self._told = True
            self.post_message(self.Come())

    def on__pipe_come(self) -> None:
        """Show what has come, at most some times in a second."""
        self.set_timer(0.25, self._take)

    def _take(self) -> None:
        self._told = False
        if not self.is_ready:
            return
        if self._messages is not None:
            events = self._messages.take()
            if self._peer is not None:
                events = [event for event in events if (event.owner, event.peer) == self._peer]
            if self._holds:
                self._unseen += len(events)
            else:
                self.lines.add(events)
        self._say_about()

    def _say_about(self) -> None:
        messages = self._messages
        if not self._wants or messages is None:
            said = "messages: not looked at (m begins)"
        elif messages.problem is not None:
            said = f"messages: none: {messages.problem}"
        elif not messages.pids:
            said = "messages: asking the server"
        else:
            said = "messages"
            if self._peer is not None:
                said += f" of process {self._peer[1]} (enter: of all)"
            if self._holds:
                said += f", held, {self._unseen} not shown (p goes on)"
            if messages.lost:
                said += f", {messages.lost} lost: they came too fast"
        self.query_one("#about", _Text).say([said])

    def action_messages(self) -> None:
        """Look on at the messages, or no longer."""
        self._wants = not self._wants
        self._look_away()
        if self._wants:
            self._look_on()
        self._say_about()

    def action_hold(self) -> None:
        """Let the messages stand still, or go on."""
        self._holds = not self._holds
        self._unseen = 0
        self._say_about()

    def action_hex(self) -> None:
        """Show content in hex, or as text."""
        self.lines.as_hex = not self.lines.as_hex
        self.lines.refresh()

    # ---- The rest

    def action_ended(self) -> None:
        """Hide the connections that have ended, or show them."""
        self._hides = not self._hides
        self.refill()

    def action_back(self) -> None:
        """End the filter, or go back to all pipes."""
        if not self.unfilter():
            self._monitor.leave(self.name_of_pipe)

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        """Show the messages of that client alone, or of all again."""
        row = self.table.current
        if row is None or row.key != event.key or row.pid is None:
            return
        peer = row.owner, row.pid
        self._peer = None if peer == self._peer else peer
        self.lines.clear()
        self._say_about()

    def refill(self) -> None:
        """Show what is known now."""
        monitor = self._monitor
        state = monitor.board.pipes.get(self.name_of_pipe)
        if state is None:
            return
        row = state.row()
        connections = state.connections()
        ended = sum(one.left for one in connections)
        seen = [one for one in connections if not one.left] if self._hides else connections
        shown = [one for one in seen if matches(self.wanted, connection_fields(one))]
        if self.wanted:
            self.table.empty = "no connection has these words"
        else:
            self.table.empty = "no connections that live" if ended and self._hides else "no connections"
        self.table.show(shown, monitor.look())
        self.query_one("#head", _Text).say(self._head_lines(row, len(shown), len(seen), ended))
        if self._wants and not row.gone and set(row.pids) - set(self._asked_pids):
            self._look_away()  # another process serves it too: it is asked as well
            self._look_on()
        self._say_about()

    def _head_lines(self, row: PipeRow, shown: int, count: int, ended: int) -> list[str]:
        monitor = self._monitor
        limit = "no limit" if row.limit is None else f"at most {row.limit}"
        connections = _number(count, "connection")
        if shown != count:
            connections = f"{shown} of {connections}"
        if ended:
            connections += f" and {ended} ended (hidden: e)" if self._hides else f", {ended} ended (e hides)"
        lines = [
            f"{printable(row.name)}: "
            + ", ".join(
                filter(None, [row.type, row.direction, _number(row.instances, "instance"), limit, connections])
            ),
        ]
        if row.problem is not None:
            lines.append(f"! {row.problem}")
        if row.rates is not None:
            width = max(6, min(48, (self.size.width - 30) // 2))
            history = [rates.messages if monitor.messages else rates.bytes for rates in row.history]
            lines.append(
                f"in {compact(row.rates.bytes_in)}B/s {compact(row.rates.messages_in)}/s, "
                f"out {compact(row.rates.bytes_out)}B/s {compact(row.rates.messages_out)}/s "
                f"{spark(history, width, plain=monitor.plain)}"
            )
            answer = "-" if row.answer is None else answer_text(row.answer)
            lines.append(
                f"wait: {row.readers} for data, {row.writers} for room, {row.waiting} for an instance; "
                f"{size_text(row.unread)} unread; answers in {answer}"
            )
        state = monitor.board.pipes[self.name_of_pipe]
        owners = () if state.report is None else state.report.owners
        lines += [
            f"process {owner.pid} of {owner.user}, since {moment(owner.since)}: {owner.program or '?'}"
            for owner in owners[:2]
        ]
        if len(owners) > 2:
            lines[-1] = f"and {len(owners) - 1} other processes"
        return lines

    def on_resize(self) -> None:
        """Cut the lines anew."""
        if self.is_ready:
            self.refill()


class Monitor(App[None]):
    """Pipes, and what goes through them.

    Args:
        source: where samples come from.
        names: the pipes that were asked for; None: all.
        look_on: what looks on at messages.
        wall: the time, in seconds since 1970.
        clock: the monotonic clock, in seconds.
        where: where pipes are, as the end of a sentence; None: of this process.
    """

    TITLE = "npipe top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
        Binding("ctrl+c", "interrupt", "Quit", show=False, priority=True),
        Binding("b", "unit", "Bytes/msgs"),
        Binding("plus,equals_sign", "pace(1)", "Slower", show=False),
        Binding("minus", "pace(-1)", "Faster", show=False),
        Binding("space", "hold_all", "Stop/go", show=False),
    ]

    class Sampled(Message):
        """There are samples."""

    def __init__(
        self,
        source: Source,
        names: Sequence[str] | None = None,
        *,
        look_on: Callable[[str, Callable[[], object]], Messages] = watch_messages,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        where: str | None = None,
    ) -> None:
        # Without colours at all, and not in grey as textual has it.
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        self.source = source
        self.board = Board()
        self.board.kept.update(names or ())
        self.look_on = look_on
        self.messages = False
        """Rates in messages; else in bytes."""
        self.plain = "utf" not in (getattr(sys.__stdout__, "encoding", None) or "utf-8").lower()
        self.where = whereabouts() if where is None else where
        self.asked = False
        """Whether anybody has answered yet."""
        self._names = set(names or ())
        self._wall, self._clock = wall, clock
        self._told = False
        self._holds = False
        # In a browser: who serves the window, and may die without a word to it.
        self._served_by = os.getppid() if "TEXTUAL_DRIVER" in os.environ else None

    def get_default_screen(self) -> Screen[None]:
        """Begin with all pipes."""
        return _Pipes(self)

    def on_mount(self) -> None:
        """Begin to ask."""
        if sys.platform != "win32":
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self._end, 128 + number)
        self.source.start(self._tell)

    def on_unmount(self) -> None:
        """Ask no longer."""
        self.source.stop()

    def on_key(self, event: events.Key) -> None:
        """Give the filter what was typed for it before it was there: it has come by the table, unused."""
        box = self.focused
        if isinstance(box, Input) and event.is_printable and event.character:
            box.insert_text_at_cursor(event.character)
            event.prevent_default()
            event.stop()

    def _end(self, status: int) -> None:
        self.exit(return_code=status)

    def _tell(self) -> None:
        # By another thread. One notice is enough for all samples until they are taken.
        if not self._told:
            self._told = True
            self.post_message(self.Sampled())

    def on_monitor_sampled(self) -> None:
        """Show what was said."""
        self._told = False
        if self._served_by is not None and self._served_by != os.getppid():
            self.exit()
            return
        samples = self.source.take()
        self.asked = True
        for sample in samples:
            self.board.feed(sample)
        self.board.forget(self._clock())
        if not self._holds:
            self.refill()

    def refill(self) -> None:
        """Show what is known now."""
        screen = self.screen
        if isinstance(screen, _Table) and screen.is_ready:
            screen.refill()

    def look(self) -> Look:
        """Return how rows look now."""
        return Look(self.messages, self.plain, self._wall())

    def title_line(self) -> str:
        """Return the first line."""
        unit = "messages" if self.messages else "bytes"
        held = ", held (space goes on)" if self._holds else ""
        return f"npipe top, each {self.source.interval:g} s, rates in {unit}{held}; pipes {self.where}"

    def select(self, name: str) -> None:
        """Show one pipe."""
        self.board.kept.add(name)
        self.push_screen(_Pipe(self, name))

    def leave(self, name: str) -> None:
        """Show all pipes again."""
        if name not in self._names:
            self.board.kept.discard(name)
        self.pop_screen()
        self.call_later(self.refill)

    async def action_quit(self) -> None:
        """End."""
        self.exit(return_code=0)

    def action_interrupt(self) -> None:
        """End as Ctrl-C ends commands."""
        self.exit(return_code=INTERRUPTED)

    def action_unit(self) -> None:
        """Show rates in messages, or in bytes again."""
        self.messages = not self.messages
        self.refill()

    def action_hold_all(self) -> None:
        """Let the picture stand still, or go on."""
        self._holds = not self._holds
        self.refill()

    def action_pace(self, step: int) -> None:
        """Ask less often, or more."""
        now = self.source.interval
        if step > 0:
            self.source.interval = next((each for each in _INTERVALS if each > now), now)
        else:
            self.source.interval = next((each for each in reversed(_INTERVALS) if each < now), now)
        self.refill()
