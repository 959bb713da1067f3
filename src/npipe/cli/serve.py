"""`npipe serve`: the three servers of Microsoft's articles as a program."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Self, cast

import click

import npipe
from npipe._text import printable
from npipe.cli._commands import kill_command, start_command
from npipe.cli.article import DEFAULT_ANSWER, DEFAULT_NAME
from npipe.cli.common import Events, check_security, encode_text, encoding_option, examples, network_options
from npipe.cli.statuses import CANNOT, DENIED, NOT_THERE, TIME_OVER, Failure, status_of, statuses
from npipe.names import parse_name
from npipe.options import PIPE_UNLIMITED_INSTANCES
from npipe.servers.base import current_connection

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from npipe.options import Mode, Model, Security
    from npipe.servers.base import Connection

__all__ = ["log_to_stderr", "serve", "signals"]

logger: Final = logging.getLogger("npipe.serve")


_EXAMPLES = examples(r"""Examples:
  npipe serve                                    Microsoft's example, to try clients with
  npipe serve shout --exec 'tr a-z A-Z' --encoding utf-8
  npipe serve echo --echo --json | jq -c 'select(.event == "connected").peer'
""")


_STATUSES = statuses(
    NOT_THERE,
    CANNOT,
    saying={
        0: "it was ended by Ctrl-C or SIGTERM",
        TIME_OVER: "the name has all the instances that it may have",
        DENIED: "somebody serves the name already, or access is denied",
    },
)


@click.command(epilog=f"{_EXAMPLES}\n{_STATUSES}")
@click.argument("name", default=DEFAULT_NAME)
@click.option("--answer", metavar="TEXT", help=f"Answer every request with TEXT.  [default: {DEFAULT_ANSWER}]")
@click.option("--echo", is_flag=True, help="Answer every request with itself.")
@click.option(
    "--exec",
    "command",
    metavar="COMMAND",
    help="Answer with what the shell's COMMAND writes on its standard output; the request's bytes are its standard "
    "input. A status other than 0 is logged, and what there is of output is still the answer.",
)
@click.option(
    "--max-instances",
    type=click.IntRange(1, 255),
    metavar="N",
    help="How many clients there may be at one time; 255 is no limit, and the default.",
)
@encoding_option
@click.option(
    "--mode",
    type=click.Choice(["message", "byte"]),
    default="message",
    show_default=True,
    help="The pipe's type; on a byte pipe a request is what one read returns.",
)
@click.option(
    "--security",
    callback=check_security,
    default="owner",
    show_default=True,
    metavar="owner|group:NAME|everyone",
    help="Who may connect.",
)
@click.option(
    "--model",
    type=click.Choice(["threaded", "overlapped", "completion"]),
    default="threaded",
    show_default=True,
    help="The server's architecture: a thread for each client; one thread with overlapped I/O and a fixed number of "
    "instances; one thread with completion routines.",
)
@click.option(
    "--instances",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="How many instances, and so clients at one time, --model overlapped has.  [default: 4]",
)
@network_options
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print a line of JSON on standard output for each event: listening, connected, disconnected, ended. Standard "
    "error has then what goes wrong alone.",
)
def serve(
    name: str,
    answer: str | None,
    echo: bool,
    command: str | None,
    max_instances: int | None,
    encoding: str,
    mode: str,
    security: Security,
    model: str,
    instances: int | None,
    allow: tuple[str, ...],
    require_encryption: bool,
    samba_dir: str | None,
    as_json: bool,
) -> None:
    r"""Serve the pipe NAME until Ctrl-C or SIGTERM.

    NAME is \\.\pipe\mynamedpipe if not given. Each client's requests are answered until it leaves. With --model
    threaded that happens at the same time, with the others one request after the other.
    Standard error has a line when a client comes (its number, process id and user) and one when it leaves.

    Ctrl-C and SIGTERM give requests that are being answered 5 seconds. When the name is taken or cannot be served,
    standard error has the Win32 code.
    """
    if sum((answer is not None, echo, command is not None)) > 1:
        raise click.UsageError("--answer, --echo and --exec exclude each other.")
    options: dict[str, Any] = {}
    if instances is not None:
        if model != "overlapped":
            raise click.UsageError("--instances is for --model overlapped.")
        options["instances"] = instances
    if allow:
        options |= {"remote": "samba", "allow": allow, "require_encryption": require_encryption, "samba_dir": samba_dir}
    elif require_encryption or samba_dir is not None:
        raise click.UsageError("--require-encryption and --samba-dir are for clients of other machines: --allow WHO.")
    log_to_stderr(logger, logging.WARNING if as_json else logging.INFO)
    events = Events(wanted=as_json)

    def arrived(connection: Connection) -> None:
        _log_arrival(connection)
        events.tell("connected", connection=connection.number, peer=_peer_of(connection))

    def left(connection: Connection) -> None:
        _log_departure(connection)
        events.tell("disconnected", connection=connection.number, requests=connection.requests)

    with contextlib.ExitStack() as stack:
        wait_for_signal = stack.enter_context(signals(signal.SIGINT, signal.SIGTERM))
        handler: Callable[[bytes], bytes]
        if command is not None:
            handler = stack.enter_context(_Command(command))
        elif echo:
            handler = bytes
        else:
            text = DEFAULT_ANSWER if answer is None else answer
            handler = _constant(encode_text(text, encoding, "--answer"))
        with _name_taken(name):
            server = npipe.serve(
                name,
                handler,
                model=cast("Model", model),
                mode=cast("Mode", mode),
                max_instances=None if max_instances == PIPE_UNLIMITED_INSTANCES else max_instances,
                security=security,
                on_connect=arrived,
                on_disconnect=left,
                **options,
            )
        logger.info("listening on %s, process %d", server.name, os.getpid())
        events.tell("listening", name=server.name, pid=os.getpid())
        try:
            number = wait_for_signal()
            logger.info("ending, by %s", number.name)
            server.close()
            events.tell("ended", signal=number.name)
        except KeyboardInterrupt:  # the second one, or it would not have come this way
            server.close(timeout=0)
            raise


def _constant(answer: bytes) -> Callable[[bytes], bytes]:
    return lambda _request: answer


@contextlib.contextmanager
def _name_taken(name: str) -> Iterator[None]:
    """Tell whose a name is that cannot be served because somebody serves it."""
    try:
        yield
    except (npipe.PipeAccessError, npipe.PipeBusyError) as error:
        parsed = parse_name(name)
        for pipe in npipe.list_pipes():
            if parse_name(pipe.name) == parsed:
                raise Failure(
                    f"{parsed.path} is taken: process {pipe.pid} of {pipe.user} serves it (WinError {error.winerror})",
                    status_of(error),
                ) from error
        raise


# ---- Commands as handlers


class _Command:
    """A shell command that answers requests, each in a process of its own; what still runs at the end is killed."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._lock = threading.Lock()  # for the fields below
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def __call__(self, request: bytes) -> bytes:
        with self._lock:  # over the start too: what runs is known to whoever ends it
            if self._ended:
                raise npipe.PipeClosedError(npipe.WinError.INVALID_HANDLE)
            process = start_command(self._command)
            self._running.add(process)
        with process:
            try:
                answer, _ = process.communicate(request)
            finally:
                with self._lock:
                    self._running.discard(process)
        if process.returncode:
            logger.warning("%s: %s", _this_client(), _how_it_ended(process))
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended = True
            for process in self._running:
                kill_command(process)


def _this_client() -> str:
    connection = current_connection()
    return "no client" if connection is None else f"client {connection.number}"


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    if process.returncode < 0:
        return f"the command was ended by signal {-process.returncode}"
    return f"the command failed with status {process.returncode}"


# ---- Signals


@contextlib.contextmanager
def signals(*numbers: signal.Signals) -> Iterator[Callable[[], signal.Signals]]:
    """Catch signals while in the context, which gives a function that waits for one and returns it.

    The signal's number comes through a pipe, so it does not matter when it comes and which thread takes it. When the
    context ends the signals have again the effect that they had: a second Ctrl-C ends a server that takes its time.
    """
    reader, writer = os.pipe()
    if sys.platform != "win32":  # there a signal's number waits for room in the pipe
        os.set_blocking(writer, False)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    wakeup = signal.set_wakeup_fd(writer)

    def restore() -> None:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)

    def wait() -> signal.Signals:
        while (number := os.read(reader, 1)[0]) not in numbers:
            pass
        restore()
        return signal.Signals(number)

    try:
        yield wait
    finally:
        restore()
        os.close(reader)
        os.close(writer)


# ---- The log


class _Line(logging.Formatter):
    """A record as one line; an exception is its last words, not a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]}"
        return f"npipe: {printable(text)}"


def log_to_stderr(own: logging.Logger, level: int = logging.INFO) -> None:
    """Write what npipe warns of on standard error, a line each, and what a command's own logger tells, from `level` on.

    The command says itself where it listens, and of whom; npipe says the same of its pipes, as INFO.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    root = logging.getLogger("npipe")
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    own.setLevel(level)
    root.propagate = False


def _log_arrival(connection: Connection) -> None:
    try:
        peer = connection.peer
    except npipe.PipeError:  # gone already, and this must not stop the server
        logger.info("client %d came and went", connection.number)
    else:
        if peer.origin == "local":
            logger.info("client %d came: process %d of %s", connection.number, peer.pid, peer.user or peer.uid)
        else:
            how = "encrypted" if peer.encrypted else "not encrypted"
            logger.info(
                "client %d came: %s\\%s of %s, %s", connection.number, peer.domain, peer.user, peer.address, how
            )


def _peer_of(connection: Connection) -> dict[str, object] | None:
    """Return who a client is, for JSON; None: it has gone already."""
    try:
        peer = connection.peer
    except npipe.PipeError:
        return None
    if peer.origin == "local":
        return {"origin": peer.origin, "pid": peer.pid, "user": peer.user, "uid": peer.uid}
    return {
        "origin": peer.origin,
        "domain": peer.domain,
        "user": peer.user,
        "address": peer.address,
        "encrypted": peer.encrypted,
    }


def _log_departure(connection: Connection) -> None:
    requests = "1 request" if connection.requests == 1 else f"{connection.requests} requests"
    logger.info("client %d left after %s", connection.number, requests)
