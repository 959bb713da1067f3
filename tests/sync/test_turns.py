"""Threads of one process that wait for messages: whoever finds every one at once lets the others go."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.win32 import pywintypes, win32con, win32file, win32pipe
from tests.helpers import Background, blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAITERS = 5
DEADLINE = 30.0


@pytest.fixture
def never_switched() -> Iterator[None]:
    """The interpreter takes its lock from no thread, so that a thread has it until it gives it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


def _pair(name: str, mode: Any) -> tuple[Any, Any]:
    with npipe.listen(name, mode=mode) as listener:
        client = npipe.connect(name, mode=mode, timeout=5)
        return client, listener.accept(timeout=5)


def _by_handles(name: str) -> tuple[Any, Any]:
    security = pywintypes.SECURITY_ATTRIBUTES()
    duplex, message = win32pipe.PIPE_ACCESS_DUPLEX, win32pipe.PIPE_TYPE_MESSAGE
    server = win32pipe.CreateNamedPipe(name, duplex, message, 1, 4096, 4096, 0, security)
    access = win32con.GENERIC_READ | win32con.GENERIC_WRITE
    return win32file.CreateFile(name, access, 0, None, win32con.OPEN_EXISTING, 0, None), server


def _seen(server: Any) -> bytes:
    with server.recv_view() as view:
        return bytes(view)


def _calls(kind: str, name: str) -> tuple[Callable[[], object], Callable[[], object], list[Any]]:
    """What sends, what receives it, and the ends."""
    if kind == "ReadFile":
        ends = _by_handles(name)
        return lambda: win32file.WriteFile(ends[0], b"x"), lambda: win32file.ReadFile(ends[1], 10), list(ends)
    client, server = _pair(name, "byte" if kind == "readinto" else "message")
    if kind == "recv":
        return lambda: client.send(b"x"), server.recv, [client, server]
    if kind == "recv_view":
        return lambda: client.send(b"x"), lambda: _seen(server), [client, server]
    buffer = bytearray(1)
    if kind in {"recv_into", "exact"}:
        rest = bytearray(9)
        return (
            lambda: client.send(b"x"),
            lambda: server.recv_into(buffer, rest, exact=kind == "exact"),
            [client, server],
        )
    return lambda: client.write(b"x"), lambda: server.readinto(buffer), [client, server]


@pytest.mark.skipif(sys.platform == "win32", reason="there every read gives the interpreter up")
@pytest.mark.parametrize("waits", ["recv", "recv_view", "readinto", "ReadFile", "recv_into"])
@pytest.mark.parametrize("runs", ["recv", "recv_view", "readinto", "ReadFile", "recv_into", "exact"])
@pytest.mark.usefixtures("never_switched")
def test_a_thread_that_never_waits_lets_those_go_that_have(name: str, runs: str, waits: str) -> None:
    send, receive, ends = _calls(runs, name)
    others = [_calls(waits, f"{name}-{number}") for number in range(WAITERS)]
    over: list[object] = []

    def wait(receive: Callable[[], object]) -> Background[None]:
        return blocked(lambda: over.append(receive()))

    waiting = [wait(one[1]) for one in others]
    for one in others:
        one[0]()
    until = time.monotonic() + DEADLINE
    reads = 0
    while len(over) < WAITERS:
        send()
        receive()
        reads += 1
        assert time.monotonic() < until, f"{len(over)} of {WAITERS} have gone in {reads} reads"
    for thread in waiting:
        thread.result()
    for end in [*ends, *(end for one in others for end in one[2])]:
        end.close()
