"""Llama-2-7B's geometry with random weights, a LoRA adapter over it, their merge, and prompts of random words.

Nothing is fetched: neither speed nor memory depends on what the weights say.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from harness.store import DialogueRow
from harness.variants import Variant

SHAPES: dict[str, dict[str, int]] = {
    "7b": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    },
    "tiny": {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 1024,
    },
}  # fmt: skip
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


def _write(base: Path, adapter: Path, merged: Path, shape: dict[str, int], dtype: str, device: str) -> None:
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
        _save_tokenizer(folder, shape["vocab_size"])
    model.save_pretrained(base)
    tuned: Any = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, target_modules=TARGETS, task_type="CAUSAL_LM"))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=2e-4)  # a change of about one per cent of the weights, as training makes it
    tuned.save_pretrained(adapter)
    tuned.merge_and_unload().save_pretrained(merged)


def _save_tokenizer(folder: Path, vocabulary: int) -> None:
    """Words w3, w4, …; one token each, ``<s>`` in front."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(3, vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    ).save_pretrained(folder)
