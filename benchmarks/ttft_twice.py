"""Do two processes find the same time to first token, with prompts as CUDA graphs and without?

Base, adapter and merged, each also over nf4, of Llama-2-7B's geometry with random weights. Each process times the same
prompts of every variant at batch 1 on the compiled engine by the latency pass; printed are the medians of TTFT of two
processes, how far the second's is from the first's, and the host's part of both. Without CUDA there are no graphs.

    python -m benchmarks.ttft_twice --work /tmp/models --out benchmarks/results/ttft_h100.json
    python -m benchmarks.ttft_twice --shape tiny --device cpu --prompts 6 --out tiny.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.latency_gpu import Benchmark
from benchmarks.random_variants import SHAPES, make_variants
from harness.backends.local.device import release_cached_memory, resolve_device
from harness.backends.local.timed import CompiledEngine
from harness.passes.latency import run as latency_pass
from harness.results.latency import Latency
from harness.results.timings import Condition
from harness.store.provenance import provenance
from harness.store.schema import RunManifest

AGREE_WITHIN = 0.05
KINDS = ("graphs", "plain")  # of prompts
Medians = Mapping[str, Mapping[str, float | None]]  # by variant: ttft_ms and ttft_host_ms


def main() -> int:
    """Read the options, run the processes and write what they found; return 1 if prompt graphs do not make it agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--variants", default="base,adapter,merged,base-nf4,adapter-nf4")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=500.0, help="after which no further process is begun")
    parser.add_argument("--work", type=Path, help="folder for models and runs (27 GB for 7b); default a temporary one")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--one", choices=KINDS, help="be one of the processes")
    options = parser.parse_args()
    if options.one:
        return write(options.out, time_once(options))
    started = time.monotonic()
    options.work = options.work or Path(tempfile.mkdtemp(prefix="ttft-"))
    options.device = resolve_device(options.device)
    make_variants(options.work, options.shape, options.device)
    release_cached_memory(options.device)
    result: dict[str, Any] = {"benchmark": "ttft_twice", "shape": options.shape, "provenance": provenance(42)}
    for kind in KINDS if options.device.startswith("cuda") else KINDS[1:]:
        runs: list[dict[str, Any]] = []
        while len(runs) < 2 and time.monotonic() - started < options.seconds:
            runs.append(in_new_process(options, kind, len(runs)))
            result[kind] = {"runs": runs, "apart": apart(*(one["medians"] for one in runs))}
            write(options.out, result)
        print("\n".join(table(kind, runs)), flush=True)
    graphed = result.get("graphs")
    if graphed is None:
        print("no CUDA: there are no graphs of prompts, and the host computes them itself")
        return 0
    most = max(map(abs, graphed["apart"].values()), default=None)
    print(f"with prompt graphs, the medians of two processes are at most {shown(most, '.1%')} apart")
    return int(most is None or most > AGREE_WITHIN)


def in_new_process(options: argparse.Namespace, kind: str, number: int) -> dict[str, Any]:
    """Time every variant in a process of its own; return what ``time_once`` returned there."""
    out = options.work / f"ttft-{kind}-{number}.json"
    named = {name: getattr(options, name) for name in ("shape", "device", "variants", "prompts", "repeats", "work")}
    passed = [f"--{name}={value}" for name, value in named.items()]
    command = [sys.executable, "-m", "benchmarks.ttft_twice", f"--one={kind}", f"--out={out}", *passed]
    began = time.monotonic()
    subprocess.run(command, check=True)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {"seconds": round(time.monotonic() - began, 1), **found}


def time_once(options: argparse.Namespace) -> dict[str, Any]:
    """Run the latency pass at batch 1 in this process; return each variant's medians and what the engine noted."""
    CompiledEngine.prompt_graphs = options.one == "graphs"
    options.batches = 1
    sitting = Benchmark(options, options.work)
    sitting.variants = tuple(one for one in sitting.variants if one.name in options.variants.split(","))
    timing = {
        "engine": "compiled", "budget_minutes": None, "prompts": options.prompts, "repeats": options.repeats,
        "warmup": 2, "reply_tokens": 4, "batch_sizes": (1,), "prompt_lengths": (10**9,), "natural": False,
    }  # fmt: skip
    context, events, facts = sitting.context(f"ttft-{options.one}", {"device": options.device, "latency": timing})
    latency_pass.run(context)
    described = tuple(one.model_dump(mode="json") for one in sitting.variants)
    latency = Latency(context.folder, RunManifest(state="complete", config={}, config_digest="", variants=described))
    return {
        "medians": {variant: medians(latency, variant) for variant in latency.records},
        "captured_seconds": {
            variant: sum(row.setup_seconds for row in rows)
            for variant, by_condition in latency.records.items()
            for rows in by_condition.values()
        },
        "notes": [event for event in events if event["kind"] == "latency-engine"],
        "most_reserved_mib": most_reserved_mib(options.device),
        "machine_state": facts["machine_state"],
        "warm_up": facts["latency_warm_up"],
    }


def most_reserved_mib(device: str) -> float | None:
    """Return the most device memory that this process reserved; None on a CPU."""
    import torch

    return torch.cuda.max_memory_reserved(device) / 2**20 if device.startswith("cuda") else None


def medians(latency: Latency, variant: str) -> dict[str, float | None]:
    """Return the median TTFT of a variant at batch 1 and the host's part of it, None where it has none."""
    suffix = latency.suffix(Condition("compiled", 1))
    found = {name: latency.distribution(f"latency.{name}.p50{suffix}", variant) for name in ("ttft_ms", "ttft_host_ms")}
    return {name: None if one is None else one.quantile(0.5) for name, one in found.items()}


def apart(first: Medians, again: Medians | None = None) -> dict[str, float]:
    """Return by how much the median TTFT of a second process differs from the first's, as a share, by variant."""
    found = {}
    for variant, one in first.items():
        before, after = one["ttft_ms"], (again or {}).get(variant, {}).get("ttft_ms")
        if before and after:
            found[variant] = after / before - 1
    return found


def table(kind: str, runs: list[dict[str, Any]]) -> list[str]:
    """Return the processes of one kind as lines for the terminal."""
    lines = [f"prompts {'as graphs' if kind == 'graphs' else 'without graphs'}: TTFT ms (host's part), one per process"]
    notes = [note["detail"] for run in runs for note in run["notes"]]
    lines += [f"  {note}" for note in dict.fromkeys(notes)]
    ratios = apart(*(one["medians"] for one in runs)) if runs else {}
    for variant in runs[0]["medians"] if runs else ():
        each = [run["medians"][variant] for run in runs]
        times = "  ".join(f"{shown(one['ttft_ms'], '.2f')} ({shown(one['ttft_host_ms'], '.2f')})" for one in each)
        lines.append(f"  {variant:12s} {times}  {shown(ratios.get(variant), '+.1%')}")
    return lines


def shown(value: float | None, how: str) -> str:
    return "none" if value is None else format(value, how)


def write(path: Path, result: dict[str, Any]) -> int:
    """Write a result as JSON; return the exit code for done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
