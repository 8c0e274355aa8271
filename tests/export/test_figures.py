"""What is exported of a run, and of which runs nothing is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.export.figures import Figure, read_run
from harness.files import read_json, write_json
from harness.store.folder import RunFolder
from tests.run_folders import make_run


def test_a_tracker_gets_names_without_brackets() -> None:
    figure = Figure("latency.itl_ms.p50[engine=eager,batch=2]", 1.0, None, None, 3)
    assert figure.key == "latency.itl_ms.p50/engine-eager/batch-2"


def test_a_difference_and_a_ratio_name_what_they_are_against() -> None:
    assert Figure("quality.nll", 1.0, None, None, 3, against="base").key == "quality.nll/minus-base"
    assert Figure("latency.mbu", 1.0, None, None, 3, against="base", relative=True).key == "latency.mbu/ratio-to-base"


def test_values_are_those_of_the_summary_with_both_ends(run: RunFolder) -> None:
    row = read_json(run.summary_path)["metrics"]["quality.rouge_l"]["variants"]["adapter"]
    values = read_run(run).values("adapter")
    ends = [values["quality.rouge_l" + end] for end in ("", ".low", ".high")]
    assert ends == [row["value"], row["low"], row["high"]]


def test_no_two_figures_share_a_trackers_name(run: RunFolder) -> None:
    exported = read_run(run)
    for variant in exported.variants:
        keys = [figure.key for figure in exported.figures(variant)]
        assert len(set(keys)) == len(keys) > 50


def test_settings_are_flat_and_without_paths_of_the_machine(run: RunFolder) -> None:
    manifest = read_json(run.manifest_path)
    manifest["config"]["dialogues"] = {"source": "/home/someone/secret/held_out.jsonl"}
    write_json(run.manifest_path, manifest)
    settings = read_run(run).settings()
    assert settings["config.generation.max_new_tokens"] == "48"
    assert settings["recipe.lora.r"] == "16"
    assert settings["config.dialogues.source"] == "held_out.jsonl"


def test_where_a_served_variant_is_served_stays_here(run: RunFolder) -> None:
    manifest = read_json(run.manifest_path)
    served = {"url": "http://gpu7.internal:8000/v1", "api_key_env": "OUR_KEY", "same_as": "merged"}
    manifest["variants"][3].update(served)
    manifest["config"]["variants"] = manifest["variants"]
    write_json(run.manifest_path, manifest)
    exported = read_run(run)
    assert exported.variant_settings("merged")["same_as"] == "merged"
    assert "gpu7" not in str([exported.settings(), exported.variant_settings("merged")])
    assert "OUR_KEY" not in str([exported.settings(), exported.variant_settings("merged")])


def test_an_unfinished_run_is_not_exported(run: RunFolder) -> None:
    write_json(run.manifest_path, {**read_json(run.manifest_path), "state": "running"})
    with pytest.raises(HarnessError, match="is running; only a complete run can be exported"):
        read_run(run)


def test_an_edited_run_is_not_exported(run: RunFolder) -> None:
    summary = read_json(run.summary_path)
    summary["metrics"]["quality.nll"]["variants"]["adapter"]["value"] = 0.1
    run.summary_path.write_text(json.dumps(summary))
    with pytest.raises(HarnessError, match=r"cannot be exported: summary\.json"):
        read_run(run)


def test_a_folder_called_run_is_named_with_its_parent(tmp_path: Path) -> None:
    assert read_run(make_run(tmp_path / "mine" / "run")).name == "mine-run"
