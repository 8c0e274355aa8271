"""What the replies say about a server's claim, over records and reply files whose every answer is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.files import write_rows
from harness.jobs.score import score
from harness.metrics.loading import all_specs
from harness.metrics.registry import MetricOptions
from harness.results.fidelity import SURE_NATS
from harness.results.summarize import summarize
from harness.store.folder import RunFolder
from harness.store.schema import (
    DialogueRow,
    FidelityRecord,
    GenerationRecord,
    IdentityRow,
    RunManifest,
    ScoringRecord,
    Summary,
)
from reports.identity_view import sentence

COUNT = 20
SURE, NEAR = SURE_NATS + 0.1, SURE_NATS - 0.1


NLL = {"base": 2.5, "merged": 2.5, "served": 2.0}


def made(
    root: Path, base_says: int, behind: Mapping[int, float | None], nll: Mapping[str, float] | None = None
) -> Summary:
    """Return the summary of a run whose served variant replies as merged but for the dialogues in ``behind``.

    Those replies begin as merged's do for two tokens. The base replies as the server to the first ``base_says``.
    """
    folder = RunFolder(root)
    variants = [
        {"name": "base", "kind": "base"},
        {"name": "merged", "kind": "merged"},
        {"name": "served", "kind": "endpoint", "same_as": "merged"},
    ]
    folder.write_manifest(RunManifest(state="complete", config={}, config_digest="", variants=tuple(variants)))
    ids = [f"d{n:02}" for n in range(COUNT)]
    write_rows(folder.dialogues_path, [DialogueRow(id=name, prompt="p", reference="r") for name in ids])
    merged = [("as merged", (1, 2, 3))] * COUNT
    served = [("other", (1, 2, 9)) if n in behind else merged[n] for n in range(COUNT)]
    base = [served[n] if n < base_says else ("as base", (7, 7)) for n in range(COUNT)]
    for name, replies in (("base", base), ("merged", merged), ("served", served)):
        rows: list[Any] = [
            GenerationRecord(id=one, key="", reply=text, tokens=tokens, reply_tokens=len(tokens))
            for one, (text, tokens) in zip(ids, replies, strict=True)
        ]
        write_rows(folder.records_path("generation", name), rows)
        scores = [ScoringRecord(id=one, key="", nll=(nll or NLL)[name], reference_tokens=5) for one in ids]
        write_rows(folder.records_path("scoring", name), scores)
    compared = [
        FidelityRecord(id=one, key="", against="merged", identical=n not in behind, behind=behind.get(n))
        for n, one in enumerate(ids)
    ]
    write_rows(folder.records_path("fidelity", "served"), compared)
    return summarize(folder, all_specs(MetricOptions()), resamples=200)


def identity(summary: Summary) -> IdentityRow:
    (found,) = summary.identities
    return found


def test_the_same_replies_serve_what_is_claimed(tmp_path: Path) -> None:
    found = identity(made(tmp_path, 0, {}))
    assert (found.finding, found.replies, found.nearer) == ("same", COUNT, None)
    assert sentence(found) == "served serves merged: all 20 replies are identical."


def test_near_ties_alone_are_said_to_be_such(tmp_path: Path) -> None:
    found = identity(made(tmp_path, 0, {3: NEAR, 4: NEAR}))
    assert (found.finding, found.near_ties, found.sure) == ("near-ties", 2, 0)
    assert "near-ties only" in sentence(found)
    assert "2 of 20 replies" in sentence(found)


def test_a_forgotten_adapter_is_found_by_the_base_it_leaves(tmp_path: Path) -> None:
    found = identity(made(tmp_path, COUNT, dict.fromkeys(range(10), SURE)))
    assert (found.finding, found.sure, found.nearer) == ("other", 10, "base")
    assert sentence(found) == (
        "served serves something else than merged: 50\u00a0% of replies differ, 50\u00a0% at tokens that merged is "
        "sure of; base is nearer, with 20 of 20 replies identical and an nll that is off by 0.1000 instead of 0.1000."
    )


def test_a_forgotten_adapter_that_changes_no_reply_is_found_by_its_likelihoods(tmp_path: Path) -> None:
    found = identity(made(tmp_path, 0, {}, {"base": 2.0001, "merged": 2.5, "served": 2.0}))
    assert (found.finding, found.nearer) == ("other", "base")
    assert "an nll that is off by" in sentence(found)


def test_likelihoods_that_are_about_as_far_off_name_nobody(tmp_path: Path) -> None:
    found = identity(made(tmp_path, 0, {}, {"base": 2.3, "merged": 2.5, "served": 2.0}))
    assert (found.finding, found.nearer) == ("same", None)


def test_a_weak_adapter_that_is_forgotten_is_found_although_all_its_differences_are_near_ties(tmp_path: Path) -> None:
    found = identity(made(tmp_path, COUNT, dict.fromkeys(range(10), NEAR)))
    assert (found.finding, found.sure, found.nearer) == ("other", 0, "base")


def test_a_variant_that_is_nearer_by_accident_is_not_named(tmp_path: Path) -> None:
    found = identity(made(tmp_path, COUNT, {0: NEAR, 1: NEAR}))  # 2 against 0 dialogues: p = 0.5
    assert (found.finding, found.nearer) == ("near-ties", None)


def test_differences_without_margins_are_not_called_near_ties(tmp_path: Path) -> None:
    found = identity(made(tmp_path, 0, {0: None, 1: NEAR}))
    assert (found.finding, found.unknown) == ("unknown", 1)
    assert "was not measured" in sentence(found)


def test_the_metrics_are_rates_over_dialogues_with_exact_intervals(tmp_path: Path) -> None:
    metrics = made(tmp_path, 0, {0: SURE, 1: NEAR, 2: None}).metrics
    same, sure = (metrics[f"fidelity.{name}"].variants["served"] for name in ("identical_replies", "sure_disagreement"))
    assert (same.value, same.n) == (pytest.approx(17 / 20), 20)
    assert (sure.value, sure.n) == (pytest.approx(1 / 19), 19)
    # Clopper–Pearson of 1 of 19, by scipy.stats.binomtest
    assert (sure.low, sure.high) == (pytest.approx(0.0013317, rel=1e-3), pytest.approx(0.2602812, rel=1e-3))
    assert metrics["fidelity.first_divergence"].variants["served"].value == 2.0
    assert metrics["fidelity.nll_difference"].variants["served"].value == pytest.approx(-0.1)
    assert metrics["fidelity.identical_replies"].conditions == {"against": {"served": "merged"}}
    assert "fidelity.kl" not in metrics


def test_replies_from_files_are_held_against_each_other_without_margins(tmp_path: Path) -> None:
    said = {"ours": "Drink water and rest.", "theirs": "Drink water and sleep."}
    for name, text in said.items():
        rows = [{"id": n, "reference": "Rest.", "reply": said["ours"] if n % 2 else text} for n in range(4)]
        write_rows_as_json(tmp_path / f"{name}.jsonl", rows)
    systems = [f"{name}={tmp_path / name}.jsonl" for name in said]
    folder = score(systems, tmp_path / "out", overrides=["same_as.theirs=ours", "metrics=[rouge]"])
    summary = folder.read_summary()
    assert identity(summary).finding == "unknown"
    assert summary.metrics["fidelity.identical_replies"].variants["theirs"].value == 0.5
    assert summary.metrics["fidelity.first_divergence"].variants["theirs"].value == 3.0
    assert summary.metrics["fidelity.first_divergence"].conditions["counted_in"] == "words"
    assert "fidelity.sure_disagreement" not in summary.metrics
    with pytest.raises(InputError, match="same_as requires --replies"):
        score([], None, run=tmp_path / "out", overrides=["same_as={}"])
    with pytest.raises(InputError, match="same_as: no system is named 'other'"):
        score(systems, tmp_path / "again", overrides=["same_as.theirs=other"])


def write_rows_as_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
