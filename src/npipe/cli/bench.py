"""`npipe bench`: how fast pipes are on this machine, beside what else there is."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

import npipe
from npipe._text import printable
from npipe.cli.common import NumberRange, examples, system_name
from npipe.cli.measuring.messages import SMALLEST
from npipe.cli.statuses import FAILED, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["bench"]

_LARGEST = 2**20
_sizes = click.IntRange(SMALLEST, _LARGEST)


def _check_number(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which lies in every range
        raise click.BadParameter("nan is no number of seconds.")
    return value


_EXAMPLES = examples(r"""Examples:
  npipe bench
  npipe bench --seconds 30 --aio --svg bench.svg
  npipe bench --json | jq '.measured[0].latency_ns'
""")


_STATUSES = statuses(saying={FAILED: "an answer is another one than was sent, or another failure"})


@click.command(
    epilog=f"{_EXAMPLES}\n{_STATUSES}", short_help="Measure pipes on this machine, beside what else there is."
)
@click.option(
    "--seconds",
    type=NumberRange(0.1, 3600),
    callback=_check_number,
    default=5.0,
    show_default=True,
    help="How long to measure, all contestants together. The rare slow ones want more: p99.99 is one in 10,000.",
)
@click.option("--size", type=_sizes, default=64, show_default=True, metavar="BYTES", help="A message there and back.")
@click.option("--bulk", type=_sizes, default=65536, show_default=True, metavar="BYTES", help="A message one way.")
@click.option("--aio", is_flag=True, help="Measure event loops too: npipe.aio beside asyncio's streams.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; what is not known is null.")
@click.option("--svg", metavar="FILE", help="Draw it into this file too, for light and dark pages.")
def bench(seconds: float, size: int, bulk: int, aio: bool, as_json: bool, svg: str | None) -> None:
    r"""Measure pipes on this machine, beside multiprocessing.connection and a Unix socket.

    A process of its own answers each contestant. All take turns, each some tenths of a second, so that whatever else
    the machine does hits all alike. Two things are measured: how long a message takes there and back, and how many
    bytes a second go one way. Every message is another one, and is compared; what differs ends the measurement, with
    the exit status 1.

    On a terminal it is drawn; else there are lines of fields between tabs, the times in nanoseconds.
    """
    # Here, for asyncio and multiprocessing take a while to import, for which no other command should wait.
    from npipe.cli.measuring.contest import Contest, ContestError, Settings
    from npipe.cli.measuring.drawing import print_drawing, tabbed
    from npipe.cli.measuring.svg import drawn

    settings = Settings(seconds=seconds, size=size, bulk=bulk, aio=aio)
    with _written_at_the_end(svg) as write, _progress() as progress:
        try:
            with Contest(settings) as contest:
                measured = contest.run(progress)
        except ContestError as error:
            raise click.ClickException(str(error)) from error
        progress(None)
        write(drawn(measured, size, bulk, _machine()))
        if as_json:
            known = {
                "version": npipe.__version__,
                "python": platform.python_version(),
                "system": system_name(),
                "processors": _processors(),
                "seconds": seconds,
                "size": size,
                "bulk": bulk,
                "measured": [each.as_json() for each in measured],
                "left_out": contest.left_out,
            }
            click.echo(json.dumps(known, indent=2))
        elif sys.stdout.isatty():
            print_drawing(measured, size, bulk)
        else:
            for line in tabbed(measured):
                click.echo(line)
        if not as_json:
            for name, why in contest.left_out.items():
                click.echo(f"npipe: without {name}: {printable(why)}", err=True)


@contextlib.contextmanager
def _written_at_the_end(file: str | None) -> Iterator[Callable[[str], None]]:
    """Give a function that writes `file`. It is made at once, under another name: who may not write is told so now."""
    if file is None:
        yield lambda _: None
        return
    path = Path(file)
    if path.exists() and not path.is_file():  # a device, a pipe: nothing to put in its place
        yield lambda text: _write(path, text)
        return
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(number)
    draft = Path(name)

    def write(text: str) -> None:
        try:
            _write(draft, text)
        except OSError as error:  # a full disk has no name of its own
            raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error

    try:
        yield write
        draft.chmod(0o666 & ~_umask())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[float | None], None]]:
    """Give a function that shows how far it is, on a terminal. It is drawn between the turns, and by no thread."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    shown = -1

    def show(share: float | None) -> None:
        nonlocal shown
        percent = -1 if share is None else int(share * 100)
        if percent != shown:
            text = "" if share is None else f"measuring: {percent} %"
            sys.stderr.write(f"\r{text:<20}\r")
            sys.stderr.flush()
            shown = percent

    try:
        yield show
    finally:
        show(None)


def _processors() -> int:
    if sys.platform == "win32":
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))


def _machine() -> str:
    return f"npipe {npipe.__version__}, Python {platform.python_version()}, {_processors()} processors, " + (
        system_name(terse=True)
    )
