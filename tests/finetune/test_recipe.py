"""A recipe says what will be made, or says in one sentence what is wrong with it; and it has the promised figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from finetune.options import lora_config, training_config
from finetune.recipe import Recipe, load_recipe
from harness.errors import InputError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def configured(recipe: Recipe) -> Any:
    return training_config(recipe, "unused", device="cpu", evaluate=True)


def test_llama2_7b_has_the_original_figures() -> None:
    recipe = load_recipe("llama2-7b")
    lora, training = lora_config(recipe), configured(recipe)
    assert (recipe.base, recipe.dialogues.source) == (
        "NousResearch/Llama-2-7b-hf",
        "knowrohit07/know_medical_dialogue_v2",
    )
    assert (lora.r, lora.lora_alpha, lora.lora_dropout) == (16, 64, 0.1)
    assert set(lora.target_modules) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert (training.learning_rate, training.lr_scheduler_type.value) == (1e-4, "cosine")
    assert training.get_warmup_steps(1000) == 50
    assert training.optim.value == "paged_adamw_32bit"
    assert (training.num_train_epochs, training.max_grad_norm) == (3, 0.3)
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (8, 4)
    assert (recipe.max_length, recipe.seed, recipe.quantization) == (1024, 42, "nf4")


def test_every_shipped_recipe_but_for_its_base_is_complete() -> None:
    for name in ("llama2-7b", "quickstart", "small"):
        recipe = load_recipe(name, ["base=tiny"])
        assert lora_config(recipe).target_modules
        assert configured(recipe).learning_rate > 0


def test_best_checkpoint_is_kept_where_there_is_held_out_loss() -> None:
    training = configured(load_recipe("quickstart"))
    assert training.load_best_model_at_end
    assert training.metric_for_best_model == "eval_loss"
    assert training.max_length is None  # nothing is ever cut


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: tiny\nquantisation: nf4\n", "line 2: unknown key 'quantisation'. Did you mean 'quantization'?"),
        ("base: tiny\nquantization: int4\n", "quantization"),
        ("dialogues: {source: synthetic}\n", "key 'base' is missing"),
        ("base: tiny\nevaluation: {interval: 2.5}\n", "whole number"),
        ("base: tiny\nevaluation: {interval: .inf}\n", "finite"),
        ("base: tiny\nquantization: none\nmerge: dequantized\n", "needs 'quantization: nf4'"),
        ("base: tiny\nbase: tiny\n", "line 2: key 'base' is repeated"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load_recipe(write(tmp_path / "recipe.yaml", text))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lora.lora_aplha=8", "'lora_aplha'. Did you mean 'lora_alpha'?"),
        ("training.learning_rat=1", "'learning_rat'. Did you mean 'learning_rate'?"),
        ("training.packing=true", "training.packing cannot be set here"),
        ("training.eos_token=x", "training.eos_token cannot be set here"),
        ("lora.init_lora_weights=pissa", "changes the base's weights"),
        ("training.optim=adamm", "trl rejects these options"),
    ],
)
def test_options_are_checked_against_peft_and_trl(override: str, message: str) -> None:
    recipe = load_recipe("quickstart", [override])
    check = lora_config if override.startswith("lora") else configured
    with pytest.raises(InputError, match=re.escape(message)):
        check(recipe)


def test_other_options_of_peft_and_trl_pass_through() -> None:
    recipe = load_recipe("quickstart", ["lora.use_rslora=true", "training.neftune_noise_alpha=5", "seed=7"])
    assert lora_config(recipe).use_rslora
    assert configured(recipe).neftune_noise_alpha == 5
    assert configured(recipe).seed == 7


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'quickstart'"):
        load_recipe("quickstrat")


def test_overrides_are_read_as_the_harness_reads_them() -> None:
    recipe = load_recipe("quickstart", ["training.learning_rate=1e-4", "lora.target_modules=[q_proj, v_proj]"])
    assert configured(recipe).learning_rate == 1e-4
    assert lora_config(recipe).target_modules == {"q_proj", "v_proj"}
    with pytest.raises(InputError, match="write it as key=value"):
        load_recipe("quickstart", ["training"])


def test_dialogues_beside_the_recipe_are_found(tmp_path: Path) -> None:
    write(tmp_path / "mine.jsonl", "{}\n")
    recipe = load_recipe(write(tmp_path / "r.yaml", "base: tiny\ndialogues: {source: mine.jsonl}\n"))
    assert recipe.dialogues.source == str(tmp_path / "mine.jsonl")
