"""The made-up run's latency, memory and fidelity records."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.config import LatencyConfig
from harness.files import write_json, write_rows
from harness.passes.latency.units import Prompts, plan
from harness.results.memory_fits import memory_table
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, FidelityRecord, LatencyRecord, MemoryRecord
from tests.reports.sample_facts import TPOT_MS, Sample


def write_latency(folder: RunFolder, sample: Sample, dialogues: list[DialogueRow], rng: np.random.Generator) -> None:
    """Write what the latency pass plans for these dialogues, timed by a clock of our own."""
    rows = tuple(dialogues[:16])
    prompts = tuple(tuple(range(index, index + 64)) for index in range(len(rows)))
    settings = LatencyConfig(
        reply_tokens=48, engine="eager", batch_sizes=(1, 4, 16, 64), batches=2, prompt_lengths=(128,), natural=False
    )
    units = plan(Prompts(rows, prompts, context=1024, longest_reply=256), settings, "cpu")
    records: dict[str, list[LatencyRecord]] = {variant: [] for variant in sample.variants}
    asked = ((unit, repeat, variant) for unit in units for repeat in range(unit.repeats) for variant in records)
    for order, (unit, repeat, variant) in enumerate(asked):
        step = TPOT_MS[variant] * (1 + 0.02 * (unit.batch - 1))
        gaps = step * (1 + rng.gamma(2.0, 0.015, unit.reply_tokens))
        gaps[0] = step * 2.4 * (1 + rng.gamma(2.0, 0.05))
        start = 1_000_000_000 + order * 900_000_000
        stamps = tuple(int(stamp) for stamp in start + np.cumsum(gaps) * 1e6)
        records[variant].append(unit.record(key="k", repeat=repeat, order=order, submitted_ns=start, stamps_ns=stamps))
    for variant, found in records.items():
        write_rows(folder.records_path("latency", variant), found)


MEMORY = {
    "base": (13.5, 0.9, 1.4),
    "base-nf4": (4.1, 0.9, 1.9),
    "adapter": (4.4, 0.9, 2.1),
    "merged": (13.5, 0.9, 1.4),
}


def write_memory(folder: RunFolder, sample: Sample) -> None:
    for variant in sample.variants:
        weights, cache, work = (gib * 1024 for gib in MEMORY[variant])
        facts: dict[str, Any] = {
            "device": "cuda:0",
            "weights_mib": weights,
            "kv_cache_mib": cache,
            "activations_mib": work,
            "peak_reserved_mib": weights + cache + work + 420.0,
            "peak_rss_mib": 2900.0,
            "nvml_used_mib": weights + cache + work + 900,
            "disk_mib": weights,
            "kv_bytes_per_token": 524288,
        }
        rows = [
            MemoryRecord(
                id=f"repeat-{k}",
                key="k",
                peak_allocated_mib=weights + cache + work + k,
                load_seconds=8.2 + k,
                **facts,
            )
            for k in range(2)
        ]
        write_rows(folder.records_path("memory", variant), rows)
    write_json(folder.memory_path, memory_table(folder, list(sample.variants)))


def write_fidelity(folder: RunFolder, dialogues: list[DialogueRow], rng: np.random.Generator) -> None:
    rows = [
        FidelityRecord(
            id=d.id,
            key="k",
            against="adapter",
            kl=tuple(rng.gamma(0.6, 0.0004, 30).tolist()),
            agree=29,
            max_abs_dlogp=0.04,
            nll=75.0,
            nll_against=75.01,
            reference_tokens=30,
        )
        for d in dialogues
    ]
    write_rows(folder.records_path("fidelity", "merged"), rows)
    worst = {"name": "layers.3.self_attn.v_proj", "relative_error": 0.021, "kept": 0.998}
    report = {"schema": 1, "variants": {"merged": {"worst_layers": [worst]}}}
    write_json(folder.root / "fidelity_weights.json", report)
