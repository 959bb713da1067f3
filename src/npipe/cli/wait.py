"""`npipe wait`: WaitNamedPipe for scripts."""

from __future__ import annotations

import click

import npipe
from npipe.cli.common import check_seconds

__all__ = ["wait"]


@click.command()
@click.argument("name")
@click.option(
    "--timeout",
    type=float,
    callback=check_seconds,
    metavar="SECONDS",
    help="How long to wait; 'inf' is for ever. Without it the pipe's own default time-out counts, which its server "
    "has set (NMPWAIT_USE_DEFAULT_WAIT).",
)
@click.option(
    "--create",
    is_flag=True,
    help="Wait for a pipe that is not there yet too, within the same time; without --timeout until it is there.",
)
def wait(name: str, timeout: float | None, create: bool) -> None:
    """Wait until an instance of the pipe NAME listens.

    The exit status is 0 as soon as one does, and else 1, with the Win32 code on standard error: 121 when the time is
    over, 2 when there is no such pipe, which is known at once (and no error with --create). Nothing is reserved:
    another client may come first.
    """
    npipe.wait(name, timeout="default" if timeout is None else timeout, create=create)
