"""Memory: measured once in each of a few fresh processes, so there is a spread but rarely an interval.

What a fixed workload allocates on CUDA repeats to the byte, so one process is enough there (``EXACT``).
"""

from __future__ import annotations

import math
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
_METHOD = "difference of medians over repeats"
EXACT = {f"memory.{part}" for part in (*_PARTS, "peak_allocated_mib")}  # on CUDA


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
        """Return every memory metric that at least one variant has."""
        return tuple(name for name in registry if name.startswith("memory.") and self.variants(name))

    def variants(self, metric: str) -> tuple[str, ...]:
        return tuple(variant for variant in self.records if self.values(metric, variant))

    def devices(self, metric: str) -> list[str]:
        """Return the kinds of device that the variants were measured on."""
        return sorted({one.device for variant in self.variants(metric) for one in self.records[variant]})

    def values(self, metric: str, variant: str) -> list[float]:
        """Return the value of each repeat."""
        field = metric.partition(".")[2]
        found = [getattr(record, field, None) for record in self.records.get(variant, ())]
        return [float(value) for value in found if isinstance(value, int | float)]

    def median(self, metric: str, variant: str) -> float | None:
        """Return the median over repeats, or None if no repeat has a value."""
        values = self.values(metric, variant)
        return float(np.median(values)) if values else None

    def peak(self, variant: str) -> str:
        """Return the metric for a variant's peak: memory allocated on the GPU or, on a CPU, the process's RSS."""
        allocated = "memory.peak_allocated_mib"
        return allocated if self.values(allocated, variant) else "memory.peak_rss_mib"

    def spread(self, variant: str) -> float | None:
        """Return the range of the repeats' peaks as a share of their median; None for a single repeat."""
        return spread(self.values(self.peak(variant), variant))

    def parts(self, variant: str) -> dict[str, float]:
        """Return the components of the peak in MiB, by field of the record, as medians over repeats.

        ``rest`` is the remainder if it exceeds 1 % of the peak; on a CPU it includes the interpreter and its libraries.
        """
        found = {part: self.median(f"memory.{part}", variant) for part in _PARTS}
        parts = {part: size for part, size in found.items() if size is not None}
        peak = self.median(self.peak(variant), variant)
        rest = 0.0 if peak is None else peak - sum(parts.values())
        return {**parts, "rest": rest} if peak is not None and rest > 0.01 * peak else parts

    def repeats_exactly(self, metric: str, variant: str) -> bool:
        """Return whether another process would find the same to the byte, as far as the records show."""
        rows = self.records.get(variant, [])
        alike = len(set(self.values(metric, variant))) == 1
        return metric in EXACT and alike and all(one.device.startswith("cuda") and adds_up(one) for one in rows)

    def estimate(self, metric: str, variant: str, confidence: float) -> Estimate:
        """Return the median over repeats, bounded by order statistics if there are enough (six at 95 %)."""
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
        """Return the difference of the medians. There is no interval; the outcome is based on the repeats' ranges.

        A difference counts if the ranges do not overlap, ``ranges_decide`` (or the metric ``repeats_exactly``), and the
        medians are more than 1 % apart, the tolerance for repeats.
        """
        mine = self.values(metric, variant)
        n = min(len(mine), len(theirs))
        if n == 0:
            return Difference(None, None, None, 0, "none", "undecided", confidence=confidence)
        value = float(np.median(mine) - np.median(theirs))
        exact = self.repeats_exactly(metric, variant) and len(set(theirs)) == 1
        outcome: Outcome = "undecided"
        if not exact and not ranges_decide(mine, theirs, confidence):
            warning = f"{len(mine)} repeats against {len(theirs)} that differ among themselves decide nothing."
            return Difference(value, None, None, n, _METHOD, outcome, confidence=confidence, warnings=(warning,))
        warning = f"Judged by the ranges of {n} repeats: there is no interval."
        if exact:
            warning = "What a fixed workload allocates on CUDA repeats to the byte: there is no interval."
        if set(mine) == set(theirs) and (exact or mine == theirs):
            outcome = "equal"
        elif (min(mine) > max(theirs) or max(mine) < min(theirs)) and abs(value) > AGREE_WITHIN * abs(
            np.median(theirs)
        ):
            outcome = "different"
            if higher_is_better is not None:
                outcome = "better" if (value > 0.0) == higher_is_better else "worse"
        return Difference(value, None, None, n, _METHOD, outcome, confidence=confidence, warnings=(warning,))


def adds_up(record: MemoryRecord) -> bool:
    """Return whether the parts of a process's memory on CUDA account for its peak, within 1 %.

    The prompt's activations were measured apart, with a reply of one token: with the weights and the prompt's part of
    the cache they are what the workload needs first. The peak is that, or what the last step needs with the whole
    cache. False if the record lacks a part, or says that it failed; nothing more can be learnt of a failure.
    """
    extra = record.model_extra or {}
    if record.error is not None or record.skipped is not None:
        return True
    weights, cache, peak = record.weights_mib, record.kv_cache_mib, record.peak_allocated_mib
    prompt, workload = extra.get("activations_prompt_mib"), extra.get("workload")
    if weights is None or cache is None or peak is None or prompt is None or not workload:
        return False
    cached = workload["prompt_tokens"] / (workload["prompt_tokens"] + workload["reply_tokens"] - 1)
    first, last = weights + cache * cached + prompt, weights + cache
    return bool(first <= peak * (1 + AGREE_WITHIN) and peak <= (max(first, last) + prompt) * (1 + AGREE_WITHIN))


def ranges_decide(mine: list[float], theirs: list[float], confidence: float) -> bool:
    """Return whether ranges that do not overlap would be evidence at this confidence.

    Of the C(n + m, n) ways to divide n + m repeats by chance, two keep the sides apart: four against four are the
    fewest at 95 %. Repeats that agree to the last bit on each side (weights, memory allocated on a GPU) have no
    chance in them, so two of each are enough.
    """
    if min(len(mine), len(theirs)) < 2:
        return False
    if min(mine) == max(mine) and min(theirs) == max(theirs):
        return True
    return 2 / math.comb(len(mine) + len(theirs), len(mine)) <= 1.0 - confidence + 1e-12


def spread(values: list[float]) -> float | None:
    """Return the range of repeats as a share of their median; None for a single one."""
    middle = float(np.median(values)) if len(values) > 1 else 0.0
    return (max(values) - min(values)) / abs(middle) if middle else None
