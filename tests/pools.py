"""The server of the pools' tests, a process of its own, which writes down what it was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child

_SERVER = """
    import os, sys, threading, time, npipe

    def answer(request, connection):
        word, _, rest = request.partition(b" ")
        with open(sys.argv[2], "ab", buffering=0) as log:
            log.write(request[:100] + b"\\n")
        if word == b"echo":
            return rest
        if word == b"who":
            return b"%d" % connection.number
        if word == b"slow":  # slow SECONDS TEXT: what a slow server is
            seconds, _, text = rest.partition(b" ")
            time.sleep(float(seconds))
            return text
        if word == b"long":
            return bytes(int(rest))
        if word == b"die":
            os._exit(3)
        if word == b"hang":
            print("hangs", flush=True)
            threading.Event().wait()
        raise ValueError(request)

    with npipe.serve(sys.argv[1], answer, exclusive=False):
        print("listens", flush=True)
        sys.stdin.readline()
"""


EMPTIES = """
    import sys, threading, npipe

    def attend(pipe, number):
        with pipe:
            for message in pipe:
                pipe.send(b"%d %b" % (number, message))
                if message == b"more":
                    sys.stdin.readline()
                    pipe.send(b"")
                    print("sent", flush=True)

    with npipe.listen(sys.argv[1]) as listener:
        print("listens", flush=True)
        for number in range(1, 100):
            threading.Thread(target=attend, args=(listener.accept(), number), daemon=True).start()
"""
"""A server that answers with its connection's number, and sends an empty message behind "more", when it is told to."""


class Servers:
    """Starts servers of one pipe, and knows what they all were asked."""

    def __init__(self, child: Callable[..., Child], name: str, log: Path) -> None:
        self._child = child
        self._name = name
        self._log = log

    def start(self) -> Child:
        """A server that listens."""
        server = self.starting()
        assert server.line() == "listens"
        return server

    def starting(self) -> Child:
        """A server that will."""
        return self._child(_SERVER, self._name, str(self._log))

    def asked(self, word: bytes) -> int:
        """How many requests began with `word`."""
        return sum(line.startswith(word) for line in self._log.read_bytes().splitlines())
