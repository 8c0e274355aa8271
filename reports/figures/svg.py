"""Pictures as SVG that is safe to embed in the page.

The page's Content-Security-Policy forbids ``style`` attributes, so a colour is a class of the style sheet; charts
follow the light and dark scheme. Only the shapes below exist, and every text is escaped. The same calls give the same
bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from markupsafe import Markup, escape

from reports.escape import visible

Colour = Literal[
    "ink", "muted", "grid", "paper", "better", "worse", "undecided", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"
]  # .k-NAME strokes and .f-NAME fills with var(--NAME)
Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]

# Outlines of marks around (0, 0), of about the same area.
_TURNS = [2 * math.pi * k / 5 - math.pi / 2 for k in range(5)]
_PLUS = [(-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35), (0.35, 1), (-0.35, 1)]
_PLUS += [(-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)]
_OUTLINES: dict[str, Sequence[Point]] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "diamond": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    "up": [(0, -1.1), (1.1, 0.9), (-1.1, 0.9)],
    "down": [(0, 1.1), (-1.1, -0.9), (1.1, -0.9)],
    "plus": _PLUS,
    "cross": [(0.75 * (x - y), 0.75 * (x + y)) for x, y in _PLUS],
    "pentagon": [(1.1 * math.cos(turn), 1.1 * math.sin(turn)) for turn in _TURNS],
}
MARKERS = ("circle", *_OUTLINES)


class Picture:
    """A picture of ``width`` × ``height`` CSS pixels; (0, 0) is its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []

    def path(self, points: Sequence[Point], colour: Colour, *, width: float = 1.6, dash: str = "") -> None:
        """Draw straight lines through the points."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<path class="k-{colour}" fill="none" stroke-width="{_n(width)}"{dashes} d="{_outline(points)}"/>'
        )

    def bar(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: Colour,
        *,
        opacity: float = 1.0,
        gap: bool = False,
    ) -> None:
        """Fill a rectangle; ``gap`` leaves a thin line to its neighbours."""
        pale = f' fill-opacity="{_n(opacity)}"' if opacity < 1 else ""
        edge = ' stroke-width="1"' if gap else ""
        names = f"f-{colour} k-paper" if gap else f"f-{colour}"
        box = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        self._parts.append(f'<rect class="{names}" {box}{pale}{edge}/>')

    def mark(self, x: float, y: float, shape: str, colour: Colour, *, size: float = 3.4, hollow: bool = False) -> None:
        """Draw one mark; a hollow one is filled with the paper's colour, so that nothing shows through."""
        look = f'class="k-{colour} f-{"paper" if hollow else colour}" stroke-width="1.4"'
        if shape == "circle":
            self._parts.append(f'<circle {look} cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}"/>')
        else:
            points = [(x + size * dx, y + size * dy) for dx, dy in _OUTLINES[shape]]
            self._parts.append(f'<path {look} d="{_outline(points)}Z"/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: Anchor = "start",
        colour: Colour = "ink",
        size: float = 10.0,
        upwards: bool = False,
    ) -> None:
        """Write one line of text; ``y`` is its middle. ``upwards``: turned by a quarter, for a vertical axis."""
        turned = f' transform="rotate(-90 {_n(x)} {_n(y)})"' if upwards else ""
        placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
        where = f'x="{_n(x)}" y="{_n(y + 0.35 * size)}" font-size="{_n(size)}"'
        self._parts.append(f'<text class="f-{colour}" {where}{placed}{turned}>{escape(visible(words))}</text>')

    def svg(self, prefix: str, title: str, description: str) -> Markup:
        """Return the picture with an accessible name and description; ``prefix`` keeps its ids apart."""
        return Markup(
            f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(self.width)} {_n(self.height)}"'
            f' role="img" aria-labelledby="{prefix}-t" aria-describedby="{prefix}-d">'
            f'<title id="{prefix}-t">{escape(visible(title))}</title>'
            f'<desc id="{prefix}-d">{escape(visible(description))}</desc>'
            f"{''.join(self._parts)}</svg>"
        )


def _outline(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _n(value: float) -> str:
    """Return a coordinate to a tenth of a pixel: more is invisible."""
    return f"{value:.1f}".removesuffix(".0")
