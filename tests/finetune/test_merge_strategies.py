"""Each strategy against another way to the same weights: PEFT's own merge, and transformers' own 4-bit loading."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from finetune.merging import MergeOptions, merge_adapter
from harness.variants.merge_report import read_merge_report
from harness.variants.nf4 import dequantize, nf4_config
from tests.backends.local.small_models import save_adapter, save_base
from tests.finetune.conftest import make_adapter

TARGET = "model.layers.1.self_attn.q_proj.weight"
UNTOUCHED = "model.layers.0.self_attn.k_proj.weight"


def load(folder: Path, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(str(folder), **options)


def merge(base: Path, adapter: Path, out: Path, strategy: Any, **options: Any) -> Any:
    return merge_adapter(str(base), adapter, out, MergeOptions(strategy=strategy, device="cpu", **options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 32}},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": "all-linear"},
        {"bias": "lora_only"},
    ],
    ids=["plain", "rslora", "dora", "patterns", "modules_to_save", "all-linear", "bias"],
)
def test_original_equals_pefts_own_merge(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", size=0.3, **options)
    merge(base, adapter, tmp_path / "merged", "original", dtype="float32")
    theirs = PeftModel.from_pretrained(load(base, dtype=torch.float32), str(adapter)).merge_and_unload()
    ours = load(tmp_path / "merged", dtype=torch.float32).state_dict()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def test_dequantized_is_transformers_4bit_weight_plus_delta(base: Path, adapter: Path, tmp_path: Path) -> None:
    merge(base, adapter, tmp_path / "merged", "dequantized")
    quantised = load(base, quantization_config=nf4_config("bfloat16"), dtype=torch.bfloat16)
    plain = quantised.dequantize().state_dict()
    with_adapter = PeftModel.from_pretrained(load(base, dtype=torch.bfloat16), str(adapter))
    layer = with_adapter.base_model.model.model.layers[1].self_attn.q_proj
    expected = (plain[TARGET].float() + layer.get_delta_weight("default").float()).to(torch.bfloat16)
    merged = load(tmp_path / "merged", dtype=torch.bfloat16).state_dict()
    assert torch.equal(merged[TARGET], expected)
    assert torch.equal(merged[UNTOUCHED], plain[UNTOUCHED])
    assert torch.equal(merged["lm_head.weight"], load(base).state_dict()["lm_head.weight"])


def test_dequantized_computes_what_the_adapter_computes(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", size=1.0)
    merge(base, adapter, tmp_path / "dequantized", "dequantized")
    merge(base, adapter, tmp_path / "original", "original")
    ids = torch.arange(3, 40).unsqueeze(0)
    quantised = load(base, quantization_config=nf4_config("bfloat16"), dtype=torch.bfloat16)
    with torch.no_grad():
        trained = PeftModel.from_pretrained(quantised, str(adapter)).train(False)(ids).logits.float()
        dequantized = load(tmp_path / "dequantized")(ids).logits.float()
        original = load(tmp_path / "original")(ids).logits.float()
    assert (dequantized - trained).norm() < 0.25 * (original - trained).norm()


@pytest.mark.parametrize("options", [{}, {"use_dora": True}], ids=["lora", "dora"])
def test_in_place_4bit_equals_pefts_merge_and_loads_as_4bit(
    base: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", **options)
    merge(base, adapter, tmp_path / "merged", "in-place-4bit")
    quantised = load(base, quantization_config=nf4_config("bfloat16"), dtype=torch.bfloat16)
    theirs = PeftModel.from_pretrained(quantised, str(adapter)).merge_and_unload()
    ours = load(tmp_path / "merged")
    assert ours.is_loaded_in_4bit
    for name, parameter in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(name).data, parameter.data), name


def test_in_place_4bit_loses_most_of_a_small_delta(base: Path, adapter: Path, tmp_path: Path) -> None:
    lossy = merge(base, adapter, tmp_path / "four", "in-place-4bit")
    faithful = merge(base, adapter, tmp_path / "sixteen", "dequantized")
    assert faithful.delta_to_weight == pytest.approx(0.01, rel=0.9)
    assert lossy.mean_kept < 0.3
    assert faithful.mean_kept > 0.9


def test_a_float32_merge_is_not_held_against_the_rounding_of_a_bfloat16_kernel(tmp_path: Path) -> None:
    """On some CPUs a forward repacks 4-bit weights of wide layers and computes in bfloat16."""
    base = save_base(tmp_path / "base")
    merge(base, save_adapter(base, tmp_path / "adapter"), tmp_path / "merged", "dequantized", dtype="float32")
    assert load(tmp_path / "merged").dtype == torch.float32


def test_report_names_the_rounding_floor_of_each_layer(base: Path, adapter: Path, tmp_path: Path) -> None:
    report = merge(base, adapter, tmp_path / "merged", "dequantized")
    assert report == read_merge_report(tmp_path / "merged")
    assert report.layers == 6
    worst = [layer.relative_error for layer in report.worst_layers]
    assert worst == sorted(worst, reverse=True)
    merged = load(tmp_path / "merged").state_dict()
    plain = load(base, quantization_config=nf4_config("bfloat16"), dtype=torch.bfloat16).dequantize().state_dict()
    peft = PeftModel.from_pretrained(load(base), str(adapter))
    name = report.worst_layers[0].name
    delta = peft.base_model.model.get_submodule(name.removesuffix(".weight")).get_delta_weight("default").float()
    lost = (merged[name].float() - plain[name].float() - delta).norm() / delta.norm()
    assert report.worst_layers[0].relative_error == pytest.approx(float(lost), rel=1e-3)
    assert 0.05 < report.largest_quantization_error < 0.12


def test_original_is_held_against_the_function_that_was_trained(base: Path, adapter: Path, tmp_path: Path) -> None:
    report = merge(base, adapter, tmp_path / "merged", "original", quantization="nf4")
    assert report.mean_relative_error > 1  # nf4's ~9 % of the weights, where ΔW is ~1 %


@pytest.mark.parametrize("strategy", ["dequantized", "in-place-4bit"])
def test_shards_hold_the_same_model_as_one_file(base: Path, adapter: Path, tmp_path: Path, strategy: str) -> None:
    merge(base, adapter, tmp_path / "one", strategy)
    merge(base, adapter, tmp_path / "many", strategy, shard_bytes=20_000)
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    one, many = load(tmp_path / "one").state_dict(), load(tmp_path / "many").state_dict()
    assert all(torch.equal(one[name], many[name]) for name in one)


def test_layers_that_store_their_weight_transposed_are_merged_the_right_way_round(base: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path / "gpt2"
    config = GPT2Config(n_embd=64, n_layer=1, n_head=2, vocab_size=400, n_positions=64, n_inner=64)
    GPT2LMHeadModel(config).to(torch.bfloat16).save_pretrained(str(folder))
    shutil.copyfile(base / "tokenizer.json", folder / "tokenizer.json")
    options = {"target_modules": ["attn.c_proj", "c_fc"], "fan_in_fan_out": True}  # square: shapes do not tell
    adapter = make_adapter(folder, tmp_path / "adapter", **options)
    merge(folder, adapter, tmp_path / "original", "original", dtype="float32")
    theirs = PeftModel.from_pretrained(load(folder, dtype=torch.float32), str(adapter)).merge_and_unload()
    name = "transformer.h.0.attn.c_proj.weight"
    ours = load(tmp_path / "original", dtype=torch.float32).state_dict()
    torch.testing.assert_close(ours[name], theirs.state_dict()[name], rtol=1e-5, atol=1e-6)

    merge(folder, adapter, tmp_path / "dequantized", "dequantized")
    held = load(folder, quantization_config=nf4_config("bfloat16"), dtype=torch.bfloat16)
    in_four_bits = held.transformer.h[0].mlp.c_proj.weight
    untouched = dequantize(in_four_bits).T
    merged = load(tmp_path / "dequantized").state_dict()["transformer.h.0.mlp.c_proj.weight"]
    assert torch.equal(merged, untouched)
