"""`npipe ls`: the pipes of this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING

import click

import npipe
from npipe._text import printable
from npipe.cli.common import examples, interval_option, quiet_when_nobody_reads, whereabouts
from npipe.cli.reports import as_json as dictionary
from npipe.cli.reports import gather, host_of, moment, tree_lines
from npipe.cli.statuses import CANNOT, DENIED, NOT_THERE, TIME_OVER, by_kind, statuses
from npipe.cli.units import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console, RenderableType
    from rich.table import Table

    from npipe.options import PipeListing

__all__ = ["ls"]

_COLUMNS = ("name", "type", "direction", "instances", "limit", "pid", "user")
_LONG = (
    *_COLUMNS,
    "program",
    "clients",
    "ended",
    "waiting",
    "in quota",
    "out quota",
    "bytes in",
    "messages in",
    "bytes out",
    "messages out",
    "unread",
    "since",
    "problem",
)
_TEXT = ("name", "type", "direction", "user", "program", "since", "problem")
_WIDEST = 10_000  # columns of text; a name has 256 characters at most, each of which may be written as ten
_BRANCH, _LAST, _BAR = "├─ ", "└─ ", "│  "


_EXAMPLES = examples(r"""Examples:
  npipe ls                      what is there
  npipe ls --tree               who serves, who is connected, who waits
  npipe ls -l | cut -f1,14,16   names, and bytes in and out
  npipe ls -l --watch           the same, each second
  npipe ls '\\HOST\pipe\'       another machine's, if it tells
""")
_STATUSES = statuses(TIME_OVER, DENIED, CANNOT, saying={NOT_THERE: "there is no such machine"})


@click.command(epilog=f"{_EXAMPLES}\n{_STATUSES}")
@click.argument("where", required=False, metavar=r"[\\HOST\pipe\]")
@click.option("-l", "--long", "is_long", is_flag=True, help="Also quotas, clients, what was moved, since when.")
@click.option("--tree", "is_tree", is_flag=True, help="Each pipe, its processes, and their clients below these.")
@click.option("--watch", is_flag=True, help="Go on, with a new picture each --interval, until Ctrl-C.")
@interval_option("Between two pictures of --watch.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of objects; no limit is null.")
def ls(where: str | None, is_long: bool, is_tree: bool, watch: bool, interval: float, as_json: bool) -> None:
    r"""List the pipes that this user may connect to.

    A line for each pipe and process that serves it: name, type, direction (as the server sees it), instances and how
    many there may be, and the owner's process id and user. On a terminal it is a table, and below it where the pipes
    are; else lines of fields between tabs, the first of them the fields' names. If there are no pipes, standard error
    says where it has looked.

    With -l and --tree the processes are asked for more, which only their own user and root are told; asking disturbs
    nobody. With --json these are whole reports, as of `npipe info NAME`, and with --watch one line for each picture.
    On Windows the system tells of names and instances alone.
    """
    host = host_of(where)
    details = is_long or is_tree
    if host is not None and details:
        raise click.UsageError("-l and --tree are for this machine's pipes: another machine tells names alone.")
    if not watch:
        _print_once(host, is_long, is_tree, as_json)
        return
    with quiet_when_nobody_reads():
        if as_json or not sys.stdout.isatty():
            while True:
                _print_once(host, is_long, is_tree, as_json, one_line=True)
                sys.stdout.flush()
                time.sleep(interval)
        _watch_on_terminal(lambda console: _picture(host, is_long, is_tree, console), interval)


def _print_once(host: str | None, is_long: bool, is_tree: bool, as_json: bool, *, one_line: bool = False) -> None:
    found: Sequence[object]
    if is_long or is_tree:
        with by_kind():
            reports = found = gather()
        if as_json:
            _print_json([dictionary(report) for report in reports], one_line=one_line)
        elif is_tree:
            click.echo("".join(f"{line}\n" for line in _tree(reports, pretty=_is_pretty())), nl=False)
        elif sys.stdout.isatty():
            _print_picture(_long_table(reports, _console()))
        else:
            _print_fields([_LONG, *_long_rows(reports, people=False)])
    else:
        pipes = found = npipe.list_pipes(host)
        if as_json:
            _print_json([dataclasses.asdict(pipe) for pipe in pipes], one_line=one_line)
        elif sys.stdout.isatty():
            _print_short([_fields(pipe) for pipe in pipes])
        else:
            _print_fields([_COLUMNS, *map(_fields, pipes)])
    place = whereabouts() if host is None else f"of {printable(host)}"
    if found and sys.stdout.isatty() and not as_json:
        click.echo(place)
    if not found and not one_line:
        click.echo(f"npipe: no pipes {place}", err=True)


def _print_json(value: object, *, one_line: bool) -> None:
    click.echo(json.dumps(value, indent=None if one_line else 2))


def _print_fields(rows: Iterable[Sequence[str]]) -> None:
    click.echo("".join("\t".join(row) + "\n" for row in rows), nl=False)


def _fields(pipe: PipeListing) -> tuple[str, ...]:
    limit = "unlimited" if pipe.max_instances is None else str(pipe.max_instances)
    pid = "" if pipe.pid is None else str(pipe.pid)
    user = "" if pipe.user is None else printable(pipe.user)
    return printable(pipe.name), pipe.type or "", pipe.direction or "", str(pipe.instances), limit, pid, user


def _long_rows(reports: Iterable[npipe.PipeReport], *, people: bool) -> Iterable[tuple[str, ...]]:
    size = size_text if people else str
    for report in reports:
        limit = "unlimited" if report.max_instances is None else str(report.max_instances)
        head = printable(report.name), report.type or "", report.direction or ""
        if not report.owners:
            yield *head, str(report.instances), limit, *[""] * (len(_LONG) - 5)
        told = [owner.instances for owner in report.owners if owner.since is not None]
        rest = str(report.instances - sum(told)) if len(told) == len(report.owners) - 1 else ""  # of who tells nothing
        for owner in report.owners:
            totals = owner.totals
            unread = sum(one.stats.unread + one.stats.unread_by_peer for one in owner.connections)
            yield (
                *head,
                rest if owner.since is None else str(owner.instances),
                limit,
                str(owner.pid),
                printable(owner.user),
                printable(owner.program or ""),
                str(totals.connected),
                str(owner.ended),
                str(owner.waiting),
                size(owner.in_buffer_size),
                size(owner.out_buffer_size),
                size(totals.bytes_received),
                str(totals.messages_received),
                size(totals.bytes_sent),
                str(totals.messages_sent),
                size(unread),
                moment(owner.since),
                owner.problem or "",
            )


def _is_pretty() -> bool:
    return sys.stdout.isatty() and "utf" in (sys.stdout.encoding or "").lower()


def _tree(reports: Iterable[npipe.PipeReport], *, pretty: bool) -> Iterable[str]:
    """Yield the lines of the trees: with branches drawn, or two spaces for each depth."""
    for report in reports:
        lines = list(tree_lines(report))
        for index, (depth, text) in enumerate(lines):
            if not pretty or depth == 0:
                yield "  " * depth + text
                continue
            marks = []
            for level in range(1, depth + 1):
                later = next((other for other, _ in lines[index + 1 :] if other <= level), 0)
                if level == depth:
                    marks.append(_BRANCH if later == level else _LAST)
                else:
                    marks.append(_BAR if later == level else "   ")
            yield "".join(marks) + text


# ---- On a terminal


def _console() -> Console:
    from rich.console import Console

    return Console()


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in _TEXT else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # Text, for a name may look like markup
    return table


def _needed(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(width=_WIDEST)).maximum


def _long_table(reports: Sequence[npipe.PipeReport], console: Console) -> RenderableType:
    """Return the table, or on a terminal that is too narrow for it a few lines for each of its rows."""
    rows = list(_long_rows(reports, people=True))
    used = [i for i, column in enumerate(_LONG) if column != "problem" or any(row[i] for row in rows)]
    table = _table([_LONG[i] for i in used], [[row[i] for i in used] for row in rows])
    if _needed(console, table) <= console.width:
        return table
    from rich.text import Text

    blocks = []
    for row in rows:
        fields = [f"  {column}: {field}" for column, field in zip(_LONG[1:], row[1:], strict=True) if field]
        blocks.append("\n".join([row[0], *fields]))
    return Text("\n".join(blocks), overflow="fold")


def _in_lines(rows: Iterable[Sequence[str]]) -> str:
    """Return the rows of the short list for a terminal that is too narrow for its table: two lines each."""
    return "\n".join(f"{row[0]}\n  {' '.join(filter(None, row[1:]))}" for row in rows)


def _print_short(rows: Sequence[Sequence[str]]) -> None:
    table, console = _table(_COLUMNS, rows), _console()
    if not rows or _needed(console, table) <= console.width:
        _print_picture(table)
    else:
        click.echo(_in_lines(rows))  # a long name runs over the terminal's edge, and is one word still


def _print_picture(picture: RenderableType) -> None:
    from rich.table import Table

    console = _console()
    if isinstance(picture, Table):
        # Never narrower than its fields: a long name runs over the terminal's edge, and nothing is cut.
        console.width = max(console.width, _needed(console, picture))
    console.print(picture)


def _picture(host: str | None, is_long: bool, is_tree: bool, console: Console) -> RenderableType:
    from rich.text import Text

    if is_tree:
        return Text("\n".join(_tree(gather(), pretty=_is_pretty())) or "no pipes", overflow="fold")
    if is_long:
        return _long_table(gather(), console)
    rows = [_fields(pipe) for pipe in npipe.list_pipes(host)]
    table = _table(_COLUMNS, rows)
    if _needed(console, table) <= console.width:
        return table
    return Text(_in_lines(rows), overflow="fold")  # a picture ends at the terminal's edge, as printed lines do not


def _watch_on_terminal(picture: Callable[[Console], RenderableType], interval: float) -> None:
    from rich.live import Live

    console = _console()
    with Live(picture(console), console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.update(picture(console), refresh=True)
            time.sleep(interval)
