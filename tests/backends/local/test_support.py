"""What is not supported is refused before anything is loaded, in one sentence that names it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Mamba2Config, MambaConfig

from harness.backends.local.pool import SharedPool
from harness.backends.local.sanity import check_variants
from harness.errors import InputError
from harness.variants.folders import local_variants
from harness.variants.model import Variant
from harness.variants.resolve import resolve_variants
from tests.backends.local.small_models import WORDS, save_adapter, save_base, small_tokenizer

TARGETS = ["q_proj", "v_proj"]
OTHER_KINDS = {
    "IA3": peft.IA3Config(target_modules=[*TARGETS, "down_proj"], feedforward_modules=["down_proj"]),
    "LOHA": peft.LoHaConfig(target_modules=TARGETS),
    "VERA": peft.VeraConfig(target_modules=["q_proj", "o_proj"]),
    "ADALORA": peft.AdaLoraConfig(target_modules=TARGETS, total_step=10),
    "PROMPT_TUNING": peft.PromptTuningConfig(num_virtual_tokens=4),
    "PREFIX_TUNING": peft.PrefixTuningConfig(num_virtual_tokens=4),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return save_adapter(base, tmp_path / "adapter")


def variant_of(base: Path, adapter: Path | None = None, **changes: Any) -> Variant:
    kind: Any = "base" if adapter is None else "adapter"
    path = None if adapter is None else str(adapter)
    return Variant(name="new", kind=kind, model=str(base), adapter=path, **{"dtype": "float32", **changes})


def checked(variant: Variant) -> None:
    (located,) = local_variants(resolve_variants([variant])).variants
    check_variants([located], SharedPool([located]))


def refusal(variant: Variant) -> str:
    """Return the one sentence (or two) that refuses the variant, as a run does before it loads anything."""
    with pytest.raises(InputError) as caught:
        checked(variant)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_an_adapter_of_another_kind_is_named(base: Path, tmp_path: Path, kind: str) -> None:
    config: Any = OTHER_KINDS[kind]
    config.task_type = "CAUSAL_LM"
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path)
    said = refusal(variant_of(base, tmp_path))
    assert said == f"{tmp_path} is an adapter of type {kind}; only LoRA adapters (with DoRA) are supported."


@pytest.mark.parametrize(
    ("stated", "named"),
    [
        ({"init_lora_weights": "corda"}, "is a CorDA adapter, which lies on weights that are not saved with it"),
        ({"alora_invocation_tokens": [5, 6]}, "is an activated LoRA (alora_invocation_tokens), which is not supported"),
    ],
)
def test_a_lora_that_works_in_a_way_of_its_own_is_named(
    base: Path, adapter: Path, stated: dict[str, Any], named: str
) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **stated}))
    assert named in refusal(variant_of(base, adapter))


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("base_model.model.", "", "with no prefix where PEFT reads 'base_model.model.', first 'model.layers.0."),
        (
            "base_model.model.",
            "base_model.model.module.",
            "with the prefix 'base_model.model.module.' where PEFT reads",
        ),
        ("base_model.model.", "transformer.", "with the prefix 'transformer.' where PEFT reads 'base_model.model.'"),
    ],
)
def test_an_adapter_whose_tensors_have_no_or_another_prefix(
    base: Path, adapter: Path, before: str, after: str, named: str
) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = {name.replace(before, after): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    said = refusal(variant_of(base, adapter))
    assert named in said
    assert said.endswith("Save the adapter with PEFT's save_pretrained.")


def test_a_tensor_that_the_adapters_own_config_does_not_ask_for(base: Path, adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"] = torch.ones(64)
    save_file(tensors, file, metadata={"format": "pt"})
    said = refusal(variant_of(base, adapter))
    assert "silently not loaded, first 'model.layers.0.self_attn.q_proj.lora_magnitude_vector'" in said


@pytest.mark.parametrize("option", [{}, {"modules_to_save": ["lm_head", "embed_tokens"]}])
def test_an_adapter_of_more_embeddings_than_its_base(base: Path, tmp_path: Path, option: dict[str, Any]) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(WORDS) + 2)
    config = peft.LoraConfig(target_modules=TARGETS, task_type="CAUSAL_LM", **option)
    torch.nn.init.ones_(
        (made := peft.get_peft_model(model, config))
        .base_model.model.model.layers[0]
        .self_attn.q_proj.lora_B.default.weight
    )
    made.save_pretrained(tmp_path, save_embedding_layers=True)
    small_tokenizer(["<a>", "<b>"]).save_pretrained(tmp_path)
    assert f"adapter has {len(WORDS) + 2} embeddings, base {len(WORDS)}." in refusal(variant_of(base, tmp_path))


def test_an_adapter_with_a_head_of_more_rows_than_its_base(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(4098)
    model.save_pretrained(tmp_path / "wider")
    save_adapter(tmp_path / "wider", tmp_path / "adapter", targets=["q_proj", "lm_head"])
    said = refusal(variant_of(base, tmp_path / "adapter"))
    assert f"adapter has 4,098 embeddings, base {len(WORDS)}." in said


@pytest.mark.parametrize("config", [MambaConfig, Mamba2Config])
def test_a_model_without_attention_is_named(base: Path, tmp_path: Path, config: Any) -> None:
    folder = shutil.copytree(base, tmp_path / "model")
    config(vocab_size=len(WORDS)).save_pretrained(folder)
    name = config.model_type
    assert f"is a model of type '{name}', which has no attention" in refusal(variant_of(folder))


@pytest.mark.parametrize(
    ("stated", "package"),
    [
        ({"quant_method": "gptq", "bits": 4}, "optimum"),
        ({"quant_method": "awq", "bits": 4}, "gptqmodel"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors"),
        ({"quant_method": "hqq"}, "HQQ"),
    ],
)
def test_a_quantised_model_without_its_package_names_the_package(
    base: Path, tmp_path: Path, stated: dict[str, Any], package: str
) -> None:
    said = refusal(variant_of(quantised(base, tmp_path, stated)))
    assert f"is quantised ({stated['quant_method']}) and cannot be loaded here: " in said
    assert package in said.partition("loaded here: ")[2]


def test_a_way_of_quantising_that_nobody_knows(base: Path, tmp_path: Path) -> None:
    assert "Unknown quantization type, got new" in refusal(
        variant_of(quantised(base, tmp_path, {"quant_method": "new"}))
    )


@pytest.mark.parametrize("stated", [{"quant_method": "gptq", "bits": 4}, {"load_in_8bit": True}])
def test_quantising_what_is_quantised_already(base: Path, tmp_path: Path, stated: dict[str, Any]) -> None:
    said = refusal(variant_of(quantised(base, tmp_path, stated), quantization="nf4"))
    assert "is already quantised" in said
    assert "cannot be loaded with 'quantization: nf4'. Remove that key" in said


def quantised(base: Path, tmp_path: Path, stated: dict[str, Any]) -> Path:
    folder = Path(shutil.copytree(base, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": stated}))
    return folder


def test_a_model_saved_in_four_bits_is_measured_with_an_adapter_over_it(base: Path, tmp_path: Path) -> None:
    from harness.variants.nf4 import nf4_config

    saved = AutoModelForCausalLM.from_pretrained(base, quantization_config=nf4_config("float32"))
    saved.save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    adapter = save_adapter(base, tmp_path / "adapter")
    variants = [variant_of(tmp_path / "model", None), variant_of(tmp_path / "model", adapter, quantization="nf4")]
    variants[0] = variants[0].model_copy(update={"name": "base"})
    assert all(row.ok for row in check_variants(variants, SharedPool(variants)))
