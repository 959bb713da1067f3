"""The columns of `npipe top`: what is in them, by what they are sorted, and which of them a narrow terminal has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from npipe.cli._monitor.model import ConnectionRow, PipeRow
from npipe.cli._monitor.text import answer_text, compact, idle_text, percent, spark, waits_text
from npipe.cli.units import span_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "CONNECTION_COLUMNS",
    "PIPE_COLUMNS",
    "Column",
    "Look",
    "connection_fields",
    "fit",
    "pipe_fields",
    "sorted_rows",
]

Row = TypeVar("Row", bound=PipeRow | ConnectionRow)
_PREFIX: Final = "\\\\.\\pipe\\"
_FULL: Final = 0.9  # of a quota: who writes will wait soon
_HALF: Final = 0.5
_USUAL: Final = 80  # columns of a terminal
_SLOW: Final = 0.1  # seconds for an answer


@dataclass(slots=True)
class Look:
    """How rows are to look."""

    messages: bool = False
    """Rates in messages; else in bytes."""
    plain: bool = False
    """The output has ASCII only."""
    wall: float = 0.0
    """Now, in seconds since 1970."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column: its cell is a text of any length and a colour."""

    key: str
    title: str
    least: int
    """Cells that it needs."""
    cell: Callable[[Row, int, Look], tuple[str, str]]
    """The text for so many cells, and a colour; "": the usual one."""
    order: Callable[[Row, Look], tuple[float | str, ...]]
    rank: int
    """Which one a narrow terminal has first: the lowest."""
    right: bool = True
    down: bool = True
    """Sorted from the greatest on."""
    usual: int = 0
    """Cells that it needs where the terminal has its usual width."""
    grows: int = 0
    """Cells that it takes more where there is room."""


def _rate(value: float | None) -> str:
    return "-" if value is None else compact(value)


def _depth_colour(depth: float | None) -> str:
    return "" if depth is None or depth < _HALF else "red" if depth >= _FULL else "yellow"


def _short(name: str) -> str:
    return name.removeprefix(_PREFIX) or name


def _rates_of(row: PipeRow | ConnectionRow, look: Look) -> tuple[float, float]:
    if row.rates is None:
        return -1.0, -1.0
    if look.messages:
        return row.rates.messages_in, row.rates.messages_out
    return row.rates.bytes_in, row.rates.bytes_out


def _history(row: PipeRow | ConnectionRow, width: int, look: Look) -> tuple[str, str]:
    if isinstance(row, ConnectionRow) and row.left:
        return "ended", "yellow"
    newest = list(row.history)[-width:]
    values = [rates.messages if look.messages else rates.bytes for rates in newest]
    return spark(values, width, plain=look.plain), "cyan"


def _told(value: float | None) -> float:
    return -1.0 if value is None else value


def _rate_cell(row: PipeRow | ConnectionRow, way: int, look: Look) -> tuple[str, str]:
    if row.rates is None:
        return "-", ""
    value = _rates_of(row, look)[way]
    return compact(value), "green" if value > 0 else ""


def _pipe_colour(row: PipeRow) -> str:
    return "red" if row.gone else "yellow" if row.problem else ""


def _flow(grows: int) -> tuple[Column[Any], ...]:
    """Return the columns of what moves: in, out, and the history."""
    return (
        Column(
            "in",
            "in/s",
            6,
            lambda row, _width, look: _rate_cell(row, 0, look),
            lambda row, look: (_rates_of(row, look)[0],),
            1,
        ),
        Column(
            "out",
            "out/s",
            6,
            lambda row, _width, look: _rate_cell(row, 1, look),
            lambda row, look: (_rates_of(row, look)[1],),
            2,
        ),
        Column(
            "rate",
            "rate",
            6,
            _history,
            lambda row, look: (sum(_rates_of(row, look)),),
            8,
            right=False,
            usual=14,
            grows=grows,
        ),
    )


_DEPTH: Final[Column[Any]] = Column(
    "depth",
    "depth",
    5,
    lambda row, _width, _look: ("-" if row.depth is None else percent(row.depth), _depth_colour(row.depth)),
    lambda row, _look: (_told(row.depth),),
    4,
)


def _waits(least: int) -> Column[Any]:
    return Column(
        "waits",
        "rd/wr",
        least,
        lambda row, _width, _look: (waits_text(row.readers, row.writers), "red" if row.writers else ""),
        lambda row, _look: (row.writers, row.readers),
        5,
    )


PIPE_COLUMNS: Final[tuple[Column[PipeRow], ...]] = (
    Column(
        "name",
        "pipe",
        12,
        lambda row, _width, _look: (_short(row.name), _pipe_colour(row)),
        lambda row, _look: (row.name.casefold(),),
        0,
        right=False,
        down=False,
        usual=24,
        grows=28,
    ),
    *_flow(24),
    Column(
        "clients",
        "clnts",
        5,
        lambda row, _width, _look: (_rate(row.clients), ""),
        lambda row, _look: (_told(row.clients),),
        3,
    ),
    Column(
        "ended",
        "ended",
        5,
        lambda row, _width, _look: (compact(row.ended), "yellow" if row.ended else ""),
        lambda row, _look: (row.ended,),
        7,
    ),
    _DEPTH,
    _waits(7),
    Column(
        "answer",
        "answer",
        6,
        lambda row, _width, _look: (
            ("-", "") if row.answer is None else (answer_text(row.answer), "yellow" if row.answer >= _SLOW else "")
        ),
        lambda row, _look: (_told(row.answer),),
        9,
    ),
    Column(
        "queue",
        "queue",
        5,
        lambda row, _width, _look: (compact(row.waiting), "yellow" if row.waiting else ""),
        lambda row, _look: (row.waiting,),
        6,
    ),
    Column(
        "instances",
        "inst",
        8,
        lambda row, _width, _look: (_instances(row), ""),
        lambda row, _look: (row.instances,),
        10,
    ),
    Column(
        "unread",
        "unread",
        6,
        lambda row, _width, _look: (compact(row.unread), ""),
        lambda row, _look: (row.unread,),
        11,
    ),
    Column(
        "pid",
        "pid",
        7,
        lambda row, _width, _look: (_pids(row), ""),
        lambda row, _look: row.pids or (-1,),
        12,
        down=False,
    ),
    Column(
        "user",
        "user",
        8,
        lambda row, _width, _look: (",".join(row.users), ""),
        lambda row, _look: (",".join(row.users),),
        13,
        right=False,
        down=False,
    ),
    Column(
        "program",
        "program",
        12,
        lambda row, _width, _look: (row.problem, "yellow") if row.problem else (",".join(row.programs), ""),
        lambda row, _look: (",".join(row.programs),),
        14,
        right=False,
        down=False,
        grows=60,
    ),
)


def _instances(row: PipeRow) -> str:
    return f"{compact(row.instances)}/{'inf' if row.limit is None else row.limit}"


def _pids(row: PipeRow) -> str:
    if not row.pids:
        return "-"
    return str(row.pids[0]) + (f"+{len(row.pids) - 1}" if len(row.pids) > 1 else "")


def _unread(unread: int, quota: int) -> tuple[str, str]:
    return f"{compact(unread)}/{compact(quota)}", _depth_colour(unread / max(1, quota))


CONNECTION_COLUMNS: Final[tuple[Column[ConnectionRow], ...]] = (
    Column(
        "client",
        "client",
        8,
        lambda row, _width, _look: (_client(row), "yellow" if row.left else ""),
        lambda row, _look: (-1 if row.pid is None else row.pid, row.number),
        0,
        right=False,
        down=False,
    ),
    *_flow(18),
    _DEPTH,
    _waits(5),
    Column(
        "idle",
        "idle",
        5,
        lambda row, _width, _look: (idle_text(row.idle, exactly=row.idle_exactly), "yellow" if row.left else ""),
        lambda row, _look: (row.idle,),
        6,
    ),
    Column(
        "unread in",
        "unread in",
        11,
        lambda row, _width, _look: _unread(row.unread_in, row.quota_in),
        lambda row, _look: (row.unread_in,),
        10,
    ),
    Column(
        "unread out",
        "unread out",
        11,
        lambda row, _width, _look: _unread(row.unread_out, row.quota_out),
        lambda row, _look: (row.unread_out,),
        11,
    ),
    Column(
        "moved",
        "moved",
        6,
        lambda row, _width, look: (compact(row.messages if look.messages else row.bytes), ""),
        lambda row, look: (row.messages if look.messages else row.bytes,),
        9,
    ),
    Column(
        "since",
        "for",
        9,
        lambda row, _width, look: (span_text(max(0.0, look.wall - row.since)), ""),
        lambda row, _look: (-row.since,),
        12,
    ),
    Column(
        "user",
        "user",
        8,
        lambda row, _width, _look: (row.user, ""),
        lambda row, _look: (row.user,),
        13,
        right=False,
        down=False,
    ),
    Column(
        "program",
        "program",
        12,
        lambda row, _width, _look: (row.program, ""),
        lambda row, _look: (row.program,),
        14,
        right=False,
        down=False,
        grows=60,
    ),
)


def _client(row: ConnectionRow) -> str:
    return "remote" if row.remote else str(row.pid)


def pipe_fields(row: PipeRow) -> tuple[str, ...]:
    """Return what a filter looks at."""
    return (row.name, row.type, row.direction, *row.users, *row.programs, *map(str, row.pids), row.problem or "")


def connection_fields(row: ConnectionRow) -> tuple[str, ...]:
    """Return what a filter looks at."""
    return _client(row), row.user, row.program


def fit(columns: Sequence[Column[Row]], width: int, sort: str) -> list[tuple[Column[Row], int]]:
    """Return the columns for a width, with their widths: by rank as many as find room, and the one sorted by.

    The first column is always there. What is left over goes to those that grow, in turn.
    """
    least = {column.key: max(column.least, column.usual if width >= _USUAL else 0) for column in columns}
    room = width - least[columns[0].key]
    first = sorted(columns[1:], key=lambda column: (column.key != sort, column.rank))  # that one is wanted most
    wanted = {columns[0].key}
    for column in first:
        if least[column.key] + 1 > room:
            break
        wanted.add(column.key)
        room -= least[column.key] + 1
    shown = [column for column in columns if column.key in wanted]
    widths = [least[column.key] for column in shown]
    growing = [index for index, column in enumerate(shown) if column.grows]
    while room > 0 and growing:
        for index in list(growing):
            if room > 0:
                widths[index] += 1
                room -= 1
            if widths[index] >= shown[index].least + shown[index].grows:
                growing.remove(index)
    widths[0] = max(1, min(widths[0], width))
    return list(zip(shown, widths, strict=True))


def sorted_rows(
    rows: Sequence[Row], columns: Sequence[Column[Row]], sort: str, look: Look, *, backwards: bool
) -> list[Row]:
    """Return the rows by a column, and where it is the same by the first one; `backwards` from the other end.

    Connections that have ended are together, after those that live.
    """
    column = next(column for column in columns if column.key == sort)
    first = sorted(rows, key=lambda row: columns[0].order(row, look))
    ordered = sorted(first, key=lambda row: column.order(row, look), reverse=column.down != backwards)
    return sorted(ordered, key=lambda row: isinstance(row, ConnectionRow) and row.left)
