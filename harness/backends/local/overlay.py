"""What an adapter puts in the place of a model's own modules, switched on and off as a whole.

PEFT wraps modules one inside the other when several adapters are attached to a model, and some kinds of wrappers do
not bear that. Here each adapter is attached to the bare model, so it computes what it computes alone, and a model
whose adapters are switched off runs its own modules and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.backends.local.transformers_types import CausalLM

Children = Mapping[str, Any]  # a module's children by name


@dataclass(frozen=True)
class Overlay:
    """The modules whose children an adapter replaced, with the model's own children and the adapter's."""

    replaced: tuple[tuple[Any, Children, Children], ...]

    def on(self) -> None:
        """Put the adapter's modules in place. No other overlay may be on."""
        for module, _, theirs in self.replaced:
            module._modules = dict(theirs)

    def off(self) -> None:
        """Put the model's own modules back."""
        for module, own, _ in self.replaced:
            module._modules = dict(own)


@dataclass(frozen=True)
class Bare:
    """The modules of a model before an adapter is attached to it."""

    model: CausalLM
    children: tuple[tuple[Any, Children], ...]

    @classmethod
    def of(cls, model: CausalLM) -> Bare:
        return cls(model, tuple((module, dict(module._modules)) for module in model.modules()))

    def overlay(self) -> Overlay:
        """Return what was attached since, which is on."""
        # PEFT leaves the adapters' configurations here, and would treat the next adapter as one more of this one's.
        vars(self.model).pop("peft_config", None)
        changed = ((module, own, dict(module._modules)) for module, own in self.children)
        return Overlay(tuple((module, own, theirs) for module, own, theirs in changed if not _same(own, theirs)))


def _same(one: Children, other: Children) -> bool:
    return one.keys() == other.keys() and all(child is other[name] for name, child in one.items())
