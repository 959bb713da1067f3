"""Listening for clients on an event loop."""

from __future__ import annotations

import asyncio
import collections
import os
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Self, TypeVar, Unpack, overload

from npipe._display import refuse_construction, show_listener
from npipe._process import refuse_copy
from npipe.async_iteration import UntilClosed
from npipe.async_pipe import MessagePipe, StreamPipe
from npipe.errors import PipeError, PipeTimeoutError, WinError
from npipe.exporting import Export, open_to_network
from npipe.loops._asyncio import AsyncioLoop
from npipe.loops.current import current
from npipe.names import parse_name
from npipe.observing import INFO, Event, active, tell
from npipe.options import ListenOptions, Mode, deadline_of, flag, listen_options, refuse_unknown, takes_listen_options
from npipe.reasons import closed_here, listener_closed, other_loop, server_elsewhere
from npipe.transports import select, select_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Generator
    from types import TracebackType

    from npipe.figures import ListenerStats
    from npipe.loops.base import Loop
    from npipe.names import PipeName
    from npipe.options import CreateOptions
    from npipe.transports import AsyncTransport

__all__ = ["Listener", "listen"]

P = TypeVar("P", MessagePipe, StreamPipe)

_ACCEPTS_AT_ONCE = 16


class Listener(Generic[P]):
    """A name on which this process accepts clients; `listen` returns it, and `async with` closes it.

    An instance listens from the start, and the next one is created before a connected one is handed out, so that
    clients never find the name gone or taken. Several tasks may accept at once; closing ends them. `async for pipe in
    listener` accepts until it is closed. After a fork it is closed in the child, as npipe.Listener is.
    """

    def __init__(self, *_: object, **__: object) -> None:
        refuse_construction("npipe.aio.Listener")

    @classmethod
    def _made(cls, transport: AsyncTransport, name: PipeName, options: CreateOptions, *, exclusive: bool) -> Self:
        self = cls.__new__(cls)
        self._begin(transport, name, options, exclusive=exclusive)
        return self

    def _begin(self, transport: AsyncTransport, name: PipeName, options: CreateOptions, *, exclusive: bool) -> None:
        self._loop = current()
        self._name = name
        self._options = options
        self._pid = os.getpid()
        self._accepted_at_once = 0
        self._failed: PipeError | None = None  # what the next accept says
        self._waiting = 0  # tasks in accept
        self._ready: collections.deque[P] = collections.deque()  # pipes for them
        self._instances = transport.listen(name, options, first_instance=exclusive, on_client=self._take_for_waiting)
        self._export: Export | None = None
        if active(INFO):
            tell(Event("listening", name.path, is_server=True))
        if options.remote is not None:
            try:
                self._export = open_to_network(name, options.remote)
            except BaseException:
                self._instances.close()
                raise

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a listener can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and listen there with npipe.aio.listen")

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""
        return self._name.path

    @property
    def stats(self) -> ListenerStats:
        """What the connections of this pipe that this process has accepted have moved, and who waits.

        All listeners of one name in a process share it, and so do the servers and handles of other faces.

        Raises:
            PipeClosedError: this process has no instance of the name any more (6).
            PipeStateError: on Windows, where nobody counts (50).
        """
        counted = select(self._name).listener_stats(self._name)
        if counted is None:
            raise closed_here(self.name, "asking for the listener's counts", code=WinError.INVALID_HANDLE)
        return counted

    @property
    def closed(self) -> bool:
        """Whether the listener is closed."""
        return self._instances.closed

    def _take(self) -> P | None:
        pipe = self._instances.take()
        if pipe is not None and self._options.message_mode:
            pipe.max_message_size = self._options.max_message_size  # type: ignore[union-attr]  # so it is a MessagePipe
        if pipe is not None and active():
            tell(Event("opened", self.name, is_server=True))
        return pipe  # type: ignore[return-value]  # the options' mode has decided which

    def _take_for_waiting(self) -> None:
        """Take the clients of those who wait, so that the next instance listens before any task has had a turn."""
        while len(self._ready) < self._waiting:
            try:
                pipe = self._take()
            except PipeError as error:
                self._failed = error
                return
            if pipe is None:
                return
            self._ready.append(pipe)

    async def accept(self, timeout: float | None = None) -> P:
        """Wait for a client, at most `timeout` seconds (None: for ever), and return the connected pipe.

        Cancelled, or out of time, no client is lost: the next accept gets it.

        Raises:
            PipeError: all that npipe.Listener.accept raises.
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
            pipe = self._take()
            if pipe is not None:
                self._accepted_at_once += 1
                return pipe
            self._accepted_at_once = 0
            self._waiting += 1
            try:
                in_time = await self._instances.wait(deadline)
            except RuntimeError as error:  # asyncio's, which tells of futures
                if _runs_here(self._loop):
                    raise
                raise other_loop(self.name, "waiting for a client") from error
            finally:
                self._waiting -= 1
            if not in_time and not self._ready and self._failed is None:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "waiting for a client")

    def _check_open(self) -> None:
        if self.closed:
            raise listener_closed(self.name, forked=self._pid != os.getpid())

    def close(self) -> Awaitable[None]:
        """Stop listening. Tasks in accept get PipeClosedError; pipes that were handed out live on.

        It is done when this returns. What it returns may be awaited, as the `close` of pipes and servers, or not.
        """
        if self._end():
            self._tell_stopped()
        return _Done()

    def _end(self) -> bool:
        """Stop listening, and tell nobody yet. Whether it is this call that has ended it."""
        if self._export is not None:
            self._export.close()
        if self.closed:
            return False
        self._instances.close()
        for pipe in self._ready:
            pipe._end(discard=False)  # noqa: SLF001 - nobody has got it
        self._ready.clear()
        return True

    def _tell_stopped(self) -> None:
        if active(INFO):
            tell(Event("stopped", self.name, is_server=True))

    def __aiter__(self) -> AsyncIterator[P]:
        """Accept clients until the listener is closed. A step that is cancelled has lost no client."""
        return UntilClosed(self.accept, lambda _error: self.closed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return show_listener("npipe.aio.Listener", self.name, self._options, closed=self.closed)


class _Done:
    """An awaitable of what is done already."""

    def __await__(self) -> Generator[Any, None, None]:
        return iter(())  # type: ignore[return-value]  # all that await asks for


def _runs_here(loop: Loop) -> bool:
    return not isinstance(loop, AsyncioLoop) or asyncio.get_running_loop() is loop.loop


@overload
def listen(
    name: str | os.PathLike[str],
    *,
    mode: Literal["message"] = "message",
    exclusive: bool = True,
    **options: Unpack[ListenOptions],
) -> Listener[MessagePipe]: ...
@overload
def listen(
    name: str | os.PathLike[str],
    *,
    mode: Literal["byte"],
    exclusive: bool = True,
    **options: Unpack[ListenOptions],
) -> Listener[StreamPipe]: ...
@overload
def listen(
    name: str | os.PathLike[str], *, mode: Mode, exclusive: bool = True, **options: Unpack[ListenOptions]
) -> Listener[MessagePipe] | Listener[StreamPipe]: ...
@takes_listen_options
def listen(
    name: str | os.PathLike[str], *, mode: Mode = "message", exclusive: bool = True, **options: Unpack[ListenOptions]
) -> Listener[MessagePipe] | Listener[StreamPipe]:
    """Create a pipe and listen on it: clients can connect as soon as this returns.

    To be called on a running event loop, which the listener then belongs to.

    Args:
        name: the pipe's name.
        mode: "message" or "byte": the pipe's type, and its accepted pipes' read mode.
        exclusive: the name must not exist yet.
        options: those of npipe.listen: `access`, `max_instances`, `in_buffer_size`, `out_buffer_size`,
            `default_timeout`, `security`, `max_message_size`, `remote`, `allow`, `require_encryption`, `samba_dir`,
            `traceable`.

    Returns:
        A Listener of MessagePipes, or with mode="byte" of StreamPipes.

    Raises:
        PipeError: all that npipe.listen raises.
    """
    refuse_unknown("listen()", options, {"mode", "exclusive", *ListenOptions.__annotations__})
    parsed = parse_name(name)
    if parsed.host is not None:
        raise server_elsewhere(parsed.path, parsed.host, parsed.here)
    checked, exclusive = listen_options(mode=mode, **options), flag(exclusive, "exclusive")
    made: Listener[MessagePipe] | Listener[StreamPipe]
    made = Listener._made(select_async(parsed), parsed, checked, exclusive=exclusive)  # noqa: SLF001
    return made
