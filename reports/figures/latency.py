"""Charts of time: distributions over requests, throughput against latency, and the distance to the hardware's floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from reports.figures.chart import Chart, canvas, finish, label, legend_of, logarithmic, quiet, style
from reports.figures.svg import INK, drawing
from reports.latency_view import Timed
from reports.numbers import plain, significant
from reports.view import RunView


def ecdf(view: RunView, timed: Timed, engine: str, what: Literal["tpot", "ttft"]) -> Chart | None:
    """Return the share of requests at or below each time, one curve a variant, for one engine."""
    found = [timing for timing in timed.timings if timing.engine == engine]
    if not found:
        return None
    word = "Time per token (TPOT)" if what == "tpot" else "Time to first token (TTFT)"
    rows = []
    with drawing():
        drawn, (axes,) = canvas([200], legend=[label(timing.variant) for timing in found])
        for timing in found:
            look = style(view, timing.variant)
            times = np.sort(timing.tpot_ms if what == "tpot" else timing.ttft_ms)
            share = np.arange(1, len(times) + 1) / len(times) * 100
            axes.step(times, share, where="post", color=look.colour)
            middle = [float(np.median(times))]
            axes.plot(middle, [50], color=look.colour, marker=look.marker, label=label(timing.variant))
            rows.append(
                (
                    timing.variant,
                    *(plain(float(np.quantile(times, q))) for q in (0.1, 0.5, 0.9)),
                    plain(float(times[-1])),
                    str(len(times)),
                )
            )
        axes.set_xlabel("milliseconds")
        axes.set_ylabel("percent of requests")
        axes.set_ylim(0, 101)
        quiet(axes, grid="both")
        legend_of(drawn, axes)
        caption = (
            f"Percent of requests that took at most so long ({engine} engine, batch 1, fixed reply "
            "length); the mark is the median. Further left is faster, steeper is steadier."
        )
        headers = ("variant", "10th percentile, ms", "median, ms", "90th percentile, ms", "slowest, ms", "requests")
        return finish(drawn, f"{what}-{engine}", f"{word}, {engine}", caption, headers, rows)


def throughput(view: RunView, timed: Timed, engine: str) -> Chart | None:
    """Return throughput against time per token over the batch sizes of the sweep."""
    points = [point for point in timed.sweep if point.engine == engine]
    if len({point.batch for point in points}) < 2:
        return None
    rows = [(p.variant, str(p.batch), plain(p.tpot_ms), plain(p.tokens_per_s), str(p.requests)) for p in points]
    with drawing():
        names = list(dict.fromkeys(label(point.variant) for point in points))
        drawn, (axes,) = canvas([210], legend=names)
        for variant in dict.fromkeys(point.variant for point in points):
            look = style(view, variant)
            own = [point for point in points if point.variant == variant]
            axes.plot(
                [p.tpot_ms for p in own],
                [p.tokens_per_s for p in own],
                color=look.colour,
                marker=look.marker,
                label=label(variant),
            )
        first = points[0].variant
        for point in points:
            if point.variant == first:
                axes.annotate(
                    str(point.batch),
                    (point.tpot_ms, point.tokens_per_s),
                    xytext=(-5, 5),
                    ha="right",
                    textcoords="offset points",
                    color=INK,
                    fontsize=9,
                )
        logarithmic(axes, "y", [point.tokens_per_s for point in points])
        axes.set_xlabel("time per token in the batch, ms (median)")
        axes.set_ylabel("tokens per second, log scale")
        axes.margins(x=0.1, y=0.12)
        quiet(axes, grid="both")
        legend_of(drawn, axes)
        caption = (
            f"Each mark is a batch size (written at {label(first)}'s); up is more throughput, left is "
            f"less waiting ({engine} engine)."
        )
        headers = ("variant", "batch", "TPOT, ms", "tokens/s", "requests")
        return finish(drawn, f"throughput-{engine}", f"Throughput against latency, {engine}", caption, headers, rows)


def roofline(view: RunView) -> Chart | None:
    """Return for each variant the floor that memory bandwidth sets for a decode step, beside the time measured."""
    facts: Any = view.manifest.provenance.get("roofline")
    if not isinstance(facts, Mapping):
        return None
    found = []
    for variant in view.variants:
        row = facts.get(variant)
        floor = row.get("floor_ms") if isinstance(row, Mapping) else None
        estimate = view.estimate("latency.tpot_ms.p50", variant)
        if isinstance(row, Mapping) and isinstance(floor, (int, float)) and estimate and estimate.value:
            found.append((variant, float(floor), estimate.value, row))
    if not found:
        return None
    rows = []
    with drawing():
        drawn, (axes,) = canvas([34.0 * len(found)], names=[label(variant) for variant, *_ in found])
        for y, (variant, floor, measured, row) in enumerate(found):
            look = style(view, variant)
            axes.barh(y, measured, height=0.56, color=look.colour, alpha=0.35)
            axes.barh(y, min(floor, measured), height=0.56, color=look.colour)
            axes.annotate(
                _reached(floor, measured),
                (measured, y),
                xytext=(5, 0),
                va="center",
                textcoords="offset points",
                color=INK,
                fontsize=10,
            )
            rows.append(
                (
                    variant,
                    plain(floor),
                    plain(measured),
                    _reached(floor, measured),
                    _fact(row, "bandwidth_gb_s"),
                    _fact(row, "kv_bytes_per_token"),
                )
            )
        axes.set_yticks(range(len(found)), [label(variant) for variant, *_ in found])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel("milliseconds a token (median)")
        axes.margins(x=0.14)
        quiet(axes, grid="x")
        axes.spines["left"].set_visible(False)
        caption = (
            "Solid: the shortest time in which this machine can read the weights once. Pale: the time "
            "measured. The percentage is how near it comes."
        )
        headers = ("variant", "floor, ms", "measured, ms", "reached", "bandwidth, GB/s", "KV cache, bytes a token")
        return finish(drawn, "roofline", "Distance to the hardware's limit", caption, headers, rows)


def _reached(floor: float, measured: float) -> str:
    share = floor / measured * 100
    return f"{plain(share, 0 if share >= 10 else min(3, significant(share, 1)) or 1)} %"


def _fact(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return plain(float(value), 0) if isinstance(value, (int, float)) else "–"
