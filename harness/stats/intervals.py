"""One value with its interval: BCa bootstrap for means and corpus metrics, Clopper–Pearson for rates.

Above ``jackknife.LARGE`` units the jackknife takes the bootstrap's place.

If the data do not support an interval, there is none and a warning says why: nothing measured, a value that is not
finite, too few units, or all units identical (a bootstrap of equal values has zero width, which says something about
the bootstrap but nothing about the next dialogue).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.stats.bootstrap import Bootstrap, bca
from harness.stats.jackknife import LARGE, Jackknife, jackknife
from harness.stats.power import fewest_units
from harness.stats.proportions import clopper_pearson
from harness.stats.samples import by_cluster, count, defined_units, is_clustered
from harness.stats.types import Estimate, FloatArray, Samples


@dataclass(frozen=True)
class ValueEvidence:
    """What the samples say about one value, before a confidence level is chosen.

    ``rate`` holds (successes, n) if the value is a rate. Under clustering these are effective counts, and
    ``rate_units`` is the number of turns behind them if the variance between conversations was estimated.
    """

    value: float | None
    n: int
    method: str
    bootstrap: Bootstrap | Jackknife | None = None
    rate: tuple[float, float] | None = None
    rate_units: int | None = None
    warnings: tuple[str, ...] = ()

    def estimate(self, confidence: float = 0.95) -> Estimate:
        """Return the value with its two-sided interval."""
        warnings = self.warnings
        low: float | None = None
        high: float | None = None
        if self.rate is not None:
            shrink = 1.0 if self.rate_units is None else _few_clusters(self.rate_units, self.n, confidence)
            low, high = clopper_pearson(self.rate[0] * shrink, self.rate[1] * shrink, confidence)
        elif self.bootstrap is not None:
            if self.n >= fewest_units(confidence):
                low, high = self.bootstrap.interval(confidence)
            else:
                warnings = (*warnings, too_few(self.n, confidence))
        return Estimate(self.value, low, high, self.n, self.method, confidence, warnings)


def weigh(samples: Samples, sums: Callable[[], FloatArray]) -> ValueEvidence:
    """Return what the samples say about their value; ``sums`` returns their sums over the shared resamples.

    More than ``LARGE`` units are not resampled, and ``sums`` is not asked.
    """
    n = count(samples)
    if n == 0:
        return ValueEvidence(None, 0, "none", warnings=("Nothing was measured.",))
    broken = not_finite(samples)
    if broken:
        return ValueEvidence(None, n, "none", warnings=(broken,))
    with np.errstate(all="ignore"):
        value = float(samples.aggregate(samples.statistics.sum(axis=0)))
    if not np.isfinite(value):
        return ValueEvidence(None, n, "none", warnings=("The value is not a finite number.",))
    clustered = ", clustered by conversation (n counts conversations)" if is_clustered(samples) else ""
    if samples.kind == "rate" and is_binary(samples):
        units = int(defined_units(samples).sum()) if clustered and 0.0 < value < 1.0 else None
        return ValueEvidence(value, n, f"Clopper–Pearson{clustered}", rate=_rate(samples, value), rate_units=units)
    if n == 1:
        return ValueEvidence(value, n, "none", warnings=(too_few(n, 0.95),))
    statistics = by_cluster(samples)
    bootstrap: Bootstrap | Jackknife | None
    if len(statistics) > LARGE:
        bootstrap = jackknife([statistics], samples.aggregate)
    else:
        bootstrap = bca(statistics, samples.aggregate, sums())
    if bootstrap is None:
        return ValueEvidence(value, n, "none", warnings=(f"All {n} values are identical, so there is no interval.",))
    return ValueEvidence(value, n, bootstrap.method + clustered, bootstrap=bootstrap)


def is_binary(samples: Samples) -> bool:
    """Return whether every unit's value is 0 or 1, so that counting them is a binomial experiment."""
    values = samples.statistics[defined_units(samples)]
    return values.shape[1] == 2 and bool(np.isin(values[:, 0], (0.0, 1.0)).all() and (values[:, 1] == 1.0).all())


def not_finite(samples: Samples) -> str | None:
    """Return a warning with the number of units whose value is not finite, or None.

    A single one invalidates the result: dropping it would flatter the variant that produced it.
    """
    bad = int((~np.isfinite(samples.statistics)).any(axis=1).sum())
    return f"{bad} of {count(samples)} values are not finite numbers, so nothing was computed." if bad else None


def too_few(n: int, confidence: float) -> str:
    """Return the warning for samples too small to support an interval."""
    return f"n = {n}: an interval at {confidence:.3g} needs at least {fewest_units(confidence)}."


def _rate(samples: Samples, value: float) -> tuple[float, float]:
    """Return successes and n, or their effective counterparts under clustering.

    Effective n by Korn & Graubard (1998): p(1-p) over the variance between clusters, at most the number of units;
    the number of clusters if all units agree. ``_few_clusters`` allows for the variance being estimated. Duplicating a
    conversation's turns does not narrow the interval (tests/stats/test_intervals.py).
    """
    units = int(defined_units(samples).sum())
    if not is_clustered(samples):
        return float(round(value * units)), float(units)
    totals = by_cluster(samples)
    clusters = int((totals[:, 1] > 0).sum())
    effective = float(clusters)
    if 0.0 < value < 1.0 and clusters > 1:
        squares = float(((totals[:, 0] - value * totals[:, 1]) ** 2).sum())
        variance = squares * clusters / (clusters - 1) / units**2
        effective = min(float(units), value * (1.0 - value) / variance) if variance > 0.0 else float(clusters)
    return value * effective, effective


def _few_clusters(units: int, clusters: int, confidence: float) -> float:
    """Return Korn & Graubard's factor of the effective n, which allows for a variance estimated from few clusters.

    (t with units - 1 over t with clusters - 1 degrees of freedom)², at the interval's level.
    """
    from scipy.special import stdtrit

    if clusters < 2:
        return 1.0
    tail = (1.0 - confidence) / 2.0
    return float((stdtrit(units - 1, tail) / stdtrit(clusters - 1, tail)) ** 2)
