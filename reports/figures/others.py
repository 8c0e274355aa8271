"""Charts of memory, of training, and of quality against cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.axes import around
from reports.figures.chart import Chart, canvas, finish, label, variants_legend
from reports.figures.svg import Colour, Point
from reports.memory_view import Breakdown
from reports.numbers import amount, is_share, plain
from reports.roles import look
from reports.view import MEMORY, TIME, RunView

_BAR = 32.0  # pixels per bar
_SHADES: tuple[Colour, ...] = ("s5", "s6", "s7", "s8")  # of parts of memory: none that a role has


def breakdown(view: RunView, memory: Sequence[Breakdown]) -> Chart | None:
    """Return each variant's memory in a stacked bar."""
    if not memory:
        return None
    scale, unit = (1024.0, "GiB") if max(row.total for row in memory) >= 1024 else (1.0, "MiB")
    words = list(dict.fromkeys(word for row in memory for word in row.parts))
    shades = {word: _SHADES[k % len(_SHADES)] for k, word in enumerate(words)}
    names = [label(row.variant) for row in memory]
    legend: list[tuple[str, Colour, str]] = [(word, shades[word], "bar") for word in words]
    picture, (plot,) = canvas([_BAR * len(memory)], names=names, legend=legend)
    axis = around([row.total / scale for row in memory], plot.left, plot.right, room=0.16, floor=0.0)
    plot.horizontal(axis, f"memory, {unit}")
    rows = []
    for k, row in enumerate(memory):
        y, start = plot.top + _BAR * (k + 0.5), 0.0
        plot.name(y, names[k])
        for word, size in row.parts.items():
            x = axis(start)
            start += size / scale
            picture.bar(x, y - 9, axis(start) - x, 18, shades[word], gap=True)
        picture.text(axis(start) + 5, y, plain(start))
        sizes = (*(row.parts.get(word) for word in words), row.total)
        rows.append((row.variant, *(amount(size, unit="MiB")[0] for size in sizes)))
    caption = f"Peak on {memory[0].device} in a fresh process with the fixed workload; medians over repeats."
    headers = ("variant", *words, "sum")
    return finish(picture, "memory", "How much memory does each need, and for what?", caption, headers, rows)


def training(view: RunView) -> Chart | None:
    """Return the loss on training and held-out dialogues over the steps."""
    curves: Any = view.manifest.training.get("curves")
    if not isinstance(curves, (list, tuple)):
        return None
    losses, held_out = _series(curves, "loss"), _series(curves, "eval_loss")
    if not losses and not held_out:
        return None
    lines: list[tuple[str, Colour, str, list[Point]]] = [
        ("training", "s8", "line", losses),
        ("held out while training", "s7", "dashes", held_out),
    ]
    lines = [line for line in lines if line[3]]
    picture, (plot,) = canvas([190], legend=[line[:3] for line in lines])
    points = [*losses, *held_out]
    across = around([step for step, _ in points], plot.left, plot.right, room=0.02)
    up = around([loss for _, loss in points], plot.bottom, plot.top)
    plot.horizontal(across, "training step")
    plot.vertical(up, "loss, nats per token")
    for _, colour, kind, series in lines:
        placed = [(across(step), up(loss)) for step, loss in series]
        picture.path(placed, colour, dash="5 2" if kind == "dashes" else "")
        for x, y in placed if kind == "dashes" else ():
            picture.mark(x, y, "square", colour, size=2.4)
    stride = max(1, len(curves) // 24)
    keys = ("step", "loss", "eval_loss", "learning_rate")
    rows = [tuple(_shown(row, key) for key in keys) for row in curves[::stride]]
    caption = "Both should fall and then flatten; held-out loss that rises while training loss falls is overfitting."
    headers = ("step", "training loss", "held-out loss", "learning rate")
    return finish(picture, "training", "Did training converge without overfitting?", caption, headers, rows)


def _number(row: Mapping[str, object], key: str) -> float | None:
    value = row.get(key)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _series(curves: Sequence[Mapping[str, object]], key: str) -> list[tuple[float, float]]:
    pairs = ((_number(row, "step"), _number(row, key)) for row in curves)
    return [(step, value) for step, value in pairs if step is not None and value is not None]


def _shown(row: Mapping[str, object], key: str) -> str:
    value = _number(row, key)
    if value is not None and key == "learning_rate":
        return f"{value:.2e}"
    return plain(value, 0 if key == "step" else 3)


def pareto(view: RunView, *, against: str) -> Chart | None:
    """Return quality against time or memory, with the line of variants that no other beats in both."""
    quality = view.judged_by
    cost = view.measured(TIME if against == "time" else MEMORY)
    if quality is None or cost is None:
        return None
    good, dear = view.summary.metrics[quality], view.summary.metrics[cost]
    higher = good.higher_is_better is not False
    points = [
        (variant, ours, theirs)
        for variant in view.variants
        if (ours := view.estimate(quality, variant))
        and (theirs := view.estimate(cost, variant))
        and ours.value is not None
        and theirs.value is not None
    ]
    if len(points) < 2:
        return None
    scale = 1024.0 if dear.unit == "MiB" and max(theirs.value or 0 for *_, theirs in points) >= 1024 else 1.0
    factor = 100.0 if is_share(good.unit) else 1.0
    picture, (plot,) = canvas([220], legend=variants_legend(view, [variant for variant, *_ in points]))
    costs = [end / scale for *_, row in points for end in (row.value, row.low, row.high) if end is not None]
    goods = [end * factor for _, row, _ in points for end in (row.value, row.low, row.high) if end is not None]
    across = around(costs, plot.left, plot.right, room=0.12)
    ends = (plot.bottom, plot.top) if higher else (plot.top, plot.bottom)
    up = around(goods, *ends, room=0.12)
    words = f"{label(view.label(cost), 34)}, {label('GiB' if scale > 1 else dear.unit, 10)}"
    plot.horizontal(across, f"{words}   (← cheaper)")
    plot.vertical(up, f"{label(view.label(quality))}   (better →)")
    front = _front([((theirs.value or 0) / scale, (ours.value or 0) * factor) for _, ours, theirs in points], higher)
    steps: list[Point] = []
    for x, y in front:
        steps += [(across(x), steps[-1][1])] if steps else []
        steps.append((across(x), up(y)))
    if len(steps) > 1:
        picture.path(steps, "muted", width=1, dash="4 3")
    rows = []
    for variant, ours, theirs in points:
        its = look(view, variant)
        x, y = (theirs.value or 0) / scale, (ours.value or 0) * factor
        if ours.low is not None and ours.high is not None:
            picture.path([(across(x), up(ours.low * factor)), (across(x), up(ours.high * factor))], its.colour)
        if theirs.low is not None and theirs.high is not None:
            picture.path([(across(theirs.low / scale), up(y)), (across(theirs.high / scale), up(y))], its.colour)
        picture.mark(across(x), up(y), its.marker, its.colour, size=4.8)
        shown = amount(ours.value, ours.low, ours.high, unit=good.unit)
        price = amount(theirs.value, theirs.low, theirs.high, unit=dear.unit)
        rows.append((variant, *shown, *price, "yes" if (x, y) in front else "no"))
    caption = (
        "Up is closer to the references, left is cheaper; crosses are 95 % intervals. The dashed line joins the "
        "variants that no other beats in both."
    )
    names = (label(view.label(quality)), "95 % interval", label(view.label(cost)), "95 % interval ")
    headers = ("variant", *names, "not beaten in both")
    return finish(picture, f"pareto-{against}", f"What does quality cost in {against}?", caption, headers, rows)


def _front(points: list[tuple[float, float]], up: bool) -> list[tuple[float, float]]:
    """Return the points that no other beats in both, by rising cost."""
    best: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1] if up else point[1])):
        if not best or (quality > best[-1][1] if up else quality < best[-1][1]):
            best.append((cost, quality))
    return best
