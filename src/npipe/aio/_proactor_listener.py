"""Listening for clients on Windows, on the Proactor loop: what npipe.aio.listener is there."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import collections
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Self, TypeVar

import pywintypes
import win32pipe

from npipe._process import refuse_copy
from npipe.aio._iterating import UntilClosed
from npipe.aio._proactor import ProactorFile, current, deadline_of
from npipe.aio._proactor_pipe import MessagePipe, StreamPipe, flushed, pipe_of
from npipe.errors import (
    PipeBusyError,
    PipeClosedError,
    PipeError,
    PipeNameError,
    PipeTimeoutError,
    WinError,
    error_from_code,
)
from npipe.names import parse_name
from npipe.options import (
    Direction,
    Mode,
    Security,
    default_timeout_ms,
    is_message_mode,
    parse_security,
    pipe_direction,
    validate_buffer_size,
    validate_instances,
)
from npipe.transports import CreateOptions
from npipe.transports.native import create_instance
from npipe.transports.native_handles import close_file, own_instances, tell_closed

if TYPE_CHECKING:
    import asyncio
    import os
    from collections.abc import AsyncIterator
    from types import TracebackType

    from npipe.aio._proactor import Loop, Operation
    from npipe.names import PipeName

__all__ = ["ListenOptions", "Listener", "listen"]

P = TypeVar("P", MessagePipe, StreamPipe)

_ACCEPTS_AT_ONCE: Final = 16
_CAME: Final = (WinError.SUCCESS, WinError.PIPE_CONNECTED)  # ConnectNamedPipe's results: a client has come, or
_LEFT: Final = (WinError.NO_DATA, WinError.BROKEN_PIPE, WinError.PIPE_NOT_CONNECTED)  # has left already
_PAUSE: Final = 0.05  # seconds between attempts at what nothing tells: whether others' instances have gone
_PATIENCE: Final = 1.0  # seconds that a client has to read its last answer when its instance is the name's only one


class ListenOptions:
    """What `listen` was asked for, checked and in Win32's numbers."""

    def __init__(
        self,
        *,
        mode: Mode = "message",
        access: Direction = "duplex",
        max_instances: int | None = None,
        in_buffer_size: int = 65536,
        out_buffer_size: int = 65536,
        default_timeout: float | None = 0.05,
        security: str | Security = "owner",
        message_type: bool | None = None,
    ) -> None:
        self.message_mode = is_message_mode(mode)
        self.message_type = message_type
        self.options = CreateOptions(
            message_mode=self.message_mode,
            direction=pipe_direction(access),
            max_instances=validate_instances(max_instances),
            in_buffer_size=validate_buffer_size(in_buffer_size, "in_buffer_size"),
            out_buffer_size=validate_buffer_size(out_buffer_size, "out_buffer_size"),
            default_timeout_ms=default_timeout_ms(default_timeout),
            security=parse_security(security),
            rule=None,
        )


class Listener(Generic[P]):
    """See npipe.aio.Listener: a name on which this process accepts clients; made by `listen`."""

    def __init__(self, loop: Loop, name: PipeName, options: ListenOptions, *, exclusive: bool) -> None:
        self._loop = loop
        self._name = name
        self._options = options
        self._closed = False
        self._accepted_at_once = 0
        self._waiters = loop.waiters()
        self._waiting = 0  # tasks in accept
        self._ready: collections.deque[P] = collections.deque()  # pipes for them
        self._relisting: set[asyncio.Task[None]] = set()
        self._connecting: Operation | None = None  # of the instance that listens
        self._listening: ProactorFile | None = self._create(first_instance=exclusive)

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a listener can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and listen there with npipe.aio.listen")

    def _create(self, *, first_instance: bool = False) -> ProactorFile:
        options = self._options
        handle = create_instance(
            self._name, options.options, first_instance=first_instance, message_type=options.message_type
        )
        return self._own(ProactorFile(handle, self.name, self._loop))

    @staticmethod
    def _own(file: ProactorFile) -> ProactorFile:
        own_instances.add(file)
        return file

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""
        return self._name.path

    @property
    def closed(self) -> bool:
        """Whether the listener is closed."""
        return self._closed

    async def accept(self, timeout: float | None = None) -> P:
        """See npipe.aio.Listener.accept."""
        deadline = deadline_of(timeout)
        if self._accepted_at_once >= _ACCEPTS_AT_ONCE:
            self._accepted_at_once = 0
            await self._loop.pause(0)
        while True:
            self._check_open()
            if self._ready:
                self._accepted_at_once += 1
                return self._ready.popleft()
            until = deadline
            if self._listening is None:
                try:
                    self._listening = self._create()
                except PipeBusyError:  # at the limit: this process's tell when they go, others do not
                    pause = time.monotonic() + _PAUSE
                    until = pause if deadline is None else min(pause, deadline)
            if self._listening is not None:
                pipe = self._connected(self._listening)
                if pipe is not None:
                    self._accepted_at_once += 1
                    return pipe
                if self._connecting is None:
                    continue  # another instance listens
            self._accepted_at_once = 0
            self._waiting += 1
            try:
                in_time = await self._waiters.wait(until)
            finally:
                self._waiting -= 1
            if not in_time and not self._ready and deadline is not None and time.monotonic() >= deadline:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "waiting for a client")

    def _client_has_come(self, _: object) -> None:
        """Take the client of one who waits, so that the next instance listens before anybody has had a turn.

        What has gone wrong is left to accept, which says why.
        """
        file, connecting = self._listening, self._connecting
        wanted = len(self._ready) < self._waiting and connecting is not None and connecting.over
        if wanted and file is not None and connecting is not None and connecting.result()[0] in (*_CAME, *_LEFT):
            pipe = self._connected(file)
            if pipe is not None:
                self._ready.append(pipe)
        self._waiters.wake_all()

    def _connected(self, file: ProactorFile) -> P | None:
        """Return the pipe of the client that has come, if one has; else ConnectNamedPipe is in progress for him."""
        try:
            if self._connecting is None:
                self._connecting = file.start(_connect_named_pipe, "waiting for a client")
                self._connecting.future.add_done_callback(self._client_has_come)
            if not self._connecting.over:
                return None
            code, _ = self._connecting.result()
        except PipeClosedError as error:
            if error.winerror != WinError.NO_DATA:
                raise
            code = error.winerror
        self._connecting = None
        if code not in (*_CAME, *_LEFT):  # the next accept tries again
            raise error_from_code(code, self.name, "waiting for a client")
        if code and not _has_data(file):  # the client has left already
            self._listening = None
            self._listen_again(file)
            return None
        self._listening = None
        with contextlib.suppress(PipeError):  # else the next accept says why not, if it is still so
            self._listening = self._create()
        options = self._options.options
        pipe = pipe_of(
            file,
            message_mode=options.message_mode,
            access=options.direction,
            direction=options.direction,
            is_server=True,
            options=options,
        )
        pipe.when_closed(self._release)
        return pipe  # type: ignore[return-value]  # the mode has decided which

    def _release(self, file: ProactorFile, discard: bool) -> None:
        """Put a listening instance in the place of a connected one that ends, so that the name stays at the limit.

        While the name has other instances that is a new one. The only one is disconnected and listens again, after its
        client has had a moment to read what was written.
        """
        if self._closed or self._listening is not None:
            return
        if not discard and _has_others(file):
            close_file(file)
            with contextlib.suppress(PipeError):  # the pipe is closed all the same, and the next accept says why
                self._listening = self._create()
            self._waiters.wake_all()
            return
        handle, file.handle = file.handle, None
        own_instances.discard(file)
        fresh = self._own(ProactorFile(handle, self.name, self._loop, bound=True))
        if discard:
            self._listen_again(fresh)
            return
        task = self._loop.loop.create_task(self._drain_and_listen(fresh))
        self._relisting.add(task)
        task.add_done_callback(self._relisting.discard)

    async def _drain_and_listen(self, file: ProactorFile) -> None:
        try:
            code = await flushed(file, time.monotonic() + _PATIENCE)
        except BaseException:
            close_file(file)
            raise
        if self._closed or self._listening is not None:
            close_file(file)
        elif code is None:  # it has not read all of it
            close_file(file)
            with contextlib.suppress(PipeError):
                self._listening = self._create()
        else:
            self._listen_again(file)
        self._waiters.wake_all()

    def _listen_again(self, file: ProactorFile) -> None:
        """Disconnect an instance, and let it listen."""
        with contextlib.suppress(pywintypes.error):
            win32pipe.DisconnectNamedPipe(file.handle)
        self._listening = file
        with contextlib.suppress(PipeError):  # the next accept tells
            self._connecting = file.start(_connect_named_pipe, "waiting for a client")
            self._connecting.future.add_done_callback(self._client_has_come)
        tell_closed()
        self._waiters.wake_all()

    def _check_open(self) -> None:
        if self._closed:
            raise PipeClosedError(WinError.BROKEN_PIPE, self.name, "waiting for a client", "the listener is closed")

    def close(self) -> None:
        """Stop listening. Tasks in accept get PipeClosedError; pipes that were handed out live on."""
        if self._closed:
            return
        self._closed = True
        file, self._listening = self._listening, None
        if file is not None:
            file.end()
            close_file(file)
        for pipe in self._ready:
            pipe._end(discard=False)  # noqa: SLF001 - nobody has got it
        self._ready.clear()
        for task in self._relisting:
            task.cancel()
        self._waiters.wake_all()

    def __aiter__(self) -> AsyncIterator[P]:
        """Accept clients until the listener is closed. A step that is cancelled has lost no client."""
        return UntilClosed(self.accept, lambda _error: self._closed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<npipe.aio.Listener {self.name!r}, {'closed' if self._closed else 'listening'}>"


def _connect_named_pipe(overlapped: Any, handle: int) -> object:
    return overlapped.ConnectNamedPipe(handle)  # True for 535


def _has_data(file: ProactorFile) -> bool:
    """Whether a client that has left already has left something to read."""
    try:
        file.ask(lambda handle: win32pipe.PeekNamedPipe(handle, 0), "peeking")
    except PipeError:
        return False  # nothing is left, or this end may not read
    return True


def _has_others(file: ProactorFile) -> bool:
    try:
        return bool(win32pipe.GetNamedPipeHandleState(file.handle)[1] > 1)
    except pywintypes.error:
        return False  # an outbound one may not ask


def listen(
    name: str | os.PathLike[str], *, mode: Mode = "message", exclusive: bool = True, **options: Any
) -> Listener[Any]:
    """See npipe.aio.listen."""
    parsed = parse_name(name)
    if parsed.host is not None:
        detail = "a server is on its own machine"
        raise PipeNameError(WinError.INVALID_NAME, parsed.path, "creating an instance", detail)
    return Listener(current(), parsed, ListenOptions(mode=mode, **options), exclusive=exclusive)
