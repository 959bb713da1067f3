"""The async face on trio."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING

import trio

from npipe.loops.base import Loop, Waiters, Waker

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TrioLoop"]


def _trio_time(deadline: float | None) -> float:
    return math.inf if deadline is None else trio.current_time() + max(0.0, deadline - time.monotonic())


class TrioWaiters(Waiters):
    """A Waiters whose tasks wait for one event."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def wake_all(self) -> None:
        """See Waiters.wake_all."""
        event, self._event = self._event, trio.Event()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            event.set()

    async def wait(self, deadline: float | None) -> bool:
        """See Waiters.wait."""
        event = self._event
        with trio.CancelScope(deadline=_trio_time(deadline)) as scope:
            await event.wait()
        return not scope.cancelled_caught


class TrioWaker(TrioWaiters, Waker):
    """A Waker on trio: a system task watches the descriptor from the first wait on."""

    def __init__(self, fd: int, wake: Callable[[], bool]) -> None:
        super().__init__()
        self._fd = fd
        self._wake = wake
        self._scope: trio.CancelScope | None = None
        self._closed = False

    async def _watch(self, scope: trio.CancelScope) -> None:
        with scope:
            while not self._closed:
                try:
                    await trio.lowlevel.wait_readable(self._fd)
                except trio.ClosedResourceError:
                    return
                if self._closed or self._wake():
                    break
                self.wake_all()
        self._scope = None
        self.wake_all()

    async def wait(self, deadline: float | None) -> bool:
        """See Waiters.wait."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return True
        if self._scope is None:
            self._scope = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self._watch, self._scope)
        return await super().wait(deadline)

    def close(self) -> None:
        """See Waker.close."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._scope is not None:
                trio.lowlevel.notify_closing(self._fd)
                self._scope.cancel()
            self.wake_all()
        except RuntimeError:
            pass  # the loop has ended


class TrioLoop(Loop):
    """trio's loop."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    @property
    def identity(self) -> object:
        """See Loop.identity."""
        return self._token

    def waiters(self) -> Waiters:
        """See Loop.waiters."""
        return TrioWaiters()

    def waker(self, fd: int, wake: Callable[[], bool]) -> Waker:
        """See Loop.waker."""
        return TrioWaker(fd, wake)

    async def readable(self, fd: int, deadline: float | None) -> bool:
        """See Loop.readable."""
        with trio.CancelScope(deadline=_trio_time(deadline)) as scope:
            await trio.lowlevel.wait_readable(fd)
        return not scope.cancelled_caught

    async def pause(self, seconds: float) -> None:
        """See Loop.pause."""
        await trio.sleep(seconds)

    def call_from_thread(self, callback: Callable[[], object]) -> None:
        """See Loop.call_from_thread."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(callback)
