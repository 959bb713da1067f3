"""A client's functions: connect, call, wait, list_pipes, root."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal, Unpack, overload

from npipe._buffers import content_of
from npipe.arrival import when_there
from npipe.errors import PipeBusyError, PipeTimeoutError, WinError
from npipe.names import parse_name
from npipe.observing import active, observed, waiting
from npipe.options import (
    Access,
    ConnectOptions,
    Mode,
    PipeListing,
    check_timeout,
    client_access,
    deadline_of,
    flag,
    is_message_mode,
    message_limit,
    time_left,
)
from npipe.reasons import call_timed_out
from npipe.remote import Remote, check_remote
from npipe.transports import default, lister, select

if TYPE_CHECKING:
    import os

    from npipe._buffers import ReadableBuffer
    from npipe.pipe import MessagePipe, StreamPipe

__all__ = ["call", "connect", "list_pipes", "root", "wait"]


@overload
def connect(
    name: str | os.PathLike[str], *, mode: Literal["message"] = "message", **options: Unpack[ConnectOptions]
) -> MessagePipe: ...
@overload
def connect(
    name: str | os.PathLike[str], *, mode: Literal["byte"], **options: Unpack[ConnectOptions]
) -> StreamPipe: ...
@overload
def connect(
    name: str | os.PathLike[str], *, mode: Mode, **options: Unpack[ConnectOptions]
) -> MessagePipe | StreamPipe: ...
def connect(
    name: str | os.PathLike[str],
    *,
    mode: Mode = "message",
    access: Access = "duplex",
    timeout: float | None = 20.0,
    verify_owner: bool = True,
    wait_for_server: bool = False,
    max_message_size: int | None = None,
    remote: Remote | None = None,
) -> MessagePipe | StreamPipe:
    r"""Wait for an instance of a pipe and open it, as one step: who has waited longest comes first.

    It returns when the server has an instance for it, which need not have been accepted yet. Follows CreateFile and
    WaitNamedPipe, SEMANTICS §2.5 and §4.

    Args:
        name: `\\.\pipe\NAME` in any of its forms, or the bare NAME; `\\HOST\pipe\NAME` for another machine's.
        mode: "message" opens a message pipe and reads messages (MessagePipe); "byte" reads any pipe, also a message
            pipe, as a stream of bytes (StreamPipe).
        access: "duplex", "read", "write" or "none"; "inbound" and "outbound" mean what a client of such a pipe does.
        timeout: seconds to wait while all instances are busy, or the server does not answer; None is for ever, and 0
            not at all (a server that is stopped is then given up after a second). The server's `default_timeout` does
            not count here.
        verify_owner: talk only to a server of this user or of root.
        wait_for_server: wait, in the same `timeout`, for a pipe that is not there too, as the programs of a system
            start in whatever order. The folder of pipes tells when it comes (on Windows, where nothing does, it is
            looked for every 50 ms). The root is the one at the time of the call, and need not exist yet.
        max_message_size: bytes of the longest message that `recv` and `transact` take (the pipe's attribute of that
            name); None is 2**32 - 1, Win32's limit, and 64 MiB without `verify_owner`, where the server may be
            anybody's, and for another machine's pipe: what a peer sends is memory that this process needs.
        remote: who to be on another machine (npipe.Remote); None is what npipe.remote.configure() was told for the
            host, what the environment says, or a ticket of Kerberos. See docs/remote.md.

    Returns:
        A MessagePipe, or with mode="byte" a StreamPipe.

    Raises:
        PipeNotFoundError: there is no such pipe (2), or its host cannot be reached (53); with `wait_for_server` only if
            `timeout` is 0.
        PipeTimeoutError: all instances stayed busy, the server did not answer, or none came (121).
        PipeBusyError: all instances are busy, and `timeout` is 0 (231).
        PipeAccessError: the access rule or the direction does not allow it, or the owner is another user (5); the host
            does not accept the user (1326).
        PipeModeError: the pipe is of bytes, and `mode` "message" (87): say mode="byte".
        PipeNameError: the name is none (123, 3).
        PipeArgumentError: a word is not known, or a time-out below 0 (87).
        PipeStateError: of another machine's pipe: the extra `smb` is not installed, there are no credentials, or the
            host cannot do what `remote` demands (50).
        PipeVersionError: the server speaks another version of the protocol (1306).
        PipeResourceError: no descriptors or memory, here or, with the reason, at the server (4, 8, 1450); with
            `wait_for_server` also a limit of inotify's, of which each process that waits so has one instance:
            fs.inotify.max_user_instances, usually 128 for each user.
    """
    parsed = parse_name(name)
    message_mode, wanted, seconds = is_message_mode(mode), client_access(access), check_timeout(timeout)
    is_stranger = not flag(verify_owner, "verify_owner") or parsed.host is not None
    limit = message_limit(max_message_size, stranger=is_stranger)
    waits = flag(wait_for_server, "wait_for_server")
    transport = select(parsed, check_remote(remote))

    def attempt(left: float | None) -> MessagePipe | StreamPipe:
        pipe = transport.connect(
            parsed, message_mode=message_mode, access=wanted, timeout=left, verify_owner=verify_owner
        )
        if message_mode:
            pipe.max_message_size = limit  # type: ignore[union-attr]  # the mode has decided which
        return pipe

    def work() -> MessagePipe | StreamPipe:
        if waits:
            return when_there(transport, parsed, seconds, "waiting for the pipe's server", attempt)
        return attempt(seconds)

    return observed(parsed.path, work) if active() else work()


def call(
    name: str | os.PathLike[str],
    data: ReadableBuffer,
    *,
    timeout: float | None = 20.0,
    verify_owner: bool = True,
    remote: Remote | None = None,
) -> bytes:
    """Connect to the message pipe `name`, send `data`, return the one message that answers, and close.

    `timeout` in seconds (20, as connect's; None: for ever) bounds all of it; unlike CallNamedPipe's, also the wait for
    the answer. `verify_owner` and `remote` are connect's. Follows CallNamedPipe, SEMANTICS §8.3.

    Raises:
        PipeBusyError: no instance came free in time (231).
        PipeTimeoutError: no answer in time (121); its `sent` says whether the request was sent.
        PipeModeError: the pipe is of bytes (87).
        PipeError: all that connect and MessagePipe.transact raise.
    """
    deadline = deadline_of(timeout)
    request = content_of(data)  # what cannot be sent is told before anything is opened
    try:
        pipe = connect(name, timeout=timeout, verify_owner=verify_owner, remote=remote)
    except PipeTimeoutError as error:
        raise PipeBusyError(
            WinError.PIPE_BUSY, error.pipe_name, "calling the pipe", error.detail, hint=error.hint or None
        ) from error
    with pipe:
        try:
            return pipe.transact(request, timeout=time_left(deadline))
        except PipeTimeoutError as error:
            raise call_timed_out(pipe.name, sent=bool(error.sent)) from error


def wait(
    name: str | os.PathLike[str],
    *,
    timeout: float | Literal["default"] | None = None,
    create: bool = False,
    remote: Remote | None = None,
) -> None:
    """Wait until an instance of a pipe listens. That reserves nothing, so a connect may still find it busy.

    Follows WaitNamedPipe, SEMANTICS §4.

    Args:
        name: the pipe's name, as for connect.
        timeout: seconds (None: for ever; 0: not at all, but a second for the server's answer), or "default": the
            `default_timeout` that the pipe's server has set.
        create: wait for a pipe that is not there too, as connect does with `wait_for_server`: in the same `timeout`,
            and with "default", which only a server can tell, until it is there.
        remote: who to be on another machine, as for connect.

    Raises:
        PipeNotFoundError: there is no such pipe, or its last instance went meanwhile (2); with `create` only if
            `timeout` is 0.
        PipeTimeoutError: none listened in time, the server did not answer, or none came (121).
        PipeAccessError: the access rule does not allow it (5).
        PipeNameError: the name is none (123, 3).
        PipeArgumentError: a time-out below 0 (87).
        PipeStateError: another machine's host has no way to wait (Samba before 4.25), or as for connect (50).
        PipeResourceError: no descriptors, memory, or instances of inotify (4, 8, 1450).
    """
    parsed = parse_name(name)
    use_default = timeout == "default"
    seconds = None if timeout == "default" else check_timeout(timeout)
    create = flag(create, "create")
    transport = select(parsed, check_remote(remote))

    def attempt(left: float | None) -> None:
        transport.wait(parsed, left, use_default=use_default)

    with waiting(parsed.path) if active() else contextlib.nullcontext():
        if create:
            when_there(transport, parsed, seconds, "waiting for the pipe's server", attempt)
        else:
            attempt(seconds)


def list_pipes(host: str | None = None, *, remote: Remote | None = None) -> list[PipeListing]:
    r"""List the pipes of this machine that this user may connect to, by name: what a folder `\\.\pipe\` would show.

    Pipes whose owners are dead are not listed, and what they left is removed. It takes a second at most; a pipe whose
    server does not answer by then (it is stopped) is listed as its folder tells, if this user may read that.

    Args:
        host: another machine, whose pipes to list; Samba does not tell them.
        remote: who to be there, as for connect.

    Returns:
        A PipeListing for each pipe and process that serves it.

    Raises:
        PipeAccessError: the root folder cannot be trusted (5).
        PipeStateError: the host does not list its pipes (50).
        PipeError: of another machine's, all that connect raises.
    """
    check_remote(remote)
    if host is None and remote is None:
        return default().list_pipes()
    return lister(host, remote).list_pipes()


def root() -> str | None:
    """Return the folder below which this process's pipes are. Processes meet only if theirs is the same.

    It is the first of these that is there, found anew by each call: $NPIPE_ROOT, as it is written there; /run/npipe;
    npipe in $XDG_RUNTIME_DIR; npipe-UID in the folder for temporary files. It need not exist: the first server makes
    it, but not the folders above it. On Windows it is None: the system itself keeps the names. Raises nothing.
    """
    return default().root()
