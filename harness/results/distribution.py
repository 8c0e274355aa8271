"""The distribution of a quantity over the units of a run, for curves that show more than a median."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.stats.types import FloatArray


@dataclass(frozen=True)
class Distribution:
    """``values`` in ascending order. Quantiles are computed as in the summary."""

    values: FloatArray

    @property
    def percent(self) -> FloatArray:
        """The percentage of values that are at most as large as each value."""
        return np.arange(1, len(self.values) + 1) / len(self.values) * 100

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.values, share))
