"""Where the gate's numbers come from: the same analysis of the run folder that ``summary.json`` is made by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property

from harness.gating.sides import Slice
from harness.metrics.loading import all_specs
from harness.metrics.registry import MetricSpec
from harness.results.analysis import Analysis
from harness.stats.power import fewest_units
from harness.stats.samples import unit_values
from harness.stats.types import Difference, Estimate, TimingSamples
from harness.store.folder import RunFolder
from harness.store.schema import Summary


class RunStatistics:
    """The statistics of one run folder, with the run's own resamples and seed.

    Memory is measured in a few fresh processes, too few for an interval. The range of those repeats stands in for it,
    so that the worst repeat must meet a limit; a single one has no range.
    """

    def __init__(self, folder: RunFolder, registry: Mapping[str, MetricSpec], resamples: int, seed: int) -> None:
        self.analysis = Analysis(folder, registry=registry, resamples=resamples, seed=seed)

    @cached_property
    def dialogue_ids(self) -> frozenset[str]:
        """Ids of all dialogues of the run, answered or not."""
        return frozenset(self.analysis.measured.units.ids)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that a slice may take."""
        return self.analysis.measured.units.columns

    def within(self, slice: Slice) -> frozenset[str]:
        """Return the ids of the dialogues at one value of a column."""
        return self.analysis.measured.within(slice)

    def needs_its_module(self, metric: str, variant: str) -> bool:
        """Return whether a user's own metric has sufficient statistics, which only its module can combine."""
        if metric.split("[")[0] in self._registered or not self.analysis.measured.has(metric, variant):
            return False
        return any(metric in row.statistics for row in self.analysis.measured.replies.rows(variant).values())

    @cached_property
    def _registered(self) -> frozenset[str]:
        return frozenset(all_specs())

    def prepare(self, metrics: Iterable[str]) -> None:
        """Resample what several checks will ask for in one go, which is faster than one after another."""
        measured = set(self.analysis.metric_names())
        self.analysis.prepare(dict.fromkeys(metric for metric in metrics if metric in measured))

    def estimate(self, metric: str, variant: str, *, confidence: float = 0.95, slice: Slice | None = None) -> Estimate:
        """Return a variant's value of the metric with its interval."""
        found = self.analysis.estimate(metric, variant, confidence=confidence, slice=slice)
        repeats = self._repeats(metric, variant)
        if found.low is not None or found.high is not None or len(repeats) < 2:
            return found
        return replace(found, low=min(repeats), high=max(repeats), method=_range_of(len(repeats)), warnings=())

    def difference(
        self,
        metric: str,
        variant: str,
        against: str,
        *,
        other: RunStatistics | None = None,
        confidence: float = 0.95,
        slice: Slice | None = None,
        factor: float = 1.0,
    ) -> Difference:
        """Return variant − factor·against, or their ratio for timings."""
        theirs = other or self
        found = self.analysis.difference(
            metric,
            variant,
            against,
            other=None if other is None else other.analysis,
            confidence=confidence,
            slice=slice,
            factor=factor,
        )
        if found.low is not None or found.high is not None:
            return found
        if found.relative and found.value is not None and found.n >= fewest_units(confidence):
            # All ratios are alike (the same stamps, or scaled ones): order statistics bound their median by itself.
            return replace(found, low=found.value, high=found.value, method="order statistics", warnings=())
        mine, others = self._repeats(metric, variant), theirs._repeats(metric, against)
        if min(len(mine), len(others)) < 2:
            return found
        low, high = min(mine) - factor * max(others), max(mine) - factor * min(others)
        return replace(found, low=low, high=high, method=_range_of(found.n), warnings=())

    def unit_values(self, metric: str, variant: str) -> Mapping[str, float]:
        """Return the metric of each single dialogue that has one; none where it is not measured by dialogue."""
        if metric.startswith("memory.") or not self.analysis.measured.has(metric, variant):
            return {}
        samples = self.analysis.measured.samples((metric, variant, None))
        if isinstance(samples, TimingSamples):
            return {}
        values = zip(samples.ids, unit_values(samples), strict=True)
        return {name: float(value) for name, value in values if not math.isnan(value)}

    def _repeats(self, metric: str, variant: str) -> list[float]:
        return self.analysis.measured.memory.values(metric, variant) if metric.startswith("memory.") else []


def known_metrics(summary: Summary) -> dict[str, MetricSpec]:
    """Return every registered metric, and those of the run's own modules as far as its summary describes them.

    The modules themselves are not run: a gate judges what was measured, and the folder may be a stranger's. A metric of
    theirs is a mean over dialogues, or a rate where its interval is one's; one that combines sufficient statistics
    cannot be judged without its module (``needs_its_module``).
    """
    specs = dict(all_specs())
    for name, found in summary.metrics.items():
        if name.split("[")[0] not in specs:
            rate = any(row.method.startswith("Clopper") for row in found.variants.values())
            specs[name] = MetricSpec(
                name=name,
                unit=found.unit,
                higher_is_better=found.higher_is_better,
                aggregation="rate" if rate else "mean",
                signature=found.signature,
                label=found.label,
                heuristic=found.heuristic,
            )
    return specs


def _range_of(repeats: int) -> str:
    return f"range of {repeats} repeats in fresh processes"
