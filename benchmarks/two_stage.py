"""Does planning a comparison from its pilot keep what it promises? Simulated log ratios whose truth is known.

Equal variants may be told apart in at most 5 % of the runs, and the precision must be reached in at least 90 % of those
in which the plan did not end at the most requests; give or take three standard errors of the simulation.

    python -m benchmarks.two_stage --out benchmarks/results/two_stage.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.stats.timing import weigh_ratio
from harness.stats.two_stage import ASSURANCE, needed_requests
from harness.stats.types import FloatArray

Draw = Callable[[np.random.Generator, int], FloatArray]
# Each with a standard deviation of 1.
SHAPES: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "laplace": lambda rng, n: rng.laplace(scale=1 / math.sqrt(2), size=n),
    "t(3)": lambda rng, n: rng.standard_t(3, n) / math.sqrt(3),
}
PRECISION = 0.02
MOST = 256


def main() -> int:
    """Read the options, simulate, write the results; return 1 where a rate is beyond its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--pilots", type=int, nargs="+", default=[6, 16])
    parser.add_argument("--spreads", type=float, nargs="+", default=[0.003, 0.02, 0.04])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for name, draw in SHAPES.items():
        for pilot in options.pilots:
            for spread in options.spreads:
                rows.append(
                    {"shape": name, "pilot": pilot, "spread": spread, **simulated(draw, pilot, spread, options.runs)}
                )
                print(rows[-1], flush=True)
    result = {"benchmark": "two_stage", "runs": options.runs, "precision": PRECISION, "most": MOST, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["kept"] for row in rows) else 1


def simulated(draw: Draw, pilot: int, spread: float, runs: int) -> dict[str, Any]:
    """Return how often equal variants were told apart, and how often the precision was reached."""
    rng = np.random.default_rng([pilot, round(spread * 1e6)])
    counts: list[int] = []
    told_apart = reached = 0
    for run in range(runs):
        first = spread * draw(rng, pilot)
        n = needed_requests(first.tolist(), PRECISION, MOST)
        values = np.concatenate([first, spread * draw(rng, n - pilot)])
        ends = weigh_ratio({str(i): value for i, value in enumerate(values)}, resamples=1000, seed=run).interval(0.95)
        if ends is None:
            raise AssertionError("a plan has enough requests for an interval")
        counts.append(n)
        told_apart += not ends[0] <= 0.0 <= ends[1]
        reached += n < MOST and (ends[1] - ends[0]) / 2 <= PRECISION
    able = sum(n < MOST for n in counts)
    false, share = told_apart / runs, reached / able if able else None
    kept = false <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs) and (
        share is None or share >= ASSURANCE - 3 * math.sqrt(ASSURANCE * (1 - ASSURANCE) / able)
    )
    return {
        "told_apart": false, "reached": share, "ended_at_most": runs - able,
        "median_requests": statistics.median(counts), "kept": kept,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
