"""The messages of a measurement: every one is another, so that one that is lost, doubled or swapped is noticed."""

from __future__ import annotations

import random
import struct
from typing import Final

__all__ = ["ECHO", "END", "ONE_WAY", "SMALLEST", "Messages", "difference", "kind_of"]

ECHO: Final = 1
"""It comes back as it is."""
ONE_WAY: Final = 2
"""Its receiver compares it and says nothing."""
END: Final = 3
"""One way is over: its receiver answers what it has found, in text."""

_HEAD: Final = struct.Struct("<BQ")  # kind, number
SMALLEST: Final = 16
"""Bytes of the shortest message."""


class Messages:
    """The messages of one size: both sides make the same, from their numbers."""

    def __init__(self, size: int, kind: int) -> None:
        self._kind = kind
        self._message = bytearray(random.Random(size).randbytes(size))  # noqa: S311 - no secret

    def numbered(self, number: int) -> bytearray:
        """Return message `number`; the next call changes it."""
        _HEAD.pack_into(self._message, 0, self._kind, number)
        return self._message


def kind_of(message: bytes) -> int:
    """Return the kind of a message; 0 of an empty one."""
    return message[0] if message else 0


def difference(number: int, expected: bytes | bytearray, found: bytes) -> str:
    """Return in words how message `number` differs from what was sent."""
    if len(found) != len(expected):
        return f"message {number} has {len(found)} bytes in place of {len(expected)}"
    at = next(i for i, (one, other) in enumerate(zip(expected, found, strict=True)) if one != other)
    return f"message {number} differs from byte {at} on"
