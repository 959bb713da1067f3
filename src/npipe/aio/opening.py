"""A client's functions, awaitable: connect, call, wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack, overload

from npipe.arrival import when_there_async
from npipe.errors import PipeBusyError, PipeTimeoutError, WinError
from npipe.names import parse_name
from npipe.options import (
    Access,
    ConnectOptions,
    Mode,
    check_timeout,
    client_access,
    content_of,
    deadline_of,
    flag,
    is_message_mode,
    message_limit,
    time_left,
)
from npipe.transports import select_async

if TYPE_CHECKING:
    import os

    from _typeshed import ReadableBuffer

    from npipe.async_pipe import MessagePipe, StreamPipe

__all__ = ["call", "connect", "wait"]


@overload
async def connect(
    name: str | os.PathLike[str], *, mode: Literal["message"] = "message", **options: Unpack[ConnectOptions]
) -> MessagePipe: ...
@overload
async def connect(
    name: str | os.PathLike[str], *, mode: Literal["byte"], **options: Unpack[ConnectOptions]
) -> StreamPipe: ...
@overload
async def connect(
    name: str | os.PathLike[str], *, mode: Mode, **options: Unpack[ConnectOptions]
) -> MessagePipe | StreamPipe: ...
async def connect(
    name: str | os.PathLike[str],
    *,
    mode: Mode = "message",
    access: Access = "duplex",
    timeout: float | None = 20.0,
    verify_owner: bool = True,
    wait_for_server: bool = False,
    max_message_size: int | None = None,
) -> MessagePipe | StreamPipe:
    """Wait for an instance of a pipe and open it, as one step; arguments and errors are those of npipe.connect.

    Cancelled, it takes its request back; if an instance was granted in just that moment, its server sees a client that
    comes and goes, which `accept` passes over.
    """
    parsed = parse_name(name)
    message_mode, wanted, seconds = is_message_mode(mode), client_access(access), check_timeout(timeout)
    limit = message_limit(max_message_size, stranger=not flag(verify_owner, "verify_owner"))
    waits = flag(wait_for_server, "wait_for_server")
    transport = select_async(parsed)

    async def attempt(left: float | None) -> MessagePipe | StreamPipe:
        pipe = await transport.connect(
            parsed, message_mode=message_mode, access=wanted, timeout=left, verify_owner=verify_owner
        )
        if message_mode:
            pipe.max_message_size = limit  # type: ignore[union-attr]  # the mode has decided which
        return pipe

    if waits:
        return await when_there_async(transport, parsed, seconds, "waiting for the pipe's server", attempt)
    return await attempt(seconds)


async def call(
    name: str | os.PathLike[str], data: ReadableBuffer, *, timeout: float | None = 20.0, verify_owner: bool = True
) -> bytes:
    """Connect to a message pipe, send `data`, return the one message that answers, and close; see npipe.call.

    Cancelled, the connection is closed; the request may have been sent.
    """
    deadline = deadline_of(timeout)
    request = content_of(data)  # what cannot be sent is told before anything is opened
    try:
        pipe = await connect(name, timeout=timeout, verify_owner=verify_owner)
    except PipeTimeoutError as error:
        raise PipeBusyError(WinError.PIPE_BUSY, error.pipe_name, "calling the pipe") from error
    async with pipe:
        return await pipe.transact(request, timeout=time_left(deadline))


async def wait(
    name: str | os.PathLike[str], *, timeout: float | Literal["default"] | None = None, create: bool = False
) -> None:
    """Wait until an instance of a pipe listens; that reserves nothing. Arguments and errors are those of npipe.wait.

    Cancelled, it has changed nothing.
    """
    parsed = parse_name(name)
    use_default = timeout == "default"
    seconds = None if timeout == "default" else check_timeout(timeout)
    create = flag(create, "create")
    transport = select_async(parsed)

    async def attempt(left: float | None) -> None:
        await transport.wait(parsed, left, use_default=use_default)

    if create:
        await when_there_async(transport, parsed, seconds, "waiting for the pipe's server", attempt)
    else:
        await attempt(seconds)
