"""Errors of listeners and of pipes that are open."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import npipe
import npipe.aio

if TYPE_CHECKING:
    from collections.abc import Callable

from tests.faces.error_table import CASES, SOON, Case, Face, case

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
    await face.while_waiting(listener.accept, listener.close)


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
    "call, and no answer comes",
    npipe.PipeTimeoutError,
    121,
    "the request was sent, and no answer came in that time; the connection is closed, so it comes to nobody; "
    "wait longer (timeout=)",
    doing="calling the pipe",
)
async def _(face: Face) -> None:
    _, client = await face.ends()
    with contextlib.suppress(npipe.PipeClosedError):
        await face.do(client.close)
    await face.do(face.module.call, face.name, b"x", timeout=SOON)


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
    await face.while_waiting(lambda: getattr(client, method)(*arguments), server.kill)


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
    await face.while_waiting(lambda: client.send(bytes(10)), server.close)


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
    await face.while_waiting(client.flush, server.close)


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
    await face.while_waiting(client.recv, client.close)


@case("transact, and another closes this end", npipe.PipeClosedError, 109, CLOSED, text=OBJECT, doing="transacting")
async def _(face: Face) -> None:
    _, client = await face.ends()
    await face.while_waiting(lambda: client.transact(b"x"), client.close)


@case("send, and another aborts this end", npipe.PipeClosedError, 109, CLOSED, text=OBJECT, doing="writing")
async def _(face: Face) -> None:
    _, client = await face.ends(in_buffer_size=10)
    await face.do(client.send, bytes(10))
    await face.while_waiting(lambda: client.send(bytes(10)), client.abort)


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


OTHER_LOOP = "it belongs to the event loop on which it was opened, and that is not the one that runs here"


@case(
    "send, on another event loop",
    npipe.PipeStateError,
    50,
    f"{OTHER_LOOP}; open it in the loop (asyncio.run, say) that uses it",
    text="The pipe is another event loop's",
    doing="writing",
    faces=("aio",),
)
async def _(face: Face) -> None:
    _, pipe = await face.ends()

    async def send() -> None:
        await pipe.send(b"x")

    await asyncio.to_thread(lambda: asyncio.run(send()))


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


@case(
    "an array outlives the block of recv_view",
    npipe.PipeViewError,
    1224,
    "the message is consumed, and who still looks at the bytes has a copy of its own now; "
    "delete arrays and slices of it (del array) before the end of the block, or copy what is to last",
    doing="ending the view",
)
async def _(face: Face) -> None:
    server, client = await face.ends()
    await face.do(server.send, b"message")
    if face.kind == "sync":
        with client.recv_view(timeout=5) as view:
            kept = memoryview(view)
    else:
        async with client.recv_view(timeout=5) as view:
            kept = memoryview(view)
    assert kept  # not reached


@case(
    "an array outlives the block of reserve",
    npipe.PipeViewError,
    1224,
    "nothing was sent, and who still looks at the bytes has a copy of its own now; "
    "delete arrays and slices of it (del array) before the end of the block, or copy what is to last",
    doing="ending the view",
)
async def _(face: Face) -> None:
    _, client = await face.ends()
    if face.kind == "sync":
        with client.reserve(10) as view:
            kept = memoryview(view)
    else:
        async with client.reserve(10) as view:
            kept = memoryview(view)
    assert kept  # not reached


@case(
    "send, in the block of a reservation",
    npipe.PipeStateError,
    170,
    "a reservation of this thread or task is still out, and what comes later stands behind it; "
    "end the block of reserve() first",
    doing="writing",
)
async def _(face: Face) -> None:
    _, client = await face.ends()
    if face.kind == "sync":
        with client.reserve(10):
            client.send(b"message")
    else:
        async with client.reserve(10):
            await client.send(b"message")


@case(
    "recv, in the block of a view",
    npipe.PipeStateError,
    170,
    "a view of this thread or task is still out, and the next message comes behind it; "
    "end the block of recv_view() first",
    doing="receiving a message",
    faces=("sync",),
)
async def _(face: Face) -> None:
    server, client = await face.ends()
    await face.do(server.send, b"message")
    with client.recv_view(timeout=5):
        client.recv()
