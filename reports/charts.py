"""Every chart of a run, by section, or a sentence for a section without charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.figures import forest, latency, others, quality
from reports.figures.chart import Chart
from reports.memory_view import breakdowns
from reports.view import LIKELIHOOD, OVERLAP, RunView
from reports.words import listed


@dataclass(frozen=True)
class Charts:
    """Charts by section. ``absent``: what the run does not have, by section, and why."""

    sections: Mapping[str, tuple[Chart, ...]]
    absent: Mapping[str, str]


_NOT_COMPARED = ("fidelity", "memory")  # fidelity is already a comparison; memory is measured, not sampled
_ABSENT = {
    "differences": "differences (no two variants were compared)",
    "quality": "quality",
    "safety": "safety rules",
    "fidelity": "fidelity (not asked for, or there is no pair to compare)",
    "latency": "latency",
    "memory": "memory",
    "training": "training curves (trained elsewhere, or finetune saved none)",
    "cost": "quality against cost (needs quality and latency or memory of two variants)",
    "slices": "slices (name columns of the data in stats.slices)",
}


def draw(view: RunView) -> Charts:
    """Draw all charts that the run has data for."""
    engines = view.measurements.latency.engines
    found: dict[str, list[Chart | None]] = {
        "differences": [forest.forest(view, family) for family in view.families if family not in _NOT_COMPARED],
        "quality": [quality.wins(view)],
        "safety": [quality.rates(view)],
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
    sections = {name: tuple(chart for chart in charts if chart) for name, charts in found.items()}
    absent = {name: _ABSENT[name] for name, charts in sections.items() if not charts and not view.names(name)}
    for name in absent:
        told = (one.not_measured.get(name) for one in view.summary.coverage.values())
        reasons = dict.fromkeys(why for why in told if why)
        absent[name] = f"{name} ({'; '.join(reasons)})" if reasons else absent[name]
    if view.summary.slices:
        absent.pop("slices", None)  # the section has their table
    elif view.sliced_by:
        absent["slices"] = f"slices by {listed(sorted(view.sliced_by))} (none has enough dialogues)"
    return Charts(sections, absent)


def _sliced(view: RunView) -> list[str]:
    """Return the headline metrics that have slices, at most two."""
    have = {row.comparison.metric for row in view.summary.slices}
    return [name for name in (*OVERLAP, *LIKELIHOOD) if name in have and view.metric(name)][:2]
