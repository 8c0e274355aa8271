"""How much work fits, and batches of that size, from free memory and the cost of one token.

Batches have a token budget and run longest first, so that a lack of memory shows at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from harness.backends.base import DecodingSettings, ReplyRequest
from harness.backends.local.device import free_bytes, free_on_each, places, total_bytes
from harness.backends.local.one_token import one_token
from harness.backends.local.transformers_types import CausalLM, TextConfig

# On one H100 scoring reached 71% of matrix product speed with 16,384 tokens, on another 61% with 8,192.
SCORING_TOKENS = {"cpu": 2048, "cuda": 16384}
PREFILL_TOKENS = {"cpu": 2048, "cuda": 8192}
DECODING_ROWS = {"cpu": 64, "cuda": 256}
COLUMN_STEP = 64  # slots are allocated and read in multiples of this many columns
LOGIT_CHUNK_BYTES = 256 * 1024 * 1024  # fp32 logits held at a time


def text_config(model: CausalLM) -> TextConfig:
    """Return the language model's own configuration."""
    return model.config.get_text_config()


def kv_bytes_per_token(model: CausalLM) -> int:
    """Return the cache size of one token of one row; where unknown, 2 · layers · kv_heads · head_dim · bytes."""
    layers = one_token(model).layers
    if layers is not None:
        return sum(layer.size for layer in layers)
    config = text_config(model)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_each = model.get_input_embeddings().weight.dtype.itemsize
    return int(2 * config.num_hidden_layers * heads * width * bytes_each)


def activation_bytes_per_token(model: CausalLM) -> int:
    """Return an upper estimate of one token's activations within a layer, residuals included."""
    config = text_config(model)
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    if not isinstance(inner, int):  # one for each layer
        inner = max(inner)
    bytes_each = model.get_input_embeddings().weight.dtype.itemsize
    # fp32 copies inside the norms (two), queries, keys, values and the residual, and three of the inner width.
    return int(config.hidden_size * (8 + 8 * bytes_each) + 4 * inner * bytes_each)


def scoring_tokens(model: CausalLM, device: str, *, limit: int | None = None) -> int:
    """Return how many tokens, padding included, one scoring batch may hold."""
    if limit is not None:
        return limit
    affordable = (free_on_each(device) - 2 * LOGIT_CHUNK_BYTES) // activation_bytes_per_token(model)
    return int(max(1, min(SCORING_TOKENS[device.partition(":")[0]], affordable)))


def prefill_tokens(model: CausalLM, device: str, *, limit: int | None = None) -> int:
    """Return how many prompt tokens, padding included, one prefill may hold."""
    affordable = free_on_each(device) // 8 // activation_bytes_per_token(model)
    return int(max(1, min(limit or PREFILL_TOKENS[device.partition(":")[0]], affordable)))


def decoding_rows(model: CausalLM, device: str, length: int, *, limit: int | None = None) -> int:
    """Return how many rows of ``length`` tokens may be decoded at once; ``limit`` is in tokens."""
    affordable = int(free_bytes(device) * 0.8) // (kv_bytes_per_token(model) * length)
    if limit is not None:
        affordable = min(affordable, limit // length)
    return int(max(1, min(DECODING_ROWS[device.partition(":")[0]], affordable)))


def joint_rows(model: CausalLM, device: str, length: int, *, limit: int | None = None) -> int:
    """Return how many prompts are prefilled together with their references.

    That is an eighth of the rows that half of the memory holds, so that few slots wait for the others. Free memory
    plays no part, here and in ``joint_tokens``: a resumed run must form the same groups. Nor do further GPUs.
    """
    affordable = total_bytes(places(device)[0]) // 2 // (kv_bytes_per_token(model) * length)
    if limit is not None:
        affordable = min(affordable, limit // length)
    return int(max(1, min(DECODING_ROWS[device.partition(":")[0]], affordable) // 8))


def joint_tokens(model: CausalLM, device: str, *, limit: int | None = None) -> int:
    """Return how many tokens of prompts and references, padding included, are prefilled together."""
    affordable = total_bytes(places(device)[0]) // 16 // activation_bytes_per_token(model)
    return int(max(1, min(limit or PREFILL_TOKENS[device.partition(":")[0]], affordable)))


def usual_scoring_tokens(device: str, *, limit: int | None = None) -> int:
    """Return how many tokens a scoring batch holds where memory is no obstacle."""
    return limit or SCORING_TOKENS[device.partition(":")[0]]


@dataclass
class DecodingProfile:
    """Where a decoder's time went. ``rows_computed`` includes idle rows; ``step_seconds`` includes ``capture_seconds``.

    Captures that failed count as well. ``prepare_seconds`` went into graphs of prompts, before they were submitted.
    ``launched_ns`` is when the host had launched the first prompt of the latest run, and 0 before.
    """

    prompt_tokens: int = 0
    prefill_seconds: float = 0.0
    steps: int = 0
    rows_computed: int = 0
    tokens: int = 0
    step_seconds: float = 0.0
    capture_seconds: float = 0.0
    prepare_seconds: float = 0.0
    launched_ns: int = 0


def columns_for(requests: Sequence[ReplyRequest], settings: DecodingSettings) -> int:
    """Return how many columns the longest of these requests may need."""
    longest = max((len(request) for request in requests), default=0)
    return bucket(longest + settings.max_new_tokens, COLUMN_STEP)


class Sized(Protocol):
    """Anything with a number of tokens."""

    def __len__(self) -> int: ...


Item = TypeVar("Item", bound=Sized)


def longest_first(items: Sequence[Item]) -> list[Item]:
    """Return the items by descending length; items of equal length keep their order."""
    return sorted(items, key=len, reverse=True)


def batches(items: Sequence[Item], budget: int, *, most_rows: int | None = None) -> Iterator[list[Item]]:
    """Yield runs of ``items`` whose padded size (rows × longest) is at most ``budget`` tokens; at least one each.

    Neighbours share a batch, so items sorted by length need the least padding.
    """
    batch: list[Item] = []
    longest = 0
    for item in items:
        width = max(longest, len(item))
        full = most_rows is not None and len(batch) >= most_rows
        if batch and (full or width * (len(batch) + 1) > budget):
            yield batch
            batch, width = [], len(item)
        batch.append(item)
        longest = width
    if batch:
        yield batch


def bucket(value: int, step: int) -> int:
    """Return ``value`` rounded up to a multiple of ``step``, so that few distinct shapes occur."""
    return -(-value // step) * step
