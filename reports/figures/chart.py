"""A finished chart: its picture, its numbers, and what it says without the picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup

from harness.results.distribution import Distribution
from reports.escape import shorten, visible
from reports.figures.svg import INK, MARKERS, SERIES, to_svg
from reports.view import RunView

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Chart:
    """``headers`` and ``rows`` are the numbers behind the picture; ``caption`` explains how to read it."""

    key: str
    title: str
    caption: str
    svg: Markup
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    height: float = 300.0


@dataclass(frozen=True)
class Style:
    """How one variant is drawn everywhere: colour and marker, so that colour is never the only carrier."""

    colour: str
    marker: str


def style(view: RunView, variant: str) -> Style:
    """Return the style of a variant by its place in the run."""
    index = view.variants.index(variant)
    return Style(SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)])


def finish(
    drawn: Figure, key: str, title: str, caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]]
) -> Chart:
    """Turn a figure into a Chart; its description for screen readers is the caption and the first rows."""
    first = "; ".join(", ".join(f"{head} {cell}" for head, cell in zip(headers, row, strict=False)) for row in rows[:6])
    more = f" and {len(rows) - 6} further rows in the table" if len(rows) > 6 else ""
    svg = to_svg(drawn, f"g-{key}", title, shorten(f"{caption} Numbers: {first}{more}.", 900))
    height = float(drawn.get_size_inches()[1]) * 72
    return Chart(key, title, caption, svg, tuple(headers), tuple(tuple(row) for row in rows), height)


def label(text: str, limit: int = 24) -> str:
    """Return text for a picture: hidden characters made visible, on one line, not too long."""
    return shorten(visible(text), limit)


def wrapped(text: str) -> str:
    """Return a label on one or two lines."""
    lines = textwrap.wrap(label(text, 42), 22)
    return "\n".join(lines[:2]) if lines else ""


def quiet(axes: Axes, *, grid: str = "y") -> None:
    """Give axes the page's look: a light grid."""
    axes.grid(True, axis=grid)  # type: ignore[arg-type]


def rows_axis(axes: Axes, names: Sequence[str]) -> None:
    """Give the axes one line for each name, with the first at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    quiet(axes, grid="x")
    axes.spines["left"].set_visible(False)


def beside(axes: Axes, text: str, x: float, y: float) -> None:
    """Write text after the end of a bar."""
    axes.annotate(text, (x, y), xytext=(5, 0), va="center", textcoords="offset points", color=INK, fontsize=10)


def step_curve(axes: Axes, found: Distribution, colour: str, name: str | None = None) -> None:
    """Draw the percentage of values that are at most as large as each value."""
    axes.step(found.values, found.percent, where="post", color=colour, label=name)
    quiet(axes, grid="both")


WIDTH = 380.0  # CSS pixels: on a phone a chart shrinks to four fifths of that and is still readable
_LETTER = 6.3  # pixels of an average letter; the browser's own font is rarely wider
_RIGHT, _BOTTOM, _BETWEEN, _LINE = 14.0, 42.0, 46.0, 18.0


def canvas(
    heights: Sequence[float], *, names: Sequence[str] = (), legend: Sequence[str] = (), bottoms: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one plot above the other, of the given heights in pixels.

    The left margin fits ``names`` (absent: numbers and an axis title); above is room for the ``legend``. ``bottoms``:
    every plot has its own horizontal axis with a title; otherwise only the last.
    """
    from matplotlib.figure import Figure

    left = min(160.0, 14 + _LETTER * max(len(name) for name in names)) if names else 54.0
    top = 10 + _LINE * _legend_rows(legend)[1]
    between = _BETWEEN if bottoms else 18.0
    total = top + sum(heights) + between * (len(heights) - 1) + _BOTTOM
    drawn = Figure(figsize=(WIDTH / 72, total / 72), dpi=72)
    axes, edge = [], total - top
    for height in heights:
        edge -= height
        place = (left / WIDTH, edge / total, (WIDTH - left - _RIGHT) / WIDTH, height / total)
        axes.append(drawn.add_axes(place))
        edge -= between
    return drawn, axes


def _legend_rows(names: Sequence[str]) -> tuple[int, int]:
    """Return the number of columns and rows of a legend."""
    if not names:
        return 1, 0
    wide = 34 + _LETTER * max(len(name) for name in names)
    columns = max(1, min(len(names), int((WIDTH - 20) / wide)))
    return columns, -(-len(names) // columns)


def variants_legend(view: RunView, drawn: Figure, variants: Sequence[str]) -> None:
    """Put the variants' marks above all plots."""
    from matplotlib.lines import Line2D

    handles = []
    for variant in variants:
        look = style(view, variant)
        handles.append(Line2D([], [], color=look.colour, marker=look.marker, linestyle="", label=label(variant)))
    _place_legend(drawn, handles)


def legend_of(drawn: Figure, axes: Axes) -> None:
    """Put the legend of what ``axes`` show above all plots, where it covers nothing."""
    handles, _ = axes.get_legend_handles_labels()
    _place_legend(drawn, handles)


def _place_legend(drawn: Figure, handles: Sequence[Artist]) -> None:
    if handles:
        columns, _ = _legend_rows([str(handle.get_label()) for handle in handles])
        drawn.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=columns,
            borderaxespad=0.1,
            columnspacing=1.2,
            handletextpad=0.5,
        )


def logarithmic(axes: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Give an axis a logarithmic scale with plain numbers at a readable number of ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    if which == "x":
        axes.set_xscale("log")
    else:
        axes.set_yscale("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    wide = max(values) > 30 * min(values)
    axis.set_major_locator(LogLocator(base=10, subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
