"""The whole way on a tiny model: what is there afterwards, what is used again, and what survives an interruption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

import finetune
from finetune import checkpoints, pipeline, training
from finetune.recipe import load_recipe
from harness.dialogues.leakage import FILE_NAME
from harness.errors import HarnessError, InputError
from harness.variants.artifacts import check_adapter_folder, check_model_folder
from harness.variants.model import VariantsFile, locate
from harness.variants.nf4 import nf4_config
from harness.variants.resolve import read_curves
from tests.dialogues.chat_templates import MARKED, OPENED
from tests.finetune.conftest import write_recipe


@pytest.fixture(scope="module")
def recipe(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), base)


@pytest.fixture(scope="module")
def made(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    finetune.run(recipe, out)
    return out


def read(out: Path) -> VariantsFile:
    return VariantsFile.model_validate_json((out / "variants.json").read_text(encoding="utf-8"))


def test_manifest_names_the_variants_with_the_quantisation_each_is_measured_in(made: Path) -> None:
    variants = {variant.name: variant for variant in read(made).variants}
    assert [(name, v.kind, v.quantization) for name, v in variants.items()] == [
        ("base", "base", "none"),
        ("base-nf4", "base", "nf4"),
        ("adapter", "adapter", "nf4"),
        ("merged", "merged", "none"),
    ]
    for variant in variants.values():
        check_model_folder(locate(variant.model, made))
    check_adapter_folder(locate(variants["adapter"].adapter or "", made))
    assert variants["merged"].merge_strategy == "dequantized"


def test_manifest_has_no_absolute_path(made: Path, tmp_path: Path) -> None:
    assert str(made.parent.parent) not in (made / "variants.json").read_text(encoding="utf-8").replace(
        read(made).recipe["base"], ""
    ).replace(read(made).recipe["dialogues"]["source"], "")


def test_adapter_folder_holds_tokenizer_fingerprints_curves_and_facts(made: Path) -> None:
    names = {file.name for file in (made / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "tokenizer.json", FILE_NAME, "curves.jsonl", "finetune.json"} <= names
    facts = read(made).training
    assert facts["steps"] == 4
    assert facts["skipped"] == {"too long": pytest.approx(5, abs=4)}
    curves = read_curves(made / "adapter" / "curves.jsonl")
    assert [row["step"] for row in curves if "loss" in row][:4] == [1, 2, 3, 4]
    assert [row["step"] for row in curves if "eval_loss" in row] == [2, 4]
    assert all(row["learning_rate"] >= 0 for row in curves if "loss" in row)


def test_tokenizers_are_the_bases_byte_for_byte(made: Path, base: Path) -> None:
    for folder in ("adapter", "merged"):
        assert (made / folder / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_second_run_uses_everything_again(made: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr("finetune.training.train_adapter", never)
    monkeypatch.setattr("finetune.merging.merge_adapter", never)
    before = read(made)
    assert finetune.run(recipe, made) == before


def test_another_strategy_merges_again_without_training_again(
    made: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = (made / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    changed = finetune.run(recipe, made, ["merge=in-place-4bit"])
    assert changed.variants[-1].quantization == "nf4"
    assert (made / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == adapter
    finetune.run(recipe, made)


def test_merged_agrees_with_the_adapter_over_the_4bit_base(made: Path, base: Path) -> None:
    from peft import PeftModel

    ids = AutoTokenizer.from_pretrained(str(base))("The patient has a cough", return_tensors="pt").input_ids
    quantised = AutoModelForCausalLM.from_pretrained(
        str(base), quantization_config=nf4_config("bfloat16"), dtype=torch.bfloat16
    )
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(quantised, str(made / "adapter"))(ids).logits.float()
        plain = AutoModelForCausalLM.from_pretrained(str(base))(ids).logits.float()
        merged = AutoModelForCausalLM.from_pretrained(str(made / "merged"))(ids).logits.float()
    assert (merged - adapted).norm() < 0.2 * (plain - adapted).norm()


class _Stop(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


def interrupt(recipe: Path, out: Path, step: int, overrides: Sequence[str] = ()) -> None:
    """Train until the end of a step, and no further."""
    whole = training._trainer

    def stopping(*args: Any) -> Any:
        trainer = whole(*args)
        trainer.add_callback(_Stop(step))
        return trainer

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "_trainer", stopping)
        with pytest.raises(KeyboardInterrupt):
            finetune.train(recipe, out, overrides)


def test_interrupted_training_continues_from_its_checkpoint(recipe: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupt(recipe, out, 3)
    assert not (out / "adapter").exists()
    said: list[str] = []
    pipeline.train(recipe, out, notify=said.append)
    assert any("Continuing the training from step 2" in line for line in said)
    facts = json.loads((out / "adapter" / "finetune.json").read_text(encoding="utf-8"))
    assert facts["training"]["resumed"]
    assert [row["step"] for row in read_curves(out / "adapter" / "curves.jsonl") if "loss" in row][:4] == [1, 2, 3, 4]
    continued, straight = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (out, made))
    for name, tensor in straight.items():
        assert torch.equal(continued[name], tensor), name


def test_early_stopping_counts_on_after_an_interruption(recipe: Path, tmp_path: Path) -> None:
    overrides = ["training.max_steps=12", "training.learning_rate=0", "evaluation.patience=2"]
    interrupt(recipe, tmp_path / "out", 5, overrides)
    finetune.train(recipe, tmp_path / "out", overrides)
    facts = json.loads((tmp_path / "out" / "adapter" / "finetune.json").read_text(encoding="utf-8"))
    assert facts["training"]["resumed"]
    assert facts["training"]["steps"] == 6  # best at 2, no better at 4 and 6


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path, adapter: Path) -> None:
    for step, whole in [(1, True), (2, True), (10, False)]:
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        data = (adapter / "adapter_model.safetensors").read_bytes()
        (folder / "adapter_model.safetensors").write_bytes(data)
        (folder / "trainer_state.json").write_text("{}", encoding="utf-8")
        checkpoints.seal(folder)
        if not whole:
            (folder / "adapter_model.safetensors").write_bytes(data[:-10])
    assert checkpoints.last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert not (tmp_path / "checkpoint-10").exists()


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ((4,), "Continuing the training from step 2."),
        ((2, 4), "The unfinished training left no whole checkpoint: starting it again."),
    ],
)
def test_a_damaged_checkpoint_is_not_continued_from(
    damaged: tuple[int, ...], said: str, recipe: Path, tmp_path: Path
) -> None:
    out, longer = tmp_path / "out", ["training.max_steps=6"]
    interrupt(recipe, out, 5, longer)
    for step in damaged:
        path = out / ".adapter.training" / "checkpoints" / f"checkpoint-{step}" / "optimizer.pt"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(bytes(data))
    notes: list[str] = []
    pipeline.train(recipe, out, longer, notify=notes.append)
    assert said in notes
    finetune.train(recipe, tmp_path / "straight", longer)
    folders = (out, tmp_path / "straight")
    continued, straight = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in folders)
    assert all(torch.equal(continued[name], tensor) for name, tensor in straight.items())


def test_a_folder_deleted_during_training_ends_it_and_is_not_created_again(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", training._trainer

    class Deletes(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            shutil.rmtree(out)

    def deleting(*args: Any) -> Any:
        trainer = whole(*args)
        trainer.add_callback(Deletes())
        return trainer

    monkeypatch.setattr(training, "_trainer", deleting)
    with pytest.raises(HarnessError, match="was deleted during this run"):
        finetune.train(recipe, out)
    assert not out.exists()


def test_evaluation_in_between_does_not_stop_4bit_layers_from_passing_gradients(base: Path, recipe: Path) -> None:
    from finetune.recipe import load_recipe

    model = training.load_base(base, load_recipe(recipe), "cpu")
    ids = torch.arange(3, 40).unsqueeze(0)

    def gradient() -> torch.Tensor:
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_(True)
        model.train()(inputs_embeds=embedded, labels=ids).loss.backward()
        assert embedded.grad is not None
        return embedded.grad.float()

    before = gradient()
    with torch.no_grad():
        model.eval()(ids)
    assert torch.allclose(gradient(), before, rtol=1e-2, atol=1e-5)


def test_out_of_memory_says_what_to_lower(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(training, "_trainer", full)
    with pytest.raises(HarnessError, match=r"per_device_train_batch_size=2 .*gradient_accumulation_steps=2") as caught:
        finetune.train(recipe, tmp_path / "out")
    assert "gradient_checkpointing=true" in str(caught.value)
    assert caught.value.exit_code == 4


def test_nothing_to_train_on_is_one_sentence(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There are no dialogues to train on"):
        finetune.train(recipe, tmp_path / "out", ["max_length=8"])


def test_early_stopping_ends_a_training_that_no_longer_improves(recipe: Path, tmp_path: Path) -> None:
    overrides = ["training.max_steps=12", "training.learning_rate=0", "evaluation.patience=1"]
    finetune.train(recipe, tmp_path / "out", [*overrides, "training.gradient_checkpointing=true"])
    facts = json.loads((tmp_path / "out" / "adapter" / "finetune.json").read_text(encoding="utf-8"))
    assert facts["training"]["steps"] == 4
    assert facts["training"]["best_step"] == 2


def test_a_second_run_in_the_same_folder_is_kept_out(recipe: Path, tmp_path: Path) -> None:
    from finetune.folders import locked

    with locked(tmp_path / "out"), pytest.raises(InputError, match="Another run is writing"):
        finetune.train(recipe, tmp_path / "out")


@pytest.mark.parametrize(
    ("template", "warned"),
    [(OPENED, True), (MARKED, False)],
)
def test_a_template_that_ends_prompts_as_no_conversation_goes_on_is_a_warning(
    template: str, warned: bool, base: Path, recipe: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(base, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(copy)
    said: list[str] = []
    pipeline.prepare(load_recipe(recipe, ["prompt=chat", f"base={copy}"]), tmp_path / "out", notify=said.append)
    assert any("'<think>\\n', which whole conversations lack" in line for line in said) is warned
