"""Which backend a variant runs on, by its kind. Every variant of today has its weights on this machine: ``local``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from harness.backends.base import Backends, Event
from harness.backends.local.device import resolve_device
from harness.dialogues.tokens import Tokenizer
from harness.variants.model import Variant

__all__ = ["Open", "load_tokenizer", "open_backends", "resolve_device"]


class Open(Protocol):
    """Opens the backends of a run's variants: ``open_backends``, or what stands in for it."""

    def __call__(
        self, variants: Sequence[Variant], device: str, *, event: Event, batch_tokens: int | None, threads: int | None
    ) -> Backends: ...


def open_backends(
    variants: Sequence[Variant], device: str, *, event: Event, batch_tokens: int | None, threads: int | None
) -> Backends:
    """Return the backends of these variants on ``cpu`` or ``cuda:N``; nothing is loaded yet.

    ``batch_tokens`` bounds a batch (absent: free memory does), ``threads`` the processor's; ``event`` is told what the
    report must say.
    """
    from harness.backends.local.backend import LocalBackends

    return LocalBackends(variants, device, event=event, batch_tokens=batch_tokens, threads=threads)


def load_tokenizer(variant: Variant) -> Tokenizer:
    """Return a variant's tokenizer, before any backend is opened; raise InputError where it has none."""
    from harness.backends.local import loading

    return loading.load_tokenizer(variant.model)
