"""`npipe samba`: what Samba has to be told, and one of one's own."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import contextlib
import dataclasses
import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from npipe.cli.common import examples
from npipe.cli.serve import signals
from npipe.cli.statuses import CANNOT, FAILED, statuses
from npipe.samba import PrivateSmbd
from npipe.samba.found import find_samba, lines_for

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["samba"]


_SAMBA = examples(r"""Examples:
  npipe samba config                       what a Samba that is there has to be told
  npipe samba adduser --dir ~/smbd anna    or one of your own: its users,
  npipe samba serve --dir ~/smbd           and the server
""")
_CONFIG = examples(r"""Examples:
  npipe samba config >> /etc/samba/smb.conf
  npipe samba config --dir /srv/pipes --json | jq -r .samba_dir
""")
_SERVE = examples(r"""Examples:
  npipe samba serve --dir ~/smbd                       for clients of this machine
  npipe samba serve --dir ~/smbd --port 4455 --interface 192.168.1.0/24 --require-encryption
  NPIPE_SAMBA_DIR=~/smbd/pipes npipe export service --allow anna
""")
_ADDUSER = examples(r"""Examples:
  npipe samba adduser --dir ~/smbd anna
  npipe samba adduser --dir ~/smbd carol --local-user games < password.txt
""")
_NO_SAMBA = "Samba is not installed, or cannot do it"
_STATUSES = statuses(saying={CANNOT: _NO_SAMBA})


@click.group(epilog=f"{_SAMBA}\n{_STATUSES}")
def samba() -> None:
    """Let Samba serve pipes to other machines."""


@samba.command(epilog=f"{_CONFIG}\n{_STATUSES}")
@click.option(
    "--dir",
    "samba_dir",
    metavar="DIR",
    default="/run/npipe-samba",
    show_default=True,
    help="Where smbd is to look for pipes.",
)
@click.option("--configuration", metavar="FILE", help="Another smb.conf than Samba's usual one.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as a JSON object.")
def config(samba_dir: str, configuration: str | None, as_json: bool) -> None:
    """Print the lines for smb.conf, and say what there is.

    The lines are on standard output; what was found is on standard error. With them smbd looks for all pipes in DIR/np;
    whoever exports one has to be able to write there.
    """
    found = find_samba(configuration)
    lines = lines_for(str(Path(samba_dir).absolute()))
    if as_json:
        told = dataclasses.asdict(found) | {"samba_dir": found.samba_dir, "lines": lines.splitlines()}
        click.echo(json.dumps(told, indent=2))
        return
    alone = "" if found.socket_dir else ", its ncalrpc dir, to which root alone may write"
    click.echo(f"npipe: {found.smbd}, Samba {found.version}", err=True)
    click.echo(f"npipe: it looks for pipes in {found.samba_dir}/np{alone}", err=True)
    click.echo(f"npipe: server smb encrypt = {found.encrypt}, map to guest = {found.guests}", err=True)
    click.echo(lines)


_folder = click.option("--dir", "folder", metavar="DIR", required=True, help="Where all of it is; a short path.")


@contextlib.contextmanager
def _interrupted() -> Iterator[list[int]]:
    """Have Ctrl-C and SIGTERM end what is in the context, which gives the list of them."""
    came: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_SERVE_STATUSES = statuses(
    saying={
        0: "it was ended by Ctrl-C or SIGTERM",
        FAILED: "smbd does not begin, or has ended; its log is in DIR/log",
        CANNOT: _NO_SAMBA,
    }
)


@samba.command(epilog=f"{_SERVE}\n{_SERVE_STATUSES}")
@_folder
@click.option(
    "--port", type=click.IntRange(1, 65535), default=4450, show_default=True, help="Below 1024 for root only."
)
@click.option(
    "--interface",
    "interfaces",
    multiple=True,
    metavar="NET",
    help="A network to listen in, such as 192.168.1.0/24; may be given again.  [default: this machine alone]",
)
@click.option("--require-encryption", is_flag=True, help="Refuse clients that do not encrypt.")
@click.option("--guests", is_flag=True, help="Take clients with a name that is not known for guests.")
def serve(folder: str, port: int, interfaces: tuple[str, ...], require_encryption: bool, guests: bool) -> None:
    """Run a private smbd until Ctrl-C or SIGTERM. It shares pipes alone, and needs no root.

    Its users are those of `npipe samba adduser`. Programs export pipes to it with --samba-dir DIR/pipes, or
    NPIPE_SAMBA_DIR=DIR/pipes. When it answers, standard error has a line that says so.
    """
    smbd = PrivateSmbd(
        folder,
        port=port,
        interfaces=interfaces or ("127.0.0.1/8",),
        encrypt="required" if require_encryption else "default",
        guests=guests,
    )
    with smbd, signals(signal.SIGINT, signal.SIGTERM) as wait_for_signal:
        with _interrupted() as interrupted:
            smbd.start()
        if interrupted:
            return
        click.echo(f"npipe: smbd answers at port {port}; it looks for pipes in {smbd.samba_dir}/np", err=True)
        ended: list[int] = []
        ending = threading.Event()

        def watch() -> None:
            status = smbd.wait()
            if status is not None and not ending.is_set():
                ended.append(status)
                os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, name="npipe-smbd", daemon=True).start()
        wait_for_signal()
        ending.set()
        if ended:
            raise click.ClickException(f"smbd has ended with status {ended[0]}; its log is in {smbd.folder / 'log'}")


@samba.command(epilog=f"{_ADDUSER}\n{_STATUSES}")
@_folder
@click.argument("name")
@click.option("--local-user", metavar="USER", help="The user of this system that it is.  [default: NAME]")
def adduser(folder: str, name: str, local_user: str | None) -> None:
    """Let the user NAME log in to the private smbd of DIR, or change its password.

    The password is asked for, or is the first line of standard input.
    """
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    PrivateSmbd(folder).add_user(name, password, local_user=local_user)
