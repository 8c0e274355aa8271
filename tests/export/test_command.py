"""``harness export``: destinations, options, and what is written for other tools to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.export.destinations import EXPORTERS
from harness.export.figures import read_run
from harness.files import read_json
from harness.store import seals
from harness.store.folder import RunFolder
from tests.run_folders import make_run, random_values, with_sets

FILES_ALONE = ("model-card", "github-action-benchmark", "lm-eval")


def exported(*arguments: object) -> int:
    return main(["export", *map(str, arguments)])


def test_an_unknown_destination_is_refused_with_the_nearest(run: RunFolder, capsys: Any) -> None:
    assert exported(run.root, "--to", "mlfow") == 2
    assert "cannot be exported to 'mlfow'. Did you mean 'mlflow'?" in capsys.readouterr().err


@pytest.mark.parametrize("to", [name for name in EXPORTERS if name != "mlflow"])
def test_a_uri_is_refused_where_files_are_written(run: RunFolder, capsys: Any, to: str) -> None:
    assert exported(run.root, "--to", to, "--out", "https://example.com") == 2
    assert "only MLflow takes a URI" in capsys.readouterr().err
    assert not (run.root / "exports").exists()


def test_the_page_is_not_taken_where_only_numbers_go(run: RunFolder, capsys: Any) -> None:
    assert exported(run.root, "--to", "wandb", "--with-report") == 2
    assert "--with-report is for mlflow" in capsys.readouterr().err


def test_a_variant_is_not_taken_where_all_go(run: RunFolder, capsys: Any) -> None:
    assert exported(run.root, "--to", "lm-eval", "--variant", "adapter") == 2
    assert "--variant is for model-card" in capsys.readouterr().err


@pytest.mark.parametrize("to", FILES_ALONE)
def test_no_dialogue_is_exported(run: RunFolder, texts: list[str], tmp_path: Path, to: str) -> None:
    assert exported(run.root, "--to", to, "--out", tmp_path / "out") == 0
    written = [path for path in (tmp_path / "out", *(tmp_path / "out").rglob("*")) if path.is_file()]
    assert written
    assert len(texts) > 50
    for path in written:
        content = json.dumps(path.read_text())
        assert not [text for text in texts if json.dumps(text)[1:-1] in content]


def test_an_export_leaves_the_run_sealed(run: RunFolder) -> None:
    assert exported(run.root, "--to", "lm-eval") == 0
    assert exported(run.root, "--to", "github-action-benchmark") == 0
    assert sorted(path.name for path in (run.root / "exports").iterdir()) == ["github-action-benchmark", "lm-eval"]
    assert seals.check(run, run.read_manifest()) == []


def test_benchmark_files_are_what_the_action_accepts(run: RunFolder, tmp_path: Path) -> None:
    assert exported(run.root, "--to", "github-action-benchmark", "--out", tmp_path) == 0
    summary = read_json(run.summary_path)["metrics"]
    for name, bigger in (("bigger_is_better.json", True), ("smaller_is_better.json", False)):
        entries = json.loads((tmp_path / name).read_text())
        for entry in entries:  # the action's own schema: name, value and unit, and two further texts
            assert entry.keys() <= {"name", "value", "unit", "range", "extra"}
            assert isinstance(entry["value"], float | int)
            assert isinstance(entry["unit"], str)
        expected = sum(
            row["value"] is not None
            for metric in summary.values()
            if metric["higher_is_better"] is bigger
            for row in metric["variants"].values()
        )
        assert len(entries) == expected > 20
    rouge = next(
        one for one in json.loads((tmp_path / "bigger_is_better.json").read_text()) if "rouge_1" in one["name"]
    )
    assert rouge["name"] == "base: quality.rouge_1"
    assert rouge["range"] == "0.1291–0.2325"


def test_lm_eval_results_have_its_keys(run: RunFolder, tmp_path: Path) -> None:
    assert exported(run.root, "--to", "lm-eval", "--out", tmp_path) == 0
    found = read_json(tmp_path / "adapter" / "results.json")
    row = read_json(run.summary_path)["metrics"]["quality.nll"]["variants"]["adapter"]
    results = found["results"]["synthetic"]
    assert results["quality.nll,none"] == row["value"]
    assert results["quality.nll_stderr,none"] == "N/A"
    assert (results["quality.nll.low,none"], results["quality.nll.high,none"]) == (row["low"], row["high"])
    assert found["n-samples"] == {"synthetic": {"original": 12, "effective": 12}}
    assert found["higher_is_better"]["synthetic"]["quality.nll"] is False
    assert all(key.count(",") == 1 for key in results if key != "alias")


def test_each_file_tells_further_sets_apart(tmp_path: Path) -> None:
    general = {name: {"quality.nll": metrics["quality.nll"]} for name, metrics in random_values(30, seed=9).items()}
    run = with_sets(make_run(tmp_path / "run"), "clinic", general=general)
    own, further = (
        one.read_summary().metrics["quality.nll"].variants["adapter"].value for one in (run, run.set_folder("general"))
    )
    assert own != further
    values = read_run(run).values("adapter")
    assert (values["quality.nll"], values["sets/general/quality.nll"]) == (own, further)
    for to in ("lm-eval", "github-action-benchmark"):
        assert exported(run.root, "--to", to) == 0
    results = read_json(run.root / "exports" / "lm-eval" / "adapter" / "results.json")
    told = {task: found["quality.nll,none"] for task, found in results["results"].items()}
    assert told == {"clinic": own, "general": further}
    assert results["n-samples"]["general"] == {"original": 30, "effective": 30}
    entries = json.loads((run.root / "exports" / "github-action-benchmark" / "smaller_is_better.json").read_text())
    named = {entry["name"]: entry["value"] for entry in entries}
    assert (named["adapter: quality.nll"], named["adapter: quality.nll on general"]) == (own, further)


def test_a_card_has_a_result_for_each_set(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    run = with_sets(make_run(tmp_path / "run"), "clinic", general=random_values(30, seed=9))
    assert exported(run.root, "--to", "model-card", "--out", tmp_path / "README.md") == 0
    found = hub.ModelCard.load(tmp_path / "README.md").data.eval_results
    further = run.set_folder("general").read_summary().metrics["quality.nll"].variants["adapter"].value
    told = {one.dataset_name: one.metric_value for one in found if one.metric_type == "quality.nll"}
    assert [name.endswith(", the set general") for name in told] == [False, True]
    assert list(told.values())[1] == further
