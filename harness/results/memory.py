"""Memory: measured once in each of a few fresh processes, so there is a spread to check but hardly ever an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np

from harness.metrics.registry import MetricSpec
from harness.stats.timing import estimate_quantile
from harness.stats.types import Difference, Estimate, Outcome, TimingSamples
from harness.store.folder import RunFolder
from harness.store.schema import MemoryRecord

AGREE_WITHIN = 0.01
_PARTS = ("weights_mib", "kv_cache_mib", "activations_mib")


class Memory:
    """The repeats of every variant. The value is their median; n counts them."""

    def __init__(self, folder: RunFolder, variants: tuple[str, ...]) -> None:
        self._folder = folder
        self._variants = variants

    @cached_property
    def records(self) -> Mapping[str, list[MemoryRecord]]:
        found = {v: self._folder.records(MemoryRecord, "memory", v) for v in self._variants}
        good = {v: [one for one in rows if one.error is None and one.skipped is None] for v, rows in found.items()}
        return {variant: rows for variant, rows in good.items() if rows}

    def names(self, registry: Mapping[str, MetricSpec]) -> tuple[str, ...]:
        """Return every memory metric that some variant has."""
        return tuple(name for name in registry if name.startswith("memory.") and self.variants(name))

    def variants(self, metric: str) -> tuple[str, ...]:
        return tuple(variant for variant in self.records if self.values(metric, variant))

    def devices(self, metric: str) -> list[str]:
        """Return on which kinds of device the variants were measured."""
        return sorted({one.device for variant in self.variants(metric) for one in self.records[variant]})

    def values(self, metric: str, variant: str) -> list[float]:
        """Return what each repeat found."""
        field = metric.partition(".")[2]
        found = [getattr(record, field, None) for record in self.records.get(variant, ())]
        return [float(value) for value in found if isinstance(value, int | float)]

    def median(self, metric: str, variant: str) -> float | None:
        """Return the median over repeats, None where no repeat found it."""
        values = self.values(metric, variant)
        return float(np.median(values)) if values else None

    def peak(self, variant: str) -> str:
        """Return the metric to judge a variant's peak by: what was allocated on its card, on a CPU the process's."""
        allocated = "memory.peak_allocated_mib"
        return allocated if self.values(allocated, variant) else "memory.peak_rss_mib"

    def spread(self, variant: str) -> float | None:
        """Return how far apart the repeats' peaks lie, as a share of their median; None for a single repeat."""
        return spread(self.values(self.peak(variant), variant))

    def parts(self, variant: str) -> dict[str, float]:
        """Return what the peak is made of in MiB, by field of the record, medians over repeats.

        ``rest`` is what the parts leave of the peak where that is more than 1 %: on a CPU it holds the interpreter and
        its libraries too.
        """
        found = {part: self.median(f"memory.{part}", variant) for part in _PARTS}
        parts = {part: size for part, size in found.items() if size is not None}
        peak = self.median(self.peak(variant), variant)
        rest = 0.0 if peak is None else peak - sum(parts.values())
        return {**parts, "rest": rest} if peak is not None and rest > 0.01 * peak else parts

    def estimate(self, metric: str, variant: str, confidence: float) -> Estimate:
        """Return the median over repeats, bounded by order statistics where there are enough (six at 95 %)."""
        values = self.values(metric, variant)
        samples = TimingSamples(tuple(map(str, range(len(values)))), tuple(np.array([one]) for one in values), 0.5)
        made = estimate_quantile(samples, confidence=confidence, unit="repeats")
        apart = spread(values)
        warnings = made.warnings
        if apart is not None and apart > AGREE_WITHIN:
            warnings = (*warnings, f"The {len(values)} repeats differ by {apart:.1%}.")
        return replace(made, method="median over repeats in fresh processes" if values else "none", warnings=warnings)

    def difference(
        self, metric: str, variant: str, theirs: list[float], confidence: float, higher_is_better: bool | None
    ) -> Difference:
        """Return the difference of the medians. There is no interval; the outcome goes by the repeats' ranges.

        A difference counts where the ranges do not meet and the medians are more than 1 % apart, the agreement
        that repeats are held to.
        """
        mine = self.values(metric, variant)
        n = min(len(mine), len(theirs))
        if n == 0:
            return Difference(None, None, None, 0, "none", "undecided", confidence=confidence)
        value = float(np.median(mine) - np.median(theirs))
        warning = f"Judged by the ranges of {n} repeats: there is no interval."
        outcome: Outcome = "undecided"
        if mine == theirs and n > 1:
            outcome = "equal"
        elif (min(mine) > max(theirs) or max(mine) < min(theirs)) and abs(value) > AGREE_WITHIN * abs(
            np.median(theirs)
        ):
            outcome = "different"
            if higher_is_better is not None:
                outcome = "better" if (value > 0.0) == higher_is_better else "worse"
        method = "difference of medians over repeats"
        return Difference(value, None, None, n, method, outcome, confidence=confidence, warnings=(warning,))


def spread(values: list[float]) -> float | None:
    """Return how far apart repeats lie, as a share of their median; None for a single one."""
    middle = float(np.median(values)) if len(values) > 1 else 0.0
    return (max(values) - min(values)) / abs(middle) if middle else None
