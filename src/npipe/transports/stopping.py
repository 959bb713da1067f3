"""Ending a blocking call from another thread, as an event loop does with an opening that nobody waits for any more."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final, Protocol, Self, runtime_checkable

from npipe.transports.base import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["NEVER", "Stop", "StoppableTransport", "StoppedError"]


class StoppedError(Exception):
    """A call was ended by its Stop. Nobody but who has set that sees it."""


class Stop:
    """Ends the waits of one call, once and for good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # for the two below
        self._is_set = False
        self._wakes: dict[object, Callable[[], object]] = {}

    @property
    def is_set(self) -> bool:
        """Whether the call is to end."""
        return self._is_set

    def set(self) -> None:
        """End the call, from whatever thread: it wakes, and raises StoppedError."""
        with self._lock:
            self._is_set = True
            wakes = list(self._wakes.values())
        for wake in wakes:
            wake()

    def check(self) -> None:
        """Raise StoppedError if it is set."""
        if self._is_set:
            raise StoppedError

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Let `set` call `wake` during a block, perhaps a moment after it too; at once if it is set already.

        So who waits for what `wake` sets, and then looks at `is_set`, misses nothing.
        """
        key = object()
        with self._lock:
            self._wakes[key] = wake
            is_set = self._is_set
        try:
            if is_set:
                wake()
            yield
        finally:
            with self._lock:
                del self._wakes[key]

    def pause(self, seconds: float) -> None:
        """Wait for so long. Raises StoppedError."""
        woken = threading.Event()
        with self.waking(woken.set):
            woken.wait(seconds)
        self.check()


class _Never(Stop):
    """One that is never set, for any number of calls."""

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:  # noqa: ARG002 - it never does
        """See Stop.waking."""
        yield


NEVER: Final[Stop] = _Never()
"""What ends nothing."""


@runtime_checkable
class StoppableTransport(Transport, Protocol):
    """A transport whose `connect` and `wait` can be ended from another thread."""

    def until(self, stop: Stop) -> Self:
        """Return one that is the same, whose calls end with StoppedError as soon as `stop` is set."""
