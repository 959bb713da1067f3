"""The sides of the demonstration, each a process: `python -P -m npipe.cli.demonstration.sides LABEL ROLE NAME …`.

A side writes what it does on its standard output, its label before each line. A server ends when its standard input
does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import npipe
from npipe.cli.article import DEFAULT_ANSWER, DEFAULT_MESSAGE, WIDE, ArticleClient
from npipe.errors import WinError
from npipe.names import parse_name
from npipe.options import ACCESS_READ, ACCESS_WRITE, PIPE_READMODE_MESSAGE
from npipe.transports import select

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.transports import ClientHandle

__all__ = ["BUFFER", "CROWD", "LONG_ANSWER", "PATIENCE", "REQUESTS", "main"]

PATIENCE: Final = 20.0
"""Seconds for which a client waits for an instance, the article's."""
BUFFER: Final = 48
"""Bytes of the client's buffer for the long reply."""
LONG_ANSWER: Final = (
    b"This reply is longer than the client's buffer: ReadFile returns it in pieces, and of each but the last says that "
    b"there is more."
)
CROWD: Final = 3
"""Clients that are connected at the same time."""
REQUESTS: Final = 100
"""What each of them asks."""

_label = ""
_READY: Final = "listens"


def _say(text: str) -> None:
    os.write(1, f"{_label}\t{text}\n".encode())  # in one step: the sides share the pipe


def _wait_for_the_teller() -> bool:
    """Wait until the teller says that it goes on; False when it has gone."""
    return bool(os.read(0, 1))


# ---- Servers


def _serve(name: str, model: str, answer: bytes, **options: Any) -> None:
    threads = set()

    def handle(_request: bytes) -> bytes:
        threads.add(threading.get_ident())
        return answer

    with npipe.serve(name, handle, model=model, **options) as server:  # type: ignore[arg-type]
        _say(f"process {os.getpid()} {_READY} on {server.name}")
        _wait_for_the_teller()
    answered = server.stats.answered
    if answered > CROWD:
        count = len(threads)
        _say(f"answered {answered} requests of {server.stats.clients} clients in {count} thread{'s' * (count > 1)}")


def _article_server(name: str) -> None:
    _serve(
        name,
        "threaded",
        (DEFAULT_ANSWER + "\0").encode(WIDE),
        on_connect=lambda connection: _say(f"client {connection.number} came: process {connection.pid}"),
        on_disconnect=lambda connection: _say(f"client {connection.number} left"),
    )


def _small_server(name: str) -> None:
    _serve(name, "threaded", DEFAULT_ANSWER.encode(), max_instances=1)


def _long_server(name: str) -> None:
    _serve(name, "threaded", LONG_ANSWER)


def _model_server(name: str, model: str) -> None:
    _serve(name, model, DEFAULT_ANSWER.encode())


# ---- Clients


def _article_client(name: str) -> None:
    client = ArticleClient(name, _say)
    data = (DEFAULT_MESSAGE + "\0").encode(WIDE)
    client.talk(DEFAULT_MESSAGE, data, PATIENCE).close_handle()
    _say("<End of message>")


def _holder(name: str) -> None:
    handle = select(parse_name(name)).open(parse_name(name), access=ACCESS_READ | ACCESS_WRITE)
    _say("CreateFile: it has the only instance")
    _wait_for_the_teller()
    _say("CloseHandle")
    handle.close_handle()


def _waiter(name: str) -> None:
    parsed = parse_name(name)
    transport = select(parsed)
    began = time.monotonic()
    while True:
        try:
            handle = transport.open(parsed, access=ACCESS_READ | ACCESS_WRITE)
            break
        except npipe.PipeBusyError as error:
            _say(f"CreateFile: ERROR_PIPE_BUSY ({error.winerror}); WaitNamedPipe, for {PATIENCE:.0f} s at most")
        transport.wait(parsed, PATIENCE)
    _say(f"CreateFile: it has the instance, after {time.monotonic() - began:.2f} s")
    for _code, piece in _ask(handle, b"Is somebody there?", 512):
        _say(f'ReadFile: "{piece.decode()}"')
    handle.close_handle()


def _reader(name: str) -> None:
    parsed = parse_name(name)
    handle = select(parsed).open(parsed, access=ACCESS_READ | ACCESS_WRITE)
    for code, piece in _ask(handle, b"Tell me more.", BUFFER):
        how = f"ERROR_MORE_DATA ({code})" if code == WinError.MORE_DATA else "the rest"
        _say(f'ReadFile, {len(piece)} bytes, {how}: "{piece.decode()}"')
    handle.close_handle()


def _ask(handle: ClientHandle, request: bytes, size: int) -> list[tuple[int, bytes]]:
    """Write a request; return what each ReadFile gave of the reply: its code, and the bytes."""
    handle.set_state(PIPE_READMODE_MESSAGE)
    handle.write_file(request)
    pieces = [handle.read_file(size)]
    while pieces[-1][0] == WinError.MORE_DATA:
        pieces.append(handle.read_file(size))
    return pieces


def _crowd(name: str) -> None:
    pipes = [npipe.connect(name, timeout=PATIENCE) for _ in range(CROWD)]
    for _ in range(REQUESTS):
        for pipe in pipes:
            pipe.send(DEFAULT_MESSAGE.encode())
        for pipe in pipes:
            if pipe.recv() != DEFAULT_ANSWER.encode():
                sys.exit("the server has answered something else")
    for pipe in pipes:
        pipe.close()


_ROLES: Final[dict[str, Callable[..., None]]] = {
    "article-server": _article_server,
    "small-server": _small_server,
    "long-server": _long_server,
    "model-server": _model_server,
    "article-client": _article_client,
    "holder": _holder,
    "waiter": _waiter,
    "reader": _reader,
    "crowd": _crowd,
}


def main(arguments: list[str]) -> None:
    """Be one side."""
    global _label
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the teller's, which ends us
    _label, role, *rest = arguments
    try:
        _ROLES[role](*rest)
    except npipe.PipeError as error:
        sys.exit(str(error).replace("\n", " "))


if __name__ == "__main__":
    main(sys.argv[1:])
