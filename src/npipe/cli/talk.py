"""`npipe call`, `send`, `cat`, `listen`: a netcat for pipes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

import click

import npipe
from npipe._streams import write_all
from npipe._text import printable
from npipe.cli.common import check_seconds
from npipe.cli.interrupts import hears_interrupts
from npipe.cli.messages import (
    Output,
    form_options,
    input_options,
    message_of,
    messages_in,
    output_options,
    standard_input,
)
from npipe.cli.statuses import FAILED, LOST, STATUSES, Failure, by_kind
from npipe.names import parse_name
from npipe.reasons import ended_badly

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

    from npipe.options import ConnectOptions
    from npipe.pipe import MessagePipe, StreamPipe

__all__ = ["call", "cat", "listen", "send"]

_PIECE: Final = 65536
_LONGEST_SLEEP: Final = 86400.0  # seconds: the system has no sleep of any length

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def _add_client_options(command: _Command, timeout: str) -> _Command:
    for option in (
        click.option("--any-owner", is_flag=True, help="Talk to a server of another user too."),
        click.option("-p", "--poll", is_flag=True, help="Wait for a pipe that is not there yet, within --timeout."),
        click.option("--timeout", type=float, callback=check_seconds, default=20, show_default=True,
                     metavar="SECONDS", help=f"{timeout} 'inf' is for ever."),
    ):  # fmt: skip
        command = option(command)
    return command


def client_options(command: _Command) -> _Command:
    """Add `--timeout`, `--poll` and `--any-owner`."""
    return _add_client_options(command, "For each step: connecting, an answer, room.")


def _reader_options(command: _Command) -> _Command:
    return _add_client_options(command, "For connecting; messages are waited for as long as the server lives.")


def _seconds(timeout: float) -> float | None:
    return None if timeout == float("inf") else timeout


def connected(name: str, timeout: float, *, poll: bool, any_owner: bool, mode: Any = "message") -> Any:
    """Connect as the options say."""
    seconds = _seconds(timeout)
    try:
        return npipe.connect(name, mode=mode, timeout=seconds, wait_for_server=poll, verify_owner=not any_owner)
    except npipe.PipeModeError as error:
        if mode != "message":
            raise
        # The library's advice is for programs.
        said = f"{name} carries bytes, not messages, so no answer has an end: use npipe send and npipe cat, or npipe"
        raise Failure(f"[WinError {error.winerror}] {said} relay stdio {name} for both ways", FAILED) from error


def _input(data: str | None, form: str, encoding: str, *, nul: bool) -> Iterator[bytes]:
    """Give the messages of DATA, or of standard input."""
    if data is None or data == "-":
        yield from messages_in(standard_input, form, encoding, nul=nul)
    else:
        yield message_of(data, form, encoding, nul=nul)


def _paced(messages: Iterator[bytes], repeat: int, interval: float) -> Iterator[bytes]:
    """Give all messages `repeat` times (0: for ever), each at least `interval` seconds after the one before."""
    kept = list(messages) if repeat != 1 else messages
    count, due = 0, 0.0
    while repeat == 0 or count < repeat:
        count += 1
        for message in kept:
            while (left := due - time.monotonic()) > 0:
                time.sleep(min(left, _LONGEST_SLEEP))
            due = max(due, time.monotonic()) + interval
            yield message
        if not isinstance(kept, list) or not kept:
            return


def _check_interval(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not value >= 0:  # nan too
        raise click.BadParameter(f"it is 0 or more seconds, not {value:g}.")
    return value


_repeat_options: Final = (
    click.option(
        "--interval", type=float, callback=_check_interval, default=0, metavar="SECONDS", help="From one to the next."
    ),
    click.option("--repeat", type=click.IntRange(0), default=1, metavar="N", help="Do it N times; 0 is for ever."),
)


def _repeated(command: _Command) -> _Command:
    return functools.reduce(lambda made, option: option(made), _repeat_options, command)


_CALL = f"""Send DATA to the message pipe NAME, and print the one message that answers, and nothing else.

DATA is text, sent as UTF-8 without a NUL; - or nothing is standard input, all of which is one message. With --input
lines (hex, base64, length, json) each line is a message, and each answer is printed, over one connection. To a
terminal control characters are shown, not sent. With --json each answer also has "connect_seconds", how long
connecting took, and "answer_seconds", from the message to its answer.

\b
Examples:
  npipe call service 'hello'
  npipe call service - < request.bin > answer.bin
  npipe call service 'de ad be ef' -i hex -o hex
  npipe call service '{{"method": "ping"}}' --json
  npipe call service ping --repeat 10 --interval 1
  npipe call service ping --repeat 100 --json | jq .answer_seconds
  npipe call mynamedpipe 'hello' --encoding utf-16-le --nul  # to Microsoft's examples and `npipe serve`

{STATUSES}
"""


@click.command(help=_CALL, short_help="Send DATA to the pipe NAME, and print the answer.")
@click.argument("name")
@click.argument("data", required=False)
@form_options
@_repeated
@client_options
@hears_interrupts
def call(
    name: str, data: str | None, *, form_in: str | None, form_out: str | None, as_json: bool, encoding: str, nul: bool,
    repeat: int, interval: float, timeout: float, poll: bool, any_owner: bool,
) -> None:  # fmt: skip
    """Send DATA to the pipe NAME and print the answer."""
    form_in = form_in or "raw"
    many = repeat != 1 or form_in in ("lines", "length")
    output = Output("json" if as_json else form_out or ("lines" if many else "raw"), encoding)
    messages = _paced(_input(data, form_in, encoding, nul=nul), repeat, interval)
    with by_kind():
        first = next(messages, None)  # what is not in its form is told before anything is opened
        if first is None:
            return
        began = time.perf_counter()
        with connected(name, timeout, poll=poll, any_owner=any_owner) as pipe:
            connecting = round(time.perf_counter() - began, 6)
            message: bytes | None = first
            while message is not None:
                began = time.perf_counter()
                answer = pipe.transact(message, timeout=_seconds(timeout))
                took = round(time.perf_counter() - began, 6)
                output.put(answer, seconds=took, connect_seconds=connecting, answer_seconds=took)
                message = next(messages, None)
    output.end()


# ---- Files


class _Progress:
    """Counts what passes; a bar on standard error if that is a terminal."""

    def __init__(self, title: str, total: int | None) -> None:
        self.size = 0
        self.messages = 0
        self._digest = hashlib.sha256()
        self._began = time.perf_counter()
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

            self._bar = Progress(
                "{task.percentage:>3.0f}%" if total else title,
                BarColumn(bar_width=None),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(title, total=total)

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self.messages += 1
        self._digest.update(data)
        if self._bar is not None:
            self._bar.advance(self._task, len(data))

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, verb: str, *, as_json: bool, checksum: bool) -> None:
        """Tell what it was: in JSON if asked, in words on a terminal."""
        seconds = time.perf_counter() - self._began
        digest = self._digest.hexdigest()
        if as_json:
            found = {"bytes": self.size, "messages": self.messages, "seconds": round(seconds, 6), "sha256": digest}
            click.echo(json.dumps(found))
        elif checksum or sys.stderr.isatty():
            rate = self.size / seconds / 1e6 if seconds else 0.0
            text = f"{verb} {self.size} bytes in {self.messages} messages, {seconds:.2f} s, {rate:.1f} MB/s"
            click.echo(text, err=True)
            click.echo(f"sha256 {digest}", err=True)


_SEND = f"""Send DATA to the pipe NAME, or what standard input or --file has, without an answer.

Each message has been read by the server when the command ends with 0.

\b
Examples:
  npipe send log 'started'
  tail -f app.log | npipe send log --input lines
  npipe send upload --file image.iso --checksum
  printf '\\x01\\x02' | npipe send device

{STATUSES}
"""


@click.command(help=_SEND, short_help="Send DATA, standard input or a file to the pipe NAME.")
@click.argument("name")
@click.argument("data", required=False)
@click.option("--file", "path", type=click.Path(exists=True, path_type=Path), metavar="FILE",
              help="Send this file, in pieces.")  # fmt: skip
@click.option("--piece", type=click.IntRange(1), default=_PIECE, show_default=True, metavar="BYTES",
              help="Bytes of each message of a file.")  # fmt: skip
@click.option("--checksum", is_flag=True, help="Print size, rate and SHA-256 on standard error.")
@input_options
@_repeated
@client_options
@hears_interrupts
def send(
    name: str, data: str | None, *, path: Path | None, piece: int, checksum: bool, form_in: str | None,
    as_json: bool, encoding: str, nul: bool, repeat: int, interval: float, timeout: float,
    poll: bool, any_owner: bool,
) -> None:  # fmt: skip
    """Send DATA to the pipe NAME."""
    if path is not None and data is not None:
        raise click.UsageError("DATA and --file exclude each other.")
    with by_kind(), contextlib.ExitStack() as stack:
        total: int | None = None
        if path is not None:
            file = stack.enter_context(path.open("rb"))
            total = path.stat().st_size or None
            source: Iterator[bytes] = iter(lambda: file.read(piece), b"")
        else:
            source = _input(data, form_in or "raw", encoding, nul=nul)
        messages = _paced(source, repeat, interval)
        first = next(messages, None)
        pipe = _opened(name, timeout, "write", poll=poll, any_owner=any_owner)
        stack.enter_context(pipe)
        write = pipe.send if isinstance(pipe, npipe.MessagePipe) else pipe.write
        progress = _Progress("sent", total)
        with progress:
            message = first
            while message is not None:
                write(message, timeout=_seconds(timeout))
                progress.add(message)
                message = next(messages, None)
            pipe.flush(timeout=_seconds(timeout))
        progress.tell("sent", as_json=as_json, checksum=checksum)


def _opened(
    name: str, timeout: float, need: Literal["read", "write"], *, poll: bool, any_owner: bool
) -> MessagePipe | StreamPipe:
    """Connect in the mode and direction that the pipe has, if it lets one do what is needed."""
    if poll:
        npipe.wait(name, timeout=_seconds(timeout), create=True)
    options: ConnectOptions = {"timeout": _seconds(timeout), "verify_owner": not any_owner}
    parsed = parse_name(name)
    found: npipe.PipeListing | None = None
    if parsed.host is None and sys.platform != "win32":
        # Told before (Windows tells it nobody): an attempt in another mode is a client that comes and goes.
        found = next((pipe for pipe in npipe.list_pipes() if parse_name(pipe.name) == parsed), None)
    if found is not None and found.direction in ("inbound", "outbound"):
        options["access"] = "write" if found.direction == "inbound" else "read"
    if found is not None and found.type is not None:
        return npipe.connect(name, mode=found.type, **options)
    try:
        return _in_its_mode(name, options)
    except npipe.PipeAccessError:
        if found is not None:
            raise
        options["access"] = need  # one that goes in one direction refuses who wants both
        return _in_its_mode(name, options)


def _in_its_mode(name: str, options: ConnectOptions) -> MessagePipe | StreamPipe:
    try:
        return npipe.connect(name, **options)
    except npipe.PipeModeError:
        return npipe.connect(name, mode="byte", **options)


_CAT = f"""Print the messages that the pipe NAME sends, until its server closes it.

What is printed is what came: as it is, or with --output each on a line, in hex, and so on. To a terminal control
characters are shown, not sent.

\b
Examples:
  npipe cat events --output lines
  npipe cat events --json --count 10
  npipe cat download --to image.iso --checksum

{STATUSES}
"""


@click.command(help=_CAT, short_help="Print what the pipe NAME sends.")
@click.argument("name")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N messages.")
@click.option("--to", "path", type=click.Path(path_type=Path), metavar="FILE", help="Write to this file.")
@click.option("--checksum", is_flag=True, help="Print size, rate and SHA-256 on standard error.")
@output_options
@_reader_options
@hears_interrupts
def cat(
    name: str, *, count: int | None, path: Path | None, checksum: bool, form_out: str | None,
    as_json: bool, encoding: str, timeout: float, poll: bool, any_owner: bool,
) -> None:  # fmt: skip
    """Print the messages of the pipe NAME."""
    output = Output("json" if as_json and path is None else form_out or "raw", encoding)
    with by_kind(), contextlib.ExitStack() as stack:
        pipe = _opened(name, timeout, "read", poll=poll, any_owner=any_owner)
        stack.enter_context(pipe)
        put: Callable[[bytes], Any] = output.put
        if path is not None:
            # Without a buffer: what was taken from the pipe is in the file, also if this process is killed.
            put = functools.partial(_write_to, path, stack.enter_context(path.open("wb", buffering=0)))
        progress = _Progress("read", None) if path is not None or checksum else None
        with progress or contextlib.nullcontext():
            for message in _messages(pipe):
                put(message)
                if progress is not None:
                    progress.add(message)
                if count is not None:
                    count -= 1
                    if count == 0:
                        break
    if progress is not None:
        progress.tell("read", as_json=as_json and path is not None, checksum=checksum)
    output.end()


def _write_to(path: Path, file: io.FileIO, data: bytes) -> None:
    try:
        write_all(file, data)
    except OSError as error:
        error.filename = str(path)
        raise


def _messages(pipe: MessagePipe | StreamPipe) -> Iterator[bytes]:
    """Give messages, or pieces, until the peer closes; what is lost with a peer that did not is a Failure."""
    try:
        while True:
            message = pipe.recv() if isinstance(pipe, npipe.MessagePipe) else pipe.read(_PIECE)
            if not message and not isinstance(pipe, npipe.MessagePipe):
                return
            yield message
    except npipe.PipeClosedError as error:
        if ended_badly(error):
            raise Failure(str(error), LOST) from error


_LISTEN = f"""Listen on the pipe NAME: print what a client sends, and send it what standard input has.

It ends with its client; with --keep the next one is taken, also if one goes without a proper end, which is told. With
--input and --output messages are lines (the default), hex, base64, length-prefixed or JSON.

\b
Examples:
  npipe listen debug
  npipe listen debug --keep --json > messages.jsonl
  echo hello | npipe listen greeting

{STATUSES}
"""


@click.command(help=_LISTEN, short_help="Be the pipe NAME: print what a client sends.")
@click.argument("name")
@click.option("--keep", is_flag=True, help="Take the next client when one has gone.")
@click.option("--mode", type=click.Choice(["message", "byte"]), default="message", show_default=True,
              help="The pipe's type.")  # fmt: skip
@click.option("--security", default="owner", show_default=True, metavar="owner|group:NAME|everyone",
              help="Who may connect.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Do not tell who comes and goes, on a terminal.")
@form_options
@hears_interrupts
def listen(
    name: str, *, keep: bool, mode: Any, security: str, quiet: bool, form_in: str | None, form_out: str | None,
    as_json: bool, encoding: str, nul: bool,
) -> None:  # fmt: skip
    """Listen on the pipe NAME, and print what comes."""
    output = Output("json" if as_json else form_out or "lines", encoding)
    talk = _Input(messages_in(standard_input, form_in or "lines", encoding, nul=nul))

    def say(text: str) -> None:
        if not quiet and sys.stderr.isatty():
            click.echo(f"npipe: {printable(text)}", err=True)

    with by_kind(), npipe.listen(name, mode=mode, security=security) as listener:
        say(f"listening on {listener.name}")
        while True:
            with listener.accept() as pipe:
                with contextlib.suppress(npipe.PipeError):
                    say(f"process {pipe.peer.pid} of {pipe.peer.user or pipe.peer.uid} came")
                talk.to(pipe)
                lost = _printed(pipe, output, keep=keep)
                talk.to(None)
                talk.check()
            if lost is None:
                say("it left")
            else:
                click.echo(f"npipe: {printable(lost)}", err=True)
            if not keep:
                break
    output.end()


def _printed(pipe: MessagePipe | StreamPipe, output: Output, *, keep: bool) -> str | None:
    """Print what comes from a client; with `keep` return what has gone wrong with it: the next may do better."""
    messages = _messages(pipe)
    while True:
        try:
            message = next(messages, None)
        except (Failure, npipe.PipeError) as error:
            if not keep:
                raise
            return str(error)
        if message is None:
            return None
        output.put(message)


class _Input:
    """Sends standard input to whoever is connected, in a thread that ends with the process."""

    def __init__(self, messages: Iterator[bytes]) -> None:
        self._messages = messages
        self._changed = threading.Condition()
        self._pipe: MessagePipe | StreamPipe | None = None
        self._failed: BaseException | None = None
        self._thread: threading.Thread | None = None

    def to(self, pipe: MessagePipe | StreamPipe | None) -> None:
        """Send to this pipe from now on; to nobody, and wait, if there is none."""
        with self._changed:
            self._pipe = pipe
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def check(self) -> None:
        """Raise what has ended it."""
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            for message in self._messages:
                sent = False
                while not sent:
                    with self._changed:
                        while self._pipe is None:
                            self._changed.wait()
                        pipe = self._pipe
                    try:
                        if isinstance(pipe, npipe.MessagePipe):
                            pipe.send(message)
                        else:
                            pipe.write(message)
                        sent = True
                    except npipe.PipeClosedError:  # it is the next client's
                        with self._changed:
                            if self._pipe is pipe:
                                self._pipe = None
        except (Failure, OSError, ValueError) as error:
            self._failed = error
            click.echo(f"npipe: {printable(str(error))}", err=True)
