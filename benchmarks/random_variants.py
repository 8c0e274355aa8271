"""Llama-2-7B's geometry with random weights, a LoRA adapter over it, their merge, and prompts of random words.

Nothing is fetched: neither speed nor memory depends on what the weights say.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from benchmarks.peers.random_models import SHAPES, change_of_a_hundredth, tokenizer_of
from harness.store.schema import DialogueRow
from harness.variants.model import Variant

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


def make_variants(folder: Path, shape: str, device: str) -> tuple[Variant, ...]:
    """Write the models under ``folder`` (27 GB for 7b) unless they are there; return the five variants."""
    dtype = "bfloat16" if device.startswith("cuda") else "float32"
    base, adapter, merged = (folder / name for name in ("base", "adapter", "merged"))
    if not (merged / "config.json").is_file():
        _write(base, adapter, merged, SHAPES[shape], dtype, device)
    own, tuned = {"model": str(base)}, {"model": str(base), "adapter": str(adapter)}
    described: list[dict[str, Any]] = [
        {"name": "base", "kind": "base", **own},
        {"name": "adapter", "kind": "adapter", **tuned},
        {"name": "merged", "kind": "merged", "model": str(merged)},
        {"name": "base-nf4", "kind": "base", "quantization": "nf4", **own},
        {"name": "adapter-nf4", "kind": "adapter", "quantization": "nf4", **tuned},
    ]
    return tuple(Variant.model_validate({"dtype": dtype, **one}) for one in described)


def random_prompts(count: int, shape: str, seed: int = 1) -> tuple[DialogueRow, ...]:
    """Return prompts of 48–128 tokens."""
    pick = random.Random(seed)
    words = SHAPES[shape]["vocab_size"]

    def text() -> str:
        return " ".join(f"w{pick.randrange(3, words)}" for _ in range(pick.randint(47, 127)))

    return tuple(DialogueRow(id=f"prompt-{number}", prompt=text()) for number in range(count))


def _write(base: Path, adapter: Path, merged: Path, shape: dict[str, Any], dtype: str, device: str) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = LlamaForCausalLM(LlamaConfig(**shape, bos_token_id=1, eos_token_id=2, pad_token_id=2, dtype=dtype))
    finally:
        torch.set_default_dtype(torch.float32)
    model.eval().requires_grad_(False)
    for folder in (base, merged):
        tokenizer_of(shape["vocab_size"]).save_pretrained(folder)
    model.save_pretrained(base)
    tuned: Any = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, target_modules=TARGETS, task_type="CAUSAL_LM"))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=change_of_a_hundredth(shape["hidden_size"]))
    tuned.save_pretrained(adapter)
    tuned.merge_and_unload().save_pretrained(merged)
