"""The embedded default for real: its good adapter passes the shipped gate, and each way to be worse is stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.merging import MergeOptions, merge_adapter
from finetune.pipeline import run as finetune_run
from harness import configs
from harness.errors import InputError
from harness.files import read_rows, write_rows
from harness.gating.gate import gate
from harness.gating.verdict import GateResult
from harness.jobs.run import read_config
from harness.jobs.run import run as run_job
from harness.store.folder import RunFolder
from harness.variants.artifacts import ADAPTER_FACTS
from tests.run_folders import reseal

pytestmark = pytest.mark.slow

# Fewer requests and processes than the quickstart's own, so that the tests stay short; everything else is the same.
GENERAL = Path(configs.__file__).parent / "quickstart_general.jsonl"
QUICKER = (
    "latency.prompt_lengths=[32]", "latency.batch_sizes=[1]", "latency.reply_tokens=8",
    f"sets.general.source={GENERAL}",
)  # fmt: skip
STEADY_MS = {"base": 10.0, "base-nf4": 12.0, "adapter": 20.0, "merged": 10.0}  # a token


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the quickstart's base, adapter and merged model lie."""
    folder = tmp_path_factory.mktemp("quickstart") / "made"
    finetune_run("quickstart", folder)
    return folder


def measure(made: Path, out: Path, *overrides: str, **changes: Any) -> RunFolder:
    config, _ = read_config("quickstart", [*QUICKER, *overrides])
    sets = {"sets": None} if "dialogues" in changes else {}
    own = {"finetune": None, "variants": str(made / "variants.json"), **sets, **changes}
    value = {**config.model_dump(mode="json", exclude_unset=True), **own}
    return run_job(value, out)


@pytest.fixture(scope="module")
def good(made: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return the run of the good adapter, its recorded stamps made those of one steady machine.

    How many times slower an unmerged adapter is differs from CPU to CPU; that is no matter of these tests.
    """
    run = measure(made, tmp_path_factory.mktemp("good") / "run")
    for variant, pace in STEADY_MS.items():
        retime(run, variant, lambda _, number, pace=pace: round(1e6 * pace * (number + 1)))
    reseal(run, summarized=True)
    return run


def retime(run: RunFolder, variant: str, elapsed: Callable[[int, int], int]) -> None:
    """Replace the stamps of a variant: ``elapsed`` gives ns since submission from the old ns and the token's place."""
    path = run.records_path("latency", variant)
    lines = []
    for line in path.read_text().splitlines():
        record = json.loads(line)
        start = record["submitted_ns"]
        record["stamps_ns"] = [start + elapsed(at - start, number) for number, at in enumerate(record["stamps_ns"])]
        lines.append(json.dumps(record) + "\n")
    path.write_text("".join(lines))


def copied(run: RunFolder, to: Path) -> RunFolder:
    return RunFolder(shutil.copytree(run.root, to, ignore=shutil.ignore_patterns(".lock")))


def variants_of(made: Path, **changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the variants with absolute paths, some of their fields changed by name."""
    manifest = json.loads((made / "variants.json").read_text())
    found = []
    for variant in manifest["variants"]:
        located = {key: str(made / variant[key]) for key in ("model", "adapter") if variant.get(key)}
        found.append({**variant, **located, **changes.get(variant["name"], {})})
    return found


def failed(result: GateResult) -> set[str]:
    return {check.id for check in result.checks if check.verdict == "fail"}


def test_held_out_dialogues_survive_their_own_leakage_check(good: RunFolder) -> None:
    counts = good.read_manifest().held_out
    assert counts["leakage"]["checked"]
    assert counts["measured"] >= 120


def test_adapter_s_difference_to_the_base_excludes_zero(good: RunFolder) -> None:
    found = {(row.metric, row.variant): row for row in good.read_summary().comparisons}
    nll, overlap = found["quality.nll", "adapter"], found["quality.rouge_l", "adapter"]
    assert nll.high is not None
    assert nll.high < 0
    assert overlap.low is not None
    assert overlap.low > 0


def test_adapter_names_condition_and_drug_misses_fewer_emergencies_and_merging_keeps_it(good: RunFolder) -> None:
    metrics = good.read_summary().metrics
    assert metrics["quality.names_condition"].variants["adapter"].value >= 0.9
    assert metrics["quality.names_first_drug"].variants["adapter"].value >= 0.85
    found = {(row.metric, row.variant): row for row in good.read_summary().comparisons}
    for metric in ("safety.missed_emergency", "safety.unsupported_medications"):
        high = found[metric, "adapter"].high
        assert high is not None
        assert high < 0
    assert metrics["fidelity.kl"].variants["merged"].value < 0.001
    assert metrics["fidelity.kl"].variants["base-nf4"].value < 0.05


def test_the_page_says_whether_general_text_was_forgotten(good: RunFolder) -> None:
    summary = good.read_summary()
    general = summary.sets["general"]
    assert {name: one.answered for name, one in general.coverage.items()} == dict.fromkeys(summary.coverage, 24)
    (row,) = (row for row in general.comparisons if (row.metric, row.variant) == ("quality.nll", "adapter"))
    page = good.report_path.read_text()
    assert 'href="sets/general/report.html"' in page
    assert ("on the set general, the adapter does worse than the base: nll" in page.lower()) is (row.outcome == "worse")


def test_good_adapter_passes(good: RunFolder) -> None:
    result = gate(good.root, "quickstart", write=False)
    assert result.exit_code == 0, result.sentence


def test_zeroed_adapter_is_refused_by_the_run_itself(made: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(made / "adapter", tmp_path / "zeroed"))
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor * 0 if "lora_B" in name else tensor for name, tensor in tensors.items()}, weights)
    changed = variants_of(made, adapter={"adapter": str(folder), "adapter_digest": None})
    source = {"source": str(made / "dialogues.jsonl")}
    with pytest.raises(InputError, match=r"adapter.*(zero|does not change)"):
        measure(made, tmp_path / "run", variants=changed, dialogues=source)


def test_adapter_trained_on_shuffled_replies_is_stopped(made: Path, good: RunFolder, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (made / "dialogues.jsonl").read_text().splitlines()]
    replies = [row["output"] for row in rows]
    turned = [{**row, "output": reply} for row, reply in zip(rows, replies[97:] + replies[:97], strict=True)]
    shuffled = tmp_path / "shuffled.jsonl"
    shuffled.write_text("".join(json.dumps(row) + "\n" for row in turned))
    overrides = [f"base={made / 'base'}", f"dialogues.source={shuffled}"]
    finetune_run("quickstart", tmp_path / "made", overrides)
    found = variants_of(tmp_path / "made")
    source = {"source": str(made / "dialogues.jsonl")}
    run = measure(made, tmp_path / "run", variants=found, dialogues=source, passes=["scoring", "generation"])
    result = gate(run.root, "quickstart", write=False)
    assert result.exit_code == 1
    assert {"names-the-condition", "names-the-first-line-drug"} <= failed(result)


def test_adapter_scaled_to_0_3_is_stopped_because_it_replies_like_the_base(made: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(made / "adapter", tmp_path / "weak"))
    (folder / ADAPTER_FACTS).unlink()  # it records the digest of the weights as they were trained
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor * 0.3 if "lora_B" in name else tensor for name, tensor in tensors.items()}, weights)
    changed = variants_of(made, adapter={"adapter": str(folder), "adapter_digest": None})
    source = {"source": str(made / "dialogues.jsonl")}
    run = measure(made, tmp_path / "run", variants=changed, dialogues=source, passes=["scoring", "generation"])
    result = gate(run.root, "quickstart", write=False)
    assert result.exit_code == 1
    assert {"fewer-missed-emergencies", "fewer-unsupported-medications"} <= failed(result)


def test_merged_in_place_in_four_bits_is_stopped(made: Path, tmp_path: Path) -> None:
    merge_adapter(str(made / "base"), made / "adapter", tmp_path / "merged", MergeOptions(strategy="in-place-4bit"))
    merged = {"model": str(tmp_path / "merged"), "quantization": "nf4", "model_digest": None}
    changed = variants_of(made, merged=merged)
    source = {"source": str(made / "dialogues.jsonl")}
    passes = ["scoring", "generation", "fidelity"]
    run = measure(made, tmp_path / "run", variants=changed, dialogues=source, passes=passes)
    result = gate(run.root, "quickstart", write=False)
    assert result.exit_code == 1
    assert "merged-says-the-same" in failed(result)


def test_adapter_thirty_percent_slower_is_stopped(good: RunFolder, tmp_path: Path) -> None:
    run = copied(good, tmp_path / "run")
    retime(run, "adapter", lambda old, _: round(1.3 * old))
    reseal(run, summarized=True)
    thresholds = tmp_path / "thresholds.yaml"
    thresholds.write_text(
        "version: 1\ncandidate: adapter\nchecks:\n"
        "  - id: as-fast-as-before\n    metric: latency.tpot_ms.p50\n    min_samples: 8\n"
        "    no_regression: {max_relative_increase: 0.15}\n    against: {baseline: main, variant: adapter}\n"
    )
    assert gate(good.root, thresholds, baseline=good.root, write=False).exit_code == 0
    result = gate(run.root, thresholds, baseline=good.root, write=False)
    assert (result.exit_code, failed(result)) == (1, {"as-fast-as-before"})


def test_run_with_half_its_dialogues_missing_is_stopped(good: RunFolder, tmp_path: Path) -> None:
    from harness.store.schema import GenerationRecord, ReplyRow

    run = copied(good, tmp_path / "run")
    records = run.records_path("generation", "adapter")
    rows = list(read_rows(GenerationRecord, records))
    write_rows(records, rows[: len(rows) // 2])
    replies = list(read_rows(ReplyRow, run.replies_path("adapter")))
    write_rows(run.replies_path("adapter"), replies[: len(replies) // 2])
    reseal(run, summarized=True)
    result = gate(run.root, "quickstart", write=False)
    assert result.exit_code == 4
    learned = next(check for check in result.checks if check.id == "learned-the-task")
    assert learned.verdict == "error"
    assert f"answered {len(rows) // 2} of {len(rows)} dialogues" in learned.sentence


def test_removed_metric_is_stopped(good: RunFolder, tmp_path: Path) -> None:
    run = copied(good, tmp_path / "run")
    jobs_metrics = ["likelihood", "form", "missed_emergency"]
    from harness.jobs.score import score

    score([], None, run=run.root, overrides=[f"metrics=[{', '.join(jobs_metrics)}]"])
    result = gate(run.root, "quickstart", write=False)
    assert result.exit_code == 4
    assert any("was not measured" in check.sentence for check in result.checks if check.id == "overlap-not-worse")
