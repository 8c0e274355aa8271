"""How a quantity is spread over the units of a run: for curves, which show more than a median and its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.stats.types import FloatArray


@dataclass(frozen=True)
class Distribution:
    """``values`` in rising order. Its quantiles are those that the summary has of the same values."""

    values: FloatArray

    @property
    def percent(self) -> FloatArray:
        """How many percent of the values are at most as large as each."""
        return np.arange(1, len(self.values) + 1) / len(self.values) * 100

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.values, share))
