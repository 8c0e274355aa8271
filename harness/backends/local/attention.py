"""How a decoding step attends to the slots: by a mask, or on CUDA by each row's own length.

A mask makes the kernel read every column up to the longest row, and kernels made for prompts spend a tile of a hundred
queries on the one there is. ``kernels.attend`` is told each row's length and reads no further, which also makes
one graph do for all lengths. The CPU's kernel lets grouped heads share their keys by itself, without the packing that
transformers does before it (a twelfth of a small model's job).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from harness.backends.local.fused_layers import available

NAME = "slots"
UNUSUAL = ("softcap", "position_bias", "s_aux", "cache")  # what some models ask of attention besides


class SlotAttention:
    """The arguments and the attention function with which a model decodes over a ``SlotCache``."""

    def __init__(self, model: Any, columns: int, device: str, *, by_lengths: bool) -> None:
        self._model = model
        self._dtype = model.get_input_embeddings().weight.dtype
        self._columns = torch.arange(columns, device=device)
        self._replaces = model.config._attn_implementation == "sdpa"
        self.reads_own_lengths = by_lengths and self._replaces and available(device)

    def arguments(self, positions: torch.Tensor, window: int) -> dict[str, Any]:
        """Return the forward's further arguments for a step in which row i is at ``positions[i]``."""
        if self.reads_own_lengths:
            return {"slot_lengths": (positions + 1).to(torch.int32)}
        hidden = self._columns[None, :window] > positions[:, None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=positions.device)
        return {"attention_mask": mask.masked_fill_(hidden, float("-inf"))[:, None, None, :]}

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Let the model use this attention within the block, and what it used before afterwards."""
        if not self._replaces:
            yield
            return
        before = self._model.config._attn_implementation
        ALL_ATTENTION_FUNCTIONS.register(NAME, attend_in_slots)
        self._model.set_attn_implementation(NAME)
        try:
            yield
        finally:
            self._model.set_attn_implementation(before)


def attend_in_slots(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    slot_lengths: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in transformers' calling convention; of prompts, and of what asks for more, transformers' own."""
    if slot_lengths is None:
        if query.device.type != "cpu" or query.shape[2] > 1 or any(kwargs.get(name) is not None for name in UNUSUAL):
            return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        shared = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=True
        )
        return shared.transpose(1, 2).contiguous(), None
    rows, heads, _, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    output = attend(query.reshape(rows, heads, width), key, value, slot_lengths, scale)
    return output.view(rows, 1, heads, width), None


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, lengths: torch.Tensor, scale: float
) -> torch.Tensor:
    """See ``kernels.attend``, which cannot be imported where there is no Triton."""
    from harness.backends.local import kernels

    found: torch.Tensor = kernels.attend(query, keys, values, lengths, scale)
    return found
