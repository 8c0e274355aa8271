"""How a decoding step attends to the slots: by a mask, or on CUDA by each row's own length.

A mask makes the kernel read every column up to the longest row. FlashAttention's variable-length kernel is told each
row's length and reads no further, which also makes one graph do for all lengths.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "slot_lengths"
FLASH_HEAD_WIDTHS = (32, 64, 96, 128, 160, 192, 256)


class SlotAttention:
    """The arguments, and on CUDA the attention function, with which a model decodes over a ``SlotCache``."""

    def __init__(self, model: Any, rows: int, columns: int, device: str, *, by_lengths: bool) -> None:
        self._model = model
        self._dtype = model.get_input_embeddings().weight.dtype
        self._columns = torch.arange(columns, device=device)
        self._row_starts = torch.arange(rows + 1, device=device, dtype=torch.int32)
        self._slot_starts = self._row_starts * columns
        self._most = columns
        self.reads_own_lengths = by_lengths and self._flash_can()

    def arguments(self, positions: torch.Tensor, window: int) -> dict[str, Any]:
        """Return the forward's further arguments for a step in which row i is at ``positions[i]``."""
        if self.reads_own_lengths:
            rows = positions.shape[0]
            lengths = (positions + 1).to(torch.int32)
            starts = (self._row_starts[: rows + 1], self._slot_starts[: rows + 1])
            return {"slot_lengths": lengths, "slot_starts": starts, "slot_columns": self._most}
        hidden = self._columns[None, :window] > positions[:, None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=positions.device)
        return {"attention_mask": mask.masked_fill_(hidden, float("-inf"))[:, None, None, :]}

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Let the model use this attention within the block, and what it used before afterwards."""
        if not self.reads_own_lengths:
            yield
            return
        before = self._model.config._attn_implementation
        ALL_ATTENTION_FUNCTIONS.register(NAME, attend_by_lengths)
        self._model.set_attn_implementation(NAME)
        try:
            yield
        finally:
            self._model.set_attn_implementation(before)

    def _flash_can(self) -> bool:
        config = self._model.config.get_text_config()
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        half = self._dtype in (torch.bfloat16, torch.float16)
        return half and width in FLASH_HEAD_WIDTHS and self._model.config._attn_implementation == "sdpa"


def attend_by_lengths(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    slot_lengths: torch.Tensor | None = None,
    slot_starts: tuple[torch.Tensor, torch.Tensor] | None = None,
    slot_columns: int = 0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in transformers' calling convention; without ``slot_lengths`` (for prompts) causal sdpa."""
    if slot_lengths is None or slot_starts is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    rows, heads, _, width = query.shape
    output = flash_attention(
        query.reshape(rows, heads, width),
        key.transpose(1, 2).reshape(rows * slot_columns, -1, width),  # views: slots lie one after another
        value.transpose(1, 2).reshape(rows * slot_columns, -1, width),
        slot_starts,
        slot_lengths,
        slot_columns,
        scaling,
    )
    return output.view(rows, 1, heads, width), None


def flash_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    starts: tuple[torch.Tensor, torch.Tensor],
    lengths: torch.Tensor,
    longest: int,
    scaling: float | None,
) -> torch.Tensor:
    """Return attention [rows, heads, width] of one query a row over the first ``lengths[i]`` keys from its start on."""
    output: torch.Tensor = torch.ops.aten._flash_attention_forward(
        query, keys, values, *starts, 1, longest, 0.0, False, False, scale=scaling, seqused_k=lengths
    )[0]
    return output
