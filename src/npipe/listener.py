"""Listening for clients: the server's side of the sync face."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Generic, Literal, NoReturn, Self, TypeVar, Unpack, overload

from npipe._process import refuse_copy
from npipe.errors import PipeBusyError, PipeClosedError, PipeError, PipeNameError, PipeTimeoutError, WinError
from npipe.names import parse_name
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
from npipe.transports import select

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from npipe.names import PipeName
    from npipe.options import CreateOptions
    from npipe.transports import ServerEnd, Transport

__all__ = ["Listener", "listen"]

P = TypeVar("P", MessagePipe, StreamPipe)


class Listener(Generic[P]):
    """A name on which this process accepts clients; made by `listen`.

    An instance listens from the start, and the next one is created before a connected one is handed out, so that
    clients never find the name gone or taken. At the instance limit a closed pipe's place is taken by a new
    instance in the same step. Several threads may accept at once; closing ends them.
    """

    def __init__(self, transport: Transport, name: PipeName, options: CreateOptions, *, exclusive: bool) -> None:
        self._transport = transport
        self._name = name
        self._options = options
        self._creation = threading.Lock()  # one thread at a time creates, which may have to wait; before the other one
        self._lock = threading.Lock()  # for the fields below
        self._closed = False
        self._listening: ServerEnd | None = transport.create(name, options, first_instance=exclusive)
        _listeners.add(self)

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a listener can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and listen there with npipe.listen")

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""
        return self._name.path

    @property
    def closed(self) -> bool:
        """Whether the listener is closed."""
        return self._closed

    def accept(self, timeout: float | None = None) -> P:
        """Wait for a client, at most `timeout` seconds (None: for ever), and return the connected pipe.

        A client that has come and gone already is handed out if it left something to read, and else passed over
        (ERROR_NO_DATA, 232, is no error here; nor is ERROR_PIPE_CONNECTED, 535). Raises PipeTimeoutError (121),
        PipeClosedError (109: the listener is closed), PipeResourceError (4, 8, 1450: no descriptors or memory for
        another instance or for the connection of a client, who is told too, or another process keeps the lock of the
        pipe's folder for more than 3 seconds; what is connected stays so, and the next accept tries again). Follows
        ConnectNamedPipe, SEMANTICS §3.2.
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
            instance = self._instance(deadline)
            if instance is not None:
                return instance
            try:
                self._transport.wait_instance_closed(self._name, seen, time_left(deadline))
            except PipeTimeoutError as error:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "waiting for a client") from error

    def _instance(self, deadline: float | None) -> ServerEnd | None:
        """Return the instance that listens, made if need be; None at the limit."""
        with self._lock:
            self._check_open()
            if self._listening is not None:
                return self._listening
        # Without that lock: another process may have the folder's, and nobody who closes is to wait for it.
        left = time_left(deadline)
        if not self._creation.acquire(timeout=-1 if left is None else left):
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "waiting for a client")
        try:
            with self._lock:
                self._check_open()
                if self._listening is not None:
                    return self._listening
            try:
                made = self._transport.create(
                    self._name, self._options, first_instance=False, timeout=time_left(deadline)
                )
            except PipeBusyError:
                made = None
            with self._lock:
                if made is not None and not self._closed and self._listening is None:
                    self._listening, made = made, None
                instance = self._listening
            if made is not None:
                made.close_handle()  # closed meanwhile, or a pipe that was closed has left its place
            self._check_open()
            return instance
        finally:
            self._creation.release()

    def _connected(self, instance: ServerEnd, deadline: float | None) -> P | None:
        """Wait for a client on `instance`; None when there is nothing to hand out, and one has to look again."""
        left_already = False
        try:
            instance.connect(time_left(deadline))
        except PipeClosedError as error:
            if error.winerror == WinError.NO_DATA:
                left_already = not instance.has_data()
            else:
                with self._lock:
                    self._check_open()
                    if self._listening is instance:
                        raise
                return None  # another thread has passed over it
        with self._lock:
            if self._closed:
                instance.close_handle()
                self._check_open()
            if self._listening is not instance:
                return None  # another thread got this client
            if left_already:
                self._listening = instance.replace()
                return None
            self._listening = self._next(instance)
        pipe = instance.pipe(self._release)
        if self._options.message_mode:
            pipe.max_message_size = self._options.max_message_size  # type: ignore[union-attr]  # so it is a MessagePipe
        return pipe  # type: ignore[return-value]  # the mode has decided which

    def _next(self, instance: ServerEnd) -> ServerEnd | None:
        """Create the instance for the next client, if that can be done now; else the next accept says why not."""
        try:
            return instance.another()
        except PipeError:
            return None

    def _release(self, instance: ServerEnd, discard: bool) -> None:
        """Close a connected instance; at the limit a new one takes its place, so that the name stays."""
        with self._lock:
            if self._closed or self._listening is not None:
                return
            try:
                self._listening = instance.replace(discard)
            except PipeError:
                return  # no descriptors, say: the pipe is closed all the same, and the next accept says why
        self._transport.wake_waiting_listeners()

    def _check_open(self) -> None:
        if self._closed:
            raise PipeClosedError(WinError.BROKEN_PIPE, self.name, "waiting for a client", "the listener is closed")

    def forget(self) -> None:
        """Be closed, without a word to the transport: this is a forked child, and the instances are the parent's."""
        self._lock = threading.Lock()
        self._creation = threading.Lock()
        self._closed = True
        self._listening = None

    def close(self) -> None:
        """Stop listening. Blocked accepts raise PipeClosedError; pipes that were handed out live on."""
        with self._lock:
            self._closed = True
            instance, self._listening = self._listening, None
        if instance is not None:
            instance.close_handle()
        self._transport.wake_waiting_listeners()

    def __iter__(self) -> Iterator[P]:
        """Accept clients until the listener is closed."""
        while True:
            try:
                pipe = self.accept()
            except PipeClosedError:
                if self._closed:
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
        return f"<Listener {self.name!r}, {'closed' if self._closed else 'listening'}>"


_listeners: weakref.WeakSet[Listener[MessagePipe] | Listener[StreamPipe]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """Make the locks anew: the threads that may have held them are the parent's, like the instances."""
    for listener in _listeners:
        listener.forget()


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

    `name` is `\\.\pipe\NAME` in any of its forms, or the bare NAME. `mode` is "message" or "byte", the pipe's type and
    its accepted pipes' read mode. `access` is "duplex", "inbound" (clients write) or "outbound" (clients read).
    `max_instances` bounds the clients at one time, over all processes, at 1 to 254 (None: no limit). The buffer sizes
    are quotas in bytes: how much may be unread before a write waits; 0 makes each write wait for its reader.
    `default_timeout` in seconds is for clients that wait without a time-out of their own. `security` is who may
    connect: "owner" (this user and root), "group:NAME", "everyone" or a Security. `max_message_size` in bytes bounds
    what `recv` takes on accepted pipes (their attribute of that name); None is 2**32 - 1, Win32's limit, and 64 MiB
    where `security` lets others in: what a client sends is memory that this process needs. With `exclusive` the name
    must not exist yet; without, several processes may serve one name, whose type, direction, limit and default time-out
    the first one decides.

    Raises PipeAccessError (5: the name is taken, by whatever process, or exists with another direction; the root
    folder cannot be trusted), PipeBusyError (231: the name has all the instances it may have), PipeNameError (123, 3),
    PipeArgumentError (87), PipeResourceError (4, 8, 1450; the last also if another process, which may be stopped, keeps
    the lock of the pipe's folder for more than 3 seconds). Follows CreateNamedPipe, SEMANTICS §2.
    """
    refuse_unknown("listen()", options, {"mode", "exclusive", *ListenOptions.__annotations__})
    parsed = parse_name(name)
    if parsed.host is not None:
        raise PipeNameError(
            WinError.INVALID_NAME, parsed.path, "creating an instance", "a server is on its own machine"
        )
    checked, exclusive = listen_options(mode=mode, **options), flag(exclusive, "exclusive")
    return Listener(select(parsed), parsed, checked, exclusive=exclusive)
