"""A key-value cache of slots, and the attention that a decoding step uses over it.

Every row has its own length, begins at column 0 and needs no padding. A row's token at position p is in column p of its
slot. New rows are written into free slots while others continue. A row never attends to what an earlier row left in its
slot, because it sees only its own columns up to its position, by a mask or, on CUDA, by each row's own length.

A layer with a sliding window keeps all columns too; its mask hides those that have left the window.

With a mask the kernel reads every column up to the longest row, and kernels designed for prompts use a tile of
a hundred queries for a single one. ``kernels.attend`` takes each row's length and reads no further (and nothing before
the window), so that one graph serves all lengths. The CPU kernel lets grouped heads share their keys natively, without
the copying that transformers does first (a twelfth of the run time of a small model).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from harness.backends.local.fused_layers import why_not_fused
from harness.backends.local.transformers_types import CausalLM
from harness.backends.local.windows import can_read_windows, flash_in_window, windows


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's keys and values, [slots, columns, heads, width] each, allocated when first written."""

    is_sliding = False

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        shape = (self.cache.slots, self.cache.columns)
        # Zeros, not empty: attention multiplies masked values by zero, and zero times a stray NaN is NaN.
        self.keys = key_states.new_zeros((*shape, key_states.shape[1], key_states.shape[3]))
        self.values = value_states.new_zeros((*shape, value_states.shape[1], value_states.shape[3]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new states [rows, heads, tokens, width] into their slots; return what the rows may attend to."""
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        cache = self.cache
        if cache.filling is not None:
            tokens = min(
                key_states.shape[2], cache.columns
            )  # the part of a long reference that does not fit is dropped
            filling = cache.filling.to(key_states.device)  # layers may be on other GPUs than the slots' numbers
            for store, states in ((self.keys, key_states), (self.values, value_states)):
                kept = states if cache.rows is None else states[cache.rows.to(states.device)]
                store[filling, :tokens] = kept[:, :, :tokens].transpose(1, 2)
                if cache.masked:
                    # A mask hides an earlier row's numbers from attention, but not NaN: zero times NaN is NaN.
                    store[filling, tokens:] = 0
            return key_states, value_states  # a prompt attends only to itself
        writing = cache.writing.to(key_states.device, non_blocking=True)
        for store, states in ((self.keys, key_states), (self.values, value_states)):
            flat = store.view(cache.slots * cache.columns, -1)
            flat.index_copy_(0, writing, states.reshape(states.shape[0], -1))
        rows, window = writing.shape[0], cache.window
        return self.keys[:rows, :window].transpose(1, 2), self.values[:rows, :window].transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0  # called only while filling: decoding passes its own mask

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.cache.columns


class SlotCache(Cache):
    """The slots of all layers, in one of two states: filling (whole prompts) or decoding (one token per row).

    With ``masked``, attention also reads a row's later columns and masks them out.
    """

    def __init__(self, layers: int, slots: int, columns: int, *, masked: bool = True) -> None:
        self.slots = slots
        self.columns = columns
        self.masked = masked
        self.filling: torch.Tensor | None = None  # slots for the prompts of the next forward
        self.rows: torch.Tensor | None = None  # rows of the forward that get a slot; None: all
        self.writing = torch.empty(0, dtype=torch.long)  # flat column of each row's next token
        self.window = columns  # how many columns attention reads
        super().__init__(layers=[SlotLayer(self) for _ in range(layers)])

    def fill(self, slots: torch.Tensor, rows: torch.Tensor | None = None) -> None:
        """Make the next forward write whole prompts into these slots; ``rows`` are the rows that get one."""
        self.filling = slots
        self.rows = rows

    def decode(self, writing: torch.Tensor, window: int) -> None:
        """Make the next forward write one token per row (rows are slots 0, 1, …) and attend to ``window`` columns."""
        self.filling = None
        self.writing = writing
        self.window = window

    def free(self) -> None:
        """Free the slots' memory now: cache and layers reference each other, so it would wait for the collector."""
        layers: list[Any] = self.layers
        for layer in layers:
            layer.keys = layer.values = None
            layer.is_initialized = False

    def move(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy whole slots, to make the live rows adjacent."""
        layers: list[Any] = self.layers
        for layer in layers:
            for store in (layer.keys, layer.values):
                store[target.to(store.device)] = store[source.to(store.device)]


NAME = "slots"
UNUSUAL = ("softcap", "s_aux", "position_bias", "cache")  # further attention arguments of some models


class SlotAttention:
    """The arguments and the attention function with which a model decodes over a ``SlotCache``."""

    def __init__(self, model: CausalLM, columns: int, device: str, *, by_lengths: bool) -> None:
        self._model = model
        self._dtype = model.get_input_embeddings().weight.dtype
        self._columns = torch.arange(columns, device=device)
        self._windows = windows(model, columns)
        self._own = model.config._attn_implementation
        # Some models compute their attention themselves, whatever is asked of them; they would ignore row lengths.
        takes_ours = self._own in ("sdpa", "eager") and model._can_set_attn_implementation()
        self.reads_own_lengths = by_lengths and takes_ours and why_not_fused(model, device) is None
        self._replaces = takes_ours and (self._own == "sdpa" or self.reads_own_lengths)

    def arguments(self, positions: torch.Tensor, columns: int) -> dict[str, Any]:
        """Return the forward's further arguments for a step in which row i is at ``positions[i]``."""
        if self.reads_own_lengths:
            return {"slot_lengths": (positions + 1).to(torch.int32)}
        masks = {kind: self._mask(positions, columns, window) for kind, window in self._windows.items()}
        # Models with several kinds of layers take a mask for each, the others take the mask itself.
        return {"attention_mask": masks if len(masks) > 1 else next(iter(masks.values()))}

    def _mask(self, positions: torch.Tensor, columns: int, window: int | None) -> torch.Tensor:
        """Return 0 where a row may attend to one of the first ``columns`` and -inf elsewhere, [rows, 1, 1, columns]."""
        column, position = self._columns[None, :columns], positions[:, None]
        hidden = column > position
        if window is not None:
            hidden |= column <= position - window
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=positions.device)
        return mask.masked_fill_(hidden, float("-inf"))[:, None, None, :]

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Make the model use this attention within the block, and restore its own afterwards."""
        if not self._replaces:
            yield
            return
        ALL_ATTENTION_FUNCTIONS.register(NAME, self._attend)
        # Without a mask function of this name transformers would give prompts no mask, not even a window's.
        ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _mask_of_prompts(ALL_MASK_ATTENTION_FUNCTIONS[self._own]))
        self._model.set_attn_implementation(NAME)
        try:
            yield
        finally:
            self._model.set_attn_implementation(self._own)

    def _attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        slot_lengths: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention with transformers' signature; prompts and unusual arguments go to the model's own function."""
        if slot_lengths is not None:
            return by_lengths(query, key, value, slot_lengths, scaling, **kwargs), None
        unusual = any(kwargs.get(name) is not None for name in UNUSUAL)
        if query.device.type == "cpu" and query.shape[2] == 1 and not unusual:
            shared = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=True
            )
            return shared.transpose(1, 2).contiguous(), None
        own: Callable[..., tuple[torch.Tensor, torch.Tensor | None]] = sdpa_attention_forward
        if self._own == "eager":
            own = sys.modules[type(module).__module__].eager_attention_forward
        elif attention_mask is not None and kwargs.get("sliding_window") and not unusual and can_read_windows(query):
            return flash_in_window(query, key, value, kwargs["sliding_window"], scaling), None
        return own(module, query, key, value, attention_mask, scaling=scaling, **kwargs)


def _mask_of_prompts(own: Callable[..., Any]) -> Callable[..., Any]:
    """Return transformers' mask function ``own``, but no mask for single tokens: steps are masked by row lengths."""

    def mask(*args: Any, **kwargs: Any) -> Any:
        return None if kwargs.get("q_length") == 1 else own(*args, **kwargs)

    return mask


def by_lengths(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: torch.Tensor,
    scaling: float | None,
    *,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> torch.Tensor:
    """Return attention [rows, 1, heads, width] of one query per row, with what transformers' models pass to theirs.

    Raises NotImplementedError for what ``kernels.attend`` cannot do.
    """
    rows, heads, _, width = query.shape
    if value.shape[-1] != width or any(others.get(name) is not None for name in UNUSUAL):
        raise NotImplementedError("the attention kernel lacks what this model asks of it")
    scale = width**-0.5 if scaling is None else scaling
    output = attend(
        query.reshape(rows, heads, width), key, value, lengths, scale, sliding_window or 0, softcap or 0.0, s_aux
    )
    return output.view(rows, 1, heads, width)


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    scale: float,
    window: int,
    softcap: float,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Call ``kernels.attend``, which can be imported only if Triton is installed."""
    from harness.backends.local import kernels

    found: torch.Tensor = kernels.attend(query, keys, values, lengths, scale, window, softcap, sinks)
    return found
