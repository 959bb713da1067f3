"""Listening for clients: the server's side of the sync face."""

from __future__ import annotations

import os
import time
import weakref
from typing import TYPE_CHECKING, Generic, Literal, NoReturn, Self, TypeVar, Unpack, overload

from npipe._display import refuse_construction, show_listener
from npipe._process import refuse_copy
from npipe.errors import PipeClosedError, PipeTimeoutError, WinError
from npipe.exporting import Export, open_to_network
from npipe.names import parse_name
from npipe.observing import INFO, Event, active, tell
from npipe.options import (
    ListenOptions,
    Mode,
    check_timeout,
    flag,
    listen_options,
    refuse_unknown,
    takes_listen_options,
    time_left,
)
from npipe.pipe import MessagePipe, StreamPipe
from npipe.reasons import closed_here, server_elsewhere
from npipe.transports import select
from npipe.transports.listening import Listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from npipe.figures import ListenerStats
    from npipe.names import PipeName
    from npipe.options import CreateOptions
    from npipe.transports import ServerEnd, Transport

__all__ = ["Listener", "listen"]

P = TypeVar("P", MessagePipe, StreamPipe)


class Listener(Generic[P]):
    """A name on which this process accepts clients; `listen` returns it, and `with` closes it.

    An instance listens from the start, and the next one is created before a connected one is handed out, so that
    clients never find the name gone or taken: a client connects, and may write, before it is accepted. At the instance
    limit a closed pipe's place is taken by a new instance in the same step. Several threads may accept at once; closing
    ends them. After a fork the listener is the parent's: in the child it is closed. `for pipe in listener` accepts
    until it is closed.
    """

    def __init__(self, *_: object, **__: object) -> None:
        refuse_construction("npipe.Listener")

    @classmethod
    def _made(cls, transport: Transport, name: PipeName, options: CreateOptions, *, exclusive: bool) -> Self:
        self = cls.__new__(cls)
        self._begin(transport, name, options, exclusive=exclusive)
        return self

    def _begin(self, transport: Transport, name: PipeName, options: CreateOptions, *, exclusive: bool) -> None:
        self._transport = transport
        self._name = name
        self._options = options
        self._listening = Listening(transport, name, options, first_instance=exclusive)
        self._export: Export | None = None
        _listeners.add(self)
        if active(INFO):
            tell(Event("listening", name.path, is_server=True))
        if options.remote is not None:
            try:
                self._export = open_to_network(name, options.remote)
            except BaseException:
                self.close()
                raise

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a listener can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and listen there with npipe.listen")

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
        counted = self._transport.listener_stats(self._name)
        if counted is None:
            raise closed_here(self.name, "asking for the listener's counts", code=WinError.INVALID_HANDLE)
        return counted

    @property
    def closed(self) -> bool:
        """Whether the listener is closed."""
        return self._listening.closed

    def accept(self, timeout: float | None = None) -> P:
        """Wait for a client, at most `timeout` seconds (None: for ever), and return the connected pipe.

        A client that has come and gone already is handed out if it left something to read, and else passed over
        (ERROR_NO_DATA, 232, is no error here; nor is ERROR_PIPE_CONNECTED, 535). Follows ConnectNamedPipe, SEMANTICS
        §3.2.

        Raises:
            PipeTimeoutError: no client has come in time (121).
            PipeClosedError: the listener is closed (109).
            PipeResourceError: no descriptors or memory for another instance or for the connection of a client, who is
                told too, or another process keeps the lock of the pipe's folder for more than 3 seconds (4, 8, 1450).
                What is connected stays so, and the next accept tries again.
        """
        timeout = check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            instance = self._listening_instance(deadline)
            pipe = self._connected(instance, deadline)
            if pipe is not None:
                return pipe

    def _listening_instance(self, deadline: float | None) -> ServerEnd:
        """Return the instance that listens; at the limit wait until there may be one."""
        while True:
            seen = self._transport.instances_closed()
            instance = self._listening.get(lambda: time_left(deadline))
            if instance is not None:
                return instance
            try:
                self._transport.wait_instance_closed(self._name, seen, time_left(deadline))
            except PipeTimeoutError as error:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "waiting for a client") from error

    def _connected(self, instance: ServerEnd, deadline: float | None) -> P | None:
        """Wait for a client on `instance`; None when there is nothing to hand out, and one has to look again."""
        left_already = False
        try:
            if not self._listening.connect(instance, time_left(deadline)):
                return None
        except PipeClosedError as error:
            if error.winerror == WinError.NO_DATA:
                left_already = not instance.has_data()
            else:
                if self._listening.is_listening(instance):
                    raise
                return None  # another thread has passed over it
        if left_already:
            self._listening.pass_over(instance)
            return None
        return self._listening.take(instance, self._hand_out)

    def _hand_out(self, instance: ServerEnd) -> P:
        pipe = instance.pipe(self._listening.release)
        if self._options.message_mode:
            pipe.max_message_size = self._options.max_message_size  # type: ignore[union-attr]  # so it is a MessagePipe
        if active():
            tell(Event("opened", self.name, is_server=True))
        return pipe  # type: ignore[return-value]  # the mode has decided which

    def close(self) -> None:
        """Stop listening. Blocked accepts raise PipeClosedError; pipes that were handed out live on."""
        closes = False
        try:
            closes = self._listening.close()
        finally:
            if self._export is not None:
                self._export.close()
        if closes and active(INFO):
            tell(Event("stopped", self.name, is_server=True))

    def __iter__(self) -> Iterator[P]:
        """Accept clients until the listener is closed."""
        while True:
            try:
                pipe = self.accept()
            except PipeClosedError:
                if self.closed:
                    return
                raise
            yield pipe

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return show_listener("npipe.Listener", self.name, self._options, closed=self.closed)


_listeners: weakref.WeakSet[Listener[MessagePipe] | Listener[StreamPipe]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """Make the locks anew: the threads that may have held them are the parent's, like the instances."""
    for listener in _listeners:
        listener._listening.forget()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


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
    r"""Create a pipe and listen on it: clients can connect as soon as this returns.

    Follows CreateNamedPipe, SEMANTICS §2.

    Args:
        name: `\\.\pipe\NAME` in any of its forms, or the bare NAME.
        mode: "message" or "byte": the pipe's type, and its accepted pipes' read mode. A client may read a message pipe
            as bytes, but not a byte pipe as messages.
        exclusive: the name must not exist yet. Without, several processes may serve one name, whose type, direction,
            limit and default time-out the first one decides.
        options: those of ListenOptions:

            - `access`: "duplex", "inbound" (clients write) or "outbound" (clients read).
            - `max_instances`: clients at one time, over all processes, 1 to 254; None: no limit.
            - `in_buffer_size`, `out_buffer_size`: quotas in bytes: how much may be unread before a write waits; 0 makes
              each write wait for its reader.
            - `default_timeout`: seconds that clients wait which leave it to the server: `wait(timeout="default")`,
              `npipe wait`, WaitNamedPipe and CallNamedPipe with NMPWAIT_USE_DEFAULT_WAIT. Not `connect`, which has its
              own.
            - `security`: who may connect: "owner" (this user and root), "group:NAME", "everyone" or a Security.
            - `max_message_size`: bytes of the longest message that `recv` takes on accepted pipes (their attribute of
              that name); None is 2**32 - 1, Win32's limit, and 64 MiB where `security` lets others in: what a client
              sends is memory that this process needs.
            - `remote`: "samba" lets clients of other machines in too, through Samba (docs/remote.md); None: nobody.
            - `allow`, `require_encryption`, `samba_dir`: which of them, and where smbd looks for pipes: see export.
            - `traceable`: False refuses `npipe trace` to everybody, root too, as long as this process serves the pipe
              (docs/tracing.md). On Windows nobody can trace a process that does not do it itself.

    Returns:
        A Listener of MessagePipes, or with mode="byte" of StreamPipes.

    Raises:
        PipeAccessError: the name is taken, by whatever process, or exists with another direction; or the root folder
            cannot be trusted (5).
        PipeBusyError: the name has all the instances it may have (231).
        PipeNameError: the name is none, or of another machine (123, 3).
        PipeArgumentError: an option is not what it may be (87).
        PipeResourceError: no descriptors or memory, or another process, which may be stopped, keeps the lock of the
            pipe's folder for more than 3 seconds (4, 8, 1450).
    """
    refuse_unknown("listen()", options, {"mode", "exclusive", *ListenOptions.__annotations__})
    parsed = parse_name(name)
    if parsed.host is not None:
        raise server_elsewhere(parsed.path, parsed.host, parsed.here)
    checked, exclusive = listen_options(mode=mode, **options), flag(exclusive, "exclusive")
    made: Listener[MessagePipe] | Listener[StreamPipe]
    made = Listener._made(select(parsed), parsed, checked, exclusive=exclusive)  # noqa: SLF001
    return made
