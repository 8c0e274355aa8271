"""A metric over the accepted runs of a baseline: a mark with its interval a run, joined where they are comparable."""

from __future__ import annotations

from collections.abc import Mapping

from harness.gating.trend import Line, Point, Trend
from reports.differences import difference_text
from reports.figures.axes import Axis, around
from reports.figures.chart import Chart, Plot, canvas, finish, label
from reports.figures.svg import Colour
from reports.numbers import amount, is_share, plain, unit_word
from reports.words import OUTCOMES, direction, metric_label

_HEIGHT = 130.0
_DATES = 4  # that fit beside one another
_MARKS: Mapping[str, tuple[str, Colour]] = {"better": ("up", "better"), "worse": ("down", "worse")}
HEADERS = ("accepted", "run", "value", "95 % interval", "change", "of the change", "outcome", "n")


def title_of(line: Line) -> str:
    """Return what a line shows: a metric, and whose."""
    newest, variants = line.newest, line.variants
    conditions = newest.metric.partition("[")[2].rstrip("]")
    under = f" ({conditions.replace('=', ' ').replace(',', ', ')})" if conditions else ""
    whose = variants[0] if len(variants) == 1 else "the candidate"
    where = f" on {newest.set}" if newest.set else ""
    return f"{newest.label or metric_label(newest.metric.partition('[')[0])}{under} of {whose}{where}"


def trend_chart(trend: Trend, line: Line, key: str) -> Chart | None:
    """Return a metric over time; None if no accepted run has a value of it."""
    newest = line.newest
    factor = 100.0 if is_share(newest.unit) else 1.0
    found = [(k, point) for k, point in enumerate(line.points) if point and point.found.value is not None]
    ends = [end for _, point in found for end in (point.found.value, point.found.low, point.found.high)]
    shown = [factor * end for end in ends if end is not None]
    if not shown:
        return None
    picture, (plot,) = canvas([_HEIGHT])
    across = Axis(-0.5, len(trend.runs) - 0.5, plot.left, plot.right)
    up = around(shown, plot.bottom, plot.top, room=0.12)
    unit = "percent" if is_share(newest.unit) else unit_word(newest.unit)
    better = "" if newest.higher_is_better is None else "better ↑" if newest.higher_is_better else "better ↓"
    plot.vertical(up, label(", ".join(filter(None, (unit, better))), 30))
    _dates(trend, plot, across)
    for k, changed in enumerate(trend.changed):
        if changed:
            plot.picture.path([(across(k - 0.5), plot.top), (across(k - 0.5), plot.bottom)], "muted", dash="3 3")
    placed = {k: (across(k), up(factor * (point.found.value or 0.0))) for k, point in found}
    for k, point in found:
        if point.change is not None and k - 1 in placed:
            picture.path([placed[k - 1], placed[k]], "s1")
    for k, point in found:
        if point.found.low is not None and point.found.high is not None:
            x = placed[k][0]
            picture.path([(x, up(factor * point.found.low)), (x, up(factor * point.found.high))], "s1")
        shape, colour = _MARKS.get(point.outcome, ("circle", "s1"))
        picture.mark(*placed[k], shape, colour, size=3.4 if shape == "circle" else 5.0)
    rows = [_row(trend, k, point) for k, point in found]
    _, run, value, interval, *_ = rows[-1]
    caption = f"Newest: {value}, 95 % interval {interval} ({run})."
    title = f"{title_of(line)} ({direction(newest.higher_is_better)})"
    return finish(picture, key, title, caption, HEADERS, rows)


def _dates(trend: Trend, plot: Plot, across: Axis) -> None:
    last = len(trend.runs) - 1
    stride = -(-len(trend.runs) // _DATES)
    for k in range(last, -1, -stride):
        x = across(k)
        plot.picture.text(x, plot.bottom + 10, label(trend.runs[k].when[:10]), anchor="middle")
    plot.picture.path([(plot.left, plot.bottom), (plot.right, plot.bottom)], "muted", width=0.8)
    plot.picture.text((plot.left + plot.right) / 2, plot.bottom + 27, "accepted", anchor="middle", size=10.5)


def _row(trend: Trend, position: int, point: Point) -> tuple[str, ...]:
    run, found = trend.runs[position], point.found
    value, interval = amount(found.value, found.low, found.high, unit=found.unit)
    return (run.when[:10], run.run, value, interval or "–", *changes(point), plain(float(found.n), 0))


def changes(point: Point) -> tuple[str, str, str]:
    """Return a point's change since the run before it, the change's interval and its outcome, or why there is none."""
    if point.change is None or point.change.value is None:
        return "–", "–", point.obstacle or "–"
    change, interval = difference_text(point.change, point.found.unit)
    sign = OUTCOMES[point.change.outcome]
    basis = ", from the recorded values" if point.unpaired else ""
    return change, interval or "–", f"{sign.shape} {sign.word}{basis}"
