"""Whether the door is open: what the door has put in place asks here first, and does what was there before if not."""

from __future__ import annotations

__all__ = ["SCOPE"]


class _Scope:
    """The time during which at least one installation asks for the door."""

    def __init__(self) -> None:
        self.is_open = False


SCOPE = _Scope()
