"""Loaded models, shared: variants over the same base in the same quantisation use one set of weights."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from harness.variants import Variant


@dataclass(frozen=True)
class LoadedModel:
    """A variant ready to run: the model on its device in eval mode, with exactly this variant's adapter switched on."""

    variant: Variant
    model: Any
    tokenizer: Any
    device: str
    load_seconds: float


class ModelPool(Protocol):
    """Hands out loaded variants; entering one switches its adapter on and every other off."""

    def use(self, variant: Variant) -> AbstractContextManager[LoadedModel]:
        """Load the variant if need be and lend it until the ``with`` block ends."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...
