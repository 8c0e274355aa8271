"""``summary.json`` from a run folder: every metric with its interval, every comparison, coverage and slices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.metrics.measured import MEASURED
from harness.metrics.registry import MetricSpec
from harness.results.analysis import Analysis
from harness.results.coverage import coverage_of
from harness.results.recipes import recipes
from harness.stats.bootstrap import RESAMPLES, SEED
from harness.stats.slices import levels, q_values
from harness.stats.types import Difference, Estimate
from harness.store.folder import RunFolder
from harness.store.schema import ComparisonRow, EstimateRow, MetricSummary, SliceRow, Summary


def summarize(
    folder: RunFolder,
    registry: Mapping[str, MetricSpec],
    *,
    resamples: int | None = None,
    seed: int | None = None,
    slices: Sequence[str] | None = None,
) -> Summary:
    """Return the summary of a run folder's records and replies; write nothing.

    ``registry`` maps the name of every metric that may occur to its spec. Resamples, seed and the columns to slice by
    default to the run's own (``stats.resamples``, ``seed``, ``stats.slices`` of its config).
    """
    config = folder.read_manifest().config
    stats = config.get("stats") or {}
    analysis = Analysis(
        folder,
        registry=registry,
        resamples=resamples or int(stats.get("resamples") or RESAMPLES),
        seed=int(config.get("seed", SEED)) if seed is None else seed,
    )
    names = analysis.measured.metric_names
    analysis.prepare(names)
    columns = stats.get("slices", ()) if slices is None else slices
    return Summary(
        schema=1,
        metrics={name: _metric(analysis, name) for name in names},
        comparisons=tuple(_comparisons(analysis, names)),
        coverage={variant: coverage_of(analysis, variant) for variant in analysis.measured.variants},
        slices=_slices(analysis, names, columns),
        identities=analysis.measured.identities,
        recipes=recipes(analysis, names),
    )


def estimate_row(estimate: Estimate) -> EstimateRow:
    """Return an estimate as stored in ``summary.json``."""
    return EstimateRow(**_finite_facts(estimate))


def comparison_row(metric: str, variant: str, against: str, difference: Difference) -> ComparisonRow:
    """Return a difference as stored in ``summary.json``."""
    return ComparisonRow(metric=metric, variant=variant, against=against, **_finite_facts(difference))


def _metric(analysis: Analysis, name: str) -> MetricSummary:
    spec = analysis.measured.spec(name)
    return MetricSummary(
        unit=spec.unit,
        higher_is_better=spec.higher_is_better,
        signature=spec.signature,
        conditions=analysis.measured.conditions(name),
        variants={one: estimate_row(analysis.estimate(name, one)) for one in analysis.measured.variants_of(name)},
        label=spec.label,
        heuristic=spec.heuristic,
    )


def _comparisons(analysis: Analysis, names: Iterable[str]) -> Iterable[ComparisonRow]:
    """Yield every variant against the reference. Fidelity metrics are already comparisons."""
    reference = analysis.measured.manifest.reference_among(analysis.measured.variants)
    for name in names:
        measured = analysis.measured.variants_of(name)
        against = reference
        if measured and analysis.measured.conditions(name).get("engine") == "server" and reference not in measured:
            against = measured[0]  # a reference with weights here is timed under other conditions
        if against is None or against not in measured or analysis.measured.spec(name).family == "fidelity":
            continue
        for variant in measured:
            if variant != against:
                yield comparison_row(name, variant, against, analysis.difference(name, variant, against))


def _slices(analysis: Analysis, names: Iterable[str], columns: Sequence[str]) -> tuple[SliceRow, ...]:
    sliced = [name for name in names if analysis.measured.spec(name).family not in MEASURED]
    found: list[tuple[str, str, str, str, str]] = []
    differences: list[Difference] = []
    reference = analysis.measured.manifest.reference_among(analysis.measured.variants)
    for column in columns:
        for level in levels(analysis.measured.units.levels(column)):
            analysis.prepare(sliced, slice=(column, level))
            for name in sliced:
                for variant in analysis.measured.variants_of(name):
                    if (
                        reference is None
                        or variant == reference
                        or reference not in analysis.measured.variants_of(name)
                    ):
                        continue
                    made = analysis.difference(name, variant, reference, slice=(column, level))
                    if made.n:
                        found.append((column, level, name, variant, reference))
                        differences.append(made)
            analysis.forget((column, level))
    rows = zip(found, differences, q_values(differences), strict=True)
    return tuple(
        SliceRow(column=column, level=level, comparison=comparison_row(name, variant, against, made), q_value=q)
        for (column, level, name, variant, against), made, q in rows
    )


def _finite_facts(result: Estimate | Difference) -> dict[str, Any]:
    """Return the fields of a result without its confidence, with None for numbers that are not finite."""
    facts = {name: value for name, value in asdict(result).items() if name != "confidence"}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}
