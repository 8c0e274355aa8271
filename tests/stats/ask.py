"""The statistics in one call each: what tests and benchmarks ask, and a run asks for many metrics at once."""

from __future__ import annotations

from collections.abc import Mapping

from harness.stats.bootstrap import RESAMPLES, SEED, Resamples
from harness.stats.intervals import weigh
from harness.stats.paired import PairedEvidence, weigh_difference
from harness.stats.samples import align, by_cluster
from harness.stats.timing import weigh_ratio
from harness.stats.types import Difference, Estimate, FloatArray, Samples


def estimate(samples: Samples, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    return weigh(samples, lambda: sums(samples, resamples, seed)).estimate(confidence)


def weighed(
    candidate: Samples,
    reference: Samples,
    *,
    factor: float = 1.0,
    unit: str = "dialogues",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> PairedEvidence:
    pair = align(candidate, reference)

    def both() -> tuple[FloatArray, FloatArray]:
        return sums(pair[0], resamples, seed), sums(pair[1], resamples, seed)

    return weigh_difference(*pair, both, factor=factor, unit=unit)


def difference(
    candidate: Samples,
    reference: Samples,
    *,
    higher_is_better: bool | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    return weighed(candidate, reference, resamples=resamples, seed=seed).difference(confidence, higher_is_better)


def sums(samples: Samples, resamples: int, seed: int) -> FloatArray:
    statistics = by_cluster(samples)
    return Resamples(statistics.shape[0], resamples=resamples, seed=seed).sums(statistics)


def ratio(
    ratios: Mapping[str, float],
    *,
    higher_is_better: bool | None = False,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    return weigh_ratio(ratios, resamples=resamples, seed=seed).difference(confidence, higher_is_better)
