"""`npipe info` and `npipe --version`: which npipe this is, and where its pipes are."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import click

import npipe
from npipe._text import printable
from npipe.cli.common import decided_by, examples, system_name, whereabouts
from npipe.cli.reports import as_json as dictionary
from npipe.cli.reports import complete_name, lines_of, owner_status
from npipe.cli.statuses import CANNOT, DENIED, NOT_THERE, TIME_OVER, by_kind, status_of, statuses

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["info", "print_version"]


def print_version(context: click.Context, _param: click.Parameter, asked: bool) -> None:
    """Print one line for --version, and end."""
    if asked and not context.resilient_parsing:
        click.echo(f"npipe {npipe.__version__}, pipes {whereabouts()}")
        context.exit()


_EXAMPLES = examples(r"""Examples:
  npipe info                    the version, and where pipes are
  npipe info mynamedpipe        who serves it, who is connected, who waits
  npipe info shop till          the same of two
  npipe info shop | grep '^!'   what is wrong with it
  npipe info mynamedpipe --json | jq '.owners[].connections[].pid'
""")
_STATUSES = statuses(
    saying={
        NOT_THERE: "there is no such pipe",
        TIME_OVER: "nobody answers: the server is stopped, or very busy",
        DENIED: "this user is not told, or the root cannot be used",
        CANNOT: "it cannot be told: of another machine, or by an older npipe",
    }
)


@click.command(epilog=f"{_EXAMPLES}\n{_STATUSES}", short_help="Tell all about the pipe NAME, or where pipes are.")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_name)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a JSON object, or of several pipes an array of them; what is not there is null.",
)
def info(names: tuple[str, ...], as_json: bool) -> None:
    r"""Tell all about the pipes NAME; without one, which npipe this is and where its pipes are.

    Of a pipe: type, direction, instances, and of each process that serves it user, program, quotas, since when, how
    much it has moved; then each client with process, user, program, since when, bytes and messages each way, what is
    unread, and who waits. Only the pipe's own user and root are told; asking disturbs nobody.

    A line that begins with "!" says what is wrong, and what to do: clients that wait while all instances are in use, a
    server that does not accept or does not read, a client that does not, connections that have ended and are kept.

    Of several pipes all that are there are told, and the exit status is that of the first that could not be.

    Without NAME: the version, the folder below which pipes are and what has decided that, how many pipes this user may
    connect to, and the Python and system that run it. Two programs meet only if their root is the same. If the root
    cannot be used, standard error says why.
    """
    if len(names) == 1:
        _print_pipe(names[0], as_json)
        return
    if names:
        _print_pipes(names, as_json)
        return
    root = npipe.root()
    pipes: int | None = None
    failed: npipe.PipeError | None = None
    try:
        pipes = len(npipe.list_pipes())
    except npipe.PipeError as error:  # a root that cannot be trusted, say: the rest is told all the same
        failed = error
    known: dict[str, object] = {
        "version": npipe.__version__,
        "root": root,
        "root_exists": None if root is None else Path(root).is_dir(),
        "decided_by": decided_by(root),
        "pipes": pipes,
        "package": str(Path(npipe.__file__).parent),
        "python": platform.python_version(),
        "system": system_name(),
    }
    if as_json:
        click.echo(json.dumps(known, indent=2))
    else:
        _print_lines(known)
    if failed is not None:
        raise failed


def _print_pipe(name: str, as_json: bool) -> None:
    with by_kind():
        report = npipe.inspect(name)
    if as_json:
        click.echo(json.dumps(dictionary(report), indent=2))
    else:
        click.echo("\n".join(lines_of(report)))
    status = owner_status([report])
    if status:
        raise click.exceptions.Exit(status)


def _print_pipes(names: Iterable[str], as_json: bool) -> None:
    """Print what there is to tell of each, complain of the others, and exit with the first status that is not 0."""
    reports, status = [], 0
    for name in names:
        try:
            report = npipe.inspect(name)
        except npipe.PipeError as error:
            click.echo(f"npipe: {printable(str(error))}", err=True)
            status = status or status_of(error)
        else:
            reports.append(report)
            status = status or owner_status([report])
    if as_json:
        click.echo(json.dumps([dictionary(report) for report in reports], indent=2))
    else:
        click.echo("\n\n".join("\n".join(lines_of(report)) for report in reports), nl=bool(reports))
    if status:
        raise click.exceptions.Exit(status)


def _print_lines(known: dict[str, object]) -> None:
    root, there = known["root"], known.pop("root_exists")
    if root is None:
        known["root"] = "none: the system keeps the names"
    elif not there:
        known["root"] = f"{root} (not there yet: the first server makes it)"
    for what, value in known.items():
        if value is not None:
            click.echo(f"{what.replace('_', ' ')}: {printable(str(value))}")
