"""Calls that block, made in threads for the tasks of an event loop."""

from __future__ import annotations

import collections
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.loops.base import Loop

__all__ = ["Call", "Worker"]

T = TypeVar("T")


class _Job(Generic[T]):
    """A call, as its thread sees it.

    It does not keep the Call, nor so the task that waits for it: when a loop has ended without that task, the task is
    collected, and can let go of what it waits for.
    """

    def __init__(self, loop: Loop, function: Callable[[], T]) -> None:
        self.loop = loop
        self.call: weakref.ref[Call[T]] | None = None
        self.lock = threading.Lock()  # for the fields below
        self.function: Callable[[], T] | None = function
        self.begun = False
        self.result: T
        self.error: BaseException | None = None
        self.has_result = False
        self.dispose: Callable[[T], object] | None = None  # nobody wants the result

    def run(self) -> None:
        """Make the call: the thread's part."""
        with self.lock:
            function, self.function = self.function, None
            if function is None:
                return  # it was given up
            self.begun = True
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - its task raises it
            self.error = error
        else:
            with self.lock:
                self.result, self.has_result = result, True
                dispose = self.dispose
            if dispose is not None:
                dispose(result)
        self.loop.call_from_thread(self._tell)

    def _tell(self) -> None:
        call = None if self.call is None else self.call()
        if call is not None:
            call._is_over()  # noqa: SLF001 - they are two halves


class Call(Generic[T]):
    """A call that a thread makes, as its task sees it."""

    def __init__(self, loop: Loop, function: Callable[[], T]) -> None:
        self.over: bool = False  # of the loop's thread, as the two lists
        self._waiters = loop.waiters()
        self._callbacks: list[Callable[[Call[T]], object]] = []
        self._job = _Job(loop, function)
        self._job.call = weakref.ref(self)

    def run(self) -> None:
        """Make the call in this thread."""
        self._job.run()

    def _is_over(self) -> None:
        self.over = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)
        self._waiters.wake_all()

    def when_over(self, callback: Callable[[Call[T]], object]) -> None:
        """Let the loop call `callback` at the end of the call, or now; it is for whoever keeps the Call until then."""
        if self.over:
            callback(self)
        else:
            self._callbacks.append(callback)

    async def wait(self, deadline: float | None = None) -> bool:
        """Wait for its end; False when `deadline` (time.monotonic) came first."""
        while not self.over:
            if not await self._waiters.wait(deadline):
                return self.over
        return True

    def result(self) -> T:
        """Return or raise what it has ended with."""
        if self._job.error is not None:
            raise self._job.error
        return self._job.result

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._job.error is not None

    def give_up(self) -> bool:
        """Do not begin it. Whether that came in time."""
        with self._job.lock:
            self._job.function = None
            return not self._job.begun

    def abandon(self, dispose: Callable[[T], object]) -> None:
        """Let the thread give the result to `dispose`, for nobody else will take it."""
        self.give_up()
        with self._job.lock:
            self._job.dispose = dispose
            ended = self._job.has_result
        if ended:
            dispose(self._job.result)


class Worker:
    """A thread that makes calls one after the other, while there are any."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._lock = threading.Lock()  # for the two fields below
        self._calls: collections.deque[_Job[Any]] = collections.deque()
        self._runs = False

    def start(self, function: Callable[[], T]) -> Call[T]:
        """Let the thread make a call when those before it are over."""
        call = Call(self._loop, function)
        with self._lock:
            self._calls.append(call._job)  # noqa: SLF001 - its other half
            starts, self._runs = not self._runs, True
        if starts:
            threading.Thread(target=self._run, name="npipe-worker", daemon=True).start()
        return call

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._runs = False
                    return
                job = self._calls.popleft()
            job.run()
            del job  # with its result, while this waits for the next turn of the lock
