"""A finished chart: its picture, its numbers, and what it says without the picture. And the parts of all charts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.results.distribution import Distribution
from reports.escape import shorten, visible
from reports.figures.axes import Axis
from reports.figures.svg import Colour, Picture
from reports.roles import look
from reports.view import RunView


@dataclass(frozen=True)
class Chart:
    """``headers`` and ``rows`` are the numbers behind the picture; ``caption`` explains how to read it."""

    key: str
    title: str
    caption: str
    svg: Markup
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def finish(
    picture: Picture, key: str, title: str, caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]]
) -> Chart:
    """Turn a picture into a Chart; its description for screen readers is the caption and the first rows."""
    first = "; ".join(
        ", ".join(f"{head} {cell.removesuffix('.')}" for head, cell in zip(headers, row, strict=False))
        for row in rows[:6]
    )
    more = f" and {len(rows) - 6} further rows in the table" if len(rows) > 6 else ""
    svg = picture.svg(f"g-{key}", title, shorten(f"{caption} Numbers: {first}{more}.", 900))
    return Chart(key, title, caption, svg, tuple(headers), tuple(tuple(row) for row in rows))


def label(text: str, limit: int = 24) -> str:
    """Return text for a picture: hidden characters made visible, on one line, not too long."""
    return shorten(visible(text), limit)


def wrapped(text: str) -> str:
    """Return a label on one or two lines."""
    lines = textwrap.wrap(label(text, 42), 22)
    return "\n".join(lines[:2]) if lines else ""


WIDTH = 380.0  # CSS pixels: on a phone a chart shrinks to four fifths of that and is still readable
_LETTER = 6.0  # pixels of an average letter; the browser's own font is rarely wider
_APART = (50.0, 40.0)  # pixels between ticks, horizontally and vertically
_RIGHT, _BOTTOM, _BETWEEN, _LINE = 14.0, 40.0, 48.0, 18.0


@dataclass(frozen=True)
class Plot:
    """A rectangle of a picture, in its pixels, that data are drawn into."""

    picture: Picture
    left: float
    top: float
    right: float
    bottom: float

    def horizontal(self, axis: Axis, title: str, *, numbers: bool = True) -> None:
        """Draw a horizontal axis with its grid under the plot."""
        for value, text in axis.ticks(int((self.right - self.left) / _APART[0])):
            x = axis(value)
            self.picture.path([(x, self.top), (x, self.bottom)], "grid", width=0.8)
            if numbers:
                self.picture.text(x, self.bottom + 10, text, anchor="middle")
        self.picture.path([(self.left, self.bottom), (self.right, self.bottom)], "muted", width=0.8)
        if title:
            self.picture.text((self.left + self.right) / 2, self.bottom + 27, title, anchor="middle", size=10.5)

    def vertical(self, axis: Axis, title: str) -> None:
        """Draw a vertical axis with its grid on the left of the plot."""
        for value, text in axis.ticks(int((self.bottom - self.top) / _APART[1])):
            y = axis(value)
            self.picture.path([(self.left, y), (self.right, y)], "grid", width=0.8)
            self.picture.text(self.left - 6, y, text, anchor="end")
        self.picture.path([(self.left, self.top), (self.left, self.bottom)], "muted", width=0.8)
        self.picture.text(9, (self.top + self.bottom) / 2, title, anchor="middle", size=10.5, upwards=True)

    def name(self, y: float, words: str) -> None:
        """Write a line's name, of one or two lines, on the left of the plot."""
        lines = words.split("\n")
        for k, line in enumerate(lines):
            self.picture.text(self.left - 8, y + 12 * (k - (len(lines) - 1) / 2), line, anchor="end")

    def steps(self, found: Distribution, across: Axis, up: Axis, colour: Colour, *, dash: str = "") -> None:
        """Draw the percentage of values that are at most as large as each value."""
        last, points = len(found.values) - 1, [(across(float(found.values[0])), up(0.0))]
        stride = max(1, len(found.values) // 200)  # more steps than that are narrower than the line
        for k in sorted({*range(0, last, stride), last}):
            x = across(float(found.values[k]))
            points += [(x, points[-1][1]), (x, up(float(found.percent[k])))]
        self.picture.path([*points, (self.right, points[-1][1])], colour, dash=dash, width=1.8)


def canvas(
    heights: Sequence[float], *, names: Sequence[str] = (), legend: Sequence[tuple[str, Colour, str]] = ()
) -> tuple[Picture, list[Plot]]:
    """Return a picture with one plot above the other, of the given heights in pixels.

    The left margin fits ``names`` (absent: numbers and an axis title). ``legend``: a name, a colour and a mark (``bar``
    for a patch of colour, ``line`` and ``dashes`` for lines), above all plots.
    """
    left = min(164.0, 16 + _LETTER * max(len(name) for name in names)) if names else 56.0
    columns, lines = _legend_size([name for name, *_ in legend])
    top = 12 + _LINE * lines
    picture = Picture(WIDTH, top + sum(heights) + _BETWEEN * (len(heights) - 1) + _BOTTOM)
    for k, (name, colour, shape) in enumerate(legend):
        x, y = 8 + (k % columns) * (WIDTH - 8) / columns, 9 + _LINE * (k // columns)
        if shape == "bar":
            picture.bar(x - 5, y - 5, 10, 10, colour)
        elif shape in {"line", "dashes"}:
            picture.path([(x - 6, y), (x + 7, y)], colour, dash="5 2" if shape == "dashes" else "", width=2)
        else:
            picture.mark(x, y, shape, colour)
        picture.text(x + 11, y, name)
    plots = []
    for height in heights:
        plots.append(Plot(picture, left, top, WIDTH - _RIGHT, top + height))
        top += height + _BETWEEN
    return picture, plots


def _legend_size(names: Sequence[str]) -> tuple[int, int]:
    """Return the number of columns and rows of a legend."""
    if not names:
        return 1, 0
    wide = 24 + _LETTER * max(len(name) for name in names)
    columns = max(1, min(len(names), int((WIDTH - 8) / wide)))
    return columns, -(-len(names) // columns)


def variants_legend(view: RunView, variants: Sequence[str]) -> list[tuple[str, Colour, str]]:
    """Return the legend of variants; one alone needs none if the title names it."""
    looks = [(variant, look(view, variant)) for variant in variants]
    return [(label(variant), its.colour, its.marker) for variant, its in looks]
