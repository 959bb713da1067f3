r"""Sends files through a pipe, with progress and a checksum.

    python examples/file_sender.py receive FOLDER       # until Ctrl-C
    python examples/file_sender.py send FILE...         # in another terminal

A file is a message that says what comes ({"name": ..., "size": ...}), messages of up to 1 MiB with its bytes, and one
with its SHA-256; then the receiver answers. It writes to NAME.part, compares the checksum, and only then is there a
file NAME: a sender that dies in the middle, or a sum that does not match, leaves nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import npipe

NAME = r"\\.\pipe\example-files"

PIECE = 1 << 20  # bytes
SILENCE = 30.0  # seconds without a message, after which either side gives up


class RefusedError(Exception):
    """What the receiver tells the sender."""


def say(line: str) -> None:
    """Print a line in one piece: print's own newline is a second write, and another thread's may come between."""
    print(f"{line}\n", end="", flush=True)


# ---- The receiver


def receive(pipe: npipe.MessagePipe, folder: Path) -> None:
    """Take one client's files until it closes."""
    with pipe:
        try:
            while True:
                try:
                    header = pipe.recv(timeout=SILENCE)
                except npipe.PipeClosedError:  # it has no more files
                    return
                try:
                    path, size, digest = receive_file(pipe, header, folder)
                except (RefusedError, OSError) as error:
                    if isinstance(error, npipe.PipeError):
                        raise
                    say(f"refused: {error}")
                    pipe.send(json.dumps({"error": str(error)}).encode(), timeout=SILENCE)
                    return  # what is still on its way is dropped with the connection
                say(f"{path.name}: {size} bytes, sha256 {digest}")
                pipe.send(json.dumps({"sha256": digest}).encode(), timeout=SILENCE)
        except npipe.PipeError as error:
            say(f"a sender has gone: {error}")


def receive_file(pipe: npipe.MessagePipe, header: bytes, folder: Path) -> tuple[Path, int, str]:
    """Receive one file. What does not become one is removed."""
    try:
        told = json.loads(header)
        name, size = told["name"], told["size"]
    except (ValueError, TypeError, LookupError):
        raise RefusedError("the first message of a file is its name and size") from None
    if not isinstance(name, str) or not isinstance(size, int) or size < 0:
        raise RefusedError("a name is a text, and a size a number")
    if name in ("", ".", "..") or set(name) & set("/\\:\0"):  # also as Windows takes names
        raise RefusedError(f"{name!r} is no name of a file in a folder")
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(size, PIECE)))
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{name}.", suffix=".part", delete=False) as part:
        try:
            left = size
            while left:
                # A message that is longer than what is left is an error of its own (234).
                count = pipe.recv_into(buffer[: min(left, PIECE)], exact=True, timeout=SILENCE)
                if count == 0:
                    raise RefusedError("the file is shorter than was said")
                part.write(buffer[:count])
                digest.update(buffer[:count])
                left -= count
            if pipe.recv(timeout=SILENCE) != digest.digest():
                raise RefusedError(f"the checksum of {name} is another one")
            part.close()
            return Path(part.name).replace(folder / name), size, digest.hexdigest()
        finally:
            part.close()
            with contextlib.suppress(FileNotFoundError):  # it is a file now
                Path(part.name).unlink()


def serve(name: str, folder: Path) -> None:
    """Receive files until Ctrl-C; transfers that are under way are finished first."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(8) as threads, npipe.listen(name, in_buffer_size=4 * PIECE) as listener:
        say(f"receiving at {listener.name} into {folder}; Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            for pipe in listener:
                threads.submit(receive, pipe, folder)


# ---- The sender


class Progress:
    """Tells on standard error how far it is: a line that changes on a terminal, else one line for each quarter."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._begin = time.monotonic()
        self._on_terminal = sys.stderr.isatty()
        self._told = -1

    def tell(self, done: int) -> None:
        """`done` bytes have been sent."""
        percent = 100 if self._total == 0 else done * 100 // self._total
        step = percent if self._on_terminal else percent // 25 * 25
        if step == self._told:
            return
        self._told = step
        speed = done / max(time.monotonic() - self._begin, 1e-6) / 1e6
        end = "\r" if self._on_terminal and percent < 100 else "\n"
        print(f"{self._what}: {step:3} %, {speed:.0f} MB/s  ", end=end, file=sys.stderr, flush=True)


def send_file(pipe: npipe.MessagePipe, path: Path) -> str:
    """Send one file and return its checksum, as the receiver has found it.

    Raises:
        RefusedError: the receiver does not want it.
        npipe.PipeError: it has gone, or says nothing.
    """
    digest = hashlib.sha256()
    size = path.stat().st_size
    progress = Progress(path.name, size)
    try:
        with path.open("rb") as file:
            pipe.send(json.dumps({"name": path.name, "size": size}).encode(), timeout=SILENCE)
            done = 0
            progress.tell(done)
            while done < size:
                piece = file.read(min(PIECE, size - done))
                pipe.send(piece, timeout=SILENCE)  # empty if the file has been cut short: then it is refused
                digest.update(piece)
                done += len(piece)
                progress.tell(done)
                if not piece:
                    break
        pipe.send(digest.digest(), timeout=SILENCE)
    except npipe.PipeClosedError as error:
        raise _reason(pipe) or error from None
    answer: dict[str, Any] = json.loads(pipe.recv(timeout=SILENCE))
    if "error" in answer:
        raise RefusedError(answer["error"])
    return str(answer["sha256"])


def _reason(pipe: npipe.MessagePipe) -> RefusedError | None:
    """Return what a receiver said before it closed: it stays readable."""
    try:
        return RefusedError(json.loads(pipe.recv(timeout=0))["error"])
    except npipe.PipeError:
        return None


def send(name: str, paths: list[Path]) -> int:
    """Send files, one after the other."""
    try:
        with npipe.connect(name) as pipe:
            for path in paths:
                print(f"{path.name}: sha256 {send_file(pipe, path)}")
    except (RefusedError, OSError) as error:  # a PipeError is an OSError
        print(f"{path.name if 'path' in locals() else name}: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Sends files through a pipe.")
    parser.add_argument("--name", default=NAME, help="the pipe's name (%(default)s)")
    roles = parser.add_subparsers(dest="role", required=True)
    receiving = roles.add_parser("receive", help="receive files into a folder")
    receiving.add_argument("folder", type=Path)
    sending = roles.add_parser("send", help="send files")
    sending.add_argument("files", type=Path, nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.role == "send":
        return send(arguments.name, arguments.files)
    try:
        serve(arguments.name, arguments.folder)
    except OSError as error:  # of the folder, or a PipeError: somebody receives there already
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
