"""`npipe info` and `npipe --version`: which npipe this is, and where its pipes are."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import click

import npipe
from npipe.cli.common import decided_by, printable, whereabouts

__all__ = ["info", "print_version"]


def print_version(context: click.Context, _param: click.Parameter, asked: bool) -> None:
    """Print one line for --version, and end."""
    if asked and not context.resilient_parsing:
        click.echo(f"npipe {npipe.__version__}, pipes {whereabouts()}")
        context.exit()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; what is not there is null.")
def info(as_json: bool) -> None:
    """Tell which npipe this is and where its pipes are.

    The version, the folder below which pipes are and what has decided that, how many pipes this user may connect to,
    and the Python and system that run it. Two programs meet only if their root is the same. If the root cannot be used,
    standard error says why, and the exit status is 1.
    """
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
        "system": platform.platform(),
    }
    if as_json:
        click.echo(json.dumps(known, indent=2))
    else:
        _print_lines(known)
    if failed is not None:
        raise failed


def _print_lines(known: dict[str, object]) -> None:
    root, there = known["root"], known.pop("root_exists")
    if root is None:
        known["root"] = "none: the system keeps the names"
    elif not there:
        known["root"] = f"{root} (not there yet: the first server makes it)"
    for what, value in known.items():
        if value is not None:
            click.echo(f"{what.replace('_', ' ')}: {printable(str(value))}")
