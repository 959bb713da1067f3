"""What several commands share: text as the article's programs send it, times."""

from __future__ import annotations

import codecs
import contextlib
import json
import math
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

import npipe
from npipe._text import printable
from npipe.cli.article import WIDE
from npipe.cli.closed_output import end_command, nobody_reads
from npipe.errors import PipeArgumentError
from npipe.options import check_timeout, parse_security

if TYPE_CHECKING:
    from npipe.options import Security

__all__ = [
    "Events",
    "NumberRange",
    "check_seconds",
    "check_security",
    "decided_by",
    "encode_text",
    "encoding_option",
    "examples",
    "interval_option",
    "network_options",
    "quiet_when_nobody_reads",
    "system_name",
    "whereabouts",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _check_encoding(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Accept a codec that turns text into bytes and, piece by piece, back."""
    try:
        "\0".encode(value)
        codecs.getincrementaldecoder(value)
    except (LookupError, ValueError) as error:  # ValueError: a codec that refuses everything, such as "undefined"
        raise click.BadParameter(f"{value!r} is no encoding of text.") from error
    return value


encoding_option: Final = click.option(
    "--encoding",
    callback=_check_encoding,
    default=WIDE,
    show_default=True,
    metavar="CODEC",
    help="How text becomes bytes; a final NUL is part of the message.",
)
"""`--encoding CODEC`, the same for the client and the server."""


class NumberRange(click.FloatRange):
    """Numbers in a range; "nan", which click takes for one in any range, is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType.convert."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def interval_option(meaning: str) -> Callable[[_Command], _Command]:
    """Return `--interval SECONDS`, of what looks again and again."""
    return click.option(
        "--interval",
        type=NumberRange(0.05, 86400),
        default=1.0,
        show_default=True,
        metavar="SECONDS",
        help=meaning,
    )


def network_options(command: _Command) -> _Command:
    """Add `--allow WHO...`, `--require-encryption` and `--samba-dir DIR`: which clients of other machines come in."""
    for option in (
        click.option(
            "--samba-dir",
            metavar="DIR",
            help="Where smbd looks for pipes: its external_rpc_pipe:socket_dir or ncalrpc dir.  "
            "[default: $NPIPE_SAMBA_DIR, or /run/samba/ncalrpc]",
        ),
        click.option("--require-encryption", is_flag=True, help="Let in only whose connection is encrypted."),
        click.option(
            "--allow",
            multiple=True,
            metavar="WHO",
            help="Let this client of other machines in, through Samba (may be given again): a user of this system, "
            r"DOMAIN\USER, group:NAME, a SID, authenticated, guests, anonymous.",
        ),
    ):
        command = option(command)
    return command


def encode_text(text: str, encoding: str, what: str) -> bytes:
    """Return `text` and its final NUL in bytes; `what` is the parameter that the usage error (2) names."""
    try:
        return (text + "\0").encode(encoding)
    except ValueError as error:
        raise click.BadParameter(f"{encoding} cannot write it: {error}.", param_hint=what) from error


def check_security(_ctx: click.Context, _param: click.Parameter, value: str) -> Security:
    """Accept who may connect, as listen's `security` takes it."""
    try:
        return parse_security(value)
    except PipeArgumentError as error:
        raise click.BadParameter(f"{error.detail}.") from error


def check_seconds(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    """Accept 0 or more seconds, infinity too, or None; the callback of options that are times."""
    try:
        check_timeout(value)
    except PipeArgumentError as error:
        raise click.BadParameter(f"{error.detail}.") from error
    return value


def examples(text: str) -> str:
    """Return lines of examples as a command's epilog, which click leaves as they are."""
    return f"\b\n{text}"


@contextlib.contextmanager
def quiet_when_nobody_reads() -> Iterator[None]:
    """End without a word where who read standard output has seen enough: `npipe ls --watch | head`."""
    try:
        yield
    except BrokenPipeError as error:
        if not nobody_reads(error):
            raise


def system_name(*, terse: bool = False) -> str:
    """Return the system's name and version.

    Not by `platform` on Windows: that asks through COM, for which Wine starts processes that keep this one's standard
    output, and whoever reads it waits for its end until they have ended too.
    """
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        return f"Windows-{version.major}" if terse else f"Windows-{version.major}.{version.minor}.{version.build}"
    return platform.platform(terse=terse)


class Events:
    """What a command that runs on prints with --json: a line of JSON for each event, as soon as it is known.

    The command ends when nobody reads them any more.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()  # connections have threads of their own

    def tell(self, event: str, **more: object) -> None:
        """Print an event and what belongs to it; `time` is seconds since 1970."""
        if self._wanted:
            line = json.dumps({"event": event, "time": round(time.time(), 6), **more})
            with self._lock:
                try:
                    click.echo(line)
                except OSError as error:
                    if threading.current_thread() is threading.main_thread() or not nobody_reads(error):
                        raise
                    end_command()


def whereabouts() -> str:
    """Return where pipes are, as the end of a sentence."""
    folder = npipe.root()
    return "on this machine" if folder is None else f"below {printable(folder)}"


def decided_by(root: str | None) -> str | None:
    """Return which rule of npipe.root has given the root."""
    if root is None:
        return None
    if os.environ.get("NPIPE_ROOT"):
        return "NPIPE_ROOT"
    if root == "/run/npipe":
        return "/run/npipe is there"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return "XDG_RUNTIME_DIR" if runtime and root == str(Path(runtime) / "npipe") else "the folder for temporary files"
