"""One connection of a relay: what is carried between its two ends, and how that ends."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from npipe.relay.base import CutOffError, PeerLostError, UncarriableError

if TYPE_CHECKING:
    from npipe.relay.base import Channel, RelayOptions

__all__ = ["Conversation", "Flow", "Report"]


@dataclass
class Flow:
    """What went one way."""

    bytes: int = 0
    pieces: int = 0
    """Messages, or pieces of a stream."""
    dropped: int = 0
    """Bytes that were read from one side, and of which the other may not have got all."""


@dataclass
class Report:
    """What came of a connection."""

    number: int
    first: str
    """Who was at the first side."""
    second: str
    forth: Flow = field(default_factory=Flow)
    """From the first side to the second."""
    back: Flow = field(default_factory=Flow)
    how: str = ""
    """How it ended."""
    lost: str = ""
    """Who has gone without a proper end, and why; or what went wrong. Empty if nothing did."""
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether all that was sent has come to the other side, as far as this can be known."""
        return not (self.lost or self.forth.dropped or self.back.dropped)


class _Way:
    """One direction, as a task."""

    def __init__(self, source: Channel, target: Channel, flow: Flow, source_name: str, target_name: str) -> None:
        self.source, self.target, self.flow = source, target, flow
        self.source_name, self.target_name = source_name, target_name
        self.ended_well = False
        self.told = True
        self.lost = ""
        self.target_lost = False
        self.cut_off = False
        self.holds = 0
        self.last = time.monotonic()

    async def run(self) -> None:
        """Carry up to the end, which the target is told."""
        source, target, flow = self.source, self.target, self.flow
        while True:
            try:
                data = await source.read()
            except PeerLostError as error:
                self.lost = f"{self.source_name}: {error}"
                self.cut_off = isinstance(error, CutOffError)
                return
            self.last = time.monotonic()
            try:
                if data is None:
                    self.ended_well = True
                    if not source.peer_closed:
                        self.told = await target.finish()
                    return
                self.holds = len(data)
                await target.write(data)
            except PeerLostError as error:
                self.target_lost = not isinstance(error, UncarriableError)
                if self.holds:
                    name = self.target_name if self.target_lost else self.source_name
                    self.lost = f"{name}: {error}"
                flow.dropped += self.holds
                self.holds = 0
                return
            self.holds = 0
            flow.bytes += len(data)
            flow.pieces += 1
            self.last = time.monotonic()

    async def after(self) -> None:
        """After run: wait until the source has gone, so that nothing can be written to it either."""
        if self.source.peer_closed or (self.lost and not self.target_lost):
            return
        if not self.source.read_ended:  # the target takes no more: what the source still sends is for nobody
            while not self.source.read_ended:
                try:
                    data = await self.source.read()
                except PeerLostError:
                    return
                self.flow.dropped += len(data or b"")
            if self.source.peer_closed:
                return
        try:
            await self.source.gone()
        except PeerLostError as error:
            self.lost = self.lost or f"{self.source_name}: {error}"


_FIRST: Final = "the first side"
_SECOND: Final = "the second side"


class Conversation:
    """Carries between two channels, until both ways have ended or one side has gone."""

    def __init__(self, number: int, first: Channel, second: Channel, options: RelayOptions) -> None:
        """Begin nothing yet."""
        self.report: Report = Report(number, first.label, second.label)
        self._options = options
        self._first, self._second = first, second
        self._stop = asyncio.Event()
        self._why = ""
        self._forth = _Way(first, second, self.report.forth, _FIRST, _SECOND)
        self._back = _Way(second, first, self.report.back, _SECOND, _FIRST)

    def stop(self, why: str) -> None:
        """End it now; `why` stands in the report."""
        self._why = self._why or why
        self._stop.set()

    async def run(self) -> Report:
        """Carry, close both channels, and return what came of it."""
        began = time.monotonic()
        report = self.report
        try:
            report.how = await self._carry()
        finally:
            for way in (self._forth, self._back):
                unread = min(way.target.unread(), way.flow.bytes)
                way.flow.bytes -= unread
                way.flow.dropped += unread
            linger = 0.0 if self._stop.is_set() else self._options.linger
            closings = (self._first.close(linger), self._second.close(linger))
            for flow, dropped in zip(
                (report.forth, report.back), await asyncio.gather(*closings, return_exceptions=True), strict=True
            ):
                if isinstance(dropped, BaseException):
                    report.lost = report.lost or f"closing failed: {dropped}"
                else:
                    flow.dropped += dropped
            report.seconds = time.monotonic() - began
            for channel in (self._first, self._second):
                if channel.parting and channel.parting not in report.how:
                    report.how += f" ({channel.parting})"
            report.lost = report.lost or self._forth.lost or self._back.lost
        return report

    async def _carry(self) -> str:
        forth, back = self._forth, self._back
        ways = {asyncio.create_task(forth.run()): forth, asyncio.create_task(back.run()): back}
        stopped = asyncio.create_task(self._stop.wait())
        watch = asyncio.create_task(self._watch(half=False))
        after: dict[asyncio.Task[None], _Way] = {}
        try:
            while True:
                await asyncio.wait((*ways, *after, stopped, watch), return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    return f"ended, {self._why}"
                if watch.done():
                    return watch.result()
                for task in [task for task in after if task.done()]:
                    task.result()
                    return f"{after[task].source_name} has gone"
                for task in [task for task in ways if task.done()]:
                    way = ways.pop(task)
                    task.result()
                    if way.ended_well and (
                        self._options.end_with_first if way is forth else self._options.end_with_second
                    ):
                        return f"{way.source_name} has ended"
                    if ways:
                        ending = self._last_words(*ways.values()) if way.cut_off else way.after()
                        after[asyncio.create_task(ending)] = way
                        watch.cancel()
                        await asyncio.wait((watch,))
                        watch = asyncio.create_task(self._watch(half=True, told=way.told))
                if not ways:
                    return "both sides have ended" if forth.ended_well and back.ended_well else "one side takes no more"
        finally:
            tasks: list[asyncio.Task[Any]] = [*ways, *after, stopped, watch]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for way in (forth, back):
                way.flow.dropped += way.holds
                way.holds = 0

    async def _last_words(self, way: _Way) -> None:
        """Wait until what was on its way to a side that may have gone has come there, or is found to be for nobody."""
        began = time.monotonic()
        while (left := max(began, way.last) + self._options.linger - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _watch(self, *, half: bool, told: bool = True) -> str:
        """Wait until nothing has been carried for longer than it may be."""
        options = self._options
        limits = [options.idle_timeout]
        if half:
            limits.append(options.half_close_timeout)
        if not told:
            limits.append(options.untold_timeout)
        limit = min((limit for limit in limits if limit is not None), default=None)
        if limit is None:
            await asyncio.get_running_loop().create_future()
            raise AssertionError
        began = time.monotonic()
        while (left := limit + max(began, self._forth.last, self._back.last) - time.monotonic()) > 0:
            await asyncio.sleep(left)
        return f"nothing was carried for {limit:g} seconds"
