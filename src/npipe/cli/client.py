"""`npipe client`: the program of Microsoft's article "Named Pipe Client", step for step and in its words."""

from __future__ import annotations

import codecs
import contextlib
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

    if sys.platform == "win32":
        from npipe.transports.native import ClientHandle as _Handle
    else:
        from npipe.binding import Handle as _Handle

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
def client(name: str, message: str, encoding: str, wait_seconds: float) -> None:
    r"""Send MESSAGE to the pipe NAME and print the reply.

    This is the program of Microsoft's article "Named Pipe Client", and prints what that prints: it opens NAME
    (\\.\pipe\mynamedpipe if not given) for reading and writing, waits up to 20 seconds when all instances are busy,
    switches to message-read mode, writes MESSAGE, and prints the reply in pieces of 512 bytes. On a terminal it then
    waits for ENTER before it closes the pipe.

    What fails is printed in the article's words, with the Win32 code as GLE; a line on standard error explains it, and
    the exit status is 1.
    """
    data = encode_text(message, encoding, "MESSAGE")
    handle = _open(name, wait_seconds)
    try:
        with _step("SetNamedPipeHandleState failed."):
            handle.set_state(PIPE_READMODE_MESSAGE)
        click.echo(f'Sending {len(data)} byte message: "{message}"')
        with _step("WriteFile to pipe failed."):
            handle.write_file(data)
        click.echo("\nMessage sent to server, receiving reply as follows:")
        _print_reply(handle, encoding)
        click.echo("\n<End of message, press ENTER to terminate connection and exit>", nl=False)
        if not _wait_for_enter():
            click.echo()
    finally:
        handle.close_handle()


@contextlib.contextmanager
def _step(words: str) -> Iterator[None]:
    """Print the article's words for a step that fails, with the error's code."""
    try:
        yield
    except PipeError as error:
        click.echo(f"{words} GLE={error.winerror}")
        raise


def _open(name: str, wait_seconds: float) -> _Handle:
    """CreateFile, and WaitNamedPipe as often as it finds all instances busy."""
    with _step("Could not open pipe."):
        parsed = parse_name(name)
        select(parsed)  # refuses other machines' pipes
    # Not above, for --help works without the engine.
    if sys.platform == "win32":
        from npipe.transports.native import TRANSPORT
    else:
        from npipe.transports.local import TRANSPORT

    while True:
        try:
            return TRANSPORT.open(parsed, access=ACCESS_READ | ACCESS_WRITE)
        except PipeBusyError:
            pass
        except PipeError as error:
            click.echo(f"Could not open pipe. GLE={error.winerror}")
            raise
        try:
            TRANSPORT.wait(parsed, check_timeout(wait_seconds))
        except PipeError:  # the article says so of every failure; the line on standard error tells which it was
            click.echo(f"Could not open pipe: {wait_seconds:g} second wait timed out.")
            raise


def _print_reply(handle: _Handle, encoding: str) -> None:
    """Read one message in pieces, and print each in quotes on a line of its own."""
    # Incremental, for a character may lie across two pieces.
    decoder = codecs.getincrementaldecoder(encoding)(errors="backslashreplace")
    more = True
    while more:
        with _step("ReadFile from pipe failed."):
            code, piece = handle.read_file(_PIECE)
        more = code == WinError.MORE_DATA
        text = decoder.decode(piece, final=not more)
        click.echo(f'"{text if more else text.removesuffix(chr(0))}"')


def _wait_for_enter() -> bool:
    """Wait for ENTER if there is a terminal to press it on. Whether that has ended the printed line."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    line = sys.stdin.readline()  # empty after Ctrl-D, which will do too
    return line.endswith("\n") and sys.stdout.isatty()
