"""Does the interval over training seeds hold the truth? Simulated differences of dialogues × seeds, normal effects.

Writes, for every mixture of effects, how often the interval misses the true mean, how often the one over dialogues
alone does, and how much wider it is. From three seeds on at most 10 % may miss it, give or take three standard errors.

    python -m benchmarks.training_seeds --out benchmarks/results/training_seeds.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.stats.bootstrap import Resamples
from harness.stats.samples import from_values
from harness.stats.seeds import SeedsEvidence, weigh_seeds
from harness.stats.types import FloatArray, Samples

Spreads = tuple[float, float, float]  # standard deviations of dialogues, of seeds, and of what is left
MIXTURES: dict[str, Spreads] = {
    "dialogues": (1.0, 0.0, 0.5),
    "dialogues and rest": (1.0, 0.0, 1.0),
    "rest alone": (0.0, 0.0, 1.0),
    "few seeds' effect": (1.0, 0.07, 1.0),
    "all three": (1.0, 0.2, 1.0),
    "much of the seeds": (0.3, 0.2, 0.3),
    "seeds": (0.05, 0.5, 0.05),
}
LIMIT = 0.10


def main() -> int:
    """Read the options, simulate, write the results; return 1 where a rate is beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--dialogues", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for k in options.seeds:
        for name, spreads in MIXTURES.items():
            for n in options.dialogues:
                found = simulated(n, k, spreads, options.runs)
                rows.append({"effects": name, "spreads": spreads, "seeds": k, "dialogues": n, **found})
                print(rows[-1], flush=True)
    result = {"benchmark": "training_seeds", "runs": options.runs, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["kept"] for row in rows) else 1


def simulated(n: int, k: int, spreads: Spreads, runs: int) -> dict[str, Any]:
    """Return how often both intervals miss the true mean, 0.2, and the median ratio of their widths."""
    generator = np.random.default_rng([n, k, *(round(spread * 1000) for spread in spreads)])
    missed, alone, ratios = 0, 0, []
    for _ in range(runs):
        evidence = drawn(generator, n, k, spreads, mean=0.2)
        found, these = evidence.difference(), evidence.dialogues.interval(0.95)
        if found.low is None or found.high is None or these is None:
            raise AssertionError("so many dialogues have an interval")
        missed += not found.low <= 0.2 <= found.high
        alone += not these[0] <= 0.2 <= these[1]
        ratios.append((found.high - found.low) / (these[1] - these[0]))
    kept = k < 3 or missed / runs <= LIMIT + 3 * math.sqrt(LIMIT * (1 - LIMIT) / runs)
    return {
        "missed": missed / runs, "missed_by_dialogues_alone": alone / runs,
        "width": round(statistics.median(ratios), 2), "kept": kept,
    }  # fmt: skip


def drawn(generator: np.random.Generator, n: int, k: int, spreads: Spreads, mean: float = 0.0) -> SeedsEvidence:
    """Return the evidence of k seeds over n dialogues whose differences have these spreads around a true mean."""
    dialogues, seeds, rest = spreads
    reference = generator.normal(size=n)
    shared = reference + mean + dialogues * generator.normal(size=n)
    each = [shared + seeds * generator.normal() + rest * generator.normal(size=n) for _ in range(k)]
    return weigh_seeds([_samples(one) for one in each], _samples(reference), _sums)


def _samples(values: FloatArray) -> Samples:
    return from_values([f"d{place:04}" for place in range(len(values))], values.tolist())


def _sums(samples: Samples) -> FloatArray:
    return _resamples(len(samples.ids)).sums(samples.statistics)


@cache
def _resamples(n: int) -> Resamples:
    return Resamples(n, resamples=300)


if __name__ == "__main__":
    sys.exit(main())
