"""Figures for people, as `npipe top` writes them: few characters, and a history in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size

from npipe._text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["answer_text", "compact", "fitted", "idle_text", "percent", "spark", "waits_text"]

_UNITS: Final = "KMGTPE"
_KILO: Final = 1000.0
_BARS: Final = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS: Final = " .:-=+*#@"


def compact(value: float) -> str:
    """Return a number in five characters at most: 0, 999, 9.9K, 123K, 1.2M, 999E."""
    if value < _KILO - 0.5:
        return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
    for unit in _UNITS:
        value /= _KILO
        if value < 9.95:
            return f"{value:.1f}{unit}"
        if value < _KILO - 0.5:
            return f"{value:.0f}{unit}"
    return "many"


def percent(part: float) -> str:
    """Return a part of its whole: 0%, <1%, 12%, >999%."""
    if part <= 0:
        return "0%"
    if part < 0.01:
        return "<1%"
    return f"{part * 100:.0f}%" if part < 10 else ">999%"


def answer_text(seconds: float) -> str:
    """Return a short time: 85µs, 1.2ms, 120ms, 1.0s."""
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f}µs"
    if seconds < 0.00995:
        return f"{seconds * 1e3:.1f}ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f}ms"
    return f"{seconds:.1f}s"


def idle_text(seconds: float, *, exactly: bool) -> str:
    """Return for how long nothing was done, in five characters at most: 0s, 59s, 59m, 23h, 999d; more than that: >59s.

    No fractions: it is known to a question only.
    """
    text = "many"
    for unit, size, most in (("s", 1, 60), ("m", 60, 60), ("h", 3600, 24), ("d", 86400, 1000)):
        if seconds // size < most:
            text = f"{int(seconds // size)}{unit}"
            break
    return text if exactly else f">{text}"


def waits_text(readers: int, writers: int) -> str:
    """Return how many wait for data, and how many for room."""
    return f"{compact(readers)}/{compact(writers)}"


def spark(values: Sequence[float], width: int, *, plain: bool = False) -> str:
    """Return the newest `width` values as bars, the last one at the right; the highest of them has all the height."""
    bars = _PLAIN_BARS if plain else _BARS
    shown = list(values)[-width:] if width > 0 else []
    top = max(shown, default=0.0)
    if top <= 0:
        return (bars[1] * len(shown)).rjust(width)
    steps = len(bars) - 2
    return "".join(bars[1 + min(steps, round(value / top * steps))] for value in shown).rjust(width)


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """Return text of a stranger's, printable and in just so many cells; what does not fit is cut, and that is shown."""
    text = printable(text[: 4 * width + 4])
    cells = cell_len(text)
    if cells > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    return " " * (width - cells) + text if right else text + " " * (width - cells)
