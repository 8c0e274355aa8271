"""``summary.json`` from a run folder: every metric with its interval, every comparison, coverage and slices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from harness.metrics.registry import MetricSpec
from harness.results.analysis import Analysis
from harness.results.coverage import coverage_of
from harness.stats.bootstrap import RESAMPLES, SEED
from harness.stats.slices import levels, q_values
from harness.stats.types import Difference, Estimate
from harness.store.folder import RunFolder
from harness.store.schema import ComparisonRow, EstimateRow, MetricSummary, SliceRow, Summary

NOT_SLICED = ("fidelity", "latency", "memory")


def summarize(
    folder: RunFolder,
    registry: Mapping[str, MetricSpec],
    *,
    resamples: int | None = None,
    seed: int | None = None,
    slices: Sequence[str] | None = None,
) -> Summary:
    """Return the summary of a run folder's records and replies; write nothing.

    ``registry`` names every metric that may occur. Resamples, seed and the columns to slice by are the run's own
    (``stats.resamples``, ``seed``, ``stats.slices`` of its config) unless given.
    """
    analysis = analysis_of(folder, registry, resamples=resamples, seed=seed)
    names = analysis.metric_names()
    analysis.prepare(names)
    columns = _stats(analysis).get("slices", ()) if slices is None else slices
    return Summary(
        schema=1,
        metrics={name: _metric(analysis, name) for name in names},
        comparisons=tuple(_comparisons(analysis, names)),
        coverage={variant: coverage_of(analysis, variant) for variant in analysis.variants},
        slices=_slices(analysis, names, columns),
    )


def analysis_of(
    folder: RunFolder, registry: Mapping[str, MetricSpec], *, resamples: int | None = None, seed: int | None = None
) -> Analysis:
    """Return the analysis of a run folder with the run's own resamples and seed unless given."""
    config = folder.read_manifest().config
    stats = config.get("stats") or {}
    return Analysis(
        folder,
        registry=registry,
        resamples=resamples or int(stats.get("resamples") or RESAMPLES),
        seed=int(config.get("seed", SEED)) if seed is None else seed,
    )


def estimate_row(estimate: Estimate) -> EstimateRow:
    """Return an estimate as ``summary.json`` holds it."""
    return EstimateRow(
        value=_finite(estimate.value),
        low=_finite(estimate.low),
        high=_finite(estimate.high),
        n=estimate.n,
        method=estimate.method,
        warnings=estimate.warnings,
    )


def comparison_row(metric: str, variant: str, against: str, difference: Difference) -> ComparisonRow:
    """Return a difference as ``summary.json`` holds it."""
    facts = asdict(difference)
    del facts["confidence"]
    for name in ("value", "low", "high", "mde", "p_value"):
        facts[name] = _finite(facts[name])
    return ComparisonRow(metric=metric, variant=variant, against=against, **facts)


def _metric(analysis: Analysis, name: str) -> MetricSummary:
    spec = analysis.spec(name)
    return MetricSummary(
        unit=spec.unit,
        higher_is_better=spec.higher_is_better,
        signature=spec.signature,
        conditions=analysis.conditions(name),
        variants={one: estimate_row(analysis.estimate(name, one)) for one in analysis.variants_of(name)},
        label=spec.label,
        heuristic=spec.heuristic,
    )


def _comparisons(analysis: Analysis, names: Iterable[str]) -> Iterable[ComparisonRow]:
    """Yield every variant against the reference. Fidelity metrics are comparisons already."""
    reference = analysis.measured.manifest.reference_among(analysis.variants)
    for name in names:
        measured = analysis.variants_of(name)
        if reference is None or reference not in measured or analysis.spec(name).family == "fidelity":
            continue
        for variant in measured:
            if variant != reference:
                yield comparison_row(name, variant, reference, analysis.difference(name, variant, reference))


def _slices(analysis: Analysis, names: Iterable[str], columns: Sequence[str]) -> tuple[SliceRow, ...]:
    sliced = [name for name in names if analysis.spec(name).family not in NOT_SLICED]
    found: list[tuple[str, str, str, str, str]] = []
    differences: list[Difference] = []
    reference = analysis.measured.manifest.reference_among(analysis.variants)
    for column in columns:
        for level in levels(analysis.measured.units.levels(column)):
            analysis.prepare(sliced, slice=(column, level))
            for name in sliced:
                for variant in analysis.variants_of(name):
                    if reference is None or variant == reference or reference not in analysis.variants_of(name):
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


def _stats(analysis: Analysis) -> dict[str, Sequence[str]]:
    return analysis.measured.manifest.config.get("stats") or {}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
