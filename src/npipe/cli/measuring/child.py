"""The other process of a measurement: `python -P -m npipe.cli.measuring.child KIND ADDRESS SIZE`.

It listens at ADDRESS and says `ready`, serves one connection, and ends with it, or when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

import npipe
from npipe.cli.measuring.links import ASYNC, accept_async, accept_blocking
from npipe.cli.measuring.messages import ECHO, ONE_WAY, Messages, difference, kind_of

__all__ = ["main"]


class _Sink:
    """Compares what comes one way."""

    def __init__(self) -> None:
        self._messages: Messages | None = None
        self._count = 0
        self._wrong: str | None = None

    def take(self, message: bytes) -> None:
        """Compare the next message."""
        if self._messages is None:
            self._messages = Messages(len(message), ONE_WAY)  # another size has other bytes
        expected = self._messages.numbered(self._count)
        if message != expected and self._wrong is None:
            self._wrong = difference(self._count, expected, message)
        self._count += 1

    def verdict(self) -> bytes:
        """Return what is to be answered, and begin anew."""
        said = (self._wrong or f"{self._count} right").encode()
        self._count, self._wrong = 0, None
        return said


def _serve(kind: str, address: str, size: int) -> None:
    link = accept_blocking(kind, address, size, _ready)
    send, recv, sink = link.send, link.recv, _Sink()
    try:
        while message := recv():
            what = kind_of(message)
            if what == ECHO:
                send(message)
            elif what == ONE_WAY:
                sink.take(message)
            else:
                send(sink.verdict())
    except (EOFError, ConnectionError):
        pass
    finally:
        link.close()


async def _serve_async(kind: str, address: str) -> None:
    link = await accept_async(kind, address, _ready)
    send, recv, sink = link.send, link.recv, _Sink()
    try:
        while message := await recv():
            what = kind_of(message)
            if what == ECHO:
                await send(message)
            elif what == ONE_WAY:
                sink.take(message)
            else:
                await send(sink.verdict())
    except (EOFError, ConnectionError):
        pass
    finally:
        await link.close()


def _ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _end_with_the_parent() -> None:
    # Not by sys.stdin, whose lock the interpreter wants at its end.
    while os.read(0, 4096):
        pass
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Serve one connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    kind, address, size = arguments
    try:
        if kind in ASYNC:
            asyncio.run(_serve_async(kind, address))
        else:
            _serve(kind, address, int(size))
    except npipe.PipeError as error:
        sys.exit(str(error).replace("\n", " "))  # the parent tells it in a line


if __name__ == "__main__":
    main(sys.argv[1:])
