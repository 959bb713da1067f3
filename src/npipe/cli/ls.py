"""`npipe ls`: the pipes of this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

import click

import npipe
from npipe.cli.common import printable, whereabouts

if TYPE_CHECKING:
    from npipe.options import PipeListing

__all__ = ["ls"]

_COLUMNS = ("name", "type", "direction", "instances", "limit", "pid", "user")
_NUMBERS = ("instances", "limit", "pid")
_WIDEST = 10_000  # columns of text; a name has 256 characters at most, each of which may be written as ten


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of objects; no limit is null.")
def ls(as_json: bool) -> None:
    """List the pipes that this user may connect to.

    A line for each pipe and process that serves it: name, type, direction (as the server sees it), instances and how
    many there may be, and the owner's process id and user. On a terminal it is a table, and below it where the pipes
    are; else lines of fields between tabs, the first of them the fields' names. If there are no pipes, standard error
    says where it has looked.
    """
    pipes = npipe.list_pipes()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(pipe) for pipe in pipes], indent=2))
    elif sys.stdout.isatty():
        _print_table(pipes)
        if pipes:
            click.echo(whereabouts())
    else:
        for fields in (_COLUMNS, *map(_fields, pipes)):
            click.echo("\t".join(fields))
    if not pipes:
        click.echo(f"npipe: no pipes {whereabouts()}", err=True)


def _fields(pipe: PipeListing) -> tuple[str, ...]:
    limit = "unlimited" if pipe.max_instances is None else str(pipe.max_instances)
    pid = "" if pipe.pid is None else str(pipe.pid)
    return printable(pipe.name), pipe.type or "", pipe.direction or "", str(pipe.instances), limit, pid, pipe.user or ""


def _print_table(pipes: list[PipeListing]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in _NUMBERS else "left", no_wrap=True)
    for pipe in pipes:
        table.add_row(*map(Text, _fields(pipe)))  # Text, for a name may look like markup
    console = Console()
    # Never narrower than its fields: a long name runs over the terminal's edge, and nothing is cut.
    needed = console.measure(table, options=console.options.update(width=_WIDEST)).maximum
    console.width = max(console.width, needed)
    console.print(table)
