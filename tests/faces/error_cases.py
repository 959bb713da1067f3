r"""Every error that the faces raise, as a table: what is done, and what it says.

Each case provokes its error for real. The texts have words in capitals for what differs from run to run: NAME for
the pipe's full name, ROOT for the root folder, PID for the server's process, USER for who runs this. docs/errors.md has
the same texts, without the codes' own words; tests/faces/test_error_texts.py compares.

    .venv/bin/python -m tests.faces.error_cases        # prints what is raised, for both faces
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import pickle
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import npipe
import npipe.aio
from npipe import errors
from npipe.names import parse_name
from npipe.win32 import win32file, win32pipe
from tests import rendezvous
from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CASES", "FACES", "Case", "Face", "provoke", "shown"]

SOON = 0.05  # seconds after which what never comes is given up


class Face:
    """One of the two faces, behind calls that are awaited in both."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.module: Any = {"sync": npipe, "aio": npipe.aio}[kind]
        self._stack = contextlib.AsyncExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        for process in self._processes:
            process.kill()
            process.communicate()

    async def do(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Make a call: in a thread, or awaited."""
        if self.kind == "sync":
            return await asyncio.to_thread(function, *arguments, **options)
        result = function(*arguments, **options)
        return await result if inspect.isawaitable(result) else result

    def _close_later(self, thing: Any) -> Any:
        self._stack.push_async_callback(self.do, thing.close)
        return thing

    async def listen(self, **options: Any) -> Any:
        return self._close_later(await self.do(self.module.listen, self.name, **options))

    async def connect(self, **options: Any) -> Any:
        return self._close_later(await self.do(self.module.connect, self.name, **options))

    async def serve(self, handler: Any, **options: Any) -> Any:
        return self._close_later(await self.do(self.module.serve, self.name, handler, **options))

    async def ends(self, mode: str = "message", client: str | None = None, **options: Any) -> tuple[Any, Any]:
        """Return a server's end and a client's."""
        listener = await self.listen(mode=mode, **options)
        pipe = await self.connect(mode=client or mode, access=options.get("access", "duplex"))
        return self._close_later(await self.do(listener.accept, timeout=5)), pipe

    async def while_waiting(self, pipe: Any, call: Callable[..., Any], then: Callable[..., Any]) -> Any:
        """Begin a call that waits, do something else, and return what becomes of the call."""
        began = asyncio.ensure_future(self.do(call))
        # The call waits as soon as it has had its turn: nothing tells that, and either order gives the same code here.
        await asyncio.sleep(SOON)
        del pipe
        await self.do(then)
        return await asyncio.wait_for(began, 5)

    def process(self, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a process that ends with the case, and wait until it has said that it is ready."""
        start = f"import os, pickle, signal, sys; sys.path.insert(0, {str(CHECKOUT)!r})\nimport npipe, npipe.aio\n"
        process = subprocess.Popen(
            [sys.executable, "-c", start + textwrap.dedent(script), self.name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._processes.append(process)
        return process

    async def raised_in(self, process: subprocess.Popen[bytes]) -> None:
        """Raise what a process has printed as a pickle."""
        out, _ = await asyncio.to_thread(process.communicate, timeout=20)
        raise pickle.loads(out)


Provoke = "Callable[[Face], Awaitable[object]]"


@dataclass
class Case:
    """One error."""

    title: str
    provoke: Callable[[Face], Awaitable[object]] = field(repr=False)
    kind: type[npipe.PipeError]
    code: int
    reason: str
    """What stands in the parentheses."""
    text: str | None = None
    """The words after the code, where they are not the code's own."""
    doing: str | None = None
    faces: tuple[str, ...] = ("sync", "aio")
    root_only: bool = False
    """It takes another user."""


CASES: list[Case] = []


def case(
    title: str, kind: type[npipe.PipeError], code: int, reason: str, **more: Any
) -> Callable[[Callable[[Face], Awaitable[object]]], Callable[[Face], Awaitable[object]]]:
    def add(provoke: Callable[[Face], Awaitable[object]]) -> Callable[[Face], Awaitable[object]]:
        CASES.append(Case(title, provoke, kind, code, reason, **more))
        return provoke

    return add


# ---- There is no pipe

START = "start its server, check the name, or give both processes the same NPIPE_ROOT"


@case(
    "connect, where no pipe is",
    npipe.PipeNotFoundError,
    2,
    f"there is none of that name below ROOT; {START}",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.connect()


@case(
    "wait, where no pipe is",
    npipe.PipeNotFoundError,
    2,
    f"there is none of that name below ROOT; {START}",
    doing="waiting for an instance",
)
async def _(face: Face) -> None:
    await face.do(face.module.wait, face.name, timeout=1)


@case(
    "connect with wait_for_server, and none comes",
    npipe.PipeTimeoutError,
    121,
    f"no server has come in that time: there is none of that name below ROOT; {START}",
    doing="waiting for the pipe's server",
)
async def _(face: Face) -> None:
    await face.connect(wait_for_server=True, timeout=SOON)


# ---- Busy

TAKEN = "all the instances that the pipe may have (max_instances: 1)"


@case(
    "connect without a wait, at the limit",
    npipe.PipeBusyError,
    231,
    f"clients have {TAKEN}; wait for one: connect(timeout=...) or npipe.wait()",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.ends(max_instances=1)
    await face.connect(timeout=0)


@case(
    "connect, and nobody leaves in time",
    npipe.PipeTimeoutError,
    121,
    f"clients had {TAKEN} in that time; wait longer (timeout=), or let a client close",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.ends(max_instances=1)
    await face.connect(timeout=SOON)


@case(
    "wait, and nobody leaves in time",
    npipe.PipeTimeoutError,
    121,
    f"clients had {TAKEN} in that time; wait longer (timeout=), or let a client close",
    doing="waiting for an instance",
)
async def _(face: Face) -> None:
    await face.ends(max_instances=1)
    await face.do(face.module.wait, face.name, timeout=SOON)


@case(
    "call, and nobody leaves in time",
    npipe.PipeBusyError,
    231,
    f"clients had {TAKEN} in that time; wait longer (timeout=), or let a client close",
    doing="calling the pipe",
)
async def _(face: Face) -> None:
    await face.ends(max_instances=1)
    await face.do(face.module.call, face.name, b"", timeout=SOON)


async def _not_listening(face: Face) -> None:
    path = parse_name(face.name).path
    instance = win32pipe.CreateNamedPipe(path, 3, 4, 255, 0, 0, 0, None)
    client = win32file.CreateFile(path, 0xC0000000, 0, None, 3, 0, None)
    try:
        await face.connect(timeout=0)
    finally:
        client.Close()
        instance.Close()


CASES.append(
    Case(
        "connect without a wait, and no instance listens",
        _not_listening,
        npipe.PipeBusyError,
        231,
        "no instance of the pipe is listening just now; wait for one: connect(timeout=...) or npipe.wait()",
        doing="opening the pipe",
    )
)

STOPPED = "the pipe's server does not answer: process PID is stopped, or very busy"


async def _stopped(face: Face) -> None:
    server = face.process(
        """
        listener = npipe.listen(sys.argv[1])
        print(flush=True)
        sys.stdin.readline()
        """
    )
    assert server.stdout is not None
    await asyncio.to_thread(server.stdout.readline)
    server.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(os.waitid, os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT)


@case(
    "connect, and the server's process is stopped",
    npipe.PipeTimeoutError,
    121,
    f"{STOPPED}; look at that process, or wait longer (timeout=)",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await _stopped(face)
    await face.connect(timeout=SOON)


@case(
    "connect without a wait, and the server's process is stopped",
    npipe.PipeBusyError,
    231,
    f"{STOPPED}; look at that process",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await _stopped(face)
    await face.connect(timeout=0)


# ---- The wrong kind of pipe, access, user

BYTES = "The pipe carries bytes, not messages"


@case(
    "connect for messages to a byte pipe",
    npipe.PipeModeError,
    87,
    'its server has made it a pipe of byte type; connect with mode="byte"',
    text=BYTES,
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(mode="byte")
    await face.connect()


@case(
    "call a byte pipe",
    npipe.PipeModeError,
    87,
    'its server has made it a pipe of byte type; connect with mode="byte"',
    text=BYTES,
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(mode="byte")
    await face.do(face.module.call, face.name, b"")


@case(
    "connect for both ways to an inbound pipe",
    npipe.PipeAccessError,
    5,
    'the pipe is inbound: clients only write; connect with access="write"',
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(access="inbound")
    await face.connect()


@case(
    "connect for both ways to an outbound pipe",
    npipe.PipeAccessError,
    5,
    'the pipe is outbound: clients only read; connect with access="read"',
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(access="outbound")
    await face.connect()


@case(
    "connect for both ways, and the security is for reading",
    npipe.PipeAccessError,
    5,
    'the pipe\'s security lets clients only read; connect with access="read"',
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(security=npipe.Security(write=False))
    await face.connect()


@case(
    "connect for both ways, and the security is for writing",
    npipe.PipeAccessError,
    5,
    'the pipe\'s security lets clients only write; connect with access="write"',
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(security=npipe.Security(read=False))
    await face.connect()


LET_IN = 'its server has to listen with a security that does ("group:NAME", "everyone", a Security)'

AS_NOBODY = """
os.setgroups([])
os.setuid(65534)
try:
    pipe = npipe.connect(sys.argv[1], verify_owner=sys.argv[2] == "True")
except npipe.PipeError as error:
    sys.stdout.buffer.write(pickle.dumps(error))
"""


@case(
    "connect as another user, who may not",
    npipe.PipeAccessError,
    5,
    f"the pipe belongs to USER, and its security does not let this user in; {LET_IN}",
    doing="opening the pipe",
    root_only=True,
)
async def _(face: Face) -> None:
    await face.listen()
    await face.raised_in(face.process(AS_NOBODY, "False"))


@case(
    "connect as another user, where some others may",
    npipe.PipeAccessError,
    5,
    f"the pipe's security does not let this user in; {LET_IN}",
    doing="opening the pipe",
    root_only=True,
)
async def _(face: Face) -> None:
    await face.listen(security=npipe.Security(users=(12345,)))
    await face.raised_in(face.process(AS_NOBODY, "False"))


@case(
    "connect to a stranger's pipe",
    npipe.PipeAccessError,
    5,
    "the pipe belongs to user nobody (uid 65534), not to you or root; connect with verify_owner=False if you trust it",
    doing="opening the pipe",
    root_only=True,
)
async def _(face: Face) -> None:
    server = face.process(
        """
        os.setgroups([])
        os.setuid(65534)
        listener = npipe.listen(sys.argv[1], security="everyone")
        print(flush=True)
        sys.stdin.readline()
        """
    )
    assert server.stdout is not None
    await asyncio.to_thread(server.stdout.readline)
    process = face.process(
        """
        os.setgroups([])
        os.setuid(65533)
        try:
            npipe.connect(sys.argv[1])
        except npipe.PipeError as error:
            sys.stdout.buffer.write(pickle.dumps(error))
        """
    )
    await face.raised_in(process)


# ---- Other machines


@case(
    "connect to another machine's pipe",
    npipe.PipeStateError,
    50,
    r"it is a pipe of away, and npipe connects to pipes of its own machine only; "
    r"if away is this machine, write \\.\pipe\x; else run the client there",
    text="Pipes of other machines are not supported",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    face.name = r"\\away\pipe\x"
    await face.connect()


@case(
    "listen on another machine's name",
    npipe.PipeNameError,
    123,
    r"a server's pipe is on its own machine, and this one names away; write \\.\pipe\x",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    face.name = r"\\away\pipe\x"
    await face.listen()


# ---- Names

_FORM = r"write \\.\pipe\NAME"


def _named(title: str, code: int, reason: str, name: str) -> None:
    async def provoke(face: Face) -> None:
        face.name = name
        await face.connect()

    CASES.append(Case(title, provoke, npipe.PipeNameError, code, reason))


_named("an empty name", 3, f"the name is empty; {_FORM}", "")
_named("a name that is too long", 123, "longer than 256 characters, prefix included; choose a shorter one", "x" * 300)
_named(
    "a name with a line's end",
    123,
    r"it has a control character; if that is meant, write \\?\pipe\NAME",
    "a\nb",
)
_named("the path of a file", 123, f"this is the path of a file; {_FORM}", r"C:\x")
_named("another device", 3, f"this is not the pipe device; {_FORM}", r"\\.\pip\x")
_named("the root of all pipes", 123, f"this is the root of all pipes, not a pipe; {_FORM}", "\\\\.\\pipe\\")


# ---- Creating

SHARE = "or share it: exclusive=False in both"


@case(
    "listen on a name that this process has",
    npipe.PipeAccessError,
    5,
    f"the name is taken: this process has it; close that listener first, choose another name, {SHARE}",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await face.listen()
    await face.listen()


async def _other_owner(face: Face, **options: Any) -> None:
    server = face.process(
        f"""
        listener = npipe.listen(sys.argv[1], **{options!r})
        print(flush=True)
        sys.stdin.readline()
        """
    )
    assert server.stdout is not None
    await asyncio.to_thread(server.stdout.readline)


@case(
    "listen on a name that another process has",
    npipe.PipeAccessError,
    5,
    f"the name is taken: process PID of USER has it; end that process, choose another name, {SHARE}",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await _other_owner(face)
    await face.listen()


@case(
    "serve a name that another process has",
    npipe.PipeAccessError,
    5,
    f"the name is taken: process PID of USER has it; end that process, choose another name, {SHARE}",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await _other_owner(face)
    await face.serve(bytes)


@case(
    "listen at the limit of instances",
    npipe.PipeBusyError,
    231,
    "this process has all the instances that the pipe may have (max_instances: 1); "
    "close one first, or give the first listen a higher max_instances",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await face.listen(max_instances=1, exclusive=False)
    await face.listen(max_instances=1, exclusive=False)


@case(
    "listen at the limit of another process",
    npipe.PipeBusyError,
    231,
    "process PID of USER has all the instances that the pipe may have (max_instances: 1); "
    "choose another name, or have its first server listen with a higher max_instances",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await _other_owner(face, max_instances=1, exclusive=False)
    await face.listen(exclusive=False)


@case(
    "listen with another direction",
    npipe.PipeAccessError,
    5,
    'this process has the name already, with access="inbound", and not "duplex"; listen with access="inbound" too',
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await face.listen(access="inbound", exclusive=False)
    await face.listen(exclusive=False)


@case(
    "listen below a root that others may write to",
    npipe.PipeAccessError,
    5,
    "the root folder ROOT cannot be trusted: it belongs to USER with mode 0777; it has to belong to you or root, and "
    "only they may write to it, or it needs the sticky bit",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    root = Path(os.environ["NPIPE_ROOT"])
    root.mkdir()
    root.chmod(0o777)
    await face.listen()


@case(
    "listen below a root that cannot be made",
    npipe.PipeNameError,
    3,
    "the root folder ROOT cannot be made: No such file or directory; "
    "make the folder that it is in, or set NPIPE_ROOT to another one",
    text="The folder of pipes cannot be made",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    with _root_set_to(os.environ["NPIPE_ROOT"] + "/nowhere/root"):
        await face.listen()


@contextlib.contextmanager
def _root_set_to(path: str) -> Any:
    before = os.environ["NPIPE_ROOT"]
    os.environ["NPIPE_ROOT"] = path
    try:
        yield
    except npipe.PipeError as error:
        if error.detail is not None:
            error.detail = error.detail.replace(path, before)
        raise
    finally:
        os.environ["NPIPE_ROOT"] = before


# ---- Accepting

NO_LISTENER = "The listener is closed"
ACCEPTING = "waiting for a client"


@case(
    "accept, and no client comes",
    npipe.PipeTimeoutError,
    121,
    "no client has come in that time; the pipe goes on listening",
    doing=ACCEPTING,
)
async def _(face: Face) -> None:
    listener = await face.listen()
    await face.do(listener.accept, timeout=SOON)


@case(
    "accept, of a closed listener",
    npipe.PipeClosedError,
    109,
    "it was closed in this process; listen again to go on",
    text=NO_LISTENER,
    doing=ACCEPTING,
)
async def _(face: Face) -> None:
    listener = await face.listen()
    await face.do(listener.close)
    await face.do(listener.accept)


@case(
    "accept, and the listener is closed meanwhile",
    npipe.PipeClosedError,
    109,
    "it was closed in this process; listen again to go on",
    text=NO_LISTENER,
    doing=ACCEPTING,
)
async def _(face: Face) -> None:
    listener = await face.listen()
    await face.while_waiting(listener, listener.accept, listener.close)


# ---- Time-outs of a pipe


@case(
    "recv, and nothing comes",
    npipe.PipeTimeoutError,
    121,
    "nothing was consumed: a message that comes later is there for the next recv",
    doing="receiving a message",
)
async def _(face: Face) -> None:
    _, client = await face.ends()
    await face.do(client.recv, timeout=SOON)


@case(
    "read, and nothing comes",
    npipe.PipeTimeoutError,
    121,
    "nothing was consumed: what comes later is there for the next read",
    doing="reading",
)
async def _(face: Face) -> None:
    _, client = await face.ends("byte")
    await face.do(client.read, 10, timeout=SOON)


@case(
    "send, and nobody reads",
    npipe.PipeTimeoutError,
    121,
    "nothing was sent: the other end has not read enough to make room for it",
    doing="writing",
)
async def _(face: Face) -> None:
    _, client = await face.ends(in_buffer_size=10)
    await face.do(client.send, bytes(10))
    await face.do(client.send, bytes(10), timeout=SOON)


@case(
    "write, and a part of it is read",
    npipe.PipeTimeoutError,
    121,
    "the other end had read 4 of the 30 bytes by then, and keeps them; the rest was withdrawn; write the rest to go on",
    doing="writing",
    faces=("sync",),
)
async def _(face: Face) -> None:
    server, client = await face.ends("byte", in_buffer_size=10)
    began = asyncio.ensure_future(face.do(client.write, bytes(30), timeout=1))
    assert await face.do(server.read, 4, timeout=5) == bytes(4)
    await began


@case(
    "write, and a part of it is read",
    npipe.PipeTimeoutError,
    121,
    "the other end had begun to read it, so it cannot be withdrawn and goes on in the background; "
    "do not write it again",
    doing="writing",
    faces=("aio",),
)
async def _(face: Face) -> None:
    server, client = await face.ends("byte", in_buffer_size=10)
    began = asyncio.ensure_future(face.do(client.write, bytes(30), timeout=1))
    assert await face.do(server.read, 4, timeout=5) == bytes(4)
    await began


@case(
    "flush, and nobody reads",
    npipe.PipeTimeoutError,
    121,
    "the other end has not read everything yet; what was written stays in the pipe for it",
    doing="flushing",
)
async def _(face: Face) -> None:
    _, client = await face.ends()
    await face.do(client.send, b"x")
    await face.do(client.flush, timeout=SOON)


OWED = "recv() the answer, or discard_reply() it, before the next transact, or close the pipe"


@case(
    "transact, and no answer comes",
    npipe.PipeTimeoutError,
    121,
    f"the request was sent, and its answer is still to come; {OWED}",
    doing="transacting",
)
async def _(face: Face) -> None:
    _, client = await face.ends()
    await face.do(client.transact, b"x", timeout=SOON)


@case(
    "transact, on a pipe that is owed an answer",
    npipe.PipeStateError,
    996,
    "an earlier transact sent its request and ended before the answer came: this one would get that answer; " + OWED,
    text="The pipe is owed an answer",
    doing="transacting",
)
async def _(face: Face) -> None:
    _, client = await face.ends()
    with contextlib.suppress(npipe.PipeTimeoutError):
        await face.do(client.transact, b"x", timeout=SOON)
    await face.do(client.transact, b"y", timeout=SOON)


@case(
    "transact, with an unread message",
    npipe.PipeBusyError,
    231,
    "a message is there already, which this transaction would take for its answer; nothing was sent; recv() it first",
    text="The pipe has an unread message",
    doing="transacting",
)
async def _(face: Face) -> None:
    server, client = await face.ends()
    await face.do(server.send, b"news")
    await face.do(client.transact, b"x")


# ---- The other end has gone

READ = "and everything that it wrote has been read"
LOG = "look in the server's log for the reason"
DUE = f"if an answer was due, {LOG}"


def _gone(title: str, code: int, reason: str, doing: str, *, who: str, how: str, kind: Any = None, **more: Any) -> None:
    """Add a case: the end that is not `who` ends, and `who` does something."""
    calls: dict[str, Callable[[Any], Any]] = {
        "receiving a message": lambda pipe: pipe.recv(),
        "writing": lambda pipe: pipe.send(b"x"),
        "transacting": lambda pipe: pipe.transact(b"x"),
        "peeking": lambda pipe: pipe.peek(),
    }

    async def provoke(face: Face) -> None:
        server, client = await face.ends()
        here, there = (server, client) if who == "server" else (client, server)
        await face.do(getattr(there, how))
        await face.do(calls[doing], here)

    CASES.append(Case(title, provoke, kind or npipe.PipeClosedError, code, reason, doing=doing, **more))


_RECEIVING = "receiving a message"
_gone(
    "recv, after the client's close",
    109,
    f"the client has closed its end, {READ}",
    _RECEIVING,
    who="server",
    how="close",
)
_gone(
    "recv, after the server's close",
    109,
    f"the server has closed its end, {READ}; {DUE}",
    _RECEIVING,
    who="client",
    how="close",
)
_gone(
    "recv, after the client's abort",
    109,
    "the client has aborted the connection, and what was unread is lost",
    _RECEIVING,
    who="server",
    how="abort",
)
_gone(
    "recv, after the server's abort",
    233,
    f"the server has disconnected this client, and what was unread is lost; {DUE}",
    _RECEIVING,
    who="client",
    how="abort",
)
_gone(
    "send, after the client's close",
    232,
    "the client has closed its end, so nothing more can be written",
    "writing",
    who="server",
    how="close",
)
_gone(
    "send, after the server's close",
    232,
    "the server has closed its end, so nothing more can be written",
    "writing",
    who="client",
    how="close",
)
_gone(
    "send, after the server's abort",
    233,
    "the server has disconnected this client, and what was unread is lost",
    "writing",
    who="client",
    how="abort",
)
_gone(
    "transact, after the server's close",
    230,
    "the server has closed its end; open a new connection to go on",
    "transacting",
    who="client",
    how="close",
    kind=npipe.PipeModeError,
    text="Nobody is at the other end of the pipe",
)
_gone(
    "peek, after the client's close",
    109,
    f"the client has closed its end, {READ}",
    "peeking",
    who="server",
    how="close",
)


@case(
    "recv, after the server's process was killed",
    npipe.PipeClosedError,
    109,
    f"the server's process has ended without closing its end, {READ}; {DUE}",
    doing="receiving a message",
)
async def _(face: Face) -> None:
    await _killed(face, "recv")


@case(
    "transact, and the server's process is killed",
    npipe.PipeClosedError,
    109,
    f"the server's process has ended without an answer; {LOG}",
    doing="transacting",
)
async def _(face: Face) -> None:
    await _killed(face, "transact", b"x")


async def _killed(face: Face, method: str, *arguments: Any) -> None:
    server = face.process(
        """
        listener = npipe.listen(sys.argv[1])
        print(flush=True)
        pipe = listener.accept()
        sys.stdin.readline()
        """
    )
    assert server.stdout is not None
    await asyncio.to_thread(server.stdout.readline)
    client = await face.connect()
    await face.while_waiting(client, lambda: getattr(client, method)(*arguments), server.kill)


@case(
    "send, and the reader closes meanwhile",
    npipe.PipeClosedError,
    109,
    "the server has closed its end, and not all of it has been read",
    doing="writing",
)
async def _(face: Face) -> None:
    server, client = await face.ends(in_buffer_size=10)
    await face.do(client.send, bytes(10))
    await face.while_waiting(client, lambda: client.send(bytes(10)), server.close)


@case(
    "flush, and the reader closes meanwhile",
    npipe.PipeClosedError,
    109,
    "the server has closed its end, and not all of it has been read",
    doing="flushing",
)
async def _(face: Face) -> None:
    server, client = await face.ends()
    await face.do(client.send, b"x")
    await face.while_waiting(client, client.flush, server.close)


def _fails(request: bytes) -> bytes:
    raise ValueError(f"cannot answer {request!r}")


@case(
    "call, and the handler fails",
    npipe.PipeClosedError,
    109,
    f"the server has closed its end without an answer; {LOG}",
    doing="transacting",
)
async def _(face: Face) -> None:
    await face.serve(_fails)
    await face.do(face.module.call, face.name, b"x")


@case(
    "recv, and the handler fails",
    npipe.PipeClosedError,
    109,
    f"the server has closed its end, {READ}; {DUE}",
    doing="receiving a message",
)
async def _(face: Face) -> None:
    await face.serve(_fails)
    client = await face.connect()
    await face.do(client.send, b"x")
    await face.do(client.recv)


# ---- This end is closed

CLOSED = "it was closed in this process; open a new one to go on"
OBJECT = "The pipe object is closed"


def _closed(title: str, doing: str, call: Callable[[Any], Any], mode: str = "message") -> None:
    async def provoke(face: Face) -> None:
        _, client = await face.ends(mode)
        await face.do(client.close)
        await face.do(call, client)

    CASES.append(Case(title, provoke, npipe.PipeClosedError, 6, CLOSED, text=OBJECT, doing=doing))


_closed("recv, of a closed pipe", "receiving a message", lambda pipe: pipe.recv())
_closed("send, of a closed pipe", "writing", lambda pipe: pipe.send(b"x"))
_closed("transact, of a closed pipe", "transacting", lambda pipe: pipe.transact(b"x"))
_closed("flush, of a closed pipe", "flushing", lambda pipe: pipe.flush())
_closed("peek, of a closed pipe", "peeking", lambda pipe: pipe.peek())
_closed("peer, of a closed pipe", "asking for the peer", lambda pipe: pipe.peer)
_closed("info, of a closed pipe", "asking for the pipe's attributes", lambda pipe: pipe.info)
_closed("read, of a closed pipe", "reading", lambda pipe: pipe.read(1), "byte")


@case("recv, and another closes this end", npipe.PipeClosedError, 109, CLOSED, text=OBJECT, doing="receiving a message")
async def _(face: Face) -> None:
    _, client = await face.ends()
    await face.while_waiting(client, client.recv, client.close)


@case("transact, and another closes this end", npipe.PipeClosedError, 109, CLOSED, text=OBJECT, doing="transacting")
async def _(face: Face) -> None:
    _, client = await face.ends()
    await face.while_waiting(client, lambda: client.transact(b"x"), client.close)


@case("send, and another aborts this end", npipe.PipeClosedError, 109, CLOSED, text=OBJECT, doing="writing")
async def _(face: Face) -> None:
    _, client = await face.ends(in_buffer_size=10)
    await face.do(client.send, bytes(10))
    await face.while_waiting(client, lambda: client.send(bytes(10)), client.abort)


FORKED = "it belongs to the process that this one was forked from"

IN_CHILD = """
import asyncio, inspect
kind, call = sys.argv[2:]
name = sys.argv[1]

async def do(result):
    return await result if inspect.isawaitable(result) else result

async def main():
    module = npipe if kind == "sync" else npipe.aio
    listener = module.listen(name)
    client = await do(module.connect(name))
    server = await do(listener.accept(timeout=5))
    if os.fork() == 0:
        signal.alarm(10)
        try:
            await do(eval(call))
        except npipe.PipeError as error:
            sys.stdout.buffer.write(pickle.dumps(error))
            sys.stdout.flush()
        os._exit(0)
    os.wait()
    os._exit(0)

asyncio.run(main())
"""


def _forked(title: str, code: int, call: str, doing: str, cure: str, text: str = OBJECT) -> None:
    async def provoke(face: Face) -> None:
        await face.raised_in(face.process(IN_CHILD, face.kind, call))

    CASES.append(Case(title, provoke, npipe.PipeClosedError, code, f"{FORKED}; {cure}", text=text, doing=doing))


HERE = "open one of its own here: a connection does not go on in a forked child"
_forked("recv, in a forked child", 6, "client.recv(timeout=1)", "receiving a message", HERE)
_forked("send, in a forked child", 6, "client.send(b'x', timeout=1)", "writing", HERE)
_forked("transact, in a forked child", 6, "client.transact(b'x', timeout=1)", "transacting", HERE)
_forked(
    "accept, in a forked child",
    109,
    "listener.accept(timeout=1)",
    ACCEPTING,
    "listen here: a listener does not go on in a forked child",
    NO_LISTENER,
)


# ---- What this end may not do

ONE_WAY = {
    "inbound": "its client can write, and its server read",
    "outbound": "its client can read, and its server write",
}


def _denied(
    title: str, doing: str, what: str, reason: str, call: Callable[[Any], Any], *, who: str, direction: str, access: str
) -> None:
    async def provoke(face: Face) -> None:
        listener = await face.listen(access=direction)
        client = await face.connect(access=access)
        server = face._close_later(await face.do(listener.accept, timeout=5))
        await face.do(call, server if who == "server" else client)

    text = f"This end of the pipe may not {what}"
    CASES.append(Case(title, provoke, npipe.PipeAccessError, 5, reason, text=text, doing=doing))


_denied(
    "send, opened for reading",
    "writing",
    "write",
    'it was opened with access="read", and may only read; connect with access="duplex"',
    lambda pipe: pipe.send(b"x"),
    who="client",
    direction="duplex",
    access="read",
)
_denied(
    "recv, opened for writing",
    "receiving a message",
    "read",
    'it was opened with access="write", and may only write; connect with access="duplex"',
    lambda pipe: pipe.recv(),
    who="client",
    direction="duplex",
    access="write",
)
_denied(
    "transact, opened for reading",
    "transacting",
    "read and write",
    'it was opened with access="read", and may only read; connect with access="duplex"',
    lambda pipe: pipe.transact(b"x"),
    who="client",
    direction="duplex",
    access="read",
)
_denied(
    "recv, of an inbound pipe's client",
    "receiving a message",
    "read",
    'the pipe is inbound: its client can write, and its server read; its server has to listen with access="duplex"',
    lambda pipe: pipe.recv(),
    who="client",
    direction="inbound",
    access="write",
)
_denied(
    "send, of an inbound pipe's server",
    "writing",
    "write",
    'the pipe is inbound: its server can read, and its client write; listen with access="duplex"',
    lambda pipe: pipe.send(b"x"),
    who="server",
    direction="inbound",
    access="write",
)
_denied(
    "recv, of an outbound pipe's server",
    "receiving a message",
    "read",
    'the pipe is outbound: its server can write, and its client read; listen with access="duplex"',
    lambda pipe: pipe.recv(),
    who="server",
    direction="outbound",
    access="read",
)
_denied(
    "flush, opened for reading",
    "flushing",
    "write",
    'it was opened with access="read", and may only read; connect with access="duplex"',
    lambda pipe: pipe.flush(),
    who="client",
    direction="duplex",
    access="read",
)
_denied(
    "peek, opened for writing",
    "peeking",
    "read",
    'it was opened with access="write", and may only write; connect with access="duplex"',
    lambda pipe: pipe.peek(),
    who="client",
    direction="duplex",
    access="write",
)


# ---- Sizes, and the rest

TOO_LARGE = "The message is too large"


@case(
    "recv, of more than max_message_size",
    npipe.PipeMessageTooLargeError,
    234,
    "it has 100 bytes, more than max_message_size, 10 bytes, and stays in the pipe; "
    "set pipe.max_message_size higher, or read it in parts with recv_into",
    text=TOO_LARGE,
    doing="receiving a message",
)
async def _(face: Face) -> None:
    server, client = await face.ends()
    client.max_message_size = 10
    await face.do(server.send, bytes(100))
    await face.do(client.recv)


@case(
    "recv_into with exact, into too small a buffer",
    npipe.PipeMessageTooLargeError,
    234,
    "it is longer than the buffer, which has 10 bytes; nothing was consumed; give a larger buffer (peek().left is the "
    "message's length), or read it in parts, without exact",
    text=TOO_LARGE,
    doing="receiving a message",
)
async def _(face: Face) -> None:
    server, client = await face.ends()
    await face.do(server.send, bytes(100))
    await face.do(client.recv_into, bytearray(10), exact=True)


@case(
    "a second task reads",
    npipe.PipeStateError,
    170,
    "another task is reading from this pipe already, and only one may at a time; "
    "let one task read, and hand on what it gets",
    text="The pipe is being read",
    doing="reading",
    faces=("aio",),
)
async def _(face: Face) -> None:
    _, client = await face.ends()
    first = asyncio.ensure_future(client.recv())
    await asyncio.sleep(0)
    try:
        await client.recv()
    finally:
        first.cancel()


@case(
    "fileno, on an event loop",
    npipe.PipeStateError,
    50,
    "a pipe of npipe.aio has none, as its event loop waits for it; npipe.Pipe.fileno() is for select, and a pipe of "
    "npipe is no file that a child process can have as its own; give the child subprocess.PIPE and copy, or let it "
    "open the pipe by its name (npipe.connect)",
    doing="asking for a descriptor",
    faces=("aio",),
)
async def _(face: Face) -> None:
    _, client = await face.ends()
    client.fileno()


# ---- Other versions, nonsense, and too little of everything


async def _answered(face: Face, message: bytes) -> None:
    """Connect to an owner that answers that, whatever it was asked."""
    with rendezvous.own(parse_name(face.name).path) as owner:
        told = asyncio.ensure_future(asyncio.to_thread(owner.answer, message))
        try:
            await face.connect()
        finally:
            await told


@case(
    "connect to a server of another version",
    npipe.PipeVersionError,
    1306,
    "the server speaks version 2 of npipe's protocol, this process version 1; "
    "install the same version of npipe on both sides",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await _answered(face, rendezvous.answer(1306, version=2))


@case(
    "connect to a server that talks nonsense",
    npipe.PipeProtocolError,
    13,
    "the server's answer makes no sense; the connection was ended and no data of it can be trusted; connect again",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await _answered(face, b"hello")


WITHOUT_DESCRIPTORS = """
import asyncio, inspect, resource

async def main():
    module = npipe if sys.argv[2] == "sync" else npipe.aio
    try:
        limit = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        made = module.connect(sys.argv[1])
        await made if inspect.isawaitable(made) else made
    except npipe.PipeError as error:
        sys.stdout.buffer.write(pickle.dumps(error))

asyncio.run(main())
"""


@case(
    "connect, without a descriptor left",
    npipe.PipeResourceError,
    4,
    "close connections that are no longer needed, or raise the limit (ulimit -n)",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen()
    await face.raised_in(face.process(WITHOUT_DESCRIPTORS, face.kind))


def _argument(title: str, reason: str, *, listens: bool = False, **options: Any) -> None:
    async def provoke(face: Face) -> None:
        await (face.listen(**options) if listens else face.connect(**options))

    CASES.append(Case(title, provoke, npipe.PipeArgumentError, 87, reason))


_argument("an unknown mode", 'mode is "message" or "byte", not \'text\'', mode="text")
_argument("a negative time-out", "a timeout is 0 or more seconds, not -1.0", timeout=-1)
_argument(
    "an unknown access",
    'access is one of "duplex", "read", "write", "none", "inbound", "outbound", not \'all\'',
    access="all",
)
_argument("no instances at all", "max_instances is 1 to 254, not 0", listens=True, max_instances=0)
_argument(
    "an unknown security",
    'security is "owner", "group:NAME", "everyone" or a Security, not \'me\'',
    listens=True,
    security="me",
)


# ---- What is raised


async def raised(one: Case, kind: str, name: str) -> npipe.PipeError:
    """Provoke one error, and return it."""
    async with Face(kind, name) as face:
        try:
            await asyncio.wait_for(one.provoke(face), 20)
        except npipe.PipeError as error:
            return error
    raise AssertionError(f"{one.title}: nothing was raised")


def provoke(one: Case, kind: str, name: str) -> npipe.PipeError:
    """Provoke one error on an event loop of its own, and return it."""
    return asyncio.run(raised(one, kind, name))


def shown(error: npipe.PipeError) -> str:
    """Return an error's text, with words in capitals for what differs from run to run."""
    text = str(error)
    if error.pipe_name is not None:
        for name in (f"'{error.pipe_name}'", errors._shown(error.pipe_name)):
            text = text.replace(name, "'NAME'")
    who = os.geteuid()
    user = f"user {pwd.getpwuid(who).pw_name} (uid {who})"
    text = text.replace(os.environ["NPIPE_ROOT"], "ROOT").replace(user, "USER")
    return re.sub(r"process \d+", "process PID", text)


FACES = ("sync", "aio")


def main() -> None:
    """Print everything."""
    logging.disable()
    for number, one in enumerate(CASES):
        for kind in one.faces:
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder, "root")
                root.parent.chmod(0o711)
                os.environ["NPIPE_ROOT"] = str(root)
                if one.root_only:
                    root.mkdir()
                    root.chmod(0o1777)
                print(f"--- {one.title} [{kind}]", flush=True)
                try:
                    error = provoke(one, kind, f"case-{number}")
                except BaseException as other:
                    print(f"    !!! {type(other).__name__}: {other}")
                    continue
                said = shown(error)
                wrong = type(error) is not one.kind or said != expected_of(one, error)
                print(f"    {type(error).__name__} {said}" + ("   <<<<<<" if wrong else ""))


def expected_of(one: Case, error: npipe.PipeError) -> str:
    """Return what the text of this case's error is to be."""
    words = one.text or errors.error_from_code(one.code).strerror
    name = "" if error.pipe_name is None else ": 'NAME'"
    doing = "" if one.doing is None else f", while {one.doing}"
    if one.kind is npipe.PipeNameError:
        return f"[WinError {one.code}] {words} ({one.reason}){name}{doing}"
    return f"[WinError {one.code}] {words}{name}{doing} ({one.reason})"


if __name__ == "__main__":
    main()
