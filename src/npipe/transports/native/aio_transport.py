"""Windows' own pipes as a transport for asyncio's Proactor loop."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import asyncio
import contextlib
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

import pywintypes
import win32pipe

from npipe.errors import PipeBusyError, PipeClosedError, PipeError, PipeTimeoutError, WinError, error_from_code
from npipe.observing import carried, note_wait
from npipe.options import deadline_of, time_left
from npipe.transports.native.aio_pipes import flushed, pipe_of
from npipe.transports.native.handles import ThreadCall, close_file, own_instances, tell_closed
from npipe.transports.native.proactor import ProactorFile, current_proactor
from npipe.transports.native.transport import PAUSE, create_instance, open_client, prepare_client, wait_named_pipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from npipe.names import PipeName
    from npipe.options import CreateOptions
    from npipe.transports.native.aio_pipes import NativeAsyncMessagePipe, NativeAsyncStreamPipe
    from npipe.transports.native.proactor import Operation, ProactorLoop

__all__ = ["TRANSPORT", "NativeAsyncArrival", "NativeAsyncTransport", "NativeInstances"]

_CAME: Final = (WinError.SUCCESS, WinError.PIPE_CONNECTED)  # ConnectNamedPipe's results: a client has come, or
_LEFT: Final = (WinError.NO_DATA, WinError.BROKEN_PIPE, WinError.PIPE_NOT_CONNECTED)  # has left already
_PATIENCE: Final = 1.0  # seconds that a client has to read its last answer when its instance is the name's only one


# ---- Instances


class NativeInstances:
    """See AsyncInstances."""

    def __init__(
        self, name: PipeName, options: CreateOptions, *, first_instance: bool, on_client: Callable[[], object]
    ) -> None:
        self._loop = current_proactor()
        self._name = name
        self._options = options
        self._on_client = on_client
        self._closed = False
        self._waiters = self._loop.waiters()
        self._relisting: set[asyncio.Task[None]] = set()
        self._connecting: Operation | None = None  # of the instance that listens
        self._listening: ProactorFile | None = self._create(first_instance=first_instance)

    def _create(self, *, first_instance: bool = False) -> ProactorFile:
        handle = create_instance(self._name, self._options, first_instance=first_instance)
        return self._own(ProactorFile(handle, self._name.path, self._loop))

    @staticmethod
    def _own(file: ProactorFile) -> ProactorFile:
        own_instances.add(file)
        return file

    @property
    def closed(self) -> bool:
        """See AsyncInstances.closed."""
        return self._closed

    def take(self) -> NativeAsyncMessagePipe | NativeAsyncStreamPipe | None:
        """See AsyncInstances.take."""
        while True:
            if self._listening is None:
                try:
                    self._listening = self._create()
                except PipeBusyError:  # at the limit
                    return None
            pipe = self._connected(self._listening)
            if pipe is not None or self._connecting is not None:
                return pipe
            # Another instance listens.

    async def wait(self, deadline: float | None) -> bool:
        """See AsyncInstances.wait."""
        until = deadline
        if self._listening is None:  # at the limit: this process's instances tell when they go, others do not
            pause = time.monotonic() + PAUSE
            until = pause if deadline is None else min(pause, deadline)
        return await self._waiters.wait(until) or deadline is None or time.monotonic() < deadline

    def _connect_has_ended(self, _: object) -> None:
        """Let the client be taken, if one has come. What has gone wrong is left to `take`, which says why."""
        connecting = self._connecting
        ended = self._listening is not None and connecting is not None and connecting.over
        if ended and connecting is not None and connecting.result()[0] in (*_CAME, *_LEFT):
            self._on_client()
        self._waiters.wake_all()

    def _connected(self, file: ProactorFile) -> NativeAsyncMessagePipe | NativeAsyncStreamPipe | None:
        """Return the pipe of the client that has come, if one has; else ConnectNamedPipe is in progress for it."""
        try:
            if self._connecting is None:
                self._connecting = file.start(_connect_named_pipe, "waiting for a client")
                self._connecting.future.add_done_callback(self._connect_has_ended)
            if not self._connecting.over:
                return None
            code, _ = self._connecting.result()
        except PipeClosedError as error:
            if error.winerror != WinError.NO_DATA:
                raise
            code = error.winerror
        self._connecting = None
        if code not in (*_CAME, *_LEFT):  # the next accept tries again
            raise error_from_code(code, self._name.path, "waiting for a client")
        if code and not _has_data(file):  # the client has left already
            self._listening = None
            self._listen_again(file)
            return None
        self._listening = None
        with contextlib.suppress(PipeError):  # else the next accept says why not, if it is still so
            self._listening = self._create()
        options, direction = self._options, self._options.direction
        pipe = pipe_of(
            file,
            message_mode=options.message_mode,
            access=direction,
            direction=direction,
            is_server=True,
            options=options,
        )
        pipe._when_closed(self._release)  # noqa: SLF001 - made here
        return pipe

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
        fresh = self._own(ProactorFile(handle, self._name.path, self._loop, bound=True))
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
            self._connecting.future.add_done_callback(self._connect_has_ended)
        tell_closed()
        self._waiters.wake_all()

    def close(self) -> None:
        """See AsyncInstances.close."""
        if self._closed:
            return
        self._closed = True
        file, self._listening = self._listening, None
        if file is not None:
            file.end()
            close_file(file)
        for task in self._relisting:
            task.cancel()
        self._waiters.wake_all()


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


# ---- Clients

_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = weakref.WeakKeyDictionary()
"""For each name the lock of whoever waits for its next instance: the others of this loop wait for the lock."""


async def _waited(loop: ProactorLoop, name: PipeName, deadline: float | None, *, use_default: bool = False) -> None:
    """WaitNamedPipe, which has no overlapped form: a thread waits. It ends a moment after it is not needed any more."""
    given_up = threading.Event()
    errors: list[PipeError] = []

    def in_thread() -> None:
        try:
            wait_named_pipe(name, time_left(deadline), use_default=use_default, given_up=given_up.is_set)
        except PipeError as error:
            errors.append(error)

    waiters = loop.waiters()
    thread = ThreadCall(carried(in_thread), lambda: loop.call_from_thread(waiters.wake_all))
    try:
        await waiters.wait(None)  # the thread has the deadline
    except BaseException:
        given_up.set()
        thread.cancel()
        raise
    if errors:
        raise errors[0]


@contextlib.asynccontextmanager
async def _turn(loop: ProactorLoop, name: PipeName, deadline: float | None) -> AsyncIterator[None]:
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


async def _opened(
    loop: ProactorLoop, name: PipeName, wanted: int, deadline: float | None, *, message_mode: bool
) -> object:
    """Open a pipe as soon as an instance listens: a wait reserves none."""
    while True:
        try:
            return open_client(name, wanted, message_mode=message_mode)
        except PipeBusyError:
            pass
        await _waited(loop, name, deadline)


class NativeAsyncArrival:
    """See AsyncArrival. Nothing tells that a pipe has come, so whoever waits looks again after a pause."""

    def __init__(self) -> None:
        self._loop = current_proactor()

    def arm(self) -> None:
        """See Arrival.arm."""

    async def wait(self, deadline: float | None) -> bool:
        """See AsyncArrival.wait."""
        left = time_left(deadline)
        await self._loop.pause(PAUSE if left is None else min(PAUSE, left))
        return left is None or left > PAUSE

    def close(self) -> None:
        """See Arrival.close."""


class NativeAsyncTransport:
    """See AsyncTransport."""

    async def connect(
        self, name: PipeName, *, message_mode: bool, access: int, timeout: float | None, verify_owner: bool
    ) -> NativeAsyncMessagePipe | NativeAsyncStreamPipe:
        """See AsyncTransport.connect."""
        loop = current_proactor()
        deadline = deadline_of(timeout)
        try:
            handle = open_client(name, access, message_mode=message_mode)
        except PipeBusyError:
            if timeout == 0:
                raise
            note_wait()
            async with _turn(loop, name, deadline):
                handle = await _opened(loop, name, access, deadline, message_mode=message_mode)
        direction = prepare_client(handle, name, message_mode=message_mode, verify_owner=verify_owner)
        try:
            file = ProactorFile(handle, name.path, loop)
        except BaseException:
            handle.Close()
            raise
        return pipe_of(file, message_mode=message_mode, access=access, direction=direction, is_server=False)

    def listen(
        self, name: PipeName, options: CreateOptions, *, first_instance: bool, on_client: Callable[[], object]
    ) -> NativeInstances:
        """See AsyncTransport.listen."""
        return NativeInstances(name, options, first_instance=first_instance, on_client=on_client)

    async def wait(self, name: PipeName, timeout: float | None, *, use_default: bool) -> None:
        """See AsyncTransport.wait."""
        await _waited(current_proactor(), name, deadline_of(timeout), use_default=use_default)

    def arrival(self, name: PipeName) -> NativeAsyncArrival:  # noqa: ARG002  # they are all alike
        """See AsyncTransport.arrival."""
        return NativeAsyncArrival()


TRANSPORT = NativeAsyncTransport()
