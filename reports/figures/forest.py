"""Forest plots: differences with their intervals, with better to the right and each metric in its own unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.gating.verdict import CheckResult
from harness.store.schema import ComparisonRow
from reports.differences import difference_text
from reports.figures.axes import Axis, around
from reports.figures.chart import Chart, Plot, canvas, finish, label, variants_legend, wrapped
from reports.numbers import is_share, unit_word
from reports.roles import look
from reports.view import RunView
from reports.words import sentence_case, the

_Kind = tuple[str, bool | None, bool]  # unit, whether higher is better, whether a ratio
_ROW = 17.0  # pixels per line of a forest
_GAP = 0.4  # lines between two metrics


_QUESTIONS = {
    "quality": "Quality: what is better, what is worse",
    "safety": "Safety: which rules fire less, which more",
    "latency": "Latency: what is faster, what is slower",
}


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
        differs = any(row.value != (1.0 if row.relative else 0.0) for _, row in found)
        if differs and metric.higher_is_better is not None:
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
    caption = f"Each mark is the {what} to {label(str(view.reference))}, with its 95 % interval. Hollow: not decided."
    if any(any(line.margins.values()) for lines in panels.values() for line in lines):
        caption += " A dashed stroke is the gate's limit for the variant beside it."
    title = (
        f"{_QUESTIONS.get(family, f'{sentence_case(family)}: what is better')} than {the(label(str(view.reference)))}?"
    )
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
    better = f"Is {the(label(view.candidate))} better than {the(label(str(view.reference)))} in every slice"
    title = f"{better}, by {label(view.label(metric))}?"
    caption = "Each mark is the difference within one slice, with its 95 % interval. Hollow: not decided."
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
    shown = list(dict.fromkeys(variant for lines in panels.values() for line in lines for variant, _ in line.rows))
    names = [part for lines in panels.values() for line in lines for part in line.label.split("\n")]
    sizes = [sum(max(1, len(line.rows)) + _GAP for line in lines) for lines in panels.values()]
    legend = variants_legend(view, shown) if len(shown) > 1 else []
    picture, plots = canvas([(size + 0.6) * _ROW for size in sizes], names=names, legend=legend)
    for plot, (kind, lines) in zip(plots, panels.items(), strict=True):
        _panel(view, plot, kind, lines)
    return finish(picture, key, title, caption, headers, rows)


def _panel(view: RunView, plot: Plot, kind: _Kind, lines: Sequence[_Line]) -> None:
    unit, higher, relative = kind
    factor = 100.0 if is_share(unit) and not relative else 1.0
    none = 1.0 if relative else 0.0
    ends = [end for line in lines for _, row in line.rows for end in (row.value, row.low, row.high) if end is not None]
    limits = [margin for line in lines for found in line.margins.values() for margin in found]
    values = [none, *(value * factor for value in (*ends, *limits))]
    axis = (
        around(values, plot.right, plot.left, room=0.08)
        if higher is False
        else around(values, plot.left, plot.right, room=0.08)
    )
    words = "ratio" if relative else "percentage points" if is_share(unit) else unit_word(unit) or lines[0].label
    plot.horizontal(axis, f"{label(words)}   (better →)")
    plot.picture.path([(axis(none), plot.top), (axis(none), plot.bottom)], "muted", width=1)
    y = plot.top + 0.7 * _ROW
    for line in lines:
        plot.name(y + (len(line.rows) - 1) / 2 * _ROW, line.label)
        for variant, row in line.rows:
            for margin in line.margins.get(variant, ()):
                x = axis(margin * factor)
                plot.picture.path([(x, y - _ROW / 2), (x, y + _ROW / 2)], "undecided", width=1.8, dash="4 3")
            _mark(view, plot, axis, variant, row, y, factor)
            y += _ROW
        y += _GAP * _ROW


def _mark(view: RunView, plot: Plot, axis: Axis, variant: str, row: ComparisonRow, y: float, factor: float) -> None:
    its = look(view, variant)
    if row.low is not None and row.high is not None:
        plot.picture.path([(axis(row.low * factor), y), (axis(row.high * factor), y)], its.colour)
    decided = row.outcome in {"better", "worse"}
    plot.picture.mark(axis((row.value or 0.0) * factor), y, its.marker, its.colour, hollow=not decided)
