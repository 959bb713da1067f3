"""The commands together, and what is the same for all: one line for each error, and the exit status."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from typing import TYPE_CHECKING, Any, Final

import click

import npipe
from npipe._text import printable
from npipe.cli.closed_output import nobody_reads
from npipe.cli.info import print_version
from npipe.cli.statuses import FAILED, INTERRUPTED, WRONG_USE, Failure, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["run"]

_PLACES: Final = {
    "bench": "bench:bench",
    "call": "talk:call",
    "cat": "talk:cat",
    "client": "client:client",
    "completion": "completion:completion",
    "demo": "demo:demo",
    "doctor": "doctor:doctor",
    "export": "export:export",
    "info": "info:info",
    "listen": "talk:listen",
    "ls": "ls:ls",
    "metrics": "metrics:metrics",
    "relay": "relay:relay",
    "repl": "repl:repl",
    "replay": "replay:replay",
    "run": "run:run_script",
    **({"samba": "samba:samba"} if sys.platform != "win32" else {}),
    "send": "talk:send",
    "serve": "serve:serve",
    "top": "top:top",
    "trace": "trace:trace",
    "wait": "wait:wait",
}
"""Where the commands are: a command's start does not wait for what only others import."""


@contextlib.contextmanager
def _before_click() -> Iterator[None]:
    """End well where nobody reads what is printed, and by Ctrl-C; click would end with 1, and with a blank line."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except OSError as error:
        if not nobody_reads(error):
            raise
        raise click.exceptions.Exit(0) from None


class _Commands(click.Group):
    """The commands; their pipe errors leave as click's own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _PLACES:
            return None
        module, _, attribute = _PLACES[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"npipe.cli.{module}"), attribute)
        return command

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _before_click():  # it prints helps here
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        # Caught here, before click sees them: a PipeClosedError is an EOFError, which click takes for Ctrl-D.
        try:
            with _before_click():
                return super().invoke(ctx)
        except npipe.PipeError as error:
            raise Failure(str(error), status_of(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Print the version, and where pipes are; then exit.",
)
def _commands() -> None:
    r"""Windows named pipes on this machine.

    NAME is \\.\pipe\NAME in any of its forms (quote it for the shell), or the bare NAME. Pipes are kept below the
    folder $NPIPE_ROOT if that is set (`npipe info` says where): clients and servers meet in the same one.
    """


def run(arguments: Sequence[str]) -> int:
    """Run a command line; return its exit status. An error is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # text of a peer's may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _commands.main(list(arguments) or ["--help"], prog_name="npipe", standalone_mode=False)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (click.ClickException, OSError, SystemExit) as error:
        return 0 if nobody_reads(error) else _failed(error)
    except click.Abort:  # Ctrl-C before the command had begun
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _failed(error: click.ClickException | OSError | SystemExit) -> int:
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx is not None else "npipe"
        _complain(f"{error.format_message()} See '{path} --help'.")
        return WRONG_USE
    if isinstance(error, click.ClickException):
        _complain(error.format_message())
        return error.exit_code
    if isinstance(error, OSError):  # standard output is full, or the like
        _complain(str(error))
        return FAILED
    raise error


def _complain(text: str) -> None:
    try:
        click.echo(f"npipe: {printable(text)}", err=True)
    except OSError as error:
        if not nobody_reads(error):
            raise
