"""Processes with an end of a pipe, of the examples' or of npipe's."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import asleep, until
from tests.protocol import driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAIRS = (  # server, client
    ("npipe", "example by futex"),
    ("npipe", "example by socket"),
    ("example by futex", "npipe"),
    ("example by socket", "npipe"),
    ("example by futex", "example by socket"),
    ("example by socket", "example by futex"),
)


class Failed(Exception):  # noqa: N818 - the other process' error
    """The other process' call has failed with this code of Win32."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class End:
    """An end in a process of its own."""

    def __init__(self, form: str) -> None:
        self.form = form
        kind, _, way = form.partition(" by ")
        self._said, theirs = _context.Pipe()
        root = os.environ["NPIPE_ROOT"]
        self.process = _context.Process(target=driver.main, args=(kind, way == "socket", theirs, root), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def begin(self, what: str, *arguments: object) -> None:
        """Begin with a call; its answer follows."""
        self._said.send((what, *arguments))

    def waits(self) -> None:
        """The call that was begun waits by now, for the other end."""
        until(lambda: asleep(self.pid), DEADLINE)

    def answer(self) -> Any:
        """The answer of the call that was begun."""
        assert self._said.poll(DEADLINE), "no answer"
        code, value = self._said.recv()
        if code:
            raise Failed(code)
        return value

    def last_words(self) -> list[Any]:
        """What a process has said that was killed."""
        words = []
        try:
            while True:
                words.append(self._said.recv()[1])
        except (EOFError, ConnectionResetError):
            return words

    def __call__(self, what: str, *arguments: object) -> Any:
        """A call."""
        self.begin(what, *arguments)
        return self.answer()

    def fails(self, code: int, what: str, *arguments: object) -> None:
        """A call that fails with this code."""
        self.begin(what, *arguments)
        self.answer_fails(code)

    def answer_fails(self, code: int) -> None:
        """The call that was begun fails with this code."""
        with pytest.raises(Failed) as caught:
            self.answer()
        assert caught.value.code == code

    def kill(self) -> None:
        """SIGKILL, and wait until it has gone."""
        self.process.kill()
        self.process.join(DEADLINE)
        assert self.process.exitcode is not None, "it does not end"

    def end(self) -> None:
        self.kill()
        self._said.close()
        self.process.close()


# Each process begins as a copy of one that has imported all that it needs, and has no threads.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.protocol.driver"])
DEADLINE = 150.0  # seconds, for all of a call; the driver sees to it that no step of it is late


@pytest.fixture
def end() -> Iterator[Callable[[str], End]]:
    """Starts a process for an end: end(form) -> End."""
    made: list[End] = []

    def start(form: str) -> End:
        made.append(End(form))
        return made[-1]

    yield start
    for one in made:
        one.end()


@pytest.fixture
def pipe_name(name: str) -> str:
    r"""A pipe's name without `\\.\pipe\`."""
    return name.rpartition("\\")[2]


@pytest.fixture
def joined(end: Callable[[str], End], pipe_name: str) -> Callable[..., tuple[End, End]]:
    """Makes a connection: joined(server's form, client's form, kind, quotas) -> server, client."""

    def make(
        server_form: str, client_form: str, kind: str = "message", quotas: tuple[int, int] = (65536, 65536)
    ) -> tuple[End, End]:
        server, client = end(server_form), end(client_form)
        join(server, client, pipe_name, kind, quotas)
        return server, client

    return make


def join(server: End, client: End, name: str, kind: str, quotas: tuple[int, int]) -> None:
    """Connect two ends by a new pipe."""
    server("listen", name, kind, quotas, 1, 255)
    client("connect", name)
    server("accept")


def rejoin(server: End, client: End, name: str, kind: str, quotas: tuple[int, int]) -> None:
    """End the connection of two, and make another one."""
    client("close")
    server("close")
    server("stop")
    join(server, client, name, kind, quotas)
