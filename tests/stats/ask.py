"""The statistics in one call each: what tests and benchmarks ask, and a run asks for many metrics at once."""

from __future__ import annotations

from collections.abc import Mapping

from harness.stats.bootstrap import RESAMPLES, SEED
from harness.stats.intervals import weigh
from harness.stats.paired import weigh_difference
from harness.stats.timing import weigh_ratio
from harness.stats.types import Difference, Estimate, Samples


def estimate(samples: Samples, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    return weigh(samples, resamples=resamples, seed=seed).estimate(confidence)


def difference(
    candidate: Samples,
    reference: Samples,
    *,
    higher_is_better: bool | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    evidence = weigh_difference(candidate, reference, resamples=resamples, seed=seed)
    return evidence.difference(confidence, higher_is_better)


def ratio(
    ratios: Mapping[str, float],
    *,
    higher_is_better: bool | None = False,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    return weigh_ratio(ratios, resamples=resamples, seed=seed).difference(confidence, higher_is_better)
