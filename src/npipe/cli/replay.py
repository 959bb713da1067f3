"""`npipe replay`: one side of a recorded trace, played again."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import click

from npipe._text import printable
from npipe.cli.common import NumberRange, check_seconds, examples
from npipe.cli.statuses import BAD_DATA, DIFFERS, STATUSES, Failure, by_kind
from npipe.tracing.events import TraceFileError
from npipe.tracing.files import read_trace
from npipe.tracing.replay import Replay

if TYPE_CHECKING:
    from npipe.tracing.replay import Difference

__all__ = ["replay"]

_MOST_SHOWN: Final = 20
_LINE: Final = 64  # bytes of a message in a line, and in JSON
_OBJECT: Final = 1024


_EXAMPLES = examples(r"""Examples:
  npipe replay a.pcapng               say to the server what its clients said
  npipe replay a.pcapng test --fast   the same to another one, without pauses
  npipe replay a.pcapng --as server   answer clients as the server did
  npipe replay a.pcapng --fast --json | jq '.differences[] | [.request.text, .recorded.text, .now.text]'
""")
_STATUSES = STATUSES.replace("  9    ", "  8    an answer is another one than was recorded\n  9    ")


@click.command(epilog=f"{_EXAMPLES}\n{_STATUSES}", short_help="Play a side of a trace again, and compare answers.")
@click.argument("source", metavar="FILE")
@click.argument("name", required=False)
@click.option(
    "--as",
    "side",
    type=click.Choice(["client", "server"]),
    default="client",
    show_default=True,
    help="Which side is played: the other one is yours.",
)
@click.option("--pipe", metavar="NAME", help="Of a trace of several pipes this one.")
@click.option("--connection", type=click.IntRange(1), help="Only this connection of the trace.")
@click.option("--speed", type=NumberRange(0, min_open=True), default=1.0, show_default=True, help="2: twice as fast.")
@click.option("--fast", is_flag=True, help="Without pauses, as fast as the other side answers.")
@click.option(
    "--timeout",
    type=float,
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    callback=check_seconds,
    help="For each message.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a JSON object: the counts, and all differences, with up to 1024 bytes of each message.",
)
def replay(
    source: str,
    name: str | None,
    side: str,
    pipe: str | None,
    connection: int | None,
    speed: float,
    fast: bool,
    timeout: float,
    as_json: bool,
) -> None:
    r"""Play a client's or a server's side of a trace again, and compare the answers.

    FILE is what `npipe trace -w` or NPIPE_TRACE has recorded; NAME is the pipe, if not the one that was traced. The
    exit status is 8 if an answer is another one than was recorded. Of each such standard output has a line that says
    from which byte on it differs, and below it the request, the recorded answer, and the answer now: what is about that
    byte, if they are long.
    """
    try:
        played = Replay(read_trace(source), cast("Literal['client', 'server']", side), pipe=pipe, connection=connection)
    except TraceFileError as error:
        text = str(error)
        raise Failure(text if text.startswith(source) else f"{source}: {text}", BAD_DATA) from error
    except OSError as error:
        raise click.ClickException(f"{source} cannot be read: {error.strerror}") from error
    with by_kind():
        played.play(name, speed=None if fast else speed, timeout=timeout)
    if as_json:
        known = {
            "sent": played.sent,
            "compared": played.compared,
            "differences": [_object(difference) for difference in played.differences],
        }
        click.echo(json.dumps(known, indent=2))
        if played.differences:
            raise click.exceptions.Exit(DIFFERS)
        return
    for difference in played.differences[:_MOST_SHOWN]:
        _print(difference)
    more = len(played.differences) - _MOST_SHOWN
    if more > 0:
        click.echo(f"and {more} more")
    click.echo(f"{played.sent} sent, {played.compared} compared, {len(played.differences)} differ", err=True)
    if played.differences:
        raise click.exceptions.Exit(DIFFERS)


def _begin(difference: Difference, most: int) -> int:
    """Return where an excerpt begins that has what is before the first byte that differs, and more behind it."""
    return max(0, (difference.offset or 0) - most // 4)


def _print(difference: Difference) -> None:
    click.echo(f"connection {difference.connection}, message {difference.message}: {printable(difference.detail)}")
    if difference.request is not None:
        click.echo(f"  request:  {_line(difference.request, 0)}")
    if difference.recorded is None and difference.now is None:
        return
    begin = _begin(difference, _LINE)
    click.echo(f"  recorded: {_line(difference.recorded, begin)}")
    click.echo(f"  now:      {_line(difference.now, begin)}")


def _line(data: bytes | None, begin: int) -> str:
    if data is None:
        return "nothing"
    before, after = "..." if begin else "", "..." if len(data) > begin + _LINE else ""
    return f"{len(data)} bytes {before}{data[begin : begin + _LINE]!r}{after}"


def _object(difference: Difference) -> dict[str, Any]:
    begin = _begin(difference, _OBJECT)
    return {
        "connection": difference.connection,
        "message": difference.message,
        "detail": difference.detail,
        "offset": difference.offset,
        "request": _excerpt(difference.request, 0),
        "recorded": _excerpt(difference.recorded, begin),
        "now": _excerpt(difference.now, begin),
    }


def _excerpt(data: bytes | None, begin: int) -> dict[str, Any] | None:
    """Return a message's size, and what of it begins at "from"."""
    if data is None:
        return None
    piece = data[begin : begin + _OBJECT]
    told: dict[str, Any] = {"size": len(data), "from": begin}
    try:
        told["text"] = piece.decode()
    except UnicodeDecodeError:
        told["base64"] = base64.b64encode(piece).decode()
    return told
