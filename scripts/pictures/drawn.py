"""All pictures, by the names of their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import inside, messages, overlapped, states
from .badges import badges
from .canvas import THEMES, Canvas, Theme

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT: Final = Path(__file__).resolve().parents[2]

PICTURES: Final[dict[str, Callable[[Theme], Canvas]]] = {
    "message": messages.message,
    "reading": messages.reading,
    "more-data": messages.more_data,
    "quota": messages.quota,
    "instance": states.instance,
    "waits": states.waits,
    "ends": states.ends,
    "overlapped": overlapped.overlapped,
    "routines": overlapped.routines,
    "connecting": inside.connecting,
    "ring": inside.ring,
    "waiting": inside.waiting,
    "trust": inside.trust,
}


def drawn() -> dict[str, str]:
    """Return what each file in docs/images has to have."""
    found = {f"{name}-{theme.name}.svg": draw(theme).svg() for name, draw in PICTURES.items() for theme in THEMES}
    return found | badges(CHECKOUT)
