"""Every sanity check passes on sound artefacts and fires on a really broken one, saying which."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.backends.local.pool import SharedPool
from harness.backends.local.sanity import check_variants
from harness.errors import InputError
from harness.variants.digests import digest_adapter_folder, digest_model_folder
from harness.variants.model import Variant
from tests.backends.local.small_models import save_adapter, save_base, save_merged, small_tokenizer

Trio = tuple[Variant, Variant, Variant]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base, adapter and merged; copied by every test that breaks one."""
    root = tmp_path_factory.mktemp("sound")
    save_base(root / "base")
    save_adapter(root / "base", root / "adapter")
    save_merged(root / "base", root / "adapter", root / "merged")
    return root


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def trio(folder: Path) -> Trio:
    base, adapter = str(folder / "base"), str(folder / "adapter")
    return (
        Variant(name="base", kind="base", model=base, dtype="float32"),
        Variant(name="adapter", kind="adapter", model=base, adapter=adapter, dtype="float32"),
        Variant(name="merged", kind="merged", model=str(folder / "merged"), dtype="float32"),
    )


def with_digests(variants: Trio, folder: Path) -> Trio:
    base = digest_model_folder(folder / "base")
    facts: list[dict[str, Any]] = [
        {"base_digest": base, "model_digest": base},
        {"base_digest": base, "adapter_digest": digest_adapter_folder(folder / "adapter")},
        {"base_digest": base, "model_digest": digest_model_folder(folder / "merged")},
    ]
    first, second, third = (v.model_copy(update=f) for v, f in zip(variants, facts, strict=True))
    return first, second, third


def check(variants: Trio, **options: Any) -> dict[tuple[str, str | None], bool]:
    return {(row.name, row.variant): row.ok for row in check_variants(variants, SharedPool(variants), **options)}


def edit(path: Path, change: Any) -> None:
    tensors = load_file(path)
    save_file(change(tensors) or tensors, path, metadata={"format": "pt"})


def test_sound_variants_pass_every_check(folder: Path) -> None:
    rows = check(with_digests(trio(folder), folder))
    assert all(rows.values())
    assert {name for name, _ in rows} == {
        "adapter changes the logits", "adapter fits its base", "adapter is not zero",
        "adapter leaves its base as it is", "files", "finite weights", "merge changed the weights",
        "no LoRA tensors left", "recorded adapter", "recorded weights", "tokenizer fits the model", "tokenizers agree",
    }  # fmt: skip


def test_adapters_made_elsewhere_need_no_manifest(folder: Path) -> None:
    assert all(check(trio(folder)).values())


def test_an_adapter_of_zeros_is_an_error(folder: Path) -> None:
    save_adapter(folder / "base", folder / "adapter", scale=0.0)
    with pytest.raises(InputError, match="changes nothing, because its lora_B weights are all zero"):
        check(trio(folder))


def test_an_adapter_as_peft_starts_it_is_an_error_although_its_first_halves_are_random(folder: Path) -> None:
    def untrained(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if "lora_B" in name:
                tensor.zero_()

    edit(folder / "adapter/adapter_model.safetensors", untrained)
    with pytest.raises(InputError, match="Was it saved before training"):
        check(trio(folder))


def test_an_adapter_for_other_module_names_is_an_error_that_names_them(folder: Path) -> None:
    def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name.replace("self_attn.q_proj", "attention.query"): t for name, t in tensors.items()}

    edit(folder / "adapter/adapter_model.safetensors", renamed)
    with pytest.raises(InputError, match=r"first 'model\.layers\.0\.attention\.query'"):
        check(trio(folder))


def test_an_adapter_that_is_silently_not_loaded_is_an_error(folder: Path) -> None:
    """PEFT drops weights of modules that its own config does not target, with a warning at most."""
    path = folder / "adapter/adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"] = ["v_proj", "down_proj"]
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"silently not loaded, first 'model\.layers\.0\.self_attn\.q_proj\.lora_A"):
        check(trio(folder))


def test_an_adapter_whose_first_halves_are_zero_changes_nothing_and_is_an_error(folder: Path) -> None:
    def emptied(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if "lora_A" in name:
                tensor.zero_()

    edit(folder / "adapter/adapter_model.safetensors", emptied)
    with pytest.raises(InputError, match="changes no logit"):
        check(trio(folder))


def test_a_base_swapped_for_one_of_other_weights_is_found_by_its_digest(folder: Path) -> None:
    variants = with_digests(trio(folder), folder)
    shutil.rmtree(folder / "base")
    save_base(folder / "base", seed=5)
    with pytest.raises(InputError, match="is not what was recorded"):
        check(variants)
    with pytest.raises(InputError, match="is not the base its adapter was trained on"):
        check((variants[1], variants[1], variants[1]))
    rows = check(variants, allow_base_mismatch=True)
    assert rows["recorded weights", "adapter"] is False


def test_a_base_of_another_width_is_found_without_a_digest(folder: Path) -> None:
    shutil.rmtree(folder / "base")
    save_base(folder / "base", hidden_size=32, num_attention_heads=2, intermediate_size=64)
    with pytest.raises(InputError, match="does not fit"):
        check(trio(folder))


def test_a_tokenizer_with_one_token_more_than_the_model_has_embeddings_is_an_error(folder: Path) -> None:
    small_tokenizer(extra=["w999"]).save_pretrained(folder / "base")
    with pytest.raises(InputError, match="only 124 embeddings"):
        check(trio(folder))


@pytest.mark.parametrize("where", ["merged", "adapter"])
def test_a_tokenizer_that_is_not_the_bases_is_an_error_unless_allowed(folder: Path, where: str) -> None:
    tokenizer = small_tokenizer()
    tokenizer.add_special_tokens({"cls_token": "w119"})
    tokenizer.save_pretrained(folder / where)
    with pytest.raises(InputError, match=f"Variant '{where}': its tokenizer"):
        check(trio(folder))
    assert check(trio(folder), allow_base_mismatch=True)["tokenizers agree", where] is False


def test_a_merge_with_lora_tensors_left_is_an_error(folder: Path) -> None:
    def leftover(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.0.self_attn.q_proj.lora_A.weight"] = torch.ones(4, 64)

    edit(folder / "merged/model.safetensors", leftover)
    with pytest.raises(InputError, match="still has LoRA tensors"):
        check(trio(folder))


def test_a_merge_that_is_its_base_byte_for_byte_is_an_error(folder: Path) -> None:
    shutil.copy(folder / "base/model.safetensors", folder / "merged/model.safetensors")
    with pytest.raises(InputError, match="The adapter was not merged"):
        check(trio(folder))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_base_that_was_only_saved_again_is_no_merge(folder: Path, dtype: torch.dtype) -> None:
    from transformers import LlamaForCausalLM

    again = LlamaForCausalLM.from_pretrained(folder / "base", dtype=dtype)
    (folder / "merged/model.safetensors").unlink()
    again.save_pretrained(folder / "merged", max_shard_size="50KB")
    assert len(list((folder / "merged").glob("*.safetensors"))) > 1
    with pytest.raises(InputError, match="The adapter was not merged"):
        check(trio(folder))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_merge_saved_in_another_dtype_than_its_base_is_one(folder: Path, dtype: torch.dtype) -> None:
    edit(folder / "merged/model.safetensors", lambda tensors: {name: t.to(dtype) for name, t in tensors.items()})
    assert check(trio(folder))["merge changed the weights", "merged"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("file", ["base/model", "adapter/adapter_model", "merged/model"])
def test_one_number_that_is_none_in_any_file_is_an_error(
    folder: Path, file: str, dtype: torch.dtype, bad: float
) -> None:
    name = ""

    def plant(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        nonlocal name
        changed = {key: tensor.to(dtype) for key, tensor in tensors.items()}
        name = sorted(changed)[3]
        changed[name].view(-1)[-1] = bad
        return changed

    edit(folder / f"{file}.safetensors", plant)
    with pytest.raises(InputError, match="has NaN or Inf in tensor") as caught:
        check(trio(folder))
    assert f"'{name}'" in str(caught.value)
    assert str(folder / f"{file}.safetensors") in str(caught.value)


@pytest.mark.parametrize("file", ["base/model", "adapter/adapter_model"])
def test_a_truncated_file_is_an_error(folder: Path, file: str) -> None:
    path = folder / f"{file}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        check(trio(folder))


def test_without_a_pool_no_model_is_loaded(folder: Path) -> None:
    rows = {row.name for row in check_variants(trio(folder))}
    assert "adapter changes the logits" not in rows
    assert "adapter is not zero" in rows
