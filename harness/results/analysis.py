"""Every number of a run folder with its interval: for the summary, the gate, and any slice.

Nothing is resampled twice: all metrics over the same number of units share one count matrix, and the difference of two
variants reuses the resampled sums of each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from harness.errors import InputError
from harness.metrics.registry import MetricSpec
from harness.results.latency import UTILISATIONS
from harness.results.measurements import Key, Measurements, base_of
from harness.results.units import Slice
from harness.stats.bootstrap import RESAMPLES, SEED, Resamples
from harness.stats.intervals import ValueEvidence, weigh
from harness.stats.jackknife import LARGE
from harness.stats.paired import FEW, PairedEvidence, small_sample_warning, weigh_difference
from harness.stats.samples import align, by_cluster, counted
from harness.stats.timing import RatioEvidence, estimate_quantile, log_ratios, weigh_ratio
from harness.stats.types import Difference, Estimate, FloatArray, Samples, TimingSamples
from harness.store.folder import RunFolder

_KEEP_BYTES = 512 * 2**20
_SCALE = re.compile(r"(\d+)(?:–(\d+)| or more)")
_PairKey = tuple[str, str, "Analysis", str, Slice | None, float]
_Pairs = PairedEvidence | RatioEvidence | None


class Analysis:
    """The statistics of one run folder. ``registry`` maps the name of each available metric to its spec.

    A metric that is registered but was not measured has an estimate without a value (n = 0). An unknown metric,
    variant or column raises InputError with the closest known name.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        registry: Mapping[str, MetricSpec],
        resamples: int = RESAMPLES,
        seed: int = SEED,
    ) -> None:
        self.folder = folder
        self.resamples = resamples
        self.seed = seed
        self.measured = Measurements(folder, registry)
        self._count_matrices: dict[int, Resamples] = {}
        self._sums: dict[Key, FloatArray] = {}
        self._values: dict[Key, ValueEvidence] = {}
        self._pairs: dict[_PairKey, _Pairs] = {}

    def estimate(self, metric: str, variant: str, *, confidence: float = 0.95, slice: Slice | None = None) -> Estimate:
        """Return a variant's value of the metric with its interval."""
        if not self.measured.has(metric, variant):
            missing = f"{metric} was not measured for {variant}."
            return Estimate(None, None, None, 0, "none", confidence, (missing,))
        if self.measured.spec(metric).family == "memory":
            _refuse_slice(metric, slice)
            return self.measured.memory.estimate(metric, variant, confidence)
        key = (metric, variant, slice)
        samples = self.measured.samples(key)
        if isinstance(samples, TimingSamples):
            made = self._quantile(metric, variant, samples, confidence)
            return self._compared(metric, made, counted(samples, "dialogues"))
        if key not in self._values:
            self._values[key] = weigh(samples, lambda: self._sums_of(key))
        made = _on_scale(self._values[key].estimate(confidence), self.measured.spec(metric).scale)
        made = self._compared(metric, made, counted(samples, "dialogues"))
        unread = self.measured.replies.undefined(metric, variant) if slice is None else {}
        warnings = (
            f"Not defined for {number} of {len(self.measured.units.ids)} dialogues: {reason}."
            for reason, number in unread.items()
        )
        return replace(made, warnings=(*made.warnings, *warnings)) if unread else made

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
        """Return variant - ``factor``·against over their common units; for timings, the ratio variant/against.

        With ``other``, ``against`` is a variant of that run. The metric decides which direction is better.
        """
        spec = self.measured.spec(metric)
        if spec.family == "memory":
            _refuse_slice(metric, slice)
            theirs = [factor * value for value in (other or self).measured.memory.values(metric, against)]
            return self.measured.memory.difference(metric, variant, theirs, confidence, spec.higher_is_better)
        evidence = None
        key = (metric, variant, other or self, against, slice, factor)
        if self.measured.has(metric, variant) and (other or self).measured.has(metric, against):
            if key not in self._pairs:
                self._pairs[key] = self._weigh(*key)
            evidence = self._pairs[key]
        if evidence is None:
            missing = f"{metric} was not measured for both {variant} and {against}, or has no paired difference."
            return Difference(None, None, None, 0, "none", "undecided", confidence=confidence, warnings=(missing,))
        return evidence.difference(confidence, spec.higher_is_better)

    def prepare(self, metrics: Iterable[str], slice: Slice | None = None) -> None:
        """Resample many metrics of all variants in one matrix product, which is faster than one at a time.

        Those over more than ``LARGE`` units are not resampled at all.
        """
        waiting: dict[int, list[tuple[Key, FloatArray]]] = {}
        for metric in metrics:
            if self.measured.spec(metric).family == "memory":
                continue
            for variant in self.measured.variants_of(metric):
                key = (metric, variant, slice)
                samples = self.measured.samples(key)
                if key not in self._sums and isinstance(samples, Samples) and samples.ids:
                    statistics = by_cluster(samples)
                    if len(statistics) <= LARGE:
                        waiting.setdefault(len(statistics), []).append((key, statistics))
        for units, found in waiting.items():
            together = self._resamples(units).sums(np.hstack([statistics for _, statistics in found]))
            ends = np.cumsum([statistics.shape[1] for _, statistics in found])[:-1]
            for (key, _), sums in zip(found, np.split(together, ends, axis=1), strict=True):
                self._sums[key] = np.ascontiguousarray(sums)

    def resampled(self, samples: Samples, key: Key | None) -> FloatArray:
        """Return the sums of these samples over the run's resamples; ``key``: that of which they are all."""
        if key is not None:
            return self._sums_of(key)
        statistics = by_cluster(samples)
        return self._resamples(statistics.shape[0]).sums(statistics)

    def forget(self, slice: Slice) -> None:
        """Drop what was cached for a slice, which is rarely needed again."""
        self.measured.forget(slice)
        self._sums = {key: value for key, value in self._sums.items() if key[2] != slice}
        self._values = {key: value for key, value in self._values.items() if key[2] != slice}
        self._pairs = {key: value for key, value in self._pairs.items() if key[4] != slice}

    def _compared(self, metric: str, made: Estimate, unit: str) -> Estimate:
        """Add the small-sample warning of comparisons to fidelity estimates, since these compare two variants."""
        if self.measured.spec(metric).family != "fidelity" or made.value is None or made.n >= FEW:
            return made
        return replace(made, warnings=(*made.warnings, small_sample_warning(made.n, unit)))

    def _quantile(self, metric: str, variant: str, samples: TimingSamples, confidence: float) -> Estimate:
        made = estimate_quantile(
            samples,
            confidence=confidence,
            resamples=self.resamples,
            seed=self.seed,
            unit=counted(samples, _unit(metric)),
        )
        if base_of(metric) not in UTILISATIONS:
            return made
        # The roofline's floor divided by the median time: slower is less.
        floor = self.measured.latency.floor(metric, variant) or math.nan
        value, low, high = (None if one is None else floor / one for one in (made.value, made.high, made.low))
        return replace(made, value=value, low=low, high=high)

    def _weigh(
        self, metric: str, variant: str, theirs: Analysis, against: str, slice: Slice | None, factor: float
    ) -> _Pairs:
        """Return the paired evidence, or None for a quantile pooled over dialogues, which cannot be paired."""
        if self.measured.spec(metric).family == "latency" and base_of(metric) not in (
            "latency.goodput",
            "latency.errors",
        ):
            return self._ratio(metric, variant, theirs, against, slice)
        key = (metric, variant, slice)
        mine, reference = self.measured.samples(key), theirs.measured.samples((metric, against, slice))
        if isinstance(mine, TimingSamples) or isinstance(reference, TimingSamples):
            return None
        one, two = align(mine, reference)

        def sums() -> tuple[FloatArray, FloatArray]:
            if one is mine and two is reference and theirs is self:
                return self._sums_of(key), self._sums_of((metric, against, slice))
            first, second = by_cluster(one), by_cluster(two)
            together = self._resamples(first.shape[0]).sums(np.hstack([first, second]))
            return together[:, : first.shape[1]], together[:, first.shape[1] :]

        return weigh_difference(one, two, sums, factor=factor, unit=_unit(metric))

    def _ratio(self, metric: str, variant: str, theirs: Analysis, against: str, slice: Slice | None) -> RatioEvidence:
        mine, reference = self.measured.latency, theirs.measured.latency
        ratios = log_ratios(mine.repeated(metric, variant), reference.repeated(metric, against))
        if slice is not None:
            within = self.measured.within(slice)
            ratios = {name: value for name, value in ratios.items() if name in within}
        if base_of(metric) in UTILISATIONS:
            shift = math.log((mine.floor(metric, variant) or math.nan) / (reference.floor(metric, against) or math.nan))
            ratios = {name: shift - value for name, value in ratios.items()}
        evidence = weigh_ratio(ratios, resamples=self.resamples, seed=self.seed)
        quantile = mine.quantile(metric)
        if quantile is None or quantile <= 0.5 or base_of(metric).startswith("latency.itl_ms."):
            return evidence
        tail = f"p{100 * quantile:.0f}"
        typical = f"The ratio is the typical request's (the median over requests), not that of the two {tail}."
        return replace(evidence, warnings=(*evidence.warnings, typical))

    def _sums_of(self, key: Key) -> FloatArray:
        """Return resampled sums, computing those of the metric's other variants too, which adds little cost."""
        if key not in self._sums:
            self.prepare([key[0]], key[2])
        return self._sums[key]

    def _resamples(self, units: int) -> Resamples:
        kept = self._count_matrices
        if units not in kept:
            kept[units] = Resamples(units, resamples=self.resamples, seed=self.seed)
            while len(kept) > 1 and sum(one.size for one in kept.values()) > _KEEP_BYTES:
                del kept[next(iter(kept))]
        return kept[units]


def _unit(metric: str) -> str:
    return "requests" if metric.startswith("latency.") else "dialogues"


def _on_scale(made: Estimate, scale: str) -> Estimate:
    """Cut the interval to the values that the metric can take (``0–1``, ``0 or more``), which a t interval ignores."""
    found = _SCALE.match(scale)
    if found is None or made.low is None or made.high is None:
        return made
    least, most = float(found[1]), float(found[2] or math.inf)
    return replace(made, low=max(made.low, least), high=min(made.high, most))


def _refuse_slice(metric: str, slice: Slice | None) -> None:
    if slice is not None:
        raise InputError(f"{metric} is not measured per dialogue, so it has no slice '{slice[0]}={slice[1]}'.")
