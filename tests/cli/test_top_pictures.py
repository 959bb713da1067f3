"""The pictures of `npipe top` in the docs: what it shows of answers that are written here, so that they are always the
same. `make pictures` writes them; the test says when they tell something else than the command shows.
"""

from __future__ import annotations

import asyncio
import functools
import html
import itertools
import math
import os
import re
import time
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("textual", reason="the extra `monitor` is not installed")

from npipe.cli._monitor.model import Sample
from npipe.cli._monitor.view import Monitor
from npipe.figures import ConnectionReport, OwnerReport, PipeReport, PipeStats, Totals
from npipe.tracing.events import Event, Flags, Kind
from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PICTURES = CHECKOUT / "docs" / "images"
WALL = 1_772_355_600.0  # 2026-03-01 09:00:00 UTC
ROUNDS = 60
_ELSEWHERE = re.compile(r"\s*@font-face \{.*?\}|<!--.*?-->", re.DOTALL)  # fonts of another machine, and who drew it


class Script:
    """A source of samples that are written here."""

    def __init__(self, samples: list[Sample]) -> None:
        self.interval = 1.0
        self.problem: str | None = None
        self._samples = samples

    def start(self, tell: Callable[[], object]) -> None:
        tell()

    def stop(self) -> None: ...

    def take(self) -> list[Sample]:
        samples, self._samples = self._samples, []
        return samples


class Said:
    """Messages that are written here."""

    def __init__(self) -> None:
        self.lost = 0
        self.problem: str | None = None
        self.pids: tuple[int, ...] = (812,)
        self._events = list(_events())

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def stop(self) -> None: ...


def _events() -> Iterator[Event]:
    whole = Flags.FIRST | Flags.LAST | Flags.SERVER | Flags.MESSAGE
    at = int(WALL * 1e9)
    for number, (client, text) in enumerate(
        [
            (901, '{"sell": "tea", "count": 2}'),
            (902, '{"stock": "coffee"}'),
            (903, '{"sell": "bread", "count": 1}'),
            (904, "\x1b[31mnot JSON"),
        ]
    ):
        answer = '{"ok": true}' if text[0] == "{" else '{"error": "not JSON"}'
        for flags, said, late in ((whole, text, 0), (whole | Flags.OUT, answer, 41_000)):
            data = said.encode()
            yield Event(
                at + number * 12_345_678 + late, Kind.DATA, flags, "", 812, number + 1, client, 0, len(data), data
            )


def _stats(moved: float, since: float, *, unread: int = 0, waits: bool = False) -> PipeStats:
    return PipeStats(
        since=since,
        bytes_received=int(moved * 96),
        messages_received=int(moved),
        unread=0,
        bytes_sent=int(moved * 40),
        messages_sent=int(moved),
        unread_by_peer=unread,
        unread_messages_by_peer=0,
        pending_reads=0 if waits else 1,
        pending_writes=1 if waits else 0,
        reading_for=None,
        writing_for=None,
        peer_waits_to_read=False,
        peer_waits_to_write=False,
        waits=0,
    )


def _pipe(
    name: str,
    at: int,
    clients: int,
    pid: int,
    program: str,
    speed: Callable[[int, int], float],
    *,
    stuck: int = 0,
    limit: int | None = None,
    answer: float = 0.000085,
    code: int = 0,
) -> Sample:
    connections = []
    for index in range(clients if code == 0 else 0):
        moved = _moved(speed, index)[at]
        waits = index < stuck
        connections.append(
            ConnectionReport(
                number=index + 1,
                pid=901 + index,
                uid=1000,
                user="anna",
                program=f"python till.py {index + 1}",
                remote=False,
                left=False,
                in_buffer_size=65536,
                out_buffer_size=65536,
                stats=_stats(moved, WALL - 3600 + index, unread=65_000 if waits else 0, waits=waits),
                rough=False,
            )
        )
    live = [one.stats for one in connections]
    owner = OwnerReport(
        pid=pid,
        uid=1000,
        user="anna",
        program=program,
        code=code,
        problem=None if code == 0 else "it does not answer: it is stopped, or very busy",
        instances=clients + 1,
        listening=1,
        waiting=0,
        in_buffer_size=65536,
        out_buffer_size=65536,
        since=WALL - 7200 if code == 0 else None,
        totals=Totals(
            connected=clients,
            connections=clients,
            bytes_received=sum(one.bytes_received for one in live),
            messages_received=sum(one.messages_received for one in live),
            bytes_sent=sum(one.bytes_sent for one in live),
            messages_sent=sum(one.messages_sent for one in live),
            waits=0,
        ),
        connections=tuple(connections),
        answered_in=answer if code == 0 else None,
    )
    report = PipeReport(
        name=rf"\\.\pipe\{name}",
        type="message",
        direction="duplex",
        instances=clients + 1,
        max_instances=limit,
        owners=(owner,),
    )
    return Sample(report.name, float(at), WALL - ROUNDS + at, report)


def _wave(index: int, second: int) -> float:
    return float(int(40 + index % 7 * 5 + 35 * math.sin(second / 6)))


@functools.cache
def _moved(speed: Callable[[int, int], float], index: int) -> list[float]:
    return list(itertools.accumulate((speed(index, second) for second in range(ROUNDS)), initial=0.0))


def _busy(_index: int, second: int) -> float:
    return float(second % 20 * 300)


def _even(index: int, _second: int) -> float:
    return float(3 + index)


def _none(_index: int, _second: int) -> float:
    return 0.0


@functools.cache
def _samples(shop: int) -> list[Sample]:
    samples = []
    for at in range(ROUNDS + 1):
        samples += [
            _pipe("shop", at, shop, 812, "python shop.py", _wave, stuck=1),
            _pipe("till\x1b[2J", at, 2, 815, "python -m till", _busy, answer=0.0012),
            _pipe("logs", at, 12, 420, "/usr/bin/logger --pipe", _even),
            _pipe("idle", at, 0, 977, "node idle.js", _none, limit=4),
        ]
    samples.append(_pipe("stopped", ROUNDS, 3, 990, "python stopped.py", _wave, code=121))
    return samples


def _text(svg: str) -> list[str]:
    """What a picture says: its lines of text, without where they are, and without textual's own last line."""
    lines: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in re.findall(r'<text class="[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', svg):
        lines.setdefault(float(y), []).append((float(x), html.unescape(text).replace("\xa0", " ")))
    told = ["".join(text for _, text in sorted(parts)).split() for _, parts in sorted(lines.items())]
    return [" ".join(words) for words in told if words][:-1]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("picture", "size", "shop", "keys"),
    [
        ("top", (110, 14), 1000, ("down",)),
        ("top-narrow", (40, 12), 1000, ("down",)),
        ("top-pipe", (110, 28), 1000, ("down", "enter", "down")),
    ],
)
def test_the_pictures_in_the_docs_are_what_it_shows(
    picture: str, size: tuple[int, int], shop: int, keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()

    async def main() -> str:
        monitor = Monitor(
            Script(_samples(shop)),
            look_on=_say,
            wall=lambda: WALL,
            clock=lambda: float(ROUNDS),
            where="below /run/npipe",
        )
        async with monitor.run_test(size=size) as pilot:
            await pilot.pause()
            await pilot.press(*keys)
            await pilot.pause(0.5)
            return monitor.export_screenshot(title=f"npipe top, {size[0]} columns")

    svg = _ELSEWHERE.sub("", asyncio.run(main()))
    monkeypatch.undo()
    time.tzset()
    svg = "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
    path = PICTURES / f"{picture}.svg"
    if os.environ.get("NPIPE_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        path.write_text(svg, encoding="utf-8")
    assert _text(path.read_text(encoding="utf-8")) == _text(svg), "make pictures"
    assert "http://" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in svg


def _say(_name: str, tell: Callable[[], object]) -> Said:
    tell()
    return Said()
