"""Errors of tracing a running server, for the table of errors."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import npipe
from npipe.names import parse_name
from npipe.tracing.attach import Tracer
from npipe.transports.local.place import place
from tests.faces.error_table import Face, case

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Provoke = Callable[[Face], Awaitable[object]]

__all__: list[str] = []


def _trace(face: Face) -> None:
    with Tracer([face.name]):
        pass


def _case(title: str, kind: type[npipe.PipeError], code: int, reason: str, **more: Any) -> Callable[[Provoke], Provoke]:
    return case(title, kind, code, reason, doing="tracing", faces=("sync",), **more)


@_case(
    "trace a pipe that is not there",
    npipe.PipeNotFoundError,
    2,
    "no process has an instance of it now; start its server first, or wait for it: npipe trace --follow",
)
async def _(face: Face) -> None:
    _trace(face)


@_case(
    "trace a server that forbids it",
    npipe.PipeAccessError,
    5,
    "its server has said traceable=False, and nobody can trace it; "
    "have it listen without that, or start its process with NPIPE_TRACE=FILE",
)
async def _(face: Face) -> None:
    await face.listen(traceable=False)
    _trace(face)


AS_NOBODY = """
from npipe.tracing.attach import Tracer
os.setgroups([])
os.setuid(65534)
try:
    Tracer([sys.argv[1]])
except npipe.PipeError as error:
    sys.stdout.buffer.write(pickle.dumps(error))
"""


@_case(
    "trace another user's pipe",
    npipe.PipeAccessError,
    5,
    "a pipe is traced by its server's user and by root alone; trace it as that user",
    root_only=True,
)
async def _(face: Face) -> None:
    await face.listen(security="everyone")
    await face.raised_in(face.process(AS_NOBODY))


@_case(
    "trace a pipe that four trace",
    npipe.PipeBusyError,
    231,
    "four trace it already, which is as many as can; end one of them",
)
async def _(face: Face) -> None:
    await face.listen()
    with Tracer([face.name] * 4):
        _trace(face)


@_case(
    "trace a server that is stopped",
    npipe.PipeTimeoutError,
    121,
    "its server's process does not answer: it is stopped, or very busy; see what it does, and let it go on",
)
async def _(face: Face) -> None:
    server = face.process("with npipe.listen(sys.argv[1]):\n    print(flush=True)\n    sys.stdin.readline()")
    assert server.stdout is not None
    await asyncio.to_thread(server.stdout.readline)
    os.kill(server.pid, signal.SIGSTOP)
    os.waitpid(server.pid, os.WUNTRACED)
    _trace(face)


def _answered(face: Face, answer: bytes) -> None:
    """Trace a pipe one of whose owners answers so."""
    root, folder, _ = place(parse_name(face.name))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        dirfd = os.open(Path(root, folder), os.O_RDONLY | os.O_DIRECTORY)
        try:
            listener.bind(f"/proc/self/fd/{dirfd}/s{0:016x}")  # a socket's path has 107 bytes
        finally:
            os.close(dirfd)
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as asked:
                asked.recv(100)
                asked.send(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            _trace(face)
        finally:
            thread.join()


@_case(
    "trace a server whose npipe is older than tracing",
    npipe.PipeStateError,
    50,
    "its server has an npipe that is older than tracing; start the server anew with a newer one",
)
async def _(face: Face) -> None:
    await face.listen()
    _answered(face, struct.pack("<12I", 0x5250504E, 1, 0, 1, *[0] * 8))


@_case(
    "trace what answers nonsense",
    npipe.PipeProtocolError,
    13,
    "what the server answers makes no sense; see what serves the pipe: npipe ls -l",
)
async def _(face: Face) -> None:
    await face.listen()
    _answered(face, b"nonsense")
