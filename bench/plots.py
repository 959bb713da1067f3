"""Plots of what was measured, for the pages: `python -m bench.plots`, or `make plots`, draws them from the numbers.

Each is drawn twice, for a light and a dark page, in docs/benchmarks; the same numbers make the same files.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import names as s
from .report import amount, three
from .results import FOLDER, all_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .measure import Case

BARE = (s.LIMIT, s.LINE, s.LINES, s.COPY, s.HAND)  # not in Python, or not npipe's at all


@dataclass(frozen=True)
class Theme:
    """The colours for a page."""

    name: str
    ink: str
    faint: str  # grids
    ground: str  # of the page, behind the plot
    npipe: str
    others: tuple[str, ...]


# Colours that people who see few of them can still tell apart, and that stand out on the page's ground.
LIGHT = Theme(
    "light", "#1f2328", "#d8dee4", "#ffffff", "#0969da",
    ("#bc4c00", "#6e7781", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#1b7c83", "#57606a"),
)  # fmt: skip
DARK = Theme(
    "dark", "#e6edf3", "#30363d", "#0d1117", "#58a6ff",
    ("#f0883e", "#8b949e", "#56d364", "#d2a8ff", "#ff9bce", "#e3b341", "#76e3ea", "#c9d1d9"),
)  # fmt: skip
_SIZE = 12  # points; figures are some 7 inches wide, and a phone shows them at half of that
_MARKERS = "os^Dv<>P"


class Drawing:
    """One plot for one kind of page."""

    def __init__(self, theme: Theme, height: float, title: str) -> None:
        import matplotlib as mpl
        from matplotlib.figure import Figure

        mpl.rcParams.update({
            "svg.hashsalt": "npipe", "svg.fonttype": "none", "font.size": _SIZE,
            "font.family": "DejaVu Sans",  # matplotlib brings it, so that all machines lay a plot out alike
        })  # fmt: skip
        self.theme = theme
        self.figure = Figure(figsize=(7.2, height), layout="constrained")
        axes: Any = self.figure.add_subplot()
        self.axes = axes
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(theme.faint)
        axes.tick_params(colors=theme.ink, which="both", length=0)
        axes.set_axisbelow(True)
        axes.set_facecolor("none")
        self.figure.suptitle(title, color=theme.ink, fontsize=_SIZE + 2, fontweight="bold", x=0.01, ha="left")

    def labels(self, x: str = "", y: str = "") -> None:
        """Name the axes."""
        self.axes.set_xlabel(x, color=self.theme.ink)
        self.axes.set_ylabel(y, color=self.theme.ink)

    def bars(self, rows: Sequence[tuple[str, float, str]], unit: str, line: tuple[float, str] | None = None) -> None:
        """Draw lying bars, the first row at the top, each with its number; a log axis where they differ much."""
        axes, theme = self.axes, self.theme
        values = [value for _, value, _ in rows]
        log = max(values) > 25 * min(values)
        left = 10 ** _exponent(min(values) / 1.5) if log else 0
        for place, (name, value, text) in enumerate(rows):
            own, bare = name.startswith(s.NPIPE), name in BARE
            axes.barh(
                place,
                value - left,
                left=left,
                height=0.66,
                color="none" if bare else theme.npipe if own else theme.others[1],
                edgecolor=theme.npipe if own else theme.others[1],
                linestyle="--" if bare else "-",
            )
            axes.annotate(
                text,
                (value, place),
                (5, 0),
                textcoords="offset points",
                va="center",
                color=theme.ink,
                fontsize=_SIZE - 1,
            )
        if log:
            axes.set_xscale("log")
            axes.set_xlim(left, max(values) * (max(values) / left) ** 0.28)
        else:
            axes.set_xlim(0, max(values) * (1.05 + 0.03 * max(len(text) for _, _, text in rows)))
        if line:
            axes.axvline(line[0], color=theme.others[0], linewidth=1.2, linestyle=":")
            axes.annotate(
                line[1], (line[0], 1.0), xycoords=("data", "axes fraction"), xytext=(4, 1),
                textcoords="offset points", color=theme.others[0], fontsize=_SIZE - 2,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        for tick, (name, _, _) in zip(axes.get_yticklabels(), rows, strict=True):
            if name.startswith(s.NPIPE):
                tick.set_color(theme.npipe)
                tick.set_fontweight("bold")
        axes.invert_yaxis()
        axes.grid(axis="x", color=theme.faint, linewidth=0.8)
        self.labels(unit + (", log scale" if log else ""))

    def lines(self, rows: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> None:
        """Draw lines on log axes, each named at the side, in the order of their last points."""
        axes, theme = self.axes, self.theme
        others = iter(zip(theme.others * 2, _MARKERS[1:] * 2, strict=True))
        for name, x, y in rows:
            own, bare = name == s.NPIPE, name in BARE
            color, marker = (theme.npipe, "o") if own else (theme.ink, "") if bare else next(others)
            axes.plot(
                x, y, label=name, color=color, marker=marker, markersize=5,
                linewidth=2.8 if own else 1.2 if bare else 1.6,
                linestyle={s.LIMIT: "--"}.get(name, ":" if bare else "-"), zorder=3 if own else 2,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(color=theme.faint, linewidth=0.8)
        handles, labels = axes.get_legend_handles_labels()
        order = sorted(range(len(rows)), key=lambda i: -rows[i][2][-1])
        axes.legend(
            [handles[i] for i in order], [labels[i] for i in order], loc="center left", bbox_to_anchor=(1.0, 0.5),
            frameon=False, labelcolor=theme.ink, fontsize=_SIZE - 1, handlelength=1.8,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write it: SVG without a background, or PNG with the page's, to look at."""
        if path.suffix == ".svg":
            made = io.StringIO()
            self.figure.savefig(made, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            # Whoever looks at it need not have that font: Verdana is as wide, and the others are narrower.
            text = made.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, Helvetica, sans-serif")
            path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")
        else:
            self.figure.savefig(path, facecolor=self.theme.ground, dpi=110)


def _exponent(value: float) -> int:
    return math.floor(math.log10(value))


class _Numbers:
    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = {(case.scenario, case.label): case for case in cases}

    def medians(self, scenario: str, label: str) -> list[tuple[str, float]]:
        """Return each peer's, best first; nothing when it was not measured."""
        case = self.cases.get((scenario, label))
        if case is None:
            return []
        names = s.ROWS.get(scenario, {})
        found = [(names.get(peer, peer), case.median(peer)) for peer in case.outcomes]
        rows = [(name, value) for name, value in found if value]
        return sorted(rows, key=lambda row: row[1], reverse=case.quantity.more_is_better)

    def line(self, scenario: str, labels: dict[int, str], peer: str, of: Callable[[float, int], float]) -> Any:
        """Return a peer's points over sizes; None when there are not two of them."""
        x, y = [], []
        for size, label in labels.items():
            case = self.cases.get((scenario, label))
            value = case.median(peer) if case else None
            if value:
                x.append(float(size))
                y.append(of(value, size))
        return (peer, x, y) if len(x) > 1 else None

    def peers(self, scenario: str) -> list[str]:
        """Return all that took part, in order."""
        return list(
            dict.fromkeys(p for (name, _), case in self.cases.items() if name == scenario for p in case.outcomes)
        )


_TICKS = {
    1e-8: "10 ns", 1e-7: "100 ns", 1e-6: "1 µs", 1e-5: "10 µs", 1e-4: "100 µs", 1e-3: "1 ms", 1e-2: "10 ms",
    1e-1: "100 ms", 1.0: "1 s",
}  # fmt: skip


def _name_times(axis: Any, values: Sequence[float]) -> None:
    """Give a log axis of seconds ticks that are read at once."""
    low, high = min(values) / 10, max(values) * 10
    shown = {tick: name for tick, name in _TICKS.items() if low < tick < high}
    axis.set_ticks(list(shown), list(shown.values()))
    axis.set_minor_locator(_nothing())


def _nothing() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _time(value: float) -> str:
    return f"{three(value * 1e9)} ns" if value < 1e-6 else _latency(value)


def _latency(value: float) -> str:
    from .measure import Quantity

    return amount(value, Quantity.LATENCY)


def _bars_of_times(n: _Numbers, scenario: str, label: str, title: str, unit: str) -> Callable[[Theme], Drawing] | None:
    rows = [(name, value, _time(value)) for name, value in n.medians(scenario, label)]
    if not rows:
        return None

    def draw(theme: Theme) -> Drawing:
        drawing = Drawing(theme, 1.1 + 0.36 * len(rows), title)
        drawing.bars(rows, unit)
        if drawing.axes.get_xscale() == "log":
            _name_times(drawing.axes.xaxis, [value for _, value, _ in rows])
        return drawing

    return draw


def _sizes(axes: Any, labels: dict[int, str]) -> None:
    axes.set_xticks(list(labels), list(labels.values()))
    axes.xaxis.set_minor_locator(_nothing())


def round_trip(n: _Numbers) -> Callable[[Theme], Drawing] | None:
    return _bars_of_times(n, "roundtrip-apart", "64 B", "Round trip of 64 bytes", "less is better")


def one_way(n: _Numbers) -> Callable[[Theme], Drawing] | None:
    peers = [peer for peer in n.peers("oneway-apart") if peer != s.INTO]
    found = [n.line("oneway-apart", s.SIZES, peer, lambda rate, size: rate * size / 1e9) for peer in peers]
    rows = [row for row in found if row]
    if not rows:
        return None

    def draw(theme: Theme) -> Drawing:
        drawing = Drawing(theme, 4.4, "One way, by the size of a message")
        drawing.lines(rows)
        drawing.labels("bytes in a message", "GB/s, more is better")
        _sizes(drawing.axes, s.SIZES)
        values = [value for row in rows for value in row[2]]
        ticks = {0.001: "0.001", 0.01: "0.01", 0.1: "0.1", 1: "1", 10: "10", 100: "100"}
        shown = {tick: name for tick, name in ticks.items() if min(values) / 3 < tick < max(values) * 3}
        drawing.axes.set_yticks(list(shown), list(shown.values()))
        return drawing

    return draw


def tail(n: _Numbers) -> Callable[[Theme], Drawing] | None:
    case = n.cases.get(("tail-curve", ""))
    if case is None:
        return None
    shares = [share for share in s.TAIL if 0.5 <= share < 1]
    x = [1 / (1 - share) for share in shares]
    wanted = (s.NPIPE, s.BASE, s.PAIR, s.STREAMS, s.ZMQ, s.ICEORYX)
    rows = []
    for peer, outcome in case.outcomes.items():
        if peer in wanted and outcome.values:
            at = dict(zip(s.TAIL, outcome.values, strict=True))
            rows.append((peer, x, [at[share] for share in shares]))
    if not rows:
        return None

    def draw(theme: Theme) -> Drawing:
        drawing = Drawing(theme, 4.2, "Round trips of 64 bytes: the slow ones")
        drawing.lines(rows)
        drawing.labels("so many take no longer", "less is better")
        ticks = {2: "half", 10: "90 %", 100: "99 %", 1000: "99.9 %", 10000: "99.99 %"}
        drawing.axes.set_xticks(list(ticks), list(ticks.values()))
        drawing.axes.xaxis.set_minor_locator(_nothing())
        _name_times(drawing.axes.yaxis, [value for row in rows for value in row[2]])
        return drawing

    return draw


def views(n: _Numbers) -> Callable[[Theme], Drawing] | None:
    found = [n.line("views", s.VIEW_SIZES, peer, lambda seconds, _: seconds) for peer in n.peers("views")]
    rows = [row for row in found if row]
    if not rows:
        return None

    def draw(theme: Theme) -> Drawing:
        drawing = Drawing(theme, 3.9, "Handing over a message in place")
        drawing.lines(rows)
        drawing.labels("bytes in a message", "per message, less is better")
        _sizes(drawing.axes, s.VIEW_SIZES)
        _name_times(drawing.axes.yaxis, [value for row in rows for value in row[2]])
        return drawing

    return draw


def frames(n: _Numbers) -> Callable[[Theme], Drawing] | None:
    rows = [(name, value, f"{three(value)} /s") for name, value in n.medians("frames", s.FRAMES)]
    if not rows:
        return None

    def draw(theme: Theme) -> Drawing:
        drawing = Drawing(theme, 1.1 + 0.36 * len(rows), "Pictures of 1920×1080×3 bytes")
        drawing.bars(rows, "pictures per second, more is better")
        if drawing.axes.get_xscale() == "log":
            _plain(drawing.axes, [value for _, value, _ in rows])
        return drawing

    return draw


def _plain(axes: Any, values: Sequence[float]) -> None:
    ticks = [10.0**n for n in range(-2, 8) if min(values) / 10 <= 10.0**n <= max(values) * 5]
    axes.set_xticks(ticks, [f"{tick:,.0f}" if tick >= 1 else f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(_nothing())


def objects(n: _Numbers) -> Callable[[Theme], Drawing] | None:
    gains = []
    for (scenario, label), case in n.cases.items():
        gain = case.gain(s.OBJECTS, s.BASE) if scenario == "objects" else None
        if gain:
            gains.append((label, gain, f"{three(gain)}×  ({_time(case.median(s.OBJECTS) or 0)})"))
    if not gains:
        return None

    def draw(theme: Theme) -> Drawing:
        drawing = Drawing(theme, 1.1 + 0.36 * len(gains), "Objects by npipe.connection")
        drawing.bars(gains, f"times faster than {s.BASE}", (1.0, ""))
        for patch in drawing.axes.patches:
            patch.set_facecolor(theme.npipe)
            patch.set_edgecolor(theme.npipe)
        if drawing.axes.get_xscale() == "log":
            _plain(drawing.axes, [value for _, value, _ in gains])
        return drawing

    return draw


def memory(n: _Numbers) -> Callable[[Theme], Drawing] | None:
    case = n.cases.get(("memory", s.HELD))
    if case is None:
        return None
    found = [(peer, max(1.0, (case.median(peer) or 0) / 1024)) for peer, o in case.outcomes.items() if o.values]
    rows = [(peer, held, "1 KiB or less" if held <= 1 else f"{three(held)} KiB") for peer, held in found]
    rows.sort(key=lambda row: row[1])
    if not rows:
        return None

    def draw(theme: Theme) -> Drawing:
        drawing = Drawing(theme, 1.1 + 0.36 * len(rows), "A connection after 1 GiB and 5 idle seconds")
        drawing.bars(rows, "KiB held by both processes, less is better", (32.0, "goal: 32 KiB"))
        if drawing.axes.get_xscale() == "log":
            _plain(drawing.axes, [value for _, value, _ in rows])
        return drawing

    return draw


def _crowd(label: str) -> Callable[[_Numbers], Callable[[Theme], Drawing] | None]:
    def prepare(n: _Numbers) -> Callable[[Theme], Drawing] | None:
        least = n.cases.get((s.CROWDS, f"{label}: {s.LEAST}"))
        rows = []
        for server, rate in n.medians(s.CROWDS, label):
            share = least.median(server) if least else None
            rows.append(
                (server, rate, f"{three(rate / 1000)} k/s" + ("" if share is None else f" (least {share:.0%})"))
            )
        if not rows:
            return None

        def draw(theme: Theme) -> Drawing:
            drawing = Drawing(theme, 1.1 + 0.36 * len(rows), f"{label} at once, 64 bytes there and back")
            drawing.bars(rows, "round trips per second, more is better")
            if drawing.axes.get_xscale() == "log":
                _plain(drawing.axes, [value for _, value, _ in rows])
            else:
                drawing.axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f} k")
            return drawing

        return draw

    return prepare


# The plots by name; each takes the numbers and returns what draws it, or None when its numbers are not there.
PLOTS: dict[str, Callable[[_Numbers], Callable[[Theme], Drawing] | None]] = {
    "roundtrip": round_trip,
    "oneway": one_way,
    "tail": tail,
    "views": views,
    "frames": frames,
    "objects": objects,
    "memory": memory,
    "crowds-10": _crowd("10 clients"),
    "crowds-100": _crowd("100 clients"),
}


def draw_all(cases: Sequence[Case], folder: Path, *, suffix: str = ".svg") -> list[Path]:
    """Draw all plots that there are numbers for; return the files."""
    numbers = _Numbers(cases)
    written = []
    for name, prepare in PLOTS.items():
        draw = prepare(numbers)
        if draw is None:
            continue
        for theme in (LIGHT, DARK):
            path = folder / f"{name}-{theme.name}{suffix}"
            draw(theme).save(path)
            written.append(path)
    return written


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.plots", description="Draw plots of numbers that are there.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the numbers (docs/benchmarks)")
    parser.add_argument("--output", type=Path, help="the folder for the plots (the same)")
    parser.add_argument("--png", action="store_true", help="PNG in place of SVG, to look at")
    arguments = parser.parse_args(argv)
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        print("no plots: matplotlib is not installed (`make bench` installs it)", file=sys.stderr)
        return 1
    del mpl
    folder = arguments.output or arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in draw_all(all_cases(arguments.folder), folder, suffix=".png" if arguments.png else ".svg"):
        print(f"drawn: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
