"""The types shared by the statistical functions: estimates, differences and the samples they are computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Kind = Literal["mean", "rate", "corpus"]
Outcome = Literal["better", "worse", "undecided", "equal", "different"]


@dataclass(frozen=True)
class Estimate:
    """A value with its two-sided interval.

    ``low`` and ``high`` are None if no valid interval exists (too few units); ``value`` is None if nothing was
    measured. ``n`` counts units (dialogues or requests), never tokens, gaps or repeats.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    confidence: float = 0.95
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """Candidate minus reference over their common units, with the power of the comparison.

    ``value``, ``low`` and ``high`` are in the metric's own unit and orientation (larger is not always better).
    If ``relative``, they are ratios candidate/reference (timings).
    ``mde`` is the smallest true difference detected with 80 % power at this n (if ``relative``, the distance of the
    ratio from 1: 0.03 is three percent slower). ``needed_n`` is the number of units that would decide an undecided
    comparison, None if it is decided or no number would.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    outcome: Outcome
    mde: float | None = None
    needed_n: int | None = None
    p_value: float | None = None
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None
    relative: bool = False
    confidence: float = 0.95
    warnings: tuple[str, ...] = ()


Aggregate = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Samples:
    """One metric of one variant: sufficient statistics, one row per unit.

    ``statistics`` has shape (n, k). ``aggregate`` maps sums over units, shape (..., k), to values, shape (...): for a
    mean the columns are (value, 1) and it returns sum/count; for corpus BLEU they are its n-gram counts.
    ``kind`` selects the interval: mean -> BCa bootstrap, rate -> Clopper–Pearson, corpus -> bootstrap over units.
    ``clusters`` (length n) names the conversation of each unit, if units share conversations.
    ``defined`` (length n) marks the units that have a value; the rows of the others are zero. They do not count in n
    but stay in the resampling, so that all metrics of a run share one resample-count matrix.
    ``unit_values`` (length n) are used to count wins; None: ``aggregate`` of each row.
    """

    ids: tuple[str, ...]
    statistics: FloatArray
    aggregate: Aggregate
    kind: Kind
    clusters: tuple[str, ...] | None = None
    defined: BoolArray | None = None
    unit_values: FloatArray | None = None


@dataclass(frozen=True)
class TimingSamples:
    """One quantile metric of one variant: all values of each unit (request or dialogue), e.g. its token gaps.

    The estimate is the ``quantile`` of the pooled values; intervals resample the units. ``clusters`` (one for each
    unit) names its conversation, if units share conversations; these are resampled instead.
    """

    ids: tuple[str, ...]
    values: tuple[FloatArray, ...]
    quantile: float
    clusters: tuple[str, ...] | None = None
