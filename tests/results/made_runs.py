"""Run folders made of numbers alone, small enough to know every answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.files import write_rows
from harness.metrics.registry import MetricSpec
from harness.stats.samples import ratio_of_sums
from harness.stats.types import FloatArray
from harness.store.folder import RunFolder
from harness.store.schema import (
    DialogueRow,
    FidelityRecord,
    GenerationRecord,
    LatencyRecord,
    MemoryRecord,
    Record,
    ReplyRow,
    RunManifest,
)


def perplexity(sums: FloatArray) -> FloatArray:
    return np.asarray(np.exp(ratio_of_sums(sums)), dtype=np.float64)


def _spec(name: str, aggregation: Any, higher: bool | None = True, **more: Any) -> MetricSpec:
    return MetricSpec(name, "unit", higher, aggregation, f"{name}|v1", name.rpartition(".")[2], **more)


SPECS = (
    _spec("quality.rouge_1", "mean"),
    _spec("quality.length_ratio", "mean", None),
    _spec("quality.perplexity", "corpus", False, statistics=("nll", "tokens"), combine=perplexity),
    _spec("safety.refusal", "rate", False, heuristic=True),
    _spec("fidelity.kl", "corpus", False),
    _spec("fidelity.kl_p99", "quantile", False),
    _spec("fidelity.top1_agreement", "corpus"),
    _spec("fidelity.max_abs_dlogp", "mean", False),
    _spec("fidelity.nll_difference", "corpus", None),
    _spec("fidelity.identical_replies", "rate"),
    _spec("fidelity.first_divergence", "mean"),
    _spec("latency.ttft_ms.p50", "quantile", False),
    _spec("latency.ttft_host_ms.p50", "quantile", False),
    _spec("latency.tpot_ms.p50", "quantile", False),
    _spec("latency.itl_ms.p99", "quantile", False),
    _spec("latency.e2e_ms.p95", "quantile", False),
    _spec("latency.tokens_per_s", "corpus"),
    _spec("latency.goodput", "rate"),
    _spec("latency.mbu", "value"),
    _spec("memory.weights_mib", "value", False),
    _spec("memory.peak_allocated_mib", "value", False),
)
REGISTRY: Mapping[str, MetricSpec] = {spec.name: spec for spec in SPECS}
KINDS = {"base": "base", "adapter": "adapter", "merged": "merged"}


def ids(n: int) -> list[str]:
    return [f"d{index:04}" for index in range(n)]


def make_run(
    root: Path,
    *,
    n: int = 60,
    variants: Sequence[str] = ("base", "adapter"),
    reference: str | None = "base",
    config: Mapping[str, Any] | None = None,
    conversations: Sequence[str] | None = None,
) -> RunFolder:
    """A folder with dialogues of two sources and no results yet."""
    folder = RunFolder(root)
    folder.write_manifest(
        RunManifest(
            schema=1,
            state="complete",
            config={"passes": ["generation"], "stats": {"resamples": 1000}, "seed": 3, **(config or {})},
            config_digest="",
            variants=tuple({"name": name, "kind": KINDS.get(name, "base")} for name in variants),
            reference_variant=reference,
        )
    )
    rows = [
        DialogueRow(
            id=name,
            prompt="word " * (4 if index % 2 else 40),
            columns={"source": "gp" if index % 3 else "clinic"},
            conversation=None if conversations is None else conversations[index],
        )
        for index, name in enumerate(ids(n))
    ]
    write_rows(folder.dialogues_path, rows)
    return folder


def reply(name: str, **facts: Any) -> ReplyRow:
    return ReplyRow(id=name, reply="text", **facts)


def write_replies(folder: RunFolder, variant: str, rows: Sequence[ReplyRow]) -> None:
    write_rows(folder.replies_path(variant), rows)


def write_scores(folder: RunFolder, variant: str, metric: str, values: Sequence[float | None]) -> None:
    rows = [reply(name, scores={metric: value}) for name, value in zip(ids(len(values)), values, strict=True)]
    write_replies(folder, variant, rows)


def write_records(folder: RunFolder, pass_name: str, variant: str, records: Sequence[Record]) -> None:
    write_rows(folder.records_path(pass_name, variant), records)


def timed(
    name: str,
    *,
    step_ms: float = 10.0,
    ttft_ms: float = 50.0,
    tokens: int = 5,
    repeat: int = 0,
    submitted_ms: float = 0.0,
    **more: Any,
) -> LatencyRecord:
    """One request with equal gaps between its tokens."""
    start = submitted_ms + ttft_ms
    stamps = tuple(round((start + step_ms * index) * 1e6) for index in range(tokens))
    return LatencyRecord(
        id=name, key="k", repeat=repeat, submitted_ns=round(submitted_ms * 1e6), stamps_ns=stamps, **more
    )


def timed_runs(
    n: int, *, factor: float = 1.0, repeats: int = 3, seed: int = 0, noise: float = 0.02, **more: Any
) -> list[LatencyRecord]:
    """Requests whose steps take about 10 ms, drifting slowly: repeat r of prompt i is slower the later it comes."""
    generator = np.random.default_rng(seed)
    records = []
    for repeat in range(repeats):
        for index, name in enumerate(ids(n)):
            drift = 1.0 + 0.5 * (repeat * n + index) / (repeats * n)
            step = 10.0 * factor * drift * float(np.exp(generator.normal(0, noise)))
            records.append(timed(name, step_ms=step, ttft_ms=5 * step, repeat=repeat, **more))
    return records


def compared(name: str, against: str = "adapter", kl: Sequence[float] = (0.1, 0.2), **more: Any) -> FidelityRecord:
    facts: dict[str, Any] = {"agree": 1, "max_abs_dlogp": 0.5, "nll": 3.0, "nll_against": 2.0, "reference_tokens": 2}
    return FidelityRecord(id=name, key="k", against=against, kl=tuple(kl), **{**facts, **more})


def generated(name: str, tokens: Sequence[int], reply: str | None = None) -> GenerationRecord:
    text = " ".join(map(str, tokens)) if reply is None else reply
    return GenerationRecord(id=name, key="k", reply=text, tokens=tuple(tokens), reply_tokens=len(tokens), finish="eos")


def sized(repeat: int, **facts: float) -> MemoryRecord:
    return MemoryRecord(id=f"repeat-{repeat}", key="k", device="cuda", **facts)
