"""What the async face needs of an event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Loop", "Waiters", "Waker"]


class Waiters(ABC):
    """Tasks that wait until something has changed, and look for themselves what.

    So a wake too many does no harm, and a wait that is cancelled leaves nothing behind.
    """

    @abstractmethod
    async def wait(self, deadline: float | None) -> bool:
        """Wait for the next wake; False when `deadline` (time.monotonic) came first."""

    @abstractmethod
    def wake_all(self) -> None:
        """Let all waiting tasks look again; nothing once the loop is closed."""


class Waker(Waiters):
    """Calls its `wake` whenever a descriptor is readable, and lets tasks wait for that.

    `wake` returns True when the descriptor has told all it ever will.
    """

    @abstractmethod
    def close(self) -> None:
        """Let the descriptor go, before it is closed, and wake all who wait."""


class Loop(ABC):
    """One kind of event loop."""

    @property
    @abstractmethod
    def identity(self) -> object:
        """The same object for as long as it is the same loop, and no other's."""

    @abstractmethod
    def waiters(self) -> Waiters:
        """Make a Waiters."""

    @abstractmethod
    def waker(self, fd: int, wake: Callable[[], bool]) -> Waker:
        """Make a Waker; the descriptor is watched from its first wait on."""

    @abstractmethod
    async def readable(self, fd: int, deadline: float | None) -> bool:
        """Wait until `fd` is readable; False when `deadline` came first."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let others run, and `seconds` go by."""

    @abstractmethod
    def call_from_thread(self, callback: Callable[[], object]) -> None:
        """Let the loop call `callback`, from whatever thread; nothing once the loop is closed."""
