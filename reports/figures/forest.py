"""Forest plots: differences with their intervals, with better to the right and each metric in its own unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.gating.verdict import CheckResult
from harness.store.schema import ComparisonRow
from reports.cells import difference_text
from reports.figures.chart import Chart, canvas, finish, label, style, variants_legend, wrapped
from reports.figures.svg import INK, MUTED, UNDECIDED, drawing
from reports.numbers import is_share, unit_word
from reports.view import RunView
from reports.words import FAMILIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Kind = tuple[str, bool | None, bool]  # unit, whether higher is better, whether a ratio
_ROW = 17.0  # pixels per line of a forest


@dataclass(frozen=True)
class _Line:
    label: str
    rows: tuple[tuple[str, ComparisonRow], ...]  # (variant, its difference)
    margins: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # the gate's, by the variant it judges


def forest(view: RunView, family: str) -> Chart | None:
    """Return the differences of a family's metrics to the reference variant, with the gate's margins."""
    panels: dict[_Kind, list[_Line]] = defaultdict(list)
    for name in view.names(family):
        metric = view.summary.metrics[name]
        if "[" in name:
            continue  # further conditions have their own table
        found = [
            (variant, row)
            for variant in view.variants
            if (row := view.comparison(name, variant)) and row.value is not None
        ]
        if found and metric.higher_is_better is not None:
            unit = "" if found[0][1].relative else "share" if is_share(metric.unit) else metric.unit
            line = _Line(wrapped(view.label(name)), tuple(found), margins(view, name))
            panels[unit, metric.higher_is_better, found[0][1].relative].append(line)
    rows = [
        (line.label.replace("\n", " "), variant, *difference_text(row, unit), row.outcome)
        for (unit, _, _), lines in panels.items()
        for line in lines
        for variant, row in line.rows
    ]
    if not rows:
        return None
    what = "ratio" if all(relative for _, _, relative in panels) else "difference"
    caption = (
        f"Each mark is a variant's {what} to {label(str(view.reference))} with its 95 % interval; better is "
        "to the right. "
        "Filled marks are decided; hollow ones are not: their interval crosses the line of no difference."
    )
    if any(any(line.margins.values()) for lines in panels.values() for line in lines):
        caption += " A dashed stroke is the gate's limit for the variant beside it."
    title = FAMILIES.get(family, family).split(":")[0]
    return _draw(view, f"forest-{view.families.index(family)}", title, caption, panels, rows)


def slice_forest(view: RunView, metric: str) -> Chart | None:
    """Return the candidate's differences by slice, for one metric."""
    found = view.summary.metrics[metric]
    lines = [
        _Line(label(f"{row.column}: {row.level}", 34), ((row.comparison.variant, row.comparison),))
        for row in view.summary.slices
        if row.comparison.metric == metric
        and row.comparison.variant == view.candidate
        and row.comparison.value is not None
    ][:40]
    whole = view.comparison(metric, view.candidate)
    if not lines or whole is None or view.candidate is None:
        return None
    lines.insert(0, _Line("all dialogues", ((view.candidate, whole),)))
    rows = [
        (line.label, str(row.n), *difference_text(row, found.unit), row.outcome)
        for line in lines
        for _, row in line.rows
    ]
    title = f"{label(view.label(metric))} by slice, {label(view.candidate)} against {label(str(view.reference))}"
    caption = "Each mark is the difference within one slice with its 95 % interval; better to the right."
    panels = {(found.unit, found.higher_is_better, whole.relative): lines}
    key = f"slices-{list(view.summary.metrics).index(metric)}"
    return _draw(
        view, key, title, caption, panels, rows, headers=("slice", "n", "difference", "95 % interval", "outcome")
    )


def margins(view: RunView, metric: str) -> dict[str, tuple[float, ...]]:
    """Return the gate's limits on each variant's difference to the reference variant."""
    found: dict[str, tuple[float, ...]] = {}
    for check in view.gate.checks if view.gate else ():
        if check.metric == metric and check.against == view.reference:
            judged = check.candidate
            found[judged] = tuple(dict.fromkeys((*found.get(judged, ()), *edges(check))))
    return found


def edges(check: CheckResult) -> tuple[float, ...]:
    """Return a check's limits on the axis of the difference or ratio to another variant; empty if it has none there."""
    if check.scale == "value" or check.slice is not None or check.scaled_other is not None:
        return ()
    return tuple(limit for limit in (check.limit, check.upper_limit) if limit is not None)


def _draw(
    view: RunView,
    key: str,
    title: str,
    caption: str,
    panels: Mapping[_Kind, Sequence[_Line]],
    rows: Sequence[Sequence[str]],
    headers: tuple[str, ...] = ("metric", "variant", "difference", "95 % interval", "outcome"),
) -> Chart:
    sizes = [sum(max(1, len(line.rows)) for line in lines) + 0.4 * len(lines) for lines in panels.values()]
    with drawing():
        shown = list(dict.fromkeys(variant for lines in panels.values() for line in lines for variant, _ in line.rows))
        names = [part for lines in panels.values() for line in lines for part in line.label.split("\n")]
        legend = [label(variant) for variant in shown] if len(shown) > 1 else []
        drawn, plots = canvas([size * _ROW for size in sizes], names=names, legend=legend)
        for axes, (kind, lines) in zip(plots, panels.items(), strict=True):
            _panel(view, axes, kind, lines)
        if legend:
            variants_legend(view, drawn, shown)
        return finish(drawn, key, title, caption, headers, rows)


def _panel(view: RunView, axes: Axes, kind: _Kind, lines: Sequence[_Line]) -> None:
    unit, higher, relative = kind
    factor = 100.0 if is_share(unit) and not relative else 1.0
    y, ticks, names = 0.0, [], []
    for line in lines:
        ticks.append(y + (len(line.rows) - 1) / 2)
        names.append(line.label)
        for variant, row in line.rows:
            _mark(view, axes, variant, row, y, factor)
            for margin in line.margins.get(variant, ()):
                ends = [y - 0.5, y + 0.5]
                axes.plot([margin * factor] * 2, ends, color=UNDECIDED, linestyle=(0, (2, 1.5)), linewidth=1.8)
            y += 1
        y += 0.4
    axes.axvline(1.0 if relative else 0.0, color=MUTED, linewidth=1.0)
    axes.set_ylim(y - 0.4 - 0.3, -0.7)
    axes.set_yticks(ticks, names)
    if higher is False:
        axes.invert_xaxis()
    axes.locator_params(axis="x", nbins=5)
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    words = "ratio" if relative else "percentage points" if is_share(unit) else unit_word(unit) or lines[0].label
    axes.set_xlabel(f"{label(words)}   (better →)", color=INK)


def _mark(view: RunView, axes: Axes, variant: str, row: ComparisonRow, y: float, factor: float) -> None:
    look = style(view, variant)
    value = (row.value or 0.0) * factor
    if row.low is not None and row.high is not None:
        axes.plot([row.low * factor, row.high * factor], [y, y], color=look.colour, linewidth=1.6)
    decided = row.outcome in {"better", "worse"}
    # A hollow mark is filled with the paper's colour so that its own interval does not show through.
    axes.plot(
        [value],
        [y],
        marker=look.marker,
        color=look.colour,
        markersize=6,
        markerfacecolor=look.colour if decided else "#040404",
        markeredgewidth=1.4,
        linestyle="",
    )
