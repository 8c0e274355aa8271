"""The difference that a recipe makes, whatever its training seed: several adapters of it, asked the same dialogues.

Dialogues and seeds are crossed, and both are drawn at random: the difference of seed j in dialogue i is μ + d_i + s_j +
e_ij. With n dialogues and k seeds the mean of all has the variance σ_d²/n + σ_s²/k + σ_e²/(nk). The mean squares of the
two-way analysis of variance, each divided by nk, have the expectations

    A (between dialogues)  σ_d²/n + σ_e²/(nk)
    B (between seeds)      σ_s²/k + σ_e²/(nk)
    E (what is left)       σ_e²/(nk)

so A + B - E estimates it, with Satterthwaite's degrees of freedom (1946, "An approximate distribution of estimates of
variance components", Biometrics Bulletin 2:110). It is the analysis of random readers and cases by Obuchowski and
Rockette (1995) and Dorfman, Berbaum and Metz (1992), without their fixed factor. Neither σ_d² nor σ_s² can be negative:
the variance is at least A and at least B. For metrics that are no means, the dialogues' pulls on the value (the
jackknife's) take the place of their differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.stats.paired import PairedEvidence, outcome_of, weigh_difference
from harness.stats.samples import align, by_cluster, unit_values
from harness.stats.types import FloatArray, Outcome, Samples

TWO = "Two seeds say little about the spread between seeds: the interval is very wide, or too short. Train a third."


@dataclass(frozen=True)
class SeedsDifference:
    """The mean difference of a recipe's adapters to a reference, with an interval for dialogues and seeds.

    ``spread`` is the standard deviation between the seeds' differences. ``outcome`` speaks of the recipe, whatever the
    seed; ``outcome_of_these`` of the mean of these very adapters, over other dialogues.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    seeds: int
    spread: float | None
    outcome: Outcome
    outcome_of_these: Outcome
    method: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SeedsEvidence:
    """What k adapters say about their recipe, before a confidence level is chosen.

    ``dialogues`` is the evidence about the mean of these adapters, ``each`` the difference of each, and ``residual``
    the mean square E above, divided by nk.
    """

    dialogues: PairedEvidence
    each: tuple[float, ...]
    residual: float

    def difference(self, confidence: float = 0.95, higher_is_better: bool | None = None) -> SeedsDifference:
        """Return the mean difference. Its interval is never shorter than the one that covers dialogues alone."""
        these = self.dialogues.difference(confidence, higher_is_better)
        ends = None if these.low is None or these.high is None else (these.low, these.high)
        method, outcome, spread = these.method, these.outcome, None
        if these.value is not None and len(self.each) > 1:
            spread = float(np.std(self.each, ddof=1))
            if ends is not None and spread > 0.0:
                error, freedom = self._standard_error(spread)
                half = _critical(freedom, confidence) * error
                ends = min(ends[0], these.value - half), max(ends[1], these.value + half)
                method = f"dialogues × seeds at random, t with {freedom:.3g} d.f., not below the {these.method}"
                outcome = outcome_of(ends, higher_is_better)
        return SeedsDifference(
            value=these.value,
            low=None if ends is None else ends[0],
            high=None if ends is None else ends[1],
            n=these.n,
            seeds=len(self.each),
            spread=spread,
            outcome=outcome,
            outcome_of_these=these.outcome,
            method=method,
            warnings=(*these.warnings, TWO) if len(self.each) == 2 else these.warnings,
        )

    def _standard_error(self, spread: float) -> tuple[float, float]:
        """Return the standard error of the mean over dialogues and seeds, and Satterthwaite's degrees of freedom."""
        k, n, made = len(self.each), self.dialogues.n, self.dialogues.bootstrap
        between_dialogues = made.standard_error**2 if made else 0.0
        between_seeds = spread**2 / k
        variance = max(between_dialogues, between_seeds, between_dialogues + between_seeds - self.residual)
        doubt = between_seeds**2 / (k - 1) + self.residual**2 / ((n - 1) * (k - 1))
        doubt += between_dialogues**2 / ((made.freedom if made else None) or n - 1)
        return math.sqrt(variance), max(1.0, variance**2 / doubt)


def weigh_seeds(
    seeds: Sequence[Samples],
    reference: Samples,
    sums: Callable[[Samples], FloatArray],
    *,
    unit: str = "dialogues",
) -> SeedsEvidence:
    """Return what the adapters say over the units that all of them and the reference have a value for.

    ``sums`` returns the sums of such samples over the shared resamples.
    """
    every = align_all((*seeds, reference))
    ours, theirs = every[:-1], every[-1]

    def both() -> tuple[FloatArray, FloatArray]:
        return np.hstack([sums(one) for one in ours]), np.hstack([sums(theirs)] * len(ours))

    evidence = weigh_difference(_averaged(ours), _averaged([theirs] * len(ours)), both, unit=unit)
    if evidence.value is None:
        return SeedsEvidence(evidence, (), 0.0)
    value, pull = zip(*(_pulls(one, theirs) for one in ours), strict=True)
    return SeedsEvidence(evidence, value, _residual(np.column_stack(pull)))


def align_all(samples: Sequence[Samples]) -> list[Samples]:
    """Return all over their common units, in one order, defined where all are; see ``align``."""
    common = samples[0]
    for one in samples[1:]:
        common, _ = align(common, one)
    return [align(one, common)[0] for one in samples]


def _averaged(samples: Sequence[Samples]) -> Samples:
    """Return the samples of the mean of several values of one metric, their statistics side by side."""
    first, columns = samples[0], samples[0].statistics.shape[1]

    def mean(sums: FloatArray) -> FloatArray:
        parts = (first.aggregate(sums[..., start : start + columns]) for start in range(0, sums.shape[-1], columns))
        return np.asarray(np.mean(list(parts), axis=0), dtype=np.float64)

    return replace(
        first,
        statistics=np.hstack([one.statistics for one in samples]),
        aggregate=mean,
        kind="corpus",
        unit_values=np.mean([unit_values(one) for one in samples], axis=0),
    )


def _pulls(candidate: Samples, reference: Samples) -> tuple[float, FloatArray]:
    """Return the difference, and how far each unit (or conversation) pulls it from the mean of those without one."""
    mine, theirs = by_cluster(candidate), by_cluster(reference)
    with np.errstate(all="ignore"):
        value = candidate.aggregate(mine.sum(axis=0)) - reference.aggregate(theirs.sum(axis=0))
        left_out = candidate.aggregate(mine.sum(axis=0) - mine) - reference.aggregate(theirs.sum(axis=0) - theirs)
    return float(value), np.asarray(left_out.mean() - left_out, dtype=np.float64)


def _residual(pulls: FloatArray) -> float:
    """Return E from the pulls (n, k): the part of each that its unit does not have in common over the seeds."""
    n, k = pulls.shape
    if n < 2 or k < 2 or not np.isfinite(pulls).all():
        return 0.0
    own = pulls - pulls.mean(axis=1, keepdims=True)
    return float((own**2).sum() * (n - 1) / (n * k * (k - 1)))


def _critical(freedom: float, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2.0))
