"""Does the latency pass find differences that are not there, and those that are? For real, on this machine's clock.

Two variants of one and the same model are timed by the pass and compared by the analysis, many times over: they should
differ in at most 5 % of the runs, give or take chance. Before that, one of them is slowed down by a tenth in every
forward, which is a little less than a tenth of a reply. The runs stop at ``--seconds``, whatever they found so far.

    python -m benchmarks.latency_aa --model ../shared/models/medllama-7m --out benchmarks/results/latency_aa.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.backends.local.backend import LocalBackends
from harness.backends.local.pool import LoadedModel, SharedPool
from harness.config import RunConfig
from harness.files import digest_value
from harness.machine import busy_warnings, machine_state
from harness.metrics.loading import all_specs
from harness.passes.base import PassContext
from harness.passes.latency import run as latency
from harness.progress import SilentProgress
from harness.results.analysis import Analysis
from harness.stats.types import Difference
from harness.store.folder import RunFolder
from harness.store.provenance import provenance
from harness.store.schema import DialogueRow, RunManifest
from harness.variants.model import Variant

METRICS = ("latency.tpot_ms.p50", "latency.ttft_ms.p50", "latency.e2e_ms.p50")


class SlowedPool(SharedPool):
    """Lends ``b`` with every forward made to last ``factor`` times as long, by waiting."""

    factor = 1.0

    @contextlib.contextmanager
    def use(self, variant: Variant) -> Iterator[LoadedModel]:
        """See SharedPool."""
        with super().use(variant) as loaded:
            began: list[float] = []
            before = loaded.model.register_forward_pre_hook(lambda *_: began.append(time.perf_counter()))
            after = loaded.model.register_forward_hook(lambda *_: self._wait(variant, began.pop()))
            try:
                yield loaded
            finally:
                before.remove()
                after.remove()

    def _wait(self, variant: Variant, began: float) -> None:
        now = time.perf_counter()
        until = now + (now - began) * (self.factor - 1.0) if variant.name == "b" else now
        while time.perf_counter() < until:
            pass


def main() -> None:
    """Read the options, run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=40, help="comparisons of equal variants")
    parser.add_argument("--slowed-runs", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--reply-tokens", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=330.0, help="after which no further run is begun")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    import torch

    started = time.monotonic()
    torch.set_num_threads(options.threads)
    variants = tuple(
        Variant(name=name, kind="base", model=str(options.model.resolve()), dtype="float32") for name in "ab"
    )
    pool = SlowedPool(variants, "cpu")
    before = machine_state("cpu")

    def runs(count: int, first_seed: int) -> list[dict[str, Difference]]:
        found: list[dict[str, Difference]] = []
        while len(found) < count and time.monotonic() - started < options.seconds:
            found.append(compare(pool, variants, options, first_seed + len(found)))
        return found

    pool.factor = 1.1
    slowed = runs(options.slowed_runs, 1000)
    pool.factor = 1.0
    equal = runs(options.runs, 0)
    after = machine_state("cpu")
    result = {
        "benchmark": "latency_aa",
        "settings": {name: str(value) for name, value in vars(options).items() if name not in ("out", "model")},
        "equal": {metric: equal_or_not(equal, metric) for metric in METRICS},
        "slowed_by_a_tenth": {metric: outcomes(slowed, metric) for metric in METRICS},
        "machine_state": {"before": before, "after": after, "warnings": busy_warnings(before, after)},
        "seconds": round(time.monotonic() - started, 1),
        "provenance": provenance(42),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("equal", "slowed_by_a_tenth", "seconds")}, indent=1))


def compare(
    pool: SharedPool, variants: tuple[Variant, ...], options: argparse.Namespace, seed: int
) -> dict[str, Difference]:
    """Run the latency pass over both variants; return b / a for each metric."""
    pick = random.Random(seed)
    words = [f"word{pick.randrange(1000)}" for _ in range(400)]
    rows = tuple(DialogueRow(id=f"p{n}", prompt=" ".join(words[: 5 + 3 * n])) for n in range(options.prompts))
    settings = {
        "budget_minutes": None, "prompts": options.prompts, "reply_tokens": options.reply_tokens, "repeats": 3,
        "engine": "eager", "natural": False, "batch_sizes": (1,), "prompt_lengths": (10**9,),
    }  # fmt: skip
    config = RunConfig(variants=variants, device="cpu", seed=seed, latency=settings)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(folder)
        facts: dict[str, Any] = {}
        context = PassContext(
            folder=run,
            config=config,
            variants=variants,
            dialogues=rows,
            backends=LocalBackends(variants, "cpu", event=lambda kind, detail: None, pool=pool),
            device="cpu",
            progress=SilentProgress(),
            key=lambda name, variant, row: digest_value([name, variant.name, row.id])[:32],
            event=lambda kind, detail: None,
            fact=facts.__setitem__,
        )
        latency.run(context)
        described = tuple(variant.model_dump(mode="json") for variant in variants)
        run.write_manifest(RunManifest(state="complete", config={}, config_digest="", variants=described))
        analysis = Analysis(run, registry=all_specs(config.metric_options))
        found = {metric: analysis.difference(metric, "b", "a") for metric in METRICS}
    print(seed, {metric: (one.value, one.outcome) for metric, one in found.items()}, flush=True)
    return found


def equal_or_not(found: list[dict[str, Difference]], metric: str) -> dict[str, Any]:
    """Return the outcomes of equal variants, and whether there are no more differences than chance may give."""
    counted = outcomes(found, metric)
    share = (counted["better"] + counted["worse"]) / len(found) if found else None
    limit = 0.05 + 1.96 * math.sqrt(0.05 * 0.95 / len(found)) if found else None
    kept = None if share is None or limit is None else share <= limit
    return {**counted, "share_different": share, "most_by_chance": limit, "no_more_than_chance": kept}


def outcomes(found: list[dict[str, Difference]], metric: str) -> dict[str, Any]:
    """Return how often b was called better, worse or undecided, and the median ratio."""
    those = [one[metric] for one in found]
    counts = {word: sum(one.outcome == word for one in those) for word in ("better", "worse", "undecided")}
    ratios = [one.value for one in those if one.value is not None]
    return {"runs": len(those), **counts, "median_ratio": statistics.median(ratios) if ratios else None}


if __name__ == "__main__":
    main()
