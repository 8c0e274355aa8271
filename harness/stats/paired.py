"""Two variants on the same units: the paired difference, wins and losses, and the power of the comparison.

Mean and corpus metrics: BCa bootstrap of the difference over units. Rates: the interval of Agresti & Min and the
exact p-value of McNemar. The outcome follows the interval, so that page and gate agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from harness.stats.bootstrap import Bootstrap, bca
from harness.stats.intervals import is_binary, not_finite, too_few
from harness.stats.power import fewest_units, minimum_detectable_effect, needed_n
from harness.stats.proportions import PairedRates, mcnemar_exact
from harness.stats.samples import align, by_cluster, count, counted, defined_units, is_clustered, unit_values
from harness.stats.types import Difference, FloatArray, Outcome, Samples

FEW = 50


@dataclass(frozen=True)
class PairedEvidence:
    """What paired samples say about one difference, before a confidence level is chosen.

    ``identical``: no unit differs. ``above``/``ties``/``below`` count units by the candidate's value relative to the
    reference's. ``unit`` is a word for what n counts.
    """

    value: float | None
    n: int
    method: str
    bootstrap: Bootstrap | None = None
    rates: PairedRates | None = None
    identical: bool = False
    above: int | None = None
    ties: int | None = None
    below: int | None = None
    warnings: tuple[str, ...] = ()
    unit: str = "dialogues"

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Return the two-sided interval, or None if the data do not support one.

        Identical variants (at least 50 units, none of which differ) have the interval [0, 0]: the difference on these
        units is known exactly. The accompanying warning bounds what it may be on others.
        """
        if self.rates is not None:
            return self.rates.interval(confidence)
        if self.bootstrap is not None and self.n >= fewest_units(confidence):
            return self.bootstrap.interval(confidence)
        return (0.0, 0.0) if self.identical and self.n >= FEW else None

    def difference(self, confidence: float = 0.95, higher_is_better: bool | None = None) -> Difference:
        """Return the difference with interval, outcome and power at this confidence."""
        ends = self.interval(confidence)
        warnings = self.warnings
        if ends is None and self.bootstrap is not None:
            warnings = (*warnings, too_few(self.n, confidence))
        if self.value is not None and self.n < FEW:
            warnings = (*warnings, small_sample_warning(self.n, self.unit))
        equal = self.identical and self.n >= FEW
        outcome: Outcome = "equal" if equal else outcome_of(ends, higher_is_better)
        source = self.rates or self.bootstrap
        error = source.standard_error if source and ends is not None else None
        needed = None
        if outcome == "undecided" and self.value is not None and error is not None:
            needed = needed_n(self.value, 0.0, error, self.n, confidence=confidence)
        wins, losses = (self.below, self.above) if higher_is_better is False else (self.above, self.below)
        return Difference(
            value=self.value,
            low=None if ends is None else ends[0],
            high=None if ends is None else ends[1],
            n=self.n,
            method=self.method,
            outcome=outcome,
            mde=None if not error else minimum_detectable_effect(error, confidence=confidence),
            needed_n=needed,
            p_value=self._two_sided() if ends is not None else None,
            wins=wins,
            ties=self.ties,
            losses=losses,
            confidence=confidence,
            warnings=warnings,
        )

    def _two_sided(self) -> float | None:
        if self.rates is not None and self.rates.factor == 1.0:
            return mcnemar_exact(self.rates.gained, self.rates.lost)
        if self.rates is not None:
            return self.rates.p_value
        if self.bootstrap is not None:
            return min(1.0, 2.0 * min(self.bootstrap.p_below(0.0), self.bootstrap.p_above(0.0)))
        return 1.0 if self.identical else None


def outcome_of(ends: tuple[float, float] | None, higher_is_better: bool | None, nothing: float = 0.0) -> Outcome:
    """Return the outcome that the interval proves; ``nothing`` is the value of no difference (1 for ratios)."""
    if ends is None or ends[0] <= nothing <= ends[1]:
        return "undecided"
    if higher_is_better is None:
        return "different"
    return "better" if (ends[0] > nothing) == higher_is_better else "worse"


def small_sample_warning(n: int, unit: str) -> str:
    """Return the warning attached to every comparison of fewer than 50 units."""
    return f"Only {n} {unit} were compared: below {FEW}, intervals of skewed differences are too short."


def weigh_difference(
    candidate: Samples,
    reference: Samples,
    sums: Callable[[], tuple[FloatArray, FloatArray]],
    *,
    factor: float = 1.0,
    unit: str = "dialogues",
) -> PairedEvidence:
    """Return what the pairs say about candidate - ``factor``·reference (the factor is 1 unless a limit is relative).

    ``sums`` returns both sides' sums over the shared resamples, for samples as ``align`` returns them. ``unit`` is a
    word for what has a value; if units share conversations, conversations are counted instead.
    """
    if candidate.kind != reference.kind or candidate.statistics.shape[1:] != reference.statistics.shape[1:]:
        raise ValueError("only samples of the same metric can be compared")
    candidate, reference = align(candidate, reference)
    n = count(candidate)
    unit = counted(candidate, unit)
    if n == 0:
        return PairedEvidence(None, 0, "none", warnings=(f"No {unit} have a value in both.",), unit=unit)
    broken = not_finite(candidate) or not_finite(reference)
    if broken:
        return PairedEvidence(None, n, "none", warnings=(broken,), unit=unit)
    wins = replace(_count_wins(candidate, reference, n), unit=unit)
    if candidate.kind == "rate" and is_binary(candidate) and is_binary(reference) and not is_clustered(candidate):
        return _rates(candidate, reference, wins, factor)
    if factor == 1.0 and np.array_equal(candidate.statistics, reference.statistics):
        return replace(wins, value=0.0, identical=True, method="no unit differs", warnings=(_identical(n, unit),))
    return _means(candidate, reference, wins, factor, sums)


def _count_wins(candidate: Samples, reference: Samples, n: int) -> PairedEvidence:
    """Return evidence with only the counts of units above, equal and below."""
    mine, theirs = unit_values(candidate), unit_values(reference)
    known = np.isfinite(mine) & np.isfinite(theirs)
    above = int((mine[known] > theirs[known]).sum())
    below = int((mine[known] < theirs[known]).sum())
    return PairedEvidence(None, n, "none", above=above, ties=int(known.sum()) - above - below, below=below)


def _rates(candidate: Samples, reference: Samples, wins: PairedEvidence, factor: float) -> PairedEvidence:
    pairs = defined_units(candidate)
    mine, theirs = candidate.statistics[pairs, 0], reference.statistics[pairs, 0]
    rates = PairedRates(
        both=int(((mine == 1) & (theirs == 1)).sum()),
        gained=int((mine > theirs).sum()),
        lost=int((mine < theirs).sum()),
        n=int(pairs.sum()),
        factor=factor,
    )
    identical = factor == 1.0 and rates.gained == rates.lost == 0
    return replace(
        wins,
        value=rates.value,
        method="Agresti–Min; exact McNemar p" if factor == 1.0 else "Agresti–Min",
        rates=rates,
        identical=identical,
        warnings=(_identical(rates.n, wins.unit),) if identical else (),
    )


def _means(
    candidate: Samples,
    reference: Samples,
    wins: PairedEvidence,
    factor: float,
    sums: Callable[[], tuple[FloatArray, FloatArray]],
) -> PairedEvidence:
    columns = candidate.statistics.shape[1]
    both = np.hstack([by_cluster(candidate), by_cluster(reference)])

    def subtract(totals: FloatArray) -> FloatArray:
        theirs = reference.aggregate(totals[..., columns:])
        gap: FloatArray = candidate.aggregate(totals[..., :columns]) - factor * theirs
        return gap

    with np.errstate(all="ignore"):
        total = both.sum(axis=0)
        value = float(subtract(total))
        # The rounding error of a small difference is relative to the values, not to the difference.
        magnitude = abs(float(reference.aggregate(total[columns:]))) * max(1.0, abs(factor)) + abs(value)
    if not np.isfinite(value):
        return replace(wins, warnings=("The difference is not a finite number.",))
    if wins.n == 1:
        return replace(wins, value=value, warnings=(too_few(1, 0.95),))
    bootstrap = bca(both, subtract, np.hstack(sums()), magnitude=magnitude)
    if bootstrap is None:
        alike = f"All {wins.n} differences are identical, so there is no interval."
        return replace(wins, value=value, warnings=(alike,))
    clustered = ", clustered by conversation (n counts conversations)" if is_clustered(candidate) else ""
    return replace(wins, value=value, bootstrap=bootstrap, method=f"paired {bootstrap.method}{clustered}")


def _identical(n: int, unit: str) -> str:
    """Return the warning that bounds the share of differing units elsewhere (Clopper–Pearson's bound for 0 of n)."""
    share = 1.0 - 0.025 ** (1.0 / n)
    return f"None of the {n} {unit} differ. Up to {100 * share:.2g} % of unseen {unit} may differ (95 % bound)."
