"""`npipe trace`: what goes through pipes, of running servers or from a file."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import click

import npipe.tracing
from npipe._text import printable
from npipe.cli.common import check_seconds, examples
from npipe.cli.statuses import BAD_DATA, NOT_THERE, STATUSES, Failure, by_kind, status_of
from npipe.cli.trace_output import JsonView, Session, TextView
from npipe.errors import WinError, error_from_code
from npipe.names import parse_name
from npipe.tracing.answers import Answers
from npipe.tracing.events import Event, Named, TraceFileError, matcher
from npipe.tracing.files import TraceWriter, read_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.cli.trace_output import Peer, View
    from npipe.tracing.answers import Side

__all__ = ["trace"]

_LONGEST: Final = 1e9  # seconds: longer than any answer takes, and a whole number of nanoseconds


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
  npipe trace -r a.pcapng mypipe --connection 3
  npipe trace mypipe --pairs              each request with its answer
  npipe trace mypipe --slower 0.5         those that took longer, or have none
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
@click.option("-c", "--count", type=click.IntRange(1), help="Stop after so many events, or pairs.")
@click.option("--for", "seconds", type=float, metavar="SECONDS", callback=check_seconds, help="Stop after so long.")
@click.option("--size", metavar="MIN:MAX", help="Only messages of so many bytes: N, MIN:MAX, MIN: or :MAX.")
@click.option("--peer", type=int, metavar="PID", help="Only connections with this process.")
@click.option(
    "--connection", type=click.IntRange(1), metavar="NUMBER", help="Only connections that are shown with this number."
)
@click.option("-m", "--match", "pattern", metavar="REGEX", help="Only messages in which this is found.")
@click.option("--pairs", is_flag=True, help="Show each request together with its answer, when that has come.")
@click.option(
    "--slower",
    type=float,
    metavar="SECONDS",
    callback=check_seconds,
    help="Only pairs whose answer took longer, and requests that have waited longer when the connection or the trace "
    "ends.",
)
@click.option(
    "--asks",
    type=click.Choice(["client", "server"]),
    default="client",
    show_default=True,
    help="Whose messages are requests; those of the other side are answers.",
)
@click.option(
    "--pipelined",
    is_flag=True,
    help="A client may ask again before it has its answer; answers come in the order of requests.",
)
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Wait for pipes that are not there yet, and go on when the last server has gone: for the next one.",
)
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Nothing on standard error but errors: neither what is traced, nor the sum of it at the end.",
)
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
    connection: int | None,
    pattern: str | None,
    pairs: bool,
    slower: float | None,
    asks: str,
    pipelined: bool,
    follow: bool,
    quiet: bool,
    ring_size: str,
) -> None:
    r"""Show what goes through pipes, as their servers see it.

    The servers run on, and take no notice; it is for pipes of your own user, and for root. All that their connections
    read and write from now on is shown, until the pipe has gone, or Ctrl-C. Processes that begin to serve a pipe
    meanwhile are traced too. With --read it is what was recorded, of all pipes or of those that are named.

    Of an answer it is told how long it took: from when the server had read the request to when it had written the
    answer. At the end standard error has the sum of it, for each pipe.
    """
    if not source and not names:
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
        chosen, wants = matcher(peer=peer, connection=connection), matcher(size=size, pattern=pattern)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    view: View | None = None if target else JsonView() if as_lines else TextView(as_hex=as_hex)
    with contextlib.ExitStack() as stack:
        # The source first: what --write overwrites is overwritten only if there is something to record.
        if source:
            traced = stack.enter_context(_from_file(source, names))
        else:
            servers = _from_servers(names, snaplen, _bytes_of(ring_size), seconds, follow=follow, quiet=quiet)
            traced = stack.enter_context(servers)
        writer = stack.enter_context(_open_writer(target)) if target else None
        _tell_begin(traced.what, target, quiet=quiet)
        in_pairs = pairs or slower is not None
        session = Session(
            Answers(cast("Side", asks), pipelined=pipelined, whole=in_pairs),
            view,
            None if writer is None else functools.partial(_write, writer, str(target)),
            chosen=chosen,
            wants=wants,
            pairs=in_pairs,
            slower=None if slower is None else round(min(slower, _LONGEST) * 1e9),
            count=count,
            who=traced.who,
        )
        try:
            for event in traced.events(lambda pipe, owner: session.owner_ended(pipe, owner, time.time_ns())):
                session.take(event)
                if session.done:
                    break
        except (KeyboardInterrupt, Failure):  # a file that is cut short, say: what was read is told
            _end(session, live=not source, quiet=quiet)
            raise
        _end(session, live=not source, quiet=quiet)
        if not session.done:
            traced.check()


class _Traced(NamedTuple):
    """Where events come from."""

    events: Callable[[Callable[[str, int], object]], Iterator[Event]]
    """Gives them, and calls its argument with pipe and process when a server has ended."""
    what: str | None
    """What is traced, for people."""
    who: Callable[[Event], Peer | None]
    """Who is at the other end of a connection."""
    check: Callable[[], object]
    """Raises, at the end, what was wrong."""


def _tell_begin(what: str | None, target: str | None, *, quiet: bool) -> None:
    into = None
    if target is not None:
        into = "recording to standard output" if target == "/dev/stdout" else f"recording into {printable(target)}"
    told = "; ".join(filter(None, (what, into)))
    if told and not quiet:
        click.echo(f"npipe: {told}", err=True)


def _end(session: Session, *, live: bool, quiet: bool) -> None:
    session.finish(time.time_ns() if live else session.last)
    if quiet:
        return
    for line in session.summary.lines():
        click.echo(f"npipe: {line}", err=True)
    if session.answers.overlap:
        click.echo("npipe: requests may have overlapped: --pipelined pairs answers in the order of requests", err=True)
    if session.answers.uncertain:
        click.echo(
            "npipe: pairs may be wrong: requests before the trace, or lost ones, may have taken answers", err=True
        )


def _bytes_of(text: str) -> int:
    return int(text[:-1]) << (10 if text[-1] == "K" else 20)


def _open_writer(target: str) -> TraceWriter:
    try:
        return TraceWriter(target)
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error.strerror}") from error


def _write(writer: TraceWriter, target: str, event: Event) -> None:
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
def _from_file(source: str, names: tuple[str, ...]) -> Iterator[_Traced]:
    """Give the events of a file, of which the first was read already: it is a trace."""
    events = _read(source)
    first = list(itertools.islice(events, 1))
    found = itertools.chain(first, events)
    if not names:
        yield _Traced(lambda _: found, None, lambda _: None, lambda: None)
        return
    with by_kind():
        named = Named(names)
    read_all = False

    def chosen() -> Iterator[Event]:
        nonlocal read_all
        yield from filter(named, found)
        read_all = True

    def check() -> None:
        if read_all and named.missing:
            there = ", ".join(map(printable, named.pipes)) or "nothing"
            raise Failure(f"{source}: nothing of {', '.join(map(printable, named.missing))}; it has {there}", NOT_THERE)

    yield _Traced(lambda _: chosen(), None, lambda _: None, check)


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
    ) -> contextlib.AbstractContextManager[_Traced]:
        del names, snaplen, ring_size, seconds, follow, quiet
        raise click.ClickException(
            "on Windows a running process cannot be traced from outside: start it with NPIPE_TRACE=FILE"
        )

else:
    from npipe.cli.trace_peers import Peers
    from npipe.tracing.attach import Tracer

    @contextlib.contextmanager
    def _from_servers(
        names: tuple[str, ...], snaplen: int, ring_size: int, seconds: float | None, *, follow: bool, quiet: bool
    ) -> Iterator[_Traced]:
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
            pipes = ", ".join(dict.fromkeys(printable(parse_name(name).path) for name in names))
            if first:
                processes = ", ".join(f"process {pid}" for pid in dict.fromkeys(first))
                what = f"tracing {processes}: {pipes}"
            else:
                what = f"waiting for a server of {pipes}"
            first = None
            events = functools.partial(_live, tracer, seconds)
            yield _Traced(events, what, Peers().of, functools.partial(_check, tracer, quiet=quiet))

    def _live(tracer: Tracer, seconds: float | None, on_end: Callable[[str, int], object]) -> Iterator[Event]:
        with by_kind():
            yield from tracer.events(seconds, on_end=on_end)

    def _check(tracer: Tracer, *, quiet: bool) -> None:
        if tracer.lost and not quiet:
            click.echo(f"npipe: {tracer.lost} records were lost", err=True)
        if tracer.problems:
            code = tracer.problems.code
            status = BAD_DATA if code == WinError.INVALID_DATA else status_of(error_from_code(code))
            raise Failure("; ".join(tracer.problems), status)
