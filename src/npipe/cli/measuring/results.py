"""What was measured, and its statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["SHARES", "Measured", "duration", "rate", "steps_of"]

SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}
_STEPS: Final = 20  # of the histogram, in a decade


@dataclass
class Measured:
    """One contestant's figures."""

    name: str
    round_trips: list[int] = field(default_factory=list)
    """Nanoseconds of each; sorted by `settle`."""
    bytes_sent: int = 0
    """One way."""
    messages_sent: int = 0
    seconds_sending: float = 0.0

    def settle(self) -> None:
        """Bring the figures into order; nothing is added after this."""
        self.round_trips.sort()

    def percentile(self, share: float) -> int | None:
        """Return the nanoseconds that this share of the round trips did not exceed; None where too few tell."""
        count = len(self.round_trips)
        # One in 10,000 is known from 10,000 on: with fewer it would be the worst one under another name.
        if not count or count * (1 - share) < 1 - 1e-9:
            return None
        return self.round_trips[math.ceil(share * count - 1e-9) - 1]

    def percentiles(self) -> dict[str, int | None]:
        """Return those of SHARES, and the worst."""
        worst = self.round_trips[-1] if self.round_trips else None
        return {name: self.percentile(share) for name, share in SHARES.items()} | {"worst": worst}

    @property
    def bytes_per_second(self) -> float:
        """The throughput one way."""
        return self.bytes_sent / self.seconds_sending if self.seconds_sending else 0.0

    @property
    def messages_per_second(self) -> float:
        """The same in messages."""
        return self.messages_sent / self.seconds_sending if self.seconds_sending else 0.0

    def histogram(self) -> list[tuple[int, int]]:
        """Return (nanoseconds, how many round trips took at most as long, and longer than the bucket before)."""
        found = steps_of(self.round_trips)
        return [(round(10 ** ((step + 1) / _STEPS)), found[step]) for step in sorted(found)]

    def as_json(self) -> dict[str, object]:
        """Return it for programs: nanoseconds, bytes and seconds."""
        return {
            "name": self.name,
            "round_trips": len(self.round_trips),
            "latency_ns": self.percentiles(),
            "histogram_ns": self.histogram(),
            "messages": self.messages_sent,
            "bytes": self.bytes_sent,
            "seconds": self.seconds_sending,
            "bytes_per_second": self.bytes_per_second,
            "messages_per_second": self.messages_per_second,
        }


def steps_of(times: Iterable[int], steps: float = _STEPS) -> dict[int, int]:
    """Count nanoseconds by steps of a log scale, of which a decade has `steps`."""
    found: dict[int, int] = {}
    for time in times:
        step = math.floor(math.log10(max(time, 1)) * steps)
        found[step] = found.get(step, 0) + 1
    return found


def duration(nanoseconds: float | None) -> str:
    """Return a time in three digits and its unit; a dash for None."""
    return "–" if nanoseconds is None else _three(nanoseconds, 1000, ("ns", "µs", "ms", "s"))


def rate(bytes_per_second: float) -> str:
    """Return a throughput in three digits and its unit."""
    return _three(bytes_per_second, 1000, ("B/s", "kB/s", "MB/s", "GB/s", "TB/s"))


def _three(value: float, step: int, units: Sequence[str]) -> str:
    at = 0
    # 999.5 would be written as 1000.
    while value >= step - 0.5 and at < len(units) - 1:
        value, at = value / step, at + 1
    digits = 0 if value >= 99.95 or at == 0 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {units[at]}"
