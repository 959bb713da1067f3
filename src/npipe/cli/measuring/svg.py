"""The figures as an SVG that suits a light page and a dark one, with no help of another package's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from npipe.cli.measuring.results import SHARES, duration, rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npipe.cli.measuring.results import Measured

__all__ = ["drawn"]

# Colours that people who see few of them can still tell apart, and that stand out on either page.
_STYLE: Final = """\
text { font: 13px "DejaVu Sans", Verdana, Helvetica, sans-serif; fill: #1f2328 }
.title { font-weight: bold; font-size: 16px }
.small { font-size: 11px }
.grid { stroke: #d8dee4; stroke-width: 1; fill: none }
.c0 { color: #0969da } .c1 { color: #bc4c00 } .c2 { color: #6e7781 } .c3 { color: #8250df } .c4 { color: #1a7f37 }
.line { stroke: currentColor; stroke-width: 2; fill: none; stroke-linejoin: round }
.c0 .line { stroke-width: 3 }
.fill { fill: currentColor; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.grid { stroke: #30363d }
.c0 { color: #58a6ff } .c1 { color: #f0883e } .c2 { color: #8b949e } .c3 { color: #d2a8ff } .c4 { color: #56d364 }
}"""

_WIDTH: Final = 740
_LEFT, _RIGHT = 64, 700  # of the plots


def drawn(measured: Sequence[Measured], size: int, bulk: int, where: str) -> str:
    """Return the drawing: how slow the slow round trips are, and the throughput. `where`: the machine, in a line."""
    curves = _curves(measured, 56, 260)
    legend_top = 360
    bars_top = legend_top + 22 * len(measured) + 40
    bars = _bars(measured, bars_top, 34)
    height = bars_top + 24 + 34 * len(measured) + 34
    frame = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" role="img"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>',
        f"<title>{escape(f'Round trips of {size} bytes, and {bulk} bytes one way')}</title>",
        f"<style>{_STYLE}</style>",
        _text(8, 26, f"Round trips of {size} bytes: the slow ones", "title"),
        *curves,
        *_legend(measured, legend_top),
        _text(8, bars_top, f"One way, {bulk} bytes a message: more is better", "title"),
        *bars,
        _text(8, height - 10, where, "small"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    shown = "".join(c for c in text if c.isprintable())  # XML has no place for control characters
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(shown)}</text>'


def _curves(measured: Sequence[Measured], top: int, height: int) -> list[str]:
    """Draw the time that a share of the round trips does not exceed, over that share; both on log scales."""
    points = {each.name: _points(each) for each in measured}
    values = [time for found in points.values() for _, time in found]
    if not values:
        return []
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    most = max(nines for found in points.values() for nines, _ in found)
    least = math.log10(2)

    def x(nines: float) -> float:
        return _LEFT + (nines - least) / max(most - least, 0.1) * (_RIGHT - _LEFT)

    def y(time: float) -> float:
        return top + height - (math.log10(time) - low) / (high - low) * height

    parts = []
    for decade in range(low, high + 1):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(10**decade):.1f}H{_RIGHT}"/>')
        told = duration(10**decade).replace(".00 ", " ").replace(".0 ", " ")
        parts.append(_text(_LEFT - 6, y(10**decade) + 4, told, "small", "end"))
    for name, share in SHARES.items():
        nines = -math.log10(1 - share)
        if nines <= most + 1e-9:
            parts.append(f'<path class="grid" d="M{x(nines):.1f} {top}V{top + height}"/>')
            parts.append(_text(x(nines), top + height + 18, name, "small", "middle"))
    for place, found in enumerate(points.values()):
        path = "L".join(f"{x(nines):.1f} {y(time):.1f}" for nines, time in found)
        parts.append(f'<g class="c{place}"><path class="line" d="M{path}"/></g>')
    return parts


def _points(each: Measured) -> list[tuple[float, int]]:
    """Return (nines of a share, time) from the median to the last share that is known, ten in a decade."""
    found = []
    nines = math.log10(2)
    while (time := each.percentile(1 - 10**-nines)) is not None:
        found.append((nines, max(time, 1)))
        nines += 0.1
    return found


def _legend(measured: Sequence[Measured], top: int) -> list[str]:
    parts = []
    for place, each in enumerate(measured):
        y = top + 22 * place
        told = ", ".join(f"{name} {duration(value)}" for name, value in each.percentiles().items() if value is not None)
        parts.append(f'<g class="c{place}"><path class="line" d="M{8} {y - 4}h24"/></g>')
        parts.append(_text(40, y, each.name))
        parts.append(_text(236, y, told, "small"))
    return parts


def _bars(measured: Sequence[Measured], top: int, step: int) -> list[str]:
    best = max((each.bytes_per_second for each in measured), default=0.0) or 1.0
    parts = []
    for place, each in enumerate(measured):
        y = top + 14 + step * place
        width = max(1.0, (_RIGHT - 236 - 80) * each.bytes_per_second / best)
        parts.append(_text(8, y + 17, each.name))
        parts.append(f'<g class="c{place}"><rect class="fill" x="236" y="{y}" width="{width:.1f}" height="24"/></g>')
        parts.append(_text(236 + width + 6, y + 17, rate(each.bytes_per_second)))
    return parts
