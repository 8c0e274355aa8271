"""Many tests at once, of what is only displayed: Benjamini–Hochberg. What stops a release is the gate's (Holm).

A missing p-value (None) stays missing and is not counted among the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.stats.types import FloatArray


def benjamini_hochberg(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return q-values in the order given (Benjamini & Hochberg 1995); they hold the false discovery rate."""
    present, order = _sorted(p_values)
    steps = present.size / np.arange(1, present.size + 1)
    return _restore(p_values, order, np.minimum.accumulate((present * steps)[::-1])[::-1])


def _sorted(p_values: Sequence[float | None]) -> tuple[FloatArray, list[int]]:
    order = sorted((i for i, p in enumerate(p_values) if p is not None), key=lambda i: p_values[i] or 0.0)
    present = np.array([p_values[i] for i in order], dtype=np.float64)
    if present.size and not bool(np.all((present >= 0.0) & (present <= 1.0))):
        raise ValueError("p-values lie between 0 and 1")
    return present, order


def _restore(p_values: Sequence[float | None], order: list[int], adjusted: FloatArray) -> tuple[float | None, ...]:
    result: list[float | None] = [None] * len(p_values)
    for index, value in zip(order, np.minimum(adjusted, 1.0), strict=True):
        result[index] = float(value)
    return tuple(result)
