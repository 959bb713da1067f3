"""`npipe trace`: what goes through pipes, of running servers or from a file."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import npipe.tracing
from npipe.cli.common import check_seconds, examples
from npipe.cli.statuses import BAD_DATA, STATUSES, Failure, by_kind
from npipe.tracing.events import Event, Flags, Kind, TraceFileError, matcher
from npipe.tracing.files import TraceWriter, as_json, read_trace
from npipe.tracing.lines import head, text_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["trace"]


def _print_lua(context: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        click.echo(str(Path(npipe.tracing.__file__).with_name("npipe.lua")))
        context.exit()


_EXAMPLES = examples(r"""Examples:
  npipe trace mypipe                      each message, one line
  npipe trace mypipe -x --size 1000:      long ones, in hex
  npipe trace mypipe other --json | jq    JSON lines
  npipe trace -f mypipe                   also before the server is there, and when it starts anew
  npipe trace mypipe -w a.pcapng          record, for Wireshark
  npipe trace -r a.pcapng --match error   look at it later
  npipe trace mypipe -w - | wireshark -k -i - -X lua_script:$(npipe trace --lua)
""")


@click.command(epilog=f"{_EXAMPLES}\n{STATUSES}")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "-r",
    "--read",
    "source",
    metavar="FILE",
    help="Show a trace that was recorded, instead of a live one; - is standard input (not on Windows).",
)
@click.option(
    "-w",
    "--write",
    "target",
    metavar="FILE",
    help="Record into FILE: pcapng, for Wireshark; JSON lines if it ends in .jsonl or .json. - is standard output, for "
    "a Wireshark that looks on (not on Windows).",
)
@click.option("--json", "as_lines", is_flag=True, help="Print JSON lines.")
@click.option("-x", "--hex", "as_hex", is_flag=True, help="Show content in hex.")
@click.option(
    "-s",
    "--snaplen",
    type=click.IntRange(0, (1 << 32) - 1),
    default=65536,
    show_default=True,
    help="Bytes of each message that are recorded; 0: no content.",
)
@click.option("-c", "--count", type=click.IntRange(1), help="Stop after so many events.")
@click.option("--for", "seconds", type=float, metavar="SECONDS", callback=check_seconds, help="Stop after so long.")
@click.option("--size", metavar="MIN:MAX", help="Only messages of so many bytes: N, MIN:MAX, MIN: or :MAX.")
@click.option("--peer", type=int, metavar="PID", help="Only connections with this process.")
@click.option("-m", "--match", "pattern", metavar="REGEX", help="Only messages in which this is found.")
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Wait for pipes that are not there yet, and go on when the last server has gone: for the next one.",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not say on standard error what is traced.")
@click.option(
    "--lua",
    is_flag=True,
    is_eager=True,
    callback=_print_lua,
    expose_value=False,
    help="Print where Wireshark's dissector is; then exit.",
)
@click.option(
    "--buffer",
    "ring_size",
    type=click.Choice(["64K", "256K", "1M", "4M", "16M", "64M", "256M"]),
    default="4M",
    show_default=True,
    help="Memory for what was not shown yet. What finds no room is lost, and counted: nobody waits for a trace.",
)
def trace(
    names: tuple[str, ...],
    source: str | None,
    target: str | None,
    as_lines: bool,
    as_hex: bool,
    snaplen: int,
    count: int | None,
    seconds: float | None,
    size: str | None,
    peer: int | None,
    pattern: str | None,
    follow: bool,
    quiet: bool,
    ring_size: str,
) -> None:
    r"""Show what goes through pipes, as their servers see it.

    The servers run on, and take no notice; it is for pipes of your own user, and for root. All that their connections
    read and write from now on is shown, until the pipe has gone, or Ctrl-C. Processes that begin to serve a pipe
    meanwhile are traced too.
    """
    if bool(source) == bool(names):
        raise click.UsageError("Give the names of pipes, or --read FILE.")
    if source and follow:
        raise click.UsageError("--follow is for pipes, not for --read FILE.")
    if sys.platform != "win32":
        source, target = "/dev/stdin" if source == "-" else source, "/dev/stdout" if target == "-" else target
        if target == "/dev/stdout" and sys.stdout.isatty():
            raise click.UsageError("--write - is for a program or a file, and standard output is a terminal.")
    if source and target and _same_file(source, target):
        raise click.UsageError("--write is the file that --read reads.")
    try:
        wants = matcher(size, peer, pattern)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    show = _no_show if target else _show_json if as_lines else _show_hex if as_hex else _show_text
    with contextlib.ExitStack() as stack:
        # The source first: what --write overwrites is overwritten only if there is something to record.
        events: Iterator[Event]
        if source:
            events = stack.enter_context(_from_file(source))
        else:
            traced = _from_servers(names, snaplen, _bytes_of(ring_size), seconds, follow=follow, quiet=quiet)
            events = stack.enter_context(traced)
        writer = stack.enter_context(_open_writer(target)) if target else None
        for number, event in enumerate(filter(wants, events), 1):
            if writer is not None:
                _write(writer, event, str(target))
            show(event)
            if number == count:
                break


def _bytes_of(text: str) -> int:
    return int(text[:-1]) << (10 if text[-1] == "K" else 20)


def _open_writer(target: str) -> TraceWriter:
    try:
        return TraceWriter(target)
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error.strerror}") from error


def _write(writer: TraceWriter, event: Event, target: str) -> None:
    try:
        writer.write(event)
    except OSError as error:
        raise click.ClickException(
            f"{target}: {error.strerror}: recording has stopped; the {writer.count} records in it are whole"
        ) from error


def _same_file(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:  # one of them is not there
        return False


@contextlib.contextmanager
def _from_file(source: str) -> Iterator[Iterator[Event]]:
    """Give the events of a file, of which the first was read already: it is a trace."""
    events = _read(source)
    first = list(itertools.islice(events, 1))
    yield itertools.chain(first, events)


def _read(source: str) -> Iterator[Event]:
    try:
        yield from read_trace(source)
    except TraceFileError as error:
        raise Failure(str(error), BAD_DATA) from error
    except OSError as error:
        raise click.ClickException(f"{source} cannot be read: {error.strerror}") from error


if sys.platform == "win32":

    def _from_servers(
        names: tuple[str, ...], snaplen: int, ring_size: int, seconds: float | None, *, follow: bool, quiet: bool
    ) -> contextlib.AbstractContextManager[Iterator[Event]]:
        del names, snaplen, ring_size, seconds, follow, quiet
        raise click.ClickException(
            "on Windows a running process cannot be traced from outside: start it with NPIPE_TRACE=FILE"
        )

else:
    from npipe.tracing.attach import Tracer

    @contextlib.contextmanager
    def _from_servers(
        names: tuple[str, ...], snaplen: int, ring_size: int, seconds: float | None, *, follow: bool, quiet: bool
    ) -> Iterator[Iterator[Event]]:
        """Give the events of servers that are traced already."""
        first: list[int] | None = []

        def tell(pid: int) -> None:
            if first is not None:
                first.append(pid)  # those that are there are one line
            elif not quiet:
                click.echo(f"npipe: tracing process {pid} too", err=True)

        with by_kind():
            tracer = Tracer(names, snaplen=snaplen, ring_size=ring_size, follow=follow, on_owner=tell)
        with tracer:
            if not quiet and first:
                click.echo(f"npipe: tracing {', '.join(f'process {pid}' for pid in first)}", err=True)
            elif not quiet:
                click.echo("npipe: waiting for a server", err=True)
            first = None
            yield _live(tracer, seconds, quiet=quiet)

    def _live(tracer: Tracer, seconds: float | None, *, quiet: bool) -> Iterator[Event]:
        with by_kind():
            yield from tracer.events(seconds)
        if tracer.lost and not quiet:
            click.echo(f"npipe: {tracer.lost} records were lost", err=True)
        if tracer.problems:
            raise Failure("; ".join(tracer.problems), BAD_DATA)


def _no_show(event: Event) -> None:
    del event


def _show_json(event: Event) -> None:
    click.echo(as_json(event))


def _show_text(event: Event) -> None:
    _print(text_line(event), event)


def _show_hex(event: Event) -> None:
    _print(head(event), event)
    for begin in range(0, len(event.data), 16):
        piece = event.data[begin : begin + 16]
        text = "".join(chr(c) if 32 <= c < 127 else "." for c in piece)
        click.echo(f"  {begin:08x}  {piece.hex(' '):<47}  {text}")


_COLOURS = {Kind.OPENED: "cyan", Kind.PRESENT: "cyan", Kind.CLOSED: "cyan", Kind.GONE: "cyan", Kind.LOST: "red"}


def _print(line: str, event: Event) -> None:
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        line = click.style(line, fg=_COLOURS.get(event.kind, "green" if event.flags & Flags.OUT else None))
    click.echo(line)
