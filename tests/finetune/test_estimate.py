"""The memory estimate: its parts against sizes that can be counted by hand or seen in real tensors."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from finetune.dry_run import count_parameters, describe, dry_run
from finetune.estimate import Architecture, LoraModule, Parameters, Workload, estimate_memory, weight_bytes
from finetune.options import lora_config
from finetune.recipe import load_recipe
from harness.errors import InputError
from tests.finetune.conftest import write_recipe

LLAMA2_7B = Architecture(4096, 11008, 32, 32, 32, 128, 32000)
LINEAR = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
TOTAL = LINEAR + 2 * 32000 * 4096 + 65 * 4096
ATTENTION = tuple(
    LoraModule(f"model.layers.{layer}.self_attn.{name}", 4096, 4096)
    for layer in range(32)
    for name in ("q_proj", "k_proj", "v_proj", "o_proj")
)
QLORA = Parameters(TOTAL, LINEAR, ATTENTION, 16)
STEP = Workload(batch=8, tokens=1024, dropout=True, checkpointing=True, optimizer="paged_adamw_32bit")


def test_llama2_7b_has_its_known_parameter_counts() -> None:
    assert TOTAL == 6_738_415_616
    assert QLORA.trainable == 16_777_216


def test_nf4_weights_are_what_bitsandbytes_holds() -> None:
    from harness.variants.nf4 import quantize

    weight = torch.randn(512, 1024, dtype=torch.bfloat16)
    held = quantize(weight)
    state = held.quant_state  # type: ignore[attr-defined]
    real = held.numel() + state.absmax.numel() + state.state2.absmax.numel() * 4
    assert weight_bytes(Parameters(weight.numel(), weight.numel(), (), 0)) == real


def test_a_7b_in_4_bit_trains_in_8_to_10_gib_and_in_bf16_in_three_times_the_weights() -> None:
    four = estimate_memory(LLAMA2_7B, QLORA, STEP)
    sixteen = estimate_memory(LLAMA2_7B, replace(QLORA, quantized=0), STEP)
    assert 3.5 < four.weights / 2**30 < 3.8
    assert 8 < four.peak / 2**30 < 10
    assert sixteen.weights == 2 * TOTAL
    assert sixteen.adapter == four.adapter


@pytest.mark.parametrize("change", [{"batch": 4}, {"tokens": 512}])
def test_half_the_tokens_keep_half_the_activations(change: dict[str, int]) -> None:
    whole = estimate_memory(LLAMA2_7B, QLORA, STEP)
    half = estimate_memory(LLAMA2_7B, QLORA, replace(STEP, **change))
    assert half.kept_activations == pytest.approx(whole.kept_activations / 2, rel=0.02)
    assert (half.weights, half.adapter, half.optimizer) == (whole.weights, whole.adapter, whole.optimizer)


def test_without_checkpointing_every_layer_keeps_what_one_layer_works_with() -> None:
    with_it = estimate_memory(LLAMA2_7B, QLORA, STEP)
    without = estimate_memory(LLAMA2_7B, QLORA, replace(STEP, checkpointing=False))
    assert without.peak > 5 * with_it.peak


def test_paged_states_lie_outside_the_allocator_only_where_bitsandbytes_pages_them() -> None:
    small = estimate_memory(LLAMA2_7B, QLORA, STEP)  # 16 × 4096 elements a matrix: too small to be paged
    large = estimate_memory(LLAMA2_7B, replace(QLORA, rank=64), STEP)
    assert (small.optimizer, small.paged) == (QLORA.trainable * 8, 0)
    assert (large.optimizer, large.paged) == (0, 4 * QLORA.trainable * 8)


def test_activations_saved_by_a_real_model_are_those_estimated() -> None:
    """Autograd's own count of what it saves, for a small Llama without dropout, beside the formula's."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, tokens = 3, 96
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    plain = LlamaForCausalLM(config).to(torch.bfloat16)
    model = get_peft_model(
        plain, LoraConfig(r=4, target_modules=targets, lora_dropout=0.0), autocast_adapter_dtype=False
    )
    model.train().enable_input_require_grads()
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        ids = torch.arange(tokens).remainder(60).unsqueeze(0)
        hidden = model.get_base_model().model(input_ids=ids, use_cache=False).last_hidden_state
    assert hidden.requires_grad
    real = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    modules = tuple(LoraModule(f"layers.{i}.{name}", 128, 128) for i in range(layers) for name in targets)
    workload = Workload(batch=1, tokens=tokens, dropout=False, checkpointing=False)
    estimated = estimate_memory(Architecture.of(config.to_dict()), Parameters(0, 0, modules, 4), workload)
    assert estimated.kept_activations == pytest.approx(real, rel=0.1)


def test_counting_asks_peft_which_layers_are_hit(base: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, base, lora={"r": 4, "target_modules": ["q_proj", "down_proj"]}))
    counted = count_parameters(base, recipe)
    assert counted.trainable == 2 * 4 * ((64 + 64) + (128 + 64))
    assert 0 < counted.quantized < counted.total


@pytest.mark.parametrize(
    "lora",
    [
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"bias": "lora_only"},
        {"rank_pattern": {"q_proj": 2}},
        {"rank_pattern": {"q_proj": 32}},
    ],
)
def test_everything_that_is_trained_is_counted(base: Path, tmp_path: Path, lora: dict[str, Any]) -> None:
    recipe = load_recipe(write_recipe(tmp_path, base, lora={"r": 4, "target_modules": ["q_proj", "v_proj"], **lora}))
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(str(base)), lora_config(recipe))
    assert count_parameters(base, recipe).trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_memory_in_float32_is_not_passed_off_as_that_of_bfloat16(base: Path, tmp_path: Path) -> None:
    found = dry_run(write_recipe(tmp_path, base, dtype="float32"))
    assert found.memory is None
    assert "estimated only for Llama architectures" in "\n".join(describe(found))


def test_steps_of_a_part_of_an_epoch_are_those_that_the_trainer_makes(base: Path, tmp_path: Path) -> None:
    training = {"per_device_train_batch_size": 8, "num_train_epochs": 0.3}
    found = dry_run(write_recipe(tmp_path, base, training=training))
    batches = -(-len(found.prepared.training.examples) // 8)
    assert batches * 0.3 % 1  # or the two roundings would be the same
    assert found.steps == math.ceil(batches * 0.3)


def test_a_dry_run_on_nothing_is_refused_like_the_run(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There are no dialogues to train on"):
        dry_run(write_recipe(tmp_path, base, max_length=8))


def test_dry_run_trains_nothing_and_says_what_would_be_skipped(base: Path, tmp_path: Path) -> None:
    found = dry_run(write_recipe(tmp_path / "recipe", base))
    lines = "\n".join(describe(found))
    assert [path.name for path in tmp_path.iterdir()] == ["recipe"]
    assert f"{found.prepared.training.skipped['too long']} of {len(found.prepared.training.lengths)} dialogues" in lines
    assert "Peak GPU memory: about" in lines
    assert found.steps == 4


def test_a_model_of_another_kind_is_not_guessed_at() -> None:
    with pytest.raises(InputError, match="cannot be estimated"):
        Architecture.of({"n_embd": 768})
