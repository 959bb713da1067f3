"""Calls that block, made in threads for the tasks of an event loop."""

from __future__ import annotations

import collections
import os
import queue
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

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
        job = call._job  # noqa: SLF001 - its other half
        with self._lock:
            self._calls.append(job)
            starts, self._runs = not self._runs, True
        if starts:
            try:
                _in_a_thread(self._run)
            except BaseException:  # no more threads; or a signal's handler has raised
                with self._lock:
                    if job in self._calls:  # else a thread has it, and says itself when it ends
                        self._calls.remove(job)
                        self._runs = False
                raise
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


# ---- The threads. To start one takes some ten times as long as to wake one, and a pipe's calls come one by one.

IDLE: Final = 0.25
"""Seconds that a thread waits for its next work."""

WORKING: Final = "npipe-worker"
RESTING: Final = "npipe-resting"
"""What a thread is called meanwhile."""


class _Thread(threading.Thread):
    """A thread that does one work after the other."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(name=WORKING, daemon=True)
        self.works: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.works.put(work)

    def run(self) -> None:
        """Do what there is, until there has been nothing for a while."""
        while True:
            try:
                work = self.works.get(timeout=IDLE)
            except queue.Empty:
                with _resting_lock:
                    try:
                        _resting.remove(self)
                    except ValueError:
                        if not self.works.empty():
                            continue  # it was given some in just that moment
                        # Else who wanted to give it some was interrupted.
                return
            work()
            del work  # it is the pipe's, which may be dropped while this thread rests
            self.name = RESTING
            with _resting_lock:
                _resting.append(self)


_resting: list[_Thread] = []
_resting_lock = threading.RLock()
"""The collector, or a signal's handler, may end a pipe in the midst of what is done under it, and come here again."""


def _in_a_thread(work: Callable[[], object]) -> None:
    """Let a thread do something: the one that has rested for the shortest time, or a new one."""
    with _resting_lock:
        try:
            thread = _resting.pop()
        except IndexError:
            thread = None
        if thread is not None:
            thread.name = WORKING
            thread.works.put(work)
            return
    _Thread(work).start()


def _after_fork_in_child() -> None:
    global _resting_lock  # somebody may have held it, who does not exist here
    _resting.clear()
    _resting_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
