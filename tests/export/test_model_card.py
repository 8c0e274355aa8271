"""The card as the Hub's own library reads it, and what happens to a card that was there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.app import main
from harness.export.model_card import KEPT_AS, MARK, is_hub_id
from harness.files import read_json, write_json
from harness.store.folder import RunFolder
from harness.variants.digests import digest_adapter_folder, digest_model_folder, joined
from reports.text import summary_markdown
from tests.cli.test_app import write_safetensors
from tests.run_folders import make_run

PEFT_CARD = """---
base_model: /home/someone/models/base
library_name: peft
license: apache-2.0
tags:
- base_model:adapter:/home/someone/models/base
- lora
---
# Model Card for Model ID
"""


@pytest.fixture
def adapter(run: RunFolder, tmp_path: Path) -> Path:
    """An adapter folder with PEFT's card, which the run says it measured."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    write_safetensors(folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 4})
    (folder / "README.md").write_text(PEFT_CARD)
    manifest = read_json(run.manifest_path)
    named = next(one for one in manifest["variants"] if one["name"] == "adapter")
    named.update(adapter=str(folder), adapter_digest=digest_adapter_folder(folder))
    write_json(run.manifest_path, manifest)
    return folder


def front_matter(card: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(card.read_text().split("---\n")[1]))


def test_the_hub_reads_the_card(run: RunFolder, adapter: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    assert main(["export", str(run.root), "--to", "model-card"]) == 0
    card = hub.ModelCard.load(adapter / "README.md")
    assert card.data.library_name == "peft"
    assert card.data.base_model == "models/base"
    written = front_matter(adapter / "README.md")["model-index"]
    name, results = model_index_to_eval_results(written)
    assert eval_results_to_model_index(name, results) == written
    rouge = next(one for one in card.data.eval_results if one.metric_type == "quality.rouge_l")
    row = read_json(run.summary_path)["metrics"]["quality.rouge_l"]["variants"]["adapter"]
    assert rouge.metric_value == row["value"]
    assert rouge.metric_args == {"low": row["low"], "high": row["high"], "confidence": 0.95, "n": 12}
    assert rouge.dataset_name == "synthetic"


def test_a_card_that_was_there_is_kept(run: RunFolder, adapter: Path) -> None:
    assert main(["export", str(run.root), "--to", "model-card"]) == 0
    assert (adapter / KEPT_AS).read_text() == PEFT_CARD
    metadata = front_matter(adapter / "README.md")
    assert metadata["license"] == "apache-2.0"
    assert metadata["tags"] == ["lora"]
    assert "/home/someone" not in (adapter / "README.md").read_text()


def test_a_second_export_replaces_its_own_card_and_keeps_what_was_added(run: RunFolder, adapter: Path) -> None:
    assert main(["export", str(run.root), "--to", "model-card"]) == 0
    card = adapter / "README.md"
    card.write_text(card.read_text().replace("license: apache-2.0", "license: mit"))
    assert main(["export", str(run.root), "--to", "model-card"]) == 0
    assert front_matter(card)["license"] == "mit"
    assert (adapter / KEPT_AS).read_text() == PEFT_CARD
    assert card.read_text().count(MARK) == 1


def test_two_cards_to_keep_are_refused(run: RunFolder, adapter: Path, capsys: Any) -> None:
    (adapter / KEPT_AS).write_text("mine")
    assert main(["export", str(run.root), "--to", "model-card"]) == 2
    assert "which exists already" in capsys.readouterr().err
    assert (adapter / "README.md").read_text() == PEFT_CARD


def test_an_interrupted_export_can_be_repeated(run: RunFolder, adapter: Path) -> None:
    (adapter / KEPT_AS).write_text(PEFT_CARD)
    assert main(["export", str(run.root), "--to", "model-card"]) == 0
    assert MARK in (adapter / "README.md").read_text()


def test_other_weights_get_no_card(run: RunFolder, adapter: Path, capsys: Any) -> None:
    write_json(adapter / "adapter_config.json", {"peft_type": "LORA", "r": 8})
    assert main(["export", str(run.root), "--to", "model-card"]) == 4
    assert "contains other weights than this run measured as adapter" in capsys.readouterr().err
    assert (adapter / "README.md").read_text() == PEFT_CARD


def test_weights_that_a_config_listed_are_known_by_the_runs_own_digest(
    run: RunFolder, adapter: Path, capsys: Any
) -> None:
    manifest = read_json(run.manifest_path)
    named = next(one for one in manifest["variants"] if one["name"] == "adapter")
    base = adapter.parent / "base"
    base.mkdir()
    write_safetensors(base / "model.safetensors")
    named.update(model=str(base), adapter_digest=None, model_digest=None)
    measured = joined(digest_model_folder(base), digest_adapter_folder(adapter))
    for digest, code in ((measured, 0), ("v2:other", 4)):
        manifest["digests"]["weights/adapter"] = digest
        write_json(run.manifest_path, manifest)
        assert main(["export", str(run.root), "--to", "model-card"]) == code, capsys.readouterr()


def test_weights_that_are_elsewhere_need_a_file(run: RunFolder, capsys: Any) -> None:
    assert main(["export", str(run.root), "--to", "model-card"]) == 2
    assert "Name the card's file with --out" in capsys.readouterr().err


def test_a_merged_model_is_chosen_by_name(run: RunFolder, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    assert main(["export", str(run.root), "--to", "model-card", "--variant", "merged", "--out", str(card)]) == 0
    metadata = front_matter(card)
    assert metadata["library_name"] == "transformers"
    assert metadata["model-index"][0]["name"] == "merged"


def test_a_base_gets_no_card(run: RunFolder, capsys: Any) -> None:
    assert main(["export", str(run.root), "--to", "model-card", "--variant", "base"]) == 2
    assert "base is of kind base" in capsys.readouterr().err


def test_the_card_says_what_was_not_measured(run: RunFolder, tmp_path: Path) -> None:
    manifest = read_json(run.manifest_path)
    manifest["config"]["passes"] = ["scoring", "generation"]
    write_json(run.manifest_path, manifest)
    card = tmp_path / "card.md"
    assert main(["export", str(run.root), "--to", "model-card", "--out", str(card)]) == 0
    section = card.read_text().split("## Not measured")[1].split("\n## ")[0]
    assert "- Latency: not part of this run." in section
    assert "Generation" not in section
    assert "no clinician has judged them" in section


def test_the_card_of_a_further_seed_names_that_seed(run: RunFolder, tmp_path: Path) -> None:
    manifest = read_json(run.manifest_path)
    assert manifest["training"]["recipe"]["seed"] == 42
    next(one for one in manifest["variants"] if one["name"] == "adapter")["seed"] = 43
    write_json(run.manifest_path, manifest)
    card = tmp_path / "card.md"
    assert main(["export", str(run.root), "--to", "model-card", "--out", str(card)]) == 0
    text = card.read_text()
    assert "\nseed: 43\n" in text.split("## How it was trained")[1]
    assert "- Other seeds of the training." in text


def test_the_card_has_the_summarys_table_and_no_orders_to_the_author(run: RunFolder, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    assert main(["export", str(run.root), "--to", "model-card", "--out", str(card)]) == 0
    section = card.read_text().split("## Results")[1].split("\n## ")[0]
    assert "| ROUGE-L (F1) | 0.13 | 0.12 −0.01" in section
    assert "read the worst dialogues below" not in section
    assert "read the worst dialogues below" in summary_markdown(run)


@pytest.mark.parametrize(
    ("source", "hub"),
    [("owner/data", True), ("data/held_out.jsonl", False), ("synthetic", False), ("a/b/c", False), ("./x/y", False)],
)
def test_a_hub_id_is_told_from_a_file(source: str, hub: bool) -> None:
    assert is_hub_id(source) is hub


def test_a_card_speaks_of_its_own_variant(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for variant in ("adapter", "merged"):
        card = tmp_path / f"{variant}.md"
        assert main(["export", str(run.root), "--to", "model-card", "--variant", variant, "--out", str(card)]) == 0
        assert f"\n### {variant} – " in card.read_text()
