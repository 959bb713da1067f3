"""The figures in a terminal, be it 40 columns wide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from npipe.cli.measuring.results import SHARES, duration, rate, steps_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from npipe.cli.measuring.results import Measured

__all__ = ["print_drawing", "tabbed"]

_WIDE: Final = 90  # columns that the table needs
_WIDEST: Final = 100
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_PLAIN: Final = " .:-=+*#@"  # where the terminal's encoding has no blocks
_OWN: Final = "bold blue"

_COLUMNS: Final = (*SHARES, "worst")


def tabbed(measured: Sequence[Measured]) -> list[str]:
    """Return lines of fields between tabs: nanoseconds, and bytes in a second; empty where it is not known."""
    lines = ["\t".join(("name", *_COLUMNS, "bytes/s", "messages/s"))]
    for each in measured:
        times = ("" if value is None else str(value) for value in each.percentiles().values())
        lines.append("\t".join((each.name, *times, f"{each.bytes_per_second:.0f}", f"{each.messages_per_second:.0f}")))
    return lines


def print_drawing(measured: Sequence[Measured], size: int, bulk: int) -> None:
    """Draw the figures on standard output."""
    console = Console(highlight=False)
    plain = console.options.ascii_only
    width = min(console.width, _WIDEST)
    console.print(Text(f"Round trips of {size} bytes", "bold"))
    if console.width >= _WIDE:
        _print_table(console, measured, plain=plain)
    else:
        _print_blocks(console, measured, plain=plain)
    console.print()
    _print_histograms(console, measured, width, _PLAIN if plain else _BLOCKS, plain=plain)
    console.print()
    console.print(Text(f"One way, {bulk} bytes a message", "bold"))
    _print_bars(console, measured, width, "#" if plain else "█")


def _style(each: Measured) -> str:
    return _OWN if each.name.startswith("npipe") else ""


def _time(nanoseconds: float | None, *, plain: bool) -> str:
    text = duration(nanoseconds)
    return text.replace("µ", "u").replace("–", "-") if plain else text


def _print_table(console: Console, measured: Sequence[Measured], *, plain: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for each in measured:
        times = [_time(value, plain=plain) for value in each.percentiles().values()]
        table.add_row(Text(each.name, _style(each)), *times)
    console.print(table)


def _print_blocks(console: Console, measured: Sequence[Measured], *, plain: bool) -> None:
    for each in measured:
        console.print(Text(each.name, _style(each)))
        table = Table(box=None, pad_edge=False, show_header=False)
        for _ in range(2):
            table.add_column(no_wrap=True)
            table.add_column(justify="right", no_wrap=True)
        pairs = [(name, _time(value, plain=plain)) for name, value in each.percentiles().items()]
        half = (len(pairs) + 1) // 2
        for one, other in zip(pairs[:half], pairs[half:], strict=True):
            table.add_row(*one, *other)
        console.print(table)


def _print_histograms(console: Console, measured: Sequence[Measured], width: int, marks: str, *, plain: bool) -> None:
    """Draw for each contestant how many round trips took how long, on one log scale; the height is a log scale too."""
    all_times = [(each.round_trips[0], each.round_trips[-1]) for each in measured if each.round_trips]
    if not all_times:
        return
    low = math.log10(max(1, min(first for first, _ in all_times)))
    high = max(math.log10(max(1, *(last for _, last in all_times))), low + 0.1)
    steps = (width - 1) / (high - low)
    for each in measured:
        found = steps_of(each.round_trips, steps)
        first = math.floor(low * steps)
        most = math.log(1 + max(found.values(), default=1))
        columns = (found.get(first + column, 0) for column in range(width))
        row = "".join(marks[math.ceil(math.log(1 + count) / most * (len(marks) - 1))] for count in columns)
        console.print(Text(each.name, _style(each)))
        console.print(Text(row.rstrip(), _style(each), no_wrap=True))
    left, right = _time(10**low, plain=plain), _time(10**high, plain=plain)
    between = " took "
    console.print(Text(left + between.center(width - len(left) - len(right), "-" if plain else "─") + right, "dim"))


def _print_bars(console: Console, measured: Sequence[Measured], width: int, mark: str) -> None:
    best = max((each.bytes_per_second for each in measured), default=0.0)
    for each in measured:
        value = rate(each.bytes_per_second)
        room = width - len(value) - 1
        bar = mark * max(1, round(room * each.bytes_per_second / best)) if best else ""
        console.print(Text(each.name, _style(each)))
        console.print(Text(f"{bar} {value}", _style(each), no_wrap=True))
