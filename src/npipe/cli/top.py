"""`npipe top`: pipes as they live, on a terminal or in a browser."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NoReturn

import click

from npipe._text import printable
from npipe.cli._monitor.model import Board
from npipe.cli._monitor.sampling import Sampler
from npipe.cli.common import examples, interval_option, quiet_when_nobody_reads
from npipe.cli.reports import complete_name
from npipe.cli.statuses import CANNOT, DENIED, Failure, by_kind, statuses
from npipe.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from npipe.cli._monitor.model import PipeRow

__all__ = ["top"]

_EXTRA: Final = "npipe top needs {}, of the extra `monitor`: pip install 'npipe[monitor]'"
_INSTEAD: Final = "use `npipe top --batch`, `npipe ls -l --watch` or `npipe metrics`"
_HIGHEST_PORT: Final = 65535
_FIELDS: Final = (
    "name",
    "type",
    "direction",
    "instances",
    "limit",
    "clients",
    "ended",
    "waiting",
    "bytes in/s",
    "bytes out/s",
    "messages in/s",
    "messages out/s",
    "unread",
    "depth",
    "readers",
    "writers",
    "answer ms",
    "pid",
    "user",
    "problem",
)

_STATUSES = statuses(
    saying={DENIED: "access denied, to a port", CANNOT: "there is no terminal, or one that can do too little"}
)
_DOC = f"""Watch pipes live: rates with their history, how full they are, who waits, and what they say.

A line for each pipe that this user may connect to, or for the pipes NAME. Enter shows one: its processes, each
connection, and its messages as `npipe trace` has them, as long as it is shown. Asking disturbs no pipe: none is opened.

\b
Columns: in/s and out/s   from client to server, and back
         rate             both together, as it was in the last minutes
         clnts            clients that are connected
         ended            of these, who has gone and is not released by the server
         depth            the fullest direction of a connection: 100% is its quota
         rd/wr            who waits for data, and who for room
         answer           how soon the server's process answers who connects
         queue            clients that wait for an instance
\b
Keys:    enter esc   one pipe, and back      s S r   sort by the next column, turn
         /           filter                  b       bytes or messages
         m p x       messages: off, hold, hex  + - space   slower, faster, stop
         tab         to the messages         e       ended connections: hide, show
         ?           these and more          q       end

{_STATUSES}
"""

_EXAMPLES = examples(r"""Examples:
  npipe top                         all pipes
  npipe top shop till --interval 5  these two, each five seconds
  npipe top --web 8080              in a browser of this machine
  npipe top --batch -n 1            once, for a script: fields between tabs
  npipe top --json | jq -c '.pipes[] | [.name, .writers]'""")


@click.command(help=_DOC, epilog=_EXAMPLES, short_help="Watch pipes live: rates, clients, depth, messages.")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_name)
@interval_option("Between two questions to a server.")
@click.option(
    "--web",
    "port",
    type=click.IntRange(0, _HIGHEST_PORT),
    metavar="PORT",
    help="Show it in a browser of this machine, to who has the link that is printed. Port 0: any that is free.",
)
@click.option("-b", "--batch", is_flag=True, help="Print lines of fields between tabs instead, each --interval.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each picture instead.")
@click.option("-n", "--count", type=click.IntRange(1), help="End after so many pictures, with --batch or --json.")
def top(
    names: tuple[str, ...], interval: float, port: int | None, batch: bool, as_json: bool, count: int | None
) -> None:
    """Watch pipes live."""
    with by_kind():
        wanted = [_local(name) for name in names] or None
    if batch or as_json:
        if port is not None:
            raise click.UsageError("--web shows it in a browser: not with --batch or --json.")
        with quiet_when_nobody_reads():
            _print(Sampler(wanted, interval), wanted, interval, count, as_json)
        return
    if count is not None:
        raise click.UsageError("--count is for --batch and --json.")
    if port is not None:
        _serve(port, names, interval)
    _show(wanted, interval)


def _local(name: str) -> str:
    parsed = parse_name(name)
    if parsed.host is not None:
        raise click.UsageError("It is for this machine's pipes: another machine tells names alone (npipe ls).")
    return parsed.path


@contextlib.contextmanager
def _of_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise click.ClickException(_EXTRA.format((error.name or "textual").partition(".")[0])) from error


def _show(names: Sequence[str] | None, interval: float) -> NoReturn:
    in_browser = "TEXTUAL_DRIVER" in os.environ  # textual-serve's, which takes the terminal's place
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    if not in_browser and not all(stream is not None and stream.isatty() for stream in streams):
        raise Failure(f"npipe top needs a terminal: {_INSTEAD}", CANNOT)
    if not in_browser and os.environ.get("TERM") == "dumb":
        raise Failure(f"npipe top needs a terminal that can do more (TERM is dumb): {_INSTEAD}", CANNOT)
    with _of_extra():
        from npipe.cli._monitor.view import Monitor
    monitor = Monitor(Sampler(names, interval), names)
    monitor.run()
    raise click.exceptions.Exit(monitor.return_code or 0)


def _serve(port: int, names: Sequence[str], interval: float) -> NoReturn:
    with _of_extra():
        from npipe.cli._monitor.web import WebServer, bound
    with by_kind():
        try:
            listening = bound(port)
        except OSError as error:
            number = error.errno or 0
            raise OSError(number, os.strerror(number), f"port {port}") from error  # without Python's own words
    command = [sys.executable, "-m", "npipe", "top", "--interval", str(interval), "--", *names]
    server = WebServer(command, listening)
    click.echo(f"npipe: top at {server.link}", err=True)
    raise click.exceptions.Exit(server.run())


# ---- For scripts


def _print(sampler: Sampler, names: Sequence[str] | None, interval: float, count: int | None, as_json: bool) -> None:
    board = Board()
    board.kept.update(names or ())
    told = threading.Event()
    sampler.start(told.set)
    try:
        for _ in range(2):  # rates are told from the second question on
            told.wait()
            told.clear()
            _take(board, sampler)
        if not as_json:
            click.echo("\t".join(_FIELDS))
        done = 0
        while count is None or done < count:
            if done:
                time.sleep(interval)
                _take(board, sampler)
            rows = sorted(board.rows(), key=lambda row: row.name)
            click.echo(_json(rows) if as_json else _lines(rows), nl=as_json)
            sys.stdout.flush()
            done += 1
    finally:
        sampler.stop()
    if sampler.problem is not None:
        raise click.ClickException(sampler.problem)


def _take(board: Board, sampler: Sampler) -> None:
    for sample in sampler.take():
        board.feed(sample)
    board.forget(time.monotonic())


def _json(rows: Iterable[PipeRow]) -> str:
    pipes = []
    for row in rows:
        fields = dataclasses.asdict(row)
        del fields["history"]
        fields["rates"] = None if row.rates is None else row.rates._asdict()
        pipes.append(fields)
    return json.dumps({"time": time.time(), "pipes": pipes})


def _lines(rows: Iterable[PipeRow]) -> str:
    return "".join("\t".join(_fields(row)) + "\n" for row in rows)


def _fields(row: PipeRow) -> tuple[str, ...]:
    rates = ("",) * 4 if row.rates is None else tuple(f"{rate:.1f}" for rate in row.rates)
    return (
        printable(row.name),
        row.type,
        row.direction,
        str(row.instances),
        "unlimited" if row.limit is None else str(row.limit),
        "" if row.clients is None else str(row.clients),
        str(row.ended),
        str(row.waiting),
        *rates,
        str(row.unread),
        "" if row.depth is None else f"{row.depth:.3f}",
        str(row.readers),
        str(row.writers),
        "" if row.answer is None else f"{row.answer * 1000:.3f}",
        ",".join(map(str, row.pids)),
        printable(",".join(row.users)),
        printable(row.problem or ""),
    )
