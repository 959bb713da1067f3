"""A client's functions, awaitable: connect, call, wait."""

from __future__ import annotations

import os
import tempfile
import time
from typing import TYPE_CHECKING, Literal, overload

from npipe import binding as _engine
from npipe.aio._loops import BACKLOG_PAUSE, current
from npipe.aio.pipe import MessagePipe, StreamPipe, deadline_of, pipe_of
from npipe.errors import PipeBusyError, PipeStateError, PipeTimeoutError, WinError
from npipe.names import parse_name
from npipe.options import Access, Mode, check_timeout, client_access, is_message_mode

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from npipe.aio._loops import Loop
    from npipe.names import PipeName

__all__ = ["call", "connect", "wait"]

_READ_MESSAGE = 2
_ATTRIBUTES = 12  # to read and to write them


def place(name: PipeName) -> tuple[str, str, str]:
    """Return where a pipe of this machine is. Raises PipeStateError (50) for a host."""
    if name.host is not None:
        raise PipeStateError(WinError.NOT_SUPPORTED, name.path, detail="pipes on other machines are not supported yet")
    return _root_folder(), name.folder, name.display


def _root_folder() -> str:
    """npipe.transports.local.root_folder, with the engine's eyes: Python's own may block the event loop."""
    given = os.environ.get("NPIPE_ROOT")
    if given:
        return given
    if _engine.is_folder("/run/npipe"):
        return "/run/npipe"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and _engine.is_folder(runtime):
        return f"{runtime}/npipe"
    return f"{tempfile.gettempdir()}/npipe-{_engine.effective_uid()}"


tempfile.gettempdir()  # which finds it by trying, so not on an event loop


async def _dialled(dial: _engine.Dial, loop: Loop) -> None:
    """Take the steps of a dial until it is through; it knows its time-out itself."""
    while not dial.step():
        fd = dial.fileno()
        if fd < 0:
            await loop.pause(BACKLOG_PAUSE)
        else:
            await loop.readable(fd, dial.until)


@overload
async def connect(
    name: str | os.PathLike[str],
    *,
    mode: Literal["message"] = "message",
    access: Access = "duplex",
    timeout: float | None = 20.0,
    verify_owner: bool = True,
) -> MessagePipe: ...
@overload
async def connect(
    name: str | os.PathLike[str],
    *,
    mode: Literal["byte"],
    access: Access = "duplex",
    timeout: float | None = 20.0,
    verify_owner: bool = True,
) -> StreamPipe: ...
@overload
async def connect(
    name: str | os.PathLike[str],
    *,
    mode: Mode,
    access: Access = "duplex",
    timeout: float | None = 20.0,
    verify_owner: bool = True,
) -> MessagePipe | StreamPipe: ...
async def connect(
    name: str | os.PathLike[str],
    *,
    mode: Mode = "message",
    access: Access = "duplex",
    timeout: float | None = 20.0,
    verify_owner: bool = True,
) -> MessagePipe | StreamPipe:
    """Wait for an instance of a pipe and open it, as one step; arguments and errors are those of npipe.connect.

    Cancelled, it takes its request back; if an instance was granted in just that moment, its server sees a client that
    comes and goes, which `accept` passes over.
    """
    parsed = parse_name(name)
    loop = current()
    message_mode = is_message_mode(mode)
    wanted = client_access(access) | _ATTRIBUTES
    timeout = check_timeout(timeout)
    hold = timeout is None or timeout > 0
    dial = _engine.Dial(
        *place(parsed),
        parsed.path,
        access=wanted,
        hold=hold,
        verify_owner=verify_owner,
        timeout=timeout if hold else None,  # without a wait it is the engine that bounds the few messages of an open
    )
    try:
        await _dialled(dial, loop)
        handle, instances = dial.handle()
    finally:
        dial.close()
    try:
        if message_mode:
            handle.set_state(_READ_MESSAGE)
        return pipe_of(handle, loop, message_mode=message_mode, instances=instances)
    except BaseException:
        handle.close_handle(True)
        raise


async def call(
    name: str | os.PathLike[str], data: ReadableBuffer, *, timeout: float | None = None, verify_owner: bool = True
) -> bytes:
    """Connect to a message pipe, send `data`, return the one message that answers, and close; see npipe.call.

    Cancelled, the connection is closed; the request may have been sent.
    """
    deadline = deadline_of(timeout)
    try:
        pipe = await connect(name, timeout=timeout, verify_owner=verify_owner)
    except PipeTimeoutError as error:
        raise PipeBusyError(WinError.PIPE_BUSY, error.pipe_name, "calling the pipe") from error
    async with pipe:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return await pipe.transact(data, timeout=left)


async def wait(name: str | os.PathLike[str], *, timeout: float | Literal["default"] | None = None) -> None:
    """Wait until an instance of a pipe listens; that reserves nothing. Arguments and errors are those of npipe.wait.

    Cancelled, it has changed nothing.
    """
    parsed = parse_name(name)
    loop = current()
    dial = _engine.Dial(
        *place(parsed),
        parsed.path,
        only_wait=True,
        verify_owner=False,
        timeout=None if timeout == "default" else timeout,
        use_default=timeout == "default",
    )
    try:
        await _dialled(dial, loop)
    finally:
        dial.close()
