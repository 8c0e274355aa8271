"""Charts of values: quality metrics, rates of the safety rules, wins and losses, and how alike two variants are."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from harness.results.distribution import Distribution
from reports.figures.chart import (
    Chart,
    canvas,
    finish,
    label,
    legend_of,
    logarithmic,
    rows_axis,
    step_curve,
    style,
    variants_legend,
    wrapped,
)
from reports.figures.svg import BETTER, GRID, MUTED, WORSE, drawing
from reports.numbers import amount, is_share, plain, unit_word
from reports.view import RunView

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def values(view: RunView, family: str, title: str) -> Chart | None:
    """Return a family's values with intervals: one panel a unit, one line a metric, one mark a variant."""
    panels: dict[str, list[str]] = defaultdict(list)
    for name in view.names(family):
        if "[" not in name and any(row.value is not None for row in view.summary.metrics[name].variants.values()):
            unit = view.summary.metrics[name].unit
            panels["share" if is_share(unit) else unit].append(name)
    if not panels:
        return None
    rows = [
        (view.label(name), variant, *amount(row.value, row.low, row.high, unit=unit), str(row.n))
        for unit, names in panels.items()
        for name in names
        for variant in view.variants
        if (row := view.estimate(name, variant)) and row.value is not None
    ]
    line = 10.0 + 10.0 * len(view.variants)
    with drawing():
        drawn, plots = canvas(
            [len(names) * line for names in panels.values()],
            names=[
                line for names in panels.values() for name in names for line in wrapped(view.label(name)).split("\n")
            ],
            legend=[label(variant) for variant in view.variants],
        )
        for axes, (unit, names) in zip(plots, panels.items(), strict=True):
            _values_panel(view, axes, unit, names)
        variants_legend(view, drawn, view.variants)
        caption = (
            "Marks are values, lines their 95 % intervals. The intervals of two variants may overlap while "
            "their paired "
            "difference is decided: the plot of differences shows that."
        )
        return finish(
            drawn, f"values-{family}", title, caption, ("metric", "variant", "value", "95 % interval", "n"), rows
        )


def _values_panel(view: RunView, axes: Axes, unit: str, names: list[str]) -> None:
    factor = 100.0 if is_share(unit) else 1.0
    step = 0.72 / max(1, len(view.variants) - 1)
    for k, variant in enumerate(view.variants):
        look = style(view, variant)
        for line, name in enumerate(names):
            row = view.estimate(name, variant)
            if row is None or row.value is None:
                continue
            y = line + (k * step - 0.36 if len(view.variants) > 1 else 0.0)
            if row.low is not None and row.high is not None:
                axes.plot([row.low * factor, row.high * factor], [y, y], color=look.colour, linewidth=1.6)
            axes.plot([row.value * factor], [y], marker=look.marker, color=look.colour, linestyle="")
    rows_axis(axes, [wrapped(view.label(name)) for name in names])
    axes.set_xlabel(_percent_of(view, names) if is_share(unit) else label(unit_word(unit) or view.label(names[0])))
    axes.locator_params(axis="x", nbins=6)
    axes.margins(x=0.06)


def _percent_of(view: RunView, names: list[str]) -> str:
    wholes = {view.summary.metrics[name].unit.partition(" of ")[2] or "replies" for name in names}
    return f"percent of {wholes.pop()}" if len(wholes) == 1 else "percent"


def wins(view: RunView) -> Chart | None:
    """Return for how many dialogues the candidate did better, the same or worse than the reference variant."""
    found = [
        (name, row)
        for name in view.names("quality")
        if (row := view.comparison(name, view.candidate))
        and row.wins is not None
        and row.losses is not None
        and view.summary.metrics[name].higher_is_better is not None
    ]
    if not found:
        return None
    rows = []
    with drawing():
        labels = [label(view.label(name)) for name, _ in found]
        drawn, (axes,) = canvas([24.0 * len(found)], names=labels, legend=("better", "same", "worse"))
        for y, (name, row) in enumerate(found):
            parts = (row.wins or 0, row.ties or 0, row.losses or 0)
            total = sum(parts) or 1
            start = 0.0
            for part, colour, hatch in zip(parts, (BETTER, GRID, WORSE), ("better", "same", "worse"), strict=True):
                axes.barh(y, part / total * 100, left=start, height=0.6, color=colour, label=hatch if y == 0 else None)
                start += part / total * 100
            rows.append((view.label(name), *(str(part) for part in parts)))
        rows_axis(axes, labels)
        axes.axvline(50, color=MUTED, linewidth=1.0)
        axes.set_xlabel("percent of dialogues")
        axes.set_xlim(0, 100)
        axes.grid(False)
        legend_of(drawn, axes)
        title = f"Dialogue by dialogue: {label(str(view.candidate))} against {label(str(view.reference))}"
        caption = (
            "The share of dialogues for which the candidate scored better, the same or worse, regardless of "
            "by how much."
        )
        return finish(drawn, "wins", title, caption, ("metric", "better", "same", "worse"), rows)


def divergence(view: RunView) -> Chart | None:
    """Return the distribution over dialogues of the mean KL per token, for each pair in the fidelity pass."""
    pairs = [
        (f"{name} | {against}", name, found)
        for (name, against), found in view.measurements.fidelity.divergences().items()
    ]
    if not pairs:
        return None
    rows = []
    with drawing():
        drawn, (axes,) = canvas([190], legend=[label(pair) for pair, *_ in pairs])
        for pair, variant, means in pairs:
            # On a logarithmic scale there is no place for 0, which two identical models have.
            step_curve(axes, Distribution(np.maximum(means.values, 1e-12)), style(view, variant).colour, label(pair))
            shown = [plain(means.quantile(share)) for share in (0.5, 0.9, 1.0)]
            rows.append((pair.replace(" | ", " against "), *shown, str(len(means.values))))
        logarithmic(axes, "x", [max(1e-12, means.quantile(end)) for *_, means in pairs for end in (0.0, 1.0)])
        axes.set_xlabel("mean KL per token (nats), log scale")
        axes.set_ylabel("percent of dialogues")
        legend_of(drawn, axes)
        caption = (
            "How far apart the two variants' next-word probabilities are, dialogue by dialogue; "
            "further left is more similar."
        )
        headers = ("pair", "median", "90th percentile", "largest", "n")
        return finish(drawn, "divergence", "Similarity: divergence by dialogue", caption, headers, rows)
