"""Run folders made in a test: complete, sealed, with the values that the test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.files import write_model, write_rows
from harness.metrics.loading import all_specs
from harness.metrics.registry import MetricOptions
from harness.passes.latency.units import Unit
from harness.results.summarize import summarize
from harness.store import seals
from harness.store.folder import RunFolder
from harness.store.schema import (
    DialogueRow,
    FidelityRecord,
    LatencyRecord,
    MemoryRecord,
    ReplyRow,
    RunManifest,
    SetSummary,
)

Values = Mapping[str, Mapping[str, Sequence[float | None]]]  # variant -> metric -> one value a dialogue
REFERENCE_TOKENS = 20
HARDWARE = {"cpu": "Example CPU, 2 cores", "gpu": None}


def random_values(
    dialogues: int = 120, *, seed: int = 0, gain: float = 0.2, variants: Sequence[str] = ("base", "adapter", "merged")
) -> dict[str, dict[str, list[float | None]]]:
    """Return values in which every variant but the first is better by ``gain`` nats and half of that in ROUGE."""
    generator = np.random.default_rng(seed)
    nll = generator.normal(2.5, 0.3, dialogues)
    rouge = generator.uniform(0.1, 0.4, dialogues)
    values: dict[str, dict[str, list[float | None]]] = {}
    for position, variant in enumerate(variants):
        better = 0.0 if position == 0 else gain
        noise = generator.normal(0, 0.02, (2, dialogues))
        empty = generator.random(dialogues) < 0.01
        values[variant] = {
            "quality.nll": [float(value) for value in nll - better + noise[0]],
            "quality.rouge_l": [float(value) for value in np.clip(rouge + better / 2 + noise[1], 0, 1)],
            "quality.empty": [float(value) for value in empty],
        }
    return values


def make_run(
    root: Path,
    values: Values | None = None,
    *,
    state: str = "complete",
    tokens_ms: Mapping[str, Sequence[float]] | None = None,
    rss_mib: Mapping[str, Sequence[float]] | None = None,
    kl: Mapping[str, Sequence[float]] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    ids: Sequence[str] | None = None,
    generation: Mapping[str, Any] | None = None,
    unanswered: Mapping[str, Sequence[str]] | None = None,
    modules: Sequence[str] = (),
    resamples: int = 1000,
    seal: bool = True,
    **manifest: Any,
) -> RunFolder:
    """Write a run folder and return it.

    ``values``: per-dialogue values of each variant and metric (default: ``random_values()``). ``tokens_ms``: of each
    variant the milliseconds a token of each timed request. ``rss_mib``: peak RSS of each fresh process. ``kl``: of each
    variant its divergence from the adapter at every token of each dialogue. ``columns``:
    the dialogues' further columns. ``unanswered``: dialogues that a variant has no reply to. ``modules``: further
    metrics of the run's config. Further keywords replace fields of ``run.json``. The summary is the project's own, of
    fewer resamples.
    """
    values = random_values() if values is None else values
    folder = RunFolder(root)
    variants = tuple(values)
    count = len(next(iter(next(iter(values.values())).values())))
    ids = [f"d{number:04d}" for number in range(count)] if ids is None else list(ids)
    _write_dialogues(folder, ids, columns or {})
    for variant, metrics in values.items():
        missing = set((unanswered or {}).get(variant, ()))
        rows = [_reply(name, position, metrics) for position, name in enumerate(ids) if name not in missing]
        write_rows(folder.replies_path(variant), rows)
    for variant, requests in (tokens_ms or {}).items():
        write_rows(folder.records_path("latency", variant), _latency(ids, requests))
    for variant, sizes in (rss_mib or {}).items():
        rows_of_memory = [
            MemoryRecord(id=f"repeat-{number}", key="k", peak_rss_mib=size) for number, size in enumerate(sizes)
        ]
        write_rows(folder.records_path("memory", variant), rows_of_memory)
    for variant, each in (kl or {}).items():
        write_rows(folder.records_path("fidelity", variant), [_fidelity(*pair) for pair in zip(ids, each, strict=True)])
    facts: dict[str, Any] = {
        "state": state,
        "config": {
            "generation": dict(generation or {"max_new_tokens": 64}),
            "passes": ["scoring", "generation", "latency", "memory"],
            "metric_options": {"modules": list(modules)},
            "stats": {"resamples": resamples},
            "seed": 42,
            "device": "cpu",
        },
        "config_digest": "0" * 64,
        "variants": tuple(_variant(name) for name in variants),
        "reference_variant": variants[0],
        "template": "know-medical",
        "template_digest": "1" * 64,
        "provenance": {"hardware": HARDWARE, "git": {"commit": "0123abc", "dirty": False}},
        "started": "2025-01-01T00:00:00+00:00",
        **manifest,
    }
    folder.write_manifest(RunManifest(**facts))
    _write_summary(folder)
    return reseal(folder) if seal else folder


def with_sets(folder: RunFolder, first: str, **further: Values) -> RunFolder:
    """Make the run one over several sets: itself is the ``first``, the others have the values given."""
    manifest = folder.read_manifest()
    names = (first, *further)
    folder.write_manifest(
        manifest.model_copy(update={"config": {**manifest.config, "sets": {name: {} for name in names}}})
    )
    for name, values in further.items():
        make_run(folder.set_folder(name).root, values)
    return reseal(folder, summarized=True)


def reseal(folder: RunFolder, *, summarized: bool = False) -> RunFolder:
    """Seal a folder (again), as its runner does at the end; ``summarized``: write its summary again before."""
    manifest = folder.read_manifest()
    if summarized:
        _write_summary(folder)
    inputs = {key: digest for key, digest in manifest.digests.items() if not seals.is_measured(key)}
    folder.write_manifest(manifest.model_copy(update={"digests": {**inputs, **seals.seal(folder)}}))
    return folder


def _write_summary(folder: RunFolder) -> None:
    manifest = folder.read_manifest()
    options = MetricOptions.model_validate(manifest.config.get("metric_options", {}))
    summary = summarize(folder, registry=all_specs(options))
    further = {name: one.read_summary() for name, one in folder.further_sets().items()}
    if manifest.sets:
        sets = {name: SetSummary.of(one) for name, one in {manifest.sets[0]: summary, **further}.items()}
        summary = summary.model_copy(update={"sets": sets})
    write_model(folder.summary_path, summary)


def change_manifest(folder: RunFolder, **fields: Any) -> RunFolder:
    """Replace fields of ``run.json``."""
    folder.write_manifest(folder.read_manifest().model_copy(update=fields))
    return folder


def _variant(name: str) -> dict[str, Any]:
    kind = name if name in ("base", "adapter", "merged") else "base"
    return {"name": name, "kind": kind, "model": "models/example", "quantization": "none", "dtype": "float32"}


def _write_dialogues(folder: RunFolder, ids: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> None:
    rows = [
        DialogueRow(
            id=name,
            prompt=f"What helps against ailment {name}?",
            reference=f"Rest and water help against ailment {name}.",
            columns={column: cells[position] for column, cells in columns.items()},
        )
        for position, name in enumerate(ids)
    ]
    write_rows(folder.dialogues_path, rows)


def _reply(name: str, position: int, metrics: Mapping[str, Sequence[float | None]]) -> ReplyRow:
    scores = {metric: values[position] for metric, values in metrics.items()}
    nll = scores.get("quality.nll")
    statistics = {} if nll is None else {"quality.nll": (nll * REFERENCE_TOKENS, float(REFERENCE_TOKENS))}
    return ReplyRow(
        id=name,
        prompt_tokens=12,
        reply=f"Rest against ailment {name}.",
        reply_tokens=8,
        finish="eos",
        nll=None if nll is None else nll * REFERENCE_TOKENS,
        reference_tokens=REFERENCE_TOKENS,
        scores=scores,
        statistics=statistics,
    )


def _fidelity(name: str, kl: float) -> FidelityRecord:
    return FidelityRecord(
        id=name,
        key="k",
        against="adapter",
        kl=(kl,) * REFERENCE_TOKENS,
        agree=REFERENCE_TOKENS,
        max_abs_dlogp=kl,
        nll=50.0,
        nll_against=50.0,
        reference_tokens=REFERENCE_TOKENS,
    )


def _latency(ids: Sequence[str], requests: Sequence[float], tokens: int = 16) -> list[LatencyRecord]:
    """Every dialogue's request in turn; more requests than dialogues are repeats."""
    rows, now = [], 1_000_000_000
    for position, milliseconds in enumerate(requests):
        step = round(milliseconds * 1e6)
        stamps = tuple(now + 2 * step + step * token for token in range(tokens))
        name = ids[position % len(ids)]
        unit = Unit("fixed", "eager", name, DialogueRow(id=name, prompt=""), (tuple(range(12)),), tokens, repeats=1)
        repeat = position // len(ids)
        rows.append(unit.record(key="k", repeat=repeat, order=position, submitted_ns=now, stamps_ns=stamps))
        now = stamps[-1] + 1_000_000
    return rows
