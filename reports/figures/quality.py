"""Charts of values: the quality metrics, the rates of the safety rules, wins and losses, and how alike two variants are."""

from __future__ import annotations

import numpy as np

from harness.store import FidelityRecord
from reports.figures.chart import Chart, finish, label, legend_below, quiet, style
from reports.figures.svg import BETTER, GRID, MUTED, WORSE, drawing, figure
from reports.numbers import amount, is_share, plain, unit_word
from reports.view import RunView

_WIDTH = 470.0


def values(view: RunView, key: str, title: str, names: tuple[str, ...]) -> Chart | None:
    """Return values with intervals, one line a metric and one mark a variant; all ``names`` share a unit."""
    shown = [name for name in names if any(view.estimate(name, variant) for variant in view.variants)]
    if not shown:
        return None
    unit = view.summary.metrics[shown[0]].unit
    factor = 100.0 if is_share(unit) else 1.0
    rows: list[tuple[str, ...]] = []
    step = 0.7 / max(1, len(view.variants) - 1)
    with drawing():
        drawn = figure(_WIDTH, 90 + len(shown) * (16 + 11 * len(view.variants)))
        axes = drawn.subplots()
        for k, variant in enumerate(view.variants):
            look = style(view, variant)
            for line, name in enumerate(shown):
                row = view.estimate(name, variant)
                if row is None or row.value is None:
                    continue
                rows.append((view.label(name), variant, *amount(row.value, row.low, row.high, unit=unit), str(row.n)))
                y = line + (k * step - 0.35 if len(view.variants) > 1 else 0.0)
                if row.low is not None and row.high is not None:
                    axes.plot([row.low * factor, row.high * factor], [y, y], color=look.colour, linewidth=1.6)
                axes.plot([row.value * factor], [y], marker=look.marker, color=look.colour, linestyle="",
                          label=label(variant) if line == 0 else None)  # fmt: skip
        axes.set_yticks(range(len(shown)), [label(view.label(name)) for name in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel("percent of replies" if is_share(unit) else label(unit_word(unit) or unit))
        axes.locator_params(axis="x", nbins=6)
        axes.margins(x=0.06)
        quiet(axes, grid="x")
        axes.spines["left"].set_visible(False)
        legend_below(axes)
        rows.sort(key=lambda row: [view.label(name) for name in shown].index(row[0]))
        caption = "Marks are values, lines their 95 % intervals. Intervals of two variants may overlap while their paired difference is decided: the forest plot shows that."
        return finish(drawn, key, title, caption, ("metric", "variant", "value", "95 % interval", "n"), rows)


def wins(view: RunView) -> Chart | None:
    """Return for how many dialogues the candidate did better, the same or worse than the reference variant."""
    found = [
        (name, row)
        for name in view.names("quality")
        if (row := view.comparison(name, view.candidate)) and row.wins is not None and row.losses is not None
        and view.summary.metrics[name].higher_is_better is not None
    ]  # fmt: skip
    if not found:
        return None
    rows = []
    with drawing():
        drawn = figure(_WIDTH, 80 + 24 * len(found))
        axes = drawn.subplots()
        for y, (name, row) in enumerate(found):
            parts = (row.wins or 0, row.ties or 0, row.losses or 0)
            total = sum(parts) or 1
            start = 0.0
            for part, colour, hatch in zip(parts, (BETTER, GRID, WORSE), ("better", "same", "worse"), strict=True):
                axes.barh(y, part / total * 100, left=start, height=0.6, color=colour, label=hatch if y == 0 else None)
                start += part / total * 100
            rows.append((view.label(name), *(str(part) for part in parts)))
        axes.set_yticks(range(len(found)), [label(view.label(name)) for name, _ in found])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.axvline(50, color=MUTED, linewidth=1.0)
        axes.set_xlabel("percent of dialogues, from better (left) to worse (right)")
        axes.set_xlim(0, 100)
        quiet(axes, grid="x")
        axes.grid(False)
        axes.spines["left"].set_visible(False)
        legend_below(axes)
        title = f"Dialogue by dialogue: {label(str(view.candidate))} against {label(str(view.reference))}"
        caption = "Of all dialogues, for how many the candidate scored better, the same or worse. It counts, and does not weigh by how much."
        return finish(drawn, "wins", title, caption, ("metric", "better", "same", "worse"), rows)


def divergence(view: RunView) -> Chart | None:
    """Return the distribution over dialogues of the mean KL a token, for each pair that the fidelity pass compared."""
    pairs = []
    for variant in view.variants:
        records = view.folder.records(FidelityRecord, "fidelity", variant)
        for against in dict.fromkeys(record.against for record in records):
            means = [float(np.mean(record.kl)) for record in records if record.against == against and record.kl]
            if means:
                pairs.append((variant, against, np.sort(np.maximum(means, 1e-12))))
    if not pairs:
        return None
    rows = []
    with drawing():
        drawn = figure(_WIDTH, 260)
        axes = drawn.subplots()
        for variant, against, means in pairs:
            look = style(view, variant)
            share = np.arange(1, len(means) + 1) / len(means) * 100
            axes.step(
                means,
                share,
                where="post",
                color=look.colour,
                linestyle=look.dashes,
                label=label(f"{variant} | {against}"),
            )
            rows.append(
                (
                    f"{variant} against {against}",
                    *(plain(float(np.quantile(means, q))) for q in (0.5, 0.9, 1.0)),
                    str(len(means)),
                )
            )
        axes.set_xscale("log")
        axes.set_xlabel("mean KL a token (nats), log scale")
        axes.set_ylabel("percent of dialogues")
        quiet(axes, grid="both")
        legend_below(axes, 2)
        caption = "How far apart the two variants' next-word probabilities are, dialogue by dialogue; further left is more alike."
        headers = ("pair", "median", "90th percentile", "largest", "n")
        return finish(drawn, "divergence", "How alike: divergence by dialogue", caption, headers, rows)
