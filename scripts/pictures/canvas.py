"""What the pictures are drawn with: boxes, arrows, bytes and words, as SVG that a browser and a reader's ear can tell.

A picture is 540 units wide and shown no wider, its smallest words are 15 high: on a phone of 360 they are 10 high. It
has a ground of its own, so it can be read whatever the page around it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH: Final = 540
SMALL: Final = 15
FONT: Final = "'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif"
CODE: Final = "'DejaVu Sans Mono', Menlo, Consolas, monospace"
_WIDEST = 0.64  # of a letter's height, on average, in the widest of these fonts

Colour = Literal["ink", "quiet", "blue", "orange", "green"]
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Theme:
    """The colours for a page. Each of the inks has a contrast of 4.5 and more to the ground and to the fills."""

    name: str
    ground: str
    faint: str  # borders that say nothing
    ink: str
    quiet: str
    blue: str
    orange: str
    green: str
    fills: tuple[tuple[str, str], ...]  # behind words of a colour

    def ink_of(self, colour: Colour) -> str:
        """Return what words and lines of a colour have."""
        return {
            "ink": self.ink, "quiet": self.quiet, "blue": self.blue, "orange": self.orange, "green": self.green,
        }[colour]  # fmt: skip

    def fill_of(self, colour: Colour) -> str:
        """Return what stands behind words of a colour."""
        return dict(self.fills)[colour]


LIGHT: Final = Theme(
    "light", "#ffffff", "#d0d7de", "#1f2328", "#57606a", "#0757b5", "#a04000", "#176f30",
    (("ink", "#f6f8fa"), ("quiet", "#f6f8fa"), ("blue", "#e6f2ff"), ("orange", "#fff1e5"), ("green", "#e6f7ea")),
)  # fmt: skip
DARK: Final = Theme(
    "dark", "#0d1117", "#30363d", "#e6edf3", "#9da7b1", "#6cb6ff", "#f0883e", "#56d364",
    (("ink", "#161b22"), ("quiet", "#161b22"), ("blue", "#10233d"), ("orange", "#2e1a0b"), ("green", "#0f2a17")),
)  # fmt: skip
THEMES: Final = (LIGHT, DARK)


class Canvas:
    """One picture for one kind of page."""

    def __init__(self, theme: Theme, height: int, title: str, desc: str) -> None:
        self.theme = theme
        self.height = height
        self.title = title
        self.desc = desc
        self._parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        colour: Colour = "ink",
        size: int = SMALL,
        anchor: Anchor = "start",
        bold: bool = False,
        code: bool = False,
    ) -> None:
        """Write a line: x and y are where its foot begins, has its middle, or ends."""
        wide = len(words) * size * _WIDEST
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        if left < 0 or left + wide > WIDTH or not 0 < y < self.height:
            raise ValueError(f"{self.title}: {words!r} does not fit in")
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" fill="{self.theme.ink_of(colour)}" font-size="{size}"'
            + (f' text-anchor="{anchor}"' if anchor != "start" else "")
            + (' font-weight="bold"' if bold else "")
            + (f' font-family="{CODE}"' if code else "")
            + f">{escape(words, quote=False)}</text>"
        )

    def lines(self, x: float, y: float, words: Sequence[str], *, colour: Colour = "ink", step: int = 20) -> None:
        """Write lines below each other."""
        for number, line in enumerate(words):
            self.text(x, y + number * step, line, colour=colour)

    def box(
        self,
        x: float,
        y: float,
        wide: float,
        high: float,
        words: Sequence[str] = (),
        *,
        colour: Colour = "ink",
        dashed: bool = False,
        bold: bool = True,
        code: bool = False,
    ) -> None:
        """Draw a box with lines in its middle; the first is bold."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" rx="6"'
            f' fill="{self.theme.fill_of(colour)}" stroke="{self.theme.ink_of(colour)}"'
            f' stroke-width="1.5"{" stroke-dasharray=" + chr(34) + "5 4" + chr(34) if dashed else ""}/>'
        )
        first = y + high / 2 - (len(words) - 1) * 10 + 5
        for number, line in enumerate(words):
            self.text(
                x + wide / 2, first + number * 20, line,
                colour=colour, anchor="middle", bold=bold and number == 0, code=code,
            )  # fmt: skip

    def bytes(self, x: float, y: float, data: str, *, colour: Colour = "blue", cell: int = 24) -> float:
        """Draw bytes side by side, with nothing between them, and return where they end."""
        for number, letter in enumerate(data):
            at = x + number * cell
            self._parts.append(
                f'<rect x="{at:g}" y="{y:g}" width="{cell}" height="26" fill="{self.theme.fill_of(colour)}"'
                f' stroke="{self.theme.ink_of(colour)}"/>'
            )
            self.text(at + cell / 2, y + 18, letter, colour=colour, anchor="middle", code=True)
        return x + len(data) * cell

    def arrow(self, *points: tuple[float, float], colour: Colour = "ink", dashed: bool = False) -> None:
        """Draw a line through the points, with a head at its end."""
        (x0, y0), (x1, y1) = points[-2:]
        long = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        dx, dy = (x1 - x0) / long, (y1 - y0) / long
        self.line(*points[:-1], (x1 - 7 * dx, y1 - 7 * dy), colour=colour, dashed=dashed)
        head = ((x1, y1), (x1 - 9 * dx - 4.5 * dy, y1 - 9 * dy + 4.5 * dx),
                (x1 - 9 * dx + 4.5 * dy, y1 - 9 * dy - 4.5 * dx))  # fmt: skip
        shape = " ".join(f"{x:.4g},{y:.4g}" for x, y in head)
        self._parts.append(f'<polygon points="{shape}" fill="{self.theme.ink_of(colour)}"/>')

    def line(self, *points: tuple[float, float], colour: Colour = "ink", dashed: bool = False, wide: float = 2) -> None:
        """Draw a line through the points."""
        shape = " ".join(f"{x:.4g},{y:.4g}" for x, y in points)
        self._parts.append(
            f'<polyline points="{shape}" fill="none" stroke="{self.theme.ink_of(colour)}" stroke-width="{wide:g}"'
            f"{' stroke-dasharray=' + chr(34) + '5 4' + chr(34) if dashed else ''}/>"
        )

    def svg(self) -> str:
        """Return the whole file."""
        return "\n".join([
            (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}"'
            f' height="{self.height}" role="img" aria-labelledby="t d" font-family="{FONT}">'),
            f'<title id="t">{escape(self.title, quote=False)}</title>',
            f'<desc id="d">{escape(self.desc, quote=False)}</desc>',
            (f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{self.height - 1}" rx="8" fill="{self.theme.ground}"'
            f' stroke="{self.theme.faint}"/>'),
            *self._parts,
            "</svg>\n",
        ])  # fmt: skip
