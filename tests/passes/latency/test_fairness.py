"""Equal variants on a drifting machine are found equal, and a slowdown is found: by the pass's order and the analysis.

No clock is read: a simulated machine, whose speed drifts and jitters, stamps the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.files import write_rows
from harness.metrics.loading import all_specs
from harness.metrics.registry import MetricOptions
from harness.passes.latency.session import Order, time_unit
from harness.passes.latency.units import Unit
from harness.results.analysis import Analysis
from harness.stats.types import Difference
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, LatencyRecord, RunManifest
from harness.variants.model import Variant

RUNS = 150
PROMPTS, REPEATS, TOKENS = 16, 3, 5
A, B = (Variant(name=name, kind="base", model="-") for name in "ab")
MOST_FALSE_ALARMS = 0.05 + 1.96 * math.sqrt(0.05 * 0.95 / RUNS)


class DriftingMachine:
    """Serves requests one after another while it slows down by a third over the run, with jitter and a random walk."""

    def __init__(self, seed: int, slowdown: float = 1.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.slowdown = slowdown
        self.now = 0
        self.served = 0
        self.wander = 0.0

    def request(self, unit: Unit, variant: Variant, repeat: int) -> list[LatencyRecord]:
        total = PROMPTS * REPEATS * 2
        self.wander += self.rng.normal(0, 0.002)
        drift = 1 + self.served / total / 3 + self.wander
        step = 5e6 * drift * (self.slowdown if variant.name == "b" else 1.0) * math.exp(self.rng.normal(0, 0.01))
        submitted = self.now
        gaps = step * np.exp(self.rng.normal(0, 0.02, unit.reply_tokens))
        gaps[0] += step * 0.01 * unit.longest
        stamps = submitted + np.cumsum(gaps).astype(np.int64)
        self.now = int(stamps[-1])
        self.served += 1
        return [LatencyRecord(
            id=unit.name, key="k", repeat=repeat, order=self.served, prompt_tokens=unit.longest,
            submitted_ns=submitted, stamps_ns=tuple(stamps.tolist()),
        )]  # fmt: skip


def units() -> list[Unit]:
    rows = [DialogueRow(id=f"p{number}", prompt="") for number in range(PROMPTS)]
    return [Unit("fixed", "eager", row.id, row, ((0,) * (10 + 9 * n),), TOKENS, REPEATS) for n, row in enumerate(rows)]


def compare(
    folder: Path, seed: int, *, groups: Sequence[Sequence[Variant]] = ((A, B),), slowdown: float = 1.0
) -> Difference:
    """Time both variants as the pass does (each group by itself) and return b / a as the analysis sees it."""
    machine = DriftingMachine(seed, slowdown)
    records: dict[str, list[LatencyRecord]] = {"a": [], "b": []}
    for group in groups:
        for place, unit in enumerate(units()):
            for name, found in time_unit(unit, group, seed, Order((place,)), machine.request).items():
                records[name] += found
    run = RunFolder(folder / str(seed))
    for name, rows in records.items():
        write_rows(run.records_path("latency", name), rows)
    described = tuple({"name": name, "kind": "base"} for name in records)
    run.write_manifest(RunManifest(state="complete", config={}, config_digest="", variants=described))
    analysis = Analysis(run, registry=all_specs(MetricOptions()), resamples=1000, seed=seed)
    return analysis.difference("latency.tpot_ms.p50", "b", "a")


def share(found: Sequence[Difference], *outcomes: str) -> float:
    return sum(one.outcome in outcomes for one in found) / len(found)


def test_equal_variants_under_drift_differ_no_oftener_than_stated(tmp_path: Path) -> None:
    found = [compare(tmp_path, seed) for seed in range(RUNS)]
    assert share(found, "better", "worse") <= MOST_FALSE_ALARMS
    assert np.median([one.value or 0.0 for one in found]) == pytest.approx(1.0, abs=0.005)


def test_a_tenth_slower_is_found(tmp_path: Path) -> None:
    found = [compare(tmp_path, seed, slowdown=1.1) for seed in range(30)]
    assert share(found, "worse") == 1.0
    assert np.median([one.value or 0.0 for one in found]) == pytest.approx(1.1, abs=0.01)


def test_one_variant_after_the_other_takes_drift_for_a_difference(tmp_path: Path) -> None:
    """What interleaving is for: without it, the same machine makes equal variants look different."""
    found = [compare(tmp_path, seed, groups=((A,), (B,))) for seed in range(30)]
    assert share(found, "worse") > 0.5
