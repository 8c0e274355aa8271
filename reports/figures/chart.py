"""A finished chart: its picture, its numbers, and what it says without the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from reports.escape import shorten, visible
from reports.figures.svg import DASHES, MARKERS, SERIES, to_svg
from reports.view import RunView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Chart:
    """``headers`` and ``rows`` are the numbers behind the picture; ``caption`` tells how to read it."""

    key: str
    title: str
    caption: str
    svg: Markup
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wide: bool = False


@dataclass(frozen=True)
class Style:
    """How one variant is drawn everywhere: colour, marker and dashes, so that colour is never the only carrier."""

    colour: str
    marker: str
    dashes: Any


def style(view: RunView, variant: str) -> Style:
    """Return the style of a variant by its place in the run."""
    index = view.variants.index(variant)
    return Style(SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])


def finish(
    drawn: Figure, key: str, title: str, caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *,
    wide: bool = False,
) -> Chart:  # fmt: skip
    """Turn a figure into a Chart; the description for those who do not see it is its caption and its first numbers."""
    told = "; ".join(", ".join(f"{head} {cell}" for head, cell in zip(headers, row, strict=False)) for row in rows[:6])
    more = f" and {len(rows) - 6} further rows in the table" if len(rows) > 6 else ""
    svg = to_svg(drawn, f"g-{key}", title, shorten(f"{caption} Numbers: {told}{more}.", 900))
    return Chart(key, title, caption, svg, tuple(headers), tuple(tuple(row) for row in rows), wide)


def label(text: str, limit: int = 26) -> str:
    """Return text fit to stand in a picture: hidden characters visible, one line, not too long."""
    return shorten(visible(text), limit)


def quiet(axes: Axes, *, grid: str = "y") -> None:
    """Give axes the page's look: a light grid, no ticks."""
    axes.grid(True, axis=grid)  # type: ignore[arg-type]
    axes.tick_params(length=0)


def variants_legend(view: RunView, drawn: Figure, variants: Sequence[str]) -> None:
    """Put the variants' marks above all panels, where there is more than one to tell apart."""
    from matplotlib.lines import Line2D

    if len(variants) < 2:
        return
    handles = []
    for variant in variants:
        look = style(view, variant)
        handles.append(Line2D([], [], color=look.colour, marker=look.marker, linestyle="", label=label(variant)))
    drawn.legend(handles=handles, loc="outside upper left", ncols=4, columnspacing=1.2, handletextpad=0.3)


def legend_below(axes: Axes, columns: int = 4) -> None:
    """Put the legend above the plot, where it covers nothing."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=min(columns, len(handles)), borderaxespad=0.2,
                    columnspacing=1.2, handletextpad=0.5)  # fmt: skip
