"""Charts of time: distributions over requests, throughput against latency, and the distance to the hardware's floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from harness.results.precision import of_condition
from harness.results.timings import Condition
from reports.figures.chart import (
    Chart,
    beside,
    canvas,
    finish,
    label,
    legend_of,
    logarithmic,
    quiet,
    rows_axis,
    step_curve,
    style,
)
from reports.figures.svg import INK, drawing
from reports.numbers import plain, significant
from reports.view import RunView


def ecdf(view: RunView, engine: str, what: Literal["tpot", "ttft"]) -> Chart | None:
    """Return the share of requests at or below each time, one curve a variant, for one engine."""
    metric = f"latency.{what}_ms.p50{view.measurements.latency.suffix(Condition(engine, 1))}"
    found = [(name, times) for name in view.variants if (times := view.measurements.latency.distribution(metric, name))]
    if not found:
        return None
    word = "Time per token (TPOT)" if what == "tpot" else "Time to first token (TTFT)"
    rows = []
    with drawing():
        drawn, (axes,) = canvas([200], legend=[label(variant) for variant, _ in found])
        for variant, times in found:
            look = style(view, variant)
            step_curve(axes, times, look.colour)
            axes.plot([times.quantile(0.5)], [50], color=look.colour, marker=look.marker, label=label(variant))
            shown = [plain(times.quantile(share)) for share in (0.1, 0.5, 0.9, 1.0)]
            rows.append((variant, *shown, str(len(times.values))))
        axes.set_xlabel("milliseconds")
        axes.set_ylabel("percent of requests")
        axes.set_ylim(0, 101)
        legend_of(drawn, axes)
        caption = (
            f"Percentage of requests that took at most this long ({engine} engine, batch 1, fixed reply "
            "length); the mark is the median. Further left is faster, steeper is more consistent."
        )
        caption += _launching(view, engine, [variant for variant, _ in found]) if what == "ttft" else ""
        caption += of_condition(_reached(view), engine, 1) if what == "tpot" else ""
        headers = ("variant", "10th percentile, ms", "median, ms", "90th percentile, ms", "slowest, ms", "requests")
        return finish(drawn, f"{what}-{engine}", f"{word}, {engine}", caption, headers, rows)


def throughput(view: RunView, engine: str) -> Chart | None:
    """Return throughput against time per token over the batch sizes of fixed replies."""
    curves = {variant: points for variant in view.variants if (points := _by_batch(view, engine, variant))}
    every = [point for points in curves.values() for point in points]
    if len({batch for batch, *_ in every}) < 2:
        return None
    rows = [
        (variant, str(batch), plain(tpot), plain(rate), str(n))
        for variant, points in curves.items()
        for batch, tpot, rate, n in points
    ]
    with drawing():
        drawn, (axes,) = canvas([210], legend=[label(variant) for variant in curves])
        for variant, points in curves.items():
            look = style(view, variant)
            _, times, rates, _ = zip(*points, strict=True)
            axes.plot(times, rates, color=look.colour, marker=look.marker, label=label(variant))
        first = next(iter(curves))
        for batch, tpot, rate, _ in curves[first]:
            axes.annotate(
                str(batch), (tpot, rate), xytext=(-5, 5), ha="right", textcoords="offset points", color=INK, fontsize=9
            )
        logarithmic(axes, "y", [rate for _, _, rate, _ in every])
        axes.set_xlabel("time per token in the batch, ms (median)")
        axes.set_ylabel("tokens per second, log scale")
        axes.margins(x=0.1, y=0.12)
        quiet(axes, grid="both")
        legend_of(drawn, axes)
        caption = (
            f"Each mark is a batch size (labelled for {label(first)}); up is more throughput, left is "
            f"less waiting ({engine} engine)."
        )
        caption += "".join(of_condition(_reached(view), engine, batch) for batch, *_ in curves[first] if batch > 1)
        headers = ("variant", "batch", "TPOT, ms", "tokens/s", "n")
        return finish(drawn, f"throughput-{engine}", f"Throughput against latency, {engine}", caption, headers, rows)


def _by_batch(view: RunView, engine: str, variant: str) -> list[tuple[int, float, float, int]]:
    """Return batch, median TPOT, tokens a second and n of a variant's fixed replies, smallest batch first."""
    found = []
    for name in view.summary.metrics:
        condition = (
            view.measurements.latency.condition(name) if name.partition("[")[0] == "latency.tokens_per_s" else None
        )
        if condition and condition == Condition(engine, condition.batch):
            rate = view.estimate(name, variant)
            tpot = view.estimate(name.replace("tokens_per_s", "tpot_ms.p50"), variant)
            if rate and tpot and rate.value is not None and tpot.value is not None:
                found.append((condition.batch, tpot.value, rate.value, rate.n))
    return sorted(found)


def roofline(view: RunView) -> Chart | None:
    """Return for each variant the floor that memory bandwidth sets for a decode step, beside the time measured."""
    found = []
    for variant in view.variants:
        floor = view.measurements.latency.floor("latency.mbu", variant)
        time, mbu = view.estimate("latency.tpot_ms.p50", variant), view.estimate("latency.mbu", variant)
        if floor and time and mbu and time.value is not None and mbu.value is not None:
            found.append((variant, floor, time.value, mbu.value))
    if not found:
        return None
    rows = []
    with drawing():
        names = [label(variant) for variant, *_ in found]
        drawn, (axes,) = canvas([34.0 * len(found)], names=names)
        for y, (variant, floor, measured, reached) in enumerate(found):
            look, percent = style(view, variant), _percent(reached)
            axes.barh(y, measured, height=0.56, color=look.colour, alpha=0.35)
            axes.barh(y, min(floor, measured), height=0.56, color=look.colour)
            beside(axes, percent, measured, y)
            facts = [_fact(view, variant, key) for key in ("bandwidth_gb_s", "kv_bytes_per_token")]
            rows.append((variant, plain(floor), plain(measured), percent, *facts))
        rows_axis(axes, names)
        axes.set_xlabel("milliseconds per token (median)")
        axes.margins(x=0.14)
        caption = (
            "Solid: the shortest time in which this machine can read the weights once. Pale: the measured "
            "time. The percentage is the first divided by the second."
        )
        headers = ("variant", "floor, ms", "measured, ms", "reached", "bandwidth, GB/s", "KV cache, bytes per token")
        return finish(drawn, "roofline", "Distance to the hardware's limit", caption, headers, rows)


def _reached(view: RunView) -> object:
    return view.manifest.provenance.get("latency_precision")


def _launching(view: RunView, engine: str, variants: list[str]) -> str:
    """Return how much of TTFT the host spends launching the prompt: where it is most, two processes differ by it."""
    latency = view.measurements.latency
    suffix = latency.suffix(Condition(engine, 1))
    parts = ((name, latency.distribution(f"latency.ttft_host_ms.p50{suffix}", name)) for name in variants)
    spent = {name: part.quantile(0.5) for name, part in parts if part}
    if not spent:
        return ""
    whole = {name: latency.distribution(f"latency.ttft_ms.p50{suffix}", name) for name in spent}
    most = any(one and spent[name] > one.quantile(0.5) / 2 for name, one in whole.items())
    shown = ", ".join(f"{label(name)} {plain(one)}" for name, one in spent.items())
    rest = "most of the median, and differs from run to run" if most else "the rest of the median is the device's"
    return f" The host's part, launching the prompt, in ms: {shown}; {rest}."


def _percent(share: float) -> str:
    return f"{plain(share * 100, 0 if share >= 0.1 else min(3, significant(share * 100, 1)) or 1)} %"


def _fact(view: RunView, variant: str, key: str) -> str:
    """Return a number that the run's provenance has of the variant's roofline."""
    facts = view.manifest.provenance.get("roofline")
    row = facts.get(variant) if isinstance(facts, Mapping) else None
    value = row.get(key) if isinstance(row, Mapping) else None
    return plain(float(value), 0) if isinstance(value, (int, float)) else "–"
