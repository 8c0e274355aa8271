"""Charts of replies: rates of the safety rules, wins and losses, and how alike two variants are."""

from __future__ import annotations

import numpy as np

from harness.results.distribution import Distribution
from reports.figures.axes import Axis, around
from reports.figures.chart import Chart, canvas, finish, label, variants_legend, wrapped
from reports.figures.svg import Colour
from reports.numbers import amount, is_share, plain
from reports.roles import look
from reports.view import RunView
from reports.words import the

_ROW = 13.0  # pixels per variant
_BAR = 22.0  # pixels per bar


def rates(view: RunView) -> Chart | None:
    """Return how often each safety rule fires, with intervals: one line a variant."""
    names = [name for name in view.names("safety") if "[" not in name and is_share(view.summary.metrics[name].unit)]
    found = [
        (name, [(who, row) for who in view.variants if (row := view.estimate(name, who)) and row.value is not None])
        for name in names
    ]
    found = [(name, rows) for name, rows in found if rows]
    if not found:
        return None
    labels = [wrapped(view.label(name)) for name, _ in found]
    heights = [max(26.0, _ROW * len(rows) + 8) for _, rows in found]
    parts = [part for words in labels for part in words.split("\n")]
    picture, (plot,) = canvas([sum(heights)], names=parts, legend=variants_legend(view, view.variants))
    ends = [100 * end for _, rows in found for _, row in rows for end in (row.value, row.high) if end is not None]
    axis = around([0.0, *ends], plot.left, plot.right, floor=0.0)
    plot.horizontal(axis, _percent_of({view.summary.metrics[name].unit for name, _ in found}))
    top, table = plot.top, []
    for (name, rows), words, height in zip(found, labels, heights, strict=True):
        plot.name(top + height / 2, words)
        y = top + (height - _ROW * (len(rows) - 1)) / 2
        for variant, row in rows:
            its = look(view, variant)
            if row.low is not None and row.high is not None:
                picture.path([(axis(100 * row.low), y), (axis(100 * row.high), y)], its.colour)
            picture.mark(axis(100 * (row.value or 0.0)), y, its.marker, its.colour)
            unit = view.summary.metrics[name].unit
            table.append((view.label(name), variant, *amount(row.value, row.low, row.high, unit=unit), str(row.n)))
            y += _ROW
        top += height
    caption = "Marks are shares of replies, lines their 95 % intervals. Further left, the rule fires less often."
    headers = ("metric", "variant", "value", "95 % interval", "n")
    return finish(picture, "values-safety", "How often does each rule fire?", caption, headers, table)


def _percent_of(units: set[str]) -> str:
    wholes = {unit.partition(" of ")[2] or "replies" for unit in units}
    return f"percent of {wholes.pop()}" if len(wholes) == 1 else "percent"


def wins(view: RunView) -> Chart | None:
    """Return for how many dialogues the candidate did better, the same or worse than the reference variant."""
    found = [
        (name, row)
        for name in view.names("quality")
        if (row := view.comparison(name, view.candidate))
        and row.wins is not None
        and row.losses is not None
        and row.wins + row.losses > 0
        and view.summary.metrics[name].higher_is_better is not None
    ]
    if not found:
        return None
    legend: list[tuple[str, Colour, str]] = [
        ("better", "better", "bar"),
        ("the same", "grid", "bar"),
        ("worse", "worse", "bar"),
    ]
    labels = [label(view.label(name)) for name, _ in found]
    picture, (plot,) = canvas([_BAR * len(found)], names=labels, legend=legend)
    axis = Axis(0.0, 100.0, plot.left, plot.right)
    plot.horizontal(axis, "percent of dialogues")
    for k, ((_, row), words) in enumerate(zip(found, labels, strict=True)):
        y, x = plot.top + _BAR * (k + 0.5), plot.left
        plot.name(y, words)
        parts = (row.wins or 0, row.ties or 0, row.losses or 0)
        for part, (_, colour, _) in zip(parts, legend, strict=True):
            wide = part / (sum(parts) or 1) * (plot.right - plot.left)
            if part:
                picture.bar(x, y - 7, wide, 14, colour)
            x += wide
    picture.path([(axis(50), plot.top), (axis(50), plot.bottom)], "muted", width=1)
    who = f"{the(label(str(view.candidate)))} better than {the(label(str(view.reference)))}"
    rows = [(view.label(name), str(row.wins), str(row.ties or 0), str(row.losses)) for name, row in found]
    caption = "The share of dialogues in which it scored better, the same or worse, regardless of by how much."
    headers = ("metric", "better", "same", "worse")
    return finish(picture, "wins", f"In how many dialogues is {who}?", caption, headers, rows)


def divergence(view: RunView) -> Chart | None:
    """Return the distribution over dialogues of the mean KL per token, for each pair in the fidelity pass."""
    pairs = [
        (f"{name} | {against}", name, found)
        for (name, against), found in view.measurements.fidelity.divergences().items()
    ]
    if not pairs:
        return None
    legend: list[tuple[str, Colour, str]] = [
        (label(pair.replace(" | ", " and "), 40), look(view, name).colour, "line") for pair, name, _ in pairs
    ]
    picture, (plot,) = canvas([190], legend=legend)
    # On a logarithmic scale there is no place for 0, which two identical models have.
    curves = [Distribution(np.maximum(means.values, 1e-12)) for *_, means in pairs]
    ends = [curve.quantile(end) for curve in curves for end in (0.0, 1.0)]
    across = around(ends, plot.left, plot.right, logarithmic=True)
    up = Axis(0.0, 101.0, plot.bottom, plot.top)
    plot.horizontal(across, "mean divergence (KL) per token, nats, logarithmic")
    plot.vertical(up, "percent of dialogues")
    rows = []
    for (pair, variant, means), curve in zip(pairs, curves, strict=True):
        plot.steps(curve, across, up, look(view, variant).colour)
        shown = [plain(means.quantile(share)) for share in (0.5, 0.9, 1.0)]
        rows.append((pair.replace(" | ", " against "), *shown, str(len(means.values))))
    caption = "The share of dialogues with at most this divergence between the next-word probabilities of the two."
    headers = ("pair", "median", "90th percentile", "largest", "n")
    return finish(picture, "divergence", "In how many dialogues do the two models agree?", caption, headers, rows)
