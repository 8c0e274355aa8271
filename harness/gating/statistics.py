"""The source of the gate's numbers: the same analysis of the run folder that ``summary.json`` is made from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property

from harness.metrics.loading import all_specs
from harness.metrics.registry import MetricSpec
from harness.results.analysis import Analysis
from harness.results.memory import ranges_decide
from harness.results.units import Slice
from harness.stats.power import fewest_units
from harness.stats.samples import unit_values
from harness.stats.types import Difference, Estimate, TimingSamples
from harness.store.schema import Summary


class RunStatistics(Analysis):
    """The statistics of one run folder, with the run's own resamples and seed.

    Memory is measured in a few fresh processes, too few for an interval. The range of the repeats is used instead, so
    that the worst repeat must meet a limit; a single repeat has no range, and a comparison needs as many repeats as
    could decide it (``ranges_decide``), unless what was measured repeats to the byte (``Memory.repeats_exactly``).
    """

    def needs_its_module(self, metric: str, variant: str) -> bool:
        """Return whether a custom metric has sufficient statistics, which only its module can combine."""
        if metric.split("[")[0] in self._registered or not self.measured.has(metric, variant):
            return False
        return metric in self.measured.replies.columns(variant).statistics

    @cached_property
    def _registered(self) -> frozenset[str]:
        return frozenset(all_specs())

    def prepare(self, metrics: Iterable[str], slice: Slice | None = None) -> None:
        """Resample the metrics that were measured, ignoring the others."""
        measured = set(self.measured.metric_names)
        super().prepare(dict.fromkeys(metric for metric in metrics if metric in measured), slice)

    def estimate(self, metric: str, variant: str, *, confidence: float = 0.95, slice: Slice | None = None) -> Estimate:
        """Return a variant's value of the metric with its interval."""
        found = super().estimate(metric, variant, confidence=confidence, slice=slice)
        repeats = _repeats(self, metric, variant)
        if found.low is not None or found.high is not None or not repeats:
            return found
        if len(repeats) < 2 and not self.measured.memory.repeats_exactly(metric, variant):
            return found
        return replace(found, low=min(repeats), high=max(repeats), method=_range_of(len(repeats)), warnings=())

    def difference(
        self,
        metric: str,
        variant: str,
        against: str,
        *,
        other: Analysis | None = None,
        confidence: float = 0.95,
        slice: Slice | None = None,
        factor: float = 1.0,
    ) -> Difference:
        """Return variant − factor·against, or their ratio for timings."""
        found = super().difference(
            metric, variant, against, other=other, confidence=confidence, slice=slice, factor=factor
        )
        if found.low is not None or found.high is not None:
            return found
        if found.relative and found.value is not None and found.n >= fewest_units(confidence):
            # All ratios are identical (equal or scaled timestamps), so order statistics bound the median by itself.
            return replace(found, low=found.value, high=found.value, method="order statistics", warnings=())
        mine, others = _repeats(self, metric, variant), _repeats(other or self, metric, against)
        sides = ((self, variant), (other or self, against))
        exact = all(side.measured.memory.repeats_exactly(metric, name) for side, name in sides)
        if not exact and not ranges_decide(mine, others, confidence):
            return found
        low, high = min(mine) - factor * max(others), max(mine) - factor * min(others)
        return replace(found, low=low, high=high, method=_range_of(found.n), warnings=())

    def unit_values(self, metric: str, variant: str) -> Mapping[str, float]:
        """Return the metric's value by dialogue; empty if it is not measured per dialogue."""
        if metric.startswith("memory.") or not self.measured.has(metric, variant):
            return {}
        samples = self.measured.samples((metric, variant, None))
        if isinstance(samples, TimingSamples):
            return {}
        values = zip(samples.ids, unit_values(samples), strict=True)
        return {name: float(value) for name, value in values if not math.isnan(value)}


def known_metrics(summary: Summary) -> dict[str, MetricSpec]:
    """Return every registered metric, and those of the run's own modules as its summary describes them.

    The modules are not executed, since the folder may be untrusted. A custom metric is a mean over dialogues, or a
    rate if its interval is one of a rate; one that combines sufficient statistics cannot be judged without its module
    (``needs_its_module``).
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


def _repeats(analysis: Analysis, metric: str, variant: str) -> list[float]:
    return analysis.measured.memory.values(metric, variant) if metric.startswith("memory.") else []


def _range_of(repeats: int) -> str:
    return f"range of {repeats} repeats in fresh processes" if repeats > 1 else "repeats to the byte"
