"""The async face on asyncio: its selector loop, uvloop, and whatever else there is; descriptors need add_reader."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from npipe.loops.base import Loop, Waiters, Waker

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AsyncioLoop", "AsyncioWaiters"]


_LONG: Final = 30 * 86400.0  # seconds


class AsyncioWaiters(Waiters):
    """A Waiters whose tasks wait in a future each."""

    __slots__ = ("_loop", "_waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: list[asyncio.Future[bool]] = []

    def wake_all(self) -> None:
        """See Waiters.wake_all."""
        waiters, self._waiters = self._waiters, []
        if waiters and not self._loop.is_closed():
            for waiter in waiters:
                _finish(waiter, True)

    async def wait(self, deadline: float | None) -> bool:
        """See Waiters.wait."""
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiters.append(waiter)
        if deadline is not None:
            timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), _finish, waiter, False)
        else:
            # The loop keeps its tasks weakly, and by its timers who waits: without one nobody might, but the other side
            # of what is waited for. Closed, it lets go of all.
            timer = self._loop.call_later(_LONG, waiter.done)
        try:
            return await waiter
        finally:
            timer.cancel()
            if self._waiters and waiter in self._waiters:
                self._waiters.remove(waiter)


class AsyncioWaker(AsyncioWaiters, Waker):
    """A Waker whose descriptor stays registered until it is closed, or has told all."""

    __slots__ = ("_closed", "_fd", "_wake", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, wake: Callable[[], bool]) -> None:
        super().__init__(loop)
        self._fd = fd
        self._wake = wake
        self._watched = False
        self._closed = False

    def _on_readable(self) -> None:
        if self._wake():
            self._unwatch()
        self.wake_all()

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(self._fd)

    async def wait(self, deadline: float | None) -> bool:
        """See Waiters.wait."""
        if self._closed:
            return True
        if not self._watched:
            self._loop.add_reader(self._fd, self._on_readable)
            self._watched = True
        return await super().wait(deadline)

    def close(self) -> None:
        """See Waker.close."""
        self._closed = True
        self._unwatch()
        self.wake_all()


def _finish(waiter: asyncio.Future[bool], result: bool) -> None:
    if not waiter.done():
        waiter.set_result(result)


class AsyncioLoop(Loop):
    """asyncio's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    @property
    def identity(self) -> object:
        """See Loop.identity."""
        return self.loop

    def waiters(self) -> Waiters:
        """See Loop.waiters."""
        return AsyncioWaiters(self.loop)

    def waker(self, fd: int, wake: Callable[[], bool]) -> Waker:
        """See Loop.waker."""
        return AsyncioWaker(self.loop, fd, wake)

    async def readable(self, fd: int, deadline: float | None) -> bool:
        """See Loop.readable."""
        waiter: asyncio.Future[bool] = self.loop.create_future()
        self.loop.add_reader(fd, _finish, waiter, True)
        timer = None
        if deadline is not None:
            timer = self.loop.call_later(max(0.0, deadline - time.monotonic()), _finish, waiter, False)
        try:
            return await waiter
        finally:
            self.loop.remove_reader(fd)
            if timer is not None:
                timer.cancel()

    async def pause(self, seconds: float) -> None:
        """See Loop.pause."""
        await asyncio.sleep(seconds)

    def call_from_thread(self, callback: Callable[[], object]) -> None:
        """See Loop.call_from_thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(callback)
