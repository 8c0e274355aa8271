"""Two variants on the same units: the paired difference, wins and losses, and the power of the comparison.

Mean and corpus metrics: BCa bootstrap of the difference over units, not below a t interval; above
``jackknife.LARGE`` units the jackknife's t interval alone. Rates: Tango's score
interval, not below McNemar's exact test. Where fewer units differ than an exact test needs to decide anything, there
is only a bound. The outcome follows the interval, so that page and gate agree, and the p-value agrees with both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from harness.stats.bootstrap import Bootstrap, bca
from harness.stats.intervals import is_binary, not_finite, too_few
from harness.stats.jackknife import LARGE, Jackknife, jackknife
from harness.stats.power import critical_value, fewest_units, minimum_detectable_effect, needed_n
from harness.stats.proportions import PairedRates, clopper_pearson
from harness.stats.samples import align, by_cluster, count, counted, defined_units, is_clustered, unit_values
from harness.stats.types import Difference, FloatArray, Outcome, Samples

FEW = 50
_BOUND = "bound on the share that differs, times the range of the values"


@dataclass(frozen=True)
class PairedEvidence:
    """What paired samples say about one difference, before a confidence level is chosen.

    ``differing`` counts the units whose two values differ, and ``span`` is the largest difference that the values seen
    allow; both are None where they are not needed. ``above``/``ties``/``below`` count units by the candidate's value
    relative to the reference's. ``unit`` is a word for what n counts.
    """

    value: float | None
    n: int
    method: str
    bootstrap: Bootstrap | Jackknife | None = None
    rates: PairedRates | None = None
    differing: int | None = None
    span: float | None = None
    above: int | None = None
    ties: int | None = None
    below: int | None = None
    warnings: tuple[str, ...] = ()
    unit: str = "dialogues"

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Return the two-sided interval, or None if the data do not support one.

        Where too few units differ for anything exact to decide (``fewest_units``), it is what that many can show: at
        most the Clopper–Pearson share of unseen ones differ, and each by at most ``span`` or what was seen.
        """
        if self.rates is not None:
            return self.rates.interval(confidence)
        if self.n < fewest_units(confidence) or self.value is None:
            return None
        if self.differing is not None and self._few_differ(confidence):
            each = max(self.span or 0.0, abs(self.value) * self.n / max(self.differing, 1))
            reach = clopper_pearson(self.differing, self.n, confidence)[1] * each
            return (-reach, reach) if reach > 0.0 else None
        return None if self.bootstrap is None else self.bootstrap.interval(confidence)

    def _few_differ(self, confidence: float) -> bool:
        return self.rates is None and self.differing is not None and self.differing < fewest_units(confidence)

    def difference(self, confidence: float = 0.95, higher_is_better: bool | None = None) -> Difference:
        """Return the difference with interval, outcome and power at this confidence."""
        ends = self.interval(confidence)
        outcome = outcome_of(ends, higher_is_better)
        if self.differing == 0 and self.n >= FEW:
            outcome = "equal"
        error = None
        if ends is not None:  # at least what the interval's width implies
            made = self.bootstrap.standard_error if self.bootstrap else 0.0
            error = max(made, (ends[1] - ends[0]) / 2.0 / critical_value(confidence))
        needed = None
        if outcome == "undecided" and self.value is not None and error is not None:
            needed = needed_n(self.value, 0.0, error, self.n, confidence=confidence)
        wins, losses = (self.below, self.above) if higher_is_better is False else (self.above, self.below)
        return Difference(
            value=self.value,
            low=None if ends is None else ends[0],
            high=None if ends is None else ends[1],
            n=self.n,
            method=_BOUND if ends is not None and self._few_differ(confidence) else self.method,
            outcome=outcome,
            mde=None if not error else minimum_detectable_effect(error, confidence=confidence),
            needed_n=needed,
            p_value=None if ends is None else self._two_sided(confidence),
            wins=wins,
            ties=self.ties,
            losses=losses,
            confidence=confidence,
            warnings=(*self.warnings, *self._cautions(confidence)),
        )

    def _two_sided(self, confidence: float) -> float | None:
        if self.rates is not None:
            return self.rates.p_value
        if self.differing is not None and self._few_differ(confidence):
            return min(1.0, 2.0 * 0.5**self.differing)  # the least that a sign test of so many can give
        if self.bootstrap is None:
            return None
        return min(1.0, 2.0 * min(self.bootstrap.p_below(0.0), self.bootstrap.p_above(0.0)))

    def _cautions(self, confidence: float) -> tuple[str, ...]:
        """Return the warnings that depend on how many units there are, and how many of them differ."""
        if self.value is None:
            return ()
        found = []
        fewest = fewest_units(confidence)
        if self.bootstrap is not None and self.n < fewest:
            found.append(too_few(self.n, confidence))
        if self.differing is not None and self.differing < fewest:
            found.append(_bound_on_others(self.differing, self.n, self.unit, confidence))
        if self.n < FEW:
            found.append(small_sample_warning(self.n, self.unit))
        return tuple(found)


def outcome_of(ends: tuple[float, float] | None, higher_is_better: bool | None, nothing: float = 0.0) -> Outcome:
    """Return the outcome that the interval proves; ``nothing`` is the value of no difference (1 for ratios)."""
    if ends is None or ends[0] <= nothing <= ends[1]:
        return "undecided"
    if higher_is_better is None:
        return "different"
    return "better" if (ends[0] > nothing) == higher_is_better else "worse"


def small_sample_warning(n: int, unit: str) -> str:
    """Return the warning attached to every comparison of fewer than 50 units."""
    return f"Only {n} {unit} were compared: below {FEW}, only large differences can be shown."


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
    rate = candidate.kind == "rate" and is_binary(candidate) and is_binary(reference)
    if factor == 1.0:
        if rate and not is_clustered(candidate):
            return _rates(candidate, reference, wins)
        apart = (by_cluster(candidate) != by_cluster(reference)).any(axis=1)
        wins = replace(wins, differing=int(apart.sum()), span=1.0 if rate else _span(candidate, reference))
        if not apart.any():
            return replace(wins, value=0.0, method="no unit differs")
    return _means(candidate, reference, wins, factor, sums)


def _count_wins(candidate: Samples, reference: Samples, n: int) -> PairedEvidence:
    """Return evidence with only the counts of units above, equal and below."""
    mine, theirs = unit_values(candidate), unit_values(reference)
    known = np.isfinite(mine) & np.isfinite(theirs)
    above = int((mine[known] > theirs[known]).sum())
    below = int((mine[known] < theirs[known]).sum())
    return PairedEvidence(None, n, "none", above=above, ties=int(known.sum()) - above - below, below=below)


def _span(candidate: Samples, reference: Samples) -> float | None:
    """Return the range of all values of both, or None if there is none."""
    values = np.concatenate([unit_values(candidate), unit_values(reference)])
    values = values[np.isfinite(values)]
    return (float(np.ptp(values)) or None) if values.size else None


def _rates(candidate: Samples, reference: Samples, wins: PairedEvidence) -> PairedEvidence:
    pairs = defined_units(candidate)
    mine, theirs = candidate.statistics[pairs, 0], reference.statistics[pairs, 0]
    rates = PairedRates(gained=int((mine > theirs).sum()), lost=int((mine < theirs).sum()), n=int(pairs.sum()))
    return replace(
        wins,
        value=rates.value,
        method="Tango's score interval, not below exact McNemar",
        rates=rates,
        differing=rates.gained + rates.lost,
    )


def _means(
    candidate: Samples,
    reference: Samples,
    wins: PairedEvidence,
    factor: float,
    sums: Callable[[], tuple[FloatArray, FloatArray]],
) -> PairedEvidence:
    columns = candidate.statistics.shape[1]
    parts = [by_cluster(candidate), by_cluster(reference)]

    def subtract(totals: FloatArray) -> FloatArray:
        theirs = reference.aggregate(totals[..., columns:])
        gap: FloatArray = candidate.aggregate(totals[..., :columns]) - factor * theirs
        return gap

    with np.errstate(all="ignore"):
        total = np.concatenate([part.sum(axis=0) for part in parts])
        value = float(subtract(total))
        # The rounding error of a small difference is relative to the values, not to the difference.
        magnitude = abs(float(reference.aggregate(total[columns:]))) * max(1.0, abs(factor)) + abs(value)
    if not np.isfinite(value):
        return replace(wins, warnings=("The difference is not a finite number.",))
    if wins.n == 1:
        return replace(wins, value=value, warnings=(too_few(1, 0.95),))
    bootstrap: Bootstrap | Jackknife | None
    if len(parts[0]) > LARGE:
        bootstrap = jackknife(parts, subtract, magnitude=magnitude)
    else:
        bootstrap = bca(np.hstack(parts), subtract, np.hstack(sums()), magnitude=magnitude)
    if bootstrap is None:
        alike = f"All {wins.n} differences are identical, so there is no interval."
        return replace(wins, value=value, warnings=(alike,))
    clustered = ", clustered by conversation (n counts conversations)" if is_clustered(candidate) else ""
    return replace(wins, value=value, bootstrap=bootstrap, method=f"paired {bootstrap.method}{clustered}")


def _bound_on_others(differing: int, n: int, unit: str, confidence: float) -> str:
    """Return the warning that bounds the share of differing units elsewhere (Clopper–Pearson's upper end)."""
    share = 100.0 * clopper_pearson(differing, n, confidence)[1]
    seen = f"Only {differing} of the {n} {unit} differ" if differing else f"None of the {n} {unit} differ"
    why = f": fewer than {fewest_units(confidence)} decide nothing" if differing else ""
    return f"{seen}{why}. Up to {share:.2g} % of unseen {unit} may differ ({100 * confidence:.4g} % bound)."
