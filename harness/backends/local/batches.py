"""How much work fits: batches are sized from free memory and from what one token costs."""

from __future__ import annotations

from typing import Any

from harness.backends.local.device import free_bytes, total_bytes

# On one H100 scoring reached 71 % of the speed of the matrix products with 16384 tokens, on another 61 % with 8192.
SCORING_TOKENS = {"cpu": 2048, "cuda": 16384}
PREFILL_TOKENS = {"cpu": 2048, "cuda": 8192}
DECODING_ROWS = {"cpu": 64, "cuda": 256}
LOGIT_CHUNK_BYTES = 256 * 1024 * 1024  # fp32 logits held at once


def text_config(model: Any) -> Any:
    """Return the language model's own configuration."""
    return model.config.get_text_config()


def kv_bytes_per_token(model: Any) -> int:
    """Return 2 · layers · kv_heads · head_dim · bytes: what one token of one row takes in the cache."""
    config = text_config(model)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_each = model.get_input_embeddings().weight.dtype.itemsize
    return int(2 * config.num_hidden_layers * heads * width * bytes_each)


def activation_bytes_per_token(model: Any) -> int:
    """Return about the most that one token needs while it passes through a layer, residuals included."""
    config = text_config(model)
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    bytes_each = model.get_input_embeddings().weight.dtype.itemsize
    # fp32 copies inside the norms (two), queries, keys, values and the residual, and three of the inner width.
    return int(config.hidden_size * (8 + 8 * bytes_each) + 4 * inner * bytes_each)


def scoring_tokens(model: Any, device: str, *, limit: int | None = None) -> int:
    """Return how many tokens, padding included, one scoring batch may hold."""
    if limit is not None:
        return limit
    affordable = (free_bytes(device) - 2 * LOGIT_CHUNK_BYTES) // activation_bytes_per_token(model)
    return int(max(1, min(SCORING_TOKENS[device.partition(":")[0]], affordable)))


def prefill_tokens(model: Any, device: str, *, limit: int | None = None) -> int:
    """Return how many prompt tokens, padding included, one prefill may hold."""
    affordable = free_bytes(device) // 8 // activation_bytes_per_token(model)
    return int(max(1, min(limit or PREFILL_TOKENS[device.partition(":")[0]], affordable)))


def decoding_rows(model: Any, device: str, length: int, *, limit: int | None = None) -> int:
    """Return how many rows of ``length`` tokens may be decoded at once; ``limit`` is in tokens."""
    affordable = int(free_bytes(device) * 0.8) // (kv_bytes_per_token(model) * length)
    if limit is not None:
        affordable = min(affordable, limit // length)
    return int(max(1, min(DECODING_ROWS[device.partition(":")[0]], affordable)))


def joint_rows(model: Any, device: str, length: int, *, limit: int | None = None) -> int:
    """Return how many prompts go in together with their references: an eighth of the rows that half of the machine
    holds, so that few slots wait for the others.

    What is free now does not matter, here and for ``joint_tokens``: a run that goes on must form the same groups.
    """
    affordable = total_bytes(device) // 2 // (kv_bytes_per_token(model) * length)
    if limit is not None:
        affordable = min(affordable, limit // length)
    return int(max(1, min(DECODING_ROWS[device.partition(":")[0]], affordable) // 8))


def joint_tokens(model: Any, device: str, *, limit: int | None = None) -> int:
    """Return how many tokens of prompts and references, padding included, go in together."""
    affordable = total_bytes(device) // 16 // activation_bytes_per_token(model)
    return int(max(1, min(limit or PREFILL_TOKENS[device.partition(":")[0]], affordable)))
