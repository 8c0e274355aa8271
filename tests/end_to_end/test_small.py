"""finetune → run → report → gate on a small model, as one piece."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import harness
from harness.cli.app import main
from harness.errors import InputError
from harness.jobs.guard import locked
from harness.jobs.run import run
from harness.store.folder import RunFolder
from harness.store.schema import GenerationRecord
from tests.end_to_end.conftest import small_config


def test_four_variants_come_out_of_a_four_bit_training(small_run: RunFolder) -> None:
    names = [variant["name"] for variant in small_run.read_manifest().variants]
    assert names == ["base", "base-nf4", "adapter", "merged"]


def test_training_moved_the_adapter_and_merging_kept_it(small_run: RunFolder) -> None:
    nll = small_run.read_summary().metrics["quality.nll"].variants
    assert nll["adapter"].value < nll["base"].value - 0.1
    assert nll["merged"].value == pytest.approx(nll["adapter"].value, rel=0.01)


def test_every_family_is_in_the_summary(small_run: RunFolder) -> None:
    families = {name.split(".")[0] for name in small_run.read_summary().metrics}
    assert families == {"quality", "safety", "fidelity", "latency", "memory"}


def test_dialogues_too_long_to_score_are_counted(small_run: RunFolder) -> None:
    coverage = small_run.read_summary().coverage["adapter"]
    assert coverage.not_scored["too long"] > 0
    assert coverage.answered + sum(coverage.skipped.values()) == coverage.dialogues == 30


def test_every_dialogue_has_one_reply_row_a_variant(small_run: RunFolder) -> None:
    ids = [row.id for row in small_run.dialogues()]
    for variant in ("base", "adapter", "merged"):
        assert [row.id for row in small_run.replies(variant)] == ids


def test_report_is_one_file_that_names_every_variant(small_run: RunFolder) -> None:
    page = small_run.report_path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") or page.lower().startswith("<!doctype html>")
    assert all(name in page for name in ("base-nf4", "adapter", "merged"))
    assert "http-equiv" in page


def test_sanity_checks_are_recorded(small_run: RunFolder) -> None:
    checks = small_run.read_manifest().sanity
    assert checks
    assert all(check.ok for check in checks)


def test_same_command_again_measures_nothing_again(variants: Path, small_run: RunFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_run.root.glob("records/*/*.jsonl")}
    run(small_config(variants), small_run.root)
    assert {path: path.stat().st_mtime_ns for path in small_run.root.glob("records/*/*.jsonl")} == before


def test_other_config_on_the_same_folder_is_refused(variants: Path, small_run: RunFolder) -> None:
    with pytest.raises(InputError, match="another config"):
        run(small_config(variants, limit=7), small_run.root)


def test_second_process_on_the_folder_is_refused(variants: Path, small_run: RunFolder) -> None:
    with locked(small_run), pytest.raises(InputError, match="in use by another process"):
        run(small_config(variants), small_run.root)


def test_frames_hold_what_the_folder_holds(small_run: RunFolder) -> None:
    frames = harness.load_run(small_run.root)
    assert len(frames.replies) == 4 * 30
    row = frames.summary.set_index(["metric", "variant"]).loc[("quality.nll", "adapter")]
    assert row["value"] == small_run.read_summary().metrics["quality.nll"].variants["adapter"].value
    assert set(frames.latencies["variant"]) == {"base", "base-nf4", "adapter", "merged"}


def thresholds(tmp_path: Path, limit: float) -> Path:
    path = tmp_path / "thresholds.yaml"
    path.write_text(
        "version: 1\ncandidate: adapter\ndefaults: {min_samples: 10, min_coverage: 0.5}\n"
        f"checks:\n  - {{id: likely, metric: quality.nll, max: {limit}}}\n"
    )
    return path


@pytest.mark.parametrize(("limit", "code"), [(99.0, 0), (0.01, 1)])
def test_gate_s_exit_code_follows_the_limit(small_run: RunFolder, tmp_path: Path, limit: float, code: int) -> None:
    assert main(["gate", str(small_run.root), "--thresholds", str(thresholds(tmp_path, limit))]) == code
    assert json.loads((small_run.root / "gate.json").read_text())["exit_code"] == code


def test_gate_from_python_says_the_same(small_run: RunFolder, tmp_path: Path) -> None:
    assert harness.gate(small_run.root, thresholds(tmp_path, 0.01)).exit_code == 1


def test_scoring_again_with_other_metrics_needs_no_generation(small_run: RunFolder, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(small_run.root, copy)
    assert main(["score", "--run", str(copy), "--set", "metrics=[chrf]"]) == 0
    folder = RunFolder(copy)
    assert "quality.chrf" in folder.read_summary().metrics
    assert "quality.bleu" not in folder.read_summary().metrics
    assert folder.records(GenerationRecord, "generation", "base") == small_run.records(
        GenerationRecord, "generation", "base"
    )


def test_timing_and_memory_alone_need_no_references(variants: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"instruction": f"Cough number {n}?"}) + "\n" for n in range(4)))
    config = small_config(variants, dialogues={"source": str(prompts), "split": "all"}, passes=["latency", "memory"])
    folder = run(config, tmp_path / "run")
    assert folder.read_summary().metrics["latency.tpot_ms.p50"].variants["adapter"].n > 0
