"""What is known of an error beyond its code: which of its causes it was, at which end, and what to do about it.

One function for each cause, for all that carries a pipe. They return the exception, and do not raise it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from npipe.errors import (
    PipeAccessError,
    PipeArgumentError,
    PipeBusyError,
    PipeClosedError,
    PipeError,
    PipeMessageTooLargeError,
    PipeModeError,
    PipeNameError,
    PipeStateError,
    PipeTimeoutError,
    PipeViewError,
    WinError,
    error_from_code,
)

__all__ = [
    "CLOSED_HERE",
    "NOT_ACROSS_FORK",
    "End",
    "PeerEnd",
    "another_machine",
    "being_read",
    "being_read_elsewhere",
    "call_timed_out",
    "closed_by_fork",
    "closed_here",
    "denied",
    "ended",
    "ended_badly",
    "explain",
    "goes_on",
    "listener_closed",
    "no_messages",
    "no_remote_here",
    "no_smb",
    "not_carried",
    "not_counted",
    "not_on_a_loop",
    "not_traced",
    "other_loop",
    "partly_read",
    "server_elsewhere",
    "still_exported",
    "still_reserved",
    "still_viewed",
    "too_large",
    "unread",
]

CLOSED_HERE: Final = "it was closed in this process"

NOT_ACROSS_FORK: Final = "it belongs to the process that this one was forked from"


class PeerEnd(IntEnum):
    """How the other end of a connection has ended, as the engine knows it."""

    UNKNOWN = 0
    OPEN = 1
    CLOSED = 2
    DISCONNECTED = 3
    ABORTED = 4
    DIED = 5


def closed_here(name: str, doing: str | None, *, code: int = WinError.BROKEN_PIPE) -> PipeClosedError:
    """Return the error of a call whose pipe was closed at this end: 109 if meanwhile, 6 if before."""
    return PipeClosedError(
        code, name, doing, CLOSED_HERE, text="The pipe object is closed", hint="open a new one to go on"
    )


def closed_by_fork(name: str, doing: str | None, *, code: int = WinError.INVALID_HANDLE) -> PipeClosedError:
    """Return the error of a call on what the parent of this process has opened."""
    hint = "open one of its own here: a connection does not go on in a forked child"
    return PipeClosedError(code, name, doing, NOT_ACROSS_FORK, text="The pipe object is closed", hint=hint)


def listener_closed(name: str, *, forked: bool = False) -> PipeClosedError:
    """Return the error of an accept on a listener that is closed: 109."""
    doing, text = "waiting for a client", "The listener is closed"
    if forked:
        hint = "listen here: a listener does not go on in a forked child"
        return PipeClosedError(WinError.BROKEN_PIPE, name, doing, NOT_ACROSS_FORK, text=text, hint=hint)
    return PipeClosedError(WinError.BROKEN_PIPE, name, doing, CLOSED_HERE, text=text, hint="listen again to go on")


def ended(code: int, name: str, doing: str, *, is_server: bool, how: int = PeerEnd.UNKNOWN) -> PipeError:
    """Return the error of a call that the peer has ended: 109, 232, 233, or 230 of a transaction or a look."""
    who, owner = ("the client", "the client's") if is_server else ("the server", "the server's")
    asks, reads = doing == "transacting", doing in ("reading", "receiving a message", "peeking")
    lost = how in (PeerEnd.ABORTED, PeerEnd.DISCONNECTED) or code == WinError.PIPE_NOT_CONNECTED
    if how == PeerEnd.DIED:
        detail = f"{owner} process has ended" + ("" if asks else " without closing its end")
    elif how == PeerEnd.ABORTED:
        detail = f"{who} has aborted the connection"
    elif how == PeerEnd.DISCONNECTED or code == WinError.PIPE_NOT_CONNECTED:
        detail = "this end has disconnected the client" if is_server else "the server has disconnected this client"
    elif how == PeerEnd.CLOSED:
        detail = f"{who} has closed its end"
    else:
        detail = f"{owner} end is closed"
    hint = ""
    if code == WinError.BAD_PIPE:
        text = "Nobody is at the other end of the pipe"
        return PipeModeError(code, name, doing, detail, text=text, hint="open a new connection to go on")
    if code == WinError.NO_DATA:
        detail += ", so nothing more can be written"
    elif asks:
        detail += " without an answer"
    elif lost:
        detail += ", and what was unread is lost"
    elif reads:
        detail += ", and everything that it wrote has been read"
    else:
        detail += ", and not all of it has been read"
    if not is_server and (asks or reads):
        # A client is not told whether the handler has failed. The servers of npipe log it.
        hint = "look in the server's log for the reason"
        if not asks:
            hint = f"if an answer was due, {hint}"
    error = PipeClosedError(code, name, doing, detail, hint=hint)
    error.peer_end = how
    return error


_BAD_ENDS: Final = (PeerEnd.DISCONNECTED, PeerEnd.ABORTED, PeerEnd.DIED)
_BAD_CODES: Final = (WinError.PIPE_NOT_CONNECTED, WinError.NETNAME_DELETED)


def ended_badly(error: PipeClosedError) -> bool:
    """Whether the connection has ended otherwise than by a close of the peer's, so that something may be lost."""
    return error.winerror in _BAD_CODES or error.peer_end in _BAD_ENDS


_MAY: Final = {0: "neither read nor write", 1: "only read", 2: "only write", 3: "read and write"}
_CLIENT_MAY: Final = {1: 2, 2: 1, 3: 3}
_OPENED: Final = {0: "none", 1: "read", 2: "write", 3: "duplex"}


def denied(name: str, doing: str, *, is_server: bool, direction: int, access: int) -> PipeAccessError:
    """Return the error (5) of a call that this end may not make; the numbers are PIPE_ACCESS_* and ACCESS_*."""
    both = doing == "transacting"
    writes = doing in ("writing", "flushing")
    text = f"This end of the pipe may not {'read and write' if both else 'write' if writes else 'read'}"
    needs = 3 if both else 2 if writes else 1
    if not needs & ~(direction if is_server else _CLIENT_MAY[direction]):
        detail = f'it was opened with access="{_OPENED[access]}", and may {_MAY[access]}'
        wanted = "duplex" if access else _OPENED[needs]
        hint = f'connect with access="{wanted}"'
    else:
        inbound = direction == 1
        here, there = ("server", "client") if is_server else ("client", "server")
        detail = f"the pipe is {'inbound' if inbound else 'outbound'}: its {here} can "
        detail += f"{'read' if inbound == is_server else 'write'}, and its {there} "
        detail += f"{'write' if inbound == is_server else 'read'}"
        hint = 'listen with access="duplex"' if is_server else 'its server has to listen with access="duplex"'
    return PipeAccessError(WinError.ACCESS_DENIED, name, doing, detail, text=text, hint=hint)


class End(NamedTuple):
    """What an end of a connection knows of itself."""

    is_server: bool
    direction: int
    """PIPE_ACCESS_*."""
    access: int
    """ACCESS_*."""


_ENDED: Final = (WinError.BROKEN_PIPE, WinError.NO_DATA, WinError.PIPE_NOT_CONNECTED, WinError.BAD_PIPE)


def explain(code: int, name: str, doing: str | None, end: End | None) -> PipeError:
    """Return the error of a call that has failed at `end`, where nothing but the code tells why (None: no end yet)."""
    if end is None or doing is None:
        return error_from_code(code, name, doing)
    if code == WinError.ACCESS_DENIED:
        return denied(name, doing, is_server=end.is_server, direction=end.direction, access=end.access)
    if code in _ENDED:
        return ended(code, name, doing, is_server=end.is_server)
    if code == WinError.PIPE_BUSY and doing == "transacting":
        return unread(name)
    return error_from_code(code, name, doing)


def unread(name: str) -> PipeBusyError:
    """Return the error (231) of a transaction on a pipe that has something to read."""
    return PipeBusyError(
        WinError.PIPE_BUSY,
        name,
        "transacting",
        "a message is there already, which this transaction would take for its answer; nothing was sent",
        text="The pipe has an unread message",
        hint="recv() it first",
    )


def call_timed_out(name: str, *, sent: bool) -> PipeTimeoutError:
    """Return the error (121) of a call whose answer has not come in time, and whose connection is closed by now."""
    detail = "the request was sent, and no answer came in that time; the connection is closed, so it comes to nobody"
    if not sent:
        detail = "the server did not take all of the request in that time; the connection is closed"
    error = PipeTimeoutError(WinError.SEM_TIMEOUT, name, "calling the pipe", detail, hint="wait longer (timeout=)")
    error.sent = sent
    return error


def being_read_elsewhere(name: str) -> PipeBusyError:
    """Return the error (231) of a transaction while another thread reads: that read would get the answer."""
    detail = "another thread reads from it, and would get the answer; nothing was sent"
    hint = "let one thread read and transact, or open a connection for each"
    return PipeBusyError(WinError.PIPE_BUSY, name, "transacting", detail, text="The pipe is being read", hint=hint)


def too_large(name: str, limit: int, size: int | None = None) -> PipeMessageTooLargeError:
    """Return the error (234) of a message that is longer than max_message_size."""
    what = "it is longer" if size is None else f"it has {size} bytes, more"
    detail = f"{what} than max_message_size, {limit} bytes, and stays in the pipe"
    hint = "set pipe.max_message_size higher, or read it in parts with recv_into"
    text = "The message is too large"
    return PipeMessageTooLargeError(WinError.MORE_DATA, name, "receiving a message", detail, text=text, hint=hint)


def not_carried(name: str) -> PipeArgumentError:
    """Return the error (87) of a message to a client of another machine that nothing carries there."""
    detail = "Samba carries messages of 1 to 65535 bytes to a client of another machine: none that is empty or longer"
    hint = "send it in parts, or listen in byte mode"
    return PipeArgumentError(WinError.INVALID_PARAMETER, name, "writing", detail, hint=hint)


def no_messages(name: str, doing: str, hint: str = 'connect with mode="byte"') -> PipeModeError:
    """Return the error (87) of message mode on a pipe of byte type."""
    return PipeModeError(
        WinError.INVALID_PARAMETER,
        name,
        doing,
        "its server has made it a pipe of byte type",
        text="The pipe carries bytes, not messages",
        hint=hint,
    )


def another_machine(path: str, host: str, own: str) -> PipeStateError:
    """Return the error (50) of what only this machine's pipes have; `own` is this machine's of that name."""
    return PipeStateError(
        WinError.NOT_SUPPORTED,
        path,
        "opening the pipe",
        f"it is a pipe of {host}, and this is for pipes of this machine only",
        text="The pipe is another machine's",
        hint=f"if {host} is this machine, write {own}",
    )


def no_smb(path: str, host: str) -> PipeStateError:
    """Return the error (50) of a pipe of another machine where the extra is not installed."""
    return PipeStateError(
        WinError.NOT_SUPPORTED,
        path,
        "opening the pipe",
        f"it is a pipe of {host}, and those need smbprotocol, which is not installed",
        text="Pipes of other machines need an extra",
        hint="pip install 'npipe[smb]'",
    )


def not_counted(name: str | None, doing: str) -> PipeStateError:
    """Return the error (50) of a question for counts where nobody counts."""
    return PipeStateError(
        WinError.NOT_SUPPORTED,
        name,
        doing,
        "what a pipe moves is counted by npipe's own engine, and this pipe is the system's, or another machine's",
        text="Nobody counts what this pipe moves",
        hint="count in the program, or ask on Linux",
    )


def not_traced(name: str, code: int, *, forbidden: bool = False) -> PipeError:
    """Return the error of a trace that a server refuses, or that finds no server; `forbidden`: to everybody."""
    detail, hint = _NOT_TRACED.get(code, (None, None))
    if code == WinError.ACCESS_DENIED and forbidden:
        detail = "its server has said traceable=False, and nobody can trace it"
        hint = "have it listen without that, or start its process with NPIPE_TRACE=FILE"
    if code == WinError.INVALID_FUNCTION:  # of the rendezvous: it does not know the question
        code = WinError.NOT_SUPPORTED
    return error_from_code(code, name, "tracing", detail, hint)


_NOT_TRACED: Final[dict[int, tuple[str, str]]] = {
    WinError.FILE_NOT_FOUND: (
        "no process has an instance of it now",
        "start its server first, or wait for it: npipe trace --follow",
    ),
    WinError.ACCESS_DENIED: ("a pipe is traced by its server's user and by root alone", "trace it as that user"),
    WinError.PIPE_BUSY: ("four trace it already, which is as many as can", "end one of them"),
    WinError.SEM_TIMEOUT: (
        "its server's process does not answer: it is stopped, or very busy",
        "see what it does, and let it go on",
    ),
    WinError.INVALID_FUNCTION: (
        "its server has an npipe that is older than tracing",
        "start the server anew with a newer one",
    ),
    WinError.INVALID_DATA: (
        "what the server answers makes no sense",
        "see what serves the pipe: npipe ls -l",
    ),
}


def no_remote_here(path: str | None) -> PipeArgumentError:
    """Return the error (87) of a Remote for a pipe of this machine."""
    detail = "remote= says who to be on another machine, and this is a pipe of this one"
    hint = r"write \\HOST\pipe\NAME, or leave remote out"
    return PipeArgumentError(WinError.INVALID_PARAMETER, path, "opening the pipe", detail, hint=hint)


def server_elsewhere(path: str, host: str, own: str) -> PipeNameError:
    """Return the error (123) of a server that names a pipe of another machine."""
    detail = f"a server's pipe is on its own machine, and this one names {host}"
    return PipeNameError(WinError.INVALID_NAME, path, "creating an instance", detail, hint=f"write {own}")


def partly_read(name: str, count: int, size: int) -> PipeTimeoutError:
    """Return the error (121) of a write of which the peer had read a part: the rest was withdrawn."""
    detail = f"the other end had read {count} of the {size} bytes by then, and keeps them; the rest was withdrawn"
    return PipeTimeoutError(WinError.SEM_TIMEOUT, name, "writing", detail, hint="write the rest to go on")


def goes_on(name: str) -> PipeTimeoutError:
    """Return the error (121) of a write of which the peer had read a part, and which goes on by itself."""
    detail = "the other end had begun to read it, so it cannot be withdrawn and goes on in the background"
    return PipeTimeoutError(WinError.SEM_TIMEOUT, name, "writing", detail, hint="do not write it again")


def being_read(name: str) -> PipeStateError:
    """Return the error (170) of a second reader of a pipe of an event loop."""
    detail = "another task is reading from this pipe already, and only one may at a time"
    hint = "let one task read, and hand on what it gets"
    return PipeStateError(WinError.BUSY, name, "reading", detail, hint=hint, text="The pipe is being read")


def still_reserved(name: str, doing: str) -> PipeStateError:
    """Return the error of a write by a thread or task that has a reservation out: 170."""
    detail = "a reservation of this thread or task is still out, and what comes later stands behind it"
    return PipeStateError(WinError.BUSY, name, doing, detail, hint="end the block of reserve() first")


def still_viewed(name: str, doing: str) -> PipeStateError:
    """Return the error of a read by a thread or task that has a view out: 170."""
    detail = "a view of this thread or task is still out, and the next message comes behind it"
    return PipeStateError(WinError.BUSY, name, doing, detail, hint="end the block of recv_view() first")


def still_exported(name: str, *, writes: bool) -> PipeViewError:
    """Return the error of a block that has ended while something looks at its bytes: 1224."""
    what = "nothing was sent" if writes else "the message is consumed"
    detail = f"{what}, and who still looks at the bytes has a copy of its own now"
    return PipeViewError(WinError.USER_MAPPED_FILE, name, "ending the view", detail)


def other_loop(name: str, doing: str | None) -> PipeStateError:
    """Return the error (50) of a call from an event loop that is not the pipe's or the listener's."""
    detail = "it belongs to the event loop on which it was opened, and that is not the one that runs here"
    text, hint = "The pipe is another event loop's", "open it in the loop (asyncio.run, say) that uses it"
    return PipeStateError(WinError.NOT_SUPPORTED, name, doing, detail, text=text, hint=hint)


def not_on_a_loop() -> RuntimeError:
    """Return the error of a call that takes a running event loop, where none runs."""
    return RuntimeError("no event loop is running: call npipe.aio from a coroutine (asyncio.run), or use npipe itself")
