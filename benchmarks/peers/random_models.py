"""A model of Llama-2-7B's geometry with random weights, an adapter and a merge of it, and dialogues of random words.

Nothing is downloaded. The head's EOS row is scaled so that greedy replies meet EOS about once in 64 steps, as trained
models' replies end at varying lengths; both tools are given the same files.
"""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.backends.base import DecodingSettings, ReplyRequest
from harness.backends.local.batches import columns_for
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.pool import LoadedModel
from harness.store.schema import DialogueRow
from harness.variants.model import Variant

END = 2
STEPS_TO_END = 64
SHAPES: dict[str, dict[str, Any]] = {
    "7b": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    },
    "tiny": {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 1024,
    },
}  # fmt: skip


def tokenizer_of(vocabulary: int) -> PreTrainedTokenizerFast:
    """Words w3, w4, …; one token each, ``<s>`` in front."""
    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def random_dialogues(count: int, vocabulary: int, seed: int = 1) -> tuple[DialogueRow, ...]:
    """Prompts of 30–300 tokens and references of 20–128."""
    pick = random.Random(seed)

    def text(fewest: int, most: int) -> str:
        return " ".join(f"w{pick.randrange(3, vocabulary)}" for _ in range(pick.randint(fewest, most)))

    return tuple(DialogueRow(id=str(i), prompt=text(29, 299), reference=" " + text(20, 128)) for i in range(count))


def make_variants(folder: Path, shape: str, device: str) -> tuple[tuple[Variant, Variant, Variant], dict[str, Any]]:
    """Write base, adapter (r=16 on q/k/v/o) and merged under ``folder``; return them and what was found on the way."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    config = LlamaConfig(**SHAPES[shape], bos_token_id=1, eos_token_id=END, pad_token_id=END, dtype=dtype)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)
    tokenizer = tokenizer_of(config.vocab_size)
    scale, steps = scale_end(model, tokenizer, device)
    for name in ("base", "merged"):
        tokenizer.save_pretrained(folder / name)
    model.save_pretrained(folder / "base")
    _save_adapter_and_merge(model, folder)
    del model
    names = {"base": folder / "base", "adapter": folder / "base", "merged": folder / "merged"}
    word = str(dtype).removeprefix("torch.")
    variants = (
        Variant(name="base", kind="base", model=str(names["base"]), dtype=word),
        Variant(name="adapter", kind="adapter", model=str(names["base"]), adapter=str(folder / "adapter"), dtype=word),
        Variant(name="merged", kind="merged", model=str(names["merged"]), dtype=word),
    )
    return variants, {"shape": shape, "eos_scale": scale, "steps_to_end": steps, "dtype": word}


@torch.inference_mode()
def scale_end(model: Any, tokenizer: Any, device: str) -> tuple[float, float]:
    """Scale the EOS row in place; return the factor and how many steps a reply then takes to meet it.

    One run of fixed length shows at every step by how much EOS missed the best token; from those ratios the share of
    steps that would end is known for every factor, because a reply is the same up to where it ends.
    """
    first: list[torch.Tensor] = []
    margins: list[torch.Tensor] = []

    class Watching(SlotDecoder):
        def _choose(self, logits: torch.Tensor, names: list[str | None]) -> tuple[torch.Tensor, torch.Tensor]:
            end = logits[:, END].float().clone()
            logits[:, END] = float("-inf")
            best = logits.float().max(dim=-1).values
            # Prompts come in several batches and name their requests; a greedy step comes whole and names none.
            (first if names else margins).append(torch.where(end > 0, best / end.clamp(min=1e-6), torch.inf).cpu())
            return super()._choose(logits, names)

    rows, length = 64, 128
    requests = [
        ReplyRequest(row.id, tuple(tokenizer(row.prompt)["input_ids"]))
        for row in random_dialogues(rows, model.config.vocab_size, seed=2)
    ]
    settings = DecodingSettings(length, fixed_length=True)
    loaded = LoadedModel(Variant(name="base", kind="base", model="base"), model, tokenizer, device, 0.0)
    watching = Watching(loaded, settings, rows=rows, columns=columns_for(requests, settings))
    for _ in watching.run(deque(requests)):
        pass
    # [steps, rows]: the factor from which on EOS would have been chosen.
    needed = torch.stack([torch.cat(first), *margins]).clamp(min=1.0)

    def steps_to_end(factor: float) -> float:
        ends = needed <= factor
        steps = torch.where(ends.any(0), ends.float().argmax(0) + 1, len(needed))
        return float(steps.sum()) / max(1, int(ends.any(0).sum()))

    low, high = 1.0, 50.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if steps_to_end(middle) > STEPS_TO_END else (low, middle)
    model.lm_head.weight[END] *= high
    return high, steps_to_end(high)


@torch.no_grad()
def _save_adapter_and_merge(model: Any, folder: Path) -> None:
    """A change of about one per cent of the weights, as training makes it; merged in place, rounded once."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=16, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"
    )
    tuned: Any = get_peft_model(model, config)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.normal_(std=change_of_a_hundredth(model.config.hidden_size))
    tuned.save_pretrained(folder / "adapter")
    tuned.merge_and_unload().save_pretrained(folder / "merged")


def change_of_a_hundredth(width: int) -> float:
    """Return the deviation of B with which an adapter of rank 16 changes the weights by about one per cent.

    Weights have a deviation of 0.02, A of 1/√(3·width), and r=16 products are summed.
    """
    return float(0.01 * 0.02 * (3 * width) ** 0.5 / 4)
