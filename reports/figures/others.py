"""Charts of memory, of training, and of quality against cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reports.figures.chart import Chart, beside, canvas, finish, label, legend_of, quiet, rows_axis, style
from reports.figures.svg import MUTED, SERIES, drawing
from reports.memory_view import Breakdown
from reports.numbers import amount, is_share, plain
from reports.view import LIKELIHOOD, MEMORY, OVERLAP, TIME, RunView


def breakdown(view: RunView, memory: Sequence[Breakdown]) -> Chart | None:
    """Return each variant's memory in a stacked bar."""
    if not memory:
        return None
    scale, unit = (1024.0, "GiB") if max(row.total for row in memory) >= 1024 else (1.0, "MiB")
    words = list(dict.fromkeys(word for row in memory for word in row.parts))
    shades = {word: SERIES[(k + 4) % len(SERIES)] for k, word in enumerate(words)}
    rows = []
    with drawing():
        names = [label(row.variant) for row in memory]
        drawn, (axes,) = canvas([34.0 * len(memory)], names=names, legend=words)
        for y, row in enumerate(memory):
            start = 0.0
            for word, size in row.parts.items():
                axes.barh(
                    y,
                    size / scale,
                    left=start,
                    height=0.56,
                    color=shades[word],
                    alpha=0.9,
                    edgecolor="#040404",
                    linewidth=1.0,
                )
                start += size / scale
            beside(axes, plain(start), start, y)
            sizes = (*(row.parts.get(word) for word in words), row.total)
            rows.append((row.variant, *(amount(size, unit="MiB")[0] for size in sizes)))
        for word in words:
            axes.barh(0, 0, color=shades[word], alpha=0.9, label=word)
        rows_axis(axes, names)
        axes.set_xlabel(unit)
        axes.margins(x=0.14)
        legend_of(drawn, axes)
        caption = (
            f"What each variant needs on {memory[0].device} in a fresh process with the fixed workload; "
            "medians over repeats."
        )
        return finish(drawn, "memory", "Memory, part by part", caption, ("variant", *words, "sum"), rows)


def training(view: RunView) -> Chart | None:
    """Return the loss on training and held-out dialogues over the steps, with the learning rate beneath."""
    curves: Any = view.manifest.training.get("curves")
    if not isinstance(curves, (list, tuple)):
        return None
    losses = _series(curves, "loss")
    held_out, rates = _series(curves, "eval_loss"), _series(curves, "learning_rate")
    if not losses and not held_out:
        return None
    with drawing():
        legend = [word for word, series in (("training", losses), ("held out while training", held_out)) if series]
        drawn, plots = canvas([190, 60] if rates else [190], legend=legend, bottoms=False)
        axes = plots[0]
        if losses:
            axes.plot(*zip(*losses, strict=True), color=SERIES[0], linewidth=1.4, label="training")
        if held_out:
            axes.plot(
                *zip(*held_out, strict=True),
                color=SERIES[1],
                linestyle=(0, (5, 2)),
                marker="s",
                markersize=4.5,
                label="held out while training",
            )
        axes.set_ylabel("loss, nats per token")
        quiet(axes, grid="both")
        legend_of(drawn, axes)
        if rates:
            plots[1].plot(*zip(*rates, strict=True), color=SERIES[2], linewidth=1.4)
            plots[1].set_ylabel("learning rate")
            plots[1].set_yticks([0, max(rate for _, rate in rates)])
            plots[1].yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
            plots[1].set_xlim(axes.get_xlim())
            axes.tick_params(labelbottom=False)
            quiet(plots[1], grid="both")
        plots[-1].set_xlabel("step")
        stride = max(1, len(curves) // 24)
        rows = [
            tuple(_shown(row, key) for key in ("step", "loss", "eval_loss", "learning_rate"))
            for row in curves[::stride]
        ]
        caption = (
            "The loss should fall and then flatten; held-out loss that rises while training loss falls is overfitting."
        )
        headers = ("step", "training loss", "held-out loss", "learning rate")
        return finish(drawn, "training", "Training curves", caption, headers, rows)


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
    quality = view.measured(OVERLAP) or view.measured(LIKELIHOOD)
    cost = view.measured(TIME if against == "time" else MEMORY)
    if quality is None or cost is None:
        return None
    good, dear = view.summary.metrics[quality], view.summary.metrics[cost]
    up = good.higher_is_better is not False
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
    front = _front([((theirs.value or 0) / scale, (ours.value or 0) * factor) for _, ours, theirs in points], up)
    rows = []
    with drawing():
        drawn, (axes,) = canvas([220], legend=[label(variant) for variant, *_ in points])
        axes.step(*zip(*front, strict=True), where="post", color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        for variant, ours, theirs in points:
            look = style(view, variant)
            x, y = (theirs.value or 0) / scale, (ours.value or 0) * factor
            if ours.low is not None and ours.high is not None:
                axes.plot([x, x], [ours.low * factor, ours.high * factor], color=look.colour, linewidth=1.4)
            if theirs.low is not None and theirs.high is not None:
                axes.plot([theirs.low / scale, theirs.high / scale], [y, y], color=look.colour, linewidth=1.4)
            axes.plot([x], [y], marker=look.marker, color=look.colour, markersize=9, linestyle="", label=label(variant))
            on = (x, y) in front
            rows.append(
                (
                    variant,
                    *amount(ours.value, ours.low, ours.high, unit=good.unit),
                    *amount(theirs.value, theirs.low, theirs.high, unit=dear.unit),
                    "yes" if on else "no",
                )
            )
        if not up:
            axes.invert_yaxis()
        shown_unit = "GiB" if scale > 1 else dear.unit
        axes.set_xlabel(f"{label(view.label(cost), 34)}, {label(shown_unit, 10)}   (← cheaper)")
        axes.set_ylabel(f"{label(view.label(quality))}   (better →)")
        axes.margins(x=0.12, y=0.12)
        quiet(axes, grid="both")
        legend_of(drawn, axes)
        caption = (
            "Up is closer to the references, left is cheaper. The dashed line joins the variants that "
            "no other beats in both (by the values; crosses are 95 % intervals)."
        )
        headers = (
            "variant",
            label(view.label(quality)),
            "95 % interval",
            label(view.label(cost)),
            "95 % interval ",
            "not beaten in both",
        )
        return finish(drawn, f"pareto-{against}", f"Quality against {against}", caption, headers, rows)


def _front(points: list[tuple[float, float]], up: bool) -> list[tuple[float, float]]:
    """Return the points that no other beats in both, by rising cost."""
    best: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1] if up else point[1])):
        if not best or (quality > best[-1][1] if up else quality < best[-1][1]):
            best.append((cost, quality))
    return best
