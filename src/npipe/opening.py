"""A client's functions: connect, call, wait, list_pipes, root."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack, overload

from npipe.arrival import when_there
from npipe.errors import PipeBusyError, PipeTimeoutError, WinError
from npipe.names import parse_name
from npipe.options import (
    Access,
    ConnectOptions,
    Mode,
    PipeListing,
    check_timeout,
    client_access,
    content_of,
    deadline_of,
    flag,
    is_message_mode,
    message_limit,
    time_left,
)
from npipe.transports import default, select

if TYPE_CHECKING:
    import os

    from _typeshed import ReadableBuffer

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
) -> MessagePipe | StreamPipe:
    r"""Wait for an instance of a pipe and open it, as one step: who has waited longest comes first.

    `name` is `\\.\pipe\NAME` in any of its forms, or the bare NAME. `mode` "message" opens a message pipe and switches
    it to message-read mode; "byte" reads any pipe as a stream. `access` is "duplex", "read", "write" or "none";
    "inbound" and "outbound" mean what a client of such a pipe does. `timeout` in seconds is how long to wait while all
    instances are busy, or the server does not answer; None is for ever, and 0 not at all (a server that is stopped is
    then given up after a second). With `verify_owner` only a server of this user or of root
    is talked to. With `wait_for_server` a pipe that is not there is waited for too, in the same `timeout`, as the
    programs of a system start in whatever order: the folder of pipes tells when it comes (on Windows, where nothing
    does, it is looked for every 50 ms). The root is the one at the time of the call, and need not exist yet.
    `max_message_size` in bytes bounds what `recv` and `transact` take (the pipe's attribute of that name); None is
    2**32 - 1, Win32's limit, and 64 MiB without `verify_owner`, where the server may be anybody's: what a peer sends
    is memory that this process needs.

    Raises PipeNotFoundError (2: no such pipe, at once; with `wait_for_server` only if `timeout` is 0),
    PipeTimeoutError (121: all instances stayed busy, the server did not answer, or none came), PipeBusyError (231: the
    same with `timeout` 0), PipeAccessError (5: the access rule or the direction does not allow it, or the owner is
    another), PipeModeError (87: message mode on a byte pipe),
    PipeVersionError (1306), PipeNameError (123, 3), PipeArgumentError (87: another word, a time-out below 0),
    PipeStateError (50: a pipe of another machine), PipeResourceError (4, 8, 1450: no descriptors or memory, here or,
    with the reason, at the server; with `wait_for_server` also a limit of inotify's, of which each process that
    waits so has one instance: fs.inotify.max_user_instances, usually 128 for each user).

    Follows CreateFile and WaitNamedPipe, SEMANTICS §2.5 and §4.
    """
    parsed = parse_name(name)
    message_mode, wanted, seconds = is_message_mode(mode), client_access(access), check_timeout(timeout)
    limit = message_limit(max_message_size, stranger=not flag(verify_owner, "verify_owner"))
    waits = flag(wait_for_server, "wait_for_server")
    transport = select(parsed)

    def attempt(left: float | None) -> MessagePipe | StreamPipe:
        pipe = transport.connect(
            parsed, message_mode=message_mode, access=wanted, timeout=left, verify_owner=verify_owner
        )
        if message_mode:
            pipe.max_message_size = limit  # type: ignore[union-attr]  # the mode has decided which
        return pipe

    if waits:
        return when_there(transport, parsed, seconds, "waiting for the pipe's server", attempt)
    return attempt(seconds)


def call(
    name: str | os.PathLike[str], data: ReadableBuffer, *, timeout: float | None = 20.0, verify_owner: bool = True
) -> bytes:
    """Connect to a message pipe, send `data`, return the one message that answers, and close.

    `timeout` in seconds (20, as connect's; None: for ever) bounds all of it; unlike CallNamedPipe's, also the wait for
    the answer. Raises PipeBusyError (231: no instance came free in time), PipeTimeoutError (121: no answer in time; its
    `sent` says whether the request was sent), PipeModeError (87: a byte pipe), and what connect and
    MessagePipe.transact raise. Follows CallNamedPipe, SEMANTICS §8.3.
    """
    deadline = deadline_of(timeout)
    request = content_of(data)  # what cannot be sent is told before anything is opened
    try:
        pipe = connect(name, timeout=timeout, verify_owner=verify_owner)
    except PipeTimeoutError as error:
        raise PipeBusyError(WinError.PIPE_BUSY, error.pipe_name, "calling the pipe") from error
    with pipe:
        return pipe.transact(request, timeout=time_left(deadline))


def wait(
    name: str | os.PathLike[str], *, timeout: float | Literal["default"] | None = None, create: bool = False
) -> None:
    """Wait until an instance of a pipe listens; that reserves nothing, so a connect may still find it busy.

    `timeout` in seconds (None: for ever; 0: not at all, but a second for the server's answer); "default" is the
    time-out that the pipe's server has set. With `create` a pipe that is not there is waited for too, as connect does
    with `wait_for_server`: in the same `timeout`, and with "default", which only a server can tell, until it is there.

    Raises PipeNotFoundError (2: no such pipe, at once, or its last instance went meanwhile; with `create` only if
    `timeout` is 0), PipeTimeoutError (121: also when the server did not answer, or none came), PipeAccessError (5),
    PipeResourceError (4, 8, 1450: no descriptors, memory, or instances of inotify), PipeNameError (123, 3),
    PipeArgumentError (87), PipeStateError (50: a pipe of another machine).
    Follows WaitNamedPipe, SEMANTICS §4.
    """
    parsed = parse_name(name)
    use_default = timeout == "default"
    seconds = None if timeout == "default" else check_timeout(timeout)
    create = flag(create, "create")
    transport = select(parsed)

    def attempt(left: float | None) -> None:
        transport.wait(parsed, left, use_default=use_default)

    if create:
        when_there(transport, parsed, seconds, "waiting for the pipe's server", attempt)
    else:
        attempt(seconds)


def list_pipes() -> list[PipeListing]:
    r"""List the pipes of this machine that this user may connect to, by name: what a folder `\\.\pipe\` would show.

    Raises PipeAccessError (5) when the root folder cannot be trusted. Pipes whose owners are dead are not listed, and
    what they left is removed. It takes a second at most; a pipe whose server does not answer by then (it is stopped) is
    listed as its folder tells, if this user may read that.
    """
    return default().list_pipes()


def root() -> str | None:
    """Return the folder below which this process's pipes are. Processes meet only if theirs is the same.

    It is the first of these that is there, found anew by each call: $NPIPE_ROOT, as it is written there; /run/npipe;
    npipe in $XDG_RUNTIME_DIR; npipe-UID in the folder for temporary files. It need not exist: the first server makes
    it, but not the folders above it. On Windows it is None: the system itself keeps the names. Raises nothing.
    """
    return default().root()
