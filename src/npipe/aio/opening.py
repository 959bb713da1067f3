"""A client's functions, awaitable: connect, call, wait."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Literal, Unpack, overload

from npipe._buffers import content_of
from npipe.arrival import when_there_async
from npipe.errors import PipeBusyError, PipeError, PipeTimeoutError, WinError
from npipe.names import parse_name
from npipe.observing import Event, active, tell, tell_failed, waiting
from npipe.options import (
    Access,
    ConnectOptions,
    Mode,
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
from npipe.transports import select_async

if TYPE_CHECKING:
    import os

    from npipe._buffers import ReadableBuffer
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
    remote: Remote | None = None,
) -> MessagePipe | StreamPipe:
    """Wait for an instance of a pipe and open it, as one step. The arguments are those of npipe.connect.

    Cancelled, it takes its request back; if an instance was granted in just that moment, its server sees a client that
    comes and goes, which `accept` passes over.

    Args:
        name: the pipe's name.
        mode: "message" for a MessagePipe; "byte" for a StreamPipe of any pipe.
        access: "duplex", "read", "write" or "none".
        timeout: seconds to wait while all instances are busy; None is for ever, 0 not at all.
        verify_owner: talk only to a server of this user or of root.
        wait_for_server: wait for a pipe that is not there too.
        max_message_size: bytes of the longest message that `recv` and `transact` take.
        remote: who to be on another machine.

    Returns:
        A MessagePipe, or with mode="byte" a StreamPipe.

    Raises:
        PipeError: all that npipe.connect raises.
    """
    parsed = parse_name(name)
    message_mode, wanted, seconds = is_message_mode(mode), client_access(access), check_timeout(timeout)
    is_stranger = not flag(verify_owner, "verify_owner") or parsed.host is not None
    limit = message_limit(max_message_size, stranger=is_stranger)
    waits = flag(wait_for_server, "wait_for_server")
    transport = select_async(parsed, check_remote(remote))

    async def attempt(left: float | None) -> MessagePipe | StreamPipe:
        pipe = await transport.connect(
            parsed, message_mode=message_mode, access=wanted, timeout=left, verify_owner=verify_owner
        )
        if message_mode:
            pipe.max_message_size = limit  # type: ignore[union-attr]  # the mode has decided which
        return pipe

    async def work() -> MessagePipe | StreamPipe:
        if waits:
            return await when_there_async(transport, parsed, seconds, "waiting for the pipe's server", attempt)
        return await attempt(seconds)

    if not active():
        return await work()
    began = time.monotonic()
    try:
        with waiting(parsed.path):
            made = await work()
    except PipeError as error:
        tell_failed(parsed.path, error, time.monotonic() - began)
        raise
    tell(Event("opened", parsed.path, is_server=False, seconds=time.monotonic() - began))
    return made


async def call(
    name: str | os.PathLike[str],
    data: ReadableBuffer,
    *,
    timeout: float | None = 20.0,
    verify_owner: bool = True,
    remote: Remote | None = None,
) -> bytes:
    """Connect to the message pipe `name`, send `data`, return the one message that answers, and close.

    `timeout` in seconds (None: for ever) bounds all of it, `verify_owner` and `remote` are connect's. Cancelled, the
    connection is closed; the request may have been sent.

    Raises:
        PipeError: all that npipe.call raises.
    """
    deadline = deadline_of(timeout)
    request = content_of(data)  # what cannot be sent is told before anything is opened
    try:
        pipe = await connect(name, timeout=timeout, verify_owner=verify_owner, remote=remote)
    except PipeTimeoutError as error:
        raise PipeBusyError(
            WinError.PIPE_BUSY, error.pipe_name, "calling the pipe", error.detail, hint=error.hint or None
        ) from error
    async with pipe:
        try:
            return await pipe.transact(request, timeout=time_left(deadline))
        except PipeTimeoutError as error:
            raise call_timed_out(pipe.name, sent=bool(error.sent)) from error


async def wait(
    name: str | os.PathLike[str],
    *,
    timeout: float | Literal["default"] | None = None,
    create: bool = False,
    remote: Remote | None = None,
) -> None:
    """Wait until an instance of the pipe `name` listens; that reserves nothing. The arguments are those of npipe.wait.

    `timeout` is in seconds, None for ever, or "default", the server's own; with `create` a pipe that is not there is
    waited for too; `remote` is connect's. Cancelled, it has changed nothing.

    Raises:
        PipeError: all that npipe.wait raises.
    """
    parsed = parse_name(name)
    use_default = timeout == "default"
    seconds = None if timeout == "default" else check_timeout(timeout)
    create = flag(create, "create")
    transport = select_async(parsed, check_remote(remote))

    async def attempt(left: float | None) -> None:
        await transport.wait(parsed, left, use_default=use_default)

    with waiting(parsed.path) if active() else contextlib.nullcontext():
        if create:
            await when_there_async(transport, parsed, seconds, "waiting for the pipe's server", attempt)
        else:
            await attempt(seconds)
