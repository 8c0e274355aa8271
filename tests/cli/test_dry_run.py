"""``harness run --dry-run``: what would be measured, without measuring."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("transformers")

from harness.cli.app import main

TINY = Path(__file__).parents[2] / "finetune" / "tiny" / "base"


@pytest.fixture
def asked(tmp_path: Path) -> Any:
    """Write a config over a copy of the embedded base and 20 dialogues, the last of them far too long."""

    def write(**changes: Any) -> Path:
        shutil.copytree(TINY, tmp_path / "base", dirs_exist_ok=True)
        rows: list[dict[str, str]] = [{"instruction": f"What is {n}?", "output": "Rest and water."} for n in range(19)]
        rows.append({"instruction": "pain " * 3000, "output": "Rest."})
        (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        value = {
            "variants": [{"name": "base", "kind": "base", "model": str(tmp_path / "base")}],
            "dialogues": {"source": str(tmp_path / "data.jsonl"), "split": "all"},
            "device": "cpu",
            "generation": {"max_new_tokens": 8},
            **changes,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(value))
        return path

    return write


def said(capsys: pytest.CaptureFixture[str], config: Path, out: Path) -> str:
    assert main(["run", str(config), "--out", str(out), "--dry-run"]) == 0
    return capsys.readouterr().out


def test_nothing_is_written(asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = asked()
    before = sorted(tmp_path.rglob("*"))
    said(capsys, config, tmp_path / "deep" / "run")
    assert sorted(tmp_path.rglob("*")) == before


def test_dialogues_that_do_not_fit_are_counted(asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, asked(), tmp_path / "run")
    assert "Dialogues: 20 of 20 read as instruction, input and output" in text
    assert "1 with the reference (scoring), 1 with 8 new tokens (generation)" in text


def test_lengths_are_those_of_the_tokenizer(asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoTokenizer

    from harness.dialogues.model import Dialogue
    from harness.dialogues.prompts import load_template

    text = said(capsys, asked(prompt="know-medical"), tmp_path / "run")
    prompt = load_template("know-medical").render(Dialogue(id="x", prompt=("pain " * 3000).strip()))
    longest = len(AutoTokenizer.from_pretrained(TINY)(prompt)["input_ids"])
    assert f"Prompts: {longest:,}" not in text
    assert f"{longest:,} at most." in text


def test_weights_are_counted_in_the_dtype_they_are_loaded_in(
    asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors import safe_open

    with safe_open(TINY / "model.safetensors", "np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    numbers = sum(rows * (columns[0] if columns else 1) for rows, *columns in shapes)
    variant = {"name": "base", "kind": "base", "model": str(tmp_path / "base"), "dtype": "float32"}
    text = said(capsys, asked(variants=[variant]), tmp_path / "run")
    assert f"base: base, float32, weights about {4 * numbers / 2**20:,.0f} MiB" in text


def test_what_the_run_would_refuse_is_refused(asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dialogues = {"source": str(tmp_path / "data.jsonl"), "split": "all", "too_long": "error"}
    for changes in ({"dialogues": dialogues}, {"metrics": ["rogue"]}, {"prompt": "know-medicine"}):
        assert main(["run", str(asked(**changes)), "--out", str(tmp_path / "run"), "--dry-run"]) == 2
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("mine")
    assert main(["run", str(asked()), "--out", str(tmp_path / "run"), "--dry-run"]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_variants_that_a_recipe_would_make_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "quickstart", "--dry-run"]) == 0
    assert "The recipe 'quickstart' makes it first" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_latency_and_memory_say_what_they_will_do(
    asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, asked(latency={"budget_minutes": 3}), tmp_path / "run")
    assert "latency: what 3 minutes allow\n" in text
    assert "memory: 2 processes for each variant\n" in text


def test_each_set_is_told_with_what_it_takes(asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = {"source": str(tmp_path / "data.jsonl"), "split": "all"}
    config = asked(dialogues=None, sets={"clinic": source, "general": {**source, "limit": 5, "passes": ["scoring"]}})
    clinic, general = said(capsys, config, tmp_path / "run").split("Set 'general':")
    assert "Set 'clinic':\n  Dialogues: 20 of 20" in clinic
    assert "generation: 20 dialogues x 1 variants" in clinic
    assert "  Dialogues: 5 of 20" in general
    assert "scoring: 5 dialogues x 1 variants" in general
    assert "generation:" not in general
    assert clinic.count("base: base") + general.count("base: base") == 1
