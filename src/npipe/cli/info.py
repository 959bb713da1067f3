"""`npipe info` and `npipe --version`: which npipe this is, and where its pipes are."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import click

import npipe
from npipe._text import printable
from npipe.cli.common import decided_by, examples, system_name, whereabouts
from npipe.cli.reports import as_json as dictionary
from npipe.cli.reports import complete_name, lines_of, owner_status
from npipe.cli.statuses import by_kind

__all__ = ["info", "print_version"]


def print_version(context: click.Context, _param: click.Parameter, asked: bool) -> None:
    """Print one line for --version, and end."""
    if asked and not context.resilient_parsing:
        click.echo(f"npipe {npipe.__version__}, pipes {whereabouts()}")
        context.exit()


_EXAMPLES = examples(r"""Examples:
  npipe info                    the version, and where pipes are
  npipe info mynamedpipe        who serves it, who is connected, who waits
  npipe info mynamedpipe --json | jq '.owners[].connections[].pid'""")


@click.command(epilog=_EXAMPLES, short_help="Tell all about the pipe NAME, or where pipes are.")
@click.argument("name", required=False, shell_complete=complete_name)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; what is not there is null.")
def info(name: str | None, as_json: bool) -> None:
    r"""Tell all about the pipe NAME; without one, which npipe this is and where its pipes are.

    Of a pipe: type, direction, instances, and of each process that serves it user, program, quotas, since when, how
    much it has moved; then each client with process, user, program, since when, bytes and messages each way, what is
    unread, and who waits. Only the pipe's own user and root are told; asking disturbs nobody. The exit status is 3 if
    there is no such pipe, 4 if nobody answers, 5 if this user is not told, 9 if it cannot be told.

    Without NAME: the version, the folder below which pipes are and what has decided that, how many pipes this user may
    connect to, and the Python and system that run it. Two programs meet only if their root is the same. If the root
    cannot be used, standard error says why, and the exit status is 1.
    """
    if name is not None:
        _print_pipe(name, as_json)
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


def _print_lines(known: dict[str, object]) -> None:
    root, there = known["root"], known.pop("root_exists")
    if root is None:
        known["root"] = "none: the system keeps the names"
    elif not there:
        known["root"] = f"{root} (not there yet: the first server makes it)"
    for what, value in known.items():
        if value is not None:
            click.echo(f"{what.replace('_', ' ')}: {printable(str(value))}")
