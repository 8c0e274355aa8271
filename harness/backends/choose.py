"""Choose the backend that variants run on: ``local`` for weights, ``endpoint`` for a model at a server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Protocol

from harness.backends.base import Backends, Check, Event
from harness.backends.local.device import resolve_device
from harness.backends.mixed import MixedBackends
from harness.backends.ranks import Share
from harness.dialogues.tokens import Tokenizer
from harness.errors import HarnessError, InputError
from harness.variants.artifacts import has_tokenizer
from harness.variants.model import Variant

__all__ = [
    "Open",
    "chat_tokenizer",
    "check_server",
    "import_libraries",
    "open_backends",
    "resolve_device",
    "served_digests",
    "take_gpu",
]


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
    served = [variant for variant in variants if variant.is_served]
    weights = [variant for variant in variants if not variant.is_served]
    backends: list[Backends] = []
    if weights:
        from harness.backends.local.backend import LocalBackends

        backends.append(LocalBackends(weights, device, event=event, batch_tokens=batch_tokens, threads=threads))
    if served:
        from harness.backends.endpoint.backend import EndpointBackends

        backends.append(EndpointBackends(served, event=event))
    return MixedBackends(*backends) if len(backends) == 2 else backends[0]


def take_gpu(share: Share, device: str) -> None:
    """Make the GPU of this process the current one, which a config's ``device`` of ``auto`` or ``cuda`` stands for.

    Raises InputError if there are fewer GPUs than processes, or if the config names one for all of them.
    """
    if share.local is None or device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        return
    if ":" in device:
        raise InputError(f"device: {device} names one GPU for {share.of} processes. Use device: cuda.")
    seen = torch.cuda.device_count()
    if share.local >= seen:
        raise InputError(f"Process {share.local} of this host has no GPU: torch sees {seen}. Start fewer processes.")
    torch.cuda.set_device(share.local)


def served_digests(variants: Sequence[Variant]) -> dict[str, str]:
    """Return, by the name of each served variant, the digest that stands for its weights; the server is asked."""
    served = [variant for variant in variants if variant.is_served]
    if not served:
        return {}
    from harness.backends.endpoint import models

    return models.digests(served)


def check_server(variant: Variant) -> tuple[Check, ...]:
    """Ask the server of a served variant what it can do; raise HarnessError if it is of no use."""
    from harness.backends.endpoint.backend import EndpointBackends
    from harness.backends.endpoint.errors import ServerError

    with closing(EndpointBackends([variant], event=lambda kind, detail: None)) as backends:
        try:
            return backends.check(allow_base_mismatch=True)
        except ServerError as error:  # its advice is to continue a run, and there is none
            raise HarnessError(error.fact) from error


def import_libraries(variants: Sequence[Variant]) -> None:
    """Import what these variants need: torch, transformers and, for adapters, peft. It takes seconds."""
    weights = [variant for variant in variants if not variant.is_served]
    if not weights:
        return
    import harness.backends.local.backend  # noqa: F401
    from harness.backends.local.libraries import import_for

    import_for(weights)


def chat_tokenizer(variants: Sequence[Variant]) -> Tokenizer:
    """Return the tokenizer whose chat template the prompts are made with, without opening a backend.

    It is the first variant's. If that has no chat template, it is the first one that has one, beside an adapter (where
    training saves it) or a model. Raises InputError if the first variant has no tokenizer.
    """
    from harness.backends.local import loading

    first = loading.load_tokenizer(variants[0].tokenizer_folder)
    folders = (variant.adapter or variant.tokenizer_folder for variant in variants)
    others = (loading.load_tokenizer(folder) for folder in folders if has_tokenizer(folder))
    return first if first.chat_template else next((other for other in others if other.chat_template), first)
