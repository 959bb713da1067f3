"""Not built yet."""

from __future__ import annotations

from npipe.doors.base import Door

__all__ = ["EventLoopDoor"]


class EventLoopDoor(Door):
    """Nothing yet."""

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
