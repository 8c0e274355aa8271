"""A merge that cannot be right does not happen: each broken artefact is one sentence, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from finetune.merging import MergeOptions, merge_adapter, saving
from harness.errors import HarnessError, InputError
from harness.variants import nf4
from harness.variants.artifacts import ADAPTER_FACTS
from tests.finetune.conftest import make_adapter

Edit = Callable[[dict[str, torch.Tensor]], None]
A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


@pytest.fixture
def broken(adapter: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the adapter and change its tensors or its configuration."""

    def build(edit: Edit | None = None, **config: Any) -> Path:
        folder = tmp_path / "broken"
        shutil.copytree(adapter, folder)
        if edit is not None:
            tensors = load_file(folder / "adapter_model.safetensors")
            edit(tensors)
            save_file(tensors, folder / "adapter_model.safetensors")
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **config}), encoding="utf-8")
        return folder

    return build


def merge(base: Path, adapter: Path, out: Path, **options: Any) -> None:
    merge_adapter(str(base), adapter, out, MergeOptions(device="cpu", **options))


def zero(tensors: dict[str, torch.Tensor]) -> None:
    for name in tensors:
        if "lora_B" in name:
            tensors[name] = torch.zeros_like(tensors[name])


def plant_nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors[B][0, 0] = float("nan")


def drop_one(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[A]


def rename(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors):
        tensors[name.replace("self_attn", "attention")] = tensors.pop(name)


def widen(tensors: dict[str, torch.Tensor]) -> None:
    tensors[A] = torch.zeros(4, 128)


def stray(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.layers.9.extra"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("edit", "config", "message"),
    [
        (zero, {}, "every ΔW is zero"),
        (plant_nan, {}, "contains NaN or infinity"),
        (drop_one, {}, "no weights for 'model.layers.0.self_attn.q_proj.lora_A.weight'"),
        (rename, {}, "trained over a base with different module names"),
        (widen, {}, "trained over another base .*size mismatch"),
        (stray, {}, "changes 'model.layers.9.extra', which its base does not have"),
        (None, {"target_modules": ["q_proj", "v_proj", "down_proj", "o_proj"]}, "no weights for '.*o_proj.lora_A"),
        (None, {"target_modules": ["qkv"]}, "cannot be attached to its base by peft .*not found in the base model"),
        (None, {"peft_type": "LOHA"}, "only LoRA"),
        (None, {"r": 8}, "trained over another base .*size mismatch"),
        (None, {"use_dora": True}, "no weights for '.*lora_magnitude_vector"),
        (None, {"trainable_token_indices": [5]}, "no weights for '.*trainable_tokens_delta"),
        (None, {"modules_to_save": ["lm_head"]}, "no weights for 'lm_head"),
        (None, {"init_lora_weights": "pissa_niter_4"}, "randomised decomposition"),
        (None, {"init_lora_weights": "corda"}, "is a CorDA adapter"),
        (None, {"alora_invocation_tokens": [1]}, "activated LoRA"),
        (None, {"layer_replication": [[0, 2], [0, 2]]}, "replicated layers"),
    ],
)
def test_a_broken_adapter_is_refused(
    base: Path, broken: Callable[..., Path], tmp_path: Path, edit: Edit | None, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        merge(base, broken(edit, **config), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_nan_in_the_base_is_found(base: Path, adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    tensors["model.norm.weight"][0] = float("inf")
    save_file(tensors, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"'model\.norm\.weight' contains NaN or infinity"):
        merge(tmp_path / "base", adapter, tmp_path / "out")


def test_another_base_than_the_one_trained_over_is_refused_unless_allowed(
    base: Path, broken: Callable[..., Path], tmp_path: Path
) -> None:
    adapter = broken()
    (adapter / ADAPTER_FACTS).write_text(json.dumps({"base_digest": "0" * 64, "quantization": "nf4"}), encoding="utf-8")
    with pytest.raises(InputError, match="their digests differ"):
        merge(base, adapter, tmp_path / "out")
    merge(base, adapter, tmp_path / "out", allow_base_mismatch=True)
    assert (tmp_path / "out" / "merge.json").is_file()


def test_corrupted_dequantisation_stops_the_merge(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def garbage(held: Any) -> torch.Tensor:
        values = nf4.bitsandbytes().functional.dequantize_4bit(held.data, held.quant_state)
        return values.flatten().roll(1).reshape(values.shape)

    monkeypatch.setattr(nf4, "dequantize", garbage)
    with pytest.raises(HarnessError, match=r"relative error of 1\.\d\d, but nf4's is about 0\.09"):
        merge(base, adapter, tmp_path / "out", quantization="nf4")
    assert not (tmp_path / "out").exists()


def test_a_file_that_reads_back_differently_stops_the_merge(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = saving.save_merged

    def save_then_flip(model: Any, base: Any, folder: Path, **options: Any) -> None:
        save(model, base, folder, **options)
        path = folder / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-2] ^= 1  # the last bit of a weight
        path.write_bytes(bytes(data))

    monkeypatch.setattr("finetune.merging.merge.save_merged", save_then_flip)
    with pytest.raises(HarnessError, match="reads back differently"):
        merge(base, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_overflow_in_the_saved_dtype_is_found(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "adapter", size=1e6)
    with pytest.raises(InputError, match=r"NaN or infinite; its values exceed the range of torch\.float16"):
        merge(base, adapter, tmp_path / "out", strategy="original", dtype="float16")


def test_a_folder_of_something_else_is_not_overwritten(base: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(InputError, match="contains files that no merge wrote"):
        merge(base, adapter, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("which", ["base", "adapter"])
def test_a_merge_never_replaces_what_it_is_made_from(base: Path, adapter: Path, tmp_path: Path, which: str) -> None:
    made = {"base": shutil.copytree(base, tmp_path / "base"), "adapter": shutil.copytree(adapter, tmp_path / "adapter")}
    with pytest.raises(InputError, match=f"is the {which} itself"):
        merge(made["base"], made["adapter"], made[which])
    assert {file.name for file in made[which].iterdir()} == {
        file.name for file in {"base": base, "adapter": adapter}[which].iterdir()
    }


def test_a_model_that_no_merge_made_is_not_overwritten_and_a_merge_is(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    with pytest.raises(InputError, match="that no merge wrote"):
        merge(base, adapter, other)
    merge(base, adapter, tmp_path / "merged")
    merge(base, adapter, tmp_path / "merged", strategy="original")
    assert json.loads((tmp_path / "merged/merge.json").read_text(encoding="utf-8"))["strategy"] == "original"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full)
    with pytest.raises(HarnessError, match=r"No space left on device.*Free some space and merge again"):
        merge(base, adapter, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "it does not fit into memory"),
        (RuntimeError("shape '[64, 1]' is invalid for input of size 96"), "shape '.64, 1.' is invalid"),
    ],
)
def test_a_model_that_cannot_run_here_is_one_sentence_and_leaves_nothing(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    def fail(*args: Any) -> Any:
        raise error

    monkeypatch.setattr("finetune.merging.agreement._logits", fail)
    with pytest.raises(HarnessError, match=rf"The merge failed on cpu \({why}.*Merge on another device"):
        merge(base, adapter, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_dequantizing_after_an_unquantised_training_is_refused(
    base: Path, broken: Callable[..., Path], tmp_path: Path
) -> None:
    adapter = broken()
    (adapter / ADAPTER_FACTS).write_text('{"quantization": "none"}', encoding="utf-8")
    with pytest.raises(InputError, match="nothing to dequantise"):
        merge(base, adapter, tmp_path / "out", strategy="dequantized")
    merge(base, adapter, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "merge.json").read_text(encoding="utf-8"))["strategy"] == "original"
