"""Listening for clients on an event loop."""

from __future__ import annotations

import collections
import os
import time
import weakref
from typing import TYPE_CHECKING, Generic, Literal, NoReturn, Self, TypeVar, overload

from npipe import binding as _engine
from npipe._process import refuse_copy
from npipe.aio._iterating import UntilClosed
from npipe.aio._loops import current
from npipe.aio.opening import place
from npipe.aio.pipe import MessagePipe, StreamPipe, deadline_of, pipe_of
from npipe.errors import (
    PipeBusyError,
    PipeClosedError,
    PipeError,
    PipeNameError,
    PipeResourceError,
    PipeTimeoutError,
    WinError,
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from npipe.aio._loops import Loop, Waker
    from npipe.names import PipeName
    from npipe.options import AccessRule

__all__ = ["Listener", "listen"]

P = TypeVar("P", MessagePipe, StreamPipe)

_MESSAGE = 4
_READ_MESSAGE = 2
_ACCEPTS_AT_ONCE = 16
_LOCKED_PATIENCE = 3.0  # seconds, as the engine's
_LOCKED_PAUSE = 0.01  # seconds; nothing tells that the lock of a pipe's folder is free


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
        self.message_type = self.message_mode if message_type is None else message_type
        self.direction = pipe_direction(access)
        self.max_instances = validate_instances(max_instances)
        self.in_quota = validate_buffer_size(in_buffer_size, "in_buffer_size")
        self.out_quota = validate_buffer_size(out_buffer_size, "out_buffer_size")
        self.default_timeout_ms = default_timeout_ms(default_timeout)
        self.rule: AccessRule = parse_security(security).resolve()

    def create(self, name: PipeName, *, first_instance: bool, timeout: float | None = None) -> _engine.PolledHandle:
        """Create an instance, which listens from now on. `timeout`: for another process with the folder's lock."""
        return _engine.PolledHandle.create(
            *place(name),
            name.path,
            access=self.direction,
            first_instance=first_instance,
            type=_MESSAGE if self.message_type else 0,
            mode=_READ_MESSAGE if self.message_mode else 0,
            max_instances=self.max_instances,
            out_quota=self.out_quota,
            in_quota=self.in_quota,
            default_timeout_ms=self.default_timeout_ms,
            everyone=self.rule.everyone,
            uids=self.rule.uids,
            gids=self.rule.gids,
            allowed=self.rule.access,
            timeout=timeout,
        )


class Listener(Generic[P]):
    """A name on which this process accepts clients; made by `listen`.

    An instance listens from the start, and the next one is created before a connected one is handed out, so that
    clients never find the name gone or taken. Clients connect also while the event loop is busy. Several tasks may
    accept at once; closing ends them. An async context manager that closes it, and an async iterator of its pipes.
    """

    def __init__(self, loop: Loop, name: PipeName, options: ListenOptions, *, exclusive: bool) -> None:
        self._loop = loop
        self._name = name
        self._options = options
        self._closed = False
        self._accepted_at_once = 0
        self._waits_for_room = False
        self._locked_since: float | None = None  # time.monotonic; another process had the folder's lock when last tried
        self._failed: PipeError | None = None  # what the next accept says
        self._waiting = 0  # tasks in accept
        self._ready: collections.deque[P] = collections.deque()  # pipes for them
        self._listening: _engine.PolledHandle | None = options.create(name, first_instance=exclusive)
        self._acceptor = _engine.Acceptor(*place(name))
        self._waker: Waker = loop.waker(self._acceptor.fileno(), self._wake)
        _listeners.add(self)

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a listener can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and listen there with npipe.aio.listen")

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""
        return self._name.path

    @property
    def closed(self) -> bool:
        """Whether the listener is closed."""
        return self._closed

    def _wake(self) -> bool:
        """Take the clients of those who wait, so that the next instance listens before anybody has had a turn."""
        self._acceptor.quieten()
        while len(self._ready) < self._waiting and self._listening is not None and not self._closed:
            instance = self._listening
            try:
                pipe = self._connected(instance)
            except PipeError as error:
                self._failed = error
                break
            if pipe is not None:
                self._ready.append(pipe)
            elif instance is self._listening:
                break
        return False

    async def accept(self, timeout: float | None = None) -> P:
        """Wait for a client, at most `timeout` seconds (None: for ever), and return the connected pipe.

        Cancelled, or out of time, no client is lost: the next accept gets him. See npipe.Listener.accept.
        """
        deadline = deadline_of(timeout)
        if self._accepted_at_once >= _ACCEPTS_AT_ONCE:
            self._accepted_at_once = 0
            await self._loop.pause(0)
        while True:
            self._check_open()
            if self._ready:
                self._accepted_at_once += 1
                return self._ready.popleft()
            failed, self._failed = self._failed, None
            if failed is not None:
                raise failed
            instance = self._instance()
            pipe = None if instance is None else self._connected(instance)
            if pipe is not None:
                self._accepted_at_once += 1
                return pipe
            if instance is not self._listening:
                continue
            self._accepted_at_once = 0
            if self._locked_since is not None:
                await self._loop.pause(_LOCKED_PAUSE)
                if deadline is None or time.monotonic() < deadline:
                    continue
            self._waiting += 1
            try:
                in_time = await self._waker.wait(deadline)
            finally:
                self._waiting -= 1
            if not in_time and not self._ready and self._failed is None:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "waiting for a client")

    def _instance(self) -> _engine.PolledHandle | None:
        """Return the instance that listens; None at the limit, and the acceptor then tells when there may be one."""
        locked_since, self._locked_since = self._locked_since, None
        if self._listening is None:
            seen = _engine.closed_instances()
            try:
                self._listening = self._options.create(self._name, first_instance=False, timeout=0)
            except PipeTimeoutError as error:  # the loop is not to wait for it
                self._locked_since = time.monotonic() if locked_since is None else locked_since
                if time.monotonic() - self._locked_since > _LOCKED_PATIENCE:
                    self._locked_since = None
                    raise PipeResourceError(
                        WinError.NO_SYSTEM_RESOURCES,
                        self.name,
                        "waiting for a client",
                        f"another process has had the lock of the pipe's folder for {_LOCKED_PATIENCE:.0f} seconds; "
                        "it may be stopped",
                    ) from error
            except PipeBusyError:
                self._acceptor.await_room(seen)
                self._waits_for_room = True
        if self._listening is not None and self._waits_for_room:
            self._acceptor.forget_room()
            self._waits_for_room = False
        return self._listening

    def _connected(self, instance: _engine.PolledHandle) -> P | None:
        """Return the pipe of the client that has come to `instance`, if one has; else the acceptor tells of him."""
        try:
            if instance.connect_now() is None:
                self._acceptor.watch(instance)
                return None
        except PipeClosedError as error:
            if error.winerror != WinError.NO_DATA:
                raise
            if not _has_data(instance):
                self._listening = instance.replace_polled()
                return None
        try:
            self._listening = instance.another_polled(0)
        except PipeError:
            self._listening = None  # the next accept says why, if it is still so
        pipe = pipe_of(instance, self._loop, message_mode=self._options.message_mode)
        pipe.when_closed(self._release)
        return pipe  # type: ignore[return-value]  # the mode has decided which

    def _release(self, instance: _engine.PolledHandle, discard: bool) -> None:
        """Close a connected instance; at the limit a new one takes its place, so that the name stays."""
        if self._closed or self._listening is not None:
            return
        try:
            self._listening = instance.replace_polled(discard)
        except PipeError:
            return  # no descriptors, say: the pipe is closed all the same, and the next accept says why
        _engine.wake_closed()
        self._waker.wake_all()

    def _check_open(self) -> None:
        if self._closed:
            raise PipeClosedError(WinError.BROKEN_PIPE, self.name, "waiting for a client", "the listener is closed")

    def forget(self) -> None:
        """Be closed, without a word to the engine: this is a forked child, and all is the parent's."""
        self._closed = True
        self._listening = None
        self._acceptor.close()

    def close(self) -> None:
        """Stop listening. Tasks in accept get PipeClosedError; pipes that were handed out live on."""
        if self._closed:
            return
        self._closed = True
        instance, self._listening = self._listening, None
        if instance is not None:
            instance.close_handle()
        for pipe in self._ready:
            pipe._end(discard=False)  # noqa: SLF001 - nobody has got it
        self._ready.clear()
        self._waker.close()
        self._acceptor.close()
        _engine.wake_closed()

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


def _has_data(instance: _engine.PolledHandle) -> bool:
    try:
        instance.peek_pipe()
    except PipeError:
        return False  # nothing is left, or this end may not read
    return True


_listeners: weakref.WeakSet[Listener[MessagePipe] | Listener[StreamPipe]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for listener in _listeners:
        listener.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@overload
def listen(
    name: str | os.PathLike[str],
    *,
    mode: Literal["message"] = "message",
    access: Direction = "duplex",
    max_instances: int | None = None,
    in_buffer_size: int = 65536,
    out_buffer_size: int = 65536,
    default_timeout: float | None = 0.05,
    security: str | Security = "owner",
    exclusive: bool = True,
) -> Listener[MessagePipe]: ...
@overload
def listen(
    name: str | os.PathLike[str],
    *,
    mode: Literal["byte"],
    access: Direction = "duplex",
    max_instances: int | None = None,
    in_buffer_size: int = 65536,
    out_buffer_size: int = 65536,
    default_timeout: float | None = 0.05,
    security: str | Security = "owner",
    exclusive: bool = True,
) -> Listener[StreamPipe]: ...
@overload
def listen(
    name: str | os.PathLike[str],
    *,
    mode: Mode,
    access: Direction = "duplex",
    max_instances: int | None = None,
    in_buffer_size: int = 65536,
    out_buffer_size: int = 65536,
    default_timeout: float | None = 0.05,
    security: str | Security = "owner",
    exclusive: bool = True,
) -> Listener[MessagePipe] | Listener[StreamPipe]: ...
def listen(
    name: str | os.PathLike[str],
    *,
    mode: Mode = "message",
    access: Direction = "duplex",
    max_instances: int | None = None,
    in_buffer_size: int = 65536,
    out_buffer_size: int = 65536,
    default_timeout: float | None = 0.05,
    security: str | Security = "owner",
    exclusive: bool = True,
) -> Listener[MessagePipe] | Listener[StreamPipe]:
    """Create a pipe and listen on it: clients can connect as soon as this returns.

    To be called on a running event loop, which the listener then belongs to. Arguments and errors are those of
    npipe.listen.
    """
    parsed = parse_name(name)
    if parsed.host is not None:
        raise PipeNameError(
            WinError.INVALID_NAME, parsed.path, "creating an instance", "a server is on its own machine"
        )
    options = ListenOptions(
        mode=mode,
        access=access,
        max_instances=max_instances,
        in_buffer_size=in_buffer_size,
        out_buffer_size=out_buffer_size,
        default_timeout=default_timeout,
        security=security,
    )
    return Listener(current(), parsed, options, exclusive=exclusive)
