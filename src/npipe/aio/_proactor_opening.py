"""A client's functions on Windows, for the Proactor loop: what npipe.aio.opening is there."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import asyncio
import contextlib
import threading
import time
import weakref
from typing import TYPE_CHECKING, Literal

from npipe.aio._proactor import ProactorFile, current, deadline_of, time_left
from npipe.aio._proactor_pipe import MessagePipe, StreamPipe, pipe_of
from npipe.errors import PipeBusyError, PipeError, PipeStateError, PipeTimeoutError, WinError
from npipe.names import parse_name
from npipe.options import Access, Mode, check_timeout, client_access, is_message_mode
from npipe.transports.native import open_client, prepare_client, wait_named_pipe
from npipe.transports.native_handles import ThreadCall

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator

    from _typeshed import ReadableBuffer

    from npipe.aio._proactor import Loop
    from npipe.names import PipeName

__all__ = ["call", "connect", "wait"]

_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = weakref.WeakKeyDictionary()
"""For each name the lock of whoever waits for its next instance: the others of this loop wait for the lock."""


def _local(name: str | os.PathLike[str]) -> PipeName:
    parsed = parse_name(name)
    if parsed.host is not None:
        detail = "pipes on other machines are not supported yet"
        raise PipeStateError(WinError.NOT_SUPPORTED, parsed.path, detail=detail)
    return parsed


async def _waited(loop: Loop, name: PipeName, deadline: float | None, *, use_default: bool = False) -> None:
    """WaitNamedPipe, which has no overlapped form: a thread waits. It ends a moment after it is not needed any more."""
    given_up = threading.Event()
    errors: list[PipeError] = []

    def in_thread() -> None:
        try:
            wait_named_pipe(name, time_left(deadline), use_default=use_default, given_up=given_up.is_set)
        except PipeError as error:
            errors.append(error)

    waiters = loop.waiters()

    def over() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.loop.call_soon_threadsafe(waiters.wake_all)

    thread = ThreadCall(in_thread, over)
    try:
        await waiters.wait(None)  # the thread has the deadline
    except BaseException:
        given_up.set()
        thread.cancel()
        raise
    if errors:
        raise errors[0]


@contextlib.asynccontextmanager
async def _turn(loop: Loop, name: PipeName, deadline: float | None) -> AsyncIterator[None]:
    """Be the one task of this loop that waits for an instance of a name; the others have their turns in order."""
    locks = _turns.setdefault(loop.loop, {})
    lock = locks.setdefault(name.path, asyncio.Lock())
    try:
        async with asyncio.timeout(time_left(deadline)):
            await lock.acquire()
    except TimeoutError:
        raise PipeTimeoutError(WinError.SEM_TIMEOUT, name.path, "waiting for an instance") from None
    try:
        yield
    finally:
        lock.release()
        if not lock.locked() and not getattr(lock, "_waiters", None):
            locks.pop(name.path, None)


async def connect(
    name: str | os.PathLike[str],
    *,
    mode: Mode = "message",
    access: Access = "duplex",
    timeout: float | None = 20.0,
    verify_owner: bool = True,
) -> MessagePipe | StreamPipe:
    """See npipe.aio.connect."""
    parsed = _local(name)
    loop = current()
    message_mode = is_message_mode(mode)
    wanted = client_access(access)
    timeout = check_timeout(timeout)
    deadline = deadline_of(timeout)
    try:
        handle = open_client(parsed, wanted, message_mode=message_mode)
    except PipeBusyError:
        if timeout == 0:
            raise
        async with _turn(loop, parsed, deadline):
            handle = await _opened(loop, parsed, wanted, deadline, message_mode=message_mode)
    direction = prepare_client(handle, parsed, message_mode=message_mode, verify_owner=verify_owner)
    try:
        file = ProactorFile(handle, parsed.path, loop)
    except BaseException:
        handle.Close()
        raise
    return pipe_of(file, message_mode=message_mode, access=wanted, direction=direction, is_server=False)


async def _opened(loop: Loop, name: PipeName, wanted: int, deadline: float | None, *, message_mode: bool) -> object:
    """Open a pipe as soon as an instance listens: a wait reserves none."""
    while True:
        try:
            return open_client(name, wanted, message_mode=message_mode)
        except PipeBusyError:
            pass
        await _waited(loop, name, deadline)


async def call(
    name: str | os.PathLike[str], data: ReadableBuffer, *, timeout: float | None = None, verify_owner: bool = True
) -> bytes:
    """See npipe.aio.call."""
    deadline = deadline_of(timeout)
    try:
        pipe = await connect(name, timeout=timeout, verify_owner=verify_owner)
    except PipeTimeoutError as error:
        raise PipeBusyError(WinError.PIPE_BUSY, error.pipe_name, "calling the pipe") from error
    async with pipe:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return await pipe.transact(data, timeout=left)  # type: ignore[union-attr]  # it is a message pipe


async def wait(name: str | os.PathLike[str], *, timeout: float | Literal["default"] | None = None) -> None:
    """See npipe.aio.wait."""
    parsed = _local(name)
    loop = current()
    deadline = None if timeout == "default" else deadline_of(timeout)
    await _waited(loop, parsed, deadline, use_default=timeout == "default")
