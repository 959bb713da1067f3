"""The engine as a transport for event loops: dialling step by step, and instances that tell when a client has come."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import contextlib
import os
import tempfile
import time
import weakref
from typing import TYPE_CHECKING

from npipe import binding
from npipe.errors import (
    PipeBusyError,
    PipeClosedError,
    PipeError,
    PipeModeError,
    PipeTimeoutError,
    WinError,
)
from npipe.loops._asyncio import AsyncioLoop
from npipe.loops.current import current
from npipe.observing import note_wait
from npipe.options import PIPE_READMODE_MESSAGE
from npipe.reasons import no_messages
from npipe.transports.local.aio_pipes import pipe_of
from npipe.transports.local.blocking import READ_ATTRIBUTES, WRITE_ATTRIBUTES
from npipe.transports.local.place import place
from npipe.transports.patience import FolderPatience

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from npipe.loops.base import Loop, Waker
    from npipe.names import PipeName
    from npipe.options import CreateOptions
    from npipe.transports.local.aio_pipes import LocalAsyncMessagePipe, LocalAsyncStreamPipe

__all__ = ["TRANSPORT", "LocalArrival", "LocalAsyncTransport", "LocalInstances", "dialled", "pipe_waker"]

_BACKLOG_PAUSE = 0.002  # seconds between attempts to get into a full backlog, whose end the kernel does not tell

with contextlib.suppress(FileNotFoundError):  # there is none: root_folder tells those who need it
    tempfile.gettempdir()  # which finds it by trying, so not on an event loop

_late_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, binding.LateTurn] = weakref.WeakKeyDictionary()


def pipe_waker(loop: Loop, handle: binding.PolledHandle) -> Waker | binding.LoopWaker:
    """Make what wakes a pipe's calls: on asyncio's loops it is the engine's own."""
    if not isinstance(loop, AsyncioLoop):
        return loop.waker(handle.poll_socket(), handle.wake)
    turn = _late_turns.get(loop.loop)
    if turn is None:
        turn = _late_turns[loop.loop] = binding.LateTurn()
    return binding.LoopWaker(loop.loop, handle, turn)


async def dialled(dial: binding.Dial, loop: Loop) -> None:
    """Take the steps of a dial until it is through; it knows its time-out itself."""
    while not dial.step():
        fd = dial.fileno()
        if fd < 0:
            await loop.pause(_BACKLOG_PAUSE)
        else:
            await loop.readable(fd, dial.until)


class LocalInstances:
    """See AsyncInstances. Clients connect also while the event loop is busy."""

    def __init__(
        self,
        name: PipeName,
        options: CreateOptions,
        *,
        first_instance: bool,
        on_client: Callable[[], object],
    ) -> None:
        self._loop = current()
        self._name = name
        self._options = options
        self._on_client = on_client
        self._closed = False
        self._waits_for_room = False
        self._patience = FolderPatience()
        self._locked: float | None = None  # seconds; another process had the folder's lock: to try again after so many
        self._listening: binding.PolledHandle | None = self._create(first_instance=first_instance)
        self._acceptor = binding.Acceptor(*place(name))
        self._waker: Waker = self._loop.waker(self._acceptor.fileno(), self._wake)
        _all.add(self)

    def _create(self, *, first_instance: bool, timeout: float | None = None) -> binding.PolledHandle:
        """Create an instance, which listens from now on. `timeout`: for another process with the folder's lock."""
        options = self._options
        rule = options.rule or options.security.resolve()
        return binding.PolledHandle.create(
            *place(self._name),
            self._name.path,
            access=options.direction,
            first_instance=first_instance,
            type=options.pipe_type,
            mode=options.read_mode,
            max_instances=options.max_instances,
            out_quota=options.out_buffer_size,
            in_quota=options.in_buffer_size,
            default_timeout_ms=options.default_timeout_ms,
            everyone=rule.everyone,
            uids=rule.uids,
            gids=rule.gids,
            allowed=rule.access,
            timeout=timeout,
            traceable=options.traceable,
        )

    @property
    def closed(self) -> bool:
        """See AsyncInstances.closed."""
        return self._closed

    def _wake(self) -> bool:
        self._acceptor.quieten()
        if self._listening is not None and not self._closed:
            self._on_client()
        return False

    def take(self) -> LocalAsyncMessagePipe | LocalAsyncStreamPipe | None:
        """See AsyncInstances.take."""
        while True:
            instance = self._instance()
            pipe = None if instance is None else self._connected(instance)
            if pipe is not None or instance is self._listening:
                return pipe

    async def wait(self, deadline: float | None) -> bool:
        """See AsyncInstances.wait."""
        if self._locked is None:
            return await self._waker.wait(deadline)
        await self._loop.pause(self._locked)
        return deadline is None or time.monotonic() < deadline

    def _instance(self) -> binding.PolledHandle | None:
        """Return the instance that listens; None at the limit, and the acceptor then tells when there may be one."""
        self._locked = None
        if self._listening is None:
            seen = binding.closed_instances()
            try:
                self._listening = self._create(first_instance=False, timeout=0)
            except PipeTimeoutError as error:  # the loop is not to wait for it
                self._locked = self._patience.pause(error, self._name.path, None)
            except PipeBusyError:
                self._patience.over()
                self._acceptor.await_room(seen)
                self._waits_for_room = True
        if self._listening is not None:
            self._patience.over()  # also when the close of a pipe has made it
            if self._waits_for_room:
                self._acceptor.forget_room()
                self._waits_for_room = False
        return self._listening

    def _connected(self, instance: binding.PolledHandle) -> LocalAsyncMessagePipe | LocalAsyncStreamPipe | None:
        """Return the pipe of the client that has come to `instance`, if one has; else the acceptor tells of it."""
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
        waker = pipe_waker(self._loop, instance)
        pipe = pipe_of(instance, self._loop, waker, message_mode=self._options.message_mode)
        pipe._when_closed(self._release)  # noqa: SLF001 - made here
        return pipe

    def _release(self, instance: binding.PolledHandle, discard: bool) -> None:
        """Close a connected instance; at the limit a new one takes its place, so that the name stays."""
        if self._closed or self._listening is not None:
            return
        try:
            self._listening = instance.replace_polled(discard)
        except PipeError:
            return  # no descriptors, say: the pipe is closed all the same, and the next accept says why
        binding.wake_closed()
        self._waker.wake_all()

    def forget(self) -> None:
        """Be closed, without a word to the engine: this is a forked child, and all is the parent's."""
        self._closed = True
        self._listening = None
        self._acceptor.close()

    def close(self) -> None:
        """See AsyncInstances.close."""
        if self._closed:
            return
        self._closed = True
        instance, self._listening = self._listening, None
        if instance is not None:
            instance.close_handle()
        self._waker.close()
        self._acceptor.close()
        binding.wake_closed()


def _has_data(instance: binding.PolledHandle) -> bool:
    try:
        instance.peek_pipe()
    except PipeError:
        return False  # nothing is left, or this end may not read
    return True


_all: weakref.WeakSet[LocalInstances] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for instances in _all:
        instances.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)


class LocalArrival:
    """See AsyncArrival."""

    def __init__(self, name: PipeName) -> None:
        root, folder, _ = place(name)
        self._loop = current()
        self._watch = binding.Arrival(root, folder, name.path)

    def arm(self) -> None:
        """See AsyncArrival.arm."""
        self._watch.arm()

    def close(self) -> None:
        """See AsyncArrival.close."""
        self._watch.close()

    async def wait(self, deadline: float | None) -> bool:
        """See AsyncArrival.wait."""
        while not self._watch.changed():
            if not await self._loop.readable(self._watch.fileno(), deadline):
                return False
        return True


class LocalAsyncTransport:
    """See AsyncTransport."""

    async def connect(
        self, name: PipeName, *, message_mode: bool, access: int, timeout: float | None, verify_owner: bool
    ) -> LocalAsyncMessagePipe | LocalAsyncStreamPipe:
        """See AsyncTransport.connect."""
        loop = current()
        hold = timeout is None or timeout > 0
        dial = binding.Dial(
            *place(name),
            name.path,
            access=access | READ_ATTRIBUTES | WRITE_ATTRIBUTES,
            hold=hold,
            verify_owner=verify_owner,
            timeout=timeout
            if hold
            else None,  # without a wait it is the engine that bounds the few messages of an open
        )
        try:
            await dialled(dial, loop)
            handle, instances = dial.handle()
        finally:
            note_wait(lambda: dial.held_since)
            dial.close()
        try:
            if message_mode:
                handle.set_state(PIPE_READMODE_MESSAGE)
            return pipe_of(handle, loop, pipe_waker(loop, handle), message_mode=message_mode, instances=instances)
        except PipeModeError:
            handle.close_handle(True)
            raise no_messages(name.path, "opening the pipe") from None
        except BaseException:
            handle.close_handle(True)
            raise

    def listen(
        self, name: PipeName, options: CreateOptions, *, first_instance: bool, on_client: Callable[[], object]
    ) -> LocalInstances:
        """See AsyncTransport.listen."""
        return LocalInstances(name, options, first_instance=first_instance, on_client=on_client)

    async def wait(self, name: PipeName, timeout: float | None, *, use_default: bool) -> None:
        """See AsyncTransport.wait."""
        loop = current()
        dial = binding.Dial(
            *place(name), name.path, only_wait=True, verify_owner=False, timeout=timeout, use_default=use_default
        )
        try:
            await dialled(dial, loop)
        finally:
            note_wait(lambda: dial.held_since)
            dial.close()

    def arrival(self, name: PipeName) -> LocalArrival:
        """See AsyncTransport.arrival."""
        return LocalArrival(name)


TRANSPORT = LocalAsyncTransport()
