"""Prove that an adapter may lie on weights that others use.

Attaching an adapter can change the weights below it: PEFT initialises some kinds by taking a part out of them (PiSSA,
OLoRA), overwrites biases or embeddings with those in the adapter's file, or repeats layers. Taking the adapter's
modules away does not undo that. Which kinds do so is PEFT's business and changes with its versions, so it is measured:
what the base's weights are and compute before must be what they are and compute afterwards, to the last bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from harness.backends.local.transformers_types import CausalLM

PROBE_ROWS = 2
PROBE_TOKENS = 16


@dataclass(frozen=True)
class Untouched:
    """What a model without adapters was: its settings, the logits of a short probe and checksums of its tensors.

    The probe reads only some rows of the embeddings and some of the experts, so the tensors are compared as well.
    """

    model: CausalLM
    settings: dict[str, Any]
    computed: int
    tensors: tuple[tuple[Any, str, int], ...]  # module, name of its parameter or buffer, checksum

    @classmethod
    def of(cls, model: CausalLM) -> Untouched:
        """Return what ``model``, to which nothing is attached yet, computes and holds."""
        computed = checksum(probe(model))  # first: LLM.int8 moves its weights at the first forward
        seen: set[int] = set()
        tensors: list[tuple[Any, str, int]] = []
        for module in model.modules():
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                if tensor.data_ptr() not in seen:  # tied weights are read once
                    seen.add(tensor.data_ptr())
                    tensors.append((module, name, checksum(tensor)))
        return cls(model, model.config.to_dict(), computed, tuple(tensors))

    def still(self) -> bool:
        """Return whether the model, with its adapters switched off, is what it was."""
        return (
            self.model.config.to_dict() == self.settings
            and all(checksum(getattr(module, name)) == before for module, name, before in self.tensors)
            and checksum(probe(self.model)) == self.computed
        )


@torch.inference_mode()
def probe(model: CausalLM) -> torch.Tensor:
    """Return the logits [rows, tokens, vocabulary] of a few fixed token sequences."""
    embeddings = model.get_input_embeddings().weight
    count = PROBE_ROWS * PROBE_TOKENS
    ids = (torch.arange(count, device=embeddings.device) * 7919 + 17).remainder(embeddings.shape[0])
    with not_repacked(model):
        logits: torch.Tensor = model(input_ids=ids.view(PROBE_ROWS, PROBE_TOKENS), use_cache=False).logits
    return logits


@contextlib.contextmanager
def not_repacked(model: CausalLM) -> Iterator[None]:
    """Keep bitsandbytes from repacking 4-bit weights for the CPU, which attaching an adapter undoes with a loss."""
    layers = [module for module in model.modules() if getattr(module, "support_avx512bf16_for_cpu", False)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    try:
        yield
    finally:
        for layer in layers:
            layer.support_avx512bf16_for_cpu = True


@torch.inference_mode()
def checksum(tensor: torch.Tensor) -> int:
    """Return the sum of the tensor's bytes, read eight at a time as integers, modulo 2^64."""
    data = tensor.detach().contiguous().flatten().view(torch.uint8)
    whole = data.numel() // 8 * 8
    words = data[:whole] if data.storage_offset() % 8 == 0 else data[:whole].clone()
    return (int(words.view(torch.int64).sum()) + int(data[whole:].sum())) % 2**64
