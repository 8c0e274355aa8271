"""Variants over one base share its weights, and each behaves as if it were loaded alone."""

from __future__ import annotations

import os
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

from harness.backends.local import device, loading
from harness.backends.local.pool import SharedPool
from harness.errors import HarnessError, InputError
from harness.variants.model import Variant
from tests.backends.local.small_models import save_adapter

Trio = tuple[Variant, Variant, Variant]
IDS = torch.tensor([[1, 5, 9, 20, 31]])


def logits(pool: SharedPool, variant: Variant) -> torch.Tensor:
    with pool.use(variant) as loaded, torch.no_grad():
        result: torch.Tensor = loaded.model(IDS).logits
        return result


def test_switching_adapters_on_and_off_leaves_no_trace(trio: Trio, tmp_path: Path) -> None:
    base, adapter, _ = trio
    other = Variant(
        name="v1.5-other", kind="adapter", model=base.model, dtype="float32",
        adapter=str(save_adapter(Path(base.model), tmp_path / "other", seed=9)),
    )  # fmt: skip
    pool = SharedPool([base, adapter, other])
    first = {v.name: logits(pool, v) for v in (base, adapter, other)}
    for variant in (other, base, adapter, base, other):
        assert torch.equal(logits(pool, variant), first[variant.name])
    plain = LlamaForCausalLM.from_pretrained(base.model)
    assert torch.equal(plain(IDS).logits, first["base"])
    for variant in (adapter, other):
        alone = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base.model), str(variant.adapter)).eval()
        assert torch.allclose(alone(IDS).logits, first[variant.name], atol=1e-5)
    assert len(pool.loaded()) == 1


def test_a_base_whose_adapter_is_off_runs_without_its_wrappers(trio: Trio) -> None:
    pool = SharedPool(trio)
    with pool.use(trio[1]) as lent:
        assert hasattr(lent.model.model.layers[0].self_attn.q_proj, "lora_A")
        with pool.use(trio[0]):
            assert type(lent.model.model.layers[0].self_attn.q_proj) is torch.nn.Linear
        assert hasattr(lent.model.model.layers[0].self_attn.q_proj, "lora_A")


def test_nested_use_switches_back_when_the_inner_block_ends(trio: Trio) -> None:
    base, adapter, merged = trio
    pool = SharedPool(trio)
    want = logits(pool, adapter)
    with pool.use(adapter) as outer:
        with pool.use(base) as inner:
            assert not torch.allclose(inner.model(IDS).logits, want, atol=1e-3)
        with pool.use(merged) as other:
            assert torch.allclose(other.model(IDS).logits, want, atol=1e-3)
        assert torch.equal(outer.model(IDS).logits, want)


def test_the_longest_unused_weights_are_let_go_when_memory_is_short(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _, merged = trio
    pool = SharedPool(trio)
    logits(pool, base)
    # Room for nothing beyond what is loaded.
    monkeypatch.setattr(device, "free_bytes", lambda _: 0)
    logits(pool, merged)
    assert pool.loaded() == ((merged.model, "none", "float32", None),)


def test_weights_in_use_are_never_let_go(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    base, _, merged = trio
    pool = SharedPool(trio)
    monkeypatch.setattr(device, "free_bytes", lambda _: 0)
    with pool.use(base), pool.use(merged):
        assert len(pool.loaded()) == 2


def test_a_model_that_does_not_fit_says_what_to_do(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loading, "load_weights", full)
    with pytest.raises(HarnessError, match="Use quantization: nf4"):
        logits(SharedPool(trio), trio[0])


def test_a_second_try_finds_nothing_left_of_the_first(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    base, _, merged = trio
    pool = SharedPool(trio)
    logits(pool, base)
    real = loading.load_weights
    parts: list[weakref.ref[torch.nn.Linear]] = []

    def too_large_at_first(*arguments: Any) -> Any:
        if not parts:
            part = torch.nn.Linear(2, 2)
            parts.append(weakref.ref(part))
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert parts[0]() is None, "what the first try had loaded is still in memory"
        return real(*arguments)

    monkeypatch.setattr(loading, "load_weights", too_large_at_first)
    logits(pool, merged)
    assert pool.loaded() == ((merged.model, "none", "float32", None),)


def test_models_with_equal_tokenizer_files_share_one_tokenizer(trio: Trio) -> None:
    pool = SharedPool(trio)
    assert pool.tokenizer(trio[0].model) is pool.tokenizer(trio[2].model)


def test_an_absent_model_is_an_input_error_that_names_the_variant(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    variant = Variant(name="gone", kind="base", model=str(tmp_path / "empty"))
    with pytest.raises(InputError, match="'gone'"):
        logits(SharedPool([variant]), variant)


@pytest.mark.parametrize("which", [1, 2], ids=["adapter", "merged"])
def test_weights_replaced_before_they_are_loaded_are_refused(trio: Trio, tmp_path: Path, which: int) -> None:
    """Nobody checked these, and records would be kept under the digest of the others."""
    field = ("", "adapter", "model")[which]
    copy = Path(shutil.copytree(getattr(trio[which], field), tmp_path / "copy"))
    variants = [trio[0], trio[which].model_copy(update={field: str(copy)})]
    pool = SharedPool(variants)
    logits(pool, variants[0])
    (file,) = copy.glob("*.safetensors")
    Path(shutil.copy2(file, tmp_path / "again")).replace(file)
    with pytest.raises(InputError, match=f"{file} was changed since this run began"):
        logits(pool, variants[1])


def test_weights_replaced_after_they_were_loaded_disturb_nobody(trio: Trio, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trio[2].model, tmp_path / "copy"))
    merged = trio[2].model_copy(update={"model": str(copy)})
    pool = SharedPool([merged])
    before = logits(pool, merged)
    os.utime(copy / "model.safetensors")
    assert torch.equal(logits(pool, merged), before)


def test_weights_missing_from_the_files_are_refused_not_made_up(trio: Trio, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(trio[0].model, tmp_path / "holes")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    variant = Variant(name="holes", kind="base", model=str(folder), dtype="float32")
    with pytest.raises(InputError, match=r"lacks the weights model\.layers\.1\.mlp\.up_proj\.weight"):
        logits(SharedPool([variant]), variant)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantised_bases_carry_adapters_too(trio: Trio, quantization: Any) -> None:
    base, adapter, _ = (v.model_copy(update={"quantization": quantization, "dtype": "auto"}) for v in trio)
    pool = SharedPool([base, adapter])
    plain, adapted = logits(pool, base), logits(pool, adapter)
    full = logits(SharedPool(trio), trio[0])
    assert 0 < (plain - full).float().norm() / full.norm() < 0.5
    assert (plain - adapted).float().norm() / full.norm() > 0.1
    assert len(pool.loaded()) == 1
