"""Repeated short rounds, taken in turn by all peers, so that the noise of the machine hits all of them alike."""

from __future__ import annotations

import enum
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .processes import PeerFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Quantity(enum.Enum):
    """What a number means, and so how it is written and compared."""

    LATENCY = "seconds, less is better"
    RATE = "messages per second, more is better"
    SHARE = "a fraction of 1, more is better"
    MEMORY = "bytes, less is better"
    CPU = "seconds of CPU, less is better, none is expected"

    @property
    def more_is_better(self) -> bool:
        """Whether the larger number wins."""
        return self in (Quantity.RATE, Quantity.SHARE)


@dataclass
class Outcome:
    """The rounds of one peer in one case, and why there are no more of them."""

    values: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def median(self) -> float | None:
        """The middle round; None when the peer failed, however far it came."""
        return statistics.median(self.values) if self.values and not self.failure else None


@dataclass
class Case:
    """One column of a scenario's table: the outcomes of all peers at the same task."""

    scenario: str
    label: str
    quantity: Quantity
    size: int = 0  # bytes in a message, where a rate in bytes is of interest
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def median(self, peer: str) -> float | None:
        """Return the peer's median, if it took part and did not fail."""
        return self.outcomes[peer].median if peer in self.outcomes else None

    def best(self, peer: str) -> float:
        """Return the peer's best round."""
        return (max if self.quantity.more_is_better else min)(self.outcomes[peer].values)

    def gain(self, peer: str, base: str) -> float | None:
        """How many times better ``peer`` is than ``base``; None when one of them has no number, or it is 0."""
        mine, other = self.median(peer), self.median(base)
        if not mine or not other:
            return None
        return mine / other if self.quantity.more_is_better else other / mine


def interleave(rounds: int, tasks: Mapping[str, Callable[[], float]]) -> dict[str, Outcome]:
    """Run all ``tasks`` in turn, ``rounds`` times, after one turn that is thrown away.

    One that fails takes no more turns.
    """
    outcomes = {name: Outcome() for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            outcome = outcomes[name]
            if outcome.failure:
                continue
            try:
                value = task()
            except PeerFailedError as error:
                outcome.failure = str(error)
            else:
                if turn:
                    outcome.values.append(value)
    return outcomes


def timed(run: Callable[[int], float], seconds: float) -> Callable[[], float]:
    """Make a task out of ``run(count)``, which returns the seconds of ``count`` steps: a round lasts some ``seconds``.

    The number of steps is found in the first turn. The task returns seconds per step.
    """
    count = 0

    def task() -> float:
        nonlocal count
        if not count:
            trial, taken = 1, run(1)
            while taken < seconds / 4:
                trial *= 2 if taken > seconds / 64 else 8
                taken = run(trial)
            count = max(1, round(trial * seconds / taken))
        return run(count) / count

    return task
