"""A pool of loaded models: variants of the same base in the same quantisation share one set of weights.

An adapter shares them only if it is proven to leave the base as it is, to the last bit (``sharing``); otherwise it gets
weights of its own. Of the adapters on one set of weights only one is switched on (``overlay``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from harness.backends.base import DoesNotFitError, Event
from harness.backends.local import device as machine
from harness.backends.local import loading
from harness.backends.local.overlay import Overlay
from harness.backends.local.sharing import Untouched
from harness.backends.local.tokenizers import same_tokenizer, without_unused_padding
from harness.backends.local.transformers_types import CausalLM
from harness.dialogues.tokens import Tokenizer
from harness.progress import EventKind
from harness.variants.model import Variant
from harness.variants.snapshot import Snapshot


@dataclass(frozen=True)
class LoadedModel:
    """A variant ready to run: the model on its device in eval mode, with only this variant's adapter active."""

    variant: Variant
    model: CausalLM
    tokenizer: Tokenizer
    device: str
    load_seconds: float


class WeightsKey(NamedTuple):
    """Which set of weights a variant runs on; ``adapter`` is the only one that may use it, if it cannot share."""

    model: str
    quantization: str
    dtype: str
    adapter: str | None = None


@dataclass
class _Weights:
    """One set of weights in memory and the adapters attached to it."""

    model: CausalLM
    overlays: dict[str, Overlay] = field(default_factory=dict)  # by adapter folder
    active: str | None = None
    users: int = 0
    last_used: int = 0
    untouched: Untouched | None = None  # what the model was before the first adapter was attached

    def switch(self, adapter: str | None) -> None:
        """Activate only this adapter (None: no adapter)."""
        if adapter == self.active:
            return
        if self.active is not None:
            self.overlays[self.active].off()
        if adapter is not None:
            self.overlays[adapter].on()
        self.active = adapter

    def attach(self, variant: Variant) -> None:
        """Attach the variant's adapter, switched off."""
        before = self.active
        self.switch(None)
        self.overlays[str(variant.adapter)] = loading.attach_adapter(self.model, variant)
        self.switch(before)

    def leaves_the_base(self, variant: Variant) -> bool:
        """Attach the adapter; return whether the base is still what it was. If not, it must not be used again."""
        self.switch(None)
        self.untouched = self.untouched or Untouched.of(self.model)
        self.attach(variant)
        return self.untouched.still()


class SharedPool:
    """Loads each set of weights once, keeps what memory allows, and evicts the least recently used first.

    ``use`` blocks may be nested: both variants stay loaded, and the inner block's adapter is deactivated when it ends.
    ``reserve`` is the memory in bytes that must stay free for the work itself.
    """

    def __init__(
        self,
        variants: Collection[Variant],
        device: str = "cpu",
        *,
        reserve: int = 0,
        event: Event = lambda kind, detail: None,
        share: bool = True,
    ) -> None:
        self.device = device
        self.reserve = reserve
        self.files = Snapshot.of(variants)
        self._event = event
        self._share = share
        self._loaded: dict[WeightsKey, _Weights] = {}
        self._sharing: dict[WeightsKey, list[Variant]] = {}  # whose adapters are proven to share these weights
        self._apart: dict[WeightsKey, str] = {}  # why an adapter must not share
        self._tokenizers: dict[str, Tokenizer] = {}
        self._clock = 0

    @contextlib.contextmanager
    def use(self, variant: Variant) -> Iterator[LoadedModel]:
        """Load the variant if necessary and lend it until the block ends."""
        started = time.perf_counter()
        weights = self._ready(variant)
        before = weights.active
        seconds = time.perf_counter() - started
        weights.users += 1
        self._clock += 1
        weights.last_used = self._clock
        weights.switch(variant.adapter)
        try:
            yield LoadedModel(variant, weights.model, self.tokenizer(variant.model), self.device, seconds)
        finally:
            weights.users -= 1
            if weights.users:
                weights.switch(before)

    def key(self, variant: Variant) -> WeightsKey:
        """Return which set of weights the variant uses, as far as is known: adapters share until proven otherwise."""
        own = WeightsKey(variant.model, variant.quantization, variant.dtype, variant.adapter)
        return own if own in self._apart or not self._share else own._replace(adapter=None)

    def why_apart(self, variant: Variant) -> str | None:
        """Return why an adapter that was used has weights of its own; None if it shares its base's."""
        return self._apart.get(self.key(variant))

    def tokenizer(self, path: str) -> Tokenizer:
        """Return the tokenizer of a model; models with equal tokenizers share one object."""
        if path not in self._tokenizers:
            fresh = without_unused_padding(loading.load_tokenizer(path), loading.text_settings(path).vocab_size)
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

    def _ready(self, variant: Variant) -> _Weights:
        """Return the weights that the variant runs on, with its adapter attached."""
        key = self.key(variant)
        if key not in self._loaded:
            self._make_room(expected_bytes(variant))
            self._loaded[key] = self._load(variant)
            for earlier in self._sharing.get(key, ()):  # before the first forward, as when it was proven
                self._loaded[key].attach(earlier)
            self.files.refuse_changed((variant, *self._sharing.get(key, ())))
        weights = self._loaded[key]
        if variant.adapter is None or variant.adapter in weights.overlays:
            return weights
        own = key._replace(adapter=variant.adapter)
        if key != own:
            if not weights.users:
                del self._loaded[key]  # unless it is proven, nobody may use them again
                leaves_it = weights.leaves_the_base(variant)
                self.files.refuse_changed((variant,))
                if leaves_it:
                    self._sharing.setdefault(key, []).append(variant)
                    self._loaded[key] = weights
                    return weights
            why = (
                "its base was in use when it was attached" if weights.users else "attaching it changes the base itself"
            )
            self._apart[own] = why
            self._event(EventKind.OWN_WEIGHTS, {"variant": variant.name, "detail": why})
            del weights  # its memory may be needed
            return self._ready(variant)
        weights = self._loaded.pop(key)  # if this fails, nobody may use them
        weights.attach(variant)
        self.files.refuse_changed((variant,))
        self._loaded[key] = weights
        return weights

    def _load(self, variant: Variant) -> _Weights:
        model: CausalLM | None = None
        while model is None:
            try:
                model = loading.load_weights(variant, self.device)
            except (RuntimeError, MemoryError) as error:
                if not machine.is_out_of_memory(error):
                    raise
            # Outside the handler, because its error keeps the part that was loaded alive.
            if model is None and not self._evict_one():
                where = " and ".join(machine.places(self.device))
                raise DoesNotFitError(
                    f"Variant '{variant.name}' does not fit into the memory of {where}. "
                    "Use quantization: nf4, a smaller dtype, or another device."
                )
        machine.synchronize(self.device)
        return _Weights(model)

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
