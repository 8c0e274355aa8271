"""A causal model in two halves, so that logits are computed only where they are wanted.

Many models do something to their logits after the head (soft caps, scales). Whether the halves give what the whole
gives is therefore tried on a few tokens, not read off a list of architectures; where they do not, the whole is used.
"""

from __future__ import annotations

from typing import Any

import torch

PROBE_TOKENS = 5


class CausalForward:
    """Hidden states of a whole batch, then logits of chosen positions alone."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._body: Any = model.get_decoder() if hasattr(model, "get_decoder") else None
        self._head: Any = model.get_output_embeddings()
        self.splits = self._body is not None and self._head is not None and self._halves_equal_the_whole()

    def states(self, ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
        """Return what ``logits`` needs of every position: hidden states, or for a model that cannot be split, logits.

        Rows are padded on the right and no mask is needed: a causal model's token never sees what comes after it.
        """
        arguments.setdefault("use_cache", False)
        outputs = (self._body if self.splits else self.model)(input_ids=ids, **arguments)
        states: torch.Tensor = outputs.last_hidden_state if self.splits else outputs.logits
        return states

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits [n, vocabulary] of the chosen positions' states [n, width], in the model's dtype."""
        return self._head(states) if self.splits else states

    @torch.inference_mode()
    def _halves_equal_the_whole(self) -> bool:
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        device = self.model.get_input_embeddings().weight.device
        ids = (torch.arange(PROBE_TOKENS, device=device) * 7919 + 11).remainder(vocabulary)[None]
        whole = self.model(input_ids=ids, use_cache=False).logits.float()
        halves = self._head(self._body(input_ids=ids, use_cache=False).last_hidden_state).float()
        return whole.shape == halves.shape and torch.allclose(whole, halves, rtol=1e-3, atol=1e-3 * whole.std().item())


def batch_depends_on_length(model: Any) -> bool:
    """Tell whether rotary frequencies follow the longest row of a batch, so that rows must be run alone."""
    parameters = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = (
        [parameters.get("rope_type")]
        if "rope_type" in parameters
        else [value.get("rope_type") for value in parameters.values() if isinstance(value, dict)]
    )
    return any(kind in ("dynamic", "longrope") for kind in kinds)


def right_padded(rows: list[list[int]], device: str, width: int | None = None) -> torch.Tensor:
    """Return the rows as one tensor [rows, longest], padded on the right with token 0 (nothing looks at it)."""
    longest = width or max(len(row) for row in rows)
    padded = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded.to(device, non_blocking=True)
