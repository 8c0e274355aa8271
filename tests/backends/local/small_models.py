"""Tiny random models, made in milliseconds, and a pass context around them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.backends.local.backend import LocalBackends
from harness.backends.local.pool import SharedPool
from harness.config import RunConfig
from harness.passes.base import PassContext
from harness.progress import EventKind
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow
from harness.variants.model import Variant

END = 2
WORDS = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(120)), "stop"]


def small_tokenizer(extra: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with ``<s>`` in front, like Llama's."""
    words = [*WORDS, *extra]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # joins words with spaces
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def small_llama(seed: int = 0, *, spread: float = 0.3, end_scale: float = 1.0, **options: Any) -> LlamaForCausalLM:
    """A random two-layer Llama; a larger ``end_scale`` makes its replies end sooner."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": len(WORDS),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": spread,
        "bos_token_id": 1,
        "eos_token_id": END,
        "pad_token_id": END,
    }
    model = LlamaForCausalLM(LlamaConfig(**(settings | options))).eval()
    with torch.no_grad():
        model.lm_head.weight[END] *= end_scale
    return model


def save_base(folder: Path, seed: int = 0, **options: Any) -> Path:
    """Write model and tokenizer as ``finetune`` does; return the folder."""
    small_llama(seed, **options).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def save_adapter(base: Path, folder: Path, seed: int = 1, *, scale: float = 0.3, targets: Any = None) -> Path:
    """Write a random LoRA adapter over ``base`` with plain peft; ``scale=0`` gives one that does nothing."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    targets = targets or ["q_proj", "v_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=scale) if scale else parameter.zero_()
    model.save_pretrained(folder)
    return folder


def save_merged(base: Path, adapter: Path, folder: Path) -> Path:
    """Write base and adapter merged in fp32."""
    from peft import PeftModel

    model: Any = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), str(adapter))
    model.merge_and_unload().save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def dialogues(count: int, *, seed: int = 0, longest: int = 30) -> tuple[DialogueRow, ...]:
    """Dialogues of random words with very unequal lengths."""
    generator = torch.Generator().manual_seed(seed)

    def text(most: int) -> str:
        length = int(torch.randint(1, most, (), generator=generator))
        return " ".join(f"w{int(i)}" for i in torch.randint(0, 120, (length,), generator=generator))

    return tuple(DialogueRow(id=f"d{i}", prompt=text(longest) + "\n", reference=text(longest)) for i in range(count))


class QuietProgress:
    """Keeps what a pass reported."""

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.tokens: dict[str, int] = {}

    def start(self, task: str, total: int, unit: str = "dialogues") -> None:
        self.total[task] = total
        self.done[task] = self.tokens[task] = 0

    def advance(self, task: str, done: int = 1, tokens: int = 0) -> None:
        self.done[task] += done
        self.tokens[task] += tokens

    def finish(self, task: str) -> None:
        pass

    def note(self, message: str) -> None:
        pass


def context(
    folder: Path,
    variants: Sequence[Variant],
    rows: Sequence[DialogueRow],
    *,
    pool: SharedPool | None = None,
    events: list[tuple[str, dict[str, Any]]] | None = None,
    **config: Any,
) -> PassContext:
    """A pass context over a fresh or existing run folder."""
    settings = RunConfig(variants=tuple(variants), **config)

    def key(pass_name: str, variant: Variant, dialogue: DialogueRow) -> str:
        parts = (
            pass_name,
            variant.model_dump_json(),
            dialogue.model_dump_json(),
            settings.generation.model_dump_json(),
        )
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()

    seen = events if events is not None else []

    def event(kind: EventKind, detail: Mapping[str, Any]) -> None:
        seen.append((kind, dict(detail)))

    tokens, threads = settings.batch_tokens, settings.threads
    return PassContext(
        folder=RunFolder(folder),
        config=settings,
        variants=tuple(variants),
        dialogues=tuple(rows),
        backends=LocalBackends(variants, "cpu", event=event, batch_tokens=tokens, threads=threads, pool=pool),
        device="cpu",
        progress=QuietProgress(),
        key=key,
        event=event,
    )
