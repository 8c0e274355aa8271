"""How summed statistics become values, for corpus metrics of every family."""

from __future__ import annotations

import numpy as np

from harness.stats.samples import ratio_of_sums
from harness.stats.types import FloatArray


def exponential_ratio(sums: FloatArray) -> FloatArray:
    """Return e to the ratio; infinite where that is too large, without a warning."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(ratio_of_sums(sums)), dtype=np.float64)


def bits_ratio(sums: FloatArray) -> FloatArray:
    """Return the ratio of nats to bytes in bits a byte."""
    return np.asarray(ratio_of_sums(sums) / np.log(2), dtype=np.float64)
