"""Rotary embeddings whose frequencies depend on how long a row is: their rows run alone, and some replies slowly.

- Dynamic NTK scales its frequencies to the longest row seen, and keeps them until a row is short again.
- Long rope has one set of frequencies up to the length of pre-training and another beyond it. Where a reply passes that
  length, transformers encodes its beginning again.
"""

from __future__ import annotations

from typing import Any

import torch

from harness.backends.local.transformers_types import CausalLM, TextConfig


def batch_depends_on_length(model: CausalLM) -> bool:
    """Return whether rotary frequencies depend on the longest row of a batch, so that rows must run alone."""
    return bool(_of_kind(model.config.get_text_config(), "dynamic", "longrope"))


def extension(config: TextConfig) -> float:
    """Return how many times the stated context dynamic scaling is meant to reach (1 without it)."""
    return max((float(one.get("factor") or 1.0) for one in _of_kind(config, "dynamic")), default=1.0)


def is_encoded_again(model: CausalLM, prompt_tokens: int, new_tokens: int) -> bool:
    """Return whether a reply may pass the length at which long rope changes its frequencies."""
    turns = [one["original_max_position_embeddings"] for one in _of_kind(model.config.get_text_config(), "longrope")]
    return any(prompt_tokens <= turn < prompt_tokens + new_tokens for turn in turns)


@torch.inference_mode()
def forget_longer_rows(model: CausalLM) -> None:
    """Make dynamic scaling start from the model's own frequencies, so that a row does not depend on those before it.

    A row of one token does that: transformers then restores them.
    """
    if _of_kind(model.config.get_text_config(), "dynamic"):
        first = torch.zeros((1, 1), dtype=torch.long, device=model.get_input_embeddings().weight.device)
        model(input_ids=first, use_cache=False)


def _of_kind(config: TextConfig, *kinds: str) -> list[dict[str, Any]]:
    """Return the model's rotary settings of these kinds; some models have settings for each kind of layer."""
    stated = getattr(config, "rope_parameters", None) or {}
    found = [stated] if "rope_type" in stated else [one for one in stated.values() if isinstance(one, dict)]
    return [one for one in found if one.get("rope_type") in kinds]
