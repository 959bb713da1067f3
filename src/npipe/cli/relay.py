"""`npipe relay`: two ends of any kind as one connection."""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
import ssl
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from npipe.cli.common import check_seconds, check_security
from npipe.cli.serve import log_to_stderr
from npipe.cli.statuses import INTERRUPTED, LOST, NOT_THERE, STATUSES, Failure, by_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.relay import Relay, RelayOptions, Report, Summary

__all__ = ["relay"]

logger: Final = logging.getLogger("npipe.relay")


def _octal(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise click.BadParameter(f"{value!r} is no octal mode such as 660.")
    return mode


_HELP = f"""Connect the end A with the end B: who comes to A is connected with B, by a connection of its own.

\b
An end is one of
  NAME               a pipe of this machine, or \\\\HOST\\pipe\\NAME; pipe:NAME
  unix:PATH          a Unix socket (not on Windows)
  tcp:HOST:PORT      TCP; tcp:PORT is 127.0.0.1
  tls:HOST:PORT      TLS; certificates of both sides are checked
  ws:HOST:PORT/PATH  a websocket; wss: over TLS
  stdio              standard input and output
  exec:COMMAND       a command of the shell's, started for each connection
  dotnet:NAME        a pipe of .NET's (its CoreFxPipe_ socket on Linux)

A listens and B is dialled, unless listen: or dial: stands before it. If both listen, the next client of the one is
connected with the next of the other. If neither does, there is one connection, and the relay ends with it.

\b
Examples:
  npipe relay docker_engine unix:/var/run/docker.sock
  npipe relay unix:/tmp/agent.sock openssh-ssh-agent
  npipe relay tcp:5000 '\\\\.\\pipe\\service' --framing lines
  npipe relay stdio docker_engine -ei -s      # as npiperelay, for socat's EXEC
  npipe relay service 'exec:./handler.sh'
  npipe relay tls:0.0.0.0:7000 service --cert s.pem --ca ca.pem

The end of what one side sends is told to the other, while the other way goes on. In a pipe of message type it is an
empty message. A side that goes without a proper end, and bytes that could not be delivered, are in the log, and the
exit status is 6.

{STATUSES}
"""


@click.command(help=_HELP, short_help="Connect pipes, sockets, websockets and commands.")
@click.argument("a")
@click.argument("b")
@click.option(
    "--framing",
    type=click.Choice(["auto", "raw", "length", "length-be", "lines"]),
    default="auto",
    show_default=True,
    help="How messages lie in a stream: not at all (raw); after their length, 4 bytes, little- or big-endian; on "
    "lines. auto: messages stay messages if both sides have them, else raw.",
)
@click.option(
    "--mode",
    type=click.Choice(["message", "byte"]),
    default="message",
    show_default=True,
    help="Type of a pipe that listens.",
)
@click.option(
    "--security",
    callback=check_security,
    default="owner",
    show_default=True,
    metavar="owner|group:NAME|everyone",
    help="Who may connect to a pipe that listens.",
)
@click.option("--any-owner", is_flag=True, help="Dial a pipe whose server is another user's too.")
@click.option(
    "--socket-mode",
    callback=_octal,
    default="600",
    show_default=True,
    metavar="OCTAL",
    help="Permissions of a Unix socket that listens.",
)
@click.option("-ei", "end_with_first", is_flag=True, help="End a connection when A has nothing more to say.")
@click.option("-ep", "end_with_second", is_flag=True, help="End a connection when B has nothing more to say.")
@click.option(
    "-s/-S",
    "--close-message/--no-close-message",
    "close_message",
    default=None,
    help="Whether the end of a stream is an empty message in a pipe.  [default: yes without a framing]",
)
@click.option("-p", "--poll", is_flag=True, help="Wait for B to be there, within --connect-timeout.")
@click.option(
    "--connect-timeout",
    type=float,
    callback=check_seconds,
    default=20,
    show_default=True,
    metavar="SECONDS",
    help="For reaching B, and for handshakes; 'inf' is for ever.",
)
@click.option(
    "--idle-timeout",
    type=float,
    callback=check_seconds,
    metavar="SECONDS",
    help="End a connection that carries nothing for so long.",
)
@click.option(
    "--half-close-timeout",
    type=float,
    callback=check_seconds,
    metavar="SECONDS",
    help="The same, when one side has nothing more to say.  [default: 30 if the other cannot be told of that]",
)
@click.option(
    "--max-connections", type=click.IntRange(1), metavar="N", help="How many at one time; who comes then waits."
)
@click.option(
    "--max-message-size",
    type=click.IntRange(1, 0xFFFFFFFF),
    default=64 * 1024 * 1024,
    show_default=True,
    metavar="BYTES",
    help="The longest message.",
)
@click.option(
    "--reconnect", is_flag=True, help="If neither side listens: connect again after each end. Not with stdio."
)
@click.option(
    "--grace",
    type=float,
    callback=check_seconds,
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="What connections get after Ctrl-C or SIGTERM before they are cut.",
)
@click.option("--cert", type=click.Path(), metavar="FILE", help="For tls: and wss:, this side's certificate (PEM).")
@click.option("--key", type=click.Path(), metavar="FILE", help="Its key, if it is not in the same file.")
@click.option("--ca", type=click.Path(), metavar="FILE", help="The authorities for the other side's certificate.")
@click.option("--tls-name", metavar="NAME", help="The name in B's certificate, if it is not the host's.")
@click.option("--origin", multiple=True, metavar="URL", help="Web pages that may open ws: (may be given again).")
@click.option("-v", "--verbose", is_flag=True, help="A line for each connection's begin too.")
@click.option("-q", "--quiet", is_flag=True, help="Lines for what went wrong only.")
@click.option("--json", "as_json", is_flag=True, help="The log on standard error as lines of JSON.")
def relay(a: str, b: str, *, verbose: bool, quiet: bool, as_json: bool, grace: float, **given: Any) -> None:
    """Connect the end A with the end B."""
    import asyncio  # here: programs under `npipe run` find it not imported

    from npipe.relay import PeerLostError, Relay

    _log(verbose=verbose, quiet=quiet, as_json=as_json)
    options = _options(given)
    for place in _open_places(a, b):
        logger.warning("%s is open to other machines, without encryption and without a question who comes", place)
    _more_descriptors()
    try:
        with by_kind():
            made: Callable[[], Relay] = lambda: Relay(a, b, options)  # noqa: E731 - in the loop
            summary, interrupted = asyncio.run(_run(made, grace))
    except PeerLostError as error:
        raise Failure(str(error), LOST) from error
    except ImportError as error:  # a library of an extra
        raise click.ClickException(str(error)) from error
    if summary.unclean:
        connections = "1 connection" if summary.unclean == 1 else f"{summary.unclean} connections"
        lost = f"; up to {summary.dropped} bytes were not delivered" if summary.dropped else ""
        raise Failure(f"{connections} of {summary.connections} did not end properly{lost}", LOST)
    if interrupted:
        raise click.exceptions.Exit(INTERRUPTED)
    if summary.unreached and not summary.connections:
        clients = "the one client" if summary.unreached == 1 else f"none of {summary.unreached} clients"
        was = "was not" if summary.unreached == 1 else "was"
        raise Failure(f"{clients} that came {was} connected with the other side", NOT_THERE)


def _options(given: dict[str, Any]) -> RelayOptions:
    from npipe.relay import RelayOptions, tls_contexts

    given["verify_owner"] = not given.pop("any_owner")
    given["wait_for_server"] = given.pop("poll")
    given["origins"] = given.pop("origin")
    for name in ("connect_timeout", "idle_timeout", "half_close_timeout"):
        if name == "half_close_timeout" and given[name] is not None:
            given["untold_timeout"] = None if given[name] == float("inf") else given[name]
        if given[name] == float("inf"):
            given[name] = None
    cert, key, ca = given.pop("cert"), given.pop("key"), given.pop("ca")
    if (cert is None) != (ca is None) or (key is not None and cert is None):
        raise click.UsageError("--cert and --ca go together: both sides are verified.")
    if cert is not None:
        try:
            given["tls_server"], given["tls_client"] = tls_contexts(cert, key, ca)
        except ssl.SSLError as error:
            raise click.UsageError(
                f"--cert, --key or --ca is no PEM file of its kind: {error.reason or error}."
            ) from error
        except ValueError as error:
            raise click.UsageError(f"{error}: 'openssl pkey -in KEY -out FILE' writes it without.") from error
        except OSError as error:
            raise click.UsageError(f"--cert, --key or --ca cannot be read: {error.strerror}.") from error
    return RelayOptions(**given)


def _open_places(*texts: str) -> list[str]:
    """Return which of the ends would listen for other machines without TLS."""
    from npipe.relay import parse_address

    places = []
    for number, text in enumerate(texts):
        with by_kind():
            address = parse_address(text)
        listens = address.role == "listen" or (address.role is None and number == 0)
        if listens and address.kind in ("tcp", "ws") and not _is_loopback(address.host):
            places.append(address.given)
    return places


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


async def _run(make: Callable[[], Relay], grace: float) -> tuple[Summary, bool]:
    import asyncio

    loop = asyncio.get_running_loop()
    async with make() as relay:
        came, interrupted = 0, False

        def end(number: int, _frame: object = None) -> None:
            nonlocal came, interrupted
            came += 1
            name = signal.Signals(number).name
            if came == 1:
                loop.call_soon_threadsafe(relay.stop, f"by {name}")
                if not relay.places and number == signal.SIGINT:  # one connection, and who began it has had enough
                    interrupted = True
                    loop.call_soon_threadsafe(relay.cut)
            else:
                loop.call_soon_threadsafe(relay.cut)

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        if sys.platform != "win32":  # there its loop has it done: a signal wakes the loop, whenever it comes
            for number in before:
                loop.add_signal_handler(number, end, number)
        try:
            for place in relay.places:
                logger.info("listening on %s", place)
            summary = await relay.run(grace=None if grace == float("inf") else grace)
        finally:
            for number, handler in before.items():
                if sys.platform != "win32":
                    loop.remove_signal_handler(number)
                signal.signal(number, handler)
    return summary, interrupted


def _more_descriptors() -> None:
    """Each connection needs some: as many as this process may have."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# ---- The log


class _JSONLine(logging.Formatter):
    """A record as one object; of a connection's end, what came of it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "text": record.getMessage(),
        }
        report: Report | None = getattr(record, "report", None)
        if report is not None:
            line["connection"] = {**dataclasses.asdict(report), "clean": report.clean}
        return json.dumps(line)


def _log(*, verbose: bool, quiet: bool, as_json: bool) -> None:
    log_to_stderr(logger, logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    if as_json:
        for handler in logging.getLogger("npipe").handlers:
            handler.setFormatter(_JSONLine())
