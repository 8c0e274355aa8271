"""A pool of loaded models: variants of the same base in the same quantisation share one set of weights."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.backends.base import DoesNotFitError
from harness.backends.local import device as machine
from harness.backends.local import loading
from harness.backends.local.transformers_types import CausalLM
from harness.dialogues.tokens import Tokenizer
from harness.variants.model import Variant


@dataclass(frozen=True)
class LoadedModel:
    """A variant ready to run: the model on its device in eval mode, with only this variant's adapter active."""

    variant: Variant
    model: CausalLM
    tokenizer: Tokenizer
    device: str
    load_seconds: float


WeightsKey = tuple[str, str, str]  # model, quantisation, dtype


@dataclass
class _Weights:
    """One set of weights in memory and the adapters attached to it."""

    model: CausalLM  # the causal language model itself; adapters are injected into its layers
    device: str
    size: int
    load_seconds: float
    peft: Any = None
    adapters: dict[str, str] = field(default_factory=dict)  # adapter folder -> its name within PEFT
    active: str | None = None
    users: int = 0
    last_used: int = 0

    def switch(self, adapter: str | None) -> None:
        """Activate only this adapter (None: no adapter)."""
        if self.peft is None or adapter == self.active:
            return
        if adapter is None:
            self.peft.base_model.disable_adapter_layers()
        else:
            self.peft.base_model.enable_adapter_layers()
            self.peft.set_adapter(adapter, inference_mode=True)
        self.active = adapter


class SharedPool:
    """Loads each set of weights once, keeps what memory allows, and evicts the least recently used first.

    ``use`` blocks may be nested: both variants stay loaded, and the inner block's adapter is deactivated when it ends.
    ``reserve`` is the memory in bytes that must stay free for the work itself.
    """

    def __init__(self, variants: Iterable[Variant], device: str = "cpu", *, reserve: int = 0) -> None:
        self.device = device
        self.reserve = reserve
        self._known = {variant.name: variant for variant in variants}
        self._loaded: dict[WeightsKey, _Weights] = {}
        self._tokenizers: dict[str, Tokenizer] = {}
        self._clock = 0

    @contextlib.contextmanager
    def use(self, variant: Variant) -> Iterator[LoadedModel]:
        """Load the variant if necessary and lend it until the block ends."""
        started = time.perf_counter()
        weights = self._weights(variant)
        adapter = self._adapter(weights, variant)
        before = weights.active
        seconds = time.perf_counter() - started
        weights.users += 1
        self._clock += 1
        weights.last_used = self._clock
        weights.switch(adapter)
        try:
            yield LoadedModel(variant, weights.model, self.tokenizer(variant.model), self.device, seconds)
        finally:
            weights.users -= 1
            if weights.users:
                weights.switch(before)

    def tokenizer(self, path: str) -> Tokenizer:
        """Return the tokenizer of ``path``; models with equal tokenizers share one object."""
        if path not in self._tokenizers:
            fresh = loading.load_tokenizer(path)
            twins = (known for known in self._tokenizers.values() if same_tokenizer(known, fresh))
            self._tokenizers[path] = next(twins, fresh)
        return self._tokenizers[path]

    def loaded(self) -> tuple[WeightsKey, ...]:
        """Return which sets of weights are in memory now."""
        return tuple(self._loaded)

    def close(self) -> None:
        """Free everything."""
        self._loaded.clear()
        machine.release_cached_memory(self.device)

    def _weights(self, variant: Variant) -> _Weights:
        key = (variant.model, variant.quantization, variant.dtype)
        if key not in self._loaded:
            self._make_room(expected_bytes(variant))
            self._loaded[key] = self._load(variant)
        return self._loaded[key]

    def _load(self, variant: Variant) -> _Weights:
        started = time.perf_counter()
        model: CausalLM | None = None
        while model is None:
            try:
                model = loading.load_weights(variant, self.device)
            except (RuntimeError, MemoryError) as error:
                if not machine.is_out_of_memory(error):
                    raise
            # Outside the handler, because its error keeps the part that was loaded alive.
            if model is None and not self._evict_one():
                raise DoesNotFitError(
                    f"Variant '{variant.name}' does not fit into the memory of {self.device}. "
                    "Use quantization: nf4, a smaller dtype, or another device."
                )
        machine.synchronize(self.device)
        return _Weights(model, self.device, model.get_memory_footprint(), time.perf_counter() - started)

    def _adapter(self, weights: _Weights, variant: Variant) -> str | None:
        if variant.adapter is None:
            return None
        if variant.adapter not in weights.adapters:
            # PEFT keeps adapters in a ModuleDict, whose keys must not contain a dot, while a variant's name may.
            name = f"adapter{len(weights.adapters)}"
            weights.peft = loading.attach_adapter(weights.peft or weights.model, variant, name)
            weights.adapters[variant.adapter] = name
            # PEFT's state after loading is not defined: start from a known one.
            weights.peft.base_model.disable_adapter_layers()
            before, weights.active = weights.active, None
            weights.switch(before)
        return weights.adapters[variant.adapter]

    def _make_room(self, size: int) -> None:
        while machine.free_bytes(self.device) < size + self.reserve and self._evict_one():
            pass

    def _evict_one(self) -> bool:
        idle = [(weights.last_used, key) for key, weights in self._loaded.items() if not weights.users]
        if not idle:
            return False
        del self._loaded[min(idle)[1]]
        machine.release_cached_memory(self.device)
        return True


def expected_bytes(variant: Variant) -> int:
    """Estimate the memory of the variant's weights from the size of its files (0 if unknown)."""
    files = sum(path.stat().st_size for path in Path(variant.model).glob("*.safetensors"))
    if variant.quantization != "none":
        return int(files * {"nf4": 0.4, "int8": 0.65}[variant.quantization])
    return files * 2 if variant.dtype == "float32" else files  # most models are saved with two bytes per weight


def same_tokenizer(one: Any, other: Any) -> bool:
    """Return whether two tokenizers give the same ids for every text (their serialised states are equal)."""
    if type(one) is not type(other):
        return False
    if not (one.is_fast and other.is_fast):
        return bool(one.get_vocab() == other.get_vocab() and one.special_tokens_map == other.special_tokens_map)
    same_specials = one.special_tokens_map == other.special_tokens_map and one.chat_template == other.chat_template
    return bool(same_specials and one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str())
