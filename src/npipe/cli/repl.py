"""`npipe repl`: to try a service by hand."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import click

import npipe
from npipe._text import printable
from npipe.cli.closed_output import nobody_reads
from npipe.cli.interrupts import hears_interrupts
from npipe.cli.messages import Output, message_of, shown
from npipe.cli.statuses import STATUSES, WRONG_USE, Failure, by_kind, status_of
from npipe.cli.talk import client_options, connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.pipe import MessagePipe

__all__ = ["repl"]

_HISTORY: Final = 1000  # lines that are kept
_HELP: Final = """\
TEXT            send it, and show the answer
.hex DE AD      send bytes
.base64 TEXT    send bytes
.json TEXT      send the JSON string's text
.file PATH      send what the file has
.send TEXT      send without waiting for an answer
.recv           wait for a message
.show text|hex  how answers are shown
.timeout SECS   how long answers are waited for
.info           the pipe, and who serves it
.help  .quit    (or Ctrl-D)
..TEXT          send a text that begins with a dot"""

_DOC = f"""Try the message pipe NAME by hand: each line is sent, and the answer is shown.

.help tells of lines that do other things: bytes in hex, files, waiting without sending. Lines are kept in a history
(the arrow keys; where Python has readline), in $XDG_STATE_HOME/npipe/history. If the server closes the connection, the
next line opens another. Without a terminal it reads its lines from standard input, without a prompt,
and its exit status is the last line's.

\b
Examples:
  npipe repl service
  npipe repl mynamedpipe --encoding utf-16-le --nul
  printf 'one\\ntwo\\n' | npipe repl service

{STATUSES}
"""


@click.command(help=_DOC, short_help="Try the message pipe NAME by hand, line by line.")
@click.argument("name")
@click.option("--encoding", default="utf-8", show_default=True, metavar="CODEC", help="What text is sent as.")
@click.option("--nul", is_flag=True, help="A NUL behind each text.")
@client_options
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='Print each answer as a line of JSON: {"size":, "text": or "base64":, "seconds":}, and of a line that fails '
    '{"error":, "code":}.',
)
@hears_interrupts
def repl(name: str, *, encoding: str, nul: bool, timeout: float, poll: bool, any_owner: bool, as_json: bool) -> None:
    """Try the message pipe NAME by hand."""
    if isinstance(sys.stdin, io.TextIOWrapper):  # what is no text goes out as the same bytes, as of arguments
        sys.stdin.reconfigure(errors="surrogateescape")
    talk = _Talk(name, encoding, nul=nul, timeout=timeout, poll=poll, any_owner=any_owner)
    talk.json = Output("json", encoding) if as_json else None
    with by_kind(), talk, _history():
        talk.open()
        if sys.stdin.isatty():
            click.echo(f"{printable(talk.where)}; .help tells what there is", err=True)
        while (line := _line()) is not None:
            if line == ".quit":
                break
            talk.take(line)
        if talk.failed is not None and not sys.stdin.isatty():  # it was told
            raise click.exceptions.Exit(_status(talk.failed))


def _status(error: Exception) -> int:
    return error.exit_code if isinstance(error, click.ClickException) else status_of(error)


def _content(path: str) -> bytes:
    """Return what a file has; OSError, or Failure where that is no path."""
    try:
        return Path(path).expanduser().read_bytes()
    except (RuntimeError, ValueError) as error:  # a user who is not there, a NUL
        raise Failure(f"{path!r} is no path of a file: {error}", WRONG_USE) from error


def _line() -> str | None:
    """Return the next line; None at the end, or after Ctrl-D."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        if sys.stdin.isatty():
            click.echo()
        return None


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Keep the lines of a terminal in a file that only this user reads."""
    if sys.platform == "win32" or not sys.stdin.isatty():  # Windows' own console has a history
        yield
        return
    try:
        import readline
    except ImportError:  # a Python without it
        yield
        return
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "npipe"
    path = folder / "history"
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            readline.write_history_file(path)


class _Talk:
    """The connection, and what each line does with it."""

    def __init__(self, name: str, encoding: str, *, nul: bool, timeout: float, poll: bool, any_owner: bool) -> None:
        self._name, self._encoding, self._nul = name, encoding, nul
        self._timeout, self._poll, self._any_owner = timeout, poll, any_owner
        self._pipe: MessagePipe | None = None
        self._hex = False
        self.failed: Exception | None = None
        """What has gone wrong with the last line."""
        self.json: Output | None = None
        """Where answers are printed as JSON."""

    @property
    def where(self) -> str:
        """The pipe's full name."""
        return self._name if self._pipe is None else self._pipe.name

    def open(self) -> MessagePipe:
        """Return the connection; open one if there is none."""
        if self._pipe is None:
            self._pipe = connected(self._name, self._timeout, poll=self._poll, any_owner=self._any_owner)
        assert self._pipe is not None  # noqa: S101 - just opened
        return self._pipe

    def take(self, line: str) -> None:
        """Do what a line says; what goes wrong is told, and the next line may do better."""
        self.failed = None
        try:
            self._do(line)
        except (Failure, click.BadParameter) as error:
            self._complain(error.message, error)
        except npipe.PipeTimeoutError as error:
            self._complain("no answer in time; .recv waits on", error)
        except npipe.PipeClosedError as error:
            self._drop()
            self._complain(f"{error}; the next line opens another connection", error)
        except (npipe.PipeError, OSError) as error:
            self._complain(str(error), error)

    def _complain(self, text: str, error: Exception) -> None:
        if nobody_reads(error):
            raise click.exceptions.Exit(0) from error
        self.failed = error
        if self.json is not None:
            code = error.winerror if isinstance(error, npipe.PipeError) else None
            self.json.write(json.dumps({"error": text, "code": code}).encode() + b"\n")
        click.echo(f"npipe: {printable(text)}", err=True)

    def _do(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if not line:
            self._pending()
        elif line.startswith(".."):
            self._ask(message_of(line[1:], "raw", self._encoding, nul=self._nul))
        elif word in (".hex", ".base64", ".json"):
            self._ask(message_of(rest, word[1:], self._encoding, nul=self._nul))
        elif word == ".file":
            self._ask(_content(rest))
        elif word == ".send":
            self.open().send(message_of(rest, "raw", self._encoding, nul=self._nul), timeout=self._seconds)
        elif word == ".recv":
            self._show(self.open().recv(timeout=self._seconds))
        elif word == ".show":
            if rest not in ("text", "hex"):
                raise Failure(f".show takes text or hex, not {rest!r}", 2)
            self._hex = rest == "hex"
        elif word == ".timeout":
            self._set_timeout(rest)
        elif word == ".info":
            self._info()
        elif word == ".help":
            click.echo(_HELP)
        elif line.startswith("."):
            raise Failure(f"{word} is not known; .help tells what there is", 2)
        else:
            self._ask(message_of(line, "raw", self._encoding, nul=self._nul))

    @property
    def _seconds(self) -> float | None:
        return None if self._timeout == float("inf") else self._timeout

    def _set_timeout(self, text: str) -> None:
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not seconds >= 0:
            raise Failure(f"{text!r} is no number of seconds", 2)
        self._timeout = seconds

    def _pending(self) -> None:
        """Show what has come without being asked for."""
        pipe = self.open()
        while True:
            there = pipe.peek().available > 0
            try:
                message = pipe.recv(timeout=self._seconds if there else 0)
            except npipe.PipeTimeoutError:
                if there:
                    raise
                return
            self._show(message, late=True)  # which may be empty: no look tells that from none

    def _ask(self, message: bytes) -> None:
        self._pending()  # an answer that came late is not this one's
        began = time.perf_counter()
        pipe = self.open()
        pipe.send(message, timeout=self._seconds)
        self._show(pipe.recv(timeout=self._seconds), seconds=time.perf_counter() - began)

    def _show(self, message: bytes, *, late: bool = False, seconds: float | None = None) -> None:
        if self.json is not None:
            more = {} if seconds is None else {"seconds": round(seconds, 6)}
            self.json.put(message, **more)
            return
        text = message.hex(" ") if self._hex else shown(message, self._encoding)
        if sys.stdout.isatty():
            note = "late, " if late else ""
            took = "" if seconds is None else f", {seconds * 1000:.2f} ms"
            click.secho(f"({note}{len(message)} bytes{took})", dim=not os.environ.get("NO_COLOR"), err=True)
        click.echo(text)

    def _info(self) -> None:
        pipe = self.open()
        info, peer = pipe.info, pipe.peer
        click.echo(f"{printable(pipe.name)}: {info.type}, {info.direction}")
        click.echo(f"served by process {peer.pid} of {printable(str(peer.user or peer.uid))}")

    def _drop(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()
