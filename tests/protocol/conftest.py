"""Processes with an end of a pipe, of the examples' or of npipe's."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

_numbers = itertools.count()

_SCRIPT = f"""
    import sys
    sys.path.insert(0, {str(CHECKOUT)!r})
    from tests.protocol import driver
    driver.main(sys.argv[1], by_socket=sys.argv[2] == "socket")
"""
PAIRS = (  # server, client
    ("npipe", "example by futex"),
    ("npipe", "example by socket"),
    ("example by futex", "npipe"),
    ("example by socket", "npipe"),
    ("example by futex", "example by socket"),
    ("example by socket", "example by futex"),
)


class Failed(Exception):
    """The other process' call has failed with this code of Win32."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class End:
    """An end in a process of its own."""

    def __init__(self, child: Child, form: str) -> None:
        self.child = child
        self.form = form

    def begin(self, what: str, *arguments: object) -> None:
        """Begin with a call; its answer follows."""
        self.child.say(json.dumps([what, *arguments]))

    def answer(self) -> Any:
        """The answer of the call that was begun."""
        said = json.loads(self.child.line() or '{"code": "it has died"}')
        if "code" in said:
            raise Failed(said["code"])
        return said["value"]

    def __call__(self, what: str, *arguments: object) -> Any:
        """A call."""
        self.begin(what, *arguments)
        return self.answer()

    def fails(self, code: int, what: str, *arguments: object) -> None:
        """A call that fails with this code."""
        with pytest.raises(Failed) as caught:
            self(what, *arguments)
        assert caught.value.code == code


@pytest.fixture
def end(child: Callable[..., Child]) -> Callable[[str], End]:
    """Starts a process for an end: end(form) -> End."""

    def start(form: str) -> End:
        kind, _, way = form.partition(" by ")
        return End(child(_SCRIPT, kind, way), form)

    return start


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
