"""A key-value cache of slots: every row has its own length, begins at column 0 and needs no padding.

A row's token at position p lies in column p of its slot. New rows are written into free slots while others go on;
what an earlier row left behind is never attended to, because a row sees only its own columns up to its position.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer's keys and values, [slots, columns, heads, width] each, allocated when first written."""

    is_sliding = False

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        shape = (self.cache.slots, self.cache.columns)
        # Zeros, not empty: attention multiplies what is masked by zero, and zero times a stray NaN is NaN.
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
            tokens = min(key_states.shape[2], cache.columns)  # of a long reference, what does not fit is left out
            for store, states in ((self.keys, key_states), (self.values, value_states)):
                kept = states if cache.rows is None else states[cache.rows]
                store[cache.filling, :tokens] = kept[:, :, :tokens].transpose(1, 2)
                if cache.masked:
                    # A mask hides the earlier row's numbers from attention, but not NaN: zero times NaN is NaN.
                    store[cache.filling, tokens:] = 0
            return key_states, value_states  # a prompt attends to itself alone
        for store, states in ((self.keys, key_states), (self.values, value_states)):
            flat = store.view(cache.slots * cache.columns, -1)
            flat.index_copy_(0, cache.writing, states.reshape(states.shape[0], -1))
        rows, window = cache.writing.shape[0], cache.window
        return self.keys[:rows, :window].transpose(1, 2), self.values[:rows, :window].transpose(1, 2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0  # asked for while filling only: decoding brings its own mask

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.cache.columns


class SlotCache(Cache):
    """The slots of all layers, in one of two states: filling (whole prompts) or decoding (one token a row).

    ``masked``: attention reads a row's later columns too and leaves them out by a mask.
    """

    def __init__(self, layers: int, slots: int, columns: int, *, masked: bool = True) -> None:
        self.slots = slots
        self.columns = columns
        self.masked = masked
        self.filling: torch.Tensor | None = None  # slots that the next forward's prompts go to
        self.rows: torch.Tensor | None = None  # which of its rows those are; None: all of them
        self.writing = torch.empty(0, dtype=torch.long)  # flat column of each row's next token
        self.window = columns  # how many columns attention looks at
        super().__init__(layers=[SlotLayer(self) for _ in range(layers)])

    def fill(self, slots: torch.Tensor, rows: torch.Tensor | None = None) -> None:
        """Let the next forward write whole prompts into these slots; ``rows``: those of its rows that get one."""
        self.filling = slots
        self.rows = rows

    def decode(self, writing: torch.Tensor, window: int) -> None:
        """Let the next forward write one token a row (rows are slots 0, 1, …) and attend to ``window`` columns."""
        self.filling = None
        self.writing = writing
        self.window = window

    def free(self) -> None:
        """Let go of the slots' memory: cache and layers refer to each other, and the collector is in no hurry."""
        layers: list[Any] = self.layers
        for layer in layers:
            layer.keys = layer.values = None
            layer.is_initialized = False

    def move(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy whole slots, so that the rows still alive lie side by side."""
        layers: list[Any] = self.layers
        for layer in layers:
            layer.keys[target] = layer.keys[source]
            layer.values[target] = layer.values[source]
