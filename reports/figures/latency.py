"""Charts of time: distributions over requests, throughput against latency, and the distance to the hardware's floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from harness.results.precision import of_condition
from harness.results.timings import Condition
from reports.figures.axes import Axis, around
from reports.figures.chart import Chart, canvas, finish, label, variants_legend
from reports.numbers import plain, significant
from reports.roles import look
from reports.view import RunView

_BAR = 32.0  # pixels per bar


def ecdf(view: RunView, engine: str, what: Literal["tpot", "ttft"]) -> Chart | None:
    """Return the share of requests at or below each time, one curve a variant, for one engine."""
    metric = f"latency.{what}_ms.p50{view.measurements.latency.suffix(Condition(engine, 1))}"
    found = [(name, times) for name in view.variants if (times := view.measurements.latency.distribution(metric, name))]
    if not found:
        return None
    picture, (plot,) = canvas([200], legend=variants_legend(view, [variant for variant, _ in found]))
    times_of = [times.quantile(end) for _, times in found for end in (0.0, 1.0)]
    across, up = around(times_of, plot.left, plot.right), Axis(0.0, 101.0, plot.bottom, plot.top)
    plot.horizontal(across, "milliseconds")
    plot.vertical(up, "percent of requests")
    rows = []
    for variant, times in found:
        its = look(view, variant)
        plot.steps(times, across, up, its.colour)
        picture.mark(across(times.quantile(0.5)), up(50), its.marker, its.colour)
        shown = [plain(times.quantile(share)) for share in (0.1, 0.5, 0.9, 1.0)]
        rows.append((variant, *shown, str(len(times.values))))
    caption = (
        f"Percentage of requests that took at most this long ({_alone(engine)}, fixed reply length); the mark is the "
        "median."
    )
    caption += _by_one_of_several(view)
    caption += _launching(view, engine, [variant for variant, _ in found]) if what == "ttft" else ""
    caption += of_condition(_reached(view), engine, 1) if what == "tpot" else ""
    headers = ("variant", "10th percentile, ms", "median, ms", "90th percentile, ms", "slowest, ms", "requests")
    word = "each further token (TPOT)" if what == "tpot" else "the first token (TTFT)"
    title = f"How long does {word} take, {_place(engine)}?"
    return finish(picture, f"{what}-{engine}", title, caption, headers, rows)


def _by_one_of_several(view: RunView) -> str:
    """Return where a run of several processes timed its requests; empty for one process, which has one device."""
    processes, device = (view.manifest.provenance.get(fact) for fact in ("processes", "device"))
    return (
        f" One of the run's {processes} processes timed them on {device}, after the others had ended."
        if processes
        else ""
    )


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
    picture, (plot,) = canvas([210], legend=variants_legend(view, list(curves)))
    across = around([tpot for _, tpot, _, _ in every], plot.left, plot.right, room=0.1)
    up = around([rate for *_, rate, _ in every], plot.bottom, plot.top, room=0.12, logarithmic=True)
    plot.horizontal(across, "time per token in the batch, milliseconds (median)")
    plot.vertical(up, "tokens per second, logarithmic")
    for variant, points in curves.items():
        its, placed = look(view, variant), [(across(tpot), up(rate)) for _, tpot, rate, _ in points]
        picture.path(placed, its.colour)
        for x, y in placed:
            picture.mark(x, y, its.marker, its.colour)
    first = next(iter(curves))
    for batch, tpot, rate, _ in curves[first]:
        picture.text(across(tpot) - 6, up(rate) - 9, str(batch), anchor="end", size=9)
    size = "a number of requests at once" if engine == "server" else "a batch size"
    caption = f"Each mark is {size} (labelled for {label(first)}); up is more throughput, left is less waiting."
    caption += "".join(of_condition(_reached(view), engine, batch) for batch, *_ in curves[first] if batch > 1)
    headers = ("variant", "at once" if engine == "server" else "batch", "TPOT, ms", "tokens/s", "n")
    more = "more requests at once" if engine == "server" else "larger batches"
    title = f"What do {more} bring, and how long do they wait, {_place(engine)}?"
    return finish(picture, f"throughput-{engine}", title, caption, headers, rows)


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
    names = [label(variant) for variant, *_ in found]
    picture, (plot,) = canvas([_BAR * len(found)], names=names)
    axis = around([time for _, _, time, _ in found], plot.left, plot.right, room=0.16, floor=0.0)
    plot.horizontal(axis, "milliseconds per token (median)")
    rows = []
    for k, (variant, floor, measured, reached) in enumerate(found):
        y, colour, percent = plot.top + _BAR * (k + 0.5), look(view, variant).colour, _percent(reached)
        plot.name(y, names[k])
        picture.bar(axis(0), y - 9, axis(measured) - axis(0), 18, colour, opacity=0.35)
        picture.bar(axis(0), y - 9, axis(min(floor, measured)) - axis(0), 18, colour)
        picture.text(axis(measured) + 5, y, percent)
        facts = [_fact(view, variant, key) for key in ("bandwidth_gb_s", "kv_bytes_per_token")]
        rows.append((variant, plain(floor), plain(measured), percent, *facts))
    caption = (
        "Solid: the shortest time in which this machine can read the weights once. Pale: the measured time. The "
        "percentage is the first divided by the second."
    )
    headers = ("variant", "floor, ms", "measured, ms", "reached", "bandwidth, GB/s", "KV cache, bytes per token")
    return finish(picture, "roofline", "How close is decoding to the hardware's limit?", caption, headers, rows)


def _place(engine: str) -> str:
    return "at the server" if engine == "server" else f"{engine} engine"


def _alone(engine: str) -> str:
    return "at the server, one request at a time" if engine == "server" else f"{engine} engine, batch 1"


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
