"""A run folder as pandas frames, for your own analyses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.results import frames_shown
from harness.results.timings import e2e_ms, tpot_ms, ttft_ms
from harness.store.folder import RunFolder
from harness.store.schema import ComparisonRow, LatencyRecord, MemoryRecord, RunManifest, Summary

_TIMINGS = {"ttft_ms": ttft_ms, "e2e_ms": e2e_ms, "tpot_ms": tpot_ms}


@dataclass(frozen=True, repr=False)
class RunFrames:
    """One run. A notebook shows it as a table.

    ``replies``: a row per variant and dialogue (id, variant, prompt, reference, reply, token counts, finish, nll in
    nats summed over the reference, error).
    ``scores``: a row per variant, dialogue and metric (value; ``left_out``: whether the summary excludes it, having no
    value). A difference of two variants is over the dialogues that are excluded for neither.
    ``latencies``: a row per timed request (ttft_ms, tpot_ms, e2e_ms, output_tokens, engine, batch, repeat, …).
    ``memory``: a row per fresh process, sizes in MiB.
    ``summary``: a row per metric and variant (value, low, high, n, unit); ``comparisons``: a row per difference.
    """

    path: Path
    manifest: RunManifest
    replies: pd.DataFrame
    scores: pd.DataFrame
    latencies: pd.DataFrame
    memory: pd.DataFrame
    summary: pd.DataFrame
    comparisons: pd.DataFrame

    def __repr__(self) -> str:
        return frames_shown.text(self)

    def _repr_html_(self) -> str:
        return frames_shown.markup(self)


def load_frames(path: str | Path) -> RunFrames:
    """Read a run folder; raise InputError if it is not one or is not finished."""
    folder = RunFolder(path)
    manifest = folder.read_manifest()
    summary = folder.read_summary()
    names = [str(variant["name"]) for variant in manifest.variants]
    replies, scores = _replies(folder, names)
    return RunFrames(
        path=folder.root,
        manifest=manifest,
        replies=replies,
        scores=scores,
        latencies=_latencies(folder, names),
        memory=_memory(folder, names),
        summary=_summary(summary),
        comparisons=_frame([row.model_dump() for row in summary.comparisons], *ComparisonRow.model_fields),
    )


def _replies(folder: RunFolder, variants: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    dialogues = {row.id: row for row in folder.dialogues()}
    replies: list[dict[str, object]] = []
    scores: list[dict[str, object]] = []
    for variant in variants:
        for row in folder.replies(variant):
            dialogue = dialogues.get(row.id)
            replies.append(
                {
                    "id": row.id,
                    "variant": variant,
                    "prompt": dialogue.prompt if dialogue else None,
                    "reference": dialogue.reference if dialogue else None,
                    **row.model_dump(exclude={"id", "scores", "statistics", "findings", "undefined"}),
                }
            )
            scores.extend(
                {"id": row.id, "variant": variant, "metric": metric, "value": value, "left_out": value is None}
                for metric, value in row.scores.items()
            )
    return pd.DataFrame(replies), _frame(scores, "id", "variant", "metric", "value", "left_out")


def _latencies(folder: RunFolder, variants: list[str]) -> pd.DataFrame:
    rows = [
        {
            "variant": variant,
            **record.model_dump(exclude={"stamps_ns", "key"}),
            "output_tokens": len(record.stamps_ns),
            **{name: timing(record) for name, timing in _TIMINGS.items()},
        }
        for variant in variants
        for record in folder.records(LatencyRecord, "latency", variant)
    ]
    fields = [name for name in LatencyRecord.model_fields if name not in {"stamps_ns", "key"}]
    return _frame(rows, "variant", *fields, "output_tokens", *_TIMINGS)


def _memory(folder: RunFolder, variants: list[str]) -> pd.DataFrame:
    rows = [
        {"variant": variant, **record.model_dump(exclude={"key"})}
        for variant in variants
        for record in folder.records(MemoryRecord, "memory", variant)
    ]
    return _frame(rows, "variant", *(name for name in MemoryRecord.model_fields if name != "key"))


def _frame(rows: Sequence[Mapping[str, object]], *columns: str) -> pd.DataFrame:
    """Return the rows as a frame that has its columns even if empty, so that queries work if a pass was not run."""
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(columns))


def _summary(summary: Summary) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "metric": name,
                "variant": variant,
                **estimate.model_dump(include={"value", "low", "high", "n"}),
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
            }
            for name, metric in summary.metrics.items()
            for variant, estimate in metric.variants.items()
        ]
    )
