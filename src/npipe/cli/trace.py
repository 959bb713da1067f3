"""`npipe trace`: what goes through pipes, of running servers or from a file."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import npipe.tracing
from npipe._text import printable
from npipe.cli.common import check_seconds
from npipe.cli.statuses import BAD_DATA, STATUSES, Failure, by_kind
from npipe.tracing.events import Event, Flags, Kind, TraceFileError, matcher
from npipe.tracing.files import TraceWriter, as_json, read_trace, shown_time

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["trace"]


def _print_lua(context: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        click.echo(str(Path(npipe.tracing.__file__).with_name("npipe.lua")))
        context.exit()


@click.command(epilog=STATUSES)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-r", "--read", "source", metavar="FILE", help="Show a trace that was recorded, instead of a live one.")
@click.option(
    "-w",
    "--write",
    "target",
    metavar="FILE",
    help="Record into FILE: pcapng, for Wireshark; JSON lines if it ends in .jsonl or .json.",
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
@click.option("--for", "seconds", type=float, callback=check_seconds, help="Stop after so many seconds.")
@click.option("--size", metavar="MIN:MAX", help="Only messages of so many bytes: N, MIN:MAX, MIN: or :MAX.")
@click.option("--peer", type=int, metavar="PID", help="Only connections with this process.")
@click.option("-m", "--match", "pattern", metavar="REGEX", help="Only messages in which this is found.")
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
    quiet: bool,
    ring_size: str,
) -> None:
    r"""Show what goes through pipes, as their servers see it.

    The servers run on, and take no notice; it is for pipes of your own user, and for root. All that their connections
    read and write from now on is shown, until the pipe has gone, or Ctrl-C.

    \b
    Examples:
      npipe trace mypipe                      each message, one line
      npipe trace mypipe -x --size 1000:      long ones, in hex
      npipe trace mypipe other --json | jq    JSON lines
      npipe trace mypipe -w a.pcapng          record, for Wireshark
      npipe trace -r a.pcapng --match error   look at it later
    """
    if bool(source) == bool(names):
        raise click.UsageError("Give the names of pipes, or --read FILE.")
    try:
        wants = matcher(size, peer, pattern)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    show = _no_show if target else _show_json if as_lines else _show_hex if as_hex else _show_text
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(_open_writer(target)) if target else None
        wanted: Iterator[Event]
        if source:
            wanted = filter(wants, _from_file(source))
        else:
            wanted = filter(wants, _from_servers(names, snaplen, _bytes_of(ring_size), seconds, quiet=quiet))
        for number, event in enumerate(wanted, 1):
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


def _from_file(source: str) -> Iterator[Event]:
    try:
        yield from read_trace(source)
    except TraceFileError as error:
        raise Failure(str(error), BAD_DATA) from error
    except OSError as error:
        raise click.ClickException(f"{source} cannot be read: {error.strerror}") from error


if sys.platform == "win32":

    def _from_servers(
        names: tuple[str, ...], snaplen: int, ring_size: int, seconds: float | None, *, quiet: bool
    ) -> Iterator[Event]:
        del names, snaplen, ring_size, seconds, quiet
        raise click.ClickException(
            "on Windows a running process cannot be traced from outside: start it with NPIPE_TRACE=FILE"
        )

else:
    from npipe.tracing.attach import Tracer

    def _from_servers(
        names: tuple[str, ...], snaplen: int, ring_size: int, seconds: float | None, *, quiet: bool
    ) -> Iterator[Event]:
        with by_kind(), Tracer(names, snaplen=snaplen, ring_size=ring_size) as tracer:
            if not quiet:
                click.echo(f"npipe: tracing {', '.join(f'process {pid}' for pid in tracer.pids)}", err=True)
            yield from tracer.events(seconds)
            if tracer.lost and not quiet:
                click.echo(f"npipe: {tracer.lost} records were lost", err=True)
            if tracer.problems:
                raise Failure("; ".join(tracer.problems), BAD_DATA)


def _head(event: Event) -> str:
    clock = shown_time(event.time)[11:26]
    if event.kind is Kind.LOST:
        return f"{clock} {printable(event.pipe)} LOST {event.size} records: read faster, or give more --buffer"
    where = f"{clock} {printable(event.pipe)} #{event.connection}"
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


def _no_show(event: Event) -> None:
    del event


def _show_json(event: Event) -> None:
    click.echo(as_json(event))


def _show_text(event: Event) -> None:
    head = _head(event)
    if event.data:
        text = event.data.decode("utf-8", "backslashreplace")
        head += f" {printable(text)}"
    _print(head, event)


def _show_hex(event: Event) -> None:
    _print(_head(event), event)
    for begin in range(0, len(event.data), 16):
        piece = event.data[begin : begin + 16]
        text = "".join(chr(c) if 32 <= c < 127 else "." for c in piece)
        click.echo(f"  {begin:08x}  {piece.hex(' '):<47}  {text}")


_COLOURS = {Kind.OPENED: "cyan", Kind.PRESENT: "cyan", Kind.CLOSED: "cyan", Kind.GONE: "cyan", Kind.LOST: "red"}


def _print(line: str, event: Event) -> None:
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        line = click.style(line, fg=_COLOURS.get(event.kind, "green" if event.flags & Flags.OUT else None))
    click.echo(line)
