"""Writing the results: tables for the terminal, and the page docs/benchmarks.md."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .measure import Case, Quantity
from .names import BASE, CLIENTS, CONNECTIONS, CORES, NPIPE, ROWS, SIZES
from .peers import PEERS, taking_part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .fleet import Settings

_TITLES = {
    "roundtrip": "Round trip",
    "roundtrip-apart": "Round trip, a core each",
    "oneway": "One-way",
    "oneway-apart": "One-way, a core each",
    "tail": "The slow ones",
    "views": "Messages in place",
    "frames": "Pictures of 1920×1080×3",
    "objects": "Objects",
    "memory": "Memory after traffic",
    "cycle": "Connect, round trip, close",
    "busy": "Busy cores",
    "busy-apart": "Busy cores, a core each",
    "clients": "Many clients",
    "idle": "Idle connections",
    "import": "Import",
}
_TEXTS = {
    "roundtrip": """
One client sends a message and waits until the server has sent it back. The scheduler places both processes: one that
sleeps for each message may be put on its partner's core, where waking is cheaper, and then stay there.
""",
    "roundtrip-apart": """
The same with the server bound to one core and the client to another, so that luck with the scheduler plays no part.
""",
    "oneway": """
One client sends messages as fast as it can, in batches. A batch ends when the server has acknowledged its last message,
so delivery is part of the time.
""",
    "oneway-apart": """
The same with the server bound to one core and the client to another.
""",
    "tail": """
Round trips of 64 bytes, a core each, every single one with the clock read before and after it: half of them took no
longer than *p50*, 999 in 1,000 no longer than *p99.9*.
""",
    "views": """
One client writes a number at both ends of a message where it lies, and sends it; the server reads both where they lie,
compares, and gives the place back. Nothing else of the message is touched, so its size should not matter.
""",
    "frames": """
One client sends pictures out of a buffer of its own, as a camera has one, one way and a core each. The server compares
numbers at three places of each, in an array or buffer of the whole picture, and reads the last one whole. *In place* is
one copy, into shared memory; the others copy in and out.
""",
    "objects": """
`send` and `recv` of objects, a core each. The small ones are tuples with a pickle of 64 bytes, the dicts have some 20
values, the frames are NumPy arrays of 1920×1080×3 bytes.
""",
    "memory": """
Per connection, and for both processes together: 1 GiB in messages of 64 KiB went through each of some connections, then
nothing came for 5 seconds. *Private* is memory that belongs to one process, as far as there is more of it than before
these connections, when as many others had been used and closed; of shared memory it is the blocks of its files, mapped
or not. What the kernel holds for a socket is not in it.
""",
    "cycle": """
A new connection for one message of 64 bytes and its answer. pyzmq and pynng use REQ and REP sockets here.
""",
    "busy": f"""
Both with 64 bytes, while {CORES} other processes, as many as there are cores, count as fast as they can.
*Neighbours keep* is what these still reach, of what they reach with no peer beside them. Rounds are half as long here
and three times as many: two processes that sleep are fast where the scheduler has put both on one core and slow where
it has not, and stay there.
""",
    "busy-apart": """
The same with the server bound to one core and the client to another; the neighbours are free to go where they like.
""",
    "clients": f"""
{", ".join(map(str, CLIENTS[:-1]))} and {CLIENTS[-1]} clients, threads of at most 4 processes, do round trips of 64
bytes at the same time with one server process that has a thread for each: round trips per second of all together.
*Least served* compares the slowest client with the mean.
""",
    "idle": f"""
Memory is the proportional set size (PSS) of server and client together with {CONNECTIONS:,} connections, less that
of both before, divided by {CONNECTIONS:,}; one round trip was done on each. What the kernel holds for a socket is
in none of the numbers. CPU is what all threads of both processes used in some seconds in which nothing came, by the
processes' own clock; the row of a process without any connection shows what measuring costs.
""",
    "import": """
A Python is started, imports a peer, and ends. `import npipe` alone imports nothing else: the rest is imported when the
first of its names is asked for, which the row of the first names has in it.
""",
}


@dataclass(frozen=True)
class Machine:
    """Where and with what the numbers were made."""

    lines: list[str]

    @classmethod
    def here(cls, versions: Mapping[str, str], missing: Mapping[str, str]) -> Machine:
        """Describe this machine, the ``versions`` of the peers, and why others are ``missing``."""
        model = ""
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = f" ({line.partition(':')[2].strip()})"
                break
        installed: dict[str, str] = {}
        for peer, version in versions.items():  # one name for each module
            installed.setdefault(PEERS[peer].module, f"{peer} {version}".strip())
        lines = [
            f"{CORES} core{'s' if CORES > 1 else ''}{model}, load {os.getloadavg()[0]:.2f} when the run began",
            f"{platform.system()} {platform.release()}, {platform.machine()}",
            f"{platform.python_implementation()} {platform.python_version()}",
            "peers: " + ", ".join(installed.values()),
        ]
        lines += [f"left out: {peer}, as {why}" for peer, why in missing.items()]
        return cls(lines)


@dataclass(frozen=True)
class Table:
    """A table for any output."""

    title: str
    text: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    plot: str = ""  # its name in docs/benchmarks


_PLOTS = {
    "roundtrip-apart": "roundtrip",
    "oneway-apart": "oneway",
    "tail": "tail",
    "views": "views",
    "frames": "frames",
    "objects": "objects",
    "memory": "memory",
}
_METHOD = """
# Benchmarks

`make bench` measures npipe beside its peers in one run and writes this page; `python -m bench --quick` is a shorter
look, `python -m bench --help` shows the rest. Absolute numbers belong to the machine: compare the ratios.
[benchmarks-goals.md](benchmarks-goals.md) holds them against what was to be reached, and `docs/benchmarks/` has them
as JSON, with the plots that `make plots` draws of them.

For every peer, server and client are processes of their own, with the same small program around the peer's own
calls. Messages have {sizes}.

A first turn, which finds how many messages fill a round, is thrown away. Then the peers take turns, each with a
round of about {short} ({many} times over) or, where many processes are at work, {long} ({few} times over), so that
whatever else the machine does hits all of them alike. A cell holds the median round, the best round, and in bold how
many times better than {base} the median is.

- **npipe**: message pipes, every option at its default, `send` and `recv`.
- **multiprocessing.connection**: `Listener` and `Client` on a Unix socket without authentication, `send_bytes` and
  `recv_bytes`.
- **SEQPACKET pair**: two connected `SOCK_SEQPACKET` Unix sockets; 1 MiB goes in pieces of 128 KiB, as a packet must
  fit into the socket's buffer.
- **asyncio streams**: `write`, `drain` and `readexactly` over a Unix socket, an event loop at each end.
- **pyzmq**, **pynng**: PAIR sockets over `ipc://`.
- **iceoryx2**: two services of slices of bytes, one for each way, with blocking back-pressure; copied into a loan and
  out of a sample, or *in place*: `loan_slice_uninit`, `payload().as_memory_view()`, `send`, `receive`.
- **momentumx**: two streams in step with their readers; copied into and out of its buffers, or *in place*.
- **shared_memory**: `multiprocessing.shared_memory` in slots, which a `Connection` hands over and gives back.
- iceoryx2 and momentumx have no call that sleeps until a message comes and wakes at once; both ends ask again and
  again, which is as fast as they get, and takes a core each. So they have no part among busy neighbours.
- **engine in C**: npipe's engine between two processes without Python (`bench/limit.c`): the practical limit.
- **a word there and back in C**: a word in shared memory that two processes hand to and fro, and nothing else: what
  the machine itself takes for a round trip between two cores.
- **64 lines there and back in C**: such a word, with 4 KiB copied in and out for each way, as quickly as is known.
- **a copy in C**: the bytes copied into shared memory by one process and out of it by another, and nothing else: what
  the machine itself takes for a message one way.
- **a handing-over in C**: a number at both ends of a place in shared memory, written by one process and read by
  another, and a word that says so each way: what messages in place cannot do without.

What is moved is also read. Before each round messages that all differ go through the same calls and are compared whole,
outside of the time that is taken; in the rounds themselves the last message, which differs from all others, is
compared, and in place, where that costs the same for all, every one.

Measured on:

"""


def three(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _unit(value: float, units: tuple[str, ...], step: int) -> str:
    for unit in units[:-1]:
        if value < step:
            return f"{three(value)} {unit}"
        value /= step
    return f"{three(value)} {units[-1]}"


def amount(value: float, quantity: Quantity) -> str:
    """Write a number with its unit."""
    match quantity:
        case Quantity.LATENCY:
            return _unit(value * 1e6, ("µs", "ms", "s"), 1000)
        case Quantity.RATE:
            return _unit(value, ("/s", "k/s", "M/s"), 1000)
        case Quantity.SHARE:
            return f"{value:.0%}"
        case Quantity.MEMORY:
            return f"{value / 1024:.1f} KiB"
        case Quantity.CPU:
            return f"{value * 1e3:.2f} ms"


def _cell(case: Case, peer: str) -> str:
    outcome = case.outcomes.get(peer)
    if outcome is None:
        return ""
    if outcome.failure:
        return "failed"
    median = outcome.median
    if median is None:
        return ""
    parts = [amount(median, case.quantity)]
    if case.size and case.quantity is Quantity.RATE:
        parts.append(_unit(median * case.size, ("B/s", "kB/s", "MB/s", "GB/s"), 1000))
    if len(outcome.values) > 1 and case.quantity in (Quantity.LATENCY, Quantity.RATE):
        parts.append(f"best {amount(case.best(peer), case.quantity)}")
    if len(outcome.values) > 1 and case.quantity is Quantity.SHARE:
        parts.append(f"{min(outcome.values):.0%} to {max(outcome.values):.0%}")
    gain = case.gain(peer, BASE)
    if gain is not None and case.quantity not in (Quantity.CPU, Quantity.SHARE):
        parts.append(f"**{three(gain)}×**")
    return ", ".join(parts)


def tables(cases: list[Case], missing: Mapping[str, str]) -> list[Table]:
    """Make a table of each scenario; ``missing`` peers have a row that says so in place of numbers."""
    result = []
    for scenario, title in _TITLES.items():
        columns = [case for case in cases if case.scenario == scenario]
        if not columns:
            continue
        peers = list(dict.fromkeys(peer for case in columns for peer in case.outcomes))
        names = ROWS.get(scenario, {})
        rows = [[names.get(peer, peer), *(_cell(case, peer) for case in columns)] for peer in peers]
        rows += [[peer, "not installed", *([""] * (len(columns) - 1))] for peer in taking_part(scenario, list(missing))]
        notes = [
            f"{peer} failed: {outcome.failure}"
            for case in columns
            for peer, outcome in case.outcomes.items()
            if outcome.failure
        ]
        header = ["", *(case.label for case in columns)]
        plot = _PLOTS.get(scenario, "")
        result.append(Table(title, _TEXTS[scenario].strip(), header, rows, list(dict.fromkeys(notes)), plot))
    return result


def picture(plot: str, text: str, folder: str = "benchmarks") -> str:
    """Return the lines that show a plot, in the colours that suit the reader's page."""
    return "\n".join(
        [
            "<picture>",
            f'  <source media="(prefers-color-scheme: dark)" srcset="{folder}/{plot}-dark.svg">',
            f'  <img alt="{text}: a plot of the numbers below" src="{folder}/{plot}-light.svg">',
            "</picture>",
        ]
    )


def markdown_table(table: Table) -> str:
    """Write a table as a section of a page."""
    lines = [f"## {table.title}", "", table.text.strip(), ""]
    if table.plot:
        lines += [picture(table.plot, table.title), ""]
    lines.append("| " + " | ".join(table.header) + " |")
    lines.append("| " + " | ".join("---" for _ in table.header) + " |")
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in table.rows
    ]
    lines += ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n".join(lines) + "\n"


def listed(lines: list[str]) -> str:
    """Return a list in Markdown, of the page's width."""
    return "\n".join(textwrap.fill(f"- {line}", 120, break_on_hyphens=False, subsequent_indent="  ") for line in lines)


def markdown(machine: Machine, settings: Settings, results: list[Table]) -> str:
    """Return the whole page."""
    short, long = f"{settings.round_seconds * 1000:.0f} ms", f"{settings.window_seconds:.2g} s"
    method = _METHOD.format(
        base=BASE,
        sizes=", ".join(SIZES.values()),
        short=short,
        long=long,
        many=settings.rounds,
        few=settings.window_rounds,
    )
    page = method.lstrip() + listed(machine.lines) + "\n\n"
    return page + "\n".join(markdown_table(table) for table in results)


def show(results: list[Table]) -> None:
    """Print tables, with rich where it is installed."""
    try:
        rich_table = importlib.import_module("rich.table").Table
        rich_console = importlib.import_module("rich.console").Console
    except ModuleNotFoundError:
        _show_plainly(results)
        return
    console = rich_console() if sys.stdout.isatty() else rich_console(width=160)
    for table in results:
        drawn = rich_table(title=table.title, title_justify="left")
        for number, name in enumerate(table.header):
            drawn.add_column(name, overflow="fold", min_width=10 if number else 16)
        for row in table.rows:
            drawn.add_row(*(cell.replace("**", "") for cell in row))
        console.print(drawn)
        for note in table.notes:
            console.print(note, markup=False)


def _show_plainly(results: list[Table]) -> None:
    for table in results:
        rows = [table.header, *([cell.replace("**", "") for cell in row] for row in table.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
        sys.stdout.write(f"\n{table.title}\n")
        for row in rows:
            sys.stdout.write(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
            )


def failed(cases: list[Case]) -> list[str]:
    """Return a line for each of npipe's own failures."""
    return [
        f"{case.scenario}, {case.label}: {peer} failed: {outcome.failure}"
        for case in cases
        for peer, outcome in case.outcomes.items()
        if outcome.failure and (peer.startswith(NPIPE) or peer == "engine in C")
    ]
