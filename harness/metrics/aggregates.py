"""How summed statistics become values, for corpus metrics of every family."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def ratio(sums: FloatArray) -> FloatArray:
    """Return first over second of summed statistics of shape (..., 2); NaN where the second is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)


def exponential_ratio(sums: FloatArray) -> FloatArray:
    """Return e to the ratio; infinite where that is too large, without a warning."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(ratio(sums)), dtype=np.float64)


def bits_ratio(sums: FloatArray) -> FloatArray:
    """Return the ratio of nats to bytes in bits a byte."""
    return np.asarray(ratio(sums) / np.log(2), dtype=np.float64)
