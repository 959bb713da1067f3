"""Waiting for a server that is not there yet, the same for blocking calls and for event loops."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from npipe.errors import PipeAccessError, PipeNotFoundError, PipeTimeoutError, WinError
from npipe.observing import note_wait
from npipe.options import deadline_of, time_left

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from npipe.names import PipeName
    from npipe.transports import AsyncTransport, Transport

__all__ = ["when_there", "when_there_async"]

T = TypeVar("T")

_BEING_MADE: Final = 0.1
"""Seconds that a refusal is not believed: a folder is its owner's alone for a moment before others may enter."""


class _Wait:
    """What the two share: how long, and what it means when that is over."""

    def __init__(self, name: PipeName, timeout: float | None, doing: str) -> None:
        self._name = name
        self._doing = doing
        self.deadline = deadline_of(timeout)
        self._last: PipeNotFoundError | None = None  # what the last attempt has said
        self._refused: float | None = None  # time.monotonic, until when a refusal is not believed

    def left(self, error: PipeNotFoundError | PipeAccessError) -> float | None:
        """Return how long to wait for a change after an attempt has failed with `error`; raises it, or 121."""
        if isinstance(error, PipeAccessError):
            now = time.monotonic()
            self._refused = self._refused or now + _BEING_MADE
            if now >= self._refused or self.over:
                raise error
            left = self._refused - now
            return left if self.deadline is None else min(left, self.deadline - now)
        self._refused, self._last = None, error
        if self.over:
            raise self.too_late(error) from error
        return time_left(self.deadline)

    def give_up(self, error: PipeNotFoundError | PipeAccessError) -> None:
        """Raise what is to be said when nothing has changed in the time that `left` gave."""
        if isinstance(error, PipeAccessError):
            raise error
        if self.over:
            raise self.too_late(error) from error

    def remaining(self) -> float | None:
        """Return how long an attempt may take; 121 when nothing is left, for an attempt of 0 seconds says 231."""
        left = time_left(self.deadline)
        if left == 0:
            raise self.too_late(self._last)
        return left

    @property
    def over(self) -> bool:
        """Whether the time is."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def too_late(self, error: PipeNotFoundError | None) -> PipeTimeoutError:
        """Return the error that says that no server has come; `error` says where it was looked for."""
        detail, hint = "no server has come in that time", None
        if error is not None:
            detail += "" if error.detail is None else f": {error.detail}"
            hint = error.hint
        return PipeTimeoutError(WinError.SEM_TIMEOUT, self._name.path, self._doing, detail, hint=hint)


def when_there(
    transport: Transport, name: PipeName, timeout: float | None, doing: str, attempt: Callable[[float | None], T]
) -> T:
    """Return what `attempt` does as soon as the pipe is there; it gets the seconds that are left (None: for ever).

    Raises PipeTimeoutError (121: no server has come; with a `timeout` of 0 PipeNotFoundError, 2), PipeAccessError (5: a
    folder that cannot be watched), PipeResourceError (4, 8, 1450: the same), and what `attempt` raises.
    """
    wait = _Wait(name, timeout, doing)
    try:
        return attempt(timeout)
    except (PipeNotFoundError, PipeAccessError):
        if timeout == 0:
            raise
    note_wait()
    arrival = transport.arrival(name)
    try:
        while True:
            arrival.arm()
            try:
                return attempt(wait.remaining())
            except (PipeNotFoundError, PipeAccessError) as error:
                if not arrival.wait(wait.left(error)):
                    wait.give_up(error)
    finally:
        arrival.close()


async def when_there_async(
    transport: AsyncTransport,
    name: PipeName,
    timeout: float | None,
    doing: str,
    attempt: Callable[[float | None], Awaitable[T]],
) -> T:
    """See when_there."""
    wait = _Wait(name, timeout, doing)
    try:
        return await attempt(timeout)
    except (PipeNotFoundError, PipeAccessError):
        if timeout == 0:
            raise
    note_wait()
    arrival = transport.arrival(name)
    try:
        while True:
            arrival.arm()
            try:
                return await attempt(wait.remaining())
            except (PipeNotFoundError, PipeAccessError) as error:
                if not await arrival.wait(deadline_of(wait.left(error))):
                    wait.give_up(error)
    finally:
        arrival.close()
