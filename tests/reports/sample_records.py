"""The made-up run's latency, memory and fidelity records."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from harness.files import write_rows, write_text_atomically
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, FidelityRecord, LatencyRecord, MemoryRecord
from tests.reports.sample_facts import TPOT_MS, Sample


def write_latency(folder: RunFolder, sample: Sample, dialogues: list[DialogueRow], rng: np.random.Generator) -> None:
    for variant in sample.variants:
        records = []
        step = TPOT_MS[variant]
        for order, (dialogue, repeat) in enumerate((d, r) for d in dialogues[:16] for r in range(3)):
            records.append(_request(dialogue.id, "fixed", 1, repeat, order, step, 48, rng))
        for batch in (1, 4, 16, 64):
            for order in range(batch):
                records.append(
                    _request(f"sweep-{order}", "sweep", batch, 0, batch * 100, step * (1 + 0.02 * batch), 48, rng)
                )
        write_rows(folder.records_path("latency", variant), records)


def _request(
    name: str, workload: Any, batch: int, repeat: int, order: int, step: float, tokens: int, rng: np.random.Generator
) -> LatencyRecord:
    gaps = step * (1 + rng.gamma(2.0, 0.015, tokens))
    first = step * 2.4 * (1 + rng.gamma(2.0, 0.05))
    start = 1_000_000_000 + order * 900_000_000
    stamps = start + np.cumsum(np.concatenate(([first], gaps[1:]))) * 1e6
    return LatencyRecord(
        id=name,
        key="k",
        workload=workload,
        engine="eager",
        batch=batch,
        repeat=repeat,
        order=order,
        prompt_tokens=64,
        submitted_ns=start,
        stamps_ns=tuple(int(stamp) for stamp in stamps),
    )


MEMORY = {
    "base": (13.5, 0.9, 1.4),
    "base-nf4": (4.1, 0.9, 1.9),
    "adapter": (4.4, 0.9, 2.1),
    "merged": (13.5, 0.9, 1.4),
}


def write_memory(folder: RunFolder, sample: Sample) -> None:
    fits = []
    for variant in sample.variants:
        weights, cache, work = (gib * 1024 for gib in MEMORY[variant])
        rows = [
            MemoryRecord(
                id=f"repeat-{k}",
                key="k",
                device="cuda",
                weights_mib=weights,
                kv_cache_mib=cache,
                activations_mib=work,
                peak_allocated_mib=weights + cache + work + k,
                peak_reserved_mib=weights + cache + work + 420.0,
                peak_rss_mib=2900.0,
                nvml_used_mib=weights + cache + work + 900,
                disk_mib=weights,
                load_seconds=8.2 + k,
            )
            for k in range(2)
        ]
        write_rows(folder.records_path("memory", variant), rows)
        for batch in (1, 16):
            need = (weights + cache * batch + work) / 1024
            on_cards = {str(card): need <= card * 0.9 for card in (8, 12, 16, 24, 40, 80)}
            fits.append(
                {"variant": variant, "batch": batch, "context": 2048, "need_mib": need * 1024, "fits": on_cards}
            )
    write_text_atomically(folder.memory_path, json.dumps({"fits": fits}))


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
    write_text_atomically(folder.root / "fidelity_weights.json", json.dumps(report))
