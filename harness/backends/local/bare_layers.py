"""A base under an adapter that is switched off, run as if it had none.

PEFT leaves its wrappers around the base's layers when an adapter is off. They cost the host a few per cent of a step,
which is the measurement's doing, not the base's: within ``bare`` the layers themselves stand in their wrappers' places.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def bare(model: Any) -> Iterator[None]:
    """Take switched-off wrappers out of ``model`` within the block; those of an adapter that is on stay."""
    taken: list[tuple[Any, str, Any]] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "lora_A") and child.disable_adapters:
                taken.append((parent, name, child))
    try:
        for parent, name, wrapper in taken:
            setattr(parent, name, wrapper.base_layer)
        yield
    finally:
        for parent, name, wrapper in taken:
            setattr(parent, name, wrapper)
