"""Messages as text: from a program's input, and for its output or a terminal."""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from npipe._streams import read_some, write_all
from npipe._text import printable
from npipe.cli.statuses import BAD_DATA, FAILED, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.relay.framing import Splitter

__all__ = [
    "FORMS",
    "Output",
    "form_options",
    "input_options",
    "message_of",
    "messages_in",
    "output_options",
    "shown",
    "standard_input",
]

FORMS: Final = ("raw", "lines", "hex", "base64", "length", "json")
_PIECE: Final = 65536
_LIMIT: Final = 0xFFFFFFFF

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def _with(command: _Command, *options: Callable[[Any], Any]) -> _Command:
    for option in options:
        command = option(command)
    return command


_NUL: Final = click.option("--nul", is_flag=True, help="A NUL behind each message of text.")
_ENCODING: Final = click.option(
    "--encoding",
    default="utf-8",
    show_default=True,
    metavar="CODEC",
    help="What DATA, and text in JSON, is sent as: utf-16-le for programs of Windows that want wide characters.",
)
_CODEC: Final = click.option(
    "--encoding", default="utf-8", show_default=True, metavar="CODEC", help="What text in messages is, for JSON."
)
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="The same as --output json.")
_TOLD: Final = click.option("--json", "as_json", is_flag=True, help="Say what was sent as JSON.")
_OUTPUT: Final = click.option(
    "-o",
    "--output",
    "form_out",
    type=click.Choice(FORMS),
    help="How messages are printed: as they are (raw), each on a line, in hex or base64 on a line, after its length "
    '(4 bytes, little-endian), as JSON: {"size":, "text":} or {"size":, "base64":} if it is not UTF-8.',
)
_INPUT: Final = click.option(
    "-i",
    "--input",
    "form_in",
    type=click.Choice(FORMS),
    help="How DATA or standard input is to be read: as it is (raw, one message), each line, in hex or base64 on a "
    'line, after its length (4 bytes, little-endian), as JSON: {"text":} or {"base64":}.',
)


def form_options(command: _Command) -> _Command:
    """Add `--input FORM`, `--output FORM`, `--json`, `--encoding CODEC` and `--nul`."""
    return _with(command, _NUL, _ENCODING, _JSON, _OUTPUT, _INPUT)


def input_options(command: _Command) -> _Command:
    """Add those of a command that prints no messages."""
    return _with(command, _NUL, _ENCODING, _TOLD, _INPUT)


def output_options(command: _Command) -> _Command:
    """Add those of a command that sends none."""
    return _with(command, _CODEC, _JSON, _OUTPUT)


def _bad(text: str) -> Failure:
    return Failure(text, BAD_DATA)


def _encode(text: str, encoding: str, nul: str) -> bytes:
    try:
        return (text + nul).encode(encoding)
    except LookupError as error:
        raise click.BadParameter(f"{encoding!r} is no encoding of text.", param_hint="--encoding") from error
    except ValueError as error:
        raise _bad(f"{encoding} cannot write it: {error}") from error


def message_of(data: str, form: str, encoding: str, *, nul: bool = False) -> bytes:
    """Return the message that an argument stands for; Failure if it is not in the form."""
    if form in ("raw", "lines", "length"):
        # What the shell gave as bytes that are not UTF-8 goes out as the same bytes.
        if encoding.lower().replace("-", "") == "utf8":
            return data.encode("utf-8", "surrogateescape") + b"\0" * nul
        return _encode(data, encoding, "\0" * nul)
    return _message(data.encode("utf-8", "surrogateescape"), form, encoding, nul=nul, where="DATA")


def _message(line: bytes, form: str, encoding: str, *, nul: bool, where: str) -> bytes:
    try:
        if form == "hex":
            return bytes.fromhex(line.decode("ascii").replace(":", " "))
        if form == "base64":
            return base64.b64decode(b"".join(line.split()), validate=True)
        if form == "json":
            found = json.loads(line)
            if isinstance(found, str):
                return _encode(found, encoding, "\0" * nul)
            if isinstance(found, dict) and isinstance(found.get("text"), str):
                return _encode(found["text"], encoding, "\0" * nul)
            if isinstance(found, dict) and isinstance(found.get("base64"), str):
                return base64.b64decode(found["base64"], validate=True)
            raise _bad(f'{where} is no message: JSON is a string, {{"text": "..."}} or {{"base64": "..."}}')
    except (ValueError, binascii.Error) as error:
        raise _bad(f"{where} is not {form}: {error}") from error
    except RecursionError as error:  # brackets in brackets
        raise _bad(f"{where} is not {form} of a message: it is nested too deeply") from error
    return line + b"\0" * nul


def standard_input(size: int) -> bytes:
    """Read what there is of standard input, `size` bytes at most; b"" at its end.

    Not through sys.stdin, whose lock a thread that waits for input would hold at the process's end.
    """
    return read_some(0, size)


def messages_in(read: Callable[[int], bytes], form: str, encoding: str, *, nul: bool = False) -> Iterator[bytes]:
    """Give the messages that `read` brings, each as soon as it is there; Failure at what is not in the form."""
    if form == "raw":
        yield b"".join(iter(lambda: read(_PIECE), b"")) + b"\0" * nul
        return
    from npipe.relay.framing import splitter  # asyncio with it: only the commands that need it

    frames = splitter("length" if form == "length" else "lines", _LIMIT)
    number = 0
    for messages in _fed(frames, read):
        for line in messages:
            number += 1
            if form == "length":
                yield line
            elif form == "lines":
                yield line + b"\0" * nul
            elif form != "json" or line.strip():  # in hex and base64, an empty line is an empty message
                yield _message(line, form, encoding, nul=nul, where=f"line {number} of standard input")


def _fed(frames: Splitter, read: Callable[[int], bytes]) -> Iterator[list[bytes]]:
    from npipe.relay.framing import FramingError

    while piece := read(_PIECE):
        yield frames.feed(piece)
        if frames.error is not None:
            raise _bad(f"standard input: {frames.error}")
    try:
        yield frames.end()
    except FramingError as error:
        raise _bad(f"standard input: {error}") from error


def shown(data: bytes, encoding: str = "utf-8") -> str:
    """Return bytes as text for a terminal: nothing in it moves the cursor but ends of lines and tabs."""
    try:
        text = data.decode(encoding, "backslashreplace")
    except LookupError as error:
        raise click.BadParameter(f"{encoding!r} is no encoding of text.", param_hint="--encoding") from error
    except ValueError:
        text = data.decode("latin-1")
    return "".join(c if c in "\n\t" else printable(c) for c in text.replace("\r\n", "\n"))


class Output:
    """Where messages are printed, in one form."""

    def __init__(self, form: str, encoding: str = "utf-8") -> None:
        self._form = form
        self._encoding = encoding
        if getattr(sys, "stdout", None) is None:
            raise Failure(f"standard output: {os.strerror(errno.EBADF)}", FAILED)
        self._terminal = sys.stdout.isatty()
        self.count: int = 0
        self.broken_lines: int = 0
        """Messages that had a line's end in them, though each was to be a line."""

    def put(self, message: bytes, **more: object) -> None:
        """Print a message; `more` stands beside it in JSON."""
        self.count += 1
        form = self._form
        if form == "raw":
            data = shown(message, self._encoding).encode() if self._terminal else message
            if self._terminal and not data.endswith(b"\n"):
                data += b"\n"
        elif form == "lines":
            if self._terminal:
                data = shown(message, self._encoding).encode() + b"\n"
            else:
                self.broken_lines += b"\n" in message
                data = message + b"\n"
        elif form == "hex":
            data = message.hex().encode() + b"\n"
        elif form == "base64":
            data = base64.b64encode(message) + b"\n"
        elif form == "length":
            data = len(message).to_bytes(4, "little") + message
        else:
            data = json.dumps(self._object(message, more)).replace("\x7f", "\\u007f").encode() + b"\n"
        self.write(data)

    def _object(self, message: bytes, more: dict[str, object]) -> dict[str, object]:
        found: dict[str, object] = {"size": len(message)}
        try:
            found["text"] = message.decode(self._encoding)
        except (ValueError, LookupError):
            found["base64"] = base64.b64encode(message).decode()
        return found | more

    def write(self, data: bytes) -> None:
        """Write bytes as they are, at once; Failure if nobody takes them."""
        try:
            write_all(sys.stdout.buffer, data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                with contextlib.suppress(OSError):  # so that nothing is tried again at the process's end
                    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise Failure(f"standard output: {error.strerror}", FAILED) from error

    def end(self) -> None:
        """Tell, by a Failure, of messages that are not told apart in what was printed."""
        if self.broken_lines:
            what = "1 message has" if self.broken_lines == 1 else f"{self.broken_lines} messages have"
            raise _bad(f"{what} an end of a line within: use --output json, hex, base64 or length")
