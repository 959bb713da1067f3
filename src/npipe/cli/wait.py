"""`npipe wait`: WaitNamedPipe for scripts."""

from __future__ import annotations

import json
import sys
import time

import click

import npipe
from npipe.cli.common import check_seconds, examples
from npipe.cli.interrupts import hears_interrupts
from npipe.cli.statuses import CANNOT, DENIED, NOT_THERE, TIME_OVER, statuses
from npipe.names import parse_name

__all__ = ["wait"]

_EXAMPLES = examples(r"""Examples:
  npipe wait service --timeout 5 && npipe call service hello
  npipe wait service --create           also for a server that is not there yet
  npipe wait service --json             {"name": ..., "seconds": ..., "code": 0}
""")


_STATUSES = statuses(
    DENIED,
    CANNOT,
    saying={0: "an instance listens", NOT_THERE: "there is no such pipe", TIME_OVER: "the time is over"},
)


@click.command(epilog=f"{_EXAMPLES}\n{_STATUSES}")
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
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: name, seconds waited, and code (0: it is).")
@hears_interrupts
def wait(name: str, timeout: float | None, create: bool, as_json: bool) -> None:
    """Wait until an instance of the pipe NAME listens.

    If none does, standard error has the Win32 code: 121 when the time is over, 2 when there is no such pipe, which is
    known at once (and no error with --create). Nothing is reserved: another client may come first.
    """
    path, began, code = parse_name(name).path, time.monotonic(), 0
    try:
        npipe.wait(name, timeout="default" if timeout is None else timeout, create=create)
    except npipe.PipeError as error:
        code = error.winerror
        raise
    finally:
        if as_json and not isinstance(sys.exc_info()[1], KeyboardInterrupt):
            click.echo(json.dumps({"name": path, "seconds": round(time.monotonic() - began, 6), "code": code}))
