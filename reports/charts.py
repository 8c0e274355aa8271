"""Every chart of a run, by section, or a sentence for a section without charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.figures import forest, latency, others, quality
from reports.figures.chart import Chart
from reports.memory_view import breakdowns
from reports.view import LIKELIHOOD, OVERLAP, RunView
from reports.words import listed

Stacks = tuple[tuple[Chart, ...], ...]


@dataclass(frozen=True)
class Charts:
    """Charts by section, in one or two stacks that are side by side on wide screens.

    ``absent`` says what was not measured, for sections without charts.
    """

    sections: Mapping[str, Stacks]
    absent: Mapping[str, str]


_NOT_COMPARED = ("fidelity", "memory")  # fidelity is already a comparison; memory is measured, not sampled
_ABSENT = {
    "forest": "There is nothing to draw: the run does not compare any variants.",
    "quality": "The quality of replies was not measured in this run.",
    "safety": "Safety rules were not applied in this run.",
    "fidelity": "No two variants were compared token by token in this run (the fidelity pass was not requested, or "
    "there is no pair).",
    "latency": "Latency was not measured in this run.",
    "memory": "Memory was not measured in this run.",
    "training": "The run has no training curves: the variants were trained elsewhere, or finetune saved none.",
    "cost": "Quality against cost needs quality and either latency or memory for at least two variants.",
    "slices": "No slices were requested. List columns of the data in stats.slices to see where variants differ.",
}


def draw(view: RunView) -> Charts:
    """Draw all charts that the run has data for."""
    engines = view.measurements.latency.engines
    found: dict[str, list[Chart | None]] = {
        "forest": [forest.forest(view, family) for family in view.families if family not in _NOT_COMPARED],
        "quality": [quality.values(view, "quality", "Values with their intervals"), quality.wins(view)],
        "safety": [quality.values(view, "safety", "What the rules find, and how often")],
        "fidelity": [quality.divergence(view)],
        "latency": [
            *(latency.ecdf(view, engine, what) for engine in engines for what in ("tpot", "ttft")),
            *(latency.throughput(view, engine) for engine in engines),
            latency.roofline(view),
        ],
        "memory": [others.breakdown(view, breakdowns(view))],
        "training": [others.training(view)],
        "cost": [others.pareto(view, against="time"), others.pareto(view, against="memory")],
        "slices": [forest.slice_forest(view, name) for name in _sliced(view)],
    }
    sections = {name: _stacks([chart for chart in charts if chart]) for name, charts in found.items()}
    absent = {name: _ABSENT[name] for name, charts in sections.items() if not charts and not view.names(name)}
    for name in absent:
        told = (one.not_measured.get(name) for one in view.summary.coverage.values())
        reasons = dict.fromkeys(why for why in told if why)
        absent[name] = f"{name.capitalize()}: {'; '.join(reasons)}." if reasons else absent[name]
    if view.summary.slices:
        absent.pop("slices", None)  # the section has their table
    elif view.sliced_by:
        absent["slices"] = f"Slices were requested by {listed(sorted(view.sliced_by))}, but none has enough dialogues."
    return Charts(sections, absent)


def _stacks(charts: list[Chart]) -> Stacks:
    """Split charts, in their order, into two stacks of about the same height."""
    if len(charts) < 2:
        return (tuple(charts),) if charts else ()
    heights = [chart.height + 150 for chart in charts]  # with title and caption
    tallest = [max(sum(heights[:k]), sum(heights[k:])) for k in range(1, len(charts))]
    split = tallest.index(min(tallest)) + 1
    return tuple(charts[:split]), tuple(charts[split:])


def _sliced(view: RunView) -> list[str]:
    """Return the headline metrics that have slices, at most two."""
    have = {row.comparison.metric for row in view.summary.slices}
    return [name for name in (*OVERLAP, *LIKELIHOOD) if name in have and view.metric(name)][:2]
