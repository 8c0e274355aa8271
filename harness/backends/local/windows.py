"""Sliding windows: which layers of a model have one, and attention of prompts that reads no more than it."""

from __future__ import annotations

import functools

import torch

from harness.backends.local.batches import text_config
from harness.backends.local.transformers_types import CausalLM

FULL, SLIDING = "full_attention", "sliding_attention"
WIDEST_FLASH = 256  # the widest heads that flash attention takes


def windows(model: CausalLM, columns: int) -> dict[str, int | None]:
    """Return the kinds of attention layers, and how many of the newest tokens each sees (None: all of ``columns``).

    The token being decoded counts.
    """
    config = text_config(model)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    kinds = set(getattr(config, "layer_types", None) or ()) or {FULL if window is None else SLIDING}
    if SLIDING not in kinds or window is None or window >= columns:
        return {FULL: None}
    return {kind: window if kind == SLIDING else None for kind in sorted(kinds)}


def can_read_windows(query: torch.Tensor) -> bool:
    """Return whether ``flash_in_window`` can take a prompt like this."""
    half = query.dtype in (torch.bfloat16, torch.float16)
    return query.is_cuda and half and query.shape[-1] <= WIDEST_FLASH and _flash_reads_windows(query.device)


def flash_in_window(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int, scaling: float | None
) -> torch.Tensor:
    """Return causal attention [rows, tokens, heads, width] of prompts over the last ``window`` keys of each token.

    Torch's own call takes no window: given a mask it uses a slower kernel that reads all keys, and copies shared ones.
    """
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))
    found: torch.Tensor = torch.ops.aten._flash_attention_forward(
        query, key, value, None, None, query.shape[1], key.shape[1], 0.0, False, False,
        scale=scaling, window_size_left=window - 1, window_size_right=0,
    )[0]  # fmt: skip
    return found.contiguous()


@functools.cache
@torch.inference_mode()
def _flash_reads_windows(device: torch.device) -> bool:
    """Return whether ``flash_in_window`` gives what a mask gives, on this device and with this version of torch."""
    tokens, window, scale = 48, 10, 0.3
    generator = torch.Generator(device).manual_seed(0)
    query, key, value = (
        torch.randn((2, tokens, heads, 64), generator=generator, device=device).to(torch.bfloat16).transpose(1, 2)
        for heads in (4, 2, 2)
    )
    place = torch.arange(tokens, device=device)
    seen = (place[None] <= place[:, None]) & (place[None] > place[:, None] - window)
    want = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=scale, enable_gqa=True
    )
    try:
        got = flash_in_window(query, key, value, window, scale)
    except (RuntimeError, TypeError, AttributeError):
        return False
    return torch.allclose(got.transpose(1, 2).float(), want.float(), atol=0.03, rtol=0.03)
