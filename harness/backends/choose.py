"""Choose the backend that variants run on. So far all variants have local weights and run on ``local``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from harness.backends.base import Backends, Event
from harness.backends.local.device import resolve_device
from harness.dialogues.tokens import Tokenizer
from harness.variants.artifacts import has_tokenizer
from harness.variants.model import Variant

__all__ = ["Open", "chat_tokenizer", "import_libraries", "open_backends", "resolve_device"]


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


def import_libraries(variants: Sequence[Variant]) -> None:
    """Import what these variants need: torch, transformers and, for adapters, peft. It takes seconds."""
    import harness.backends.local.backend  # noqa: F401
    from harness.backends.local.libraries import import_for

    import_for(variants)


def chat_tokenizer(variants: Sequence[Variant]) -> Tokenizer:
    """Return the tokenizer whose chat template the prompts are made with, without opening a backend.

    It is the first variant's. If that has no chat template, it is the first one that has one, beside an adapter (where
    training saves it) or a model. Raises InputError if the first variant has no tokenizer.
    """
    from harness.backends.local import loading

    first = loading.load_tokenizer(variants[0].model)
    folders = (variant.adapter or variant.model for variant in variants)
    others = (loading.load_tokenizer(folder) for folder in folders if has_tokenizer(folder))
    return first if first.chat_template else next((other for other in others if other.chat_template), first)
