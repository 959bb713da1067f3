"""`npipe export`: pipes of this machine for clients of others."""

from __future__ import annotations

import contextlib
import logging
import signal
from typing import Final

import click

import npipe
from npipe.cli.common import Events, examples, network_options
from npipe.cli.serve import log_to_stderr, signals
from npipe.cli.statuses import CANNOT, DENIED, NOT_THERE, TIME_OVER, statuses

__all__ = ["export"]

logger: Final = logging.getLogger("npipe.export")


_EXAMPLES = examples(r"""Examples:
  npipe export service --allow anna                     a user of this system, from any machine
  npipe export service till --allow group:staff --require-encryption
  npipe export service --allow authenticated --samba-dir ~/smbd/pipes   `npipe samba serve`'s
""")
_STATUSES = statuses(NOT_THERE, TIME_OVER, DENIED, CANNOT, saying={0: "it was ended by Ctrl-C or SIGTERM"})


@click.command(
    epilog=f"{_EXAMPLES}\n{_STATUSES}", short_help="Let clients of other machines open pipes, through Samba."
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@network_options
@click.option(
    "--any-owner",
    is_flag=True,
    help="Export pipes of other users too, for root: whoever makes a pipe of that name first gets the clients.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a line of JSON on standard output for each event: exporting, ended. Standard error has then what goes "
    "wrong alone.",
)
def export(
    names: tuple[str, ...],
    allow: tuple[str, ...],
    require_encryption: bool,
    samba_dir: str | None,
    any_owner: bool,
    as_json: bool,
) -> None:
    """Let clients of other machines open the pipes NAME, until Ctrl-C or SIGTERM.

    They come through Samba, which is told where to look for pipes (`npipe samba config`). The pipes are of whatever
    process of this user's, and may come and go. Nobody comes in who is not named with --allow.

    When a pipe cannot be exported, standard error has the Win32 code.
    """
    if not allow:
        raise click.UsageError("Say who may come in: --allow WHO.")
    log_to_stderr(logger, logging.WARNING if as_json else logging.INFO)
    events = Events(wanted=as_json)
    with contextlib.ExitStack() as stack:
        wait_for_signal = stack.enter_context(signals(signal.SIGINT, signal.SIGTERM))
        for name in names:
            made = npipe.export(
                name,
                allow=allow,
                require_encryption=require_encryption,
                samba_dir=samba_dir,
                verify_owner=not any_owner,
            )
            stack.enter_context(made)
            logger.info("exporting %s, at %s", made.name, made.samba_dir)
            events.tell("exporting", name=made.name, samba_dir=made.samba_dir)
        number = wait_for_signal()
        logger.info("ending, by %s", number.name)
    events.tell("ended", signal=number.name)
