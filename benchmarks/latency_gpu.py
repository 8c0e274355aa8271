"""What serving costs: {base, adapter, merged, base nf4, adapter over nf4} x {eager, compiled} x batch {1, 16, 64}.

Llama-2-7B's geometry with random weights made on the spot. The numbers come from the latency and memory passes and the
analysis themselves, over run folders under ``--work``. Parts, in this order (each is written when it is done):

- ``compiled``: fixed replies, the sweep and prompts of set lengths on the compiled engine;
- ``again``: its batch 1 once more, which must agree within 3 % on every median;
- ``eager``: the same as ``compiled`` with plain ``generate``, with fewer tokens;
- ``peer``: ``peers/plain_loop.py`` on the merged model, against the eager engine at batch 1;
- ``memory``: each variant in fresh processes, and once more where time is left.

The settings fill two commands of at most ten minutes on an H100 or H200. On an H100, with ``--prompts 8``, making the
models took 33 s (once, with ``--work``), compiled 360 s (100 of them compilation, which is gone), again 63 s;
eager 184 s, peer 11 s, memory 77 s a round. Six batches of each size are the fewest that give a median an interval.

    python -m benchmarks.latency_gpu --parts compiled,again --out benchmarks/results/latency_compiled.json
    python -m benchmarks.latency_gpu --parts eager,peer,memory --out benchmarks/results/latency_eager.json
    python -m benchmarks.latency_gpu --shape tiny --device cpu --prompts 6 --batches 2 --out tiny.json    # in minutes
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.peers.plain_loop import time_plainly
from benchmarks.random_variants import SHAPES, make_variants, random_prompts
from harness.backends.local.backend import LocalBackends
from harness.backends.local.device import resolve_device
from harness.backends.local.pool import SharedPool
from harness.config import RunConfig
from harness.errors import HarnessError
from harness.files import digest_value, write_rows
from harness.machine import machine_state
from harness.metrics.loading import all_specs
from harness.passes import memory
from harness.passes.base import PassContext
from harness.passes.latency import run as latency
from harness.progress import SilentProgress
from harness.results.analysis import Analysis
from harness.results.memory_fits import memory_table
from harness.results.timings import Condition, tpot_ms, ttft_ms
from harness.store.folder import RunFolder
from harness.store.provenance import provenance
from harness.store.schema import DialogueRow, LatencyRecord, RunManifest
from harness.variants.model import Variant

PARTS = ("compiled", "again", "eager", "peer", "memory")
NEEDS = {"again": "compiled", "peer": "eager"}  # the part it is compared with, in the same process
BATCHES = (1, 16, 64)
MEMORY_ROUNDS = 2
METRICS = ("ttft_ms.p50", "tpot_ms.p50", "tokens_per_s", "mbu")
PAIRS = (("adapter", "merged"), ("adapter-nf4", "base-nf4"), ("merged", "base"))


def main() -> int:
    """Read the options, run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", type=parts_of, default=PARTS, help=f"of {', '.join(PARTS)}")
    parser.add_argument("--reply-tokens", type=int, default=32, help="of the compiled engine")
    parser.add_argument("--eager-tokens", type=int, default=12)
    parser.add_argument("--prompts", type=int, default=16, help="prompts at batch 1")
    parser.add_argument("--batches", type=int, default=6, help="batches of each size, and prompts of each set length")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--deadline", type=float, default=460.0, help="seconds after which no further part is begun")
    parser.add_argument("--work", type=Path, help="folder for models and runs (27 GB for 7b); default a temporary one")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write; records go beside it")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="latency-"))
    try:
        return 1 if Benchmark(options, work).run(options.parts) else 0
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)


def parts_of(text: str) -> tuple[str, ...]:
    """Return the parts named, in the order in which they are run."""
    asked = set(text.split(","))
    unknown = sorted(asked - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"no part is called {', '.join(unknown)}: there are {', '.join(PARTS)}")
    for part, needed in NEEDS.items():
        if part in asked and needed not in asked:
            raise argparse.ArgumentTypeError(f"{part} is compared with {needed}: name both parts")
    return tuple(part for part in PARTS if part in asked)


class Benchmark:
    """The parts of one sitting, over the same models in one process."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options = options
        self.work = work
        self.started = time.monotonic()
        self.device = resolve_device(options.device)
        self.rows = random_prompts(options.prompts, options.shape)
        self.variants = make_variants(work, options.shape, self.device)
        self.pool = SharedPool(self.variants, self.device)
        self.result: dict[str, Any] = {
            "benchmark": "latency_gpu",
            "shape": {"name": options.shape, **SHAPES[options.shape]},
            "settings": {name: getattr(options, name) for name in ("prompts", "batches", "repeats")},
            "provenance": provenance(42),
            "seconds": {"models": self.elapsed()},
        }

    def run(self, parts: Sequence[str]) -> list[str]:
        """Run the parts until the deadline, writing the result after each; return those that failed.

        A part that fails leaves its error in the result and does not cost the others their time on the machine.
        """
        failed = []
        for part in parts:
            if self.elapsed() > self.options.deadline:
                say(f"{part}: not begun, the deadline is over")
                continue
            begun = self.elapsed()
            work: Callable[[], Any] = getattr(self, f"part_{part}")
            try:
                self.result[part] = work()
            except Exception as error:
                traceback.print_exc()
                self.result[part] = {"error": f"{type(error).__name__}: {error}"}
                failed.append(part)
            self.result["seconds"][part] = round(self.elapsed() - begun, 1)
            self.options.out.parent.mkdir(parents=True, exist_ok=True)
            self.options.out.write_text(json.dumps(self.result, indent=1) + "\n", encoding="utf-8")
            say(f"{part}: {self.result['seconds'][part]} s, {self.elapsed():.0f} s in all")
            for line in table(self.result[part]):
                say(line)
        return failed

    def part_compiled(self) -> dict[str, Any]:
        return self.time("compiled", "compiled", self.options.reply_tokens)

    def part_again(self) -> dict[str, Any]:
        again = self.time("again", "compiled", self.options.reply_tokens, batches=(1,), lengths=())
        return {**again, **agreement(self.result["compiled"].get("cells", ()), again["cells"])}

    def part_eager(self) -> dict[str, Any]:
        return self.time("eager", "eager", self.options.eager_tokens)

    def part_peer(self) -> dict[str, Any]:
        """The merged model by a plain loop over the prompts, beside what the pass recorded for them."""
        merged = self.variants[2]
        records = RunFolder(self.work / "run-eager").records(LatencyRecord, "latency", merged.name)
        fixed = [record for record in records if record.workload == "fixed"]
        with self.pool.use(merged) as loaded:
            prompts = [loaded.tokenizer(row.prompt)["input_ids"] for row in self.rows]
            times = [time_plainly(loaded.model, prompt, self.options.eager_tokens) for prompt in prompts]
        plain = [statistics.median(column) for column in zip(*times, strict=True)]
        measured = ([of(record) for record in fixed] for of in (ttft_ms, tpot_ms))
        found = [statistics.median(value for value in values if value is not None) for values in measured]
        return {
            name: {"plain_loop": one, "latency_pass": other, "apart": other / one - 1}
            for name, one, other in zip(("ttft_ms", "tpot_ms"), plain, found, strict=True)
        }

    def part_memory(self) -> dict[str, Any]:
        """A round over all variants, and another where it can end in time: repeats show whether the first was luck."""
        table: dict[str, Any] = {}
        events: list[dict[str, Any]] = []
        before = machine_state(self.device)
        for number in range(1, MEMORY_ROUNDS + 1):
            begun = self.elapsed()
            settings = {"device": self.device, "memory": {"repeats": number}}
            context, found, _ = self.context("memory", settings, keep=number > 1)
            for variant in self.variants:
                try:
                    memory.run(replace(context, variants=(variant,)))
                except HarnessError as error:  # its process died: what the others and the first round gave stands
                    found.append({"kind": "memory.failed", "detail": str(error)})
            events += found
            table = memory_table(context.folder, [variant.name for variant in self.variants])
            if 2 * self.elapsed() - begun > self.options.deadline + 100:
                break
        state = {"before": before, "after": machine_state(self.device)}
        digest = keep_records(context.folder, self.options.out, "memory")
        return {**table, "events": events, "machine_state": state, "records_sha256": digest}

    def time(
        self, name: str, engine: str, tokens: int, batches: Sequence[int] = BATCHES, lengths: Sequence[int] = (128, 512)
    ) -> dict[str, Any]:
        """Run the latency pass and return a cell for every variant and batch, with what the pass found besides."""
        settings = {
            "engine": engine,
            "budget_minutes": None,
            "prompts": self.options.prompts,
            "batches": self.options.batches,
            "repeats": self.options.repeats,
            "reply_tokens": tokens,
            "batch_sizes": batches,
            "prompt_lengths": lengths,
            "natural": False,
            "warmup": 2,
        }
        context, events, facts = self.context(name, {"device": self.device, "latency": settings})
        try:
            latency.run(context)
        finally:  # what was timed before something failed is worth keeping too
            digest = keep_records(context.folder, self.options.out, name)
        context.folder.write_manifest(
            RunManifest(
                state="complete",
                config=context.config.model_dump(mode="json"),
                config_digest="benchmark",
                variants=tuple(variant.model_dump(mode="json") for variant in self.variants),
                provenance=facts,
            )
        )
        analysis = Analysis(context.folder, registry=all_specs(context.config.metric_options))
        return {
            "tokens": tokens,
            "cells": cells(analysis, engine, batches),
            "prompts_of_set_lengths": prefill(analysis),
            "ratios": ratios(analysis, engine, batches),
            "events": events,
            "facts": {key: facts[key] for key in ("machine_state", "latency_warm_up", "roofline")},
            "records_sha256": digest,
        }

    def context(
        self, name: str, settings: dict[str, Any], *, keep: bool = False
    ) -> tuple[PassContext, list[dict[str, Any]], dict[str, Any]]:
        """Return what a pass is given, the events and the facts that it will tell; ``keep`` goes on with a run."""
        folder = RunFolder(self.work / f"run-{name}")
        if not keep:
            shutil.rmtree(folder.root, ignore_errors=True)
        write_rows(folder.dialogues_path, self.rows)
        events: list[dict[str, Any]] = []
        facts: dict[str, Any] = {}

        def event(kind: str, detail: Mapping[str, Any]) -> None:
            events.append({"kind": str(kind), **detail})

        context = PassContext(
            folder=folder,
            config=RunConfig(variants=self.variants, **settings),
            variants=self.variants,
            dialogues=self.rows,
            backends=LocalBackends(self.variants, self.device, event=event, pool=self.pool),
            device=self.device,
            progress=SilentProgress(),
            key=key,
            event=event,
            fact=facts.__setitem__,
        )
        return context, events, facts

    def elapsed(self) -> float:
        return time.monotonic() - self.started


def key(pass_name: str, variant: Variant, row: DialogueRow) -> str:
    return digest_value([pass_name, variant.model_dump(mode="json"), row.id, row.prompt])[:32]


def metric_name(analysis: Analysis, metric: str, condition: Condition) -> str:
    return f"latency.{metric}{analysis.measured.latency.suffix(condition)}"


def cells(analysis: Analysis, engine: str, batches: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for each variant and batch: every metric with its interval."""
    rows = []
    for batch in batches:
        for variant in analysis.measured.variants:
            row: dict[str, Any] = {"variant": variant, "engine": engine, "batch": batch}
            for metric in METRICS:
                estimate = analysis.estimate(metric_name(analysis, metric, Condition(engine, batch)), variant)
                row[metric] = {part: getattr(estimate, part) for part in ("value", "low", "high", "n")}
            rows.append(row)
    return rows


def agreement(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how far apart the medians of two runs are; ``missing`` names those that only one of them, or none, has."""
    first = {cell_name(cell): cell for cell in before}
    apart: dict[str, float] = {}
    missing = []
    for cell in after:
        for metric in METRICS[:2]:
            name = f"{cell_name(cell)} {metric}"
            one = first.get(cell_name(cell), {}).get(metric, {}).get("value")
            other = cell[metric]["value"]
            if one and other:
                apart[name] = other / one - 1
            else:
                missing.append(name)
    worst = max(map(abs, apart.values()), default=None)
    within = worst is not None and worst <= 0.03 and not missing
    return {"apart": apart, "missing": missing, "worst": worst, "within_3_percent": within}


def prefill(analysis: Analysis) -> list[dict[str, Any]]:
    """Return TTFT and the share of the matrix throughput for prompts of set lengths."""
    return [
        {
            "metric": name,
            "variant": variant,
            **{part: getattr(analysis.estimate(name, variant), part) for part in ("value", "low", "high", "n")},
        }
        for name in analysis.measured.metric_names
        if "prompt_tokens=" in name and not name.startswith("latency.ttft_ms.p95")
        for variant in analysis.measured.variants_of(name)
    ]


def ratios(analysis: Analysis, engine: str, batches: Sequence[int]) -> list[dict[str, Any]]:
    """Return how many times as long one variant takes as another for a token, paired by prompt."""
    found = []
    for batch in batches:
        name = metric_name(analysis, "tpot_ms.p50", Condition(engine, batch))
        for variant, against in PAIRS:
            ratio = analysis.difference(name, variant, against)
            parts = {part: getattr(ratio, part) for part in ("value", "low", "high", "n", "outcome")}
            found.append({"batch": batch, "variant": variant, "against": against, **parts})
    return found


def keep_records(folder: RunFolder, out: Path, name: str) -> str:
    """Put the raw stamps beside the result, packed; return the digest of the unpacked records."""
    import tarfile

    paths = sorted((folder.root / "records").rglob("*.jsonl"))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(out.with_name(f"{out.stem}-{name}.tar.gz"), "w:gz") as archive:
        for path in paths:
            archive.add(path, path.relative_to(folder.root))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def cell_name(cell: dict[str, Any]) -> str:
    return f"{cell['variant']} {cell['engine']} {cell['batch']}"


def table(part: dict[str, Any]) -> list[str]:
    """Return a part as lines for the terminal."""
    lines = []
    for cell in part.get("cells", ()):
        figures = [f"{name.partition('.')[0]} {shown(cell[name])}" for name in METRICS]
        lines.append(f"{cell_name(cell):26s} " + "  ".join(figures))
    for row in part.get("ratios", ()):
        lines.append(f"{row['variant']} / {row['against']} at batch {row['batch']}: {shown(row)} {row['outcome']}")
    for name in ("error", "worst", "missing", "events", "ttft_ms", "tpot_ms"):
        if part.get(name):
            lines.append(f"{name}: {part[name]}")
    for name, parts in part.get("variants", {}).items():
        lines.append(f"{name}: {parts}")
    warm_up = part.get("facts", {}).get("latency_warm_up")
    return [*lines, *([f"warm-up: {warm_up}"] if warm_up else [])]


def shown(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "none"
    if estimate["low"] is None or estimate["high"] is None:
        return f"{estimate['value']:.4g}"
    return f"{estimate['value']:.4g} ({estimate['low']:.4g} to {estimate['high']:.4g})"


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
