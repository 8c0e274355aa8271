from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from harness.files import write_model, write_rows
from harness.results.coverage import estimated
from harness.results.summarize import summarize
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, GenerationRecord, ScoringRecord, Summary
from tests.results.made_runs import (
    REGISTRY,
    compared,
    ids,
    make_run,
    reply,
    sized,
    timed,
    timed_runs,
    write_records,
    write_replies,
)


def filled(root: Path, n: int = 90) -> RunFolder:
    folder = make_run(root, n=n, variants=("base", "adapter", "merged"))
    generator = np.random.default_rng(0)
    for index, variant in enumerate(("base", "adapter", "merged")):
        rows = [
            reply(
                name,
                scores={"quality.rouge_1": float(generator.uniform() + 0.3 * index), "safety.refusal": float(k < 9)},
                statistics={"quality.perplexity": (float(generator.gamma(9.0)), 5.0)},
            )
            for k, name in enumerate(ids(n))
        ]
        write_replies(folder, variant, rows)
        write_records(folder, "latency", variant, timed_runs(20, seed=index))
        write_records(folder, "memory", variant, [sized(0, weights_mib=100.0), sized(1, weights_mib=100.0)])
    write_records(folder, "fidelity", "merged", [compared(name) for name in ids(n)])
    return folder


def test_every_metric_carries_its_spec_and_its_variants(tmp_path: Path) -> None:
    summary = summarize(filled(tmp_path), registry=REGISTRY)
    rouge = summary.metrics["quality.rouge_1"]
    assert (rouge.unit, rouge.higher_is_better, rouge.signature) == ("unit", True, "quality.rouge_1|v1")
    assert list(rouge.variants) == ["base", "adapter", "merged"]
    assert all(row.low is not None and row.n == 90 for row in rouge.variants.values())
    assert summary.metrics["safety.refusal"].heuristic
    assert list(summary.metrics["fidelity.kl"].variants) == ["merged"]
    assert summary.metrics["memory.weights_mib"].conditions == {"device": "cuda"}
    assert summary.metrics["latency.ttft_ms.p50"].conditions["engine"] == "eager"


def test_every_variant_is_compared_with_the_reference(tmp_path: Path) -> None:
    summary = summarize(filled(tmp_path), registry=REGISTRY)
    pairs = {(row.metric, row.variant, row.against) for row in summary.comparisons}
    assert {("quality.rouge_1", v, "base") for v in ("adapter", "merged")} <= pairs
    assert ("latency.tpot_ms.p50", "merged", "base") in pairs
    assert not any(metric.startswith("fidelity.") for metric, _, _ in pairs)
    assert not any(variant == "base" for _, variant, _ in pairs)
    rouge = next(row for row in summary.comparisons if (row.metric, row.variant) == ("quality.rouge_1", "merged"))
    assert rouge.outcome == "better"
    assert rouge.mde is not None
    assert (rouge.wins or 0) + (rouge.ties or 0) + (rouge.losses or 0) == 90


def test_without_a_stated_reference_the_first_base_is_it(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    folder.write_manifest(folder.read_manifest().model_copy(update={"reference_variant": None}))
    assert {row.against for row in summarize(folder, registry=REGISTRY).comparisons} == {"base"}


def test_the_summary_survives_the_way_to_disk(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    summary = summarize(folder, registry=REGISTRY)
    write_model(folder.summary_path, summary)
    assert json.loads(folder.summary_path.read_text())["schema"] == 1
    assert folder.read_summary().comparisons == summary.comparisons


def test_the_same_folder_gives_the_same_summary(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    assert summarize(folder, registry=REGISTRY) == summarize(folder, registry=REGISTRY)


def test_slices_are_compared_with_q_values_over_all_that_is_shown(tmp_path: Path) -> None:
    summary = summarize(filled(tmp_path), registry=REGISTRY, slices=("source",))
    assert {(row.column, row.level) for row in summary.slices} == {("source", "gp"), ("source", "clinic")}
    assert {row.comparison.n for row in summary.slices if row.level == "clinic"} == {30}
    assert all(row.q_value is None or row.q_value >= (row.comparison.p_value or 0.0) for row in summary.slices)
    assert any("Only 30" in warning for row in summary.slices for warning in row.comparison.warnings)
    assert {row.comparison.metric for row in summary.slices} == {
        "quality.rouge_1",
        "quality.perplexity",
        "safety.refusal",
    }


def coverage(folder: RunFolder) -> dict[str, object]:
    made = summarize(folder, registry=REGISTRY).coverage["base"]
    return {"dialogues": made.dialogues, "answered": made.answered, **made.skipped}


def test_coverage_counts_replies_and_says_why_others_are_missing(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=10, variants=("base",))
    write_replies(folder, "base", [reply(name) for name in ids(10)[:6]])
    records = [GenerationRecord(id=name, key="k", reply="x") for name in ids(10)[:6]]
    records += [
        GenerationRecord(id="d0006", key="k", skipped="too long"),
        GenerationRecord(id="d0007", key="k", error="!"),
    ]
    write_records(folder, "generation", "base", records)
    assert coverage(folder) == {"dialogues": 10, "answered": 6, "too long": 1, "error": 1, "missing": 2}


def test_a_dialogue_too_long_to_score_that_was_replied_to_is_answered_and_not_scored(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=3, variants=("base",))
    rows = [reply(name, scores={"quality.rouge_1": 0.5}) for name in ids(3)]
    write_replies(folder, "base", [*rows[:2], rows[2].model_copy(update={"error": "too long"})])
    write_records(folder, "generation", "base", [GenerationRecord(id=name, key="k", reply="x") for name in ids(3)])
    scored = [ScoringRecord(id=name, key="k", nll=1.0, reference_tokens=1) for name in ids(3)[:2]]
    write_records(folder, "scoring", "base", [*scored, ScoringRecord(id="d0002", key="k", skipped="too long")])
    found = summarize(folder, registry=REGISTRY)
    made = found.coverage["base"]
    assert (made.answered, made.skipped, made.not_scored) == (3, {}, {"too long": 1})
    assert found.metrics["quality.rouge_1"].variants["base"].n == 3


def test_coverage_of_scoring_alone_counts_references_scored(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=10, variants=("base",), config={"passes": ["scoring"]})
    write_replies(folder, "base", [reply(name, nll=1.0).model_copy(update={"reply": None}) for name in ids(10)[:9]])
    assert coverage(folder) == {"dialogues": 10, "answered": 9, "missing": 1}


def test_coverage_of_latency_alone_counts_what_did_not_fail(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=10, variants=("base",), config={"passes": ["latency"]})
    write_records(folder, "latency", "base", [timed("d0000"), timed("d0001", tokens=0, error="out of memory")])
    assert coverage(folder) == {"dialogues": 10, "answered": 9, "error": 1}


def test_a_run_without_any_result_has_a_summary_of_nothing(tmp_path: Path) -> None:
    summary = summarize(make_run(tmp_path, n=3), registry=REGISTRY)
    assert summary.metrics == {}
    assert summary.comparisons == ()
    assert summary.coverage["base"].answered == 0


def test_a_run_without_dialogues_has_a_summary(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=3)
    write_rows(folder.dialogues_path, list[DialogueRow]())
    assert isinstance(summarize(folder, registry=REGISTRY), Summary)


def test_one_dialogue_decides_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path, n=1)
    for variant, value in (("base", 0.1), ("adapter", 0.9)):
        write_replies(folder, variant, [reply("d0000", scores={"quality.rouge_1": value})])
    (row,) = summarize(folder, registry=REGISTRY).comparisons
    assert (row.outcome, row.low, row.high) == ("undecided", None, None)


def test_coverage_carries_its_exact_interval() -> None:
    """276 of 300: the ends are those of scipy's exact binomial interval."""
    exact = binomtest(276, 300).proportion_ci(0.95, method="exact")
    found = estimated(300, 276, {"too long": 24})
    assert (found.value, found.low, found.high) == pytest.approx((0.92, exact.low, exact.high))


def test_coverage_of_no_dialogues_is_no_share() -> None:
    assert estimated(0, 0, {}).value is None
