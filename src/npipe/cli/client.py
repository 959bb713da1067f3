"""`npipe client`: the program of Microsoft's article "Named Pipe Client", step for step and in its words."""

from __future__ import annotations

import codecs
import contextlib
import json
import sys
from typing import TYPE_CHECKING

import click

from npipe.cli.common import DEFAULT_NAME, check_seconds, encode_text, encoding_option
from npipe.errors import PipeBusyError, PipeError, WinError
from npipe.names import parse_name
from npipe.options import ACCESS_READ, ACCESS_WRITE, PIPE_READMODE_MESSAGE, check_timeout
from npipe.transports import select

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.transports import ClientHandle

__all__ = ["client"]

_PIECE = 512  # bytes of the reply that one ReadFile asks for


@click.command()
@click.argument("name", default=DEFAULT_NAME)
@click.argument("message", default="Default message from client.")
@encoding_option
@click.option(
    "--wait-seconds",
    type=float,
    callback=check_seconds,
    default=20,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an instance, each time that all are busy.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='Print the same as lines of JSON, {"event": "sending" | "reply" | "failed" | "end", ...}; no ENTER is waited '
    "for.",
)
def client(name: str, message: str, encoding: str, wait_seconds: float, as_json: bool) -> None:
    r"""Send MESSAGE to the pipe NAME and print the reply.

    This is the program of Microsoft's article "Named Pipe Client", and prints what that prints: it opens NAME
    (\\.\pipe\mynamedpipe if not given) for reading and writing, waits up to 20 seconds when all instances are busy,
    switches to message-read mode, writes MESSAGE, and prints the reply in pieces of 512 bytes. On a terminal it then
    waits for ENTER before it closes the pipe.

    What fails is printed in the article's words, with the Win32 code as GLE; a line on standard error explains it, and
    the exit status tells its kind.
    """
    data = encode_text(message, encoding, "MESSAGE")
    say = _Json() if as_json else _Article()
    handle = _open(say, name, wait_seconds)
    try:
        with _step(say, "SetNamedPipeHandleState failed."):
            handle.set_state(PIPE_READMODE_MESSAGE)
        say.sending(message, len(data))
        with _step(say, "WriteFile to pipe failed."):
            handle.write_file(data)
        say.sent()
        _print_reply(say, handle, encoding)
        say.end()
    finally:
        handle.close_handle()


class _Article:
    """What is printed, in the article's words."""

    has_codes = False
    """Whether a wait that fails is told with its code, too."""

    def sending(self, message: str, size: int) -> None:
        click.echo(f'Sending {size} byte message: "{message}"')

    def sent(self) -> None:
        click.echo("\nMessage sent to server, receiving reply as follows:")

    def reply(self, text: str) -> None:
        click.echo(f'"{text}"')

    def end(self) -> None:
        click.echo("\n<End of message, press ENTER to terminate connection and exit>", nl=False)
        if not _wait_for_enter():
            click.echo()

    def failed(self, words: str, code: int | None) -> None:
        click.echo(words if code is None else f"{words} GLE={code}")


class _Json(_Article):
    """The same for programs: a line of JSON each."""

    has_codes = True

    def _tell(self, event: str, **more: object) -> None:
        click.echo(json.dumps({"event": event, **more}))

    def sending(self, message: str, size: int) -> None:
        self._tell("sending", size=size, text=message)

    def sent(self) -> None:
        """Nothing: what comes next says so."""

    def reply(self, text: str) -> None:
        self._tell("reply", text=text)

    def end(self) -> None:
        self._tell("end")

    def failed(self, words: str, code: int | None) -> None:
        self._tell("failed", what=words, code=code)


@contextlib.contextmanager
def _step(say: _Article, words: str) -> Iterator[None]:
    """Print the article's words for a step that fails, with the error's code."""
    try:
        yield
    except PipeError as error:
        say.failed(words, error.winerror)
        raise


def _open(say: _Article, name: str, wait_seconds: float) -> ClientHandle:
    """CreateFile, and WaitNamedPipe as often as it finds all instances busy."""
    with _step(say, "Could not open pipe."):
        parsed = parse_name(name)
        transport = select(parsed)
    while True:
        try:
            return transport.open(parsed, access=ACCESS_READ | ACCESS_WRITE)
        except PipeBusyError:
            pass
        except PipeError as error:
            say.failed("Could not open pipe.", error.winerror)
            raise
        try:
            transport.wait(parsed, check_timeout(wait_seconds))
        except PipeError as error:  # the article says so of every failure; standard error tells which it was
            say.failed(
                f"Could not open pipe: {wait_seconds:g} second wait timed out.",
                error.winerror if say.has_codes else None,
            )
            raise


def _print_reply(say: _Article, handle: ClientHandle, encoding: str) -> None:
    """Read one message in pieces, and print each in quotes on a line of its own."""
    # Incremental, for a character may lie across two pieces.
    decoder = codecs.getincrementaldecoder(encoding)(errors="backslashreplace")
    more = True
    while more:
        with _step(say, "ReadFile from pipe failed."):
            code, piece = handle.read_file(_PIECE)
        more = code == WinError.MORE_DATA
        text = decoder.decode(piece, final=not more)
        say.reply(text if more else text.removesuffix(chr(0)))


def _wait_for_enter() -> bool:
    """Wait for ENTER if there is a terminal to press it on. Whether that has ended the printed line."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    line = sys.stdin.readline()  # empty after Ctrl-D, which will do too
    return line.endswith("\n") and sys.stdout.isatty()
