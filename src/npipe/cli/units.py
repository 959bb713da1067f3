"""Sizes and times for people."""

from __future__ import annotations

from typing import Final

__all__ = ["size_text", "span_text"]

_KIB: Final = 1024
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_EXACT: Final = 10_000  # bytes are told exactly up to here


def size_text(size: int) -> str:
    """Return a number of bytes for people."""
    if size < _EXACT:
        return f"{size} B"
    for power, unit in enumerate(_UNITS, 1):
        if size < _KIB ** (power + 1):
            return f"{size / _KIB**power:.1f} {unit}"
    return f"{size / _KIB**4:.1f} TiB"


def span_text(seconds: float) -> str:
    """Return a time for people: 0.5 s, 12 s, 3:05 min, 7:15 h, 4 d."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    if whole < 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02} h"
    return f"{whole // 86400} d"
