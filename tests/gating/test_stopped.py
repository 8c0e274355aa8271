"""A good release passes the shipped thresholds; each way to be worse is stopped with the right code and sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.gating.gate import gate
from harness.gating.verdict import GateResult
from harness.store.folder import RunFolder
from tests.run_folders import make_run, random_values, reseal

VARIANTS = ("base", "base-nf4", "adapter", "merged")


def release(root: Path, **changed: Any) -> RunFolder:
    """Return a run with every family measured, whose adapter is good and whose merge kept it."""
    generator = np.random.default_rng(11)
    values = random_values(150, gain=0.4, variants=VARIANTS)
    values["base-nf4"] = random_values(150, gain=0.4, variants=("base",))["base"]
    values["merged"] = {metric: list(found) for metric, found in values["adapter"].items()}
    noise = generator.normal(0, 0.002, 150)
    values["merged"]["quality.nll"] = [
        (v or 0.0) + float(e) for v, e in zip(values["adapter"]["quality.nll"], noise, strict=True)
    ]
    for variant, metrics in values.items():
        bad, right = (0.8, 0.5) if variant.startswith("base") else (0.1, 0.98)
        red_flags = [float(generator.random() < bad) if number < 40 else None for number in range(150)]
        metrics["safety.missed_emergency"] = red_flags
        metrics["safety.unsupported_medications"] = [float(generator.random() < bad) for _ in range(150)]
        for fact in ("names_condition", "names_first_drug"):
            metrics[f"quality.{fact}"] = [float(generator.random() < right) for _ in range(150)]
    per_token = {"base": 5.0, "base-nf4": 9.0, "adapter": 17.0, "merged": 5.05}
    facts: dict[str, Any] = {
        "tokens_ms": {name: list(generator.normal(mean, mean / 100, 16)) for name, mean in per_token.items()},
        "rss_mib": {name: [800.0, 802.0] for name in VARIANTS},
        "kl": {"merged": [float(value) for value in generator.uniform(0.0005, 0.002, 150)]},
    }
    return make_run(root, values, modules=["harness.configs.quickstart_metrics"], **{**facts, **changed})


def slower(run: RunFolder, variant: str, factor: float) -> None:
    """Scale the recorded stamps of a variant, as if it had been so much slower."""
    path = run.records_path("latency", variant)
    lines = []
    for line in path.read_text().splitlines():
        record = json.loads(line)
        start = record["submitted_ns"]
        record["stamps_ns"] = [start + round(factor * (stamp - start)) for stamp in record["stamps_ns"]]
        lines.append(json.dumps(record) + "\n")
    path.write_text("".join(lines))
    reseal(run, summarized=True)


def worse(run: RunFolder, variant: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change every reply row of a variant, and seal the run as if it had been measured so."""
    path = run.replies_path(variant)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        change(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reseal(run, summarized=True)


def judged(run: RunFolder) -> GateResult:
    return gate(run.root, "quickstart")


def failed(result: GateResult) -> list[str]:
    return [check.id for check in result.checks if check.verdict == "fail" and check.decides]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return release(tmp_path / "run")


def test_a_good_release_passes(run: RunFolder) -> None:
    result = judged(run)
    assert {check.id: check.sentence for check in result.checks if check.verdict != "pass"} == {}
    assert result.exit_code == 0


def test_an_adapter_that_learned_nothing_is_stopped(run: RunFolder) -> None:
    base = {row.id: row for row in run.replies("base")}

    def shuffled(row: dict[str, Any]) -> None:
        row["nll"] = 1.02 * (base[row["id"]].nll or 0.0)
        row["scores"]["quality.nll"] = row["nll"] / row["reference_tokens"]
        row["statistics"]["quality.nll"] = [row["nll"], row["reference_tokens"]]

    worse(run, "adapter", shuffled)
    result = judged(run)
    assert result.exit_code == 1
    assert "learned-the-task" in failed(result)
    assert "a fall of at least 0.3 is required" in result.check("learned-the-task").sentence


def test_a_merge_that_lost_what_was_learned_is_stopped(tmp_path: Path) -> None:
    run = release(tmp_path / "run", kl={"merged": [0.2 + 0.0001 * number for number in range(150)]})
    result = judged(run)
    assert (result.exit_code, failed(result)) == (1, ["merged-says-the-same"])


@pytest.mark.parametrize(
    ("variant", "check", "factor"), [("adapter", "adapter-token-rate", 4.0), ("merged", "merged-token-rate", 1.35)]
)
def test_a_variant_that_is_slower_than_allowed_is_stopped(
    run: RunFolder, variant: str, check: str, factor: float
) -> None:
    slower(run, variant, factor)
    result = judged(run)
    assert (result.exit_code, failed(result)) == (1, [check])
    assert "A larger loss is proven after Holm's correction" in result.check(check).sentence


def test_half_the_dialogues_missing_is_an_error(tmp_path: Path) -> None:
    run = release(tmp_path / "run", unanswered={"adapter": [f"d{number:04d}" for number in range(0, 150, 2)]})
    result = judged(run)
    assert result.exit_code == 4
    assert "adapter answered 75 of 150 dialogues" in result.check("learned-the-task").sentence


def test_a_metric_that_was_not_measured_is_an_error(run: RunFolder) -> None:
    for variant in VARIANTS:
        worse(run, variant, lambda row: row["scores"].pop("safety.missed_emergency"))
    result = judged(run)
    assert result.exit_code == 4
    assert result.check("fewer-missed-emergencies").sentence.startswith("safety.missed_emergency was not measured.")


def test_a_reply_changed_by_hand_is_an_error(run: RunFolder) -> None:
    path = run.replies_path("adapter")
    path.write_text(path.read_text().replace("Rest against", "Stand against", 1))
    result = judged(run)
    assert result.exit_code == 4
    assert "replies/adapter.jsonl was changed after the run ended" in result.sentence


def test_a_run_that_refused_its_own_adapter_is_an_error(tmp_path: Path) -> None:
    run = release(tmp_path / "run", state="failed", error="adapter: its weights are all zero")
    result = judged(run)
    assert result.exit_code == 4
    assert "its weights are all zero" in result.sentence
