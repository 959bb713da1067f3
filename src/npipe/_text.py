"""Text of others, as it may be shown: a name or a message may hold any character, a terminal or a log should not."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return `text` with what breaks a line or moves the cursor escaped: control characters, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
