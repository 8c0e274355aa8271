"""All passes at their defaults, as one command: base, adapter and merged of Llama-2-7B's geometry, 128 dialogues.

Weights are random and made on the spot; neither speed nor memory depends on what they say. ``harness run`` is started
as a process; printed are its wall time, what the latency pass reached within its budget, and how far the first-token
and per-token medians of a second latency pass, in a process of its own, are from the first's.

    python -m benchmarks.default_passes --work /tmp/models --out benchmarks/results/default_passes_h100.json
    python -m benchmarks.default_passes --shape tiny --device cpu --dialogues 12 --budget 0.3 --out tiny.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.random_models import SHAPES, random_dialogues
from benchmarks.random_variants import make_variants
from harness.results.latency import Latency
from harness.results.timings import Condition
from harness.store.folder import RunFolder
from harness.store.schema import pass_names


def main() -> int:
    """Read the options, run the commands and write what they took and found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dialogues", type=int, default=128)
    parser.add_argument("--budget", type=float, help="minutes of the latency pass; default the harness's own")
    parser.add_argument("--passes", default=",".join(pass_names()))
    parser.add_argument("--again", action="store_true", help="time latency once more, in another process")
    parser.add_argument("--work", type=Path, help="folder for models (27 GB for 7b) and runs; default a temporary one")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="default-passes-"))
    work.mkdir(parents=True, exist_ok=True)
    variants = make_variants(work, options.shape, options.device)[:3]
    rows = random_dialogues(options.dialogues, SHAPES[options.shape]["vocab_size"])
    source = work / "dialogues.jsonl"
    lines = [json.dumps({"instruction": row.prompt, "output": row.reference}) for row in rows]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config: dict[str, Any] = {
        "variants": [one.model_dump(mode="json", exclude_none=True) for one in variants],
        "dialogues": {"source": str(source), "split": "all", "leakage": "warn"},
        "device": options.device,
    }
    if options.budget:
        config["latency"] = {"budget_minutes": options.budget}
    result: dict[str, Any] = {"benchmark": "default_passes", "shape": options.shape, "dialogues": options.dialogues}
    result["first"] = measured(work, "first", config, tuple(options.passes.split(",")))
    if options.again:
        result["again"] = measured(work, "again", config, ("latency",))
        result["apart"] = apart(result["first"]["medians"], result["again"]["medians"])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result.get("apart"), indent=1))
    return 0


def measured(work: Path, name: str, config: dict[str, Any], passes: tuple[str, ...]) -> dict[str, Any]:
    """Run the command into a new folder; return its seconds, what latency reached and the medians."""
    number = sum(1 for _ in work.glob(f"{name}-*"))
    file, out = work / f"{name}-{number}.json", work / f"{name}-{number}"
    file.write_text(json.dumps({**config, "passes": list(passes)}), encoding="utf-8")
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "harness", "run", str(file), "--out", str(out)], check=True)
    seconds = time.monotonic() - started
    folder = RunFolder(out)
    provenance, summary = folder.read_manifest().provenance, folder.read_summary()
    medians = {
        f"{metric} {variant}": estimate.value
        for metric, found in summary.metrics.items()
        if metric.startswith(("latency.ttft_ms.p50", "latency.tpot_ms.p50"))
        for variant, estimate in found.variants.items()
    }
    ratios = {
        f"{one.variant}/{one.against}": [one.low, one.value, one.high]
        for one in summary.comparisons
        if one.metric == "latency.tpot_ms.p50"
    }
    latency = Latency(folder, folder.read_manifest())
    launching = {
        f"{variant} {engine}": None if part is None else part.quantile(0.5)
        for variant in latency.records
        for engine in latency.engines
        for suffix in [latency.suffix(Condition(engine, 1))]
        for part in [latency.distribution(f"latency.ttft_host_ms.p50{suffix}", variant)]
    }
    print(f"{name}: {seconds:.0f} s; of TTFT, ms of launching: {json.dumps(launching)}")
    found = {key: provenance.get(key) for key in ("latency_precision", "latency_warm_up", "hardware")}
    print(json.dumps({"ratios": ratios, "medians": medians, "reached": found["latency_precision"]}, indent=1))
    return {"seconds": seconds, "ratios": ratios, "medians": medians, "launching_ms": launching, **found}


def apart(first: dict[str, Any], again: dict[str, Any]) -> dict[str, float]:
    """Return by how much the medians of the second run differ from the first's, as a share."""
    return {name: again[name] / value - 1 for name, value in first.items() if value and again.get(name)}


if __name__ == "__main__":
    sys.exit(main())
