"""How long a creation that does not wait is tried again while another process has the lock of the pipe's folder."""

from __future__ import annotations

import time
from typing import Final

from npipe.errors import PipeResourceError, PipeTimeoutError, WinError

__all__ = ["FolderPatience"]

_LONGEST: Final = 3.0  # seconds, as long as the engine's own calls wait
_FIRST_PAUSE: Final = 0.0001
_LONGEST_PAUSE: Final = 0.01
_UNSEEN: Final = 1.0  # seconds after which it is another lock: nobody has looked meanwhile


class FolderPatience:
    """The wait for one creation: a lock is held for microseconds, but its process may be stopped in that moment."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._seen = 0.0
        self._pause = _FIRST_PAUSE

    def pause(self, error: PipeTimeoutError, name: str, left: float | None) -> float:
        """Return how many seconds to pause before the next try. `left`: what is left of the call's time-out.

        Raises:
            PipeTimeoutError: `error`, which says that the lock is taken: nothing is left (121).
            PipeResourceError: another process has had the lock for 3 seconds (1450), as far as was looked.
        """
        now = time.monotonic()
        if self._since is None or now - self._seen > _UNSEEN:
            self.over()
            self._since = now
        self._seen = now
        if now - self._since >= _LONGEST:
            self.over()
            raise PipeResourceError(
                WinError.NO_SYSTEM_RESOURCES,
                name,
                "waiting for a client",
                f"another process has had the lock of the pipe's folder for {_LONGEST:.0f} seconds; it may be stopped",
            ) from error
        if left is not None and left <= 0:
            raise error
        pause, self._pause = self._pause, min(self._pause * 1.5, _LONGEST_PAUSE)
        return pause if left is None else min(pause, left)

    def over(self) -> None:
        """Begin anew: the lock was free."""
        self._since, self._pause = None, _FIRST_PAUSE
