"""The event loops that the async face runs on: waiting until a descriptor is readable."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from npipe import binding as _engine

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Loop", "Waker", "current"]

BACKLOG_PAUSE = 0.002
"""Seconds between attempts to get into a full backlog, whose end the kernel does not tell."""


class Waker(ABC):
    """Calls `wake` whenever a descriptor is readable, and lets tasks wait for that.

    `wake` returns True when the descriptor has told all it ever will. Its tasks look for themselves why they were
    woken, so a wake too many does no harm, and one that is cancelled leaves nothing behind.
    """

    @abstractmethod
    async def wait(self, deadline: float | None) -> bool:
        """Wait for the next wake; False when `deadline` (time.monotonic) came first."""

    @abstractmethod
    def wake_all(self) -> None:
        """Let all waiting tasks look again."""

    @abstractmethod
    def close(self) -> None:
        """Let the descriptor go, before it is closed, and wake all who wait."""


class Loop(ABC):
    """One kind of event loop."""

    @abstractmethod
    def waker(self, fd: int, wake: Callable[[], bool]) -> Waker:
        """Make a Waker; the descriptor is watched from its first wait on."""

    def pipe_waker(self, handle: _engine.PolledHandle) -> Waker | _engine.LoopWaker:
        """Make the Waker of a pipe."""
        return self.waker(handle.poll_socket(), handle.wake)

    @abstractmethod
    async def readable(self, fd: int, deadline: float | None) -> bool:
        """Wait until `fd` is readable; False when `deadline` came first."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let others run, and `seconds` go by."""


class AsyncioWaker(Waker):
    """A Waker on asyncio's loop, or uvloop's: the descriptor stays registered while the pipe is open."""

    __slots__ = ("_closed", "_fd", "_loop", "_waiters", "_wake", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, wake: Callable[[], bool]) -> None:
        self._loop = loop
        self._fd = fd
        self._wake = wake
        self._waiters: list[asyncio.Future[bool]] = []
        self._watched = False
        self._closed = False

    def _on_readable(self) -> None:
        if self._wake():
            self._unwatch()
        if self._waiters:
            self.wake_all()

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(self._fd)

    def wake_all(self) -> None:
        """See Waker.wake_all."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(True)

    async def wait(self, deadline: float | None) -> bool:
        """See Waker.wait."""
        if self._closed:
            return True
        if not self._watched:
            self._loop.add_reader(self._fd, self._on_readable)
            self._watched = True
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiters.append(waiter)
        timer = None
        if deadline is not None:
            timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), _time_is_up, waiter)
        try:
            return await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if self._waiters and waiter in self._waiters:
                self._waiters.remove(waiter)

    def close(self) -> None:
        """See Waker.close."""
        self._closed = True
        self._unwatch()
        if self._waiters and not self._loop.is_closed():
            self.wake_all()


def _time_is_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)


def _is_readable(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(True)


_late_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _engine.LateTurn] = weakref.WeakKeyDictionary()


class AsyncioLoop(Loop):
    """asyncio's selector loop, uvloop, and whatever else has add_reader."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def waker(self, fd: int, wake: Callable[[], bool]) -> Waker:
        """See Loop.waker."""
        return AsyncioWaker(self._loop, fd, wake)

    def pipe_waker(self, handle: _engine.PolledHandle) -> _engine.LoopWaker:
        """See Loop.pipe_waker."""
        turn = _late_turns.get(self._loop)
        if turn is None:
            turn = _late_turns[self._loop] = _engine.LateTurn()
        return _engine.LoopWaker(self._loop, handle, turn)

    async def readable(self, fd: int, deadline: float | None) -> bool:
        """See Loop.readable."""
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._loop.add_reader(fd, _is_readable, waiter)
        timer = None
        if deadline is not None:
            timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), _time_is_up, waiter)
        try:
            return await waiter
        finally:
            self._loop.remove_reader(fd)
            if timer is not None:
                timer.cancel()

    async def pause(self, seconds: float) -> None:
        """See Loop.pause."""
        await asyncio.sleep(seconds)


def current() -> Loop:
    """Return the loop that the calling task runs on. RuntimeError outside of one."""
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_run():
            from npipe.aio._trio import TrioLoop

            return TrioLoop()
    return AsyncioLoop(asyncio.get_running_loop())
