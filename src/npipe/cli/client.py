"""`npipe client`: the program of Microsoft's article "Named Pipe Client", step for step and in its words."""

from __future__ import annotations

import json
import sys

import click

from npipe.cli.article import DEFAULT_MESSAGE, DEFAULT_NAME, ArticleClient
from npipe.cli.common import check_seconds, encode_text, encoding_option, examples
from npipe.cli.statuses import CANNOT, DENIED, LOST, NOT_THERE, TIME_OVER, statuses

__all__ = ["client"]


_EXAMPLES = examples(r"""Examples:
  npipe client                                          to `npipe serve`, or the article's server
  npipe client service 'hello' --encoding utf-8
  npipe client '\\fileserver\pipe\service' 'hello'       of another machine, through Samba
  npipe client service --json | jq -r 'select(.event == "reply").text'
""")
_STATUSES = statuses(NOT_THERE, TIME_OVER, DENIED, LOST, CANNOT)


@click.command(epilog=f"{_EXAMPLES}\n{_STATUSES}")
@click.argument("name", default=DEFAULT_NAME)
@click.argument("message", default=DEFAULT_MESSAGE)
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
    kind = _Json if as_json else ArticleClient
    handle = kind(name, click.echo, encoding=encoding).talk(message, data, wait_seconds)
    try:
        if as_json:
            return
        click.echo("<End of message, press ENTER to terminate connection and exit>", nl=False)
        if not _wait_for_enter():
            click.echo()
    finally:
        handle.close_handle()


class _Json(ArticleClient):
    """The same for programs: a line of JSON each."""

    def _tell(self, event: str, **more: object) -> None:
        click.echo(json.dumps({"event": event, **more}))

    def sending(self, message: str, size: int) -> None:
        self._tell("sending", size=size, text=message)

    def sent(self) -> None:
        """Nothing: what comes next says so."""

    def reply(self, text: str) -> None:
        self._tell("reply", text=text)

    def replied(self) -> None:
        self._tell("end")

    def failed(self, words: str, code: int) -> None:
        self._tell("failed", what=words, code=code)

    def wait_failed(self, words: str, code: int) -> None:
        self.failed(words, code)


def _wait_for_enter() -> bool:
    """Wait for ENTER if there is a terminal to press it on. Whether that has ended the printed line."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    line = sys.stdin.readline()  # empty after Ctrl-D, which will do too
    return line.endswith("\n") and sys.stdout.isatty()
