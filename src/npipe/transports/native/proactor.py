"""The async face's ground on Windows: overlapped handles whose operations end on asyncio's Proactor loop."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import _overlapped  # type: ignore[import-not-found]  # what asyncio itself stands on
import time
from typing import TYPE_CHECKING, Any, Final

import pywintypes

from npipe.errors import PipeStateError, PipeTimeoutError, WinError
from npipe.loops._asyncio import AsyncioLoop
from npipe.loops.current import current
from npipe.reasons import End, closed_here, explain
from npipe.transports.native.handles import ThreadCall

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Operation", "ProactorFile", "ProactorLoop", "current_proactor"]

_LOWEST_TURN: Final = 128  # calls on one pipe that are answered at once, until the loop has a turn


_DONE: Final = (WinError.SUCCESS, WinError.MORE_DATA)


class ProactorLoop(AsyncioLoop):
    """The Proactor loop: its completion port, and calls in threads for what has no overlapped form."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.proactor: Any = getattr(loop, "_proactor", None)
        if self.proactor is None:
            detail = "on Windows the async face is for asyncio's Proactor loop, its default there"
            raise PipeStateError(WinError.NOT_SUPPORTED, detail=detail)

    async def in_thread(
        self, call: Callable[[], object], deadline: float | None, threads: set[ThreadCall] | None = None
    ) -> int | None:
        """Make a call that blocks in a thread of its own; its code, or None when the deadline came first.

        Out of time, or cancelled, the call is ended. It is in `threads` meanwhile, for others to end it.
        """
        waiters = self.waiters()
        in_time = False
        thread = ThreadCall(call, lambda: self.call_from_thread(waiters.wake_all))
        if threads is not None:
            threads.add(thread)
        try:
            in_time = await waiters.wait(deadline)
        finally:
            if threads is not None:
                threads.discard(thread)
            if not in_time:
                thread.end()
        return thread.code if in_time else None


def current_proactor() -> ProactorLoop:
    """Return the loop that the calling task runs on. RuntimeError outside of one, PipeStateError (50) on another."""
    loop = current()
    if not isinstance(loop, AsyncioLoop):
        detail = "on Windows the async face is for asyncio, not for trio"
        raise PipeStateError(WinError.NOT_SUPPORTED, detail=detail)
    return ProactorLoop(loop.loop)


class Operation:
    """An overlapped operation that was started: pending, or over."""

    __slots__ = ("future", "overlapped")

    def __init__(self, overlapped: Any, future: asyncio.Future[Any]) -> None:
        self.overlapped: Any = overlapped
        self.future: asyncio.Future[Any] = future

    @property
    def over(self) -> bool:
        """Whether it is over."""
        return not self.overlapped.pending

    def cancel(self) -> None:
        """Ask Windows to end it, if it is not over."""
        self.overlapped.cancel()

    def settle(self) -> tuple[int, int]:
        """End it now and return its result, which may be success all the same. Cancelling takes no wait to speak of."""
        self.overlapped.cancel()
        return self.result(wait=True)

    def result(self, *, wait: bool = False) -> tuple[int, int]:
        """Return its code, and how many bytes it has moved."""
        try:
            count = self.overlapped.getresult(wait)
        except OSError as error:
            return error.winerror or 0, 0
        code: int = self.overlapped.error
        if code == WinError.BROKEN_PIPE:  # which asyncio takes for the end of a stream
            return code, 0
        return code, count or 0


class ProactorFile:
    """An overlapped handle, bound to the loop's completion port, and the operations in progress on it."""

    def __init__(self, handle: Any, name: str, loop: ProactorLoop, *, bound: bool = False) -> None:
        self.handle = handle
        self.name = name
        self.loop = loop
        self.end_is: End | None = None  # once it is connected
        self.closed: bool = False  # no new calls
        self.writes: set[Operation] = set()  # those that pend
        self.threads: set[ThreadCall] = set()  # calls on the handle
        self._operations: set[Operation] = set()
        self._at_once = 0
        if bound:  # it has been, as another file
            loop.proactor._registered.add(self)  # noqa: SLF001 - asyncio has no public way to use its port
        else:
            loop.proactor._register_with_iocp(self)  # noqa: SLF001

    def fileno(self) -> int:
        """Return the handle's number, for asyncio."""
        return int(self.handle)

    def check_open(self, doing: str | None) -> None:
        """Raise PipeClosedError (6)."""
        if self.closed:
            raise closed_here(self.name, doing, code=WinError.INVALID_HANDLE)

    def ask(self, question: Callable[[Any], Any], doing: str | None = None) -> Any:
        """Make a call that does not wait, and return its result."""
        self.check_open(doing)
        try:
            return question(self.handle)
        except pywintypes.error as error:
            raise explain(error.winerror, self.name, doing, self.end_is) from None

    async def turn(self) -> None:
        """Give the loop a turn, when it has had none for many calls."""
        self._at_once += 1
        if self._at_once >= _LOWEST_TURN:
            self._at_once = 0
            await self.loop.pause(0)

    def start(self, begin: Callable[[Any, int], object], doing: str) -> Operation:
        """Start an operation; raises what it fails with at once. `begin` returns whether nothing was started: 535."""
        self.check_open(doing)
        overlapped = _overlapped.Overlapped()  # with an event, for a cancel that waits
        try:
            connected = begin(overlapped, int(self.handle))
        except OSError as error:
            raise explain(error.winerror or 0, self.name, doing, self.end_is) from None
        if connected:  # ERROR_PIPE_CONNECTED: nothing comes through the port
            return Operation(overlapped, self.loop.loop.create_future())
        future = self.loop.proactor._register(overlapped, self, lambda *_: None)  # noqa: SLF001
        operation = Operation(overlapped, future)
        if not future.done():
            self._operations.add(operation)
            future.add_done_callback(lambda _: self._operations.discard(operation))
        return operation

    async def finish(
        self,
        operation: Operation,
        deadline: float | None,
        doing: str,
        keep: Callable[[int, int], object] = lambda *_: None,
    ) -> tuple[int, int]:
        """Wait for an operation's end; return its code (0, 234) and how many bytes it has moved.

        Out of time, or cancelled, it is cancelled. If it has succeeded all the same in that moment, `keep` gets the
        code and the count, or they are returned.
        """
        out_of_time = False
        if operation.over:
            code, count = operation.result()
        elif deadline is not None and deadline <= time.monotonic():
            out_of_time = True
            code, count = operation.settle()
        else:
            self._at_once = 0
            timer = None
            if deadline is not None:

                def expire() -> None:
                    nonlocal out_of_time
                    out_of_time = True
                    operation.cancel()

                timer = self.loop.loop.call_later(deadline - time.monotonic(), expire)
            try:
                await operation.future
            except BaseException:
                code, count = operation.settle()
                if code in (WinError.SUCCESS, WinError.MORE_DATA):
                    keep(code, count)
                raise
            finally:
                if timer is not None:
                    timer.cancel()
            code, count = operation.result()
        if code == WinError.OPERATION_ABORTED or (code not in _DONE and self.closed):
            if self.closed:
                raise closed_here(self.name, doing)
            if out_of_time:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, doing)
        if code not in _DONE:
            raise explain(code, self.name, doing, self.end_is)
        return code, count

    def end(self) -> bool:
        """End all operations and take no new ones. False when it was closed before."""
        if self.closed:
            return False
        self.closed = True
        for operation in list(self._operations):
            operation.cancel()
        return True
