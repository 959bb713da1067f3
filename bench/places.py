"""Messages where they lie: how long it takes to hand one over, whatever its size, and pictures at full speed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .fleet import Fleet, Settings, bare, inverse, knows, run
from .measure import Case, Quantity
from .names import COPY, FRAME_BYTES, FRAMES, HAND, VIEW_SIZES
from .tasks import FRAMES as FRAMES_ORDER
from .tasks import STAMPS

if TYPE_CHECKING:
    from .processes import Ends, Session

_LEAST = 2  # frames in an order


def _start(session: Session, size: int, peer: str) -> Ends:
    return session.start(peer, "threads", connections=(1,), apart=True, slots=size)


def views(session: Session, settings: Settings) -> list[Case]:
    """Hand messages over where they lie: a number is written at both ends of each, read there and compared."""
    cases = []
    for size, label in VIEW_SIZES.items():
        with Fleet("views", settings.peers, partial(_start, session, size)) as fleet:
            task = partial(run, STAMPS, size, settings.round_seconds)
            others = {HAND: bare(settings, "hand", size)} if knows(settings, "hand") else {}
            cases.append(fleet.measure(label, Quantity.LATENCY, settings.rounds, task, size=size, others=others))
    return cases


def frames(session: Session, settings: Settings) -> list[Case]:
    """Send pictures out of a camera's buffer, one way: numbers in each are compared, and the last one is read whole."""
    with Fleet("frames", settings.peers, partial(_start, session, FRAME_BYTES)) as fleet:

        def task(peer: str, ends: Ends):  # type: ignore[no-untyped-def]
            return inverse(run(FRAMES_ORDER, FRAME_BYTES, 2 * settings.round_seconds, peer, ends))

        others = {COPY: inverse(bare(settings, "copy", FRAME_BYTES))} if settings.limit.exists() else {}
        case = fleet.measure(FRAMES, Quantity.RATE, settings.rounds, task, size=FRAME_BYTES, others=others)
    return [case]
