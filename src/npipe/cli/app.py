"""The commands together, and what is the same for all: one line for each error, and the exit status."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import click

import npipe
from npipe.cli.bench import bench
from npipe.cli.client import client
from npipe.cli.common import printable
from npipe.cli.completion import completion
from npipe.cli.doctor import doctor
from npipe.cli.export import export
from npipe.cli.info import info, print_version
from npipe.cli.ls import ls
from npipe.cli.metrics import metrics
from npipe.cli.relay import relay
from npipe.cli.repl import repl
from npipe.cli.replay import replay
from npipe.cli.run import run_script
from npipe.cli.serve import serve
from npipe.cli.talk import call, cat, listen, send
from npipe.cli.trace import trace
from npipe.cli.wait import wait

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]

_FAILED = 1
_WRONG_USE = 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells count


class _Commands(click.Group):
    """The commands; their pipe errors leave as click's own."""

    def invoke(self, ctx: click.Context) -> Any:
        # Caught here, before click sees them: a PipeClosedError is an EOFError, which click takes for Ctrl-D.
        try:
            return super().invoke(ctx)
        except npipe.PipeError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(_INTERRUPTED) from None


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


_TALK = (call, send, cat, listen, repl, client, serve, wait)
for _command in (*_TALK, ls, info, trace, replay, metrics, run_script, export, relay, bench, doctor, completion):
    _commands.add_command(_command)

if sys.platform != "win32":
    from npipe.cli.samba import samba

    _commands.add_command(samba)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; return its exit status. An error is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # text of a peer's may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _commands.main(list(arguments) or ["--help"], prog_name="npipe", standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "npipe"
        _complain(f"{error.format_message()} See '{path} --help'.")
        return _WRONG_USE
    except click.ClickException as error:
        _complain(error.format_message())
        return error.exit_code
    except click.Abort:  # Ctrl-C before the command had begun
        return _INTERRUPTED
    except OSError as error:  # standard output is full, or the like
        _complain(str(error))
        return _FAILED
    return status if isinstance(status, int) else 0


def _complain(text: str) -> None:
    click.echo(f"npipe: {printable(text)}", err=True)
