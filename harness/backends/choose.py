"""Choose the backend that variants run on. So far all variants have local weights and run on ``local``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from harness.backends.base import Backends, Event
from harness.backends.local.device import resolve_device
from harness.dialogues.tokens import Tokenizer
from harness.variants.model import Variant

__all__ = ["Open", "load_tokenizer", "open_backends", "resolve_device"]


class Open(Protocol):
    """Opens the backends of a run's variants: ``open_backends`` or a replacement."""

    def __call__(
        self, variants: Sequence[Variant], device: str, *, event: Event, batch_tokens: int | None, threads: int | None
    ) -> Backends: ...


def open_backends(
    variants: Sequence[Variant], device: str, *, event: Event, batch_tokens: int | None, threads: int | None
) -> Backends:
    """Return the backends of these variants on ``cpu`` or ``cuda:N``; nothing is loaded yet.

    ``batch_tokens`` limits a batch (default: by free memory) and ``threads`` the CPU threads; ``event`` is called with
    what the report must mention.
    """
    from harness.backends.local.backend import LocalBackends

    return LocalBackends(variants, device, event=event, batch_tokens=batch_tokens, threads=threads)


def load_tokenizer(variant: Variant) -> Tokenizer:
    """Return a variant's tokenizer without opening a backend; raise InputError if it has none."""
    from harness.backends.local import loading

    return loading.load_tokenizer(variant.model)
