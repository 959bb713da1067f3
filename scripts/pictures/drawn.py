"""All pictures, by the names of their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import messages
from .badges import badges
from .canvas import THEMES, Canvas, Theme

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT: Final = Path(__file__).resolve().parents[2]

PICTURES: Final[dict[str, Callable[[Theme], Canvas]]] = {
    "message": messages.message,
}


def drawn() -> dict[str, str]:
    """Return what each file in docs/images has to have."""
    found = {f"{name}-{theme.name}.svg": draw(theme).svg() for name, draw in PICTURES.items() for theme in THEMES}
    return found | badges(CHECKOUT)
